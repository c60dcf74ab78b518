package server

import (
	"context"
	"strings"
	"time"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	// readTimeout bounds how long a read waits for a newer state where the caller sets
	// no deadline.
	readTimeout = 5 * time.Second
	// maxWaitingReads bounds the reads that wait at one time.
	maxWaitingReads = 10_000
)

// A reader is a request that reads. It has the field consistency too.
type reader interface{ GetToken() string }

// readState returns the state that the request may be answered from.
func (s *Server) readState(ctx context.Context, r reader) (*fsm.State, error) {
	mode, text, err := consistencyOf(ctx, r)
	if err != nil {
		return nil, err
	}
	switch mode {
	case permissionsv1.Consistency_AT_LEAST_AS_FRESH:
		return s.readAtLeast(ctx, text)
	case permissionsv1.Consistency_FULLY_CONSISTENT:
		return s.readNewest(ctx)
	default:
		if err := s.fresh.check(); err != nil {
			return nil, err
		}
		return s.store.State(), nil
	}
}

// consistencyField reads the field: each service has an enum of its own, with
// the same numbers.
func consistencyField(r reader) permissionsv1.Consistency {
	switch r := r.(type) {
	case interface {
		GetConsistency() permissionsv1.Consistency
	}:
		return r.GetConsistency()
	case interface {
		GetConsistency() organisationv1.Consistency
	}:
		return permissionsv1.Consistency(r.GetConsistency())
	}
	return permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED
}

// consistencyOf reads the mode and token from the request's fields, or else
// from metadata. A token alone asks for at_least_as_fresh.
func consistencyOf(ctx context.Context, r reader) (mode permissionsv1.Consistency, text string, err error) {
	if mode = consistencyField(r); mode == permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED {
		name, err := single(ctx, metadataConsistency)
		if err != nil {
			return 0, "", err
		}
		if name != "" {
			n, ok := permissionsv1.Consistency_value[strings.ToUpper(name)]
			if !ok {
				return 0, "", invalid("unknown consistency %s: it is minimize_latency, at_least_as_fresh or fully_consistent", quote(name))
			}
			mode = permissionsv1.Consistency(n)
		}
	}
	text = r.GetToken()
	switch {
	case text == "":
		if text, err = single(ctx, metadataToken); err != nil {
			return 0, "", err
		}
	case mode == permissionsv1.Consistency_MINIMIZE_LATENCY && consistencyField(r) != mode:
		mode = permissionsv1.Consistency_AT_LEAST_AS_FRESH // the field wins over the header
	}
	if _, known := permissionsv1.Consistency_name[int32(mode)]; !known {
		return 0, "", invalid("unknown consistency %d: it is MINIMIZE_LATENCY, AT_LEAST_AS_FRESH or FULLY_CONSISTENT", mode)
	}
	if mode == permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED && text != "" {
		mode = permissionsv1.Consistency_AT_LEAST_AS_FRESH
	}
	return mode, text, nil
}

func (s *Server) readAtLeast(ctx context.Context, text string) (*fsm.State, error) {
	if text == "" {
		return nil, invalid("at_least_as_fresh needs a token: send the one of an earlier answer")
	}
	t, ok := parseToken(text)
	if !ok {
		return nil, invalid("malformed token %s: send one exactly as an answer gave it", quote(text))
	}
	state := s.store.State()
	if t.cluster != state.Cluster {
		return nil, invalid("token %s is of another cluster", quote(text))
	}
	if t.revision > state.Revision {
		ctx, done, err := s.waiting(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		// A revision that the cluster has not reached would be waited for in vain.
		newest, err := s.readIndex(ctx)
		if err != nil {
			return nil, err
		}
		if state, err = s.store.Wait(ctx, min(t.revision, newest)); err != nil {
			return nil, err
		}
		if t.revision > newest && t.epoch == state.Epoch {
			return nil, invalid("token %s is ahead of the cluster, which is at revision %d", quote(text), newest)
		}
	}
	// Judged only there, since the token may be from after a restore that this node
	// had not seen.
	if t.epoch != state.Epoch {
		return nil, invalid("token %s is from before the cluster's data was restored: drop it and read again", quote(text))
	}
	return state, nil
}

func (s *Server) readNewest(ctx context.Context) (*fsm.State, error) {
	ctx, done, err := s.waiting(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.newest(ctx)
}

// waiting counts a read that waits until done is called, and bounds its time.
func (s *Server) waiting(ctx context.Context) (_ context.Context, done func(), err error) {
	if s.reads.Add(1) > maxWaitingReads {
		s.reads.Add(-1)
		return nil, nil, unavailable("%d reads wait for a newer state on this node already: retry, or ask another node", maxWaitingReads)
	}
	ctx, cancel := withReadTimeout(ctx)
	return ctx, func() {
		cancel()
		s.reads.Add(-1)
	}, nil
}

// newest returns a state with all that was acknowledged before, in the whole
// cluster.
func (s *Server) newest(ctx context.Context) (*fsm.State, error) {
	revision, err := s.readIndex(ctx)
	if err != nil {
		return nil, err
	}
	return s.store.Wait(ctx, revision)
}

func (s *Server) readIndex(ctx context.Context) (uint64, error) {
	revision, err := s.log.ReadIndex(ctx)
	if err != nil {
		return 0, unavailable("the leader did not confirm a read: %v; retry", err)
	}
	return revision, nil
}

func withReadTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, readTimeout)
}
