package server

import (
	"context"
	"errors"
	"time"

	"github.com/remit-io/remit/fsm"
)

// write replicates what a call asks for and returns its result with the token
// of the state that it led to. Its error may be *undecided.
func (s *Server) write(ctx context.Context, body fsm.Body) (fsm.Result, string, error) {
	c := callOf(ctx)
	command := &fsm.Command{
		Envelope: fsm.Envelope{
			Request: c.origin.request, Key: c.key.ID, Actor: c.actor(), Peer: c.origin.peer,
			Time: time.Now().UnixMilli(), Requires: c.requires,
		},
		Body: body,
	}
	if c.state.RemembersRequests() {
		command.Envelope.Content = c.content()
	}
	// What the state refuses already need not go into the log.
	if err := c.state.Refuses(command); err != nil {
		return fsm.Result{}, "", err
	}
	data, err := command.Encode()
	if err != nil {
		return fsm.Result{}, "", err
	}
	applied, revision, err := s.log.Apply(ctx, data)
	if err != nil {
		exhausted := errors.Is(err, ErrExhausted)
		return fsm.Result{}, "", &undecided{certain: exhausted || errors.Is(err, ErrNotApplied), exhausted: exhausted, cause: err}
	}
	// The epoch of before: if the data was restored meanwhile, the token is refused
	// rather than taken for one of the data restored.
	c.settled, c.token = true, token{c.state.Cluster, c.state.Epoch, revision}.String()
	result := applied.(fsm.Result)
	if result.Repeated {
		if _, ok, _ := c.recall(*result.Memory); ok {
			return fsm.Result{}, "", &repeated{*result.Memory}
		}
	}
	if result.Err != nil {
		return fsm.Result{}, "", result.Err
	}
	return result, c.token, nil
}

// propose replicates a command of the cluster's own. Its error is an *fsm.Error where
// the command came into the log and was refused there.
func (s *Server) propose(ctx context.Context, body fsm.Body) error {
	command := fsm.Command{Envelope: fsm.Envelope{Request: NewID(), Time: time.Now().UnixMilli()}, Body: body}
	data, err := command.Encode()
	if err != nil {
		return err
	}
	result, _, err := s.log.Apply(ctx, data)
	if err != nil {
		return err
	}
	if r := result.(fsm.Result); r.Err != nil {
		return r.Err
	}
	return nil
}

const (
	sweepInterval = time.Second
	sweepLimit    = 500 // of one command: some milliseconds of everyone's time
	sweepTurn     = 8   // commands before it is another project's turn
)

// sweep removes what deletes left behind, step by step. Only the leader's
// commands go through; on the other nodes the first refusal ends a round.
func (s *Server) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.swept:
		case <-time.After(sweepInterval):
		}
		for s.sweepAll(ctx) {
		}
	}
}

// sweepAll gives each project that needs it a turn, and the keys, and reports
// whether there is more to do. In turns, since whoever goes on deleting would
// otherwise have the sweeper to himself.
func (s *Server) sweepAll(ctx context.Context) (more bool) {
	state := s.store.State()
	for scope := range state.Sweeping() {
		unfinished, err := s.sweepSteps(ctx, &fsm.Sweep{Scope: scope, Limit: sweepLimit}, func(state *fsm.State) bool { return !state.IsSweeping(scope) })
		if err != nil {
			return false
		}
		more = more || unfinished
	}
	if state.SweepingKeys() {
		unfinished, err := s.sweepSteps(ctx, &fsm.SweepKeys{Limit: sweepLimit}, func(state *fsm.State) bool { return !state.SweepingKeys() })
		if err != nil {
			return false
		}
		more = more || unfinished
	}
	return more
}

// sweepSteps takes one turn.
func (s *Server) sweepSteps(ctx context.Context, step fsm.Body, done func(*fsm.State) bool) (unfinished bool, err error) {
	for range sweepTurn {
		if done(s.store.State()) {
			return false, nil
		}
		if err := s.propose(ctx, step); err != nil {
			s.logger.Debug("the sweep waits", "reason", err)
			return true, err
		}
	}
	return !done(s.store.State()), nil
}

// wakeSweeper lets the sweeper begin at once.
func (s *Server) wakeSweeper() {
	select {
	case s.swept <- struct{}{}:
	default:
	}
}
