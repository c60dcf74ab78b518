package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// roundTimeout bounds one read-index round.
const roundTimeout = 5 * time.Second

// voterConfirmer asks voters whether they still know no newer leader.
type voterConfirmer interface {
	// confirm returns nil if a majority of the voters, each asked after the call
	// began, is still at this term.
	confirm(ctx context.Context, term uint64, voters []raft.Server) error
}

// soleVoter confirms for the cluster that consists of this node alone: it knows its own term.
type soleVoter raft.ServerID

func (s soleVoter) confirm(_ context.Context, _ uint64, voters []raft.Server) error {
	if len(voters) == 1 && voters[0].ID == raft.ServerID(s) {
		return nil
	}
	return fmt.Errorf("leadership cannot be confirmed: the cluster has %d voters and this node can ask none but itself", len(voters))
}

// readIndex gives each read the revision it has to wait for. Reads share rounds:
// one round runs at a time, and a read joins only a round that starts after it
// arrived, so everything acknowledged before the read is in the round's answer.
type readIndex struct {
	node   *Node
	voters voterConfirmer

	mu      sync.Mutex
	next    *readRound // the round that has not started, if any read waits for it
	running bool       // a goroutine runs the rounds

	barrierTerm uint64 // the term whose barrier was applied; used by the running goroutine only
}

type readRound struct {
	done     chan struct{}
	revision uint64
	err      error
}

func newReadIndex(n *Node, voters voterConfirmer) *readIndex {
	return &readIndex{node: n, voters: voters}
}

// ReadIndex returns a revision at or after everything acknowledged before the
// call, in the whole cluster: a state at that revision or later is a linearizable
// answer. It is the leader that knows: elsewhere, and before the node leads, it
// answers ErrNotLeader at once. It does not wait for the revision to be applied.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if err := n.Err(); err != nil { // Raft leads for a moment longer
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if n.raft.State() != raft.Leader {
		return 0, ErrNotLeader
	}
	round := n.reads.join()
	select {
	case <-round.done:
		return round.revision, round.err
	case <-ctx.Done():
		return 0, fmt.Errorf("read index: %w", ctx.Err())
	}
}

func (r *readIndex) join() *readRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &readRound{done: make(chan struct{})}
	}
	if !r.running {
		r.running = true
		go r.run()
	}
	return r.next
}

// run runs rounds for as long as reads wait for one.
func (r *readIndex) run() {
	for {
		r.mu.Lock()
		round := r.next
		r.next = nil
		r.running = round != nil
		r.mu.Unlock()
		if round == nil {
			return
		}
		ctx, cancel := context.WithTimeout(r.node.ctx, roundTimeout)
		round.revision, round.err = r.round(ctx)
		cancel()
		close(round.done)
	}
}

// round finds the newest command committed at its start, then makes sure that no
// newer leader had been elected by then: a majority that is still at this term
// after the commit index was read cannot have elected another leader before.
func (r *readIndex) round(ctx context.Context) (uint64, error) {
	n := r.node
	term, leads := n.leaderTerm()
	if !leads {
		return 0, ErrNotLeader
	}
	if r.barrierTerm != term {
		// A new leader knows what earlier terms committed only when an entry of
		// its own term is committed.
		if err := n.await(ctx, func() error { return n.raft.Barrier(roundTimeout).Error() }); err != nil {
			return 0, readError(err)
		}
		r.barrierTerm = term
	}
	revision, err := n.newestCommand(n.raft.CommitIndex())
	if err != nil {
		return 0, readError(err)
	}
	voters, err := n.voters()
	if err != nil {
		return 0, readError(err)
	}
	if err := r.voters.confirm(ctx, term, voters); err != nil {
		return 0, readError(err)
	}
	if now, leads := n.leaderTerm(); !leads || now != term {
		return 0, ErrNotLeader
	}
	return revision, nil
}

// leaderTerm returns the current term and whether the node leads in it. Raft
// leaves the state of leader before it takes a newer term, so a term that is the
// same before and after is the leader's.
func (n *Node) leaderTerm() (uint64, bool) {
	term := n.raft.CurrentTerm()
	leads := n.raft.State() == raft.Leader
	return term, leads && n.raft.CurrentTerm() == term
}

// newestCommand returns the index of the newest command at or below a committed
// index. The commit index itself will not do: no-ops and configuration entries
// never reach the state machine, so waiting for their index could wait for ever.
func (n *Node) newestCommand(committed uint64) (uint64, error) {
	applied := n.cfg.FSM.Revision()
	for index := committed; index > applied; index-- {
		var entry raft.Log
		err := n.store.GetLog(index, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			// A snapshot holds it and everything below, and so does the state machine.
			return n.cfg.FSM.Revision(), nil
		}
		if err != nil {
			return 0, fmt.Errorf("read log entry %d: %w", index, err)
		}
		if entry.Type == raft.LogCommand {
			return index, nil
		}
	}
	return applied, nil
}

func readError(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrRaftShutdown) {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("read index: %w", err)
}
