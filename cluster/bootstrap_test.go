package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestBootstrapHappensOnce(t *testing.T) {
	dir := t.TempDir()
	n := openTest(t, testConfig(dir, &listFSM{}), options{})
	if n.HasState() {
		t.Error("a new folder has state")
	}
	if _, ok := n.ClusterID(); ok {
		t.Error("a new folder has a cluster id")
	}
	if err := n.Bootstrap(t.Context(), uuid.Nil); err == nil {
		t.Error("the zero cluster id was taken")
	}
	if n.logEpoch() != uuid.Nil {
		t.Error("a new folder has an epoch")
	}
	id := uuid.New()
	if err := n.Bootstrap(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	epoch := n.logEpoch()
	if epoch == uuid.Nil {
		t.Error("bootstrap drew no epoch")
	}
	for range 2 {
		if got := n.logEpoch(); got != epoch {
			t.Errorf("epoch %s, want %s", got, epoch)
		}
		if !n.HasState() {
			t.Error("a bootstrapped node has no state")
		}
		if err := n.Bootstrap(t.Context(), uuid.New()); !errors.Is(err, ErrHasState) {
			t.Errorf("a second bootstrap: %v", err)
		}
		if got, ok := n.ClusterID(); !ok || got != id {
			t.Errorf("cluster id %x, want %x", got, id)
		}
		closeTest(t, n)
		n = openTest(t, testConfig(dir, &listFSM{}), options{})
	}
}

// TestBootstrapCrash opens the folder as it was after each write that open and
// bootstrap make: it must always either lead or bootstrap.
func TestBootstrapCrash(t *testing.T) {
	dir := t.TempDir()
	var images []map[string][]byte
	take := func() { images = append(images, files(t, dir)) }
	take()
	n := openTest(t, testConfig(dir, &listFSM{}), options{store: storeOptions{afterCommit: take}})
	take()
	opened := images[len(images)-1]
	before := len(images)
	if err := n.Bootstrap(t.Context(), uuid.New()); err != nil {
		t.Fatal(err)
	}
	waitLeader(t, n)
	closeTest(t, n)
	if len(images)-before < 4 {
		t.Fatalf("only %d writes seen", len(images)-before)
	}

	// The steps that are files, not commits.
	first := files(t, dir)
	images = append(images,
		map[string][]byte{nodeIDFile: first[nodeIDFile]},
		map[string][]byte{nodeIDFile: first[nodeIDFile], logFile: {}},
		map[string][]byte{nodeIDFile: first[nodeIDFile], logFile: opened[logFile], bondFile: first[bondFile]},
		map[string][]byte{nodeIDFile: first[nodeIDFile], logFile: opened[logFile], bondFile: first[bondFile], epochFile: first[epochFile], clusterIDFile: first[clusterIDFile]},
		map[string][]byte{nodeIDFile + ".tmp": []byte("half")},
		map[string][]byte{nodeIDFile: first[nodeIDFile], logFile: opened[logFile], clusterIDFile + ".tmp": []byte("half")},
	)

	halves := 0
	for i, image := range images {
		n := openTest(t, testConfig(writeFiles(t, image), &listFSM{}), options{})
		if !n.HasState() {
			if _, half := image[clusterIDFile]; half {
				halves++
			}
			if err := n.Bootstrap(t.Context(), uuid.New()); err != nil {
				t.Fatalf("image %d neither starts nor bootstraps: %v", i, err)
			}
		}
		waitLeader(t, n)
		mustApply(t, n, "works")
		closeTest(t, n)
	}
	if halves < 2 {
		t.Errorf("%d images of a bootstrap between its steps, want at least the cluster id alone and the term alone", halves)
	}
}

func TestLostIdentity(t *testing.T) {
	dir := t.TempDir()
	closeTest(t, startTest(t, testConfig(dir, &listFSM{}), options{}))
	for _, name := range []string{nodeIDFile, clusterIDFile} {
		all := files(t, dir)
		delete(all, name)
		for _, content := range []string{"", "not an id"} {
			if content != "" {
				all[name] = []byte(content)
			}
			damaged := writeFiles(t, all)
			n, err := Open(testConfig(damaged, &listFSM{}))
			if err == nil {
				_ = n.Close()
				t.Errorf("opened with %s = %q", name, content)
				continue
			}
			if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), damaged) {
				t.Errorf("the error names neither file nor folder: %v", err)
			}
			if _, err := os.Stat(filepath.Join(damaged, name)); content == "" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s was made anew", name)
			}
		}
	}
}

// TestFolderWithoutEpoch opens a folder from before there were epochs.
func TestFolderWithoutEpoch(t *testing.T) {
	dir := t.TempDir()
	closeTest(t, startTest(t, testConfig(dir, &listFSM{}), options{}))
	all := files(t, dir)
	delete(all, epochFile)
	n := startTest(t, testConfig(writeFiles(t, all), &listFSM{}), options{})
	if got := n.logEpoch(); got != uuid.Nil {
		t.Errorf("epoch %s, want zero", got)
	}
	all[epochFile] = []byte("not an id")
	if _, err := Open(testConfig(writeFiles(t, all), &listFSM{})); err == nil || !strings.Contains(err.Error(), epochFile) {
		t.Errorf("opened with a damaged epoch: %v", err)
	}
}
