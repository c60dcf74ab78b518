package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

const (
	// membersInterval is how often the node looks at its configuration and its leader.
	membersInterval = time.Second
	// leaderless is how long a node hears of no leader before it asks others whether
	// it still belongs to them: longer than an election takes.
	leaderless = 3 * time.Second

	// wasRemoved is what a node says of itself that was a member once.
	wasRemoved = "this node was removed from its cluster: remove its data folder, and join again"
)

// watchMembers does what follows from who is a member, until the node ends: it lets go
// of nodes that left, and finds out when this one was removed while it was away.
func (n *Node) watchMembers() {
	tick := time.NewTicker(membersInterval)
	defer tick.Stop()
	heard, said := time.Now(), false
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		members := n.members()
		if len(members) > 0 { // else the node calls those that it is to be a member with
			n.conns.prune(members)
		}
		_, leader := n.raft.LeaderWithID()
		switch {
		case leader != "":
			heard = time.Now()
			n.removed.Store(false)
		case time.Since(heard) >= leaderless && n.HasState() && !n.leaving.Load():
			heard = time.Now() // as long again until others are asked again
			if removed, known := n.askMembership(members); known {
				n.removed.Store(removed)
			}
			if n.removed.Load() && !said {
				said = true
				n.log.Error(wasRemoved)
			}
		}
	}
}

// askMembership asks the other members, and who else is there of the cluster, whether
// this node was removed. It believes the one that follows a leader, or leads, and has
// heard the most; where there is none, nothing is known.
func (n *Node) askMembership(members []uuid.UUID) (removed, known bool) {
	members = slices.Clone(members)
	for _, s := range n.gossip.seen() {
		members = append(members, s.ID)
	}
	slices.SortFunc(members, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	members = slices.DeleteFunc(slices.Compact(members), func(id uuid.UUID) bool { return id == n.id })
	ctx, cancel := context.WithTimeout(n.ctx, statusTimeout)
	defer cancel()
	var newest *nodev1.StatusResponse
	for _, s := range n.statuses(ctx, members) {
		if s.GetLeaderId() == "" || len(s.GetMemberIds()) == 0 {
			continue
		}
		if newest == nil || s.GetTerm() > newest.GetTerm() ||
			s.GetTerm() == newest.GetTerm() && s.GetLastIndex() > newest.GetLastIndex() {
			newest = s
		}
	}
	return newest != nil && !slices.Contains(newest.GetMemberIds(), n.ID()), newest != nil
}
