package cluster

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// sighting is what a node that gossips says of itself. It is a hint: what it says
// may be old, and the node may be gone already.
type sighting struct {
	peer
	cluster     uuid.UUID // zero if it belongs to none
	epoch       uuid.UUID
	hasState    bool
	expect      int
	coordinator uuid.UUID // zero if it is bound to none
}

// sightingOf reads what a node says of itself.
func sightingOf(node *memberlist.Node) (sighting, error) {
	id, err := uuid.Parse(node.Name)
	if err != nil {
		return sighting{}, fmt.Errorf("%q is no node id", node.Name)
	}
	var m nodev1.NodeMeta
	if err := proto.Unmarshal(node.Meta, &m); err != nil {
		return sighting{}, fmt.Errorf("node %s says of itself what this node cannot read: run the same release on both", id)
	}
	s := sighting{
		peer:     peer{ID: id, Name: m.GetName(), RaftAddr: m.GetRaftAddress(), GossipAddr: node.Address()},
		hasState: m.GetHasState(), expect: int(m.GetExpect()),
	}
	copy(s.cluster[:], m.GetClusterId())
	copy(s.epoch[:], m.GetEpoch())
	copy(s.coordinator[:], m.GetCoordinator())
	return s, nil
}

// ofAnother reports whether the node belongs to another cluster than this one.
func (g *gossip) ofAnother(s sighting) bool {
	own := g.node.cluster.Load()
	return own != nil && s.cluster != uuid.Nil && s.cluster != *own
}

// foreign returns an error if the node belongs to another cluster than this one.
func (g *gossip) foreign(s sighting) error {
	own := g.node.cluster.Load()
	if !g.ofAnother(s) {
		return nil
	}
	err := refused("node %s at %s belongs to cluster %s, and this node to cluster %s", s.called(), s.GossipAddr, s.cluster, *own)
	g.refusal.Store(&err)
	if g.quiet.now("foreign " + s.cluster.String()) {
		g.log.Warn("a node of another cluster is refused: two clusters never become one", "error", err)
	}
	return err
}

// NodeMeta, NotifyMsg, GetBroadcasts, LocalState and MergeRemoteState are what
// memberlist asks for what it sends and gives what it receives (memberlist.Delegate).
func (g *gossip) NodeMeta(int) []byte { return g.meta() }

// NotifyMsg takes a message of another kind, which there is none of.
func (g *gossip) NotifyMsg([]byte) {}

// GetBroadcasts has nothing to add to what memberlist sends.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add to what memberlist exchanges.
func (g *gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState takes what LocalState of another node added.
func (g *gossip) MergeRemoteState([]byte, bool) {}

// NotifyAlive refuses nodes of another cluster, wherever they were heard of.
func (g *gossip) NotifyAlive(node *memberlist.Node) error {
	s, err := sightingOf(node)
	if err != nil || s.ID == g.node.id {
		return err
	}
	// memberlist tells of no change of a node that is refused, nor of one back.
	g.heard(func() {
		if known, ok := g.alive[s.ID]; ok && known.cluster != s.cluster {
			known.cluster = s.cluster
			g.alive[s.ID] = known
			g.wake()
		}
		err = g.foreign(s)
	})
	if err == nil {
		g.node.conns.retry(s.ID) // it may have been away
	}
	return err
}

// NotifyMerge refuses the first exchange with a node of another cluster. Such a
// node knows none of this one's.
func (g *gossip) NotifyMerge(nodes []*memberlist.Node) error {
	own := g.node.cluster.Load()
	var refused error
	for _, node := range nodes {
		s, err := sightingOf(node)
		if err != nil {
			return err
		}
		if own != nil && s.cluster == *own {
			return nil
		}
		if node.State == memberlist.StateAlive && refused == nil {
			g.heard(func() { refused = g.foreign(s) })
		}
	}
	return refused
}

// NotifyConflict hears of a node at another address than the one it is known at.
// That settles as soon as the old address is known to be dead.
func (g *gossip) NotifyConflict(existing, other *memberlist.Node) {
	g.heard(func() {
		if g.quiet.now("conflict " + existing.Name) {
			g.log.Info("a node is said to be at two addresses: it was restarted with another one, or one data folder is a copy of the other",
				"peer_id", existing.Name, "address", existing.Address(), "other_address", other.Address())
		}
	})
}

// NotifyJoin hears of a node that is there.
func (g *gossip) NotifyJoin(node *memberlist.Node) {
	g.see(node, func(s sighting) {
		g.log.Info("node found", "peer", s.Name, "peer_id", s.ID.String(), "raft_addr", s.RaftAddr)
	})
}

// NotifyUpdate hears of a node that says something else of itself.
func (g *gossip) NotifyUpdate(node *memberlist.Node) { g.see(node, func(sighting) {}) }

// NotifyLeave hears of a node that is gone.
func (g *gossip) NotifyLeave(node *memberlist.Node) {
	id, err := uuid.Parse(node.Name)
	if err != nil {
		return
	}
	g.heard(func() {
		if s, known := g.alive[id]; known {
			delete(g.alive, id)
			g.wake()
			g.log.Info("node is gone", "peer", s.Name, "peer_id", s.ID.String())
		}
	})
}

// see notes what another node says of itself.
func (g *gossip) see(node *memberlist.Node, then func(sighting)) {
	s, err := sightingOf(node)
	if err != nil || s.ID == g.node.id {
		return
	}
	g.heard(func() {
		g.alive[s.ID] = s
		g.wake()
		if own := g.node.cluster.Load(); own == nil || s.cluster == *own {
			g.node.peers.put(s.peer)
		}
		then(s)
	})
}

// heard does what news ask for, with the lock held. News come even after the end,
// when nothing may be written any more.
func (g *gossip) heard(news func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		news()
	}
}

// wake tells who waits for a change. The lock is held.
func (g *gossip) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}
