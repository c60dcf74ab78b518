package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	retainedSnapshots = 2
	unfinishedSuffix  = ".tmp"
	stateFile         = "state.bin" // of each snapshot, by Raft's name
	// snapshotSyncStep is how much of a snapshot is written before that is synced. The
	// log is on the same disk: its syncs wait for what the kernel has saved up.
	snapshotSyncStep = 1 << 20
)

// snapshots is Raft's snapshot folder with five things added: what a crash left
// half written is removed at open, and what a failure leaves at once; a snapshot's
// own folder is synced before Raft hears that the snapshot is complete, since Raft
// then deletes the log entries it holds; a snapshot being written ends when the
// node closes; only the owner may read the files; and one that is read is a
// transfer until its reader is closed.
type snapshots struct {
	*raft.FileSnapshotStore
	ctx        context.Context
	path       string
	log        *slog.Logger
	transfers  *transfers
	firstIndex func() (uint64, error) // of the log
	hungAfter  time.Duration          // a write that takes longer is logged
	// afterSnapshot, for tests, is told the id of each snapshot that is durable.
	afterSnapshot func(id string)

	mu sync.Mutex // one Create at a time

	completeMu sync.Mutex
	complete   snapshotInfo // the newest
}

// snapshotInfo is the log index of a snapshot and its size; zero if there is none.
type snapshotInfo struct{ index, size uint64 }

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
	s := &snapshots{
		FileSnapshotStore: files, ctx: ctx, path: path, log: slog.New(slog.DiscardHandler),
		firstIndex: func() (uint64, error) { return 0, nil }, hungAfter: defaultHungStoreTimeout,
	}
	s.transfers = newTransfers(s.log, 0, 0, s.firstIndex)
	taken, err := files.List()
	if err != nil {
		return nil, fmt.Errorf("list the snapshots in %s: %w", path, err)
	}
	for _, one := range taken {
		s.completed(snapshotInfo{one.Index, uint64(one.Size)})
	}
	return s, nil
}

// newest returns the newest snapshot.
func (s *snapshots) newest() snapshotInfo {
	s.completeMu.Lock()
	defer s.completeMu.Unlock()
	return s.complete
}

func (s *snapshots) completed(one snapshotInfo) {
	s.completeMu.Lock()
	defer s.completeMu.Unlock()
	if one.index >= s.complete.index {
		s.complete = one
	}
}

// Open opens a snapshot. From now on the log keeps what follows it, until the
// reader is closed; a snapshot that the log does not follow is of no use.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	transfer := s.transfers.begin()
	meta, file, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		transfer.end()
		return nil, nil, err
	}
	reader := &transferReader{file, transfer}
	transfer.opened(meta.Index)
	first, err := s.firstIndex()
	if err == nil && first > meta.Index+1 {
		err = fmt.Errorf("snapshot %s ends with entry %d and the log begins with %d", id, meta.Index, first)
	}
	if err != nil {
		return nil, nil, errors.Join(err, reader.Close())
	}
	return meta, reader, nil
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
	sink := &snapshotSink{SnapshotSink: files, store: s, index: index}
	sink.dog = newWatchdog(s.hungAfter, func() {
		s.log.Error("a write of a snapshot does not return; its disk is slow or hangs",
			"snapshot", filepath.Join(s.path, files.ID()), "for", s.hungAfter.String())
	})
	if err = sink.restrict(); err == nil {
		sink.state, err = os.Open(filepath.Join(sink.folder(), stateFile))
	}
	if err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	store *snapshots
	dog   *watchdog
	index uint64
	size  uint64
	state *os.File // the file that is written, to sync it
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
	defer s.release()
	return s.dog.watch(func() error {
		return errors.Join(s.SnapshotSink.Cancel(), os.RemoveAll(s.folder()))
	})
}

func (s *snapshotSink) Write(p []byte) (written int, err error) {
	if s.store.ctx.Err() != nil {
		return 0, context.Cause(s.store.ctx)
	}
	err = s.dog.watch(func() error {
		if written, err = s.SnapshotSink.Write(p); err != nil {
			return err
		}
		before := s.size
		if s.size += uint64(written); s.size/snapshotSyncStep > before/snapshotSyncStep {
			return s.state.Sync()
		}
		return nil
	})
	return written, err
}

// Close completes the snapshot. One that was cut short by the end of the node is
// cancelled even if its writer took no notice.
func (s *snapshotSink) Close() error {
	if s.store.ctx.Err() != nil {
		return errors.Join(context.Cause(s.store.ctx), s.Cancel())
	}
	defer s.release()
	if err := s.dog.watch(s.finish); err != nil {
		return err
	}
	s.store.completed(snapshotInfo{s.index, s.size})
	if s.store.afterSnapshot != nil {
		s.store.afterSnapshot(s.ID())
	}
	return nil
}

// release ends what a snapshot has beside its files.
func (s *snapshotSink) release() {
	s.dog.stop()
	if s.state != nil {
		_ = s.state.Close() // only syncs go through it
	}
}

// finish makes the snapshot durable.
func (s *snapshotSink) finish() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return errors.Join(err, os.RemoveAll(s.folder()))
	}
	if err := syncDir(filepath.Join(s.store.path, s.ID())); err != nil {
		return fmt.Errorf("sync snapshot %s: %w", s.ID(), err)
	}
	return nil
}
