package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

const (
	// handshakeTimeout bounds the handshake of a connection coming in.
	handshakeTimeout = 5 * time.Second
	// maxHandshakes bounds the connections that are still in their handshake.
	maxHandshakes = 64
	// acceptPause is the wait after a failed accept, such as too many open files.
	acceptPause = 50 * time.Millisecond
)

// identity is what the listener knows of its node.
type identity struct {
	self    uuid.UUID
	cluster func() *uuid.UUID                  // nil before the cluster is known
	address func(id uuid.UUID) (string, error) // of another node
}

// listener is the one listener for connections between nodes, and the Raft
// transport's way in and out (raft.StreamLayer). It hands out connections after
// their handshake, and closes with itself every connection it handed out, since
// the Raft transport leaves those that wait for a request open.
type listener struct {
	tcp  net.Listener
	log  *slog.Logger
	node identity

	raftConns  chan net.Conn
	handshakes chan struct{} // holds a token for each handshake under way
	closed     chan struct{}
	wg         sync.WaitGroup

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

func newListener(tcp net.Listener, log *slog.Logger, node identity) *listener {
	l := &listener{
		tcp:        tcp,
		log:        log,
		node:       node,
		raftConns:  make(chan net.Conn),
		handshakes: make(chan struct{}, maxHandshakes),
		closed:     make(chan struct{}),
		conns:      make(map[*nodeConn]struct{}),
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
				l.log.Warn("cannot accept a node connection", "error", err)
			}
			continue
		}
		select {
		case l.handshakes <- struct{}{}:
		default:
			l.log.Warn("node connection refused: too many are in their handshake", "from", conn.RemoteAddr().String())
			_ = conn.Close()
			continue
		}
		tracked, err := l.track(conn)
		if err != nil {
			return
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			err := l.admit(tracked)
			<-l.handshakes
			if err != nil {
				_ = tracked.Close()
				l.log.Warn("node connection refused", "from", conn.RemoteAddr().String(), "error", err)
				return
			}
			select {
			case l.raftConns <- tracked:
			case <-l.closed:
			}
		}()
	}
}

// admit runs the called node's side of the handshake.
func (l *listener) admit(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	h, err := readHello(conn)
	if errors.Is(err, errWrongVersion) {
		return errors.Join(err, writeReply(conn, wrongVersion))
	}
	if err != nil {
		return err
	}
	v := l.judge(h)
	if err := writeReply(conn, v); err != nil {
		return err
	}
	if v != accepted {
		return fmt.Errorf("node %s of cluster %s called node %s for kind %d; this is node %s: %s", h.caller, h.cluster, h.target, h.kind, l.node.self, v)
	}
	return conn.SetDeadline(time.Time{})
}

func (l *listener) judge(h hello) verdict {
	cluster := l.node.cluster()
	switch {
	case h.kind != kindRaft:
		return wrongKind
	case cluster == nil:
		return noCluster
	case h.cluster != *cluster:
		return wrongCluster
	case h.caller == l.node.self:
		return sameNode
	case h.target != l.node.self:
		return wrongTarget
	}
	return accepted
}

// Accept returns the next Raft connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.raftConns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
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

// Dial opens a Raft connection to a node; Raft's address of a node is its id.
func (l *listener) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	deadline := time.Now().Add(timeout)
	target, err := uuid.Parse(string(node))
	if err != nil {
		return nil, fmt.Errorf("call node %q: its id is no UUID", node)
	}
	cluster := l.node.cluster()
	if cluster == nil {
		return nil, fmt.Errorf("call node %s: this node belongs to no cluster yet", target)
	}
	address, err := l.node.address(target)
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", target, err)
	}
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", target, err)
	}
	tracked, err := l.track(conn)
	if err != nil {
		return nil, err
	}
	err = introduce(tracked, deadline, hello{kind: kindRaft, cluster: *cluster, caller: l.node.self, target: target})
	if err != nil {
		_ = tracked.Close()
		return nil, fmt.Errorf("call node %s at %s: %w", target, address, err)
	}
	return tracked, nil
}

// introduce runs the caller's side of the handshake.
func introduce(conn net.Conn, deadline time.Time, h hello) error {
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := h.write(conn); err != nil {
		return err
	}
	v, err := readReply(conn)
	if err != nil {
		return err
	}
	if v != accepted {
		return fmt.Errorf("the node refused: %s", v)
	}
	return conn.SetDeadline(time.Time{})
}

// addressByID makes a node's id its address inside Raft. So votes are remembered
// by id, connections are pooled by id, and Dial knows whom it calls; where a node
// is reached is looked up at each Dial.
type addressByID struct{}

func (addressByID) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}

// addressOf looks a node's address up in the latest configuration. Raft's own
// goroutines call it, which start before Open has the node complete.
func (n *Node) addressOf(id uuid.UUID) (string, error) {
	select {
	case <-n.started:
	case <-n.ctx.Done():
		return "", n.Err()
	}
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return "", fmt.Errorf("read the configuration: %w", err)
	}
	for _, server := range future.Configuration().Servers {
		if server.ID == raft.ServerID(id.String()) {
			return string(server.Address), nil
		}
	}
	return "", errors.New("it is not in the configuration")
}
