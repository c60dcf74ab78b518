package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// MaxCommandSize is the largest command Apply takes, in bytes.
	MaxCommandSize = 1 << 20

	// enqueueTimeout is how long a command waits for its turn to enter the log.
	enqueueTimeout = 2 * time.Second
)

var (
	// ErrNotLeader means that this node is not the leader. A command that got
	// this answer is in no log; calls may be repeated, here or on the leader.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrNotApplied means that the command is certainly in no log: repeating it is safe.
	ErrNotApplied = errors.New("the command was not applied")
	// ErrUnknown means that the command may have been applied, or may yet be.
	ErrUnknown = errors.New("it is unknown whether the command was applied")
	// ErrTooLarge means that the command is larger than MaxCommandSize.
	ErrTooLarge = errors.New("the command is too large")
)

// Apply replicates a command and waits until it is durable and applied here; it
// works on the leader only. It returns what the state machine answered and the
// command's log index. The command must not be changed afterwards.
//
// An error is, by errors.Is, one of ErrNotLeader, ErrNotApplied, ErrUnknown and
// ErrTooLarge. One that is ErrLowDisk is ErrNotApplied too.
func (n *Node) Apply(ctx context.Context, command []byte) (result any, revision uint64, err error) {
	if len(command) > MaxCommandSize {
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(command), MaxCommandSize)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNotApplied, err)
	}
	if err := n.Err(); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNotApplied, err)
	}
	if n.raft.State() != raft.Leader {
		return nil, 0, ErrNotLeader
	}
	if err := n.disk.refusal(); err != nil {
		return nil, 0, err
	}
	var future raft.ApplyFuture
	err = n.await(ctx, func() error {
		future = n.raft.Apply(command, enqueueTimeout)
		return future.Error()
	})
	if err != nil {
		return nil, 0, applyError(err)
	}
	return future.Response(), future.Index(), nil
}

// applyError says what an error from Raft means for the command. Only the errors
// that Raft gives before it touches its log are certain; ErrRaftShutdown is not
// among them, since Raft gives it for committed commands too.
func applyError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: the log took no command for %s", ErrNotApplied, enqueueTimeout)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotApplied, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}
