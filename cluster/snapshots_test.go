package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// limitFiles makes every write beyond a size of a file fail, until the returned
// function is called.
func limitFiles(t *testing.T, size uint64) (unlimit func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limited := old
	limited.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}
}

// TestFailedSnapshotLeavesNothing runs itself in a process of its own, since the
// limit on files is the whole process's.
func TestFailedSnapshotLeavesNothing(t *testing.T) {
	const inside = "CLUSTER_TEST_FILE_LIMIT"
	if os.Getenv(inside) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), inside+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	snaps, err := openSnapshots(t.Context(), t.TempDir(), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	_, transport := raft.NewInmemTransport("")
	create := func(index uint64) (raft.SnapshotSink, error) {
		return snaps.Create(1, index, 1, raft.Configuration{}, 1, transport)
	}
	other, err := create(1)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<16)

	// The description, the data when it is cancelled, and the data when it is completed.
	unlimit := limitFiles(t, 0)
	_, err = create(2)
	unlimit()
	if err == nil {
		t.Error("a snapshot began that cannot be written")
	}
	for index, end := range map[uint64]func(raft.SnapshotSink) error{3: raft.SnapshotSink.Cancel, 4: raft.SnapshotSink.Close} {
		sink, err := create(index)
		if err != nil {
			t.Fatal(err)
		}
		unlimit := limitFiles(t, 1<<12)
		_, writeErr := sink.Write(data)
		err = end(sink)
		unlimit()
		if writeErr == nil || err == nil {
			t.Errorf("snapshot %d: write %v, end %v", index, writeErr, err)
		}
	}

	if _, err := other.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Errorf("the snapshot that was under way all the time: %v", err)
	}
	entries, err := os.ReadDir(snaps.path)
	if err != nil || len(entries) != 1 || entries[0].Name() != other.ID() {
		t.Errorf("in the snapshot folder: %v, %v", entries, err)
	}
}

func TestSnapshotsAreTheOwners(t *testing.T) {
	dir := t.TempDir()
	n := startTest(t, testConfig(dir, &listFSM{}), options{})
	mustApply(t, n, "secret")
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(filepath.Join(dir, snapshotDir), func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		seen++
		return err
	})
	if err != nil || seen != 4 {
		t.Errorf("%d files and folders seen, want 4 (%v)", seen, err)
	}
}

// TestSnapshotIsSyncedAsItIsWritten asks the kernel how much it has saved up.
func TestSnapshotIsSyncedAsItIsWritten(t *testing.T) {
	if !kernelTellsDirtyPages(t) {
		t.Skip("this kernel or file system does not tell which pages are dirty")
	}
	fsm := &listFSM{}
	n := startTest(t, testConfig(t.TempDir(), fsm), options{})
	mustApply(t, n, "c")
	fsm.persist = func(sink raft.SnapshotSink) error {
		piece := make([]byte, snapshotSyncStep/4)
		for i := range 20 {
			if _, err := sink.Write(piece); err != nil {
				return err
			}
			dirty, err := dirtyPages(filepath.Join(sink.(*snapshotSink).folder(), stateFile))
			if limit := uint64(snapshotSyncStep / os.Getpagesize()); err != nil || dirty > limit {
				t.Errorf("after %d pieces %d pages are not on the disk, at most %d should be (%v)", i+1, dirty, limit, err)
			}
		}
		return sink.Close()
	}
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Error(err)
	}
}
