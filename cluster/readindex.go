package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// roundTimeout bounds one read-index round.
const roundTimeout = 5 * time.Second

// readRounds gives reads the revision they have to wait for. Reads share rounds:
// one round runs at a time, and a read joins only a round that starts after it
// arrived, so everything acknowledged before the read is in the round's answer.
type readRounds struct {
	ctx   context.Context // of the node
	round func(ctx context.Context) (uint64, error)

	mu      sync.Mutex
	next    *readRound // the round that has not started, if any read waits for it
	running bool       // a goroutine runs the rounds
}

type readRound struct {
	done     chan struct{}
	revision uint64
	err      error
}

func newReadRounds(ctx context.Context, round func(context.Context) (uint64, error)) *readRounds {
	return &readRounds{ctx: ctx, round: round}
}

// ReadIndex returns a revision at or after everything acknowledged before the
// call, in the whole cluster: a state at that revision or later is a linearizable
// answer. It does not wait for the revision to be applied.
//
// It is the leader that knows: a node that does not lead asks it, one request at a
// time for all reads that wait, and where none is known waits for one, five
// seconds at most. The error is then ErrNotLeader.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if err := n.Err(); err != nil { // Raft leads for a moment longer
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if n.raft.State() == raft.Leader {
		revision, err := n.leaderReads.read(ctx)
		if !errors.Is(err, ErrNotLeader) {
			return revision, err
		}
	}
	if !n.HasState() {
		return 0, fmt.Errorf("%w: the node belongs to no cluster yet", ErrNotLeader)
	}
	return n.reads.read(ctx)
}

// read joins a round and waits for it.
func (r *readRounds) read(ctx context.Context) (uint64, error) {
	round := r.join()
	select {
	case <-round.done:
		return round.revision, round.err
	case <-ctx.Done():
		return 0, fmt.Errorf("read index: %w", ctx.Err())
	}
}

func (r *readRounds) join() *readRound {
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
func (r *readRounds) run() {
	for {
		r.mu.Lock()
		round := r.next
		r.next = nil
		r.running = round != nil
		r.mu.Unlock()
		if round == nil {
			return
		}
		ctx, cancel := context.WithTimeout(r.ctx, roundTimeout)
		round.revision, round.err = r.round(ctx)
		cancel()
		close(round.done)
	}
}

// leaderRound finds the newest command committed at its start, then makes sure that
// no newer leader had been elected by then: a majority that is still at this term
// after the commit index was read cannot have elected another leader before. The
// configuration is read after the commit index: a voter that a newer leader could
// have been elected by is then among those asked.
func (n *Node) leaderRound(ctx context.Context) (uint64, error) {
	term, leads := n.leaderTerm()
	if !leads {
		return 0, ErrNotLeader
	}
	n.rounds.Add(1)
	if err := n.barrier(ctx, term); err != nil {
		return 0, readError(err)
	}
	revision, err := n.newestCommand(n.raft.CommitIndex())
	if err != nil {
		return 0, readError(err)
	}
	voters, err := n.voters()
	if err != nil {
		return 0, readError(err)
	}
	err = n.confirmer.confirm(ctx, term, voters)
	if now, leads := n.leaderTerm(); !leads || now != term {
		return 0, ErrNotLeader
	}
	if err != nil {
		return 0, readError(err)
	}
	return revision, nil
}

// askedRound asks the leader. It asks again when the leader has changed or failed
// to answer: each request is sent after the round began, so any answer will do.
func (n *Node) askedRound(ctx context.Context) (uint64, error) {
	for {
		changed := n.leaders.changed()
		var revision uint64
		err := errors.New("no leader is known")
		if n.raft.State() == raft.Leader {
			revision, err = n.leaderReads.read(ctx)
		} else if id, ok := n.otherLeader(); ok {
			revision, err = n.askLeader(ctx, id, changed)
		}
		if err == nil {
			return revision, nil
		}
		if ended := n.Err(); ended != nil {
			return 0, fmt.Errorf("%w: %w", ErrNotLeader, ended)
		}
		if !n.awaitChange(ctx, changed) {
			return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
	}
}

// askLeader asks a node for its read index until the leader changes: one that has
// stopped without a word answers nothing.
func (n *Node) askLeader(ctx context.Context, leader uuid.UUID, changed <-chan struct{}) (uint64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	answered := make(chan struct{})
	defer close(answered)
	defer cancel(nil)
	go func() {
		select {
		case <-changed:
			cancel(errors.New("another leader is being elected"))
		case <-answered:
		}
	}()
	answer, err := n.nodeClient(leader).ReadIndex(ctx, &nodev1.ReadIndexRequest{})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return 0, fmt.Errorf("the leader %s did not say: %s", leader, reasonOf(err))
	}
	return answer.GetRevision(), nil
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
