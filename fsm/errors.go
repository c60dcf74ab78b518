package fsm

import (
	"fmt"
	"strings"
)

// A Code classes an error by what the caller can do about it. The numbers are
// those of gRPC, which clients see.
type Code uint8

// The codes that this package uses.
const (
	CodeInvalidArgument    Code = 3
	CodeNotFound           Code = 5
	CodeAlreadyExists      Code = 6
	CodePermissionDenied   Code = 7
	CodeResourceExhausted  Code = 8
	CodeFailedPrecondition Code = 9
	CodeUnavailable        Code = 14
	CodeUnauthenticated    Code = 16
)

// An Error says what was wrong, with which value, and what to do. As the result
// of a command it is the same on every node.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

func errorf(code Code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// excerpt bounds a value that goes into a message.
func excerpt(s string) string { return cut(s, 256) }

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
