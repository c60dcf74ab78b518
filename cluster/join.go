package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// joinFind is how long a node looks for a cluster at the address it was given.
	joinFind = 5 * time.Second
	// joinAsk bounds one request to be taken in, and a node that has to wait asks
	// again after joinSoon, later after joinLater.
	joinAsk = 15 * time.Second
	// joinPatience is how long a node asks to be taken in where nobody says yes or no.
	joinPatience = time.Minute
	joinSoon     = 100 * time.Millisecond
	joinLater    = 2 * time.Second
)

// errNobody is why a node that asked nobody was not taken in.
var errNobody = errors.New("none was there")

// Join makes this node part of the cluster that gossips at the address, and returns
// when it is a member of it as it wants to be: a voter that has caught up, or a
// replica. Over conn, which leads to a member's API, add asks the cluster to take the
// node in, until it says that this is done; step is told what is under way.
//
// The node belongs to the cluster before it asks, durably, since the cluster's leader
// asks it how it is. But it takes no part in Raft before it has heard that it is taken
// in: if its id is that of a voter that has lost its data, the cluster refuses it, and
// until then its votes would count. If Join ends before that, the node belongs to no
// cluster again; afterwards joining the same cluster again goes on where it was.
func (n *Node) Join(ctx context.Context, address string, add func(ctx context.Context, conn grpc.ClientConnInterface, node NewMember) (done bool, err error), step func(string)) error {
	if n.gossip == nil {
		return refused("this node does not gossip, so it finds no cluster: start it with a gossip address")
	}
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return refused("%q is no gossip address of a cluster: give host:port", address)
	}
	if !n.asking.CompareAndSwap(false, true) {
		return refused("this node is about to join a cluster already: wait for that, or end it")
	}
	defer n.asking.Store(false)
	members, err := n.findCluster(ctx, address)
	if err != nil {
		return err
	}
	cluster, epoch := members[0].cluster, members[0].epoch
	if err := n.adopt(cluster, epoch); err != nil {
		return err
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.called()
	}
	slices.Sort(names)
	step(fmt.Sprintf("found cluster %s with %s", cluster, strings.Join(names, ", ")))
	err = n.ask(ctx, cluster, add, step)
	if err != nil && n.abandon() {
		n.log.Info("the cluster has not taken the node in; it belongs to none again", "cluster_id", cluster.String(), "error", err)
	}
	return err
}

// findCluster returns the nodes that have state of the cluster at the address.
func (n *Node) findCluster(ctx context.Context, address string) ([]sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, joinFind)
	defer cancel()
	var last error
	for {
		members, err := n.clusterAt(ctx, address)
		if err == nil {
			return members, nil
		}
		if errors.Is(err, ErrRefused) {
			return nil, err
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("join the cluster at %s: %w", address, cmp.Or(last, ctx.Err()))
		case <-n.ctx.Done():
			return nil, n.Err()
		case <-time.After(joinSoon):
		}
	}
}

func (n *Node) clusterAt(ctx context.Context, address string) ([]sighting, error) {
	if err := n.gossip.call(ctx, address); err != nil {
		return nil, err
	}
	resolved, err := resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	// A log is named by cluster and epoch: nodes from before a recovery have another.
	type logID struct{ cluster, epoch uuid.UUID }
	logs := map[logID][]sighting{}
	var there logID // that of the node at the very address
	for _, s := range n.gossip.seen() {
		if s.hasState {
			id := logID{s.cluster, s.epoch}
			logs[id] = append(logs[id], s)
			if slices.Contains(resolved, s.GossipAddr) {
				there = id
			}
		}
	}
	switch {
	case len(logs[there]) > 0:
		return logs[there], nil
	case len(logs) == 1:
		for _, members := range logs {
			return members, nil
		}
	case len(logs) > 1:
		return nil, refused("nodes of %d clusters are there, or of one from before and after it was recovered, and none says that it is at %s: give the gossip address as remit members shows it", len(logs), address)
	}
	return nil, errors.New("the nodes there belong to no cluster yet: form one first")
}

// adopt makes the node belong to the cluster, unless it belongs to another.
func (n *Node) adopt(cluster, epoch uuid.UUID) error {
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	own := n.cluster.Load()
	switch {
	case own != nil && *own != cluster:
		return refused("this node belongs to cluster %s and cannot join cluster %s: remove its data folder first", own, cluster)
	case n.HasState() && n.logEpoch() != epoch:
		return refused("this node's log is from before cluster %s was recovered: remove its data folder, then let it join", cluster)
	case n.HasState():
		return nil
	}
	if own == nil {
		if err := writeID(n.dir.file(joiningFile), cluster); err != nil {
			return fmt.Errorf("join cluster %s: %w", cluster, err)
		}
		n.joining.Store(true)
	}
	if err := n.belong(cluster, epoch); err != nil {
		return fmt.Errorf("join cluster %s: %w", cluster, err)
	}
	return nil
}

// takenIn lets the node take part in Raft.
func (n *Node) takenIn() error {
	if !n.joining.Load() {
		return nil
	}
	if err := removeFile(n.dir.file(joiningFile)); err != nil {
		return err
	}
	n.joining.Store(false)
	return nil
}

// abandon makes a node that is not taken in belong to no cluster again, and reports
// whether it does.
func (n *Node) abandon() bool {
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	if !n.joining.Load() {
		return false
	}
	if err := errors.Join(removeFile(n.dir.file(clusterIDFile)), removeFile(n.dir.file(epochFile)), removeFile(n.dir.file(joiningFile))); err != nil {
		n.log.Warn("the node goes on belonging to the cluster that does not take it in", "error", err)
		return false
	}
	n.cluster.Store(nil)
	n.joining.Store(false)
	return true
}

// ask asks members of the cluster, one after the other, to take the node in.
func (n *Node) ask(ctx context.Context, cluster uuid.UUID, add func(ctx context.Context, conn grpc.ClientConnInterface, node NewMember) (done bool, err error), step func(string)) error {
	self := NewMember{ID: n.ID(), RaftAddr: n.raftAdvertised(), Replica: n.cfg.Replica, Level: n.cfg.Level}
	pause, accepted, began := joinSoon, false, time.Now()
	var last error
	said := map[uuid.UUID]string{}
	for turn := 0; ; turn++ {
		members := n.membersOf(cluster)
		if len(members) > 0 {
			member := members[turn%len(members)]
			asking, cancel := context.WithTimeout(ctx, joinAsk)
			self.New = n.joining.Load()
			done, err := add(asking, n.apiConn(member.ID), self)
			cancel()
			if err == nil {
				if err := n.takenIn(); err != nil {
					return fmt.Errorf("the cluster has taken the node in, but the node cannot write that down: %w", err)
				}
			}
			switch {
			case done && err == nil:
				step("this node is a member of the cluster")
				return nil
			case final(err):
				return err
			case err == nil && !accepted:
				accepted, pause = true, joinSoon
				step("accepted by the cluster; catching up with its log")
			case err != nil && ctx.Err() == nil:
				if reason := reasonOf(err); said[member.ID] != reason {
					said[member.ID] = reason
					step(fmt.Sprintf("asking node %s: %s; trying again", member.called(), reason))
				}
				last = err
			}
		}
		if !accepted && time.Since(began) > joinPatience {
			return fmt.Errorf("no node of cluster %s has taken this node in: %s", cluster, reasonOf(cmp.Or(last, errNobody)))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("joining cluster %s is not finished, and goes on when the node is told to join it again: %w", cluster, cmp.Or(last, ctx.Err()))
		case <-n.ctx.Done():
			return n.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, joinLater)
	}
}

// membersOf returns the nodes that are there and have state of the cluster.
func (n *Node) membersOf(cluster uuid.UUID) []sighting {
	seen := n.gossip.seen()
	return slices.DeleteFunc(seen, func(s sighting) bool { return !s.hasState || s.cluster != cluster })
}

// final reports whether the cluster has refused the node, and would again.
func final(err error) bool {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.FailedPrecondition, codes.AlreadyExists:
		return err != nil
	}
	return false
}
