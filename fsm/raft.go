package fsm

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// This file is all that raft sees of the state.

var _ raft.BatchingFSM = (*Store)(nil)

// ApplyBatch applies the commands of one batch and publishes one state, and one
// more at each checkpoint. The results are of type Result, nil for entries that
// are no commands.
func (s *Store) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	b, last := newBatch(s.State()), uint64(0)
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		c, err := DecodeCommand(log.Data)
		if err != nil {
			s.fail(fmt.Errorf("apply revision %d: %w", log.Index, err))
		}
		results[i] = b.apply(c, log.Index)
		last = log.Index
		if b.checkpoint {
			state := b.finish(last)
			s.checkpoint.Store(state)
			s.publish(state)
			b, last = newBatch(state), 0
		}
	}
	if last > 0 {
		s.publish(b.finish(last))
	}
	return results
}

// Apply applies one command.
func (s *Store) Apply(log *raft.Log) any { return s.ApplyBatch([]*raft.Log{log})[0] }

// Snapshot takes the newest state, at no cost: it never changes.
func (s *Store) Snapshot() (raft.FSMSnapshot, error) { return snapshot{s.State()}, nil }

// Restore replaces the state by a snapshot's, once all of it is verified, and never
// by an older one.
func (s *Store) Restore(r io.ReadCloser) error {
	defer r.Close()
	state, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	if newest := s.State().Revision; state.Revision < newest {
		return fmt.Errorf("the snapshot is of revision %d and the state of %d: it would go back", state.Revision, newest)
	}
	s.publish(state)
	return nil
}

// Recovering returns the state machine for raft.RecoverCluster: what it takes a
// snapshot of begins a new history, under the epoch, so that no token of the
// old one is taken for one of the new.
func (s *Store) Recovering(epoch Epoch) raft.FSM { return &recovering{s, epoch} }

type recovering struct {
	*Store
	epoch Epoch
}

// Snapshot takes the newest state into the new epoch.
func (r *recovering) Snapshot() (raft.FSMSnapshot, error) {
	state := *r.State()
	if state.Cluster == (ID{}) {
		return nil, fmt.Errorf("there is nothing to recover: this node's log and snapshots hold no state")
	}
	state.Epoch = r.epoch
	return snapshot{&state}, nil
}

func (s *Store) fail(err error) {
	s.halt(err)
	panic(err) // halt must not return
}

type snapshot struct{ state *State }

// Persist streams the state to raft's sink.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.state.WriteSnapshot(sink); err != nil {
		sink.Cancel()
		return fmt.Errorf("write the snapshot of revision %d: %w", s.state.Revision, err)
	}
	return sink.Close()
}

// Release is for raft; there is nothing to release.
func (snapshot) Release() {}
