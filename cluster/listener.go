package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

const (
	// handshakeTimeout bounds the handshake of a connection, which takes milliseconds
	// between nodes that are well.
	handshakeTimeout = 2 * time.Second
	// maxHandshakes bounds the connections coming in that are still in their handshake.
	maxHandshakes = 256
	// maxSilence is how long what was sent over a connection may go unacknowledged.
	// Without it a snapshot that is being sent to a node which has lost its network is
	// given up after a quarter of an hour, and the node gets nothing until then.
	maxSilence = 30 * time.Second
	// acceptPause is the wait after a failed accept, such as too many open files.
	acceptPause = 50 * time.Millisecond
)

// errCrowded is why a connection ends whose handshake others have pushed out: the
// oldest goes, since a node's is over long before it is that.
var errCrowded = fmt.Errorf("too many are in their handshake, more than %d, and this was the oldest", maxHandshakes)

// errPlaintext is why a connection to another machine is not opened.
var errPlaintext = errors.New("the node is on another machine and the connection would not be encrypted: " +
	"give every node a certificate (--tls-cert, --tls-key, --tls-ca), or accept that with --insecure")

// identity is what the listener knows of its node.
type identity struct {
	self    uuid.UUID
	cluster func() *uuid.UUID                  // nil before the cluster is known
	epoch   func() uuid.UUID                   // of the cluster's log
	joining func() bool                        // asked to be taken in, and not taken in yet
	address func(id uuid.UUID) (string, error) // of another node

	tls      *TLS // nil for connections without
	insecure bool // lets connections without TLS leave the machine
}

// listener is the one listener for connections between nodes. It hands them out
// after their handshake, each to who serves its kind, and closes with itself
// every connection it handed out, since the Raft transport leaves those that wait
// for a request open.
type listener struct {
	tcp  net.Listener
	log  *slog.Logger
	node identity

	kinds  map[connKind]*kindListener
	quiet  occasionally // about the connections refused, for each reason
	closed chan struct{}
	wg     sync.WaitGroup

	handshakes newestConns // coming in and not admitted yet

	mu    sync.Mutex
	conns map[*nodeConn]struct{} // nil when closed
}

// nodeConn is a connection the listener closes with itself.
type nodeConn struct {
	net.Conn
	listener *listener
}

func (c *nodeConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// callerConn is a connection that came in, past its handshake: who serves it learns
// from its remote address which node calls.
type callerConn struct {
	net.Conn
	caller uuid.UUID
}

// RemoteAddr is a callerAddr.
func (c callerConn) RemoteAddr() net.Addr { return callerAddr{c.Conn.RemoteAddr(), c.caller} }

// callerAddr is the address of a node and its id, which with TLS is the one in its
// certificate.
type callerAddr struct {
	net.Addr
	id uuid.UUID
}

func newListener(tcp net.Listener, log *slog.Logger, node identity) *listener {
	l := &listener{
		tcp:    tcp,
		log:    log,
		node:   node,
		kinds:  make(map[connKind]*kindListener),
		quiet:  occasionally{every: time.Second, burst: 10},
		closed: make(chan struct{}),
		conns:  make(map[*nodeConn]struct{}),

		handshakes: newestConns{most: maxHandshakes},
	}
	for _, kind := range []connKind{kindRaft, kindNode, kindAPI} {
		l.kinds[kind] = &kindListener{listener: l, kind: kind, conns: make(chan net.Conn), ended: make(chan struct{})}
	}
	l.wg.Add(1)
	go l.acceptAll()
	return l
}

// track makes the connection one that Close closes.
func (l *listener) track(conn net.Conn) (*nodeConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c := &nodeConn{Conn: conn, listener: l}
	l.conns[c] = struct{}{}
	return c, nil
}

func (l *listener) acceptAll() {
	defer l.wg.Done()
	for {
		conn, err := l.tcp.Accept()
		if err != nil {
			select {
			case <-l.closed:
				return
			case <-time.After(acceptPause):
			}
			if !errors.Is(err, net.ErrClosed) {
				l.warn("cannot accept a node connection", "accept", "error", err)
			}
			continue
		}
		tracked, err := l.track(conn)
		if err != nil {
			return
		}
		l.handshakes.begin(tracked.Conn)
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			conn, kind, err := l.admit(tracked)
			if !l.handshakes.finish(tracked.Conn) {
				err = errCrowded
			}
			if err != nil {
				_ = tracked.Close()
				l.warn("node connection refused", sortOf(err), "from", tracked.RemoteAddr().String(), "error", err)
				return
			}
			l.kinds[kind].hand(conn)
		}()
	}
}

// warn logs what anybody can bring about as often as they like.
func (l *listener) warn(message, event string, args ...any) {
	tell, left := l.quiet.again(event)
	if !tell {
		return
	}
	if left > 0 {
		args = append(args, "left_out", left)
	}
	l.log.Warn(message, args...)
}

// sortOf names what sort of error a connection is refused for. There are few of
// them, while the words of an error may be the caller's.
func sortOf(err error) string {
	var v verdict
	var timeout net.Error
	switch {
	case errors.Is(err, errCrowded):
		return "crowded"
	case errors.As(err, &v):
		return v.String()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, errNotANode):
		return "not a node"
	case errors.Is(err, errWrongVersion):
		return "version"
	}
	return "TLS"
}

// admit runs the called node's side of the handshake. The connection it returns
// is encrypted if the node has TLS.
func (l *listener) admit(conn net.Conn) (net.Conn, connKind, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, 0, err
	}
	conn, certified, err := l.answerTLS(conn)
	if err != nil {
		return nil, 0, err
	}
	h, err := readHello(conn)
	if errors.Is(err, errWrongVersion) {
		return nil, 0, errors.Join(err, writeReply(conn, wrongVersion))
	}
	if err != nil {
		return nil, 0, err
	}
	v := l.judge(h)
	if l.node.tls != nil && h.caller != certified {
		v = wrongCertificate
	}
	if err := writeReply(conn, v); err != nil {
		return nil, 0, err
	}
	if v == wrongCertificate {
		return nil, 0, fmt.Errorf("node %s called as node %s: %w", certified, h.caller, v)
	}
	if v != accepted {
		return nil, 0, fmt.Errorf("node %s of cluster %s called node %s for kind %d; this is node %s: %w", h.caller, h.cluster, h.target, h.kind, l.node.self, v)
	}
	return callerConn{conn, h.caller}, h.kind, conn.SetDeadline(time.Time{})
}

// answerTLS runs the called node's side of the TLS handshake, if the node has TLS,
// and returns the id in the caller's certificate.
func (l *listener) answerTLS(conn net.Conn) (net.Conn, uuid.UUID, error) {
	if l.node.tls == nil {
		return conn, uuid.Nil, nil
	}
	certificates, err := l.node.tls.current()
	if err != nil {
		return nil, uuid.Nil, err
	}
	encrypted := tls.Server(conn, certificates.answering())
	err = encrypted.Handshake()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && string(plain.RecordHeader[:len(handshakeMagic)]) == handshakeMagic {
		return nil, uuid.Nil, errors.Join(errors.New("the caller is a node without TLS"), writeReply(conn, needsTLS))
	}
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("TLS: %w", err)
	}
	id, err := certifiedNode(encrypted.ConnectionState().PeerCertificates[0])
	return encrypted, id, err
}

func (l *listener) judge(h hello) verdict {
	cluster := l.node.cluster()
	switch {
	case l.kinds[h.kind] == nil:
		return wrongKind
	// A node without a cluster is asked to be part of one.
	case cluster == nil && h.kind != kindNode:
		return noCluster
	case cluster != nil && h.cluster != *cluster:
		return wrongCluster
	case cluster != nil && h.epoch != l.node.epoch():
		return wrongEpoch
	case h.caller == l.node.self:
		return sameNode
	case h.target != l.node.self:
		return wrongTarget
	// It may have been a voter before it lost its data, whose votes would count.
	case h.kind == kindRaft && l.node.joining():
		return notTakenIn
	}
	return accepted
}

// Addr is the address listened on.
func (l *listener) Addr() net.Addr { return l.tcp.Addr() }

// Close closes the listener and all its connections, and waits for its goroutines.
func (l *listener) Close() error {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	if conns == nil {
		return nil
	}
	close(l.closed)
	err := l.tcp.Close()
	for conn := range conns {
		_ = conn.Conn.Close()
	}
	l.wg.Wait()
	return err
}

// dial opens a connection of a kind to a node.
func (l *listener) dial(ctx context.Context, kind connKind, target uuid.UUID) (net.Conn, error) {
	cluster := l.node.cluster()
	if cluster == nil {
		return nil, fmt.Errorf("call node %s: this node belongs to no cluster yet", target)
	}
	address, err := l.node.address(target)
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", target, err)
	}
	dialer := net.Dialer{Control: l.prepare}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", target, err)
	}
	tracked, err := l.track(conn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	open, err := l.introduce(ctx, tracked, hello{kind: kind, cluster: *cluster, epoch: l.node.epoch(), caller: l.node.self, target: target})
	if err != nil {
		_ = tracked.Close()
		return nil, fmt.Errorf("call node %s at %s: %w", target, address, err)
	}
	return open, nil
}

// prepare is called before a connection is opened, once a name has become an address.
func (l *listener) prepare(_, address string, conn syscall.RawConn) error {
	if err := l.allow(address); err != nil {
		return err
	}
	return limitSilence(conn, maxSilence)
}

// allow refuses to open a connection that would leave the machine unencrypted.
func (l *listener) allow(address string) error {
	if l.node.tls != nil || l.node.insecure || isLoopback(address) {
		return nil
	}
	return errPlaintext
}

// isLoopback reports whether an IP address and port are this machine's own.
func isLoopback(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// introduce runs the caller's side of the handshake. The connection it returns is
// encrypted if the node has TLS. The context must have a deadline.
func (l *listener) introduce(ctx context.Context, conn net.Conn, h hello) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if l.node.tls != nil {
		certificates, err := l.node.tls.current()
		if err != nil {
			return nil, err
		}
		encrypted := tls.Client(conn, certificates.calling(h.target))
		if err := encrypted.HandshakeContext(ctx); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				err = fmt.Errorf("%w: is it a node with TLS (--tls-cert, --tls-key, --tls-ca)?", err)
			}
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = encrypted
	}
	if err := h.write(conn); err != nil {
		return nil, err
	}
	v, err := readReply(conn)
	// The called node judges the caller's certificate after the caller's part of the handshake.
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return nil, fmt.Errorf("the node refused this node's certificate: %w", op)
	}
	if err != nil {
		return nil, err
	}
	if v != accepted {
		return nil, fmt.Errorf("the node refused: %s", v)
	}
	return conn, conn.SetDeadline(time.Time{})
}

// kindListener is the listener for one kind of connections.
type kindListener struct {
	*listener
	kind  connKind
	conns chan net.Conn
	ended chan struct{} // closed with this kind alone
	once  sync.Once
}

// hand gives a connection to whoever accepts this kind.
func (k *kindListener) hand(conn net.Conn) {
	select {
	case k.conns <- conn:
	case <-k.ended:
		_ = conn.Close()
	case <-k.listener.closed:
	}
}

// Accept returns the next connection of the kind.
func (k *kindListener) Accept() (net.Conn, error) {
	select {
	case conn := <-k.conns:
		return conn, nil
	case <-k.ended:
	case <-k.listener.closed:
	}
	return nil, net.ErrClosed
}

// Close refuses connections of this kind from now on.
func (k *kindListener) Close() error {
	k.once.Do(func() { close(k.ended) })
	return nil
}

// raftStream is the Raft transport's way in and out (raft.StreamLayer).
type raftStream struct {
	*kindListener
	ctx context.Context // of the node
}

// Dial opens a Raft connection to a node; Raft's address of a node is its id.
func (s raftStream) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	target, err := uuid.Parse(string(node))
	if err != nil {
		return nil, fmt.Errorf("call node %q: its id is no UUID", node)
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	return s.dial(ctx, kindRaft, target)
}

// addressByID makes a node's id its address inside Raft. So votes are remembered
// by id, connections are pooled by id, and Dial knows whom it calls; where a node
// is reached is looked up at each Dial.
type addressByID struct{}

func (addressByID) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}
