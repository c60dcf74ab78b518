package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// errLeaderMoved is what a leader answers that handed leadership over because it is
// itself to be removed or demoted.
var errLeaderMoved = fmt.Errorf("%w any more: it handed over, since it is to lose its vote itself", ErrNotLeader)

// Remove takes a node out of the cluster and waits until that is committed. The leader
// does it, and hands leadership over first where it is itself the one; any other node
// has itself removed only, and answers ErrNotLeader for others. What would lose the quorum is refused unless forced; the last voter always
// stays. A node that is no member is none afterwards.
func (n *Node) Remove(ctx context.Context, id string, force bool) error {
	return n.askRemoval(ctx, &nodev1.RemoveRequest{Id: id, Force: force})
}

// Demote takes a voter's vote, by the same rules; it stays a member, and nothing
// gives it a vote but Promote, or Add for a node that asks again.
func (n *Node) Demote(ctx context.Context, id string, force bool) error {
	return n.askRemoval(ctx, &nodev1.RemoveRequest{Id: id, Force: force, VoteOnly: true})
}

// askRemoval has the leader do it. For itself the node asks again and again until one
// has done it or refused it: done twice it is as if done once.
func (n *Node) askRemoval(ctx context.Context, request *nodev1.RemoveRequest) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for {
		changed := n.leaders.changed()
		err := n.tryRemoval(ctx, request)
		if !errors.Is(err, ErrNotLeader) || request.GetId() != n.ID() {
			return err
		}
		if !n.awaitChange(ctx, changed) || n.Err() != nil {
			return err
		}
	}
}

// tryRemoval asks the leader, or, where none is known, every other member, since a
// node that is removed already hears of no leader. Its error is ErrNotLeader where
// asking again may help.
func (n *Node) tryRemoval(ctx context.Context, request *nodev1.RemoveRequest) error {
	if _, leads := n.leaderTerm(); leads {
		return n.remove(ctx, request)
	}
	if request.GetId() != n.ID() { // nodes do not take orders from each other about third ones
		return ErrNotLeader
	}
	var asked []uuid.UUID
	if leader, ok := n.otherLeader(); ok {
		asked = append(asked, leader)
	} else if servers, err := n.configuration(); err == nil {
		asked = slices.DeleteFunc(voterIDs(servers), func(id uuid.UUID) bool { return id == n.id })
	}
	err := fmt.Errorf("%w: no leader is known", ErrNotLeader)
	for _, id := range asked {
		_, answer := n.nodeClient(id).Remove(ctx, request)
		switch s := status.Convert(answer); s.Code() {
		case codes.OK:
			return nil
		case codes.FailedPrecondition:
			return refusal(s.Message())
		case codes.Unavailable:
			err = fmt.Errorf("%w: %s", ErrNotLeader, reasonOf(answer))
		default:
			return fmt.Errorf("node %s: %s", id, s.Message())
		}
	}
	return err
}

// remove does it on the leader.
func (n *Node) remove(ctx context.Context, request *nodev1.RemoveRequest) error {
	id, err := uuid.Parse(request.GetId())
	if err != nil {
		return refused("node id %q is no UUID", request.GetId())
	}
	unlock, err := n.lockMembers(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.lead(ctx); err != nil {
		return err
	}
	servers, err := n.configuration()
	if err != nil {
		return err
	}
	server, isMember := find(servers, id)
	switch {
	case !isMember:
		n.peers.forget(id)
		return nil
	case server.Suffrage != raft.Voter && request.GetVoteOnly():
		return nil
	case server.Suffrage == raft.Voter:
		if err := n.mayLose(ctx, id, voterIDs(servers), request.GetForce()); err != nil {
			return err
		}
	}
	if id == n.id {
		if _, err := n.transfer(ctx, servers, uuid.Nil); err != nil {
			return fmt.Errorf("hand leadership over first: %w", err)
		}
		return errLeaderMoved
	}
	if request.GetVoteOnly() {
		if err := n.change(ctx, n.demoteVoter, id); err != nil {
			return err
		}
		n.log.Info("member lost its vote", "member", id, "forced", request.GetForce())
		return nil
	}
	if err := n.change(ctx, n.removeServer, id); err != nil {
		return err
	}
	n.peers.forget(id)
	n.log.Info("member removed", "member", id, "forced", request.GetForce())
	return nil
}

func (n *Node) demoteVoter(id raft.ServerID, _ raft.ServerAddress, previous uint64, timeout time.Duration) raft.IndexFuture {
	return n.raft.DemoteVoter(id, previous, timeout)
}

func (n *Node) removeServer(id raft.ServerID, _ raft.ServerAddress, previous uint64, timeout time.Duration) raft.IndexFuture {
	return n.raft.RemoveServer(id, previous, timeout)
}

// mayLose refuses the loss of a voter after which the voters that follow this leader
// now were no majority of those that remain.
func (n *Node) mayLose(ctx context.Context, id uuid.UUID, voters []uuid.UUID, force bool) error {
	rest := slices.DeleteFunc(slices.Clone(voters), func(v uuid.UUID) bool { return v == id })
	if len(rest) == 0 {
		return refused("node %s is the last voter of the cluster, which cannot be without one", id)
	}
	if force {
		return nil
	}
	need := len(rest)/2 + 1
	following, _ := n.followers(ctx, rest, need)
	if err := ctx.Err(); err != nil { // then their silence says nothing
		return err
	}
	if following < need {
		return refused("without node %s the cluster has %d voters, of which %d must be there to write anything, and %d can be reached and have caught up now: bring the others back first, or force it",
			id, len(rest), need, following)
	}
	return nil
}

// Remove removes the member that asks for it, on the leader. Who is to be removed by
// others is for operators to say, over the API.
func (s nodeService) Remove(ctx context.Context, request *nodev1.RemoveRequest) (*nodev1.RemoveResponse, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	caller, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if request.GetId() != caller.String() {
		return nil, status.Errorf(codes.PermissionDenied, "node %s asks to remove node %q: a node may ask for itself alone", caller, request.GetId())
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	switch err := s.node.remove(ctx, request); {
	case err == nil:
		return &nodev1.RemoveResponse{}, nil
	case errors.Is(err, ErrRefused):
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	default:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
}
