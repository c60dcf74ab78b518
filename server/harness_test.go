package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/remit-io/remit/fsm"
	permiov1 "github.com/remit-io/remit/proto/permio/permissions/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
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
}

var errUnknown = errors.New("the leader went away")

func (l *memoryLog) Apply(ctx context.Context, command []byte) (any, uint64, error) {
	l.mu.Lock()
	before, after := l.before, l.after
	if fsm.Kind(command[1]) == fsm.KindSweep {
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
	return l.store.Apply(&raft.Log{Index: l.index, Type: raft.LogCommand, Data: command}), l.index
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
}

// newNode returns a node that is not ready yet.
func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{t: t, store: fsm.NewStore(func(err error) { t.Errorf("halted: %v", err) })}
	n.log = &memoryLog{store: n.store}
	n.init = &fsm.Init{
		Cluster: NewID(), Epoch: NewID(), Secret: [32]byte(bytes.Repeat([]byte{7}, 32)),
		CreateOrganisation: fsm.CreateOrganisation{
			Organisation: NewID(), Name: fsm.BootstrapOrganisation, BuiltIn: NewID(), Project: NewID(), ProjectName: project,
			Key: NewID(), KeyName: "root", KeyHash: sha256.Sum256([]byte(rootKey)),
		},
	}
	n.log.put(t, n.init)
	lines := &safeBuffer{}
	n.server = New(n.log, n.store, slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})))
	n.local = NewLocal(n.server.LocalInterceptor)
	n.server.Register(n.local)
	t.Cleanup(func() {
		if strings.Contains(lines.String(), rootKey) || strings.Contains(lines.String(), strings.TrimPrefix(rootKey, KeyPrefix)) {
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
	s := grpc.NewServer(grpc.UnaryInterceptor(n.server.Interceptor), grpc.StreamInterceptor(n.server.StreamInterceptor),
		grpc.MaxRecvMsgSize(MaxRequestBytes))
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

func (n *node) scope() fsm.Scope { return n.view().scope() }

// A door is one way to call a node.
type door struct {
	*node
	permissionsv1.PermissionsServiceClient
	conn    grpc.ClientConnInterface
	service string
	isREST  bool
	ctx     context.Context // carries the key
}

const (
	serviceName   = "permissions.v1.PermissionsService"
	publishedName = "permio.permissions.v1.PermissionsService"
)

// everyDoor runs a test over gRPC, under both names of the service, and over
// REST, each on a node of its own.
func everyDoor(t *testing.T, test func(t *testing.T, d *door)) {
	for _, service := range []string{serviceName, publishedName, "REST"} {
		t.Run(service, func(t *testing.T) { test(t, newNode(t).run().door(service)) })
	}
}

func (n *node) door(service string) *door {
	n.t.Helper()
	d := &door{node: n, service: service, ctx: withKey(n.t.Context())}
	switch service {
	case "REST":
		d.isREST, d.service, d.conn = true, serviceName, newRESTConn(n)
		d.PermissionsServiceClient = permissionsv1.NewPermissionsServiceClient(d.conn)
	case publishedName:
		d.conn = n.listen()
		d.PermissionsServiceClient = permiov1.NewPermissionsServiceClient(d.conn)
	default:
		d.conn = n.listen()
		d.PermissionsServiceClient = permissionsv1.NewPermissionsServiceClient(d.conn)
	}
	return d
}

// localDoor calls the node within the process.
func (n *node) localDoor() *door {
	return &door{
		node: n, service: serviceName, conn: n.local, ctx: withKey(n.t.Context()),
		PermissionsServiceClient: permissionsv1.NewPermissionsServiceClient(n.local),
	}
}

// withKey adds the root key and other metadata to a context.
func withKey(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, append([]string{metadataAuthorization, "Bearer " + rootKey}, pairs...)...)
}

// methodFor returns the method that takes the request.
func methodFor(req proto.Message) protoreflect.MethodDescriptor {
	methods := permissionsv1.File_proto_permissions_v1_permissions_service_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		if m := methods.Get(i); m.Input() == req.ProtoReflect().Descriptor() {
			return m
		}
	}
	panic("no method takes " + string(req.ProtoReflect().Descriptor().FullName()))
}

// call makes the one call that takes the request.
func (d *door) call(ctx context.Context, req proto.Message, opts ...grpc.CallOption) (proto.Message, error) {
	m := methodFor(req)
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		panic(err)
	}
	reply := kind.New().Interface()
	err = d.conn.Invoke(ctx, "/"+d.service+"/"+string(m.Name()), req, reply, opts...)
	return reply, err
}

// do makes a call that has to succeed.
func do[Q proto.Message, A any](d *door, call func(context.Context, Q, ...grpc.CallOption) (A, error), req Q) A {
	d.t.Helper()
	answer, err := call(d.ctx, req)
	if err != nil {
		d.t.Fatalf("%T %v: %v", req, req, err)
	}
	return answer
}

// refuse makes a call that has to fail and to leave the state as it was.
func (d *door) refuse(t testing.TB, ctx context.Context, req proto.Message, code codes.Code, names ...string) {
	t.Helper()
	before := d.store.State().Digest()
	_, err := d.call(ctx, req)
	wantCode(t, err, code, names...)
	if d.store.State().Digest() != before {
		t.Errorf("%T was refused and changed the state", req)
	}
}

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

// permission, role, grant and check are the calls that other tests stand on.
func (d *door) permission(name string) string {
	d.t.Helper()
	return do(d, d.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name}).Id
}

func (d *door) role(name string, permissions ...string) string {
	d.t.Helper()
	return do(d, d.CreateRole, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: name, Permissions: permissions}).Id
}

func (d *door) grant(user, uri string, permissions, roles []string) string {
	d.t.Helper()
	return do(d, d.GrantUserPermissionsAndRolesOnResource, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
	}).Token
}

func (d *door) revoke(user, uri string, permissions, roles []string) string {
	d.t.Helper()
	return do(d, d.RevokeUserPermissionsAndRolesOnResource, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
	}).Token
}

func (d *door) allowed(user, uri string, permissions ...string) bool {
	d.t.Helper()
	return do(d, d.Check, &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: user, ResourceUris: []string{uri}, Permissions: permissions,
	}).Passed
}
