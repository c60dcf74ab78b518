package cluster

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hangingDisk is a log whose next commit of entries does not return until release.
type hangingDisk struct {
	armed   atomic.Bool
	hanging chan struct{} // closed when a commit hangs
	release chan struct{}
}

func newHangingDisk() *hangingDisk {
	return &hangingDisk{hanging: make(chan struct{}), release: make(chan struct{})}
}

func (d *hangingDisk) beforeCommit() {
	if d.armed.CompareAndSwap(true, false) {
		close(d.hanging)
		<-d.release
	}
}

func TestWatchdog(t *testing.T) {
	var hung atomic.Int32
	dog := newWatchdog(watchdogTicks*time.Millisecond, func() { hung.Add(1) })
	defer dog.stop()
	failure := errors.New("failed")
	if err := dog.watch(func() error { return failure }); err != failure {
		t.Errorf("the operation's error: %v", err)
	}
	for i := range int32(2) {
		err := dog.watch(func() error {
			waitFor(t, "the watchdog barks", func() bool { return hung.Load() == i+1 })
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	// Many short operations, with no pause between them, are no long one.
	began := time.Now()
	for time.Since(began) < 3*watchdogTicks*time.Millisecond {
		_ = dog.watch(func() error { return nil })
	}
	if got := hung.Load(); got != 2 {
		t.Errorf("the watchdog barked %d times, want 2", got)
	}
}

// TestHungWriteEndsTheNode hangs a commit for ever, as far as the node is concerned.
func TestHungWriteEndsTheNode(t *testing.T) {
	t.Parallel()
	dir, disk := t.TempDir(), newHangingDisk()
	cfg := testConfig(dir, &listFSM{})
	cfg.HungStoreTimeout = 2 * time.Second
	n := startTest(t, cfg, options{store: storeOptions{beforeCommit: disk.beforeCommit}})
	mustApply(t, n, "before")
	disk.armed.Store(true)
	answer := make(chan error, 1)
	go func() {
		_, _, err := n.Apply(t.Context(), []byte("hangs"))
		answer <- err
	}()
	<-disk.hanging
	select {
	case <-n.Failed():
	case <-time.After(patience):
		t.Fatal("the node does not say that it failed")
	}
	failure := n.Err()
	for _, word := range []string{n.dir.file(logFile), "2s", "hangs"} {
		if failure == nil || !strings.Contains(failure.Error(), word) {
			t.Errorf("the node failed with %v, which does not say %q", failure, word)
		}
	}
	if err := <-answer; !errors.Is(err, ErrUnknown) {
		t.Errorf("the command that hangs got %v", err)
	}
	waitFor(t, "the listener for other nodes is closed", func() bool {
		n.listener.mu.Lock()
		defer n.listener.mu.Unlock()
		return n.listener.conns == nil
	})
	if err := n.Close(); !errors.Is(err, failure) || !strings.Contains(err.Error(), "stays locked") {
		t.Errorf("close while the write hangs: %v", err)
	}
	if _, err := Open(testConfig(dir, &listFSM{})); err == nil {
		t.Error("the data folder was given back while a write to it is under way")
	}

	// Even a write that comes to its end later is not acknowledged, and no other follows.
	close(disk.release)
	<-n.stopped
	if err := n.store.StoreLogs(nil); !errors.Is(err, failure) {
		t.Errorf("a write after the one that hung: %v", err)
	}
	if err := n.release(); err != nil {
		t.Error(err)
	}
	after := &listFSM{}
	startTest(t, testConfig(dir, after), options{})
	if got := after.list(); len(got) == 0 || got[0] != "before" {
		t.Errorf("after reopening: %q", got)
	}
}
