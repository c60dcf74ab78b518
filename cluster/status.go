package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// status is what the node knows of itself.
func (n *Node) status() *nodev1.StatusResponse {
	d := Description{Age: -1}
	if n.cfg.Describe != nil {
		d = n.cfg.Describe()
	}
	_, leader := n.raft.LeaderWithID()
	s := &nodev1.StatusResponse{
		Id: n.ID(), Name: n.cfg.NodeName, Version: n.cfg.Version,
		SupportedLevel: n.cfg.Level, Level: d.Level,
		RaftAddress: n.raftAdvertised(), GossipAddress: n.GossipAddr(),
		HttpAddress: n.cfg.HTTPAddr, GrpcAddress: n.cfg.GRPCAddr,
		Term: n.raft.CurrentTerm(), LeaderId: string(leader),
		AppliedRevision: n.cfg.FSM.Revision(), LastIndex: n.raft.LastIndex(),
		Ready: d.NotReady == "", NotReadyReason: d.NotReady, AgeMs: -1, Replica: n.cfg.Replica, ReadIndexRounds: n.rounds.Load(),
	}
	if d.Age >= 0 {
		s.AgeMs = int64(d.Age / time.Millisecond)
	}
	for _, id := range n.members() {
		s.MemberIds = append(s.MemberIds, id.String())
	}
	if why := n.Estranged(); !s.Ready && why != "" {
		s.NotReadyReason += "; " + why
	}
	s.SnapshotIndex, _ = strconv.ParseUint(n.raft.Stats()["last_snapshot_index"], 10, 64)
	s.LowDisk, s.FreeDiskBytes, s.RefusesWrites = n.disk.low.Load(), n.disk.free.Load(), n.disk.refuses.Load()
	if info, err := os.Stat(n.dir.file(logFile)); err == nil {
		s.LogBytes = uint64(info.Size())
	}
	return s
}

// raftAdvertised is where other nodes reach this one.
func (n *Node) raftAdvertised() string {
	_, port, err := net.SplitHostPort(n.RaftAddr())
	if err != nil || n.cfg.AdvertiseAddr == "" {
		return n.RaftAddr()
	}
	return net.JoinHostPort(n.cfg.AdvertiseAddr, port)
}

// digest returns the digest of this node's state at a checkpoint.
func (n *Node) digest(ctx context.Context, revision uint64) ([]byte, error) {
	if n.cfg.Digest == nil {
		return nil, errors.New("the node's state has no checkpoints")
	}
	return n.cfg.Digest(ctx, revision)
}

// Digest returns the digest of a member's state at a checkpoint, as soon as that
// member has reached it.
func (n *Node) Digest(ctx context.Context, id string, revision uint64) ([]byte, error) {
	target, err := uuid.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("digest: node id %q is no UUID", id)
	}
	if target == n.id {
		return n.digest(ctx, revision)
	}
	answer, err := n.nodeClient(target).Digest(ctx, &nodev1.DigestRequest{Revision: revision})
	if err != nil {
		return nil, fmt.Errorf("digest of node %s: %s", id, reasonOf(err))
	}
	return answer.GetDigest(), nil
}
