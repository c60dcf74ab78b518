package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	"github.com/remit-io/remit/server"
)

const (
	// restoreAttempt bounds one call of a restore, and restorePatience how long it is
	// repeated while there is no leader to take it, or no telling whether it was taken.
	restoreAttempt  = 30 * time.Second
	restorePatience = 2 * time.Minute
	restorePause    = 200 * time.Millisecond
	// readingPatience bounds how long it is repeated while the nodes read the backup.
	readingPatience = 15 * time.Minute
)

func newSnapshotRestoreCommand(c *connection) *cobra.Command {
	confirm := confirmation{verb: "restore"}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the whole state by a saved one",
		Long: `Replaces everything that the cluster has decided by what a snapshot holds, on all
nodes and all at once, while they serve. It goes through the log, so that no node
can miss it. Nothing changes before the last step.

Every key and token from before ends, the key that calls included; the keys of the
snapshot hold. So it asks first, or needs --yes where nobody can be asked. Only
operators may.`,
		Example: `  remit snapshot restore backup.remit
  remit snapshot restore backup.remit --yes`,
		Args: exactly("FILE"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			b, err := readBackup(args[0])
			if err != nil {
				return err
			}
			if len(b.Operators) == 0 {
				return &failure{message: fmt.Sprintf("%s has no valid operator's key: nobody could run the cluster", printable(args[0])), hint: "take another snapshot"}
			}
			what := fmt.Sprintf("what %s holds (revision %d of cluster %s, %d organisations, %d keys)", args[0], b.Revision, b.Cluster, b.Organisations, b.Keys)
			err = confirm.agree(cmd, "Replace the whole state of the cluster by "+what+"?", "this replaces the whole state of the cluster by "+what)
			if err != nil {
				return err
			}
			restored, err := sendBackup(cmd, client, b)
			if err != nil {
				return err
			}
			return c.print(cmd, restored, func() error {
				fmt.Fprintln(cmd.ErrOrStderr(), "Keys and tokens from before have ended. The snapshot's keys hold, with their old secrets; these are operators:")
				for _, line := range b.operatorLines() {
					fmt.Fprintln(cmd.ErrOrStderr(), "  "+printable(line))
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "restored %s at revision %d, in epoch %s\n", printable(args[0]), restored.GetRevision(), restored.GetEpoch())
				return err
			})
		}),
	}
	c.addNodeFlags(cmd)
	confirm.addFlag(cmd)
	return cmd
}

// sendBackup brings a snapshot into the log and commits it.
func sendBackup(cmd *cobra.Command, client clusterv1.ClusterServiceClient, b *backup) (*clusterv1.CommitRestoreResponse, error) {
	sum, err := hex.DecodeString(b.SHA256)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(b.File)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ctx := cmd.Context()
	tell := newProgress(cmd)
	begun, err := client.BeginRestore(ctx, &clusterv1.BeginRestoreRequest{Size: b.Size})
	if err != nil {
		return nil, err
	}
	if err := sendPieces(cmd, tell, client, begun, file, b); err != nil {
		return nil, brokenOff(err, "nothing changed; ")
	}
	tell.step("the nodes replace their state")
	restored, unknown, err := repeated(ctx, tell, func(ctx context.Context) (*clusterv1.CommitRestoreResponse, error) {
		return client.CommitRestore(ctx, &clusterv1.CommitRestoreRequest{RestoreId: begun.GetRestoreId(), Sha256: sum})
	})
	if unknown && status.Code(err) == codes.Unauthenticated {
		return nil, &failure{
			message: "the answer to the last step was lost, and this key is valid no more: so the state was replaced",
			hint:    "remit status, with an operator's key of the snapshot, shows the new epoch. Such are " + strings.Join(b.operatorLines(), ", "),
			cause:   err,
		}
	}
	if err != nil {
		return nil, brokenOff(err, "remit status shows a new epoch if the state was replaced all the same\nif it was not, ")
	}
	return restored, nil
}

// sendPieces brings a snapshot into the log, piece by piece.
func sendPieces(cmd *cobra.Command, tell *progress, client clusterv1.ClusterServiceClient, begun *clusterv1.BeginRestoreResponse, file io.Reader, b *backup) error {
	sent := newMeter(cmd, "sent", b.Size)
	piece := make([]byte, max(begun.GetChunkBytes(), 1))
	for sent.done < b.Size {
		n, err := io.ReadFull(file, piece[:min(uint64(len(piece)), b.Size-sent.done)])
		if err != nil {
			return fmt.Errorf("read %s, which changed meanwhile: %w", b.File, err)
		}
		chunk := &clusterv1.RestoreChunkRequest{RestoreId: begun.GetRestoreId(), Offset: sent.done, Data: bytes.Clone(piece[:n])}
		_, _, err = repeated(cmd.Context(), tell, func(ctx context.Context) (*clusterv1.RestoreChunkResponse, error) {
			return client.RestoreChunk(ctx, chunk)
		})
		if err != nil {
			return err
		}
		sent.add(n)
	}
	sent.tell()
	return nil
}

// brokenOff says what becomes of what has arrived of a snapshot, behind what there is
// to say of the state. What the cluster refuses, it does not keep.
func brokenOff(err error, before string) error {
	if code := status.Code(err); code == codes.InvalidArgument || code == codes.FailedPrecondition {
		return err
	}
	advised := &failure{message: err.Error(), cause: err}
	if failed := (*failure)(nil); errors.As(err, &failed) && failed.hint != "" {
		advised.hint = failed.hint + "\n"
	}
	advised.hint += fmt.Sprintf("%swhat has arrived of the snapshot is dropped once no more has come for %d minutes, and another restore takes its place",
		before, int(server.RestoreIdle.Minutes()))
	return advised
}

// repeated makes a call, and again under the same request id where nobody took it
// or its outcome is unknown: the cluster knows a request that it has seen. It
// reports whether an attempt's outcome was unknown.
func repeated[A any](ctx context.Context, tell *progress, call func(context.Context) (A, error)) (answer A, unknown bool, err error) {
	var id [16]byte
	rand.Read(id[:]) // never fails
	ctx = metadata.AppendToOutgoingContext(ctx, "remit-request-id", hex.EncodeToString(id[:]))
	begin := time.Now()
	for heard := begin; ; {
		attempt, cancel := context.WithTimeout(ctx, restoreAttempt)
		answer, err = call(attempt)
		cancel()
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			return answer, unknown, err
		}
		if strings.Contains(err.Error(), "was not applied: "+server.StillReading) {
			heard = time.Now()
		} else {
			unknown = true
		}
		if ctx.Err() != nil || time.Since(heard) > restorePatience || time.Since(begin) > readingPatience {
			return answer, unknown, err
		}
		tell.step("waiting: %v", err)
		if err := sleep(ctx, restorePause); err != nil {
			return answer, unknown, &failure{message: "interrupted", cause: err}
		}
	}
}
