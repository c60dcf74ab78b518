package cluster

import (
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// heldAt returns the lowest index that transfers keep; zero if none.
func heldAt(t *testing.T, all *transfers) (lowest uint64) {
	t.Helper()
	err := all.keeping(func(index uint64) error {
		lowest = index
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if lowest == math.MaxUint64 {
		return 0
	}
	return lowest
}

func TestTransfersKeepTheLog(t *testing.T) {
	var last atomic.Uint64
	last.Store(100)
	all := newTransfers(slog.New(slog.DiscardHandler), 10, 0, func() (uint64, error) { return last.Load(), nil })
	if all.held() {
		t.Error("held from the beginning")
	}
	first := all.begin()
	if err := all.keeping(func(lowest uint64) error {
		if lowest != 0 {
			t.Errorf("the log is kept from %d while a snapshot is opened", lowest)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	first.opened(50)
	second := all.begin()
	second.opened(40)
	if got := heldAt(t, all); got != 40 {
		t.Errorf("kept from %d, want the older of two", got)
	}
	second.end()
	if got := heldAt(t, all); got != 50 {
		t.Errorf("kept from %d after one was given up", got)
	}

	// The follower has loaded the snapshot: now it needs what is in the log.
	first.catchUp("follower")
	first.end()
	all.matched("follower", 60)
	all.matched("another", 100)
	if got := heldAt(t, all); got != 50 {
		t.Errorf("kept from %d while the follower catches up", got)
	}
	last.Store(200)
	all.matched("follower", 100) // all that there was, but far from the end
	if !all.held() {
		t.Error("given up while the follower is 100 entries behind")
	}
	all.matched("follower", 196)
	if !all.held() {
		t.Error("given up before the follower has what there was in this round")
	}
	all.matched("follower", 200)
	if all.held() || all.catching.Load() != 0 {
		t.Error("kept for a follower that has everything")
	}

	// One that never comes near the end is given up after some rounds.
	slow := all.begin()
	slow.opened(200)
	slow.catchUp("follower")
	slow.end()
	for round := 1; all.held(); round++ {
		if round > catchUpRounds {
			t.Fatal("kept for ever")
		}
		now := last.Add(100)
		all.matched("follower", now-100)
	}
}

// A follower that has loaded a snapshot and takes nothing that follows it needs a newer
// one, which may be taken then.
func TestTransferOfAUselessSnapshot(t *testing.T) {
	all := newTransfers(slog.New(slog.DiscardHandler), 10, 0, func() (uint64, error) { return 100, nil })
	send := func(index uint64) *transfer {
		one := all.begin()
		one.opened(index)
		one.catchUp("follower")
		one.end()
		return one
	}
	send(50)
	all.rejected("another")
	if got := heldAt(t, all); got != 50 {
		t.Errorf("kept from %d, want 50", got)
	}
	all.rejected("follower")
	if all.held() || all.catching.Load() != 0 {
		t.Error("kept for a follower that cannot go on")
	}
	send(50)
	if all.held() {
		t.Error("kept for a follower that is sent the same again")
	}
	send(90)
	if got := heldAt(t, all); got != 90 {
		t.Errorf("kept from %d for a newer one, want 90", got)
	}
	// One that has taken some of what follows is on its way, whatever it answers once.
	all.matched("follower", 95)
	all.rejected("follower")
	if got := heldAt(t, all); got != 90 {
		t.Errorf("kept from %d for a follower that goes on, want 90", got)
	}
}

func TestTransferWithoutProgress(t *testing.T) {
	var lines syncBuffer
	all := newTransfers(lines.logger(), 10, 50*time.Millisecond, func() (uint64, error) { return 100, nil })
	one := all.begin()
	one.opened(50)
	reader := &transferReader{io.NopCloser(strings.NewReader("snapshot")), one}
	deadline := time.Now().Add(200 * time.Millisecond)
	for time.Now().Before(deadline) { // far longer than the patience, with progress
		one.read(false)
		if !all.held() {
			t.Fatal("given up in spite of progress")
		}
	}
	waitFor(t, "the transfer is given up", func() bool { return !all.held() })
	if !strings.Contains(lines.String(), "snapshot_index=50") {
		t.Errorf("logged: %s", lines.String())
	}
	if _, err := io.ReadAll(reader); err != nil {
		t.Error(err)
	}
	one.catchUp("follower")
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if all.held() || all.catching.Load() != 0 {
		t.Error("a transfer that was given up came back")
	}

	// Loading the snapshot takes longer than that, and nothing of it is seen.
	loading := all.begin()
	reader = &transferReader{io.NopCloser(strings.NewReader("snapshot")), loading}
	if _, err := io.ReadAll(reader); err != nil {
		t.Error(err)
	}
	if loading.patience != restorePatience {
		t.Errorf("%s of patience with a follower that loads its snapshot", loading.patience)
	}
}

// A snapshot after which the log has a gap is of no use to anyone.
func TestOpenSnapshotBeforeTheLog(t *testing.T) {
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	mustApply(t, n, "c")
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	taken, err := n.snapshots.List()
	if err != nil || len(taken) != 1 {
		t.Fatal(taken, err)
	}
	meta, reader, err := n.snapshots.Open(taken[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := heldAt(t, n.transfers); got != meta.Index {
		t.Errorf("the log is kept from %d, want %d", got, meta.Index)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	n.snapshots.firstIndex = func() (uint64, error) { return meta.Index + 2, nil }
	if _, _, err := n.snapshots.Open(taken[0].ID); err == nil || !strings.Contains(err.Error(), "begins with") {
		t.Errorf("opened with a gap behind it: %v", err)
	}
	if n.transfers.held() {
		t.Error("the log is kept for a snapshot that is not read")
	}
}

// sendSnapshot cuts a follower off until the log no longer holds what it lacks, and
// returns when it loads the leader's snapshot, which it does until load is closed. It
// returns how many it has loaded.
func (c *testCluster) sendSnapshot(slow *testMember, threshold uint64, load <-chan struct{}) *atomic.Int32 {
	c.t.Helper()
	leader := c.leader()
	c.cut(slow)
	waitFor(c.t, "the log is cut behind what the follower has", func() bool {
		mustApply(c.t, leader.Node, "while it is away")
		first, err := leader.store.FirstIndex()
		if err != nil {
			c.t.Fatal(err)
		}
		return first > slow.raft.LastIndex()+threshold
	})
	begun := make(chan struct{})
	restores := &atomic.Int32{}
	slow.fsm.mu.Lock()
	slow.fsm.restoring = func() {
		if restores.Add(1) == 1 {
			close(begun)
			<-load
		}
	}
	slow.fsm.mu.Unlock()
	c.heal(slow)
	select {
	case <-begun:
	case <-time.After(patience):
		c.t.Fatal("the follower was sent no snapshot")
	}
	return restores
}

// TestOneSnapshotForALaggingFollower cuts a follower off until the log no longer
// holds what it lacks, and makes it load the snapshot so slowly that, under write
// load, the log would be cut again many times meanwhile.
func TestOneSnapshotForALaggingFollower(t *testing.T) {
	t.Parallel()
	const threshold, trailing = 40, 10
	c := startCluster(t, 3, func(cfg *Config) {
		cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = threshold, 5*time.Millisecond, trailing
	})
	leader, slow := c.leader(), c.follower()
	first := func() uint64 {
		index, err := leader.store.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		return index
	}
	load := make(chan struct{})
	restores := c.sendSnapshot(slow, threshold, load)
	var last uint64
	// Until it has loaded that it can neither lead nor be counted on.
	third := c.others(leader)[0]
	if third == slow {
		third = c.others(leader)[1]
	}
	_, err := leader.Transfer(t.Context(), slow.ID())
	wantRefusal(t, "the follower is to lead", err, "it has not caught up")
	wantRefusal(t, "the other one is removed", leader.Remove(t.Context(), third.ID(), false), "1 can be reached and have caught up")
	sent := leader.snapshots.newest().index
	for range 6 * threshold {
		last = mustApply(t, leader.Node, "while it loads")
	}
	if newest := leader.snapshots.newest().index; newest > sent+threshold {
		t.Errorf("a snapshot of %d was begun while that of %d was loaded", newest, sent)
	}
	if first() > sent {
		t.Errorf("the log begins with %d while the snapshot of %d is loaded", first(), sent)
	}

	// The load goes on while the follower catches up.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				last = mustApply(t, leader.Node, "while it catches up")
			}
		}
	})
	close(load)
	waitFor(t, "the log is no longer kept", func() bool { return !leader.transfers.held() })
	waitFor(t, "snapshots go on", func() bool { return leader.snapshots.newest().index > sent+6*threshold })
	close(stop)
	wg.Wait()
	waitFor(t, "the follower has everything", func() bool { return slow.fsm.Revision() >= last })
	if got := restores.Load(); got != 1 {
		t.Errorf("%d snapshots were loaded, want one", got)
	}
}

// A leader ends although a follower has not answered yet that it has loaded a
// snapshot, which may take minutes.
func TestCloseWhileAFollowerLoads(t *testing.T) {
	t.Parallel()
	const threshold = 40
	c := startCluster(t, 3, func(cfg *Config) {
		cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = threshold, 5*time.Millisecond, 10
	})
	leader, slow := c.leader(), c.follower()
	load := make(chan struct{})
	c.sendSnapshot(slow, threshold, load)
	c.close(leader)
	close(load)
	c.waitApplied(mustApply(t, c.leader().Node, "after"))
}

// The wrapped transport is all that Raft looks for.
func TestTransferTransport(t *testing.T) {
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	var transport raft.Transport = transferTransport{NetworkTransport: n.transport, transfers: n.transfers}
	if _, ok := transport.(raft.WithPreVote); !ok {
		t.Error("without pre-vote")
	}
}
