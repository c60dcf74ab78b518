package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// syncRun is a node whose log is copied each time it is known to be on the disk:
// the copy, with the complete snapshots, is what a power cut would leave.
//
// "Known to be on the disk" is the kernel's word where it gives it: at the end of
// each commit it is asked whether any page of the log file is still dirty or being
// written back. Elsewhere it is the store's own setting. What this shows is that
// a commit leaves nothing behind in the page cache before it is acknowledged; it
// does not show what the drive does with its own cache, nor the order of the
// writes inside one commit, which is bbolt's.
type syncRun struct {
	t       *testing.T
	dir     string
	syncing bool
	kernel  bool // the kernel says which pages are dirty

	mu           sync.Mutex
	log          []byte          // the log file as it last was on the disk
	snapshots    map[string]bool // those that are on the disk
	clean, dirty int             // commits that were on the disk at their end, and others
	acknowledged []string
}

func (r *syncRun) options() options {
	return options{
		store: storeOptions{noSync: !r.syncing, afterCommit: r.afterCommit},
		afterSnapshot: func(id string) {
			r.mu.Lock()
			r.snapshots[id] = true
			r.mu.Unlock()
		},
	}
}

func (r *syncRun) afterCommit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	onDisk := r.syncing
	if r.kernel {
		dirty, err := dirtyPages(filepath.Join(r.dir, logFile))
		if err != nil {
			r.t.Error(err)
		}
		onDisk = dirty == 0
	}
	if !onDisk {
		r.dirty++
		return
	}
	r.clean++
	r.log = r.read(logFile)
}

// read returns nil for a file that is not there.
func (r *syncRun) read(name string) []byte {
	content, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Error(err)
	}
	return content
}

// moment is what was acknowledged at some moment and what a power cut would have left then.
type moment struct {
	acknowledged []string
	image        map[string][]byte
}

func (r *syncRun) moment() moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	image := map[string][]byte{nodeIDFile: r.read(nodeIDFile), clusterIDFile: r.read(clusterIDFile), logFile: r.log}
	for id := range r.snapshots {
		name := filepath.Join(snapshotDir, id)
		state, meta := r.read(filepath.Join(name, "state.bin")), r.read(filepath.Join(name, "meta.json"))
		if state != nil && meta != nil { // not removed as too old
			image[filepath.Join(name, "state.bin")], image[filepath.Join(name, "meta.json")] = state, meta
		}
	}
	return moment{append([]string(nil), r.acknowledged...), image}
}

// lost opens a node on the files of a moment and returns how many of the commands
// acknowledged then it does not have.
func (m moment) lost(t *testing.T) int {
	t.Helper()
	fsm := &listFSM{}
	n := startTest(t, testConfig(writeFiles(t, m.image), fsm), options{})
	there := map[string]bool{}
	for _, command := range fsm.list() {
		there[command] = true
	}
	closeTest(t, n)
	lost := 0
	for _, command := range m.acknowledged {
		if !there[command] {
			lost++
		}
	}
	return lost
}

// losses runs a node under concurrent writes, with snapshots, and returns how
// many acknowledged commands the files as they were at the last sync lack, at
// several moments on the way and at the end.
func losses(t *testing.T, syncing bool) (lost []int, run *syncRun) {
	dir := t.TempDir()
	closeTest(t, startTest(t, testConfig(dir, &listFSM{}), options{}))

	run = &syncRun{t: t, dir: dir, syncing: syncing, kernel: kernelTellsDirtyPages(t), snapshots: map[string]bool{}}
	run.log = run.read(logFile)
	cfg := testConfig(dir, &listFSM{})
	cfg.TrailingLogs = 1
	n := startTest(t, cfg, run.options())
	var moments []moment
	for _, prefix := range []string{"a", "b", "c"} {
		err := applyAll(t.Context(), n, prefix, 8, 25, func(command string) {
			run.mu.Lock()
			run.acknowledged = append(run.acknowledged, command)
			sample := len(run.acknowledged)%75 == 0
			run.mu.Unlock()
			if sample {
				m := run.moment()
				run.mu.Lock()
				moments = append(moments, m)
				run.mu.Unlock()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if prefix != "c" {
			if err := n.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	moments = append(moments, run.moment())
	closeTest(t, n)
	for _, m := range moments {
		lost = append(lost, m.lost(t))
	}
	return lost, run
}

func TestLastSyncHoldsEverythingAcknowledged(t *testing.T) {
	lost, run := losses(t, true)
	for i, count := range lost {
		if count > 0 {
			t.Errorf("moment %d: %d acknowledged commands are lost", i, count)
		}
	}
	if run.clean == 0 || run.dirty > 0 {
		t.Errorf("%d commits were on the disk when acknowledged, %d were not", run.clean, run.dirty)
	}
	if len(run.snapshots) == 0 {
		t.Error("no snapshot in the image")
	}
	t.Logf("%d commits, %d moments, judged by the kernel: %t", run.clean, len(lost), run.kernel)
}

// TestWithoutSyncingCommandsAreLost shows that the test above would notice.
func TestWithoutSyncingCommandsAreLost(t *testing.T) {
	lost, run := losses(t, false)
	if last := lost[len(lost)-1]; last == 0 {
		t.Errorf("syncing is off and nothing is lost (%d commits on the disk, %d not)", run.clean, run.dirty)
	}
	if run.dirty == 0 {
		t.Error("syncing is off and no commit was left in the page cache")
	}
	t.Logf("lost of the acknowledged commands: %v", lost)
}

// TestFailedWriteIsNeverAcknowledged takes the log file away from under bbolt, so
// that its writes and syncs fail for real.
func TestFailedWriteIsNeverAcknowledged(t *testing.T) {
	dir := t.TempDir()
	closeTest(t, startTest(t, testConfig(dir, &listFSM{}), options{}))

	var file *os.File
	var mu sync.Mutex
	commits, limit := 0, -1
	opts := options{store: storeOptions{
		openFile: func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag, perm)
			file = f
			return f, err
		},
		afterCommit: func() {
			mu.Lock()
			defer mu.Unlock()
			if commits++; commits == limit {
				_ = file.Close()
			}
		},
	}}
	n := startTest(t, testConfig(dir, &listFSM{}), opts)
	mu.Lock()
	limit = commits + 20
	mu.Unlock()

	var acknowledged []string
	err := applyAll(t.Context(), n, "c", 4, 1000, func(command string) {
		mu.Lock()
		acknowledged = append(acknowledged, command)
		mu.Unlock()
	})
	if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNotApplied) {
		t.Errorf("a command whose write failed got %v", err)
	}
	select {
	case <-n.Failed():
	case <-time.After(patience):
		t.Fatal("the node does not say that it failed")
	}
	failure := n.Err()
	if failure == nil || !strings.Contains(failure.Error(), "write to the log failed") {
		t.Errorf("the node failed with %v", failure)
	}
	if _, _, err := n.Apply(t.Context(), []byte("after")); err == nil {
		t.Error("a failed node acknowledged a command")
	}
	if _, err := n.ReadIndex(t.Context()); err == nil {
		t.Error("a failed node answered a read")
	}
	if err := n.store.StoreLogs(nil); !errors.Is(err, failure) {
		t.Errorf("a write after a failed one: %v", err)
	}
	began := time.Now()
	_ = n.Close() // the file is closed already
	if took := time.Since(began); took > closeTimeout {
		t.Errorf("close took %s", took)
	}

	fsm := &listFSM{}
	startTest(t, testConfig(dir, fsm), options{})
	there := map[string]bool{}
	for _, command := range fsm.list() {
		there[command] = true
	}
	if len(acknowledged) < 10 {
		t.Errorf("only %d commands acknowledged before the failure", len(acknowledged))
	}
	for _, command := range acknowledged {
		if !there[command] {
			t.Errorf("acknowledged command %s is lost", command)
		}
	}
}
