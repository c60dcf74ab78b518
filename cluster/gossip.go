package cluster

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

const (
	// A dead node is found after a probe and the time others have to contradict:
	// two to five seconds.
	gossipProbeInterval   = 500 * time.Millisecond
	gossipProbeTimeout    = 300 * time.Millisecond
	gossipSuspicion       = 4 // times the probe interval
	gossipSuspicionMost   = 2 // times that, where nobody else has noticed
	gossipInterval        = 100 * time.Millisecond
	gossipExchange        = 2 * time.Second // of everything, with one other node
	gossipToTheDead       = 15 * time.Second
	gossipTimeout         = 2 * time.Second // of a connection
	gossipLeaveTimeout    = time.Second
	gossipAnnounceTimeout = 500 * time.Millisecond
	// gossipAnnounceEvery is how often the node looks whether what it says of itself
	// is still right.
	gossipAnnounceEvery = 100 * time.Millisecond

	// maxNameBytes and maxHostBytes keep what a node says of itself within the
	// bytes that gossip has for it. No host name is longer.
	maxNameBytes = 128
	maxHostBytes = 253
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

// gossip finds other nodes and tells them where this one is.
type gossip struct {
	node    *Node
	log     *slog.Logger
	list    *memberlist.Memberlist
	address string // as advertised
	blind   func(self, other uuid.UUID) bool
	vanish  bool // without a word to others
	quiet   occasionally
	refusal atomic.Pointer[error] // the last of another cluster's node

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// looked is closed when all addresses known at the start have been tried once.
	looked chan struct{}

	mu      sync.Mutex
	alive   map[uuid.UUID]sighting // other nodes
	changed chan struct{}          // closed at the next change of alive
	ended   bool                   // nothing is noted or logged any more

	closeOnce sync.Once
}

// checkAddresses refuses what other nodes could not use.
func (c Config) checkAddresses() error {
	if c.GossipAddr == "" {
		return nil
	}
	if len(c.NodeName) > maxNameBytes || !utf8.ValidString(c.NodeName) {
		return fmt.Errorf("cluster: the node name %q is not UTF-8 or has more than %d bytes: choose a shorter one", c.NodeName, maxNameBytes)
	}
	switch len(c.GossipKey) {
	case 0, 16, 24, 32:
	default:
		return fmt.Errorf("cluster: the gossip key has %d bytes: give one of 16, 24 or 32", len(c.GossipKey))
	}
	for _, seed := range c.Seeds {
		if host, port, err := net.SplitHostPort(seed); err != nil || host == "" || port == "" {
			return fmt.Errorf("cluster: %q is no gossip address of another node: give host:port", seed)
		}
	}
	if c.AdvertiseAddr != "" {
		host := c.AdvertiseAddr
		if _, _, err := net.SplitHostPort(host); err == nil || len(host) > maxHostBytes || unspecified(host) {
			return fmt.Errorf("cluster: the advertised address %q is not one that other nodes can call: give a host name or an IP address without a port", host)
		}
		return nil
	}
	for what, address := range map[string]string{"for other nodes": c.RaftAddr, "for gossip": c.GossipAddr} {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("cluster: the address to listen on %s: %w", what, err)
		}
		if host == "" || unspecified(host) {
			return fmt.Errorf("cluster: the node listens %s on %s, which is every address of this machine and tells other nodes none: say which host they reach it by (--advertise-addr), or listen on one address", what, address)
		}
	}
	return nil
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}

// newGossip returns what start starts; nil for a node without a gossip address.
func newGossip(n *Node, opts options) *gossip {
	if n.cfg.GossipAddr == "" {
		return nil
	}
	g := &gossip{
		node: n, log: n.log, looked: make(chan struct{}),
		alive: map[uuid.UUID]sighting{}, changed: make(chan struct{}),
		blind: opts.blind, vanish: opts.vanish,
	}
	g.ctx, g.cancel = context.WithCancel(n.ctx)
	return g
}

// start makes the node find others. Raft must have started.
func (g *gossip) start() error {
	if g == nil {
		return nil
	}
	c, err := g.config()
	if err == nil {
		g.list, err = memberlist.Create(c)
	}
	if err != nil {
		if c != nil {
			_ = c.Transport.Shutdown()
		}
		return fmt.Errorf("gossip on %s: %w", g.node.cfg.GossipAddr, err)
	}
	g.wg.Go(g.announce)
	g.wg.Go(g.look)
	return nil
}

func (g *gossip) config() (*memberlist.Config, error) {
	bind, err := net.ResolveTCPAddr("tcp", g.node.cfg.GossipAddr)
	if err != nil {
		return nil, err
	}
	logger := log.New(gossipLog{g}, "", 0)
	transport, err := newGossipTransport(g.ctx, bind, logger)
	if err != nil {
		return nil, err
	}
	port := transport.GetAutoBindPort()
	advertise, host := bind.IP, bind.IP.String()
	if g.node.cfg.AdvertiseAddr != "" {
		host = g.node.cfg.AdvertiseAddr
		resolved, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			_ = transport.Shutdown()
			return nil, fmt.Errorf("the advertised address: %w", err)
		}
		advertise = resolved.IP
	}
	g.address = net.JoinHostPort(host, strconv.Itoa(port))

	c := memberlist.DefaultLANConfig()
	c.Name = g.node.ID()
	c.Transport = transport
	c.AdvertiseAddr, c.AdvertisePort = advertise.String(), port
	c.BindAddr, c.BindPort = bind.IP.String(), port
	c.TCPTimeout = gossipTimeout
	c.ProbeInterval, c.ProbeTimeout = gossipProbeInterval, gossipProbeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = gossipSuspicion, gossipSuspicionMost
	c.GossipInterval, c.PushPullInterval = gossipInterval, gossipExchange
	c.GossipToTheDeadTime = gossipToTheDead
	// A node that died may come back at once at another address.
	c.DeadNodeReclaimTime = time.Nanosecond
	c.EnableCompression = false
	c.SecretKey = g.node.cfg.GossipKey
	c.Delegate, c.Events, c.Alive, c.Merge, c.Conflict = g, g, g, g, g
	c.Logger = logger
	return c, nil
}

// close tells other nodes that this one ends, and ends gossip.
func (g *gossip) close() {
	if g == nil {
		return
	}
	g.cancel()
	if g.list == nil {
		return
	}
	g.closeOnce.Do(func() {
		g.wg.Wait()
		if !g.vanish {
			if err := g.list.Leave(gossipLeaveTimeout); err != nil {
				g.log.Debug("other nodes were not told that this one ends; they find out", "error", err)
			}
		}
		if err := g.list.Shutdown(); err != nil {
			g.log.Warn("end gossip", "error", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended = true
	})
}

// meta is what the node says of itself.
func (g *gossip) meta() []byte {
	n := g.node
	m := &nodev1.NodeMeta{Name: n.cfg.NodeName, RaftAddress: n.raftAdvertised(), HasState: n.HasState()}
	if id := n.cluster.Load(); id != nil {
		epoch := n.logEpoch()
		m.ClusterId, m.Epoch = id[:], epoch[:]
	}
	if m.HasState {
		return encodeMeta(m)
	}
	if f := n.forming.Load(); f != nil {
		m.Expect = uint32(f.Expect)
	}
	if b := n.bond.Load(); b != nil {
		coordinator := b.Nodes[0]
		m.Coordinator = coordinator[:]
	}
	return encodeMeta(m)
}

func encodeMeta(m *nodev1.NodeMeta) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil { // names that are not UTF-8 are refused before
		panic(err)
	}
	return b
}

// announce tells other nodes when what this one says of itself has changed.
func (g *gossip) announce() {
	tick := time.NewTicker(gossipAnnounceEvery)
	defer tick.Stop()
	said := string(g.list.LocalNode().Meta)
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		if now := string(g.meta()); now != said {
			said = now
			if err := g.list.UpdateNode(gossipAnnounceTimeout); err != nil {
				g.log.Debug("what the node says of itself reaches others late", "error", err)
			}
		}
	}
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

// seen returns the nodes that are there and not another cluster's, by id.
func (g *gossip) seen() []sighting {
	all, _ := g.everyone()
	return slices.DeleteFunc(all, g.ofAnother)
}

// everyone returns the nodes that are there, by id, and what is closed when that
// changes.
func (g *gossip) everyone() ([]sighting, <-chan struct{}) {
	if g == nil {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]sighting, 0, len(g.alive))
	for _, s := range g.alive {
		if g.blind == nil || !g.blind(g.node.id, s.ID) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b sighting) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return all, g.changed
}

// find returns what a node says of itself that is there and not another cluster's.
func (g *gossip) find(id uuid.UUID) (sighting, bool) {
	if g == nil {
		return sighting{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.alive[id]
	return s, ok && !g.ofAnother(s)
}

// GossipAddr is where other nodes gossip with this one; empty if it stays alone.
func (n *Node) GossipAddr() string {
	if n.gossip == nil {
		return ""
	}
	return n.gossip.address
}
