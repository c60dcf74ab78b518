package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// listFSM keeps the commands in the order in which they were applied.
type listFSM struct {
	mu       sync.Mutex
	commands []string
	revision uint64

	gate    chan struct{}                 // if not nil, each Apply takes a value from it first
	persist func(raft.SnapshotSink) error // if not nil, writes the snapshot

	restoring func() // if not nil, is called by each Restore first
}

func (f *listFSM) Apply(entry *raft.Log) any {
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, string(entry.Data))
	f.revision = entry.Index
	return "applied " + string(entry.Data)
}

func (f *listFSM) Revision() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revision
}

func (f *listFSM) list() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.commands...)
}

type listSnapshot struct {
	Commands []string
	Revision uint64

	persist func(raft.SnapshotSink) error
}

func (f *listFSM) Snapshot() (raft.FSMSnapshot, error) {
	return &listSnapshot{Commands: f.list(), Revision: f.Revision(), persist: f.persist}, nil
}

func (s *listSnapshot) Persist(sink raft.SnapshotSink) error {
	if s.persist != nil {
		return s.persist(sink)
	}
	if err := json.NewEncoder(sink).Encode(s); err != nil {
		return err
	}
	return sink.Close()
}

func (s *listSnapshot) Release() {}

func (f *listFSM) Restore(r io.ReadCloser) error {
	f.mu.Lock()
	restoring := f.restoring
	f.mu.Unlock()
	if restoring != nil {
		restoring()
	}
	var s listSnapshot
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands, f.revision = s.Commands, s.Revision
	return nil
}

// countFSM only counts, so that benchmarks measure the log.
type countFSM struct{ revision atomic.Uint64 }

func (f *countFSM) Apply(entry *raft.Log) any {
	f.revision.Store(entry.Index)
	return nil
}

func (f *countFSM) Revision() uint64 { return f.revision.Load() }

func (f *countFSM) Snapshot() (raft.FSMSnapshot, error) {
	return &listSnapshot{Revision: f.Revision()}, nil
}

func (f *countFSM) Restore(r io.ReadCloser) error {
	var s listSnapshot
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	f.revision.Store(s.Revision)
	return nil
}

func testConfig(dir string, fsm FSM) Config {
	return Config{DataDir: dir, NodeName: "test", RaftAddr: "127.0.0.1:0", FSM: fsm}
}

// openTest opens a node that the test closes at its end.
func openTest(t testing.TB, cfg Config, opts options) *Node {
	t.Helper()
	n, err := open(cfg, opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// startTest opens a bootstrapped node that leads.
func startTest(t testing.TB, cfg Config, opts options) *Node {
	t.Helper()
	n := openTest(t, cfg, opts)
	if !n.HasState() {
		if err := n.Bootstrap(t.Context(), uuid.New()); err != nil {
			t.Fatal(err)
		}
	}
	waitLeader(t, n)
	return n
}

func closeTest(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %s for: %s", patience, what)
		case <-tick.C:
		}
	}
}

// waitLeader waits until the node leads and has applied all that it held.
func waitLeader(t testing.TB, n *Node) {
	t.Helper()
	waitFor(t, "the node leads and is up to date", func() bool {
		revision, err := n.ReadIndex(t.Context())
		return err == nil && n.cfg.FSM.Revision() >= revision
	})
}

func mustApply(t testing.TB, n *Node, command string) uint64 {
	t.Helper()
	result, revision, err := n.Apply(t.Context(), []byte(command))
	if err != nil {
		t.Fatalf("apply %q: %v", command, err)
	}
	if want := "applied " + command; result != want {
		t.Fatalf("apply %q answered %v, want %q", command, result, want)
	}
	return revision
}

func mustReadIndex(t testing.TB, n *Node) uint64 {
	t.Helper()
	revision, err := n.ReadIndex(t.Context())
	if err != nil {
		t.Fatalf("read index: %v", err)
	}
	return revision
}

// applyAll applies commands "prefix-<writer>-<i>" from several goroutines until
// each has had count acknowledged or got an error, and reports each
// acknowledgement. It returns the first error.
func applyAll(ctx context.Context, n *Node, prefix string, writers, count int, acknowledged func(command string)) error {
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range count {
				command := fmt.Sprintf("%s-%d-%d", prefix, w, i)
				if _, _, err := n.Apply(ctx, []byte(command)); err != nil {
					errs <- err
					return
				}
				acknowledged(command)
			}
		}()
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// files reads a folder, for comparing and for writing it elsewhere.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// writeFiles makes a folder with these files.
func writeFiles(t testing.TB, all map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
