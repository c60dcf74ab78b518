package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

type addFunc = func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error)

// startAlone opens a node that gossips and forms a cluster of one.
func startAlone(t *testing.T, name string) *Node {
	t.Helper()
	n := openTest(t, gossipConfig(t, name), options{})
	if bootstrapped, err := n.Form(t.Context(), Formation{Expect: 1}); err != nil || !bootstrapped {
		t.Fatalf("form a cluster of one: %t, %v", bootstrapped, err)
	}
	waitLeader(t, n)
	return n
}

// takesIn is a cluster's answer: without a vote at first, then with one.
func takesIn(t *testing.T, leader *Node) addFunc {
	return func(_ context.Context, conn grpc.ClientConnInterface, node NewMember) (bool, error) {
		if conn == nil {
			t.Error("asked without a connection")
		}
		id := raft.ServerID(node.ID)
		if leader.raft.LastIndex() == 0 {
			return false, status.Error(codes.Unavailable, "no leader")
		}
		future := leader.raft.GetConfiguration()
		isMember := slices.ContainsFunc(future.Configuration().Servers, func(s raft.Server) bool { return s.ID == id })
		if !isMember {
			return false, leader.raft.AddNonvoter(id, raft.ServerAddress(id), 0, patience).Error()
		}
		if node.Replica {
			return true, nil
		}
		return true, leader.raft.AddVoter(id, raft.ServerAddress(id), 0, patience).Error()
	}
}

func TestJoin(t *testing.T) {
	leader := startAlone(t, "leader")
	last := mustApply(t, leader, "before")
	cfg := gossipConfig(t, "joiner")
	fsm := cfg.FSM.(*listFSM)
	joiner := openTest(t, cfg, options{})
	answer := form(t, joiner, Formation{})
	waitFor(t, "the node says what to do", func() bool { return strings.Contains(joiner.Waiting(), "run remit join") })

	var steps []string
	busy := 2
	add := takesIn(t, leader)
	err := joiner.Join(t.Context(), leader.GossipAddr(), func(ctx context.Context, conn grpc.ClientConnInterface, node NewMember) (bool, error) {
		if node.ID != joiner.ID() || node.RaftAddr != joiner.RaftAddr() {
			t.Errorf("asked for %+v", node)
		}
		if busy--; busy >= 0 {
			return false, status.Error(codes.Unavailable, "no leader yet")
		}
		return add(ctx, conn, node)
	}, func(step string) { steps = append(steps, step) })
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the joiner has the log", func() bool { return fsm.Revision() >= last })
	if got := <-answer; got.err != nil || got.bootstrapped {
		t.Errorf("what waited for a cluster ended with %+v", got)
	}
	want, _ := leader.ClusterID()
	if got, ok := joiner.ClusterID(); !ok || got != want || joiner.logEpoch() != leader.logEpoch() {
		t.Errorf("cluster %x and epoch %s, want %x and %s", got, joiner.logEpoch(), want, leader.logEpoch())
	}
	all := strings.Join(steps, "\n")
	for _, words := range []string{uuid.UUID(want).String() + " with leader", "no leader yet; trying again", "accepted", "is a member"} {
		if strings.Count(all, words) != 1 {
			t.Errorf("%q is not said once in the steps:\n%s", words, all)
		}
	}
	// Again changes nothing.
	if err := joiner.Join(t.Context(), leader.GossipAddr(), takesIn(t, leader), func(string) {}); err != nil {
		t.Errorf("joining again: %v", err)
	}
}

func TestJoinRefused(t *testing.T) {
	leader, other := startAlone(t, "leader"), startAlone(t, "other")
	for _, code := range []codes.Code{codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.FailedPrecondition, codes.AlreadyExists} {
		joiner := openTest(t, gossipConfig(t, "joiner"), options{})
		err := joiner.Join(t.Context(), leader.GossipAddr(), func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error) {
			if _, ok := joiner.ClusterID(); !ok {
				t.Error("asked before the node belongs to the cluster")
			}
			return false, status.Error(code, "no")
		}, func(string) {})
		if status.Code(err) != code {
			t.Errorf("refused with %s: %v", code, err)
		}
		if id, ok := joiner.ClusterID(); ok {
			t.Errorf("refused with %s, the node belongs to cluster %x", code, id)
		}
		for _, file := range []string{clusterIDFile, epochFile} {
			if _, err := os.Stat(joiner.dir.file(file)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("refused with %s, the file %s: %v", code, file, err)
			}
		}
		closeTest(t, joiner)
	}
	joiner := openTest(t, gossipConfig(t, "joiner"), options{})
	no := func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error) {
		return false, status.Error(codes.PermissionDenied, "no")
	}
	if err := joiner.Join(t.Context(), leader.GossipAddr(), no, func(string) {}); err == nil {
		t.Error("joined")
	}
	// It may join another cluster now, and then no third one.
	if err := joiner.Join(t.Context(), other.GossipAddr(), takesIn(t, other), func(string) {}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the joiner has state", joiner.HasState)
	first, _ := leader.ClusterID()
	second, _ := other.ClusterID()
	err := joiner.Join(t.Context(), leader.GossipAddr(), takesIn(t, leader), func(string) {})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), uuid.UUID(first).String()) || !strings.Contains(err.Error(), uuid.UUID(second).String()) {
		t.Errorf("a node of one cluster joins another: %v", err)
	}
}

// One joining at a time: the end of one takes back what the other rests on.
func TestJoinTwice(t *testing.T) {
	leader := startAlone(t, "leader")
	joiner := openTest(t, gossipConfig(t, "joiner"), options{})
	add := takesIn(t, leader)
	err := joiner.Join(t.Context(), leader.GossipAddr(), func(ctx context.Context, conn grpc.ClientConnInterface, node NewMember) (bool, error) {
		again := joiner.Join(ctx, leader.GossipAddr(), func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error) {
			return false, status.Error(codes.PermissionDenied, "no")
		}, func(string) {})
		wantRefusal(t, "a second joining", again, "already")
		return add(ctx, conn, node)
	}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the joiner has state", joiner.HasState)
}

// A crash may leave that the node is joining, and not yet what.
func TestJoiningNothing(t *testing.T) {
	cfg := testConfig(t.TempDir(), &listFSM{})
	closeTest(t, openTest(t, cfg, options{}))
	mark := filepath.Join(cfg.DataDir, joiningFile)
	if err := writeID(mark, uuid.New()); err != nil {
		t.Fatal(err)
	}
	n := openTest(t, cfg, options{})
	if _, err := os.Stat(mark); n.joining.Load() || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node is joining, and the file %v", err)
	}
	if _, err := n.Form(t.Context(), Formation{Expect: 1}); err != nil {
		t.Error(err)
	}
	waitLeader(t, n)
}

// TestJoinAfterRecovery has nodes of one cluster with two logs.
func TestJoinAfterRecovery(t *testing.T) {
	leader := startAlone(t, "leader")
	joiner := openTest(t, gossipConfig(t, "joiner"), options{})
	if err := joiner.Join(t.Context(), leader.GossipAddr(), takesIn(t, leader), func(string) {}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the joiner has state", joiner.HasState)
	recovered := uuid.New()
	leader.epoch.Store(&recovered)
	waitFor(t, "the new epoch is known", func() bool { s, _ := joiner.gossip.find(leader.id); return s.epoch == recovered })
	err := joiner.Join(t.Context(), leader.GossipAddr(), takesIn(t, leader), func(string) {})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "recovered") {
		t.Errorf("a node from before the recovery joins: %v", err)
	}
	// A new node follows the node that it was told of.
	for _, n := range []*Node{leader, joiner} {
		fresh := openTest(t, gossipConfig(t, "fresh"), options{})
		members, err := fresh.findCluster(t.Context(), n.GossipAddr())
		if err != nil || len(members) != 1 || members[0].ID != n.id || members[0].epoch != n.logEpoch() {
			t.Errorf("at node %s: %+v, %v", n.cfg.NodeName, members, err)
		}
		closeTest(t, fresh)
	}
}

func TestJoinWhere(t *testing.T) {
	joiner := openTest(t, gossipConfig(t, "joiner"), options{})
	free := openTest(t, gossipConfig(t, "free"), options{})
	alone := openTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context // the test's for a second if nil
		joiner  *Node
		address string
		want    string
	}{
		"no port":                {t.Context(), joiner, "127.0.0.1", "host:port"},
		"nothing":                {t.Context(), joiner, "", "host:port"},
		"nobody":                 {nil, joiner, "127.0.0.1:1", "refused"},
		"no cluster":             {nil, joiner, free.GossipAddr(), "form one first"},
		"itself":                 {nil, joiner, joiner.GossipAddr(), "form one first"},
		"a node without gossip":  {t.Context(), alone, free.GossipAddr(), "does not gossip"},
		"a caller that has gone": {ctx, joiner, free.GossipAddr(), "canceled"},
	} {
		if test.ctx == nil {
			soon, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			test.ctx = soon
		}
		err := test.joiner.Join(test.ctx, test.address, nil, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
		if _, ok := test.joiner.ClusterID(); ok {
			t.Errorf("%s: the node belongs to a cluster", name)
		}
	}
}

// A node whose joining ends before it heard that it is taken in belongs to no
// cluster, and one that ends afterwards goes on where it was. Either way it joins
// when it is told to again.
func TestJoinInterrupted(t *testing.T) {
	for _, takenIn := range []bool{false, true} {
		leader := startAlone(t, "leader")
		cfg := gossipConfig(t, "joiner")
		joiner := openTest(t, cfg, options{vanish: true})
		id := joiner.serverID()
		ctx, cancel := context.WithCancel(t.Context())
		err := joiner.Join(ctx, leader.GossipAddr(), func(_ context.Context, _ grpc.ClientConnInterface, node NewMember) (bool, error) {
			if !node.New {
				t.Error("the node says that it was taken in before")
			}
			if err := leader.raft.AddNonvoter(id, raft.ServerAddress(id), 0, patience).Error(); err != nil {
				t.Error(err)
			}
			cancel()
			if takenIn {
				return false, nil
			}
			return false, status.Error(codes.Unavailable, "gone") // the answer is lost
		}, func(string) {})
		if err == nil || !strings.Contains(err.Error(), "not finished") {
			t.Errorf("interrupted: %v", err)
		}
		closeTest(t, joiner)
		joiner = openTest(t, cfg, options{})
		want, _ := leader.ClusterID()
		switch got, ok := joiner.ClusterID(); {
		case takenIn && (!ok || got != want || joiner.logEpoch() != leader.logEpoch()):
			t.Errorf("taken in, after a restart: cluster %x and epoch %s", got, joiner.logEpoch())
		case !takenIn && ok:
			t.Errorf("not taken in, after a restart: cluster %x", got)
		}
		if takenIn {
			if err := joiner.Bootstrap(t.Context(), uuid.New()); err == nil {
				t.Error("a node that is joining bootstraps")
			}
			waitFor(t, "the leader reaches the node", joiner.HasState)
		}
		if err := joiner.Join(t.Context(), leader.GossipAddr(), takesIn(t, leader), func(string) {}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the node votes", func() bool { return len(joiner.members()) == 2 })
		closeTest(t, joiner)
	}
}

// A voter that has lost its data asks to be taken in under its old id. Until the
// cluster has answered it must not vote and must not take entries, also after a
// crash: it would count for what it has forgotten.
func TestWipedVoterTakesNoPart(t *testing.T) {
	leader := startAlone(t, "leader")
	cfg := gossipConfig(t, "wiped")
	wiped := openTest(t, cfg, options{vanish: true})
	cluster, _ := leader.ClusterID()
	if err := wiped.adopt(cluster, leader.logEpoch()); err != nil {
		t.Fatal(err)
	}
	for _, restarted := range []bool{false, true} {
		if restarted { // after a crash: nothing took the adoption back
			closeTest(t, wiped)
			wiped = openTest(t, cfg, options{vanish: true})
		}
		leader.peers.put(peer{ID: wiped.id, RaftAddr: wiped.RaftAddr()})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := leader.listener.dial(ctx, kindRaft, wiped.id)
		cancel()
		if err == nil || !strings.Contains(err.Error(), notTakenIn.String()) {
			t.Errorf("restarted %t: Raft's connection to a node that is not taken in: %v", restarted, err)
		}
		if _, err := leader.nodeClient(wiped.id).Status(t.Context(), &nodev1.StatusRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Errorf("restarted %t: its status: %v", restarted, err)
		}
	}
	// Its id is a voter's: the leader refuses it, whatever it may have by now.
	id := wiped.serverID()
	if err := wiped.takenIn(); err != nil {
		t.Fatal(err)
	}
	for _, add := range []func() error{
		func() error { return leader.raft.AddNonvoter(id, raft.ServerAddress(id), 0, patience).Error() },
		func() error {
			waitFor(t, "it has caught up", func() bool { return wiped.raft.LastIndex() == leader.raft.LastIndex() })
			return leader.raft.AddVoter(id, raft.ServerAddress(id), 0, patience).Error()
		},
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := leader.Add(t.Context(), NewMember{ID: wiped.ID(), RaftAddr: wiped.RaftAddr(), New: true})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "lost its data") {
		t.Errorf("a voter that begins anew: %v", err)
	}
}
