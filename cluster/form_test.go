package cluster

import (
	"testing"

	"github.com/hashicorp/raft"
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
