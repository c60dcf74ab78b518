package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// leaveTimeout bounds the leaving of a node.
const leaveTimeout = 30 * time.Second

// Left is closed when the node has left its cluster. The process should end.
func (n *Node) Left() <-chan struct{} { return n.left }

// Leave makes a node leave the cluster and end; step is told what is under way. An
// empty id means this node. It fails with ErrUnreachable where the node is not there
// to do so, and with ErrRefused where the cluster would lose its quorum and force is
// not set.
func (n *Node) Leave(ctx context.Context, id string, force bool, step func(string)) error {
	if id == "" || id == n.ID() {
		return n.leave(ctx, force, step)
	}
	target, err := uuid.Parse(id)
	if err != nil {
		return refused("node id %q is no UUID", id)
	}
	stream, err := n.nodeClient(target).Leave(ctx, &nodev1.LeaveRequest{Force: force})
	if err != nil {
		return fmt.Errorf("node %s: %w: %s", id, ErrUnreachable, reasonOf(err))
	}
	began := false
	for {
		answer, err := stream.Recv()
		switch {
		case err == nil:
			began = true
			step(answer.GetStep())
			continue
		case errors.Is(err, io.EOF):
			return nil
		case status.Code(err) == codes.FailedPrecondition:
			return refusal(status.Convert(err).Message())
		case !began && status.Code(err) == codes.Unavailable:
			return fmt.Errorf("node %s: %w: %s", id, ErrUnreachable, reasonOf(err))
		case began && n.awaitRemoved(ctx, target):
			return nil // it ended before it could say so
		}
		return fmt.Errorf("node %s did not leave: %s", id, reasonOf(err))
	}
}

// awaitRemoved waits until the configuration known here has the node no longer.
func (n *Node) awaitRemoved(ctx context.Context, id uuid.UUID) bool {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		changed := n.leaders.changed()
		if servers, err := n.configuration(); err == nil {
			if _, isMember := find(servers, id); !isMember {
				return true
			}
		}
		if !n.awaitChange(ctx, changed) || n.Err() != nil {
			return false
		}
	}
}

// leave makes this node leave. What was begun goes on without the caller: half of it
// would leave a member that answers nobody.
func (n *Node) leave(ctx context.Context, force bool, step func(string)) (err error) {
	if !n.leaving.CompareAndSwap(false, true) {
		return refused("node %s is leaving already", n.id)
	}
	defer func() {
		if err != nil {
			n.leaving.Store(false)
		}
	}()
	if !n.HasState() {
		return refused("node %s belongs to no cluster", n.id)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if n.cfg.OnLeave != nil {
		n.cfg.OnLeave(true)
		defer func() {
			if err != nil {
				n.cfg.OnLeave(false)
				step("the node stays, and is there for clients again")
			}
		}()
		step("not ready for new clients")
	}
	if _, leads := n.leaderTerm(); leads {
		step("it is to be removed; another node is to lead first")
	} else {
		step("it is to be removed by the leader")
	}
	if err := n.Remove(ctx, n.ID(), force); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	if err := n.markLeft(); err != nil {
		return fmt.Errorf("the node is removed from the cluster, but its data folder cannot say so; wipe it before the node starts again: %w", err)
	}
	n.log.Info("the node has left its cluster")
	step("the node is removed from the cluster and ends")
	close(n.left)
	return nil
}

// Leave makes the node leave.
func (s nodeService) Leave(request *nodev1.LeaveRequest, stream grpc.ServerStreamingServer[nodev1.LeaveResponse]) error {
	if err := s.running(); err != nil {
		return err
	}
	if !s.node.HasState() { // it lost its data: the node that was a member is away for good
		return status.Error(codes.Unavailable, "it belongs to no cluster any more")
	}
	err := s.node.leave(stream.Context(), request.GetForce(), func(step string) {
		_ = stream.Send(&nodev1.LeaveResponse{Step: step}) // whoever asked may be gone
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrRefused):
		return status.Error(codes.FailedPrecondition, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}
