package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// writeTimeout bounds how long a call for the leader is repeated, and a write
	// altogether: the cluster forgets requests after a while.
	writeTimeout = 5 * time.Second
	retryDelay   = 50 * time.Millisecond
	// attemptTimeout bounds one attempt of a write that may be repeated: a leader that
	// hangs would otherwise keep it until there is no time left to ask the next one.
	attemptTimeout = 1500 * time.Millisecond
	// answerMargin is how long before its caller's deadline a call is answered at the
	// latest, or a tenth of what is left until then where that is less: at the deadline
	// the caller's own library ends the call, and does not say what became of it.
	answerMargin = 100 * time.Millisecond
)

// An origin is what the first node fixes of a call that the leader runs: it is the
// same in every attempt.
type origin struct {
	request fsm.ID // id of the request
	seed    seed
	peer    string // the caller's address
}

func originOf(ctx context.Context) (*origin, error) {
	request, err := requestID(ctx)
	return &origin{request, newSeed(), peerOf(ctx)}, err
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

// undecided is the error of an attempt that did not come to an answer.
type undecided struct {
	certain   bool // it did nothing, and will not
	exhausted bool // nor would another attempt soon
	cause     error
}

func (e *undecided) Error() string { return e.cause.Error() }

// Unwrap is the cause.
func (e *undecided) Unwrap() error { return e.cause }

func certainly(format string, args ...any) error {
	return &undecided{certain: true, cause: fmt.Errorf(format, args...)}
}

// lead has the leader run a call, here or on another node, again until there is
// an answer or time is up. The loop stands around both, since leadership may move
// at any moment.
func (s *Server) lead(ctx context.Context, c *call, r rule, handler grpc.UnaryHandler) (_ answer, err error) {
	if c.origin, err = originOf(ctx); err != nil {
		return answer{call: c}, err
	}
	trying, cancel := context.WithTimeout(ctx, patienceOf(ctx))
	defer cancel()
	if r.runs == asWrite {
		ctx = trying
	}
	var unknown error // why it is open what an attempt did
	for {
		// The state recognises a repetition, so what is not known may be asked for again.
		repeatable := r.runs == asWrite && s.store.State().RemembersRequests()
		a, err := s.attempt(ctx, c, handler, repeatable)
		u := (*undecided)(nil)
		switch {
		case errors.As(err, &u):
			if unknown == nil && !u.certain {
				unknown = u.cause
			}
		case err != nil && unknown != nil && !a.settled():
			// An attempt before may have ended the key itself, or be applied yet.
			return a, c.outcome(r, repeatable, unknown, fmt.Errorf("it is refused now: %s", reason(err)))
		default:
			if restored, ok := a.resp.(*clusterv1.CommitRestoreResponse); ok && err == nil {
				// Who looks at this node next is to see the data restored.
				_, _ = s.store.Wait(ctx, restored.Revision)
			}
			return a, err
		}
		if u.exhausted && unknown == nil {
			return a, status.Errorf(codes.ResourceExhausted, "the write was not applied: %s", reason(u.cause))
		}
		if unknown != nil && !repeatable || u.exhausted {
			return a, c.outcome(r, repeatable, unknown, u.cause)
		}
		select {
		case <-trying.Done():
			return a, c.outcome(r, repeatable, unknown, u.cause)
		case <-time.After(retryDelay):
		}
	}
}

// patienceOf is how long a call for the leader may take.
func patienceOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return writeTimeout
	}
	left := time.Until(deadline)
	return min(writeTimeout, left-min(answerMargin, left/10))
}

// outcome words the end of a call that did not come to an answer: for the last cause,
// and for an earlier one where that leaves open what was done.
func (c *call) outcome(r rule, repeatable bool, unknown, last error) error {
	what, look := "call", "look before you repeat it"
	if r.runs == asWrite {
		what, look = "write", "read before you repeat it"
		if repeatable {
			look = fmt.Sprintf("repeat it with %s %x, and it is done once", metadataRequestID, c.origin.request[:])
		}
	}
	if unknown == nil {
		return unavailable("the %s was not applied: %v; retry", what, reason(last))
	}
	why := reason(unknown)
	if then := reason(last); then != why {
		why += "; then " + then
	}
	return unavailable("the outcome of the %s is unknown: %v; %s", what, why, look)
}

// reason is an error's text, without the frame that a gRPC status puts around it.
func reason(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// attempt has the leader run the call once. An *undecided error means that there
// is no answer.
func (s *Server) attempt(ctx context.Context, c *call, handler grpc.UnaryHandler, repeatable bool) (answer, error) {
	if repeatable {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
	}
	conn, self, err := s.log.Leader(ctx)
	switch {
	case err != nil:
		return answer{call: c}, &undecided{certain: true, cause: err}
	case self:
		return s.runAsLeader(ctx, c, handler)
	default:
		return s.forward(ctx, conn, c)
	}
}

// runAsLeader runs a call on the leader. A write's answer that does not stand in
// the log, an early refusal, is that of this node's state, which need not be the
// newest: the node may have lost the lead without knowing it, and it applies
// commands no sooner than others. So the call is run again at a state that is the newest,
// unless the first one was.
func (s *Server) runAsLeader(ctx context.Context, c *call, handler grpc.UnaryHandler) (answer, error) {
	state := s.store.State()
	a, err := s.runAt(ctx, c, state, handler)
	u := (*undecided)(nil)
	if err == nil || a.settled() || errors.As(err, &u) || rules[methodOf(c.method)].runs != asWrite {
		return a, err
	}
	newest, confirmErr := s.newest(ctx)
	if confirmErr != nil {
		return a, certainly("%s; it was refused before: %s", reason(confirmErr), reason(err))
	}
	if newest.Revision <= state.Revision {
		return a, err
	}
	return s.runAt(ctx, c, newest, handler)
}

func (s *Server) runAt(ctx context.Context, c *call, state *fsm.State, handler grpc.UnaryHandler) (answer, error) {
	c, err := c.at(state)
	if err != nil {
		return answer{}, err
	}
	if m, ok := state.Remembered(c.key.ID, c.origin.request); ok {
		if resp, ok, err := c.recall(m); ok {
			return answer{resp: resp, call: c}, err
		}
	}
	resp, err := c.run(ctx, handler)
	// Another attempt may have been applied since the state.
	if r := (*repeated)(nil); errors.As(err, &r) {
		if newer, err := c.at(s.store.State()); err == nil {
			c = newer
		}
		resp, _, err = c.recall(r.memory)
	}
	return answer{resp: resp, call: c}, err
}
