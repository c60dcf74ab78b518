package cluster

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

// heldVoters counts rounds and holds each at its confirmation while hold is set.
type heldVoters struct {
	rounds  atomic.Int64
	hold    atomic.Bool
	entered chan struct{} // receives as a held round comes to its confirmation
	release chan error    // gives the confirmation's answer
}

func newHeldVoters() *heldVoters {
	return &heldVoters{entered: make(chan struct{}), release: make(chan error)}
}

func (v *heldVoters) confirm(ctx context.Context, _ uint64, _ []raft.Server) error {
	v.rounds.Add(1)
	if !v.hold.Load() {
		return nil
	}
	select {
	case v.entered <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-v.release:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

type readResult struct {
	revision uint64
	err      error
}

func TestReadsShareRounds(t *testing.T) {
	voters := newHeldVoters()
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{voters: voters})
	before := mustApply(t, n, "before")
	voters.hold.Store(true)
	voters.rounds.Store(0)
	early := make(chan readResult, 1)
	read := func() {
		go func() {
			revision, err := n.ReadIndex(t.Context())
			early <- readResult{revision, err}
		}()
		<-voters.entered // now no other read may join this round
	}

	read()
	during := mustApply(t, n, "during")
	shared := n.leaderReads.join()
	for range 20 {
		if n.leaderReads.join() != shared {
			t.Fatal("reads that wait for the same round were given two")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.ReadIndex(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a read whose context ended: %v", err)
	}
	if rounds := voters.rounds.Load(); rounds != 1 {
		t.Errorf("%d rounds at a time", rounds)
	}
	voters.release <- nil
	if got := <-early; got.err != nil || got.revision != before {
		t.Errorf("the early read got %+v, want revision %d", got, before)
	}
	<-voters.entered
	voters.release <- nil
	<-shared.done
	if shared.err != nil || shared.revision != during {
		t.Errorf("the late reads got %d, %v, want revision %d", shared.revision, shared.err, during)
	}
	if rounds := voters.rounds.Load(); rounds != 2 {
		t.Errorf("%d rounds, want one for the early read and one for all late ones", rounds)
	}

	// A round that fails fails its readers, and only them.
	read()
	voters.release <- errors.New("no majority")
	if got := <-early; got.err == nil || !strings.Contains(got.err.Error(), "no majority") {
		t.Errorf("a read in a failed round got %+v", got)
	}
	read()
	voters.release <- nil
	if got := <-early; got.err != nil || got.revision != during {
		t.Errorf("the read after the failed round got %+v", got)
	}

	// The end of the node ends a round.
	read()
	closeTest(t, n)
	if got := <-early; got.err == nil {
		t.Errorf("a read at the end of the node got %+v", got)
	}
}

func TestReadIndexIsTheNewestCommand(t *testing.T) {
	fsm := &listFSM{}
	cfg := testConfig(t.TempDir(), fsm)
	cfg.TrailingLogs = 1
	n := startTest(t, cfg, options{})
	if got := mustReadIndex(t, n); got != 0 {
		t.Errorf("read index %d before any command", got)
	}
	notCommands := func() {
		t.Helper()
		committed := n.raft.CommitIndex()
		other := raft.ServerID(uuid.NewString())
		if err := n.raft.AddNonvoter(other, "127.0.0.1:1", 0, patience).Error(); err != nil {
			t.Fatal(err)
		}
		if err := n.raft.RemoveServer(other, 0, patience).Error(); err != nil {
			t.Fatal(err)
		}
		if err := n.raft.Barrier(patience).Error(); err != nil {
			t.Fatal(err)
		}
		if now := n.raft.CommitIndex(); now < committed+3 {
			t.Fatalf("commit index %d after %d", now, committed)
		}
	}
	notCommands()
	if got := mustReadIndex(t, n); got != 0 {
		t.Errorf("read index %d before any command, with other entries", got)
	}
	first := mustApply(t, n, "first")
	notCommands()
	if got := mustReadIndex(t, n); got != first {
		t.Errorf("read index %d, want %d", got, first)
	}

	// Committed but not applied here yet: another node may have answered from it.
	fsm.gate = make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, _, err := n.Apply(t.Context(), []byte("second"))
		done <- err
	}()
	committed := n.raft.CommitIndex()
	waitFor(t, "the second command is committed", func() bool { return n.raft.CommitIndex() > committed })
	second := mustReadIndex(t, n)
	if second <= first || fsm.Revision() != first {
		t.Errorf("read index %d with revision %d applied, want one after %d", second, fsm.Revision(), first)
	}
	close(fsm.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := fsm.Revision(); got != second {
		t.Errorf("the second command is at %d, the read index said %d", got, second)
	}

	// With no command left in the log, the snapshot's is the newest.
	notCommands()
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if begin, err := n.store.FirstIndex(); err != nil || begin <= second {
		t.Fatalf("the log begins at %d (%v), the command was at %d", begin, err, second)
	}
	if got := mustReadIndex(t, n); got != second {
		t.Errorf("read index %d after compaction, want %d", got, second)
	}
	if got, err := n.newestCommand(n.raft.CommitIndex()); err != nil || got != second {
		t.Errorf("newest command %d (%v), want %d", got, err, second)
	}
	closeTest(t, n)
	again := startTest(t, testConfig(cfg.DataDir, &listFSM{}), options{})
	if got := mustReadIndex(t, again); got != second {
		t.Errorf("read index %d after reopening, want %d", got, second)
	}
}

func TestBarrierOncePerTerm(t *testing.T) {
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	mustReadIndex(t, n)
	before := n.raft.LastIndex()
	for range 10 {
		mustReadIndex(t, n)
	}
	if after := n.raft.LastIndex(); after != before {
		t.Errorf("reads wrote %d log entries", after-before)
	}
}
