package fsm

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
)

// Epoch names one history of a cluster.
type Epoch = ID

// maxWaiters bounds the reads that wait for a revision at one time.
const maxWaiters = 10_000

// A Store publishes states: the newest one to whoever asks, and each to those
// who wait for its revision. Only raft's goroutine writes to it.
type Store struct {
	state      atomic.Pointer[State]
	checkpoint atomic.Pointer[State] // as of the newest Checkpoint command applied here
	halt       func(error)

	mu      sync.Mutex
	waiters waiterHeap
}

// NewStore returns a store with the empty state. halt is called, and must not
// return, when a command or snapshot cannot be applied: to go on without it
// would be another state than the other nodes'.
func NewStore(halt func(error)) *Store {
	s := &Store{halt: halt}
	s.state.Store(&State{})
	return s
}

// State returns the newest state. It never blocks.
func (s *Store) State() *State { return s.state.Load() }

// Revision is that of the newest state.
func (s *Store) Revision() uint64 { return s.State().Revision }

// Wait returns a state with at least the revision, as soon as there is one,
// whatever its epoch. It fails with an *Error: too many waiting, or the context's
// end.
func (s *Store) Wait(ctx context.Context, revision uint64) (*State, error) {
	for {
		state := s.State()
		if state.Revision >= revision {
			return state, nil
		}
		if err := s.await(ctx, state, revision); err != nil {
			return nil, err
		}
	}
}

// Checkpoint returns the state that the Checkpoint command of this revision
// published, as soon as it has. It fails with an *Error where this node does not
// keep that state: only the newest checkpoint's is kept, and a node that caught
// up by a snapshot never had it.
func (s *Store) Checkpoint(ctx context.Context, revision uint64) (*State, error) {
	for {
		state := s.State() // before the checkpoint, which is kept before it is published
		if kept := s.checkpoint.Load(); kept != nil && kept.Revision == revision {
			return kept, nil
		}
		if state.Revision >= revision {
			return nil, errorf(CodeFailedPrecondition, "this node, at revision %d, does not keep the checkpoint of revision %d: "+
				"it passed it by a snapshot, or another checkpoint came: make a new one", state.Revision, revision)
		}
		if err := s.await(ctx, state, revision); err != nil {
			return nil, err
		}
	}
}

// await waits until there is a state of the revision, or another one than the one
// seen came before it could.
func (s *Store) await(ctx context.Context, seen *State, revision uint64) error {
	w, err := s.enlist(seen, revision)
	if err != nil {
		return err
	}
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
		s.leave(w)
		return errorf(CodeUnavailable, "this node is at revision %d and did not reach %d in time: retry, or ask another node",
			s.Revision(), revision)
	}
}

// enlist returns a waiter for the revision. It is woken at once where the state
// is no longer the one that its caller has seen.
func (s *Store) enlist(seen *State, revision uint64) (*waiter, *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiters) >= maxWaiters {
		return nil, errorf(CodeUnavailable, "%d reads wait for a newer state on this node already: retry, or ask another node", maxWaiters)
	}
	w := &waiter{revision: revision, reached: make(chan struct{})}
	if s.State() == seen {
		heap.Push(&s.waiters, w)
	} else {
		w.place = -1
		close(w.reached)
	}
	return w, nil
}

func (s *Store) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.place >= 0 {
		heap.Remove(&s.waiters, w.place)
	}
}

func (s *Store) publish(state *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.State()
	s.state.Store(state)
	if kept := s.checkpoint.Load(); kept != nil && kept.Epoch != state.Epoch {
		s.checkpoint.Store(nil)
	}
	state.restore.follow(before.restore)
	for len(s.waiters) > 0 && s.waiters[0].revision <= state.Revision {
		close(heap.Pop(&s.waiters).(*waiter).reached)
	}
}

type waiter struct {
	revision uint64
	reached  chan struct{}
	place    int // in the heap; -1 once woken
}

// A waiterHeap has the lowest revision first.
type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].revision < h[j].revision }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for container/heap.
func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.place = len(*h)
	*h = append(*h, w)
}

// Pop is for container/heap.
func (h *waiterHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h, w.place = (*h)[:last], -1
	return w
}
