package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// sysCachestat is cachestat(2), in Linux since 6.5 under the same number on
// every architecture but alpha.
const sysCachestat = 451

// dirtyPages returns how many pages of a file the kernel has in memory and not yet on the disk.
func dirtyPages(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var span struct{ offset, length uint64 } // zero length: to the end of the file
	var stat struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }
	_, _, errno := syscall.Syscall6(sysCachestat, f.Fd(), uintptr(unsafe.Pointer(&span)), uintptr(unsafe.Pointer(&stat)), 0, 0, 0)
	if errno != 0 {
		return 0, fmt.Errorf("cachestat %s: %w", path, errno)
	}
	return stat.dirty + stat.writeback, nil
}

// kernelTellsDirtyPages reports whether kernel and file system tell written pages from synced ones.
func kernelTellsDirtyPages(t *testing.T) bool {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "probe"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<16)); err != nil {
		t.Fatal(err)
	}
	written, err := dirtyPages(f.Name())
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	synced, err := dirtyPages(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return written > 0 && synced == 0
}

// syncData is fdatasync, which is what the log is synced with.
func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
