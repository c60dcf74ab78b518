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
	// Before it listens: what comes in then is taken once memberlist runs, and not before.
	var advertised *net.IPAddr
	if g.node.cfg.AdvertiseAddr != "" {
		if advertised, err = net.ResolveIPAddr("ip", g.node.cfg.AdvertiseAddr); err != nil {
			return nil, fmt.Errorf("the advertised address: %w", err)
		}
	}
	logger := log.New(gossipLog{g}, "", 0)
	transport, err := newGossipTransport(g.ctx, bind, len(g.node.cfg.GossipKey) == 0 && !g.node.cfg.Insecure, logger)
	if err != nil {
		return nil, err
	}
	port := transport.GetAutoBindPort()
	advertise, host := bind.IP, bind.IP.String()
	if advertised != nil {
		advertise, host = advertised.IP, g.node.cfg.AdvertiseAddr
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
