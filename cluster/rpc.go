package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

const (
	// keepaliveTime is how long a connection to a node is silent before the node is
	// asked whether it still lives, and keepaliveTimeout how long its answer may take.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// maxAnswerBytes is the largest message a node takes from another as an answer.
	maxAnswerBytes = 64 << 20
	// unusedFor is how long a connection to a node that is no member stays without a
	// call; longer than any call takes.
	unusedFor = time.Minute
	// unreachedFor is the same for one that does not reach the node; longer than
	// anybody waits for that.
	unreachedFor = 3 * time.Second
)

// redial is how soon a node that was not reached is tried again: a node that comes
// back must be found well within the time that a write is retried for.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 2 * time.Second,
}

// nodeConns are the connections to other nodes: one for each node and kind, made
// when it is first asked for. To a member it is kept until all are closed, and
// redialled while the member is away, so that a call finds it there; to others it is
// kept while it is used.
type nodeConns struct {
	dial   func(ctx context.Context, kind connKind, target uuid.UUID) (net.Conn, error)
	redial grpc.ConnectParams

	mu    sync.Mutex
	conns map[nodeKind]*outgoing // nil when closed
}

// outgoing is a connection to another node.
type outgoing struct {
	*grpc.ClientConn
	used time.Time // when it was last asked for
}

type nodeKind struct {
	node uuid.UUID
	kind connKind
}

func newNodeConns(dial func(context.Context, connKind, uuid.UUID) (net.Conn, error), redial grpc.ConnectParams) *nodeConns {
	return &nodeConns{dial: dial, redial: redial, conns: make(map[nodeKind]*outgoing)}
}

// get returns the connection of a kind to a node; no call reaches the node before
// the handshake.
func (c *nodeConns) get(id uuid.UUID, kind connKind) (grpc.ClientConnInterface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		return nil, errClosed
	}
	key := nodeKind{id, kind}
	if conn := c.conns[key]; conn != nil {
		conn.used = time.Now()
		return conn.ClientConn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+id.String(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx, kind, id) }),
		// The listener's connections are encrypted, or not, below gRPC.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(c.redial),
		grpc.WithIdleTimeout(0),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", id, err)
	}
	c.conns[key] = &outgoing{conn, time.Now()}
	return conn, nil
}

// prune closes the connections to nodes that are no members and that nobody has asked
// for in a while: nodes are called before they become members, and one that leaves says
// so to its end. What does not reach its node would be redialled for ever.
func (c *nodeConns) prune(members []uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, conn := range c.conns {
		if slices.Contains(members, key.node) {
			continue
		}
		keep := unusedFor
		if conn.GetState() != connectivity.Ready {
			keep = unreachedFor
		}
		if time.Since(conn.used) >= keep {
			_ = conn.Close()
			delete(c.conns, key)
		}
	}
}

// retry redials a node that is heard of again at once, instead of within a second. Only
// a connection that failed waits; on one that is being made for the first time
// ResetConnectBackoff reads what gRPC writes at the same moment (v1.85.0).
func (c *nodeConns) retry(id uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, conn := range c.conns {
		if key.node == id && conn.GetState() == connectivity.TransientFailure {
			conn.ResetConnectBackoff()
		}
	}
}

func (c *nodeConns) close() {
	c.mu.Lock()
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// failedConn is the connection of a node that is closing: every call fails.
type failedConn struct{ err error }

func (c failedConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, c.err.Error())
}

func (c failedConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unavailable, c.err.Error())
}

// reasonOf words the error of a call to another node for people: what gRPC says
// around a failed dial says nothing more.
func reasonOf(err error) string {
	message := status.Convert(err).Message()
	_, quoted, ok := strings.Cut(message, "connection error: desc = ")
	if !ok {
		return message
	}
	reason, err := strconv.Unquote(quoted)
	if err != nil {
		return message
	}
	return strings.TrimPrefix(reason, "transport: Error while dialing: ")
}

// connTo returns the connection of a kind to a node.
func (n *Node) connTo(id uuid.UUID, kind connKind) grpc.ClientConnInterface {
	conn, err := n.conns.get(id, kind)
	if err != nil {
		return failedConn{err}
	}
	return conn
}

// nodeClient calls the node service of another node.
func (n *Node) nodeClient(id uuid.UUID) nodev1.NodeServiceClient {
	return nodev1.NewNodeServiceClient(n.connTo(id, kindNode))
}

// apiConn leads to the API of another node.
func (n *Node) apiConn(id uuid.UUID) grpc.ClientConnInterface { return n.connTo(id, kindAPI) }

// APIListener is where other nodes' calls to this one's API come in, each past the
// handshake between nodes. They ping every ten seconds, with and without calls under
// way; whoever serves it must allow more than that, so that one in time is never early.
func (n *Node) APIListener() net.Listener { return n.listener.kinds[kindAPI] }

// serveNodes serves the node service to other nodes until the node closes.
func (n *Node) serveNodes() {
	n.grpc = grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.ConnectionTimeout(handshakeTimeout),
	)
	nodev1.RegisterNodeServiceServer(n.grpc, nodeService{node: n})
	go func() {
		if err := n.grpc.Serve(n.listener.kinds[kindNode]); err != nil && !errors.Is(err, grpc.ErrServerStopped) && n.Err() == nil {
			n.log.Error("serve other nodes", "error", err)
		}
	}()
}

// nodeService answers other nodes.
type nodeService struct {
	nodev1.UnimplementedNodeServiceServer
	node *Node
}

// running returns UNAVAILABLE while the node starts, and after it has ended. A node
// that has not read all that is on its disk must not speak for it.
func (s nodeService) running() error {
	select {
	case <-s.node.started:
	default:
		return status.Error(codes.Unavailable, "the node is still starting")
	}
	if err := s.node.Err(); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

// callerOf is the node that a call comes from.
func callerOf(ctx context.Context) (uuid.UUID, error) {
	if p, ok := grpcpeer.FromContext(ctx); ok {
		if address, ok := p.Addr.(callerAddr); ok {
			return address.id, nil
		}
	}
	return uuid.Nil, status.Error(codes.Internal, "it is not known which node calls")
}

// Term answers the newest term that the node has stored. Raft stores a term before it
// answers with it, or votes in it.
func (s nodeService) Term(context.Context, *nodev1.TermRequest) (*nodev1.TermResponse, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	return &nodev1.TermResponse{Term: max(s.node.raft.CurrentTerm(), s.node.store.term.Load())}, nil
}

// ReadIndex answers the leader's read index. It joins the rounds of the leader's own reads.
func (s nodeService) ReadIndex(ctx context.Context, _ *nodev1.ReadIndexRequest) (*nodev1.ReadIndexResponse, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	revision, err := s.node.leaderReads.read(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &nodev1.ReadIndexResponse{Revision: revision}, nil
}

// Status answers what the node knows of itself.
func (s nodeService) Status(context.Context, *nodev1.StatusRequest) (*nodev1.StatusResponse, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	return s.node.status(), nil
}

// Digest answers the digest of the state at a checkpoint.
func (s nodeService) Digest(ctx context.Context, request *nodev1.DigestRequest) (*nodev1.DigestResponse, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	digest, err := s.node.digest(ctx, request.GetRevision())
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &nodev1.DigestResponse{Digest: digest}, nil
}

// ConfirmBootstrap answers a node that would bootstrap a cluster with this one.
func (s nodeService) ConfirmBootstrap(ctx context.Context, request *nodev1.ConfirmBootstrapRequest) (*nodev1.ConfirmBootstrapResponse, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	caller, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.node.confirmBootstrap(caller, request); err != nil {
		return nil, err
	}
	return &nodev1.ConfirmBootstrapResponse{}, nil
}
