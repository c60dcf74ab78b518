package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/remit-io/remit/fsm"
)

const (
	// writeTimeout bounds how long a write is retried where the caller sets no
	// deadline, and that at all: the cluster forgets requests after a while.
	writeTimeout = 5 * time.Second
	retryDelay   = 50 * time.Millisecond
)

// NewID draws an id.
func NewID() fsm.ID {
	var id fsm.ID
	rand.Read(id[:])                                // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // as UUIDs of version 4
	return id
}

// write replicates what a call asks for and returns its result with the token
// of the state that it led to.
func (s *Server) write(ctx context.Context, body fsm.Body) (fsm.Result, string, error) {
	c := callOf(ctx)
	request, err := requestID(ctx)
	if err != nil {
		return fsm.Result{}, "", err
	}
	command := &fsm.Command{
		Envelope: fsm.Envelope{
			Request: request, Key: c.key.ID, Actor: c.actor(), Peer: peerOf(ctx),
			Time: time.Now().UnixMilli(), Requires: c.requires,
		},
		Body: body,
	}
	// What the newest state refuses already need not go into the log.
	state := s.store.State()
	if err := state.Refuses(command); err != nil {
		return fsm.Result{}, "", err
	}
	result, revision, err := s.propose(ctx, command)
	if err != nil {
		return fsm.Result{}, "", err
	}
	if result.Err != nil {
		return fsm.Result{}, "", result.Err
	}
	return result, token{state.Cluster, state.Epoch, revision}.String(), nil
}

// propose puts a command through the log, again if it certainly was not
// applied, until there is a result or time is up.
func (s *Server) propose(ctx context.Context, command *fsm.Command) (fsm.Result, uint64, error) {
	data, err := command.Encode()
	if err != nil {
		return fsm.Result{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		result, revision, err := s.log.Apply(ctx, data)
		if err == nil {
			return result.(fsm.Result), revision, nil
		}
		if !errors.Is(err, ErrNotApplied) {
			return fsm.Result{}, 0, unavailable("the outcome of the write is unknown: %v; read before you repeat it", err)
		}
		select {
		case <-ctx.Done():
			return fsm.Result{}, 0, unavailable("the write was not applied: %v; retry", err)
		case <-time.After(retryDelay):
		}
	}
}

// requestID returns the id that the caller chose for the request, or draws one.
func requestID(ctx context.Context) (fsm.ID, error) {
	text, err := single(ctx, metadataRequestID)
	if err != nil {
		return fsm.ID{}, err
	}
	if text == "" {
		return NewID(), nil
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(fsm.ID{}) {
		return fsm.ID{}, invalid("invalid remit-request-id %s: send 16 random bytes as 32 hexadecimal digits", quote(text))
	}
	return fsm.ID(b), nil
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
		command := fsm.Command{Envelope: fsm.Envelope{Request: NewID(), Time: time.Now().UnixMilli()}, Body: step}
		data, err := command.Encode()
		var result any
		if err == nil {
			result, _, err = s.log.Apply(ctx, data)
		}
		if r, ok := result.(fsm.Result); ok && r.Err != nil {
			err = r.Err
		}
		if err != nil {
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
