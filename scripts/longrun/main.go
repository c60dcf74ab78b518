// Longrun writes to a running cluster for a long time and prints how much disk its
// nodes take. The state stays the same size, so that what grows is the log.
//
// The nodes run on this machine; say where they are:
//
//	go run ./scripts/longrun -addr 127.0.0.1:7601 -key "$REMIT_KEY" -duration 1h /data/1 /data/2 /data/3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	permission = "longrun.read"
	principals = 100
	// resources is how many each principal has grants on, and revoked again.
	resources = 100
	// retryPause is the wait after a write that failed, as while a leader is elected.
	retryPause = 50 * time.Millisecond
	mebibyte   = 1 << 20
)

// settings say what is written, and how long.
type settings struct {
	addr, key, project string
	duration, every    time.Duration
	writers, padding   int
	folders            []string
}

func main() {
	var s settings
	flag.StringVar(&s.addr, "addr", "127.0.0.1:7601", "the gRPC address of any node")
	flag.StringVar(&s.key, "key", os.Getenv("REMIT_KEY"), "a key that may grant in the project (REMIT_KEY)")
	flag.StringVar(&s.project, "project", "production", "the project to write to")
	flag.DurationVar(&s.duration, "duration", 10*time.Minute, "how long to write")
	flag.DurationVar(&s.every, "every", 30*time.Second, "how often to look at the disk")
	flag.IntVar(&s.writers, "writers", 64, "writers at a time")
	flag.IntVar(&s.padding, "padding", 0, "bytes that make each resource longer, and so the log")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: longrun [flags] DATA-FOLDER...")
		flag.PrintDefaults()
	}
	flag.Parse()
	s.folders = flag.Args()
	if len(s.folders) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
		os.Exit(1)
	}
}

// run writes, and prints a row for each look at the disk.
func run(ctx context.Context, s settings) error {
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	w := &writers{settings: s, api: permissionsv1.NewPermissionsServiceClient(conn)}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.key)
	_, err = w.api.CreatePermission(ctx, &permissionsv1.CreatePermissionRequest{ProjectName: s.project, Name: permission})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("create permission %s in project %s: %w", permission, s.project, err)
	}

	writing, stop := context.WithTimeout(ctx, s.duration)
	defer stop()
	w.stop = stop
	var running sync.WaitGroup
	for i := range s.writers {
		running.Go(func() { w.write(writing, i) })
	}
	fmt.Println(s.header())
	began := time.Now()
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for writing.Err() == nil {
		select {
		case <-ticker.C:
		case <-writing.Done():
		}
		row, err := w.row(time.Since(began))
		if err != nil {
			return err
		}
		fmt.Println(row)
	}
	running.Wait()
	if err := w.refused.Load(); err != nil {
		return *err
	}
	if w.done.Load() == 0 {
		return errors.New("no write was acknowledged")
	}
	return nil
}

// writers grant and revoke the same things over and over.
type writers struct {
	settings
	api          permissionsv1.PermissionsServiceClient
	stop         context.CancelFunc
	done, failed atomic.Int64
	refused      atomic.Pointer[error] // a write that would never succeed
}

func (w *writers) write(ctx context.Context, number int) {
	padding := strings.Repeat("x", w.padding)
	for i := number; ctx.Err() == nil; i += w.writers {
		user := fmt.Sprintf("usr_%d", i%principals)
		uri := fmt.Sprintf("/longrun/%d%s", i/principals%resources, padding)
		var err error
		if i/(principals*resources)%2 == 0 {
			_, err = w.api.GrantUserPermissionsAndRolesOnResource(ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
				ProjectName: w.project, UserId: user, ResourceUri: uri, Permissions: []string{permission},
			})
		} else {
			_, err = w.api.RevokeUserPermissionsAndRolesOnResource(ctx, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
				ProjectName: w.project, UserId: user, ResourceUri: uri, Permissions: []string{permission},
			})
		}
		switch status.Code(err) {
		case codes.OK:
			w.done.Add(1)
		case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied:
			err = fmt.Errorf("write to %s: %w", uri, err)
			w.refused.CompareAndSwap(nil, &err)
			w.stop()
		case codes.Canceled, codes.DeadlineExceeded: // the end
		default:
			w.failed.Add(1)
			time.Sleep(retryPause)
		}
	}
}

func (s settings) header() string {
	var b strings.Builder
	fmt.Fprint(&b, "| time | writes | failed |")
	for i := range s.folders {
		fmt.Fprintf(&b, " node %d: log MiB | snapshots MiB |", i+1)
	}
	fmt.Fprint(&b, "\n|---|---|---|", strings.Repeat("---|---|", len(s.folders)))
	return b.String()
}

func (w *writers) row(elapsed time.Duration) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %d | %d |", elapsed.Round(time.Second), w.done.Load(), w.failed.Load())
	for _, folder := range w.folders {
		log, err := os.Stat(filepath.Join(folder, "raft.db"))
		if err != nil {
			return "", err
		}
		// The snapshot that is being written counts, one that is removed meanwhile does not.
		states, err := filepath.Glob(filepath.Join(folder, "snapshots", "*", "state.bin"))
		if err != nil {
			return "", err
		}
		var snapshots int64
		for _, state := range states {
			if info, err := os.Stat(state); err == nil {
				snapshots += info.Size()
			}
		}
		fmt.Fprintf(&b, " %.1f | %.1f (%d) |", float64(log.Size())/mebibyte, float64(snapshots)/mebibyte, len(states))
	}
	return b.String(), nil
}
