package server

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	freshnessInterval = time.Second
	startupInterval   = 20 * time.Millisecond
	healthInterval    = 20 * time.Millisecond // of looking whether the state is too old
)

// freshness knows how old the node's state may be: the time at which the node
// sent the newest read-index request whose revision it has applied. Hearing
// heartbeats would not do, since they carry no commit index.
type freshness struct {
	bound  time.Duration
	start  time.Time    // monotonic
	newest atomic.Int64 // nanoseconds since start; 0 before the first round
}

func newFreshness(bound time.Duration) *freshness {
	return &freshness{bound: bound, start: time.Now()}
}

// run makes rounds until the context ends, and tells of each.
func (f *freshness) run(ctx context.Context, log Log, store Store, tell func()) {
	for {
		interval := freshnessInterval
		if err := f.round(ctx, log, store); err != nil && f.started() != nil {
			interval = startupInterval
		}
		tell()
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func (f *freshness) round(ctx context.Context, log Log, store Store) error {
	// Shorter than the bound: a round that hangs must not make the node stale.
	ctx, cancel := context.WithTimeout(ctx, f.bound/4)
	defer cancel()
	sent := time.Since(f.start)
	revision, err := log.ReadIndex(ctx)
	if err != nil {
		return err
	}
	state, err := store.Wait(ctx, revision)
	if err != nil {
		return err
	}
	if state.Revision == 0 {
		return fmt.Errorf("the cluster is not initialised yet")
	}
	f.newest.Store(max(int64(sent), 1))
	return nil
}

// started fails before the first round.
func (f *freshness) started() error {
	if f.newest.Load() == 0 {
		return unavailable("this node is not ready: it has not heard from the leader since it started; retry, or ask another node")
	}
	return nil
}

// check fails if the node is not ready for default reads.
func (f *freshness) check() error {
	if err := f.started(); err != nil {
		return err
	}
	if age := time.Since(f.start) - time.Duration(f.newest.Load()); age > f.bound {
		return unavailable("this node's state may be %s old, %s at most are allowed: retry, or ask another node",
			age.Round(time.Millisecond), f.bound)
	}
	return nil
}

// Age is how old the state may be at most; -1 before the first round.
func (s *Server) Age() time.Duration {
	newest := s.fresh.newest.Load()
	if newest == 0 {
		return -1
	}
	return time.Since(s.fresh.start) - time.Duration(newest)
}
