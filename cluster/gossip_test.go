package cluster

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// gossipConfig is that of a node that gossips, on free ports.
func gossipConfig(t testing.TB, name string, seeds ...string) Config {
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.NodeName, cfg.GossipAddr, cfg.Seeds = name, "127.0.0.1:0", seeds
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return cfg
}

// sees reports whether the node sees exactly these others.
func sees(n *Node, others ...*Node) bool {
	if len(n.gossip.seen()) != len(others) {
		return false
	}
	for _, other := range others {
		s, ok := n.gossip.find(other.id)
		if !ok || s.Name != other.cfg.NodeName || s.RaftAddr != other.RaftAddr() || s.GossipAddr != other.GossipAddr() {
			return false
		}
	}
	return true
}

func waitAllSee(t testing.TB, nodes ...*Node) {
	t.Helper()
	waitFor(t, "all nodes see each other", func() bool {
		for i, n := range nodes {
			if !sees(n, slices.Delete(slices.Clone(nodes), i, i+1)...) {
				return false
			}
		}
		return true
	})
}

func TestGossipFindsNodes(t *testing.T) {
	a := openTest(t, gossipConfig(t, "a"), options{})
	// b knows a, c knows b, and a seed that nobody listens at does no harm.
	b := openTest(t, gossipConfig(t, "b", a.GossipAddr()), options{})
	c := openTest(t, gossipConfig(t, "c", "127.0.0.1:1", b.GossipAddr()), options{})
	waitAllSee(t, a, b, c)
	for _, n := range []*Node{b, c} {
		if address, err := a.addressOf(n.id); err != nil || address != n.RaftAddr() {
			t.Errorf("node %s is said to be at %q, %v; it is at %s", n.cfg.NodeName, address, err, n.RaftAddr())
		}
	}
	closeTest(t, b)
	waitFor(t, "a node that closed is gone", func() bool { return sees(a, c) && sees(c, a) })
	if address, err := a.addressOf(b.id); err != nil || address != b.RaftAddr() {
		t.Errorf("the last address of a node that is gone: %q, %v", address, err)
	}
}

// TestGossipFindsTheDead ends a node without a word to others.
func TestGossipFindsTheDead(t *testing.T) {
	a := openTest(t, gossipConfig(t, "a"), options{})
	b := openTest(t, gossipConfig(t, "b", a.GossipAddr()), options{vanish: true})
	waitAllSee(t, a, b)
	closeTest(t, b)
	waitFor(t, "a node that died is gone", func() bool { return sees(a) })
}

// TestGossipAgain restarts nodes of which each knows only addresses from before,
// most of them wrong by now.
func TestGossipAgain(t *testing.T) {
	for _, vanish := range []bool{false, true} {
		a := openTest(t, gossipConfig(t, "a"), options{vanish: vanish})
		b := openTest(t, gossipConfig(t, "b", a.GossipAddr()), options{vanish: vanish})
		c := openTest(t, gossipConfig(t, "c", a.GossipAddr()), options{vanish: vanish})
		waitAllSee(t, a, b, c)
		closeTest(t, a)
		closeTest(t, b)
		restart := func(n *Node) *Node {
			cfg := n.cfg
			cfg.Seeds = nil
			again := openTest(t, cfg, options{})
			if again.GossipAddr() == n.GossipAddr() || again.RaftAddr() == n.RaftAddr() {
				t.Log("a port was given twice")
			}
			return again
		}
		a, b = restart(a), restart(b)
		waitAllSee(t, a, b, c)
	}
}

// TestGossipSeedComesLate starts a node before its seed.
func TestGossipSeedComesLate(t *testing.T) {
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := reserved.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	early := openTest(t, gossipConfig(t, "early", "localhost:"+port), options{})
	<-early.gossip.looked
	if err := reserved.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := gossipConfig(t, "late")
	cfg.GossipAddr = address
	late := openTest(t, cfg, options{})
	waitAllSee(t, early, late)
}

// count returns how often the words were logged.
func (l *logLines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.all.String(), words)
}

func TestGossipRefusesAnotherCluster(t *testing.T) {
	var log logLines
	cfg := gossipConfig(t, "a")
	cfg.Logger = log.logger()
	a := startTest(t, cfg, options{})
	b := startTest(t, gossipConfig(t, "b"), options{})
	idA, _ := a.ClusterID()
	idB, _ := b.ClusterID()
	refused := func() error { return b.gossip.call(t.Context(), a.GossipAddr()) }
	waitFor(t, "a node of another cluster is refused", func() bool { return refused() != nil })
	for range 5 {
		if err := refused(); err == nil || !strings.Contains(err.Error(), uuid.UUID(idA).String()) || !strings.Contains(err.Error(), uuid.UUID(idB).String()) {
			t.Errorf("a node of another cluster: %v", err)
		}
	}
	// A node without a cluster gossips with both, and makes neither see the other.
	free := openTest(t, gossipConfig(t, "free", a.GossipAddr(), b.GossipAddr()), options{})
	waitFor(t, "the node without a cluster sees both", func() bool { return sees(free, a, b) && sees(a, free) && sees(b, free) })
	waitFor(t, "the refusal is logged", func() bool { return log.count("node of another cluster is refused") > 0 })
	if n := log.count("node of another cluster is refused"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if _, ok := a.peers.get(b.id); ok {
		t.Error("the address book has a node of another cluster")
	}
	if _, ok := a.peers.get(free.id); ok {
		t.Error("the address book has a node without a cluster")
	}
}

func TestGossipKey(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	lines := map[string]*syncBuffer{}
	open := func(name string, key []byte, seeds ...string) *Node {
		cfg := gossipConfig(t, name, seeds...)
		lines[name] = &syncBuffer{}
		cfg.GossipKey, cfg.Logger = key, lines[name].logger()
		return openTest(t, cfg, options{})
	}
	a := open("a", key)
	b := open("b", key, a.GossipAddr())
	none := open("none", nil, a.GossipAddr())
	other := open("other", bytes.Repeat([]byte{8}, 32), a.GossipAddr())
	waitAllSee(t, a, b)
	for _, n := range []*Node{none, other} {
		<-n.gossip.looked
		if err := n.gossip.call(t.Context(), a.GossipAddr()); err == nil {
			t.Errorf("node %q was let in", n.cfg.NodeName)
		}
		if !sees(n) {
			t.Errorf("node %q sees others", n.cfg.NodeName)
		}
	}
	if !sees(a, b) {
		t.Error("a node without the key is seen")
	}
	// Whoever looks at the log of any of them learns what is wrong.
	for _, name := range []string{"a", "none", "other"} {
		waitFor(t, name+" says that keys differ", func() bool {
			return strings.Contains(lines[name].String(), "gossip cannot be understood: the nodes have different gossip keys, or one has none")
		})
	}
}

// memberlist words errors as lists over several lines.
func TestListless(t *testing.T) {
	const listed = "2 errors occurred:\n\t* failed to join 127.0.0.1:1: connection refused\n\t* failed to join 127.0.0.1:2: reset\n\n"
	if got := listless(listed); got != "failed to join 127.0.0.1:1: connection refused; failed to join 127.0.0.1:2: reset" {
		t.Errorf("%q", got)
	}
	if got := listless("plain"); got != "plain" {
		t.Errorf("%q", got)
	}
}

func TestGossipAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   string // in the error
	}{
		"gossip on every address":       {func(c *Config) { c.GossipAddr = "0.0.0.0:0" }, "--advertise-addr"},
		"gossip on every IPv6":          {func(c *Config) { c.GossipAddr = "[::]:0" }, "--advertise-addr"},
		"gossip on a port alone":        {func(c *Config) { c.GossipAddr = ":0" }, "--advertise-addr"},
		"nodes on every address":        {func(c *Config) { c.RaftAddr = "0.0.0.0:0" }, "--advertise-addr"},
		"no port":                       {func(c *Config) { c.GossipAddr = "127.0.0.1" }, "port"},
		"advertised with a port":        {func(c *Config) { c.AdvertiseAddr = "127.0.0.1:7" }, "without a port"},
		"advertised nothing":            {func(c *Config) { c.AdvertiseAddr = "0.0.0.0" }, "can call"},
		"advertised no name":            {func(c *Config) { c.AdvertiseAddr = "no-such-host.invalid" }, "no-such-host"},
		"a key of the wrong length":     {func(c *Config) { c.GossipKey = []byte("short") }, "16, 24 or 32"},
		"a seed without a port":         {func(c *Config) { c.Seeds = []string{"node-1"} }, "host:port"},
		"a name that is too long":       {func(c *Config) { c.NodeName = strings.Repeat("n", maxNameBytes+1) }, "shorter"},
		"a name that is not UTF-8":      {func(c *Config) { c.NodeName = "\xff" }, "UTF-8"},
		"an address that is in use":     {func(c *Config) { c.GossipAddr = taken(t) }, "in use"},
		"every address, advertised":     {func(c *Config) { c.GossipAddr, c.RaftAddr, c.AdvertiseAddr = ":0", "0.0.0.0:0", "127.0.0.1" }, ""},
		"one address, advertised":       {func(c *Config) { c.AdvertiseAddr = "localhost" }, ""},
		"every address, without gossip": {func(c *Config) { c.GossipAddr, c.RaftAddr = "", "0.0.0.0:0" }, ""},
	} {
		cfg := gossipConfig(t, "a")
		test.change(&cfg)
		n, err := Open(cfg)
		switch {
		case err == nil:
			closeTest(t, n)
			if test.want != "" {
				t.Errorf("%s: opened", name)
			}
		case test.want == "" || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

func taken(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// TestGossipMetaFits encodes the most that a node can say of itself.
func TestGossipMetaFits(t *testing.T) {
	id := bytes.Repeat([]byte{0xff}, 16)
	meta := encodeMeta(&nodev1.NodeMeta{
		Name: strings.Repeat("n", maxNameBytes), RaftAddress: strings.Repeat("h", maxHostBytes) + ":65535",
		ClusterId: id, Epoch: id, HasState: true, Expect: 1<<32 - 1, Coordinator: id,
	})
	if len(meta) > memberlist.MetaMaxSize {
		t.Errorf("%d bytes, and gossip takes %d", len(meta), memberlist.MetaMaxSize)
	}
	if fields := new(nodev1.NodeMeta).ProtoReflect().Descriptor().Fields().Len(); fields != 7 {
		t.Errorf("%d fields, and this test fills 7", fields)
	}
	if err := proto.Unmarshal(meta, new(nodev1.NodeMeta)); err != nil {
		t.Error(err)
	}
}

// TestLeftFolder opens the folder of a node that has left its cluster.
func TestLeftFolder(t *testing.T) {
	cfg := testConfig(t.TempDir(), &listFSM{})
	n := startTest(t, cfg, options{})
	if err := n.markLeft(); err != nil {
		t.Fatal(err)
	}
	closeTest(t, n)
	before := files(t, cfg.DataDir)
	_, err := Open(cfg)
	if err == nil || !strings.Contains(err.Error(), "has left its cluster") || !strings.Contains(err.Error(), cfg.DataDir) {
		t.Errorf("opened: %v", err)
	}
	if after := files(t, cfg.DataDir); len(after) != len(before) {
		t.Errorf("the refused folder was changed: %d files, before %d", len(after), len(before))
	}
	if err := os.RemoveAll(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	if again := openTest(t, cfg, options{}); again.id == n.id || again.HasState() {
		t.Error("the folder made anew has something of the old one")
	}
}

// Whoever holds connections open pushes out the oldest, and not the nodes.
func TestGossipStreams(t *testing.T) {
	transport := &gossipTransport{ctx: t.Context(), open: newestConns{most: maxGossipStreams}}
	var ends, conns []net.Conn
	open := func() {
		conn, end := net.Pipe()
		ends, conns = append(ends, end), append(conns, transport.bounded(conn))
	}
	closed := func(i int) bool {
		return ends[i].SetReadDeadline(time.Now()) != nil // so does a pipe whose other end is closed
	}
	for range maxGossipStreams {
		open()
	}
	if closed(0) {
		t.Error("the first connection ended too soon")
	}
	if err := conns[1].Close(); err != nil { // that of a caller who is done
		t.Error(err)
	}
	open()
	if closed(0) {
		t.Error("the first connection ended although there was room")
	}
	open()
	if !closed(0) || closed(2) || closed(maxGossipStreams) {
		t.Error("not the oldest connection ended")
	}
	if open := len(transport.open.conns); open != maxGossipStreams {
		t.Errorf("%d connections are open", open)
	}
}
