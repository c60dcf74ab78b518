package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a disk of a size, or skips the test.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// TestFullDiskEndsTheNode fills a real disk: the write that finds no room ends the
// node, and nothing acknowledged before is lost.
func TestFullDiskEndsTheNode(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "size=24m")
	reserve := filepath.Join(disk, "reserve")
	if err := os.WriteFile(reserve, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	plenty := func(string) (uint64, error) { return 1 << 40, nil }
	cfg := testConfig(filepath.Join(disk, "data"), &listFSM{})
	cfg.MinFreeDisk = 1
	n := startTest(t, cfg, options{freeDisk: plenty})
	var mu sync.Mutex
	var acknowledged []string
	err := applyAll(t.Context(), n, string(make([]byte, 16<<10)), 4, 4000, func(command string) {
		mu.Lock()
		acknowledged = append(acknowledged, command)
		mu.Unlock()
	})
	if err == nil {
		t.Fatal("64 MiB went onto a disk of 24")
	}
	select {
	case <-n.Failed():
	case <-time.After(patience):
		t.Fatal("the node does not say that it failed")
	}
	if failure := n.Err(); !errors.Is(failure, syscall.ENOSPC) {
		t.Errorf("the node failed with %v", failure)
	}
	_ = n.Close()
	if len(acknowledged) < 10 {
		t.Errorf("only %d commands were acknowledged", len(acknowledged))
	}

	if err := os.Remove(reserve); err != nil {
		t.Fatal(err)
	}
	fsm := &listFSM{}
	cfg.FSM = fsm
	startTest(t, cfg, options{freeDisk: plenty})
	there := map[string]bool{}
	for _, command := range fsm.list() {
		there[command] = true
	}
	for _, command := range acknowledged {
		if !there[command] {
			t.Fatalf("of %d acknowledged commands, %q is lost", len(acknowledged), command[len(command)-8:])
		}
	}
}

// TestLowDiskIsRefusedBeforeItIsFull fills a real disk to below the minimum.
func TestLowDiskIsRefusedBeforeItIsFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "size=32m")
	cfg := testConfig(filepath.Join(disk, "data"), &listFSM{})
	cfg.MinFreeDisk = 8 << 20
	n := startTest(t, cfg, options{diskInterval: time.Millisecond})
	mustApply(t, n, "with room")
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 25<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "writes are refused", func() bool {
		_, _, err := n.Apply(t.Context(), []byte("c"))
		return errors.Is(err, ErrLowDisk)
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "writes go on", func() bool {
		_, _, err := n.Apply(t.Context(), []byte("c"))
		return err == nil
	})
	if err := n.Err(); err != nil {
		t.Error(err)
	}
}
