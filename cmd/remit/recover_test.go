package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remit-io/remit/fsm"
)

// A recovered folder has all that it had, in a new epoch.
func TestRecover(t *testing.T) {
	clearEnv(t)
	folder := filepath.Join(t.TempDir(), "data")
	fails(t, "remit: --data-dir is missing: which node's folder?\nhint: remit recover --help shows how\n", "recover")
	if got := remit(t, "recover", "--data-dir", folder, "--yes"); got.code != exitError || !strings.Contains(got.stderr, "there is no data folder to recover from") {
		t.Errorf("%+v", got)
	}
	empty := t.TempDir()
	if got := remit(t, "recover", "--data-dir", empty, "--yes"); got.code != exitError || !strings.Contains(got.stderr, empty) {
		t.Errorf("%+v", got)
	}

	n := openNode(t, nodeConfig(t, folder))
	key := n.RootKey()
	if err := createPermission(t, n, key, "before"); err != nil {
		t.Fatal(err)
	}
	before := n.store.State()
	if got := remit(t, "recover", "--data-dir", folder, "--yes"); got.code != exitError || !strings.Contains(got.stderr, "in use") {
		t.Errorf("a folder that is in use: %+v", got)
	}
	closeNode(t, n)
	for range 2 { // it changes nothing
		looked := remit(t, "recover", "--data-dir", folder, "--dry-run", "-o", "json")
		var found struct {
			ClusterID string `json:"cluster_id"`
			NodeID    string `json:"node_id"`
			LastTerm  uint64 `json:"last_term"`
			LastIndex uint64 `json:"last_index"`
		}
		if err := json.Unmarshal([]byte(looked.stdout), &found); err != nil || looked.code != exitOK ||
			found.ClusterID != before.Cluster.String() || found.NodeID != n.cluster.ID() || found.LastTerm == 0 || found.LastIndex < before.Revision {
			t.Errorf("%v: %+v, revision %d", err, looked, before.Revision)
		}
	}
	fails(t, "remit: not confirmed, so nothing changed: this makes the node of "+folder+" the only member of its cluster, without all other nodes and what only they hold\n"+
		"hint: --yes recovers without asking\n", "recover", "--data-dir", folder)

	got := remit(t, "recover", "--data-dir", folder, "--yes", "-o", "json")
	var answer struct {
		ClusterID string `json:"cluster_id"`
		Epoch     string
		Revision  uint64
	}
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != exitOK {
		t.Fatalf("%v: %+v", err, got)
	}
	n = openNode(t, nodeConfig(t, folder))
	after := n.store.State()
	if answer.ClusterID != before.Cluster.String() || answer.Epoch == before.Epoch.String() || answer.Revision != before.Revision {
		t.Errorf("recovered %+v from revision %d in epoch %s", answer, before.Revision, before.Epoch)
	}
	if after.Epoch.String() != answer.Epoch || after.Cluster != before.Cluster {
		t.Errorf("the node is in epoch %s", after.Epoch)
	}
	for o := range after.Organisations(fsm.ID{}) {
		p, _ := o.Project(defaultProject)
		if _, ok := p.Permission("before"); !ok {
			t.Error("what was written before is gone")
		}
	}
	if err := createPermission(t, n, key, "after"); err != nil {
		t.Error(err)
	}
	closeNode(t, n)
	if got := remit(t, "recover", "--data-dir", folder, "--yes"); got.code != exitOK || !strings.HasPrefix(got.stdout, "recovered cluster "+answer.ClusterID+" at revision ") ||
		!strings.Contains(got.stderr, "Remove the data folders of all other nodes\n") {
		t.Errorf("%+v", got)
	}
}
