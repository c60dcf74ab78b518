package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// formed is what Form answered.
type formed struct {
	bootstrapped bool
	err          error
}

// form runs Form until the test ends.
func form(t testing.TB, n *Node, f Formation) <-chan formed {
	t.Helper()
	answer := make(chan formed, 1)
	go func() {
		bootstrapped, err := n.Form(t.Context(), f)
		answer <- formed{bootstrapped, err}
	}()
	return answer
}

// waitOneCluster waits until these nodes have one leader, and checks that they are
// one cluster in which all of them vote.
func waitOneCluster(t testing.TB, nodes ...*Node) {
	t.Helper()
	waitFor(t, "one leader with the word of all", func() bool {
		leaders := 0
		for _, n := range nodes {
			if n.raft.State() == raft.Leader {
				leaders++
			}
			if voters, err := n.voters(); err != nil || len(voters) != len(nodes) || n.raft.LastIndex() < 2 {
				return false
			}
		}
		return leaders == 1
	})
	want, _ := nodes[0].ClusterID()
	for _, n := range nodes {
		if got, ok := n.ClusterID(); !ok || got != want {
			t.Errorf("node %s belongs to cluster %x, node %s to %x", n.cfg.NodeName, got, nodes[0].cfg.NodeName, want)
		}
		if n.logEpoch() != nodes[0].logEpoch() {
			t.Errorf("node %s has epoch %s, node %s %s", n.cfg.NodeName, n.logEpoch(), nodes[0].cfg.NodeName, nodes[0].logEpoch())
		}
	}
}

func TestFormThree(t *testing.T) {
	a := openTest(t, gossipConfig(t, "a"), options{})
	b := openTest(t, gossipConfig(t, "b", a.GossipAddr()), options{})
	c := openTest(t, gossipConfig(t, "c", a.GossipAddr()), options{})
	nodes := []*Node{a, b, c}
	var answers []<-chan formed
	for _, n := range nodes {
		answers = append(answers, form(t, n, Formation{Expect: 3, RootKeyProof: []byte("same")}))
	}
	first := 0
	for i, n := range nodes {
		if n.ID() < nodes[first].ID() {
			first = i
		}
	}
	for i, answer := range answers {
		if got := <-answer; got.err != nil || got.bootstrapped != (i == first) {
			t.Errorf("node %d: %+v", i, got)
		}
	}
	waitOneCluster(t, nodes...)
	for _, n := range nodes {
		if id, err := n.Coordinator(); err != nil || id != nodes[first].ID() {
			t.Errorf("the coordinator is said to be %s, %v", id, err)
		}
		if why := n.Waiting(); why != "" {
			t.Errorf("a node of a cluster waits: %s", why)
		}
		if did, err := n.Form(t.Context(), Formation{Expect: 3}); did || err != nil {
			t.Errorf("forming again: %t, %v", did, err)
		}
	}
}

// TestFormWaits shows nodes that cannot form a cluster, and what they say.
func TestFormWaits(t *testing.T) {
	same := Formation{Expect: 2, RootKeyProof: []byte("one")}
	for name, test := range map[string]struct {
		first, second Formation
		want          []string // what either says
	}{
		"a node is missing":  {Formation{Expect: 3}, Formation{Expect: 3}, []string{"expects 3 nodes and sees 2: first, second"}},
		"too many":           {Formation{Expect: 1}, Formation{Expect: 1}, []string{"too many: first, second"}},
		"another number":     {Formation{Expect: 2}, Formation{Expect: 3}, []string{"second expects 3 nodes, and this node 2", "first expects 2 nodes, and this node 3"}},
		"another root key":   {same, Formation{Expect: 2, RootKeyProof: []byte("two")}, []string{"another root key", "waits for node"}},
		"no root key":        {same, Formation{Expect: 2}, []string{"another root key", "waits for node"}},
		"one waits to join":  {same, Formation{}, []string{"expects 2 nodes and sees 1: first", "run remit join"}},
		"a cluster is there": {Formation{Expect: 1}, same, []string{"", "run remit join"}},
	} {
		a := openTest(t, gossipConfig(t, "first"), options{})
		b := openTest(t, gossipConfig(t, "second", a.GossipAddr()), options{})
		waitAllSee(t, a, b)
		var first <-chan formed
		if name == "a cluster is there" {
			// Nothing else is told to form one yet.
			first = form(t, a, test.first)
			waitLeader(t, a)
			form(t, b, test.second)
		} else {
			// Both are there before either begins: the same moment to the processes.
			a.forming.Store(&test.first)
			b.forming.Store(&test.second)
			waitFor(t, "each knows what the other wants", func() bool {
				x, _ := a.gossip.find(b.id)
				y, _ := b.gossip.find(a.id)
				return x.expect == test.second.Expect && y.expect == test.first.Expect
			})
			a.forming.Store(nil)
			b.forming.Store(nil)
			first = form(t, a, test.first)
			form(t, b, test.second)
		}
		waitFor(t, name+": "+strings.Join(test.want, "; "), func() bool {
			both := a.Waiting() + "\n" + b.Waiting()
			return !slices.ContainsFunc(test.want, func(words string) bool { return !strings.Contains(both, words) })
		})
		if b.HasState() || test.first.Expect > 1 && a.HasState() {
			t.Errorf("%s: a cluster was formed", name)
		}
		if test.first.Expect == 1 && name == "a cluster is there" {
			if got := <-first; !got.bootstrapped {
				t.Errorf("%s: %+v", name, got)
			}
		}
		closeTest(t, b)
		closeTest(t, a)
	}
}

// A cluster starts at its coordinator's level, so only where all nodes know that.
func TestFormAcrossReleases(t *testing.T) {
	a := openTest(t, gossipConfig(t, "a"), options{})
	b := openTest(t, gossipConfig(t, "b", a.GossipAddr()), options{})
	waitAllSee(t, a, b)
	coordinator, other := a, b
	if bytes.Compare(b.id[:], a.id[:]) < 0 {
		coordinator, other = b, a
	}
	coordinator.cfg.Level, other.cfg.Level = 2, 1
	form(t, other, Formation{Expect: 2})
	form(t, coordinator, Formation{Expect: 2})
	waitFor(t, "the older node refuses", func() bool {
		return strings.Contains(coordinator.Waiting(), "supports level 1 at most, and the cluster would start at level 2")
	})
	if a.HasState() || b.HasState() {
		t.Error("a cluster was formed")
	}
}

func TestFormRefuses(t *testing.T) {
	alone := openTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.Replica = true
	replica := openTest(t, cfg, options{})
	for _, test := range []struct {
		node   *Node
		expect int
		want   string
	}{{alone, -1, "at least 1"}, {alone, 2, "does not gossip"}, {replica, 1, "replica"}} {
		if _, err := test.node.Form(t.Context(), Formation{Expect: test.expect}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("expect %d: %v, want an error with %q", test.expect, err, test.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := alone.Form(ctx, Formation{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
	if did, err := alone.Form(t.Context(), Formation{Expect: 1}); !did || err != nil {
		t.Errorf("a cluster of one, without gossip: %t, %v", did, err)
	}
	waitLeader(t, alone)
}

// TestConfirm asks a node for its word, each time in a way it must refuse.
func TestConfirm(t *testing.T) {
	n := openTest(t, gossipConfig(t, "n"), options{})
	low, high := uuid.UUID{15: 1}, uuid.Max
	ask := func(change func(*nodev1.ConfirmBootstrapRequest)) error {
		cluster, epoch := uuid.New(), uuid.New()
		r := &nodev1.ConfirmBootstrapRequest{ClusterId: cluster[:], Epoch: epoch[:], NodeIds: []string{low.String(), n.ID()}}
		change(r)
		coordinator, _ := uuid.Parse(r.NodeIds[0])
		return n.confirmBootstrap(coordinator, r)
	}
	wants := func(name, words string, change func(*nodev1.ConfirmBootstrapRequest)) {
		t.Helper()
		if err := ask(change); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want an error with %q", name, err, words)
		}
	}
	nothing := func(*nodev1.ConfirmBootstrapRequest) {}
	wants("without --bootstrap-expect", "--bootstrap-expect", nothing)
	n.forming.Store(&Formation{Expect: 2, RootKeyProof: []byte("proof")})
	right := func(r *nodev1.ConfirmBootstrapRequest) { r.RootKeyProof = []byte("proof") }
	wants("another root key", "root key", nothing)
	wants("a level that it does not know", "supports level 0 at most, and the cluster would start at level 1", func(r *nodev1.ConfirmBootstrapRequest) { right(r); r.Level = 1 })
	wants("no cluster id", "cluster id", func(r *nodev1.ConfirmBootstrapRequest) { r.ClusterId = nil })
	wants("no epoch", "epoch", func(r *nodev1.ConfirmBootstrapRequest) { r.Epoch = make([]byte, 16) })
	wants("the wrong order", "ascending", func(r *nodev1.ConfirmBootstrapRequest) { slices.Reverse(r.NodeIds) })
	wants("the same twice", "ascending", func(r *nodev1.ConfirmBootstrapRequest) { r.NodeIds = []string{n.ID(), n.ID()} })
	wants("no id", "UUIDs", func(r *nodev1.ConfirmBootstrapRequest) { r.NodeIds[0] = "node-1" })
	wants("nobody else", "two nodes", func(r *nodev1.ConfirmBootstrapRequest) { r.NodeIds = r.NodeIds[1:] })
	wants("nodes that it does not see", "sees other nodes", right)
	if n.bond.Load() != nil {
		t.Fatal("a refusal bound the node")
	}

	b, _ := newBond(uuid.New(), low, n.id)
	if err := n.bind(b); err != nil {
		t.Fatal(err)
	}
	same := func(r *nodev1.ConfirmBootstrapRequest) { right(r); r.ClusterId, r.Epoch = b.Cluster[:], b.Epoch[:] }
	if err := ask(same); err != nil {
		t.Errorf("the same again: %v", err)
	}
	wants("another cluster", "bound to cluster "+b.Cluster.String(), right)
	wants("another list", "sees other nodes", func(r *nodev1.ConfirmBootstrapRequest) { same(r); r.NodeIds = append(r.NodeIds, high.String()) })
	wants("another coordinator", "bound to cluster", func(r *nodev1.ConfirmBootstrapRequest) { same(r); r.NodeIds[0] = uuid.UUID{15: 2}.String() })
	if err := n.Bootstrap(t.Context(), uuid.New()); err == nil || !strings.Contains(err.Error(), "bound") {
		t.Errorf("a bound node bootstraps: %v", err)
	}
}

// TestFormTooMany has one node more than the cluster is to have.
func TestFormTooMany(t *testing.T) {
	var nodes []*Node
	for i := range 4 {
		var seeds []string
		if i > 0 {
			seeds = []string{nodes[0].GossipAddr()}
		}
		nodes = append(nodes, openTest(t, gossipConfig(t, fmt.Sprint("n", i), seeds...), options{}))
	}
	waitAllSee(t, nodes...)
	for _, n := range nodes {
		form(t, n, Formation{Expect: 3})
	}
	waitFor(t, "all say that they are too many", func() bool {
		return !slices.ContainsFunc(nodes, func(n *Node) bool { return !strings.Contains(n.Waiting(), "sees 4, which is too many") })
	})
	for _, n := range nodes {
		if n.HasState() || n.bond.Load() != nil {
			t.Errorf("node %s has begun", n.cfg.NodeName)
		}
	}
	closeTest(t, nodes[2])
	waitOneCluster(t, nodes[0], nodes[1], nodes[3])
}

// blindness is who does not see whom.
type blindness struct {
	mu    sync.Mutex
	pairs map[[2]uuid.UUID]bool
}

func (b *blindness) blind(self, other uuid.UUID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pairs[[2]uuid.UUID{self, other}]
}

// TestFormPartialViews gives each of four nodes, of which three are to form the
// cluster, its own view of the others.
func TestFormPartialViews(t *testing.T) {
	for round := range rounds(4) {
		random := rand.New(rand.NewPCG(uint64(round), 4))
		var views blindness
		var nodes []*Node
		for i := range 4 {
			nodes = append(nodes, openTest(t, gossipConfig(t, fmt.Sprint("n", i)), options{blind: views.blind}))
		}
		views.mu.Lock()
		views.pairs = map[[2]uuid.UUID]bool{}
		for _, n := range nodes {
			if random.IntN(4) > 0 { // it sees three nodes, itself among them, or all
				for {
					if other := nodes[random.IntN(4)]; other != n {
						views.pairs[[2]uuid.UUID{n.id, other.id}] = true
						break
					}
				}
			}
		}
		views.mu.Unlock()
		for _, n := range nodes {
			form(t, n, Formation{Expect: 3})
		}
		var calls sync.WaitGroup
		for _, n := range nodes {
			calls.Go(func() { _ = n.gossip.call(t.Context(), nodes[0].GossipAddr()) })
		}
		calls.Wait()
		var said []string
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("round %d, the last words:\n%s", round, strings.Join(said, "\n"))
			}
		})
		waitFor(t, "something is decided, or said to be undecided by all", func() bool {
			undecided := 0
			said = said[:0]
			for _, n := range nodes {
				why := n.Waiting()
				said = append(said, n.cfg.NodeName+": "+why)
				if strings.Contains(why, "too many") || strings.Contains(why, "sees other nodes") || strings.Contains(why, "bound") || strings.Contains(why, "belongs to cluster") || strings.Contains(why, "waits for node") || strings.Contains(why, "would start") {
					undecided++
				}
			}
			return undecided == len(nodes) || slices.ContainsFunc(nodes, func(n *Node) bool { return n.raft.State() == raft.Leader })
		})
		checkOneCluster(t, nodes)
		for _, n := range nodes {
			closeTest(t, n)
		}
	}
}

// checkOneCluster fails if nodes have state of two clusters.
func checkOneCluster(t *testing.T, nodes []*Node) {
	t.Helper()
	clusters := map[[16]byte]string{}
	for _, n := range nodes {
		if id, ok := n.ClusterID(); ok && n.HasState() {
			clusters[id] = n.cfg.NodeName
		}
	}
	if len(clusters) > 1 {
		t.Errorf("two clusters: %v", clusters)
	}
}

// TestClusterMoves restarts a majority of a cluster at other addresses, once without
// a word to the rest.
func TestClusterMoves(t *testing.T) {
	var nodes []*Node
	var forms []<-chan formed
	for i := range 3 {
		var seeds []string
		if i > 0 {
			seeds = []string{nodes[0].GossipAddr()}
		}
		nodes = append(nodes, openTest(t, gossipConfig(t, fmt.Sprint("n", i), seeds...), options{vanish: true}))
		forms = append(forms, form(t, nodes[i], Formation{Expect: 3}))
	}
	for _, answer := range forms {
		if got := <-answer; got.err != nil {
			t.Fatal(got.err)
		}
	}
	waitOneCluster(t, nodes...)
	for _, vanish := range []bool{false, true} {
		for _, n := range nodes[:2] {
			closeTest(t, n)
		}
		for i, n := range nodes[:2] {
			cfg := n.cfg // with port 0
			cfg.Seeds, cfg.FSM = nil, &listFSM{}
			nodes[i] = openTest(t, cfg, options{vanish: vanish})
		}
		waitOneCluster(t, nodes...)
		var last uint64
		waitFor(t, "a write is taken", func() bool {
			for _, n := range nodes {
				if _, revision, err := n.Apply(t.Context(), []byte("moved")); err == nil {
					last = revision
					return true
				}
			}
			return false
		})
		waitFor(t, "all nodes have it", func() bool {
			return !slices.ContainsFunc(nodes, func(n *Node) bool { return n.cfg.FSM.Revision() < last })
		})
	}
}

// A cluster that has begun has no command yet, and then it has one for ever. A node
// that joins cannot tell, before it has the log.
func TestAwaitsFirst(t *testing.T) {
	c := startCluster(t, 1)
	leader := c.leader()
	if id, awaits := leader.AwaitsFirst(); !awaits || id != leader.ID() {
		t.Errorf("a new log awaits its first command from %q: %t", id, awaits)
	}
	mustApply(t, leader.Node, "first")
	if _, awaits := leader.AwaitsFirst(); awaits {
		t.Error("the first command is not seen")
	}
	if err := leader.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	joiner := c.add()
	if _, awaits := joiner.AwaitsFirst(); awaits {
		t.Error("a node without a log says that the cluster has none")
	}
	if err := leader.store.cutFront(leader.raft.LastIndex()); err != nil {
		t.Fatal(err)
	}
	if _, awaits := leader.AwaitsFirst(); awaits {
		t.Error("a command in a snapshot is not seen")
	}
}
