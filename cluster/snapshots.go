package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	retainedSnapshots = 2
	unfinishedSuffix  = ".tmp"
)

// snapshots is Raft's snapshot folder with three things added: what a crash left
// half written is removed at open; a snapshot's own folder is synced before Raft
// hears that the snapshot is complete, since Raft then deletes the log entries it
// holds; and a snapshot being written ends when the node closes.
type snapshots struct {
	*raft.FileSnapshotStore
	ctx  context.Context
	path string
	// afterSnapshot, for tests, is told the id of each snapshot that is durable.
	afterSnapshot func(id string)
}

// openSnapshots opens the snapshot folder inside a data folder. The snapshots
// written there end when ctx does.
func openSnapshots(ctx context.Context, base string, log hclog.Logger) (*snapshots, error) {
	path := filepath.Join(base, snapshotDir)
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("make the snapshot folder: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot folder: %w", err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), unfinishedSuffix) {
			if err := os.RemoveAll(filepath.Join(path, entry.Name())); err != nil {
				return nil, fmt.Errorf("remove an unfinished snapshot: %w", err)
			}
		}
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(base, retainedSnapshots, log)
	if err != nil {
		return nil, fmt.Errorf("open the snapshot folder %s: %w", path, err)
	}
	return &snapshots{FileSnapshotStore: files, ctx: ctx, path: path}, nil
}

// Create starts a snapshot.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, store: s}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	store *snapshots
}

func (s *snapshotSink) Write(p []byte) (int, error) {
	if s.store.ctx.Err() != nil {
		return 0, context.Cause(s.store.ctx)
	}
	return s.SnapshotSink.Write(p)
}

// Close completes the snapshot. One that was cut short by the end of the node is
// cancelled even if its writer took no notice.
func (s *snapshotSink) Close() error {
	if s.store.ctx.Err() != nil {
		return errors.Join(context.Cause(s.store.ctx), s.Cancel())
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(s.store.path, s.ID())); err != nil {
		return fmt.Errorf("sync snapshot %s: %w", s.ID(), err)
	}
	if s.store.afterSnapshot != nil {
		s.store.afterSnapshot(s.ID())
	}
	return nil
}
