package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// A Cluster is what the server needs of the nodes around it, for operators. What
// its errors are other than gRPC statuses comes out as an internal error, but for
// ErrNotApplied: the leader has to do it, and this node does not lead. ErrMayBeMade
// leaves open what became of a change of members.
type Cluster interface {
	// ID is this node's id.
	ID() string
	// HasCluster reports whether this node belongs to a cluster, or is bound to be
	// part of a new one.
	HasCluster() bool
	// Waiting says why a node takes no part in a cluster: what it waits for before it
	// belongs to one, or what keeps it from its own for good; empty if nothing does.
	Waiting() string
	// Members returns all nodes of the cluster, each as it describes itself now. It
	// does not wait long for those that do not answer.
	Members(ctx context.Context) ([]Member, error)
	// Add takes a node in, on the leader: at first without a vote, which it gets when
	// Add is called again after it has caught up.
	Add(ctx context.Context, node NewMember) (Member, error)
	// Remove takes a node out, on the leader. It refuses what would lose the quorum
	// unless forced.
	Remove(ctx context.Context, id string, force bool) error
	// Promote gives a member a vote and Demote takes it, on the leader.
	Promote(ctx context.Context, id string) error
	Demote(ctx context.Context, id string, force bool) error
	// Transfer makes another voter the leader, on the leader, and returns its id; an
	// empty id chooses the one that has caught up most.
	Transfer(ctx context.Context, id string) (string, error)
	// Join makes this node, which has no cluster, part of the one at the gossip
	// address. Over conn, which leads to a member's API, add asks that cluster to take
	// this node in, again and again until it is done; an error that says no, and not
	// that a node could not answer, ends that and Join. step is told what is under way.
	Join(ctx context.Context, address string, add func(ctx context.Context, conn grpc.ClientConnInterface, node NewMember) (done bool, err error), step func(string)) error
	// Leave makes a node leave and end; step is told what is under way. It fails with
	// ErrUnreachable where the node is not there to do so.
	Leave(ctx context.Context, id string, force bool, step func(string)) error
	// Digest returns another member's digest at a checkpoint.
	Digest(ctx context.Context, id string, revision uint64) ([]byte, error)
}

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
