package main_test

import (
	"strings"
	"syscall"
	"testing"
)

// TestMajorityMoves starts two of three nodes at other addresses, gossip's included,
// where the third, whose address alone they are given, does not look for them.
func TestMajorityMoves(t *testing.T) {
	t.Parallel()
	for name, settled := range map[string]func(*fleet) *fleetNode{
		"a follower stays": func(f *fleet) *fleetNode { return f.other(f.leader(f.nodes[0])) },
		"the leader stays": func(f *fleet) *fleetNode { return f.leader(f.nodes[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3, "--log-level", "info")
			f.form(inOrder(3))
			stays := settled(f)
			for _, n := range f.nodes {
				if n != stays {
					n.kill()
					n.gossip, n.seeds = freeAddr(t), []*fleetNode{stays}
				}
			}
			for _, n := range f.nodes {
				if n != stays {
					f.start(n)
				}
			}
			for _, n := range f.nodes {
				n.ready()
				// A new address is taken only once the old one is known to be dead.
				eventually(t, "a write at "+n.name, func() bool {
					err := create(t.Context(), n.process, rootKey, "written.at."+n.name)
					if err != nil && !saysOutcome(err) {
						t.Errorf("a write at %s: %v", n.name, err)
					}
					return err == nil
				})
			}
			if report := stays.must("verify"); !strings.Contains(report, "agree") {
				t.Errorf("verify says %s", report)
			}
		})
	}
}

// TestAllMove starts all three nodes at other addresses, with one that they find each
// other by.
func TestAllMove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	for _, n := range f.nodes {
		n.signal(syscall.SIGTERM)
	}
	for _, n := range f.nodes {
		n.endsCleanly()
		n.gossip, n.seeds = freeAddr(t), f.nodes[2:]
	}
	for _, n := range f.nodes {
		f.start(n)
	}
	for _, n := range f.nodes {
		n.ready()
	}
	if err := create(t.Context(), f.nodes[0].process, rootKey, "written.after"); err != nil {
		t.Error(err)
	}
}
