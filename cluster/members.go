package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

const (
	// statusTimeout is how long a member may take to say how it is.
	statusTimeout = time.Second
	// changeTimeout bounds one change of the configuration.
	changeTimeout = 10 * time.Second
	// caughtUp is how many entries behind the leader a node may be to get a vote: so
	// few that it has them before anybody notices.
	caughtUp = 64
	// keepsUp is how many entries behind a voter may be under load: it has them in a
	// second.
	keepsUp = 4096
	// followPatience is how long voters that answer may take to follow the leader, and
	// followPause the wait between two looks.
	followPatience = time.Second
	followPause    = 50 * time.Millisecond
)

var (
	// ErrRefused marks what the cluster will not do as things are. The message says
	// why, and what to do.
	ErrRefused = errors.New("refused")
	// ErrUnreachable marks a node that did not answer.
	ErrUnreachable = errors.New("the node cannot be reached")
	// ErrMayBeMade marks a change of members that may have been made.
	ErrMayBeMade = errors.New("no majority has confirmed it")
)

// refusal is an ErrRefused with its own words.
type refusal string

func refused(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == ErrRefused }

// A Member is a node of the cluster, as it describes itself.
type Member struct {
	ID, Name                                 string
	Leader, Voter                            bool
	RaftAddr, GossipAddr, HTTPAddr, GRPCAddr string
	Version                                  string
	SupportedLevel, Level                    uint32
	Revision                                 uint64 // of its newest state
	Age                                      time.Duration
	Reached                                  bool     // it answered; else most of the rest is empty
	Problems                                 []string // what it has to complain of, or why it was not reached
	Term, LastIndex, SnapshotIndex           uint64
	FreeDisk, LogBytes, ReadIndexRounds      uint64 // bytes, bytes, rounds as leader since its start
}

// A NewMember is a node that asks to be taken in.
type NewMember struct {
	ID, RaftAddr string
	Replica      bool
	Level        uint32 // the newest it supports
	New          bool   // it has not been taken in before, so it has none of the cluster's log
}

// lockMembers makes this the one look at the members, and the change that it leads to,
// until unlock. It waits no longer than the context lasts.
func (n *Node) lockMembers(ctx context.Context) (unlock func(), err error) {
	select {
	case n.membersMu <- struct{}{}:
		return func() { <-n.membersMu }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another change of the members is under way: %w", ctx.Err())
	}
}

// configuration is the latest configuration, committed or not.
func (n *Node) configuration() ([]raft.Server, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return future.Configuration().Servers, nil
}

// find returns the server of an id.
func find(servers []raft.Server, id uuid.UUID) (raft.Server, bool) {
	for _, server := range servers {
		if server.ID == raft.ServerID(id.String()) {
			return server, true
		}
	}
	return raft.Server{}, false
}

func voterIDs(servers []raft.Server) []uuid.UUID {
	var ids []uuid.UUID
	for _, server := range servers {
		if id, err := uuid.Parse(string(server.ID)); err == nil && server.Suffrage == raft.Voter {
			ids = append(ids, id)
		}
	}
	return ids
}

// statusOf asks a node how it is.
func (n *Node) statusOf(ctx context.Context, id uuid.UUID, options ...grpc.CallOption) (*nodev1.StatusResponse, error) {
	if id == n.id {
		return n.status(), n.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answer, err := n.nodeClient(id).Status(ctx, &nodev1.StatusRequest{}, options...)
	if err == nil {
		return answer, nil
	}
	reason := reasonOf(err)
	if reason == context.DeadlineExceeded.Error() {
		reason = fmt.Sprintf("it does not answer within %s", statusTimeout)
	}
	return nil, fmt.Errorf("%w: %s", ErrUnreachable, reason)
}

// statuses asks several nodes at once; those that do not answer are not in the result.
func (n *Node) statuses(ctx context.Context, ids []uuid.UUID) map[uuid.UUID]*nodev1.StatusResponse {
	var mu sync.Mutex
	var asking sync.WaitGroup
	answers := make(map[uuid.UUID]*nodev1.StatusResponse)
	for _, id := range ids {
		asking.Go(func() {
			if answer, err := n.statusOf(ctx, id); err == nil {
				mu.Lock()
				defer mu.Unlock()
				answers[id] = answer
			}
		})
	}
	asking.Wait()
	return answers
}

// Members returns all nodes of the cluster, each as it describes itself now. A node
// that does not answer within a second is there with what the address book knows.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	servers, err := n.configuration()
	if err != nil {
		return nil, err
	}
	members := make([]Member, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() { members[i] = n.member(ctx, server) })
	}
	asking.Wait()
	return members, nil
}

// Self is this node as a member. It votes where the configuration that it knows says so.
func (n *Node) Self(ctx context.Context) Member {
	server := raft.Server{ID: n.serverID(), Suffrage: raft.Nonvoter}
	if servers, err := n.configuration(); err == nil {
		if known, ok := find(servers, n.id); ok {
			server = known
		}
	}
	return n.member(ctx, server)
}

// member asks a server of the configuration what it says of itself.
func (n *Node) member(ctx context.Context, server raft.Server) Member {
	_, leader := n.raft.LeaderWithID()
	m := Member{
		ID: string(server.ID), Voter: server.Suffrage == raft.Voter,
		Leader: server.ID == leader, Age: -1,
	}
	id, err := uuid.Parse(m.ID)
	if err != nil {
		m.Problems = []string{"its id is no UUID"}
		return m
	}
	s, err := n.statusOf(ctx, id)
	if err != nil {
		known, _ := n.peers.get(id)
		m.Name, m.RaftAddr, m.GossipAddr = known.Name, known.RaftAddr, known.GossipAddr
		m.Problems = []string{err.Error()}
		return m
	}
	m.Reached = true
	m.Name, m.Version, m.SupportedLevel, m.Level = s.GetName(), s.GetVersion(), s.GetSupportedLevel(), s.GetLevel()
	m.RaftAddr, m.GossipAddr, m.HTTPAddr, m.GRPCAddr = s.GetRaftAddress(), s.GetGossipAddress(), s.GetHttpAddress(), s.GetGrpcAddress()
	m.Revision, m.Term, m.LastIndex, m.SnapshotIndex = s.GetAppliedRevision(), s.GetTerm(), s.GetLastIndex(), s.GetSnapshotIndex()
	m.FreeDisk, m.LogBytes, m.ReadIndexRounds = s.GetFreeDiskBytes(), s.GetLogBytes(), s.GetReadIndexRounds()
	if s.GetAgeMs() >= 0 {
		m.Age = time.Duration(s.GetAgeMs()) * time.Millisecond
	}
	if !s.GetReady() {
		m.Problems = append(m.Problems, s.GetNotReadyReason())
	}
	if s.GetLowDisk() {
		m.Problems = append(m.Problems, fmt.Sprintf("its disk is low: %d MiB are left", s.GetFreeDiskBytes()>>20))
	}
	if s.GetRefusesWrites() {
		m.Problems = append(m.Problems, "it refuses writes because of its disk")
	}
	return m
}

// lead returns the reason why this node cannot decide about members now; nil on the
// leader once it knows all that earlier leaders committed, the configuration included.
func (n *Node) lead(ctx context.Context) error {
	if err := n.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	term, leads := n.leaderTerm()
	if !leads {
		return ErrNotLeader
	}
	if err := n.barrier(ctx, term); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return nil
}

// Add takes a node in, on the leader: at first without a vote, which it gets when Add
// is called again after it has caught up, unless it is a replica. It changes nothing
// where the node is what it asks to be.
func (n *Node) Add(ctx context.Context, node NewMember) (Member, error) {
	id, err := uuid.Parse(node.ID)
	if err != nil {
		return Member{}, refused("node id %q is no UUID: it stands in the file %s of the node's data folder", node.ID, nodeIDFile)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	unlock, err := n.lockMembers(ctx)
	if err != nil {
		return Member{}, err
	}
	defer unlock()
	if err := n.lead(ctx); err != nil {
		return Member{}, err
	}
	servers, err := n.configuration()
	if err != nil {
		return Member{}, err
	}
	if id != n.id && node.RaftAddr != "" {
		known, _ := n.peers.get(id)
		known.ID, known.RaftAddr = id, node.RaftAddr
		n.peers.put(known)
	}
	server, isMember := find(servers, id)
	if isMember && server.Suffrage == raft.Voter && node.New {
		return Member{}, lostVoter(id)
	}
	// An earlier call may have failed, before the address was known.
	is, err := n.statusOf(ctx, id, grpc.WaitForReady(true))
	switch {
	case err != nil:
		// A member that nobody reaches counts for the quorum all the same.
		return Member{}, fmt.Errorf("take in node %s at %s: %w", id, node.RaftAddr, err)
	case !isMember:
		if err := n.change(ctx, n.raft.AddNonvoter, id); err != nil {
			return Member{}, err
		}
		n.log.Info("node taken in, without a vote", "member", id, "replica", node.Replica)
		server = raft.Server{ID: raft.ServerID(id.String()), Suffrage: raft.Nonvoter}
	case server.Suffrage == raft.Voter && is.GetLastIndex() == 0:
		return Member{}, lostVoter(id)
	case server.Suffrage != raft.Voter && !node.Replica && n.hasCaughtUp(is):
		if err := n.change(ctx, n.addVoter, id); err != nil {
			return Member{}, err
		}
		server.Suffrage = raft.Voter
	}
	return n.member(ctx, server), nil
}

// lostVoter refuses a voter that begins anew: it may vote a second time in a term,
// and what it had acknowledged counts towards majorities.
func lostVoter(id uuid.UUID) error {
	return refused("node %s is a voter of the cluster and has lost its data, and with it maybe a vote that it gave: remove it from the cluster first (remit leave %s), then let it join", id, id)
}

// hasCaughtUp tells whether a node has, but for a few entries, all that the leader has.
func (n *Node) hasCaughtUp(is *nodev1.StatusResponse) bool {
	return is.GetLastIndex() > 0 && is.GetLastIndex()+caughtUp >= n.raft.CommitIndex() &&
		is.GetAppliedRevision()+caughtUp >= n.cfg.FSM.Revision()
}

// follows tells whether a voter hears this leader and has, or gets from the log in a
// moment, what the leader has. One that has lost its data, or is being sent a
// snapshot, answers too, and adds to no majority.
func (n *Node) follows(id uuid.UUID, is *nodev1.StatusResponse) bool {
	if id == n.id {
		return true
	}
	first, err := n.store.FirstIndex()
	last := is.GetLastIndex()
	return err == nil && is.GetLeaderId() == n.ID() && last > 0 && last+1 >= first && last+keepsUp >= n.raft.CommitIndex()
}

// followers asks voters how they are, and returns how many follow. Where enough answer
// and too few follow, they are given a moment: a new leader is heard of one by one.
func (n *Node) followers(ctx context.Context, voters []uuid.UUID, need int) (following int, answers map[uuid.UUID]*nodev1.StatusResponse) {
	for deadline := time.Now().Add(followPatience); ; {
		answers, following = n.statuses(ctx, voters), 0
		for id, is := range answers {
			if n.follows(id, is) {
				following++
			}
		}
		if following >= need || len(answers) < need || time.Now().After(deadline) {
			return following, answers
		}
		select {
		case <-ctx.Done():
			return following, answers
		case <-time.After(followPause):
		}
	}
}

// Promote gives a member a vote, on the leader. It has to have caught up.
func (n *Node) Promote(ctx context.Context, id string) error {
	target, err := uuid.Parse(id)
	if err != nil {
		return refused("node id %q is no UUID", id)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
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
	server, isMember := find(servers, target)
	if !isMember {
		return refused("node %s is no member of the cluster: let it join first", id)
	}
	if server.Suffrage == raft.Voter {
		return nil
	}
	is, err := n.statusOf(ctx, target)
	switch {
	case err != nil:
		return fmt.Errorf("promote node %s: %w", id, err)
	case is.GetReplica():
		return refused("node %s runs as a replica, which never votes: start it without --replica, then promote it", id)
	case !n.hasCaughtUp(is):
		return refused("node %s has not caught up: its log ends at %d and its state is at revision %d, the leader's at %d and %d: try again later",
			id, is.GetLastIndex(), is.GetAppliedRevision(), n.raft.LastIndex(), n.cfg.FSM.Revision())
	}
	return n.change(ctx, n.addVoter, target)
}

func (n *Node) addVoter(id raft.ServerID, address raft.ServerAddress, previous uint64, timeout time.Duration) raft.IndexFuture {
	n.log.Info("member gets a vote", "member", string(id))
	return n.raft.AddVoter(id, address, previous, timeout)
}

// change makes one change of the configuration that this node, the leader, has looked
// at, and waits until it is committed. One that the log takes only after the context's
// end is not made any more: the next look is under way by then.
func (n *Node) change(ctx context.Context, f func(raft.ServerID, raft.ServerAddress, uint64, time.Duration) raft.IndexFuture, id uuid.UUID) error {
	deadline, ok := ctx.Deadline()
	left := time.Until(deadline)
	if !ok || left <= 0 {
		return fmt.Errorf("change the members: %w", context.DeadlineExceeded)
	}
	err := n.await(ctx, func() error {
		// Addresses are no part of the configuration.
		return f(raft.ServerID(id.String()), raft.ServerAddress(id.String()), 0, left).Error()
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipLost):
		return fmt.Errorf("%w any more: %w", ErrNotLeader, ErrMayBeMade)
	case ctx.Err() != nil:
		return fmt.Errorf("%w in time", ErrMayBeMade)
	}
	return fmt.Errorf("change the members: %w", err)
}
