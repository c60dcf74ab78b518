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
	c.cut(slow)
	last := mustApply(t, leader.Node, "while it is away")
	waitFor(t, "the log is cut behind what the follower has", func() bool {
		last = mustApply(t, leader.Node, "while it is away")
		return first() > slow.raft.LastIndex()+threshold
	})

	begun, load := make(chan struct{}), make(chan struct{})
	var restores atomic.Int32
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
		t.Fatal("the follower was sent no snapshot")
	}
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

// The wrapped transport is all that Raft looks for.
func TestTransferTransport(t *testing.T) {
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	var transport raft.Transport = transferTransport{n.transport, n.transfers}
	if _, ok := transport.(raft.WithPreVote); !ok {
		t.Error("without pre-vote")
	}
}
