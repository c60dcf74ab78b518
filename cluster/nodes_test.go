package cluster

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

// testCluster is a cluster of real nodes over real sockets. What a node sends to
// another goes through a relay, so that a test can cut or hold it.
type testCluster struct {
	t       testing.TB
	id      uuid.UUID
	epoch   uuid.UUID
	net     *testNet
	members []*testMember
}

// testMember is a node of a test's cluster, open or not.
type testMember struct {
	*Node
	cfg  Config
	opts options
	fsm  *listFSM
	open bool
}

// newCluster has no nodes yet.
func newCluster(t testing.TB) *testCluster {
	c := &testCluster{t: t, id: uuid.New(), epoch: uuid.New(), net: &testNet{relays: map[[2]uuid.UUID]*relay{}}}
	t.Cleanup(func() {
		c.net.close()
		for _, m := range c.members {
			if m.open {
				_ = m.Close()
			}
		}
	})
	return c
}

// startCluster forms a cluster of so many voters and waits for a leader.
func startCluster(t testing.TB, size int, configure ...func(*Config)) *testCluster {
	t.Helper()
	c := newCluster(t)
	var servers []raft.Server
	for range size {
		m := c.add(configure...)
		servers = append(servers, raft.Server{Suffrage: raft.Voter, ID: m.serverID(), Address: raft.ServerAddress(m.ID())})
	}
	first := c.members[0]
	if err := first.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		t.Fatal(err)
	}
	first.campaign()
	c.leader()
	return c
}

// add opens one more node, which knows the cluster and is no member yet.
func (c *testCluster) add(configure ...func(*Config)) *testMember {
	c.t.Helper()
	cfg := testConfig(c.t.TempDir(), nil)
	for _, f := range configure {
		f(&cfg)
	}
	m := &testMember{cfg: cfg}
	c.members = append(c.members, m)
	c.open(m)
	c.adopt(m)
	return m
}

// adopt makes the cluster known to a node without state.
func (c *testCluster) adopt(m *testMember) {
	c.t.Helper()
	if err := errors.Join(writeID(m.dir.file(epochFile), c.epoch), writeID(m.dir.file(clusterIDFile), c.id)); err != nil {
		c.t.Fatal(err)
	}
	m.epoch.Store(&c.epoch)
	m.cluster.Store(&c.id)
}

// open opens a member, again or for the first time; it starts with an empty state
// machine. Everyone learns its address.
func (c *testCluster) open(m *testMember) {
	c.t.Helper()
	m.fsm = &listFSM{}
	m.cfg.FSM = m.fsm
	if testing.Verbose() && m.cfg.Logger == nil {
		m.cfg.Logger = slog.New(slog.NewTextHandler(c.t.Output(), nil))
	}
	opts := m.opts
	opts.address = c.net.relayed
	n, err := open(m.cfg, opts)
	if err != nil {
		c.t.Fatalf("open: %v", err)
	}
	m.Node, m.open = n, true
	for _, other := range c.members {
		if other != m && other.open {
			other.peers.put(peer{ID: m.id, Name: m.cfg.NodeName, RaftAddr: m.RaftAddr()})
			m.peers.put(peer{ID: other.id, Name: other.cfg.NodeName, RaftAddr: other.RaftAddr()})
		}
	}
}

func (c *testCluster) close(m *testMember) {
	c.t.Helper()
	m.open = false
	closeTest(c.t, m.Node)
}

// leader waits until a node leads, with all of its state applied, and can prove it.
func (c *testCluster) leader() *testMember {
	c.t.Helper()
	var leader *testMember
	waitFor(c.t, "a node leads", func() bool {
		for _, m := range c.members {
			if m.open && m.raft.State() == raft.Leader {
				if revision, err := m.ReadIndex(c.t.Context()); err == nil && m.fsm.Revision() >= revision {
					leader = m
					return true
				}
			}
		}
		return false
	})
	return leader
}

// follower returns a node that does not lead and knows who does.
func (c *testCluster) follower() *testMember {
	c.t.Helper()
	leader := c.leader()
	var follower *testMember
	waitFor(c.t, "a follower knows the leader", func() bool {
		i := slices.IndexFunc(c.members, func(m *testMember) bool {
			if !m.open || m == leader {
				return false
			}
			_, id := m.raft.LeaderWithID()
			return id == leader.serverID()
		})
		if i < 0 {
			return false
		}
		follower = c.members[i]
		return true
	})
	return follower
}

// others are the open nodes but one.
func (c *testCluster) others(m *testMember) []*testMember {
	return slices.DeleteFunc(slices.Clone(c.members), func(other *testMember) bool { return other == m || !other.open })
}

// waitApplied waits until every open node has applied a revision.
func (c *testCluster) waitApplied(revision uint64) {
	c.t.Helper()
	for _, m := range c.members {
		if m.open {
			waitFor(c.t, "every node has the revision", func() bool { return m.fsm.Revision() >= revision })
		}
	}
}

// cut breaks every connection of a node, and refuses new ones until heal.
func (c *testCluster) cut(m *testMember)  { c.net.set(m.id, relayCut) }
func (c *testCluster) heal(m *testMember) { c.net.set(m.id, relayOpen) }

// hold keeps back what a node sends and what is sent to it; connections stay, and
// all of it arrives after heal.
func (c *testCluster) hold(m *testMember) { c.net.set(m.id, relayHeld) }

// testNet is what lies between nodes.
type testNet struct {
	mu     sync.Mutex
	relays map[[2]uuid.UUID]*relay
	states map[uuid.UUID]relayState
	closed bool
}

type relayState int

const (
	relayOpen relayState = iota
	relayHeld
	relayCut
)

// relayed returns the address by which a node reaches another.
func (t *testNet) relayed(from, to uuid.UUID, address string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return "", net.ErrClosed
	}
	r := t.relays[[2]uuid.UUID{from, to}]
	if r == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		r = &relay{listener: l, conns: map[net.Conn]struct{}{}, state: max(t.states[from], t.states[to])}
		r.changed = sync.NewCond(&r.mu)
		t.relays[[2]uuid.UUID{from, to}] = r
		go r.run()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = address
	return r.listener.Addr().String(), nil
}

func (t *testNet) set(id uuid.UUID, state relayState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.states == nil {
		t.states = map[uuid.UUID]relayState{}
	}
	t.states[id] = state
	for ids, r := range t.relays {
		r.set(max(t.states[ids[0]], t.states[ids[1]]))
	}
}

func (t *testNet) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, r := range t.relays {
		_ = r.listener.Close()
		r.set(relayCut)
	}
}

// relay passes on the connections from one node to another.
type relay struct {
	listener net.Listener

	mu      sync.Mutex
	changed *sync.Cond
	target  string
	state   relayState
	conns   map[net.Conn]struct{}
}

func (r *relay) set(state relayState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = state
	if state == relayCut {
		for conn := range r.conns {
			_ = conn.Close()
		}
		clear(r.conns)
	}
	r.changed.Broadcast()
}

func (r *relay) run() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.pass(in)
	}
}

func (r *relay) pass(in net.Conn) {
	r.mu.Lock()
	target, state := r.target, r.state
	r.mu.Unlock()
	if state == relayCut {
		_ = in.Close()
		return
	}
	out, err := net.Dial("tcp", target)
	if err != nil {
		_ = in.Close()
		return
	}
	r.mu.Lock()
	if r.state == relayCut {
		_, _ = in.Close(), out.Close()
	} else {
		r.conns[in], r.conns[out] = struct{}{}, struct{}{}
	}
	r.mu.Unlock()
	go r.copy(in, out)
	r.copy(out, in)
}

// copy passes bytes on, and closes both connections at the end of one.
func (r *relay) copy(to, from net.Conn) {
	_, _ = io.Copy(heldWriter{r, to}, from)
	_, _ = to.Close(), from.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, to)
	delete(r.conns, from)
}

// heldWriter waits while its relay is held.
type heldWriter struct {
	relay *relay
	io.Writer
}

func (w heldWriter) Write(b []byte) (int, error) {
	w.relay.mu.Lock()
	for w.relay.state == relayHeld {
		w.relay.changed.Wait()
	}
	w.relay.mu.Unlock()
	return w.Writer.Write(b)
}
