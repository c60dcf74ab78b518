package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
)

const (
	// leaderWait is how long a call waits for a leader where its context sets no earlier end.
	leaderWait = 5 * time.Second
	// leaderRetry is the wait before a leader that was just known is tried again, if
	// nothing is heard of another one before.
	leaderRetry = 100 * time.Millisecond
)

// leaderWatch tells who waits for it that the leader, or the node's part, changed.
type leaderWatch struct {
	mu sync.Mutex
	ch chan struct{}
}

// changed returns a channel that closes at the next change. Whoever asks for it
// before looking who leads misses none.
func (w *leaderWatch) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch == nil {
		w.ch = make(chan struct{})
	}
	return w.ch
}

func (w *leaderWatch) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch != nil {
		close(w.ch)
		w.ch = nil
	}
}

// watchLeader passes on what Raft observes until the node ends. Raft drops an
// observation while others wait to be taken, and those are enough to look again.
func (n *Node) watchLeader() {
	observed := make(chan raft.Observation, 8)
	observer := raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	go func() {
		defer n.raft.DeregisterObserver(observer)
		var said raft.ServerID
		for {
			select {
			case <-observed:
				n.leaders.notify()
				said = n.sayLeader(said)
			case <-n.ctx.Done():
				return
			}
		}
	}()
}

// sayLeader logs who leads now, if that is another node than was said last.
func (n *Node) sayLeader(said raft.ServerID) raft.ServerID {
	_, leader := n.raft.LeaderWithID()
	switch {
	case leader == said:
	case leader == "":
		n.log.Warn("the cluster has no leader that this node knows")
	case leader == n.serverID():
		n.log.Info("this node leads the cluster", "term", n.raft.CurrentTerm())
	default:
		name := ""
		if id, err := uuid.Parse(string(leader)); err == nil {
			if one, ok := n.peers.get(id); ok {
				name = one.Name
			}
		}
		n.log.Info("another node leads the cluster", "leader", name, "leader_id", string(leader), "term", n.raft.CurrentTerm())
	}
	return leader
}

// leaderTerm returns the current term and whether the node leads in it. Raft
// leaves the state of leader before it takes a newer term, so a term that is the
// same before and after is the leader's.
func (n *Node) leaderTerm() (uint64, bool) {
	term := n.raft.CurrentTerm()
	leads := n.raft.State() == raft.Leader
	return term, leads && n.raft.CurrentTerm() == term
}

// otherLeader is the node that Raft follows; false if it knows none, or itself.
func (n *Node) otherLeader() (uuid.UUID, bool) {
	_, leader := n.raft.LeaderWithID()
	id, err := uuid.Parse(string(leader))
	return id, err == nil && id != n.id
}

// termBarrier remembers the newest term in which the node led and had applied all
// that was committed before it. A new leader knows what earlier terms committed
// only when an entry of its own term is committed.
type termBarrier struct {
	applied atomic.Uint64

	mu      sync.Mutex
	current *barrierRun // under way, if any
}

type barrierRun struct {
	term uint64
	done chan struct{}
	err  error
}

// barrier waits until all that was committed before this term is applied here. All
// who wait in one term share one log entry.
func (n *Node) barrier(ctx context.Context, term uint64) error {
	b := &n.barriers
	if b.applied.Load() == term {
		return nil
	}
	b.mu.Lock()
	run := b.current
	if run == nil || run.term != term {
		run = &barrierRun{term: term, done: make(chan struct{})}
		b.current = run
		go n.runBarrier(run)
	}
	b.mu.Unlock()
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Node) runBarrier(run *barrierRun) {
	ctx, cancel := context.WithTimeout(n.ctx, roundTimeout)
	defer cancel()
	run.err = n.await(ctx, func() error { return n.raft.Barrier(roundTimeout).Error() })
	b := &n.barriers
	b.mu.Lock()
	defer b.mu.Unlock()
	if run.err == nil && run.term > b.applied.Load() {
		b.applied.Store(run.term)
	}
	if b.current == run {
		b.current = nil
	}
	close(run.done)
}

// Leader returns a connection to the leader's API, or self and no connection on the
// leader itself once it has applied all that earlier leaders committed. Where no
// leader is known it waits for one, five seconds at most; its error is then
// ErrNotLeader.
func (n *Node) Leader(ctx context.Context) (conn grpc.ClientConnInterface, self bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	var reason error
	for {
		if err := n.Err(); err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
		changed := n.leaders.changed()
		if term, leads := n.leaderTerm(); leads {
			if reason = n.barrier(ctx, term); reason == nil {
				return nil, true, nil
			}
		} else if id, ok := n.otherLeader(); ok {
			return n.apiConn(id), false, nil
		} else {
			reason = errors.New("no leader is known")
		}
		if !n.awaitChange(ctx, changed) {
			return nil, false, fmt.Errorf("%w: %w", ErrNotLeader, reason)
		}
	}
}

// awaitChange waits until another look at who leads is worth it; false when ctx or
// the node has ended.
func (n *Node) awaitChange(ctx context.Context, changed <-chan struct{}) bool {
	retry := time.NewTimer(leaderRetry)
	defer retry.Stop()
	select {
	case <-changed:
	case <-retry.C:
	case <-ctx.Done():
		return false
	case <-n.ctx.Done():
	}
	return true
}
