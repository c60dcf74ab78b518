package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/remit-io/remit/fsm"
)

// A replica is the state of a follower, which applies what the leader does unless
// it is held back.
type replica struct {
	store *fsm.Store

	mu      sync.Mutex
	held    bool
	pending []*raft.Log
}

func (r *replica) receive(entry *raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held {
		r.pending = append(r.pending, entry)
		return
	}
	r.store.Apply(entry)
}

// hold keeps the follower from applying anything until release.
func (r *replica) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = true
}

func (r *replica) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	for _, entry := range r.pending {
		r.store.Apply(entry)
	}
	r.pending = nil
}

// A followingLog is the log as a follower has it: it asks the leader.
type followingLog struct {
	leader *memoryLog
	mu     sync.Mutex
	conn   grpc.ClientConnInterface // to the leader; nil while there is none
	asked  int                      // calls of Leader
}

func (l *followingLog) Apply(context.Context, []byte) (any, uint64, error) {
	return nil, 0, ErrNotApplied
}

func (l *followingLog) ReadIndex(ctx context.Context) (uint64, error) { return l.leader.ReadIndex(ctx) }

func (l *followingLog) Leader(context.Context) (grpc.ClientConnInterface, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.conn == nil {
		return nil, false, errors.New("there is no leader")
	}
	return l.conn, false, nil
}

// follow makes another node the leader, or none.
func (l *followingLog) follow(conn grpc.ClientConnInterface) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

func (l *followingLog) looks() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// A follower is a node beside the leader. Its log, as tests look at it, is the
// leader's; its state is its own.
type follower struct {
	*node
	replica *replica
	leader  *node
	links   *followingLog
	atNode  *grpc.Server // the leader's server for other nodes
}

// newFollower returns a follower of a new leader, both ready, with a gRPC
// connection between them.
func newFollower(t testing.TB) *follower {
	t.Helper()
	return newFollowerAt(t, fsm.MaxLevel)
}

func newFollowerAt(t testing.TB, level uint32) *follower {
	t.Helper()
	leader := newNodeAt(t, level).ready()
	store := fsm.NewStore(func(err error) { t.Errorf("the follower halted: %v", err) })
	f := &follower{
		node:    &node{t: t, log: leader.log, store: store, init: leader.init, logged: leader.logged, cluster: newFakeCluster(level)},
		replica: &replica{store: store}, leader: leader, links: &followingLog{leader: leader.log},
	}
	f.node.cluster.id = idB
	f.log.hook(func(l *memoryLog) {
		f.replica.receive(&raft.Log{Index: l.index, Type: raft.LogCommand, Data: leader.initCommand(t)})
		l.replicas = append(l.replicas, f.replica)
	})
	f.server = New(Config{
		Log: f.links, Store: store, Cluster: f.cluster,
		Logger: slog.New(slog.NewTextHandler(f.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	f.local = NewLocal(f.server.LocalInterceptor)
	f.server.Register(f.local)
	f.links.follow(f.dialLeader())
	if err := f.server.fresh.round(context.Background(), f.links, store); err != nil {
		t.Fatal(err)
	}
	return f
}

// initCommand is the command that the cluster began with.
func (n *node) initCommand(t testing.TB) []byte {
	t.Helper()
	data, err := (&fsm.Command{Envelope: fsm.Envelope{Request: NewID()}, Body: n.init}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dialLeader serves the leader's API for other nodes and returns a connection to it.
func (f *follower) dialLeader() *grpc.ClientConn {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	s := grpc.NewServer(grpc.InTapHandle(f.leader.server.NodeTap), grpc.UnaryInterceptor(f.leader.server.NodeInterceptor), grpc.MaxRecvMsgSize(2*MaxRequestBytes))
	f.leader.server.Register(s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(listener)
	}()
	f.t.Cleanup(func() {
		s.Stop()
		<-ended
	})
	f.atNode = s
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return conn
}
