package cluster

import (
	"bytes"
	"maps"
	"path/filepath"
	"strings"
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
