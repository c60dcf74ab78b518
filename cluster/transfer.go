package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

// Transfer makes another voter the leader, on the leader, and returns its id once it
// leads. An empty id chooses the voter that has caught up most. A node whose disk is
// low is given no leadership.
func (n *Node) Transfer(ctx context.Context, id string) (string, error) {
	var target uuid.UUID
	if id != "" {
		var err error
		if target, err = uuid.Parse(id); err != nil {
			return "", refused("node id %q is no UUID", id)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	unlock, err := n.lockMembers(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := n.lead(ctx); err != nil {
		return "", err
	}
	if target == n.id {
		return id, nil
	}
	servers, err := n.configuration()
	if err != nil {
		return "", err
	}
	leader, err := n.transfer(ctx, servers, target)
	if err != nil {
		return "", err
	}
	return leader.String(), nil
}

// StepDown hands leadership over where this node has it, so that the cluster need
// not wait until it is missed. Call it before Close. It fails where nobody can take over.
func (n *Node) StepDown(ctx context.Context) error {
	if _, leads := n.leaderTerm(); !leads || n.Err() != nil || n.IsSoleVoter() {
		return nil
	}
	_, err := n.Transfer(ctx, "")
	if errors.Is(err, ErrNotLeader) {
		return nil
	}
	return err
}

// transfer hands leadership to a voter, or to the best where the target is zero, and
// waits until another node leads.
func (n *Node) transfer(ctx context.Context, servers []raft.Server, target uuid.UUID) (uuid.UUID, error) {
	best, err := n.successor(ctx, servers, target)
	if err != nil {
		return uuid.Nil, err
	}
	n.log.Info("leadership is handed over", "to", best)
	err = n.await(ctx, func() error {
		return n.raft.LeadershipTransferToServer(raft.ServerID(best.String()), raft.ServerAddress(best.String())).Error()
	})
	if errors.Is(err, raft.ErrNotLeader) {
		return uuid.Nil, ErrNotLeader
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("leadership was not handed over to node %s: %w", best, err)
	}
	for {
		changed := n.leaders.changed()
		if leader, ok := n.otherLeader(); ok && (leader == best || target == uuid.Nil) {
			return leader, nil
		} else if ok {
			return uuid.Nil, fmt.Errorf("leadership was handed over, but node %s was elected and not node %s", leader, target)
		}
		if _, leads := n.leaderTerm(); leads {
			return uuid.Nil, fmt.Errorf("node %s was not elected, this node leads on", best)
		}
		if !n.awaitChange(ctx, changed) || n.Err() != nil {
			return uuid.Nil, fmt.Errorf("leadership was handed over, but nobody has been elected yet: %w", context.Cause(ctx))
		}
	}
}

// successor chooses the voter to lead next.
func (n *Node) successor(ctx context.Context, servers []raft.Server, target uuid.UUID) (uuid.UUID, error) {
	var others []uuid.UUID
	for _, id := range voterIDs(servers) {
		if id != n.id && (target == uuid.Nil || id == target) {
			others = append(others, id)
		}
	}
	if len(others) == 0 {
		if target != uuid.Nil {
			return uuid.Nil, refused("node %s is no voter of the cluster", target)
		}
		return uuid.Nil, refused("this node is the only voter: there is nobody to lead instead")
	}
	var best uuid.UUID
	var newest uint64
	low, behind := 0, 0
	_, answers := n.followers(ctx, others, 1)
	for _, id := range others {
		is := answers[id]
		switch {
		case is == nil:
		case is.GetLowDisk():
			low++
		case !n.follows(id, is):
			// Raft waits for such a one, and takes no writes meanwhile.
			behind++
		case is.GetLastIndex() >= newest:
			best, newest = id, is.GetLastIndex()
		}
	}
	if best == uuid.Nil && target != uuid.Nil {
		why := "cannot be reached"
		switch {
		case low > 0:
			why = "has a disk that is low"
		case behind > 0:
			why = "has not caught up"
		}
		return uuid.Nil, refused("node %s cannot lead now: it %s", target, why)
	}
	if best == uuid.Nil {
		return uuid.Nil, refused("none of the %d voters that could lead can: %d cannot be reached, the disk of %d is low, and %d have not caught up",
			len(others), len(others)-len(answers), low, behind)
	}
	return best, nil
}
