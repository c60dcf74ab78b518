package cluster

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// fakeDisk is a disk with as much room as a test says.
type fakeDisk struct {
	free   atomic.Uint64
	broken atomic.Bool
}

func (d *fakeDisk) measure(string) (uint64, error) {
	if d.broken.Load() {
		return 0, errors.New("no answer")
	}
	return d.free.Load(), nil
}

func TestLowDiskDoesNotFlap(t *testing.T) {
	var lines syncBuffer
	fake := &fakeDisk{}
	d := &disk{path: "/data", log: lines.logger(), minimum: 1000, measure: fake.measure}
	for i, step := range []struct {
		free   uint64
		broken bool
		low    bool
	}{
		{free: 1000}, {free: 999, low: true}, {free: 1000, low: true}, {broken: true, low: true}, {broken: true, low: true},
		{free: 1249, low: true}, {free: 1250}, {free: 1001}, {broken: true}, {free: 0, low: true},
	} {
		fake.free.Store(step.free)
		fake.broken.Store(step.broken)
		d.look()
		if got := d.low.Load(); got != step.low {
			t.Errorf("step %d, %d bytes free: low %t", i, step.free, got)
		}
	}
	for text, want := range map[string]int{"the disk is low": 2, "no longer low": 1, "cannot be told": 2, "no answer": 2} {
		if got := strings.Count(lines.String(), text); got != want {
			t.Errorf("%d lines with %q, want %d, in\n%s", got, text, want, lines.String())
		}
	}
}

func TestFreeDisk(t *testing.T) {
	if free, err := freeDisk(t.TempDir()); err != nil || free == 0 || free > 1<<60 {
		t.Errorf("%d bytes free, %v", free, err)
	}
	if _, err := freeDisk(t.TempDir() + "/nothing"); err == nil {
		t.Error("a folder that is not there has room")
	}
}

// startWithDisks starts a cluster of three nodes with fake disks that have room.
func startWithDisks(t *testing.T) (*testCluster, map[*testMember]*fakeDisk) {
	t.Helper()
	c := startCluster(t, 3, func(cfg *Config) { cfg.MinFreeDisk = 1 << 20 })
	disks := map[*testMember]*fakeDisk{}
	for _, m := range c.members {
		d := &fakeDisk{}
		d.free.Store(100 << 20)
		m.opts.freeDisk, m.opts.diskInterval = d.measure, time.Millisecond
		disks[m] = d
		c.close(m)
		c.open(m)
	}
	c.leader()
	return c, disks
}

// TestLowLeaderHandsOver lets one disk after the other become low.
func TestLowLeaderHandsOver(t *testing.T) {
	t.Parallel()
	c, disks := startWithDisks(t)
	mustApply(t, c.leader().Node, "at first")

	first := c.leader()
	disks[first].free.Store(1000)
	waitFor(t, "another node leads", func() bool { return c.leader() != first })
	second := c.leader()
	mustApply(t, second.Node, "by the second")
	if s := first.status(); !s.GetLowDisk() || s.GetFreeDiskBytes() != 1000 || s.GetRefusesWrites() {
		t.Errorf("the low node says of itself %v", s)
	}
	if s := second.status(); s.GetLowDisk() || s.GetFreeDiskBytes() != 100<<20 {
		t.Errorf("the leader says of itself %v", s)
	}
	if _, err := second.Transfer(t.Context(), first.ID()); err == nil || !strings.Contains(err.Error(), "low") {
		t.Errorf("leadership given to a low node: %v", err)
	}

	disks[second].free.Store(1000)
	waitFor(t, "the third node leads", func() bool { l := c.leader(); return l != first && l != second })
	third := c.leader()
	mustApply(t, third.Node, "by the third")

	// Nobody is left: the leader goes on leading and answers reads, not writes.
	disks[third].free.Store(1000)
	var err error
	var refused string
	waitFor(t, "writes are refused", func() bool {
		refused += "+"
		_, _, err = third.Apply(t.Context(), []byte(refused))
		return err != nil
	})
	if !errors.Is(err, ErrLowDisk) || !errors.Is(err, ErrNotApplied) || errors.Is(err, ErrUnknown) {
		t.Errorf("the refusal is %v", err)
	}
	for _, word := range []string{"0 MiB are free", "2 MiB are needed", "make room"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the refusal does not say %q: %v", word, err)
		}
	}
	if !third.status().GetRefusesWrites() {
		t.Error("the leader does not say that it refuses writes")
	}
	last := mustReadIndex(t, third.Node)

	// One with room again takes over, though the leader's own disk stays low.
	disks[first].free.Store(100 << 20)
	waitFor(t, "the first node leads again", func() bool { return c.leader() == first })
	if revision := mustApply(t, first.Node, "at last"); revision <= last {
		t.Errorf("revision %d after %d", revision, last)
	}
	c.waitApplied(c.leader().fsm.Revision())
	for _, m := range c.members {
		for _, command := range m.fsm.list() {
			if command == refused {
				t.Error("a command that was refused was applied")
			}
		}
	}
}

// TestLowSoleNodeRefuses has nobody to hand over to.
func TestLowSoleNodeRefuses(t *testing.T) {
	fake := &fakeDisk{}
	fake.free.Store(100 << 20)
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.MinFreeDisk = 1 << 20
	n := startTest(t, cfg, options{freeDisk: fake.measure, diskInterval: time.Millisecond})
	mustApply(t, n, "before")
	fake.free.Store(1 << 10)
	waitFor(t, "writes are refused", func() bool {
		_, _, err := n.Apply(t.Context(), []byte("c"))
		return errors.Is(err, ErrLowDisk)
	})
	mustReadIndex(t, n)
	if n.raft.State() != raft.Leader {
		t.Error("the only node does not lead")
	}
	fake.free.Store(100 << 20)
	waitFor(t, "writes go on", func() bool {
		_, _, err := n.Apply(t.Context(), []byte("after"))
		return err == nil
	})
}

// TestHungLeaderIsReplaced hangs the leader's disk while its heartbeats go on.
func TestHungLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, func(cfg *Config) { cfg.HungStoreTimeout = 2 * time.Second })
	disks := map[*testMember]*hangingDisk{}
	for _, m := range c.members {
		disks[m] = newHangingDisk()
		m.opts.store.beforeCommit = disks[m].beforeCommit
		c.close(m)
		c.open(m)
	}
	leader := c.leader()
	mustApply(t, leader.Node, "acknowledged")
	defer func() {
		close(disks[leader].release) // Close waits for Raft, which waits for the disk
		_ = leader.Close()
	}()
	disks[leader].armed.Store(true)
	answer := make(chan error, 1)
	go func() {
		_, _, err := leader.Apply(t.Context(), []byte("hangs"))
		answer <- err
	}()
	<-disks[leader].hanging
	select {
	case <-leader.Failed():
	case <-time.After(patience):
		t.Fatal("the leader does not notice that its disk hangs")
	}
	leader.open = false
	if err := <-answer; !errors.Is(err, ErrUnknown) {
		t.Errorf("the command that hangs got %v", err)
	}
	next := c.leader()
	if next == leader {
		t.Fatal("the node whose disk hangs leads")
	}
	revision := mustApply(t, next.Node, "by another")
	c.waitApplied(revision)
	if got := next.fsm.list(); got[0] != "acknowledged" {
		t.Errorf("the new leader has %q", got)
	}
	if leader.raft.State() != raft.Shutdown {
		t.Errorf("the failed node is %s", leader.raft.State())
	}
}
