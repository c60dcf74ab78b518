package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestFollowersReadsShareRounds reads on one follower from many goroutines: the
// leader must not be asked once for each.
func TestFollowersReadsShareRounds(t *testing.T) {
	c := startCluster(t, 3)
	leader, follower := c.leader(), c.follower()
	const readers, each = 64, 20
	before := leader.rounds.Load()
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for range each {
				if _, err := follower.ReadIndex(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reading.Wait()
	rounds := leader.rounds.Load() - before
	t.Logf("%d reads of %d concurrent readers on a follower: %d rounds on the leader", readers*each, readers, rounds)
	if rounds == 0 || rounds > readers*each/4 {
		t.Errorf("%d reads took %d rounds", readers*each, rounds)
	}
}

// TestReadJoinsOnlyLaterRounds holds a follower's request at the leader: a read that
// comes meanwhile gets what was acknowledged before it.
func TestReadJoinsOnlyLaterRounds(t *testing.T) {
	c := startCluster(t, 3)
	leader, follower := c.leader(), c.follower()
	voters := newHeldVoters()
	leader.confirmer = voters
	voters.hold.Store(true)
	early := make(chan readResult, 1)
	go func() {
		revision, err := follower.ReadIndex(t.Context())
		early <- readResult{revision, err}
	}()
	<-voters.entered
	written := mustApply(t, leader.Node, "during")
	late := follower.reads.join()
	voters.hold.Store(false)
	voters.release <- nil
	if got := <-early; got.err != nil || got.revision >= written {
		t.Errorf("the early read got %+v, the write was at %d", got, written)
	}
	<-late.done
	if late.err != nil || late.revision != written {
		t.Errorf("the late read got %d, %v, want %d", late.revision, late.err, written)
	}
}

// TestTermsAreConfirmed asks voters about terms, and counts the majority.
func TestTermsAreConfirmed(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	c.waitApplied(mustApply(t, leader.Node, "a")) // both others are in the term
	confirmer, term := termConfirmer{leader.Node}, leader.raft.CurrentTerm()
	all, err := leader.voters()
	if err != nil {
		t.Fatal(err)
	}
	others := slices.DeleteFunc(slices.Clone(all), func(s raft.Server) bool { return s.ID == leader.serverID() })
	voter := c.others(leader)[0]
	for _, asked := range []uint64{term - 1, term, term + 1} {
		if err := confirmer.ask(t.Context(), voter.id, asked); (err == nil) != (asked == term) {
			t.Errorf("a voter in term %d asked about %d: %v", term, asked, err)
		}
	}
	confirm := func(what string, voters []raft.Server, want bool) {
		t.Helper()
		if err := confirmer.confirm(t.Context(), term, voters); (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	confirm("all of three", all, true)
	confirm("both others, without the leader's vote", others, true)
	c.cut(voter)
	confirm("two of three", all, true)
	confirm("one of two, without the leader's vote", others, false)
	c.cut(c.others(leader)[1])
	confirm("one of three", all, false)
}

// TestCutLeaderAnswersNoRead cuts the leader off. No read that begins on it then may
// be answered before it is back, although it believes for a while that it leads.
func TestCutLeaderAnswersNoRead(t *testing.T) {
	c := startCluster(t, 3)
	old := c.leader()
	c.waitApplied(mustApply(t, old.Node, "before"))
	c.cut(old)
	if _, leads := old.leaderTerm(); !leads {
		t.Fatal("the leader stepped down at once: the test needs it to believe that it leads")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			for ctx.Err() == nil {
				if revision, err := old.ReadIndex(ctx); err == nil {
					t.Errorf("the leader that is cut off answered %d", revision)
					return
				}
			}
		})
	}
	var next *testMember
	waitFor(t, "another node leads", func() bool {
		for _, m := range c.others(old) {
			if _, leads := m.leaderTerm(); leads {
				next = m
			}
		}
		return next != nil
	})
	written := mustApply(t, next.Node, "after")
	cancel()
	reading.Wait()
	c.heal(old)
	if revision, err := old.ReadIndex(t.Context()); err != nil || revision < written {
		t.Errorf("after the return the node answers %d, %v, the write was at %d", revision, err, written)
	}
}

// TestHeldLeaderIsNotBelieved stops all traffic of the leader without closing a
// connection, as a stopped process does, past an election, several times. Reads on all
// nodes never return less than what was acknowledged before they began.
func TestHeldLeaderIsNotBelieved(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var acknowledged, writes, reads atomic.Uint64
	var busy sync.WaitGroup
	for _, m := range c.members {
		busy.Go(func() { // a writer of each node, which writes while that leads
			for i := 0; ctx.Err() == nil; i++ {
				_, revision, err := m.Apply(ctx, fmt.Appendf(nil, "%s-%d", m.ID(), i))
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				writes.Add(1)
				for old := acknowledged.Load(); revision > old && !acknowledged.CompareAndSwap(old, revision); {
					old = acknowledged.Load()
				}
			}
		})
		for range 3 {
			busy.Go(func() {
				for ctx.Err() == nil {
					atLeast := acknowledged.Load()
					revision, err := m.ReadIndex(ctx)
					switch {
					case err != nil:
						time.Sleep(time.Millisecond)
					case revision < atLeast:
						t.Errorf("a read that began after revision %d was acknowledged got %d", atLeast, revision)
					default:
						reads.Add(1)
					}
				}
			})
		}
	}
	for range 3 {
		old := c.leader()
		term := old.raft.CurrentTerm()
		c.hold(old)
		waitFor(t, "another node leads", func() bool {
			for _, m := range c.others(old) {
				if now, leads := m.leaderTerm(); leads && now > term {
					return true
				}
			}
			return false
		})
		written, read := writes.Load(), reads.Load()
		waitFor(t, "writes and reads flow again", func() bool { return writes.Load() > written+50 && reads.Load() > read+50 })
		c.heal(old)
	}
	mark := reads.Load()
	waitFor(t, "reads flow again", func() bool { return reads.Load() > mark+30 })
	cancel()
	busy.Wait()
	t.Logf("%d writes, %d reads", writes.Load(), reads.Load())
	// What a read index names is reached on every node.
	revision := mustReadIndex(t, c.follower().Node)
	c.waitApplied(revision)
}

// TestLeaderAfterItsBarrier: a node that was elected while its state machine lags says
// that it leads only when that has caught up.
func TestLeaderAfterItsBarrier(t *testing.T) {
	c := startCluster(t, 3)
	old, next := c.leader(), c.follower()
	next.fsm.gate = make(chan struct{})
	last := mustApply(t, old.Node, "not applied there yet")
	if _, err := old.Transfer(t.Context(), next.ID()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the next leader knows that it leads", func() bool { _, leads := next.leaderTerm(); return leads })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, self, err := next.Leader(short); err == nil {
		t.Errorf("a leader without its state says self = %v", self)
	}
	close(next.fsm.gate)
	if _, self, err := next.Leader(t.Context()); err != nil || !self || next.fsm.Revision() < last {
		t.Errorf("Leader = %v, %v with revision %d applied, want true after %d", self, err, next.fsm.Revision(), last)
	}
	if _, self, err := old.Leader(t.Context()); err != nil || self {
		t.Errorf("Leader = %v, %v on the node that handed over", self, err)
	}
}

// TestLeaderIsWaitedFor: a call during an election gets the next leader; without a
// majority it ends with its context.
func TestLeaderIsWaitedFor(t *testing.T) {
	c := startCluster(t, 3)
	old, caller := c.leader(), c.follower()
	c.close(old)
	waitFor(t, "the caller misses the leader", func() bool {
		_, id := caller.raft.LeaderWithID()
		return id != old.serverID()
	})
	if _, _, err := caller.Leader(t.Context()); err != nil {
		t.Errorf("during an election: %v", err)
	}
	leader := c.leader()
	other := c.others(leader)[0]
	c.close(leader)
	waitFor(t, "no leader is known", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, _, err := other.Leader(ctx)
		return errors.Is(err, ErrNotLeader)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := other.ReadIndex(ctx); err == nil {
		t.Error("a read without a majority was answered")
	}
}

// campaigns counts how often a node became a candidate, by its log lines.
type campaigns struct {
	slog.Handler
	count *atomic.Int64
}

func newCampaigns() campaigns { return campaigns{slog.DiscardHandler, new(atomic.Int64)} }

func (c campaigns) Enabled(context.Context, slog.Level) bool { return true }
func (c campaigns) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c campaigns) WithGroup(string) slog.Handler            { return c }

func (c campaigns) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "entering candidate state") {
		c.count.Add(1)
	}
	return nil
}

// TestPreVote cuts a follower off until it has campaigned twice: its term must not
// rise, or it would end the leader's when it comes back.
func TestPreVote(t *testing.T) {
	c := startCluster(t, 3, func(cfg *Config) { cfg.Logger = slog.New(newCampaigns()) })
	leader, follower := c.leader(), c.follower()
	term := leader.raft.CurrentTerm()
	count := follower.cfg.Logger.Handler().(campaigns).count
	before := count.Load()
	c.cut(follower)
	waitFor(t, "the follower has campaigned twice", func() bool { return count.Load() >= before+2 })
	if now := follower.raft.CurrentTerm(); now != term {
		t.Errorf("the node that was cut off is in term %d, the leader in %d", now, term)
	}
	c.heal(follower)
	c.waitApplied(mustApply(t, leader.Node, "after"))
	if now := leader.raft.CurrentTerm(); now != term {
		t.Errorf("its return raised the term to %d from %d", now, term)
	}
}

// Voters may be in the next term before the leader has heard of it. Then the leader
// is not asked for a reason, but who is next.
func TestLeaderHearsOfTheNextTermLate(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	term, _ := leader.leaderTerm()
	for _, voter := range c.others(leader) {
		if err := voter.store.SetUint64(keyCurrentTerm, term+1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := leader.leaderRound(t.Context()); !errors.Is(err, ErrNotLeader) || !strings.Contains(err.Error(), "is in term") {
		t.Errorf("a round of the term before: %v", err)
	}
}
