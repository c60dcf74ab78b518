package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// TestRecover loses two of three nodes for good, and interrupts the recovery on the
// third at each step before it is run to its end.
func TestRecover(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	for i := range 20 {
		mustApply(t, leader.Node, fmt.Sprint(i))
	}
	if err := leader.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	c.waitApplied(mustApply(t, leader.Node, "last"))
	want := leader.fsm.list()
	survivor, old := c.follower(), leader
	for _, m := range c.members {
		c.close(m)
	}
	looked, err := Look(survivor.cfg.DataDir)
	if err != nil || looked.NodeID != survivor.id || looked.ClusterID != c.id || looked.LastIndex != survivor.raft.LastIndex() ||
		looked.LastTerm != survivor.raft.CurrentTerm() || looked.SnapshotIndex != survivor.snapshots.newest().index {
		t.Errorf("a look at the survivor shows %+v, %v", looked, err)
	}
	if _, err := Look(t.TempDir()); err == nil {
		t.Error("a look at an empty folder shows something")
	}
	epoch, err := readID(survivor.dir.file(epochFile))
	if err != nil {
		t.Fatal(err)
	}

	for _, at := range []recoverStep{stepMarked, stepNewEpoch, stepNewHistory} {
		crash := errors.New("crash")
		err := recoverFolder(RecoverConfig{DataDir: survivor.cfg.DataDir, FSM: &listFSM{}}, func(step recoverStep) error {
			if step == at {
				return crash
			}
			return nil
		})
		if !errors.Is(err, crash) {
			t.Fatalf("at step %q: %v", at, err)
		}
		if _, err := Open(survivor.cfg); err == nil || !strings.Contains(err.Error(), "run it again") {
			t.Errorf("after a crash at step %q the folder opens: %v", at, err)
		}
	}
	if err := Recover(RecoverConfig{DataDir: survivor.cfg.DataDir, FSM: &listFSM{}}); err != nil {
		t.Fatal(err)
	}

	c.open(survivor)
	if got := c.leader(); got != survivor {
		t.Fatalf("%s leads", got.ID())
	}
	if got := survivor.fsm.list(); !reflect.DeepEqual(got, want) {
		t.Errorf("after the recovery: %q, want %q", got, want)
	}
	if now := survivor.logEpoch(); now == epoch {
		t.Error("the log's epoch is the old one")
	}
	if voters, rest := c.suffrages(); voters != 1 || rest != 0 {
		t.Errorf("%d voters, %d others", voters, rest)
	}
	want = append(want, "alone")
	mustApply(t, survivor.Node, "alone")

	// A node from before is refused, in both directions; a wiped one joins.
	c.open(old)
	_, err = survivor.nodeClient(old.id).Status(t.Context(), &nodev1.StatusRequest{})
	if err == nil || !strings.Contains(err.Error(), "recovered") {
		t.Errorf("the survivor calls a node from before: %v", err)
	}
	_, err = old.nodeClient(survivor.id).Status(t.Context(), &nodev1.StatusRequest{})
	if err == nil || !strings.Contains(err.Error(), "recovered") {
		t.Errorf("a node from before calls the survivor: %v", err)
	}
	c.close(old)
	c.epoch = survivor.logEpoch()
	wiped := c.add()
	c.join(wiped, false)
	want = append(want, "by two")
	c.waitApplied(mustApply(t, survivor.Node, "by two"))
	if got := wiped.fsm.list(); !reflect.DeepEqual(got, want) {
		t.Errorf("the node that joined has %q, want %q", got, want)
	}
}

func TestRecoverRefuses(t *testing.T) {
	running := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	stateless := openTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	closeTest(t, stateless)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct{ name, dir, want string }{
		{"a running node", running.cfg.DataDir, "in use"},
		{"a node without a cluster", stateless.cfg.DataDir, "nothing to recover"},
		{"a folder that is not there", missing, "no such file"},
		{"an empty folder", t.TempDir(), "no node"},
	} {
		if err := Recover(RecoverConfig{DataDir: c.dir, FSM: &listFSM{}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
	again := openTest(t, testConfig(stateless.cfg.DataDir, &listFSM{}), options{})
	closeTest(t, again)
}
