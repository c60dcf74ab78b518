package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/server"
)

func newRecoverCommand() *cobra.Command {
	var (
		dataDir string
		dryRun  bool
		output  format
	)
	confirm := confirmation{verb: "recover"}
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make one survivor the cluster, after a majority was lost",
		Long: `Makes the node of a data folder the only member of its cluster, for when a
majority of the voters is lost for good: the cluster takes no writes then and
cannot elect a leader by itself. No process may run on the folder.

Run it on one node alone, the one whose log reaches furthest: --dry-run shows that,
and recovers nothing. The higher term has more, and at the same term the higher
index. Writes that only the
lost nodes had are lost; all that is in this folder's log counts as written. Tokens
from before end, keys hold. Every other node of the old cluster is refused from
then on, so remove their data folders before they start again, and let them join.
It asks first, or needs --yes where nobody can be asked.`,
		Example: `  remit recover --data-dir /var/lib/remit --dry-run
  remit recover --data-dir /var/lib/remit
  remit recover --data-dir /var/lib/remit --yes`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dataDir == "" {
				return usagef("--data-dir is missing: which node's folder?")
			}
			if _, err := os.Stat(dataDir); err != nil {
				return &failure{message: fmt.Sprintf("there is no data folder to recover from: %v", err), cause: err}
			}
			if dryRun {
				return lookAtSurvivor(cmd, dataDir, output)
			}
			const deed = ", without all other nodes and what only they hold"
			if err := confirm.agree(cmd, "Make the node of "+dataDir+" the only member of its cluster"+deed+"?",
				"this makes the node of "+dataDir+" the only member of its cluster"+deed); err != nil {
				return err
			}
			state, err := recoverNode(cmd, dataDir)
			if err != nil {
				return err
			}
			if output == asJSON {
				return writeIndented(cmd.OutOrStdout(), struct {
					DataDir   string `json:"data_dir"`
					ClusterID string `json:"cluster_id"`
					Epoch     string `json:"epoch"`
					Revision  uint64 `json:"revision"`
				}{dataDir, state.Cluster.String(), state.Epoch.String(), state.Revision})
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Start this node again, with the flags it had. Remove the data folders of all other nodes\nbefore they start again, and let each join: remit join HOST:PORT\n")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "recovered cluster %s at revision %d, in epoch %s: the node of %s is its only member\n",
				state.Cluster, state.Revision, state.Epoch, printable(dataDir))
			return err
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the `folder` of the node that survives")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show how far the folder's log goes, and recover nothing")
	confirm.addFlag(cmd)
	addOutputFlag(cmd, &output)
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// lookAtSurvivor shows how far a data folder goes.
func lookAtSurvivor(cmd *cobra.Command, dataDir string, output format) error {
	s, err := cluster.Look(dataDir)
	if err != nil {
		return err
	}
	if output == asJSON {
		return writeIndented(cmd.OutOrStdout(), struct {
			DataDir       string `json:"data_dir"`
			NodeID        string `json:"node_id"`
			ClusterID     string `json:"cluster_id"`
			LastTerm      uint64 `json:"last_term"`
			LastIndex     uint64 `json:"last_index"`
			SnapshotIndex uint64 `json:"snapshot_index"`
		}{dataDir, s.NodeID.String(), s.ClusterID.String(), s.LastTerm, s.LastIndex, s.SnapshotIndex})
	}
	return writeFields(cmd.OutOrStdout(),
		field{"Node", []string{s.NodeID.String()}},
		field{"Cluster", []string{s.ClusterID.String()}},
		field{"Log", []string{fmt.Sprintf("to term %d, index %d", s.LastTerm, s.LastIndex)}},
		field{"Snapshot", []string{fmt.Sprintf("at index %d", s.SnapshotIndex)}})
}

// recoverNode begins a new history with what a data folder holds, and returns the
// state that it begins with.
func recoverNode(cmd *cobra.Command, dataDir string) (*fsm.State, error) {
	store := fsm.NewStore(func(err error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "remit: this folder cannot be recovered from: %v\n", err)
		os.Exit(exitError)
	})
	epoch := server.NewID()
	err := cluster.Recover(cluster.RecoverConfig{
		DataDir: dataDir, FSM: store.Recovering(epoch),
		Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return nil, err
	}
	state := *store.State()
	state.Epoch = epoch
	return &state, nil
}
