package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// Suffrages of members.
const (
	suffrageVoter    = "voter"
	suffrageNonvoter = "nonvoter"
)

// caughtUp is how many revisions behind the leader a replica may be when it has
// joined: so few that it has them before anybody notices.
const caughtUp = 64

// asLeader words the error of what the cluster did on the leader. Where this node
// does not lead any more, the next leader is to be asked, unless the change may have
// been made: a member that was removed is not found the next time.
func asLeader(err error) error {
	if certain := errors.Is(err, ErrNotApplied); certain || errors.Is(err, ErrMayBeMade) {
		return &undecided{certain: certain, cause: err}
	}
	return err
}

// refused is the answer to what is right in itself and not now.
func refused(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, format, args...)
}

// ListMembers answers every node of the cluster.
func (s *Server) ListMembers(ctx context.Context, _ *clusterv1.ListMembersRequest) (*clusterv1.ListMembersResponse, error) {
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	return &clusterv1.ListMembersResponse{Members: memberMessages(members), ClusterId: s.store.State().Cluster.String()}, nil
}

// GetStatus answers what this node knows of itself and of the cluster.
func (s *Server) GetStatus(ctx context.Context, _ *clusterv1.GetStatusRequest) (*clusterv1.GetStatusResponse, error) {
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	state := s.store.State()
	resp := &clusterv1.GetStatusResponse{ClusterId: state.Cluster.String(), Epoch: state.Epoch.String()}
	for _, m := range memberMessages(members) {
		if m.Id == s.cluster.ID() {
			resp.Node = m
		}
		if m.Leader {
			resp.LeaderId = m.Id
		}
		if m.Suffrage == suffrageVoter {
			resp.Voters++
		} else {
			resp.Nonvoters++
		}
	}
	if resp.Node == nil {
		return nil, refused("this node, %s, is no member of its cluster any more: wipe its data folder to let it join one", s.cluster.ID())
	}
	return resp, nil
}

// before orders members, voters first, each by name.
func before(a, b Member) int {
	if a.Voter != b.Voter {
		if a.Voter {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
}

// memberMessages words the members, voters first, each by name.
func memberMessages(members []Member) []*clusterv1.Member {
	var newest, level uint64
	version := ""
	for _, m := range members {
		if m.Reached {
			newest, level = max(newest, m.Revision), max(level, uint64(m.SupportedLevel))
		}
		if m.Reached && (m.Leader || version == "") {
			version = m.Version
		}
	}
	members = slices.Clone(members)
	slices.SortFunc(members, before)
	messages := make([]*clusterv1.Member, 0, len(members))
	for _, m := range members {
		message := &clusterv1.Member{
			Id: m.ID, Name: m.Name, Leader: m.Leader, Suffrage: suffrageNonvoter,
			RaftAddress: m.RaftAddr, GossipAddress: m.GossipAddr, HttpAddress: m.HTTPAddr, GrpcAddress: m.GRPCAddr,
			Problems: slices.Clone(m.Problems), AgeMs: -1,
		}
		if m.Voter {
			message.Suffrage = suffrageVoter
		}
		if m.Reached {
			if m.Age >= 0 {
				message.AgeMs = m.Age.Milliseconds()
			}
			message.Version, message.SupportedLevel, message.Level = m.Version, m.SupportedLevel, m.Level
			message.AppliedRevision, message.Lag = m.Revision, newest-m.Revision
			message.Term, message.LastIndex, message.SnapshotIndex = m.Term, m.LastIndex, m.SnapshotIndex
			message.FreeDiskBytes, message.LogBytes, message.ReadIndexRounds = m.FreeDisk, m.LogBytes, m.ReadIndexRounds
			if m.Version != version {
				message.Problems = append(message.Problems, fmt.Sprintf("runs version %s, others %s: upgrade the older ones", m.Version, version))
			}
			if uint64(m.SupportedLevel) < level {
				message.Problems = append(message.Problems, fmt.Sprintf("supports level %d, others level %d: upgrade this node", m.SupportedLevel, level))
			}
		} else if len(message.Problems) == 0 {
			message.Problems = []string{"not reached"}
		}
		message.Healthy = len(message.Problems) == 0
		messages = append(messages, message)
	}
	return messages
}

// member finds the member that an operator names by its id or its name.
func (s *Server) member(ctx context.Context, node string) (Member, error) {
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return Member{}, err
	}
	var named []Member
	for _, m := range members {
		if m.ID == node {
			return m, nil
		}
		if m.Name == node {
			named = append(named, m)
		}
	}
	switch {
	case node == "":
		return Member{}, invalid("no node is named: name a member by its id or its name")
	case len(named) == 0:
		return Member{}, notFound("node %s is no member of the cluster: name one by its id or its name", quote(node))
	case len(named) > 1:
		ids := make([]string, len(named))
		for i, m := range named {
			ids[i] = m.ID
		}
		return Member{}, invalid("%d members are called %s: name the one you mean by its id, %s", len(named), quote(node), strings.Join(ids, " or "))
	}
	return named[0], nil
}

// AddMember takes a node into the cluster, on the leader.
func (s *Server) AddMember(ctx context.Context, req *clusterv1.AddMemberRequest) (*clusterv1.AddMemberResponse, error) {
	// No level is raised between the look at it and the entry of a node that
	// would not support it.
	s.membership.Lock()
	defer s.membership.Unlock()
	level := s.store.State().Level
	if req.SupportedLevel < level {
		return nil, refused("the cluster is at level %d and node %s supports level %d at most: upgrade that node, then join again",
			level, quote(req.Id), req.SupportedLevel)
	}
	m, err := s.cluster.Add(ctx, NewMember{ID: req.Id, RaftAddr: req.RaftAddress, Replica: req.Replica, Level: req.SupportedLevel, New: req.New})
	if err != nil {
		return nil, asLeader(err)
	}
	resp := &clusterv1.AddMemberResponse{Suffrage: suffrageNonvoter, AppliedRevision: m.Revision, LeaderRevision: s.store.State().Revision}
	resp.Done = req.Replica && m.Revision > 0 && m.Revision+caughtUp >= resp.LeaderRevision
	if m.Voter {
		resp.Suffrage, resp.Done = suffrageVoter, true
	}
	return resp, nil
}

// RemoveMember takes a node out of the cluster, on the leader.
func (s *Server) RemoveMember(ctx context.Context, req *clusterv1.RemoveMemberRequest) (*clusterv1.RemoveMemberResponse, error) {
	m, err := s.member(ctx, req.Node)
	if err != nil {
		return nil, err
	}
	if err := s.cluster.Remove(ctx, m.ID, req.Force); err != nil {
		return nil, asLeader(err)
	}
	s.logger.Info("member removed", "id", m.ID, "name", m.Name, "forced", req.Force)
	return &clusterv1.RemoveMemberResponse{}, nil
}

// TransferLeadership makes another voter the leader, on the leader.
func (s *Server) TransferLeadership(ctx context.Context, req *clusterv1.TransferLeadershipRequest) (*clusterv1.TransferLeadershipResponse, error) {
	to := ""
	if req.Node != "" {
		m, err := s.member(ctx, req.Node)
		if err != nil {
			return nil, err
		}
		to = m.ID
	}
	id, err := s.cluster.Transfer(ctx, to)
	if err != nil {
		return nil, asLeader(err)
	}
	resp := &clusterv1.TransferLeadershipResponse{LeaderId: id}
	if m, err := s.member(ctx, id); err == nil {
		resp.LeaderName = m.Name
	}
	return resp, nil
}

// Promote makes a member a voter, on the leader.
func (s *Server) Promote(ctx context.Context, req *clusterv1.PromoteRequest) (*clusterv1.PromoteResponse, error) {
	m, err := s.member(ctx, req.Node)
	if err != nil {
		return nil, err
	}
	if err := s.cluster.Promote(ctx, m.ID); err != nil {
		return nil, asLeader(err)
	}
	return &clusterv1.PromoteResponse{}, nil
}

// Demote takes a voter's vote, on the leader.
func (s *Server) Demote(ctx context.Context, req *clusterv1.DemoteRequest) (*clusterv1.DemoteResponse, error) {
	m, err := s.member(ctx, req.Node)
	if err != nil {
		return nil, err
	}
	if err := s.cluster.Demote(ctx, m.ID, req.Force); err != nil {
		return nil, asLeader(err)
	}
	return &clusterv1.DemoteResponse{}, nil
}
