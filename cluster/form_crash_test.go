package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// rounds is how often a test that draws at random repeats.
func rounds(n int) int {
	if os.Getenv("REMIT_NIGHTLY") != "" {
		return 20 * n
	}
	return n
}

var errKilled = errors.New("killed by the test")

// A mortal is a node that is killed and started again, at its address.
type mortal struct {
	cfg   Config
	node  *Node
	ended chan struct{} // of Form, in this life
	first bool          // it bootstrapped
}

// killings decides at which steps nodes die.
type killings struct {
	mu     sync.Mutex
	random *rand.Rand
	left   int
	at     map[formStep]int
	killed chan uuid.UUID
}

// step kills the node there, or a moment later, or not at all.
func (k *killings) step(id func() uuid.UUID) func(formStep) error {
	return func(s formStep) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.left == 0 || k.random.IntN(3) == 0 {
			return nil
		}
		k.left--
		k.at[s]++
		k.killed <- id()
		if k.random.IntN(3) == 0 {
			return nil // it goes on until the test closes it
		}
		return errKilled
	}
}

func (m *mortal) start(t *testing.T, k *killings) {
	t.Helper()
	var n *Node
	opened := make(chan struct{})
	waitFor(t, "the node's addresses are free again", func() bool {
		m.cfg.FSM = &listFSM{}
		var err error
		n, err = open(m.cfg, options{vanish: true, step: k.step(func() uuid.UUID { <-opened; return n.id })})
		return err == nil
	})
	close(opened)
	t.Cleanup(func() { _ = n.Close() })
	m.cfg.RaftAddr, m.cfg.GossipAddr = n.RaftAddr(), n.GossipAddr()
	m.node, m.ended = n, make(chan struct{})
	go func() {
		defer close(m.ended)
		bootstrapped, _ := n.Form(t.Context(), Formation{Expect: 3})
		m.first = bootstrapped
	}()
}

// TestFormCrashes kills nodes at every step of forming a cluster and starts them
// again, in any order: one cluster comes of it, always.
func TestFormCrashes(t *testing.T) {
	at := map[formStep]int{}
	for round := range rounds(6) {
		random := rand.New(rand.NewPCG(uint64(round), 3))
		k := &killings{random: rand.New(rand.NewPCG(uint64(round), 5)), left: 1 + round%5, at: at, killed: make(chan uuid.UUID, 16)}
		var all []*mortal
		seed := ""
		for i := range 3 {
			m := &mortal{cfg: gossipConfig(t, fmt.Sprint("n", i))}
			if seed != "" {
				m.cfg.Seeds = []string{seed}
			}
			m.start(t, k)
			seed = m.node.GossipAddr()
			all = append(all, m)
		}
		began := 0
		restart := func(ids []uuid.UUID) {
			var down []*mortal
			for _, m := range all {
				if slices.Contains(ids, m.node.id) {
					closeTest(t, m.node)
					<-m.ended
					if m.first {
						began++
					}
					down = append(down, m)
				}
			}
			random.Shuffle(len(down), func(i, j int) { down[i], down[j] = down[j], down[i] })
			for _, m := range down {
				m.start(t, k)
			}
		}
		deadline := time.Now().Add(3 * patience)
		for done := false; !done; {
			select {
			case id := <-k.killed:
				ids := []uuid.UUID{id}
				for range 2 { // others at the same moment
					if random.IntN(4) == 0 {
						ids = append(ids, all[random.IntN(len(all))].node.id)
					}
				}
				restart(ids)
			case <-time.After(10 * time.Millisecond):
				done = len(k.killed) == 0 && !slices.ContainsFunc(all, func(m *mortal) bool { return !m.node.HasState() })
			}
			if time.Now().After(deadline) {
				for _, m := range all {
					t.Logf("node %s waits: %s", m.cfg.NodeName, m.node.Waiting())
				}
				t.Fatalf("round %d: no cluster after %s", round, 3*patience)
			}
		}
		waitOneCluster(t, all[0].node, all[1].node, all[2].node)
		for _, m := range all {
			<-m.ended
			if m.first {
				began++
			}
			closeTest(t, m.node)
		}
		if began > 1 {
			t.Errorf("round %d: %d nodes say that they bootstrapped the cluster", round, began)
		}
	}
	for _, s := range []formStep{stepBegun, stepBound, stepConfirmed} {
		if at[s] == 0 {
			t.Errorf("no node was killed at step %d", s)
		}
	}
}
