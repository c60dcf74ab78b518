package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// snapshotImage is the files of a node with two snapshots whose log holds only
// what came after them.
func snapshotImage(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	cfg := testConfig(dir, &listFSM{})
	cfg.TrailingLogs = 1
	n := startTest(t, cfg, options{})
	for range retainedSnapshots {
		for range 20 {
			mustApply(t, n, strings.Repeat("x", 1000))
		}
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	mustApply(t, n, "after the snapshots")
	closeTest(t, n)
	return files(t, dir)
}

// without leaves out the files that match a pattern of filepath.Match.
func without(image map[string][]byte, patterns ...string) map[string][]byte {
	rest := maps.Clone(image)
	for name := range image {
		for _, pattern := range patterns {
			if match, _ := filepath.Match(pattern, name); match {
				delete(rest, name)
			}
		}
	}
	return rest
}

// with replaces the content of the files that match a pattern of filepath.Match.
func with(image map[string][]byte, pattern string, content func(old []byte) []byte) map[string][]byte {
	changed := maps.Clone(image)
	for name, old := range image {
		if match, _ := filepath.Match(pattern, name); match {
			changed[name] = content(old)
		}
	}
	return changed
}

// wantRefused opens the folder of an image, which must be refused with an error
// that names the folder and contains the words, twice, and with nothing made or changed.
func wantRefused(t *testing.T, image map[string][]byte, words ...string) {
	t.Helper()
	dir := writeFiles(t, image)
	for range 2 { // what is refused once must not be made acceptable by it
		n, err := Open(testConfig(dir, &listFSM{}))
		if err == nil {
			_ = n.Close()
			t.Fatal("opened")
		}
		for _, word := range append(words, dir) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the error does not say %q: %v", word, err)
			}
		}
	}
	after := files(t, dir)
	for name := range after {
		if _, was := image[name]; !was && name != lockFile {
			t.Errorf("%s was made", name)
		}
	}
	for name, content := range image {
		if name == logFile && len(content) > 0 {
			continue // bbolt writes a meta page whenever it opens a file
		}
		if !bytes.Equal(after[name], content) {
			t.Errorf("%s was changed", name)
		}
	}
}

// TestLostLog takes the log away from a folder that has been in use.
func TestLostLog(t *testing.T) {
	image := snapshotImage(t)
	empty := func([]byte) []byte { return nil }
	advice := []string{logFile, "restore the whole folder from a backup", "remove it to start an empty cluster"}
	noSnapshots := without(image, "snapshots/*/*")

	dir := t.TempDir()
	closeTest(t, openTest(t, testConfig(dir, &listFSM{}), options{}))
	fresh := files(t, dir)[logFile]
	replaced := func([]byte) []byte { return fresh }

	for name, test := range map[string]struct {
		image map[string][]byte
		words []string
	}{
		"missing":                       {without(image, logFile), []string{"is missing", clusterIDFile}},
		"missing, no snapshots":         {without(noSnapshots, logFile), []string{"is missing", clusterIDFile}},
		"missing, no cluster id":        {without(image, logFile, clusterIDFile), []string{"is missing", snapshotDir}},
		"missing, no ids":               {without(image, logFile, clusterIDFile, nodeIDFile), []string{"is missing", snapshotDir}},
		"empty":                         {with(image, logFile, empty), []string{"is empty", clusterIDFile}},
		"empty, no snapshots":           {with(noSnapshots, logFile, empty), []string{"is empty", clusterIDFile}},
		"empty, no cluster id":          {with(without(image, clusterIDFile), logFile, empty), []string{"is empty", snapshotDir}},
		"replaced by a new one":         {with(image, logFile, replaced), []string{"has no state"}},
		"replaced, snapshots damaged":   {with(with(image, logFile, replaced), "snapshots/*/meta.json", empty), []string{"has no state"}},
		"snapshots missing":             {noSnapshots, []string{"no readable snapshot"}},
		"snapshots' descriptions empty": {with(image, "snapshots/*/meta.json", empty), []string{"no readable snapshot"}},
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, test.image, append(test.words, advice...)...) })
	}
}

// TestDamagedFiles opens folders with files that can be read and make no sense.
func TestDamagedFiles(t *testing.T) {
	image := snapshotImage(t)
	cut := func(part func(size int) int) map[string][]byte {
		return with(image, logFile, func(old []byte) []byte { return old[:part(len(old))] })
	}
	garbage := func(old []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(old)) }
	for name, test := range map[string]struct {
		image map[string][]byte
		words []string
	}{
		"a byte of the log":      {cut(func(int) int { return 1 }), []string{logFile, "invalid database"}},
		"a page of the log":      {cut(func(int) int { return os.Getpagesize() }), []string{logFile, "file size too small"}},
		"a quarter of the log":   {cut(func(size int) int { return size / 4 }), []string{logFile, "cut short"}},
		"half of the log":        {cut(func(size int) int { return size/2 - os.Getpagesize() }), []string{logFile, "cut short"}},
		"the log is garbage":     {with(image, logFile, garbage), []string{logFile, "invalid database"}},
		"only the meta pages":    {with(image, logFile, keepMeta), []string{logFile, "assertion failed"}},
		"snapshots are garbage":  {with(image, "snapshots/*/state.bin", garbage), []string{snapshotDir, "failed to load any existing snapshots"}},
		"the newest snapshot is": {with(image, newestState(image), garbage), []string{snapshotDir, "failed to load any existing snapshots"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, test.image, append(test.words, "damaged", "from a backup", "join again")...)
		})
	}
}

// keepMeta is a log of whose pages only the two meta pages are left.
func keepMeta(old []byte) []byte {
	return append(bytes.Clone(old[:2*os.Getpagesize()]), make([]byte, len(old)-2*os.Getpagesize())...)
}

// newestState is the newer of the two snapshots of snapshotImage.
func newestState(image map[string][]byte) string {
	var newest string
	for name, content := range image {
		if filepath.Base(name) == "state.bin" && len(content) > len(image[newest]) {
			newest = name
		}
	}
	return newest
}

// TestGuard makes the fault of a page that a mapped file no longer has.
func TestGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mapped")
	if err := os.WriteFile(path, make([]byte, os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped, err := syscall.Mmap(int(f.Fd()), 0, os.Getpagesize(), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	var sum byte
	err = guard(func() error {
		sum += mapped[0]
		return nil
	})
	var panicked *panicError
	if !errors.As(err, &panicked) {
		t.Errorf("a fault gave %v and %d", err, sum)
	}
	if was := debug.SetPanicOnFault(false); was {
		t.Error("faults still panic afterwards")
	}
	if err := guard(func() error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("an error became %v", err)
	}
}

// TestFailedWriteIsNotDamage has Raft panic at open because it cannot store its term.
func TestFailedWriteIsNotDamage(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler), failed: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancelCause(t.Context())
	full := errors.New("no space left on device")
	err := n.read(func() error {
		n.fail(full)
		panic("failed to save current term")
	})
	if !errors.Is(err, full) || strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v", err)
	}
}
