package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// join takes a node in until it is what it wants to be.
func (c *testCluster) join(m *testMember, replica bool) Member {
	c.t.Helper()
	var is Member
	waitFor(c.t, "the node is a member", func() bool {
		var err error
		is, err = c.leader().Add(c.t.Context(), NewMember{ID: m.ID(), RaftAddr: m.RaftAddr(), Replica: replica})
		if err != nil && !errors.Is(err, ErrNotLeader) {
			c.t.Fatal(err)
		}
		return err == nil && (is.Voter || replica && is.Revision >= c.leader().fsm.Revision())
	})
	return is
}

// voters returns how many voters and how many other members there are.
func (c *testCluster) suffrages() (voters, others int) {
	c.t.Helper()
	members, err := c.leader().Members(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range members {
		if m.Voter {
			voters++
		} else {
			others++
		}
	}
	return voters, others
}

func wantRefusal(t testing.TB, what string, err error, words string) {
	t.Helper()
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want a refusal with %q", what, err, words)
	}
}

func TestJoinAndMembers(t *testing.T) {
	c := startCluster(t, 1)
	leader := c.leader()
	mustApply(t, leader.Node, "a")
	second, third := c.add(), c.add(func(cfg *Config) { cfg.Replica = true })
	first, err := leader.Add(t.Context(), NewMember{ID: second.ID(), RaftAddr: second.RaftAddr()})
	if err != nil || first.Voter {
		t.Errorf("a node that was just taken in: %+v, %v", first, err)
	}
	c.join(second, false)
	c.join(third, true)
	c.waitApplied(mustApply(t, leader.Node, "b"))
	again, err := leader.Add(t.Context(), NewMember{ID: third.ID(), RaftAddr: third.RaftAddr(), Replica: true})
	if err != nil || again.Voter || !again.Reached {
		t.Errorf("a replica that asks again: %+v, %v", again, err)
	}
	wantRefusal(t, "promote a replica", leader.Promote(t.Context(), third.ID()), "--replica")

	for _, asked := range c.members {
		members, err := asked.Members(t.Context())
		if err != nil || len(members) != 3 {
			t.Fatalf("%d members, %v", len(members), err)
		}
		for _, m := range members {
			if !m.Reached || m.Leader != (m.ID == leader.ID()) || m.Voter == (m.ID == third.ID()) ||
				m.Revision != leader.fsm.Revision() || m.RaftAddr == "" {
				t.Errorf("member %+v", m)
			}
		}
		if self := asked.Self(t.Context()); self.ID != asked.ID() || self.Leader != (asked == leader) {
			t.Errorf("self %+v", self)
		}
	}
	c.close(third)
	members, err := leader.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == third.ID() })
	if m := members[i]; m.Reached || m.RaftAddr != third.RaftAddr() || len(m.Problems) != 1 {
		t.Errorf("a member that was not reached: %+v", m)
	}

	absent, late := uuid.NewString(), c.add()
	if _, err := leader.Add(t.Context(), NewMember{ID: absent, RaftAddr: "127.0.0.1:1"}); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "reached: call node "+absent) {
		t.Errorf("a node that nobody reaches: %v", err)
	}
	// One that was looked for at a wrong address is found at the right one at once.
	if _, err := leader.Add(t.Context(), NewMember{ID: late.ID(), RaftAddr: "127.0.0.1:1"}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a node at a wrong address: %v", err)
	}
	if _, err := leader.Add(t.Context(), NewMember{ID: late.ID(), RaftAddr: late.RaftAddr()}); err != nil {
		t.Errorf("the node at its address: %v", err)
	}
	if _, err := second.Add(t.Context(), NewMember{ID: third.ID()}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Add on a follower: %v", err)
	}
}

func TestWipedVoterIsRefused(t *testing.T) {
	c := startCluster(t, 3)
	leader, voter := c.leader(), c.follower()
	mustApply(t, leader.Node, "a")
	c.close(voter)
	id := voter.id
	voter.cfg.DataDir = t.TempDir()
	if err := writeID(filepath.Join(voter.cfg.DataDir, nodeIDFile), id); err != nil {
		t.Fatal(err)
	}
	c.open(voter) // without a cluster, so that no log reaches it
	var err error
	waitFor(t, "the wiped node is reached", func() bool {
		_, err = leader.Add(t.Context(), NewMember{ID: id.String(), RaftAddr: voter.RaftAddr()})
		return !errors.Is(err, ErrUnreachable)
	})
	wantRefusal(t, "a wiped voter", err, "remove it from the cluster first")
	// It answers, and adds to no majority.
	other := c.others(leader)[0]
	if other == voter {
		other = c.others(leader)[1]
	}
	wantRefusal(t, "the only other voter is removed", leader.Remove(t.Context(), other.ID(), false), "2 must be there to write anything, and 1 can be reached and have caught up")
	if _, err := leader.Transfer(t.Context(), id.String()); !errors.Is(err, ErrRefused) {
		t.Errorf("a wiped voter is to lead: %v", err)
	}
	if err := leader.Leave(t.Context(), id.String(), false, func(string) {}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a wiped voter is asked to leave: %v, want that it has to be removed without it", err)
	}
	if err := leader.Remove(t.Context(), id.String(), false); err != nil {
		t.Fatal(err)
	}
	c.adopt(voter)
	if is := c.join(voter, false); !is.Voter {
		t.Errorf("after its removal it comes in as %+v", is)
	}
	c.waitApplied(mustApply(t, leader.Node, "b"))
}

func TestQuorumIsKept(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	others := c.others(leader)
	dead, alive := others[0], others[1]
	c.close(dead)
	ctx := t.Context()
	wantRefusal(t, "remove one of the two that are left", leader.Remove(ctx, alive.ID(), false), "2 voters, of which 2 must be there to write anything, and 1 can be reached")
	wantRefusal(t, "demote one of the two that are left", alive.Demote(ctx, alive.ID(), false), "2 voters")
	var steps []string
	wantRefusal(t, "the leader leaves", leader.Leave(ctx, "", false, func(step string) { steps = append(steps, step) }), "2 voters")
	if last := steps[len(steps)-1]; last != "it is to be removed; another node is to lead first" {
		t.Errorf("a node that does not turn clients away says %q", last)
	}
	wantRefusal(t, "another leaves", leader.Leave(ctx, alive.ID(), false, func(string) {}), "2 voters")
	if err := leader.Leave(ctx, dead.ID(), false, func(string) {}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a node that is away is made to leave: %v", err)
	}
	if err := alive.Remove(ctx, dead.ID(), false); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower removes the one that is away: %v", err)
	}
	if err := leader.Remove(ctx, dead.ID(), false); err != nil {
		t.Errorf("remove the one that is away: %v", err)
	}
	if err := leader.Remove(ctx, dead.ID(), false); err != nil {
		t.Errorf("remove what is no member: %v", err)
	}
	if _, known := leader.peers.get(dead.id); known {
		t.Error("the address of the removed node is still known")
	}
	if err := leader.Demote(ctx, alive.ID(), false); err != nil {
		t.Errorf("demote: %v", err)
	}
	if voters, rest := c.suffrages(); voters != 1 || rest != 1 {
		t.Errorf("%d voters, %d others", voters, rest)
	}
	wantRefusal(t, "remove the last voter", leader.Remove(ctx, leader.ID(), true), "last voter")
	wantRefusal(t, "demote the last voter", leader.Demote(ctx, leader.ID(), true), "last voter")
	if _, err := leader.Transfer(ctx, ""); !errors.Is(err, ErrRefused) {
		t.Errorf("transfer to nobody: %v", err)
	}
	if err := leader.StepDown(ctx); err != nil {
		t.Errorf("a sole voter steps down: %v", err)
	}
	if err := leader.Promote(ctx, alive.ID()); err != nil {
		t.Errorf("promote: %v", err)
	}
	if voters, rest := c.suffrages(); voters != 2 || rest != 0 {
		t.Errorf("%d voters, %d others", voters, rest)
	}
	c.waitApplied(mustApply(t, leader.Node, "after"))
}

// A change of members that its caller does not wait for any more is not made later,
// beside the next one.
func TestLateChanges(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	other := c.others(leader)[0]
	if err := leader.change(late, leader.removeServer, other.id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a change whose time is over: %v", err)
	}
	unlock, err := leader.lockMembers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, wait := range map[string]func(context.Context) error{
		"remove":    func(ctx context.Context) error { return leader.Remove(ctx, other.ID(), false) },
		"promote":   func(ctx context.Context) error { return leader.Promote(ctx, other.ID()) },
		"step down": leader.StepDown,
		"add": func(ctx context.Context) error {
			_, err := leader.Add(ctx, NewMember{ID: other.ID()})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() { answer <- wait(ctx) }()
		cancel()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("%s, behind another change: %v", name, err)
		}
	}
	unlock()
	if voters, rest := c.suffrages(); voters != 3 || rest != 0 {
		t.Errorf("%d voters, %d others", voters, rest)
	}
}

func TestTransfer(t *testing.T) {
	c := startCluster(t, 3)
	old := c.leader()
	target := c.others(old)[1]
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for range 4 { // the log grows meanwhile
		writing.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := old.Apply(ctx, []byte("x")); errors.Is(err, ErrNotLeader) {
					return
				}
			}
		})
	}
	got, err := old.Transfer(ctx, target.ID())
	cancel()
	writing.Wait()
	if err != nil || got != target.ID() {
		t.Fatalf("transfer to %s: %s, %v", target.ID(), got, err)
	}
	began := time.Now()
	mustApply(t, c.leader().Node, "after the transfer")
	t.Logf("the first write after the transfer took %s", time.Since(began))
	if leader := c.leader(); leader != target {
		t.Errorf("%s leads", leader.ID())
	}
	if _, err := old.Transfer(t.Context(), ""); !errors.Is(err, ErrNotLeader) {
		t.Errorf("transfer on a follower: %v", err)
	}
	if _, err := target.Transfer(t.Context(), uuid.NewString()); !errors.Is(err, ErrRefused) {
		t.Errorf("transfer to a stranger: %v", err)
	}
	if err := target.StepDown(t.Context()); err != nil {
		t.Errorf("step down: %v", err)
	}
	if c.leader() == target {
		t.Error("the node that stepped down leads")
	}
}

func TestLeave(t *testing.T) {
	var leaving sync.Map
	c := startCluster(t, 3, func(cfg *Config) {
		dir := cfg.DataDir
		cfg.OnLeave = func(is bool) { leaving.Store(dir, is) }
	})
	leader := c.leader()
	mustApply(t, leader.Node, "a")
	var steps []string
	if err := leader.Leave(t.Context(), "", false, func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	<-leader.Left()
	if is, _ := leaving.Load(leader.cfg.DataDir); is != true || len(steps) < 3 {
		t.Errorf("leaving %v, steps %q", is, steps)
	}
	c.close(leader)
	if _, err := Open(leader.cfg); err == nil || !strings.Contains(err.Error(), "has left") {
		t.Errorf("the data folder of a node that has left opens: %v", err)
	}
	next, other := c.leader(), c.follower()
	steps = nil
	if err := next.Leave(t.Context(), other.ID(), false, func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	<-other.Left()
	c.close(other)
	if len(steps) < 3 {
		t.Errorf("steps %q", steps)
	}
	if voters, rest := c.suffrages(); voters != 1 || rest != 0 {
		t.Errorf("%d voters, %d others", voters, rest)
	}
	wantRefusal(t, "the last one leaves", next.Leave(t.Context(), "", true, func(string) {}), "last voter")
	if is, _ := leaving.Load(next.cfg.DataDir); is != false {
		t.Error("a node that may not leave does not take clients again")
	}
	mustApply(t, next.Node, "b")
}

// TestCallsReachTheLeadersAPI serves something on the API listener of each node.
func TestCallsReachTheLeadersAPI(t *testing.T) {
	c := startCluster(t, 2)
	for _, m := range c.members {
		s := grpc.NewServer()
		nodev1.RegisterNodeServiceServer(s, nodeService{node: m.Node})
		go func() { _ = s.Serve(m.APIListener()) }()
		t.Cleanup(s.Stop)
	}
	leader, follower := c.leader(), c.follower()
	conn, self, err := follower.Leader(t.Context())
	if err != nil || self {
		t.Fatalf("Leader = %v, %v on a follower", self, err)
	}
	answer, err := nodev1.NewNodeServiceClient(conn).Status(t.Context(), &nodev1.StatusRequest{})
	if err != nil || answer.GetId() != leader.ID() {
		t.Errorf("the leader's API: %v, %v", answer, err)
	}
}
