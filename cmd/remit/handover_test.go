package main_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestHandover moves leadership by command, from each node to the next, under clerks
// and readers at all of them: neither at the old leader nor at the new one, nor
// elsewhere, does any of them see an error.
func TestHandover(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	o := openOffice(t, 2*len(f.nodes), func(clerk int) *fleetNode { return f.nodes[clerk%len(f.nodes)] })
	for _, n := range f.nodes {
		o.readAt(n)
	}
	o.moreFrom(t, 5)
	for range 2 * len(f.nodes) {
		from := f.leader(f.nodes[0])
		to := f.nodes[(slices.Index(f.nodes, from)+1)%len(f.nodes)]
		from.must("transfer-leadership", to.name)
		if now := f.leader(from); now != to {
			t.Errorf("%s leads after a transfer to %s", now.name, to.name)
		}
		o.moreFrom(t, 5)
	}
	o.close()
	o.sawNoError()
	for _, n := range f.nodes {
		o.audit(n.client())
	}
	if report := f.nodes[0].must("verify"); !strings.Contains(report, "agree") {
		t.Errorf("verify says %s", report)
	}
}

// TestLeaderIsToldToEnd ends leaders by SIGTERM under clerks that write and a reader
// that reads through a follower: they hand over, and nobody sees an error.
func TestLeaderIsToldToEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	follower := f.other(f.leader(f.nodes[0]))
	o := openOffice(t, 2, func(int) *fleetNode { return follower })
	o.readAt(follower)
	for range 2 {
		leader := f.leader(follower)
		if leader == follower {
			expectMembers(t, follower, 3, 0)
			follower.must("transfer-leadership", f.other(follower).name)
			leader = f.leader(follower)
		}
		o.moreFrom(t, 10)
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
	o.sawNoError()
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
