package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
)

// newRaftLogger gives Raft a logger that writes to log: warnings and errors as
// they are, everything else at debug level or below.
func newRaftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off})
	l.RegisterSink(slogSink{log, &occasionally{}})
	return l
}

// slogSink takes hclog's records.
type slogSink struct {
	log   *slog.Logger
	quiet *occasionally // about what Raft says again and again
}

func (s slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch {
	case level >= hclog.Error && !closing(args):
		to = slog.LevelError
	case level == hclog.Warn && !ordinary(msg, args):
		to = slog.LevelWarn
	case level <= hclog.Debug:
		to = slog.LevelDebug - 4
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, to) {
		return
	}
	left := 0
	if to >= slog.LevelWarn {
		var tell bool
		if tell, left = s.quiet.again(msg + " " + aboutWhom(args)); !tell {
			return
		}
	}
	attrs := []any{"component", name}
	for i, arg := range args {
		if i%2 == 1 {
			arg = plain(arg)
		}
		attrs = append(attrs, arg)
	}
	if left > 0 {
		attrs = append(attrs, "left_out", left)
	}
	s.log.Log(ctx, to, msg, attrs...)
}

// aboutWhom is the node that a line of Raft is about; empty if it names none.
func aboutWhom(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "server-id", "from", "candidate", "target", "last-leader-id":
			return fmt.Sprint(plain(args[i+1]))
		}
	}
	return ""
}

// closing reports an error that comes of the node's own end.
func closing(args []any) bool {
	for _, arg := range args {
		if err, ok := arg.(error); ok && (errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)) {
			return true
		}
	}
	return false
}

// ordinary reports the two warnings that belong to every start: a node that has
// no cluster yet, and the first election of one that never knew a leader.
func ordinary(msg string, args []any) bool {
	switch msg {
	case "no known peers, aborting election":
		return true
	case "heartbeat timeout reached, starting election":
		for i := 0; i+1 < len(args); i += 2 {
			if args[i] == "last-leader-id" {
				return fmt.Sprint(args[i+1]) == ""
			}
		}
	}
	return false
}

// plain turns a value into one that every slog handler prints the same; Raft
// passes formats, servers and itself.
func plain(v any) any {
	switch v := v.(type) {
	case string, bool, int, int64, uint64, time.Duration, error:
		return v
	case hclog.Format:
		if len(v) > 0 {
			return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
		}
	}
	return fmt.Sprint(v)
}
