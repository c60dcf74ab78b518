package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
)

// waits waits until a node says in /readyz why it is not ready, all of these.
func (n *fleetNode) waits(because ...string) {
	n.t.Helper()
	n.serves()
	var body string
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("/readyz of %s said last: %s", n.name, body)
		}
	})
	eventually(n.t, n.name+" says why it is not ready: "+strings.Join(because, ", "), func() bool {
		var code int
		if code, body = n.get("/readyz"); code != http.StatusServiceUnavailable {
			return false
		}
		for _, text := range because {
			if !strings.Contains(body, text) {
				return false
			}
		}
		return true
	})
}

// TestNodesThatDisagreeDoNotForm starts three nodes of which one was started otherwise
// than the two others: they form no cluster and say why, and form one once the
// third is started as they are.
func TestNodesThatDisagreeDoNotForm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		differ  func(*fleetNode)
		because string // in what at least one of them says
	}{
		"root key": {func(n *fleetNode) { n.env = []string{"REMIT_ROOT_KEY=another_root_key_of_the_process_tests"} }, "it was given another root key: give all nodes the same, or none"},
		"expect":   {func(n *fleetNode) { n.flags = []string{"--bootstrap-expect", "4"} }, "expects 4 nodes, and this node 3: start all with the same number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3, "--log-level", "info")
			third := f.nodes[2]
			flags := third.flags
			test.differ(third)
			for _, n := range f.nodes {
				f.start(n).serves()
			}
			eventually(t, "a node says why", func() bool {
				for _, n := range f.nodes {
					if _, body := n.get("/readyz"); strings.Contains(body, test.because) {
						return true
					}
				}
				return false
			})
			for _, n := range f.nodes {
				if code, body := n.get("/readyz"); code != http.StatusServiceUnavailable {
					t.Errorf("%s: /readyz %d %s", n.name, code, body)
				}
			}
			third.kill()
			third.flags, third.env = flags, nil
			f.start(third)
			for _, n := range f.nodes {
				n.ready()
			}
			if err := create(t.Context(), third.process, rootKey, "document.read"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLateNodeWaitsForJoin starts a node like those that have formed a cluster.
func TestLateNodeWaitsForJoin(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	late := f.start(f.add("--bootstrap-expect", "3"))
	late.waits("this node belongs to no cluster yet: ", "belongs to cluster ", "run remit join ")
	expectMembers(t, f.nodes[0], 3, 0)
	late.must("join", f.nodes[0].gossip)
	late.ready()
	expectMembers(t, f.nodes[0], 4, 0)
}

// TestNodeOfAnotherCluster starts a node of one cluster among those of another: both
// stay what they were, and say so with both names.
func TestNodeOfAnotherCluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	other := newFleet(t, 1, "--log-level", "info")
	stranger := other.nodes[0]
	stranger.seeds = []*fleetNode{stranger}
	other.form(inOrder(1))
	stranger.kill()
	stranger.seeds = f.nodes
	other.start(stranger).ready()

	ids := make([]string, 2)
	for i, n := range []*fleetNode{stranger, f.nodes[0]} {
		content, err := os.ReadFile(n.data + "/cluster-id")
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = strings.TrimSpace(string(content))
	}
	if ids[0] == ids[1] {
		t.Fatal("one cluster id for two clusters")
	}
	eventually(t, "the refusal is logged with both clusters", func() bool {
		return strings.Contains(stranger.stderr.String(), fmt.Sprintf("belongs to cluster %s, and this node to cluster %s", ids[1], ids[0]))
	})
	_, err := stranger.remit("join", f.nodes[0].gossip)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("belongs to cluster %s, and this node to cluster %s", ids[1], ids[0])) {
		t.Errorf("remit join at a node that has a cluster: %v", err)
	}
	expectMembers(t, f.nodes[0], 3, 0)
	expectMembers(t, stranger, 1, 0)
}

// TestRemovedWhileDead starts a node again that the others removed meanwhile: it says
// what to do about it.
func TestRemovedWhileDead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.form(rand.Perm(3))
	leader := f.leader(f.nodes[0])
	dead := f.other(leader)
	dead.kill()
	leader.must("leave", dead.name)
	expectMembers(t, leader, 2, 0)
	f.start(dead).waits("this node was removed from its cluster: remove its data folder, and join again")
}
