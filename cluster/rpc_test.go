package cluster

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

func TestNodesAnswerEachOther(t *testing.T) {
	c := startCluster(t, 3, func(cfg *Config) {
		cfg.Version, cfg.Level = "v9", 7
		cfg.Describe = func() Description { return Description{Level: 3, NotReady: "too old", Age: -1} }
	})
	leader := c.leader()
	revision := mustApply(t, leader.Node, "a")
	c.waitApplied(revision)
	follower := c.follower()
	got, err := follower.nodeClient(leader.id).Status(t.Context(), &nodev1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetId() != leader.ID() || got.GetLeaderId() != leader.ID() || got.GetTerm() != leader.raft.CurrentTerm() ||
		got.GetAppliedRevision() != revision || got.GetVersion() != "v9" || got.GetSupportedLevel() != 7 ||
		got.GetLevel() != 3 || got.GetReady() || got.GetNotReadyReason() != "too old" || got.GetAgeMs() != -1 ||
		got.GetRaftAddress() != leader.RaftAddr() || got.GetLogBytes() == 0 || got.GetReadIndexRounds() == 0 {
		t.Errorf("the leader says of itself: %v", got)
	}

	// A node comes back under another address.
	c.close(follower)
	c.open(follower)
	waitFor(t, "the node that came back answers", func() bool {
		answer, err := leader.nodeClient(follower.id).Term(t.Context(), &nodev1.TermRequest{})
		return err == nil && answer.GetTerm() > 0
	})
	// It is told apart from another that took over its address.
	third := c.others(leader)[0]
	if third == follower {
		third = c.others(leader)[1]
	}
	c.cut(third)
	c.heal(third)
	leader.peers.put(peer{ID: third.id, RaftAddr: follower.RaftAddr()})
	if _, err := leader.nodeClient(third.id).Term(t.Context(), &nodev1.TermRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to a node whose address another has: %v", err)
	}
}

// TestNodesAskForThemselves has a member ask what is for others to ask.
func TestNodesAskForThemselves(t *testing.T) {
	ca := newAuthority(t)
	for name, configure := range map[string]func(*Config){
		"with certificates": func(cfg *Config) { cfg.TLS = ca.node(t, uuid.New()) },
		"without":           func(*Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 3, configure)
			leader, member := c.leader(), c.follower()
			third := c.others(leader)[0]
			if third == member {
				third = c.others(leader)[1]
			}
			for _, id := range []string{third.ID(), leader.ID(), uuid.NewString(), ""} {
				for _, request := range []*nodev1.RemoveRequest{{Id: id}, {Id: id, Force: true}, {Id: id, VoteOnly: true}} {
					if _, err := member.nodeClient(leader.id).Remove(t.Context(), request); status.Code(err) != codes.PermissionDenied {
						t.Errorf("%v: %v", request, err)
					}
				}
			}
			bootstrap := func(ids ...uuid.UUID) error {
				slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
				request := &nodev1.ConfirmBootstrapRequest{ClusterId: c.id[:], Epoch: c.epoch[:]}
				for _, id := range ids {
					request.NodeIds = append(request.NodeIds, id.String())
				}
				_, err := member.nodeClient(leader.id).ConfirmBootstrap(t.Context(), request)
				return err
			}
			if err := bootstrap(uuid.UUID{15: 1}, member.id, leader.id); status.Code(err) != codes.PermissionDenied {
				t.Errorf("a cluster that another forms: %v", err)
			}
			if err := bootstrap(member.id, uuid.Max); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("its own cluster: %v, want a refusal because of the state", err)
			}
			if voters, _ := c.suffrages(); voters != 3 {
				t.Errorf("%d voters are left", voters)
			}
			if _, err := member.nodeClient(leader.id).Remove(t.Context(), &nodev1.RemoveRequest{Id: member.ID()}); err != nil {
				t.Errorf("itself: %v", err)
			}
			if voters, _ := c.suffrages(); voters != 2 {
				t.Errorf("%d voters after one had itself removed", voters)
			}
		})
	}
}

// TestStartingNodeSaysNoTerm asks a node that has not read its disk yet.
func TestStartingNodeSaysNoTerm(t *testing.T) {
	starting := nodeService{node: &Node{started: make(chan struct{})}}
	if answer, err := starting.Term(t.Context(), &nodev1.TermRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a starting node answered %v, %v", answer, err)
	}
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	closeTest(t, n)
	if answer, err := (nodeService{node: n}).Term(t.Context(), &nodev1.TermRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a closed node answered %v, %v", answer, err)
	}
}

// TestRedialWhenHeardOf has a node come back that would not be dialled for an hour.
func TestRedialWhenHeardOf(t *testing.T) {
	var dialled atomic.Int32
	conns := newNodeConns(func(context.Context, connKind, uuid.UUID) (net.Conn, error) {
		dialled.Add(1)
		return nil, errors.New("it is away")
	}, grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Hour, MaxDelay: time.Hour}, MinConnectTimeout: time.Second})
	defer conns.close()
	n, away := &Node{id: uuid.New(), conns: conns}, uuid.New()
	if _, err := n.nodeClient(away).Term(t.Context(), &nodev1.TermRequest{}); status.Code(err) != codes.Unavailable {
		t.Fatalf("a call to a node that is away: %v", err)
	}
	dialledBefore := dialled.Load()
	if err := (&gossip{node: n}).NotifyAlive(&memberlist.Node{Name: away.String()}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node is dialled again", func() bool { return dialled.Load() > dialledBefore })
}

// TestRetryOfNewConnections hears of nodes while they are called for the first time.
func TestRetryOfNewConnections(t *testing.T) {
	conns := newNodeConns(func(context.Context, connKind, uuid.UUID) (net.Conn, error) {
		return nil, errors.New("it is away")
	}, redial)
	defer conns.close()
	n := &Node{id: uuid.New(), conns: conns}
	for range 200 {
		id, called := uuid.New(), make(chan struct{})
		client := n.nodeClient(id)
		go func() {
			defer close(called)
			_, _ = client.Term(t.Context(), &nodev1.TermRequest{})
		}()
		for waiting := true; waiting; {
			select {
			case <-called:
				waiting = false
			default:
				conns.retry(id)
			}
		}
	}
}

// TestNoRedialOfStrangers calls nodes that are no members and not there.
func TestNoRedialOfStrangers(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	dialled := map[uuid.UUID]int{}
	count := func(id uuid.UUID) int {
		mu.Lock()
		defer mu.Unlock()
		return dialled[id]
	}
	conns := newNodeConns(func(_ context.Context, _ connKind, id uuid.UUID) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialled[id]++
		return nil, errors.New("it is away")
	}, grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond}, MinConnectTimeout: time.Second})
	defer conns.close()
	n, member, stranger := &Node{id: uuid.New(), conns: conns}, uuid.New(), uuid.New()
	for _, id := range []uuid.UUID{member, stranger} {
		for _, conn := range []grpc.ClientConnInterface{n.connTo(id, kindNode), n.apiConn(id)} {
			if _, err := nodev1.NewNodeServiceClient(conn).Term(t.Context(), &nodev1.TermRequest{}); status.Code(err) != codes.Unavailable {
				t.Fatalf("a call to a node that is away: %v", err)
			}
		}
	}
	conns.prune([]uuid.UUID{member})
	if got := conns.to(stranger); got != 2 {
		t.Errorf("%d connections to a node that was just called are left, want 2", got)
	}
	waitFor(t, "the stranger is let go of", func() bool {
		conns.prune([]uuid.UUID{member})
		return conns.to(stranger) == 0
	})
	if got := conns.to(member); got != 2 {
		t.Errorf("%d connections to a member that is away, want 2", got)
	}
	strange, known := count(stranger), count(member)
	waitFor(t, "the member is dialled on", func() bool { return count(member) > known+5 })
	if got := count(stranger); got > strange+2 { // one for each may have been under way
		t.Errorf("the stranger was dialled %d times after the last connection was closed", got-strange)
	}
	if _, err := n.nodeClient(stranger).Term(t.Context(), &nodev1.TermRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("the stranger, called again: %v", err)
	}
}

// to is how many connections there are to a node.
func (c *nodeConns) to(id uuid.UUID) (count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.conns {
		if key.node == id {
			count++
		}
	}
	return count
}
