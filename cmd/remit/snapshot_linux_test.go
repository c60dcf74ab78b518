package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody lets the test's goroutine reach the files of others as little as anybody,
// even if root runs the tests.
func asNobody(t *testing.T) {
	t.Helper()
	root := os.Geteuid()
	if root != 0 {
		return
	}
	runtime.LockOSThread() // it is the thread that changes
	t.Cleanup(func() {
		if err := syscall.Setfsuid(root); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
}

// publicFolder returns a folder with these rights, which anybody gets to.
func publicFolder(t *testing.T, rights os.FileMode) string {
	t.Helper()
	folder := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(folder), 0o711), os.Chmod(folder, rights)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(folder, 0o700) }) // or it could not be removed
	return folder
}

// A snapshot that has its name stays where it is, though it is not known whether the
// name will outlast a power cut.
func TestSnapshotSaveInAFolderThatCannotBeSynced(t *testing.T) {
	f := startFake(t)
	f.cluster.snapshot = sampleSnapshot(t)
	folder := publicFolder(t, 0o333) // nobody can open it
	asNobody(t)
	path := filepath.Join(folder, "backup")
	for _, replace := range []string{"--replace=false", "--replace"} {
		got := remit(t, "snapshot", "save", path, replace)
		_, said, _ := strings.Cut(got.stderr, "\nremit: ")
		if want := path + " is whole, and may be lost in a power cut: open " + folder + ": permission denied\n"; got.code != exitError || said != want {
			t.Errorf("%s: %+v, want %q", replace, got, want)
		}
		if _, err := readBackup(path); err != nil {
			t.Error(err)
		}
	}
}

// A file gets its name where it cannot have two for a moment, too.
func TestPlaceWithoutLinks(t *testing.T) {
	folder := publicFolder(t, 0o777)
	from, to := filepath.Join(folder, "from"), filepath.Join(folder, "to")
	if err := os.WriteFile(from, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	asNobody(t) // who may rename another's file there, and not link to it
	if os.Link(from, filepath.Join(folder, "link")) == nil {
		t.Skip("one may link to the files of others here")
	}
	if err := place(from, to, false); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "*")); err != nil || len(left) != 1 || left[0] != to {
		t.Errorf("left %v, %v", left, err)
	}
}
