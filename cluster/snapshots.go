package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	retainedSnapshots = 2
	unfinishedSuffix  = ".tmp"
)

// snapshots is Raft's snapshot folder with four things added: what a crash left
// half written is removed at open, and what a failure leaves at once; a snapshot's
// own folder is synced before Raft hears that the snapshot is complete, since Raft
// then deletes the log entries it holds; a snapshot being written ends when the
// node closes; and only the owner may read the files.
type snapshots struct {
	*raft.FileSnapshotStore
	ctx  context.Context
	path string
	mu   sync.Mutex // one Create at a time
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
	if err := removeUnfinished(path, nil); err != nil {
		return nil, fmt.Errorf("remove unfinished snapshots: %w", err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(base, retainedSnapshots, log)
	if err != nil {
		return nil, fmt.Errorf("open the snapshot folder %s: %w", path, err)
	}
	return &snapshots{FileSnapshotStore: files, ctx: ctx, path: path}, nil
}

// unfinished names the snapshots that are being written, or were.
func unfinished(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), unfinishedSuffix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// removeUnfinished removes unfinished snapshots other than those to keep.
func removeUnfinished(path string, keep []string) error {
	names, err := unfinished(path)
	for _, name := range names {
		if !slices.Contains(keep, name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(path, name)))
		}
	}
	return err
}

// Create starts a snapshot.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others, err := unfinished(s.path)
	if err != nil {
		return nil, err
	}
	files, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		return nil, errors.Join(err, removeUnfinished(s.path, others))
	}
	sink := &snapshotSink{SnapshotSink: files, store: s}
	if err := sink.restrict(); err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	store *snapshots
}

// folder is where the snapshot is written.
func (s *snapshotSink) folder() string {
	return filepath.Join(s.store.path, s.ID()+unfinishedSuffix)
}

// restrict leaves the files to their owner.
func (s *snapshotSink) restrict() error {
	if err := os.Chmod(s.folder(), 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.folder())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.Chmod(filepath.Join(s.folder(), entry.Name()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Cancel ends the snapshot and removes it, even where what was written cannot be flushed.
func (s *snapshotSink) Cancel() error {
	return errors.Join(s.SnapshotSink.Cancel(), os.RemoveAll(s.folder()))
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
		return errors.Join(err, os.RemoveAll(s.folder()))
	}
	if err := syncDir(filepath.Join(s.store.path, s.ID())); err != nil {
		return fmt.Errorf("sync snapshot %s: %w", s.ID(), err)
	}
	if s.store.afterSnapshot != nil {
		s.store.afterSnapshot(s.ID())
	}
	return nil
}
