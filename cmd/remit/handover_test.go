package main_test

import (
	"strings"
	"syscall"
	"testing"
)

// TestHandover moves leadership under clerks that write through a follower, by
// command and by the leader's SIGTERM: none of them sees an error.
func TestHandover(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	first := f.leader(f.nodes[0])
	follower := f.other(first)
	third := f.other(first, follower)
	o := openOffice(t, 2, func(int) *fleetNode { return follower })
	o.moreFrom(t, 10)
	for range 2 {
		for _, to := range []*fleetNode{third, first} {
			f.leader(follower).must("transfer-leadership", to.name)
			if now := f.leader(follower); now != to {
				t.Errorf("%s leads after a transfer to %s", now.name, to.name)
			}
			o.moreFrom(t, 5)
		}
	}
	for range 2 {
		leader := f.leader(follower)
		if leader == follower {
			expectMembers(t, follower, 3, 0)
			follower.must("transfer-leadership", first.name)
			leader = f.leader(follower)
		}
		leader.signal(syscall.SIGTERM)
		leader.endsCleanly()
		if !strings.Contains(leader.stderr.String(), "leadership is handed over") {
			t.Error("a leader ended without handing over")
		}
		o.moreFrom(t, 5)
		f.start(leader).ready()
		o.moreFrom(t, 5)
	}
	o.close()
	for _, c := range o.clerks {
		if c.again > 0 {
			t.Errorf("clerk %d saw %d errors", c.number, c.again)
		}
	}
	for _, n := range f.nodes {
		o.audit(n.client())
	}
	if report := follower.must("verify"); !strings.Contains(report, "agree") {
		t.Errorf("verify says %s", report)
	}
}

// TestLeaderIsKilled kills leaders under clerks that write through one node: what they
// see is success, or an error that says what became of the change, which the clerks
// look at themselves.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	survivor := f.other(f.leader(f.nodes[0]))
	o := openOffice(t, 2, func(int) *fleetNode { return survivor })
	for range 2 {
		leader := f.leader(survivor)
		if leader == survivor {
			expectMembers(t, survivor, 3, 0)
			survivor.must("transfer-leadership", f.other(survivor).name)
			leader = f.leader(survivor)
		}
		o.moreFrom(t, 10)
		leader.kill()
		o.moreFrom(t, 10)
		f.start(leader).ready()
	}
	o.close()
	for _, c := range o.clerks {
		if n := int(c.refused.Load()) + c.disconnected; n > 0 {
			t.Errorf("clerk %d saw %d errors of the connection to a node that lived", c.number, n)
		}
	}
	for _, n := range f.nodes {
		o.audit(n.client())
	}
}
