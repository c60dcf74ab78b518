package fsm

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// This file is all that raft sees of the state.

var _ raft.BatchingFSM = (*Store)(nil)

// ApplyBatch applies the commands of one batch and publishes one state. The
// results are of type Result, nil for entries that are no commands.
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
		results[i] = b.apply(c)
		last = log.Index
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

// Restore replaces the state by a snapshot's, once all of it is verified.
func (s *Store) Restore(r io.ReadCloser) error {
	defer r.Close()
	state, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	s.publish(state)
	return nil
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
