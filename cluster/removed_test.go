package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// TestRemovedWhileAway removes a node that is not there. The others let go of it, and
// it finds out when it is back.
func TestRemovedWhileAway(t *testing.T) {
	t.Parallel()
	var lines syncBuffer
	c := startCluster(t, 3, func(cfg *Config) {
		cfg.Describe = func() Description { return Description{NotReady: "it has no leader"} }
	})
	mustApply(t, c.leader().Node, "a")
	away := c.follower()
	others := c.others(away)
	// Everybody is connected to everybody.
	for _, m := range others {
		if _, err := m.Members(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.apiConn(away.id)
		if got := m.conns.to(away.id); got != 2 {
			t.Fatalf("%d connections to a member, want 2", got)
		}
	}
	c.close(away)
	if err := c.leader().Remove(t.Context(), away.ID(), false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the others let go of it", func() bool {
		for _, m := range others {
			if m.conns.to(away.id) > 0 {
				return false
			}
		}
		return true
	})

	away.cfg.Logger = lines.logger()
	c.open(away)
	waitFor(t, "the node finds out that it was removed", func() bool { return away.Estranged() == wasRemoved })
	waitFor(t, "it says so", func() bool { return strings.Contains(lines.String(), "level=ERROR msg=\""+wasRemoved) })
	if self := away.Self(t.Context()); len(self.Problems) != 1 || self.Problems[0] != "it has no leader; "+wasRemoved {
		t.Errorf("it says of itself: %q", self.Problems)
	}
	for _, m := range others {
		if why := m.Estranged(); why != "" {
			t.Errorf("a member says of itself: %s", why)
		}
	}
	// What is said once goes for good, until it belongs to them again.
	if err := c.leader().raft.AddVoter(away.serverID(), raft.ServerAddress(away.ID()), 0, patience).Error(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is a member again", func() bool { return away.Estranged() == "" })
	if got := strings.Count(lines.String(), wasRemoved); got != 1 {
		t.Errorf("it was said %d times, want once", got)
	}
}

// TestAlone has a member of three hear of no leader because the others are away: that
// does not mean that it was removed.
func TestAlone(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	alone := c.follower()
	for _, m := range c.others(alone) {
		c.cut(m)
	}
	waitFor(t, "it has no leader", func() bool { _, leader := alone.raft.LeaderWithID(); return leader == "" })
	members := alone.members()
	if removed, known := alone.askMembership(members); removed || known {
		t.Errorf("nobody answered and it knows: removed %t, known %t", removed, known)
	}
	for _, m := range c.others(alone) {
		c.heal(m)
	}
	waitFor(t, "somebody says that it is a member", func() bool {
		removed, known := alone.askMembership(members)
		if removed {
			t.Fatal("it was removed, says somebody")
		}
		return known
	})
	if !slices.Equal(members, alone.members()) {
		t.Errorf("the question changed the members")
	}
}
