package cluster

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// storedBytes returns the sizes of the log and of all snapshots of a node, and how
// many snapshots are complete.
func storedBytes(t testing.TB, n *Node) (log, snapshots int64, complete int) {
	t.Helper()
	info, err := os.Stat(n.dir.file(logFile))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(n.dir.file(snapshotDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), unfinishedSuffix) {
			complete++
		}
		// What is removed meanwhile takes no room.
		if state, err := os.Stat(n.dir.file(filepath.Join(snapshotDir, entry.Name(), "state.bin"))); err == nil {
			snapshots += state.Size()
		}
	}
	return info.Size(), snapshots, complete
}

// TestDiskUseIsBounded writes many times what makes a snapshot due, with entries in
// number far below the thresholds for numbers.
func TestDiskUseIsBounded(t *testing.T) {
	t.Parallel()
	const (
		due     = 512 << 10
		written = 100 * due
		size    = 8 << 10
		// What is live: the entries that make a snapshot due, as many more while it is
		// taken, and as many that stay behind it. bbolt fills its pages to the half, and
		// doubles a small file that is full.
		bound = 3 * due * 2 * 2
	)
	cfg := testConfig(t.TempDir(), &countFSM{})
	cfg.SnapshotBytes = due
	n := startTest(t, cfg, options{store: storeOptions{noSync: true}})
	var largest int64
	command := make([]byte, size)
	for i := range written / size {
		if _, _, err := n.Apply(t.Context(), command); err != nil {
			t.Fatal(err)
		}
		if i%64 == 0 {
			log, _, _ := storedBytes(t, n)
			largest = max(largest, log)
			// A disk that cannot keep up is no part of the test: its backlog of entries is
			// bounded by how long a snapshot takes, not by the settings.
			waitFor(t, "a snapshot that is due", func() bool { return !n.dueBySize() })
		}
	}
	if largest > bound {
		t.Errorf("the log file grew to %d bytes, more than %d, for %d bytes written", largest, bound, written)
	}
	waitFor(t, "two snapshots", func() bool {
		_, _, complete := storedBytes(t, n)
		return complete == retainedSnapshots
	})
	t.Logf("%d bytes written, log file at most %d", written, largest)

	first, err := n.store.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	if stay := n.raft.LastIndex() - first; stay*size > 4*due {
		t.Errorf("%d entries of %d bytes are in the log", stay, size)
	}
	// The log is whole behind the newest snapshot.
	revision := n.cfg.FSM.Revision()
	closeTest(t, n)
	cfg.FSM = &countFSM{}
	n = startTest(t, cfg, options{})
	if got := n.cfg.FSM.Revision(); got != revision {
		t.Errorf("revision %d after opening, want %d", got, revision)
	}
}

// TestSnapshotsByCount has the threshold for numbers looked at.
func TestSnapshotsByCount(t *testing.T) {
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = 20, 5*time.Millisecond, 5
	n := startTest(t, cfg, options{})
	for range 25 {
		mustApply(t, n, "c")
	}
	waitFor(t, "a snapshot", func() bool { return n.snapshots.newest().index > 0 })
	waitFor(t, "the log is cut", func() bool {
		first, err := n.store.FirstIndex()
		return err == nil && first > 1
	})
}

// A large state is not written again for a little of new log.
func TestSnapshotsAreNotSmallerThanTheirLog(t *testing.T) {
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.SnapshotBytes = 10 << 10
	n := startTest(t, cfg, options{})
	mustApply(t, n, strings.Repeat("x", 100<<10))
	mustApply(t, n, "the log is looked at as it grows, before what grew is applied")
	waitFor(t, "a snapshot of the large command", func() bool { return n.snapshots.newest().size > 100<<10 })
	taken := n.snapshots.newest()
	for range 8 {
		mustApply(t, n, strings.Repeat("y", 10<<10))
	}
	if n.dueBySize() || n.snapshots.newest() != taken {
		t.Error("80 KiB of log make a snapshot of 100 KiB due")
	}
	for range 4 {
		mustApply(t, n, strings.Repeat("y", 10<<10))
	}
	waitFor(t, "the next snapshot", func() bool { return n.snapshots.newest().index > taken.index })
}

// TestWritesGoOnDuringASnapshot writes while a snapshot is half written.
func TestWritesGoOnDuringASnapshot(t *testing.T) {
	fsm := &listFSM{}
	n := startTest(t, testConfig(t.TempDir(), fsm), options{})
	mustApply(t, n, "before")
	begun, finish := make(chan struct{}), make(chan struct{})
	fsm.persist = func(sink raft.SnapshotSink) error {
		close(begun)
		<-finish
		return sink.Close()
	}
	taken := make(chan error, 1)
	go func() { taken <- n.raft.Snapshot().Error() }()
	<-begun
	mustApply(t, n, "during")
	if got := fsm.list(); got[len(got)-1] != "during" {
		t.Errorf("the state is %q", got)
	}
	mustReadIndex(t, n)
	close(finish)
	if err := <-taken; err != nil {
		t.Error(err)
	}
}

// syncBuffer is a buffer for log lines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// hangingSink is a snapshot's file that does not return from a write.
type hangingSink struct {
	raft.SnapshotSink
	release chan struct{}
}

func (s *hangingSink) Write(p []byte) (int, error) {
	<-s.release
	return s.SnapshotSink.Write(p)
}

// TestHungSnapshotIsLogged hangs the write of a snapshot: the node goes on.
func TestHungSnapshotIsLogged(t *testing.T) {
	t.Parallel()
	var lines syncBuffer
	fsm := &listFSM{}
	cfg := testConfig(t.TempDir(), fsm)
	cfg.HungStoreTimeout, cfg.Logger = 2*time.Second, lines.logger()
	n := startTest(t, cfg, options{})
	mustApply(t, n, "before")
	release := make(chan struct{})
	fsm.persist = func(sink raft.SnapshotSink) error {
		file := sink.(*snapshotSink)
		file.SnapshotSink = &hangingSink{file.SnapshotSink, release}
		if _, err := file.Write([]byte("late")); err != nil {
			return err
		}
		return file.Close()
	}
	taken := make(chan error, 1)
	go func() { taken <- n.raft.Snapshot().Error() }()
	waitFor(t, "a line about the snapshot", func() bool {
		return strings.Contains(lines.String(), "a write of a snapshot does not return")
	})
	mustApply(t, n, "during")
	if err := n.Err(); err != nil {
		t.Errorf("the node ended: %v", err)
	}
	close(release)
	if err := <-taken; err != nil {
		t.Errorf("the snapshot that was slow: %v", err)
	}
}
