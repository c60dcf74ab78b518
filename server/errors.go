package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/remit-io/remit/fsm"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrNotApplied marks a failed Log.Apply whose command will never be applied,
// so that it may be tried again.
var ErrNotApplied = errors.New("the command was not applied")

// ErrExhausted marks a failed Log.Apply whose command will never be applied, and that
// is of no use to try again before somebody has made room.
var ErrExhausted = errors.New("the log takes no writes")

// ErrMayBeMade marks a change of the cluster's members of which that is open.
var ErrMayBeMade = errors.New("the change may have been made")

// ErrUnreachable marks a node of the cluster that did not answer.
var ErrUnreachable = errors.New("the node cannot be reached")

// statusOf is the one place where errors become gRPC's. REST derives its own
// from them.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if u := (*undecided)(nil); errors.As(err, &u) {
		return unavailable("%s", reason(u.cause))
	}
	if e := (*fsm.Error)(nil); errors.As(err, &e) {
		return status.Error(codes.Code(e.Code), e.Message)
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, ErrNotApplied), errors.Is(err, ErrMayBeMade), errors.Is(err, ErrUnreachable):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	default:
		return status.Error(codes.Internal, err.Error())
	}
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func notFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format, args...)
}

func unavailable(format string, args ...any) error {
	return status.Errorf(codes.Unavailable, format, args...)
}

func unauthenticated(format string, args ...any) error {
	return status.Errorf(codes.Unauthenticated, format, args...)
}

// tooMuch words an answer that would be larger than clients accept.
func tooMuch(format string, principal, uri string) error {
	return status.Errorf(codes.ResourceExhausted, format, quote(principal), quote(uri))
}

// quote words a value of the caller's in a message, of bounded length.
func quote(s string) string {
	if len(s) > 256 {
		return fmt.Sprintf("%q…", s[:256])
	}
	return fmt.Sprintf("%q", s)
}
