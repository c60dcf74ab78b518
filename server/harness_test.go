package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/remit-io/remit/fsm"
)

const (
	rootKey = "remit_key-of-the-tests-0123456789abcdef"
	project = "production"
)

// A memoryLog is a Log that applies commands to a store at once, with hooks to
// fail as a cluster may.
type memoryLog struct {
	store *fsm.Store

	mu       sync.Mutex
	index    uint64
	attempts [][]byte // every command that came, sweeps aside
	sweeps   int
	rounds   int                                            // calls of ReadIndex
	before   func(ctx context.Context, kind fsm.Kind) error // an error stops the command
	after    func() error                                   // an error hides its result
	onRead   func(ctx context.Context) (uint64, error)      // in place of ReadIndex
	onLeader func() (grpc.ClientConnInterface, bool, error) // in place of Leader
	replicas []*replica
}

var errUnknown = errors.New("the leader went away")

func (l *memoryLog) Apply(ctx context.Context, command []byte) (any, uint64, error) {
	l.mu.Lock()
	before, after := l.before, l.after
	if kind := fsm.Kind(command[1]); kind == fsm.KindSweep || kind == fsm.KindSweepKeys {
		l.sweeps++
	} else {
		l.attempts = append(l.attempts, bytes.Clone(command))
	}
	l.mu.Unlock()
	if before != nil {
		if err := before(ctx, fsm.Kind(command[1])); err != nil {
			return nil, 0, err
		}
	}
	result, revision := l.apply(command)
	if after != nil {
		if err := after(); err != nil {
			return nil, 0, err
		}
	}
	return result, revision, nil
}

func (l *memoryLog) apply(command []byte) (any, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index += 3 // there are entries that are no commands
	entry := &raft.Log{Index: l.index, Type: raft.LogCommand, Data: command}
	for _, r := range l.replicas {
		r.receive(entry)
	}
	return l.store.Apply(entry), l.index
}

// put applies a command behind the server's back.
func (l *memoryLog) put(t testing.TB, body fsm.Body) fsm.Result {
	t.Helper()
	data, err := (&fsm.Command{Envelope: fsm.Envelope{Request: NewID()}, Body: body}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	result, _ := l.apply(data)
	if r := result.(fsm.Result); r.Err != nil {
		t.Fatalf("%T: %v", body, r.Err)
	}
	return result.(fsm.Result)
}

func (l *memoryLog) ReadIndex(ctx context.Context) (uint64, error) {
	l.mu.Lock()
	l.rounds++
	onRead := l.onRead
	index := l.index
	l.mu.Unlock()
	if onRead != nil {
		return onRead(ctx)
	}
	return index, ctx.Err()
}

// Leader is this node.
func (l *memoryLog) Leader(context.Context) (grpc.ClientConnInterface, bool, error) {
	l.mu.Lock()
	onLeader := l.onLeader
	l.mu.Unlock()
	if onLeader != nil {
		return onLeader()
	}
	return nil, true, nil
}

// hook changes the hooks while the server runs.
func (l *memoryLog) hook(change func(l *memoryLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// failing returns a hook that fails the next n times with the error.
func failing(n int, err error) func(context.Context, fsm.Kind) error {
	var mu sync.Mutex
	return func(context.Context, fsm.Kind) error {
		mu.Lock()
		defer mu.Unlock()
		if n--; n >= 0 {
			return err
		}
		return nil
	}
}

// commands returns every attempt to apply a command, decoded.
func (l *memoryLog) commands(t testing.TB) (all []*fsm.Command) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, data := range l.attempts {
		c, err := fsm.DecodeCommand(data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// last returns the newest command.
func (l *memoryLog) last(t testing.TB) *fsm.Command {
	t.Helper()
	all := l.commands(t)
	if len(all) == 0 {
		t.Fatal("no command was proposed")
	}
	return all[len(all)-1]
}

// A safeBuffer collects log lines of many goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A node is a server over a store and a log in memory, after bootstrap.
type node struct {
	t      testing.TB
	log    *memoryLog
	store  *fsm.Store
	server *Server
	local  *Local
	init   *fsm.Init
	logged *safeBuffer
	// cluster is the nodes around it.
	cluster *fakeCluster
}

// newNode returns a node that is not ready yet.
func newNode(t testing.TB) *node {
	t.Helper()
	return newNodeAt(t, fsm.MaxLevel)
}

// newNodeAt returns one of a cluster at this level.
func newNodeAt(t testing.TB, level uint32) *node {
	t.Helper()
	n := &node{t: t, store: fsm.NewStore(func(err error) { t.Errorf("halted: %v", err) })}
	n.log = &memoryLog{store: n.store}
	n.init = &fsm.Init{
		Cluster: NewID(), Epoch: NewID(), Secret: [32]byte(bytes.Repeat([]byte{7}, 32)), Level: level,
		CreateOrganisation: fsm.CreateOrganisation{
			Organisation: NewID(), Name: fsm.BootstrapOrganisation, BuiltIn: NewID(), Project: NewID(), ProjectName: project,
			Key: NewID(), KeyName: "root", KeyHash: sha256.Sum256([]byte(rootKey)),
		},
	}
	n.log.put(t, n.init)
	n.logged = &safeBuffer{}
	n.cluster = newFakeCluster(level)
	n.server = New(Config{
		Log: n.log, Store: n.store, Cluster: n.cluster,
		Logger: slog.New(slog.NewTextHandler(n.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	n.local = NewLocal(n.server.LocalInterceptor)
	n.server.Register(n.local)
	t.Cleanup(func() {
		if lines := n.logged.String(); strings.Contains(lines, rootKey) || strings.Contains(lines, strings.TrimPrefix(rootKey, KeyPrefix)) {
			t.Error("the key was logged")
		}
	})
	return n
}

// ready makes the one round that a server needs before it answers.
func (n *node) ready() *node {
	n.t.Helper()
	if err := n.server.fresh.round(context.Background(), n.log, n.store); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// run runs the server's background work until the test ends.
func (n *node) run() *node {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { n.server.Run(ctx) })
	n.t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	await(n.t, "the server is ready", func() bool { return n.server.Ready() == nil })
	return n
}

// listen serves gRPC and returns a connection to it.
func (n *node) listen(more ...func(*grpc.Server)) *grpc.ClientConn {
	n.t.Helper()
	listener := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.InTapHandle(n.server.Tap), grpc.UnaryInterceptor(n.server.Interceptor),
		grpc.StreamInterceptor(n.server.StreamInterceptor), grpc.MaxRecvMsgSize(MaxRequestBytes))
	n.server.Register(s)
	reflection.Register(s)
	for _, register := range more {
		register(s)
	}
	go s.Serve(listener)
	n.t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	return conn
}

// view is the project at the newest state.
func (n *node) view() view {
	state := n.store.State()
	o, _ := state.Organisation(n.init.Organisation)
	p, _ := o.Project(project)
	return view{state, o.ID, p}
}

// digestOf is a digest of what a state holds, without what commands came to: that a
// call was refused is remembered, and changes nothing else.
func digestOf(s *fsm.State) [32]byte {
	h := sha256.New()
	fmt.Fprintln(h, s.Cluster, s.Epoch, s.Secret, s.Level)
	for o := range s.Organisations(fsm.ID{}) {
		fmt.Fprintf(h, "%v %q %d %d\n", o.ID, o.Name, o.Created, o.Updated)
		for p := range o.Projects("") {
			fmt.Fprintf(h, "%v %q %d\n", p.ID, p.Name, p.Created)
			for k := range p.Keys("") {
				fmt.Fprintf(h, "%+v %v\n", *k, s.IsOperator(k.ID))
			}
			for x := range p.Permissions("") {
				fmt.Fprintf(h, "%v %q %q\n", x.ID, x.Name, x.Description)
			}
			for r := range p.Roles("") {
				fmt.Fprintf(h, "%v %q %q", r.ID, r.Name, r.Description)
				for _, x := range p.RolePermissions(r) {
					fmt.Fprintf(h, " %v", x.ID)
				}
				fmt.Fprintln(h)
			}
			for principal := range p.Principals("") {
				for a := range p.Assignments(principal, "") {
					fmt.Fprintf(h, "%q %q", principal, a.URI)
					for _, x := range a.Permissions {
						fmt.Fprintf(h, " %v", x.ID)
					}
					for _, r := range a.Roles {
						fmt.Fprintf(h, " %v", r.ID)
					}
					fmt.Fprintln(h)
				}
			}
		}
	}
	return [32]byte(h.Sum(nil))
}

func (n *node) scope() fsm.Scope { return n.view().scope() }

func wantCode(t testing.TB, err error, code codes.Code, names ...string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Errorf("got %v %q, want %v", s.Code(), s.Message(), code)
	}
	for _, name := range names {
		if !strings.Contains(s.Message(), name) {
			t.Errorf("message %q does not name %q", s.Message(), name)
		}
	}
	if strings.Contains(s.Message(), rootKey) {
		t.Errorf("message %q tells the key", s.Message())
	}
}

// await waits until a condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
