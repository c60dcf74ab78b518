package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

const joinMethod = "ClusterService/Join"

// isPublic reports whether a method needs no key here. Join is open to everybody on a
// node without a cluster, which has no keys to judge by: the cluster to be joined does.
func (s *Server) isPublic(method string) bool {
	return public[method] || method == joinMethod && s.cluster != nil && !s.cluster.HasCluster()
}

// Join makes this node, which belongs to no cluster, join one. On a member it goes on
// with a joining that was cut short.
func (s *Server) Join(req *clusterv1.JoinRequest, stream grpc.ServerStreamingServer[clusterv1.JoinResponse]) error {
	ctx := stream.Context()
	if req.Address == "" {
		return invalid("no address is given: name the gossip address, host:port, of any node of the cluster to join")
	}
	credential, err := credentialOf(ctx)
	if err != nil {
		return err
	}
	var reached *clusterv1.AddMemberResponse // by the last attempt
	steps := newSteps(stream, func(step string) *clusterv1.JoinResponse {
		return &clusterv1.JoinResponse{Step: step, AppliedRevision: reached.GetAppliedRevision(), TargetRevision: reached.GetLeaderRevision()}
	})
	add := func(ctx context.Context, conn grpc.ClientConnInterface, node NewMember) (bool, error) {
		ctx = metadata.AppendToOutgoingContext(ctx, metadataAuthorization, credential)
		resp, err := clusterv1.NewClusterServiceClient(conn).AddMember(ctx, &clusterv1.AddMemberRequest{
			Id: node.ID, Replica: node.Replica, SupportedLevel: node.Level, RaftAddress: node.RaftAddr, New: node.New,
		})
		if err != nil {
			return false, err
		}
		step := "catching up, then it gets its vote"
		switch {
		case resp.Done && node.Replica:
			step = "member of the cluster, as a replica"
		case resp.Done:
			step = "member of the cluster, with a vote"
		case node.Replica:
			step = "catching up"
		}
		reached = resp
		steps.step(step)
		return resp.Done, nil
	}
	if err := s.cluster.Join(ctx, req.Address, add, steps.step); err != nil {
		return err
	}
	return steps.err()
}

// Leave makes a node leave the cluster and end.
func (s *Server) Leave(req *clusterv1.LeaveRequest, stream grpc.ServerStreamingServer[clusterv1.LeaveResponse]) error {
	ctx := stream.Context()
	node := req.Node
	if node == "" {
		node = s.cluster.ID()
	}
	// A node that leaves asks for its own removal, without the caller's credential. So
	// it is judged here, at the newest state, whether that may still ask for it.
	state, err := s.readNewest(ctx)
	if err != nil {
		return err
	}
	if err := callOf(ctx).allowedAt(state); err != nil {
		return err
	}
	m, err := s.member(ctx, node)
	if err != nil {
		return err
	}
	steps := newSteps(stream, func(step string) *clusterv1.LeaveResponse { return &clusterv1.LeaveResponse{Step: step} })
	err = s.cluster.Leave(ctx, m.ID, req.Force, steps.step)
	if errors.Is(err, ErrUnreachable) {
		steps.step("the node cannot leave by itself, so it is removed without it")
		if err = s.removeAtLeader(ctx, m.ID, req.Force); err == nil {
			steps.step("the node is removed: wipe its data folder before it starts again")
		}
	}
	if err != nil {
		return err
	}
	return steps.err()
}

// removeAtLeader removes a member from any node. The member may have led until a
// moment ago, so it goes on for as long as a write does while another is elected.
func (s *Server) removeAtLeader(ctx context.Context, id string, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for again := false; ; again = true {
		err := s.tryRemoveAtLeader(ctx, id, force)
		switch code := status.Code(statusOf(err)); {
		case code == codes.NotFound && again:
			return nil // the attempt before removed it
		case code != codes.Unavailable:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryDelay):
		}
	}
}

func (s *Server) tryRemoveAtLeader(ctx context.Context, id string, force bool) error {
	conn, self, err := s.log.Leader(ctx)
	switch {
	case err != nil:
		return unavailable("there is no leader to remove node %s: %v", id, err)
	case self:
		return s.cluster.Remove(ctx, id, force)
	}
	credential, err := credentialOf(ctx)
	if err != nil {
		return err
	}
	_, err = clusterv1.NewClusterServiceClient(conn).RemoveMember(
		metadata.AppendToOutgoingContext(ctx, metadataAuthorization, credential), &clusterv1.RemoveMemberRequest{Node: id, Force: force})
	return err
}

// credentialOf is what the caller authenticates with, to be passed on to other nodes.
func credentialOf(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, metadataAuthorization)
	if len(values) != 1 {
		return "", unauthenticated("no API key: send one header 'Authorization: Bearer <key>'")
	}
	return values[0], nil
}
