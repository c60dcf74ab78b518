package cluster

import (
	"bytes"
	"context"
	"errors"
	"log"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// errPlainGossip is why gossip does not call another machine.
var errPlainGossip = errors.New("the node is on another machine and gossip would not be encrypted: " +
	"give every node the same --gossip-key, or accept that with --insecure")

// gossipTransport is memberlist's own, except that its calls to other nodes end
// with the node, and go to this machine alone where nothing encrypts them. Its
// packets go no further either: their socket listens on this machine.
type gossipTransport struct {
	*memberlist.NetTransport
	ctx     context.Context
	plain   bool
	streams chan net.Conn // that came in
	ended   context.Context
	end     context.CancelFunc
	open    newestConns // of streams
}

// maxGossipStreams bounds the connections that came in and are not done with: each may
// hold 20 MiB before memberlist knows whether the caller has the key.
const maxGossipStreams = 32

// newGossipTransport listens on one port, for UDP and TCP.
func newGossipTransport(ctx context.Context, bind *net.TCPAddr, plain bool, logger *log.Logger) (*gossipTransport, error) {
	// With port 0 the kernel chooses for TCP alone, and UDP may be taken there.
	attempts := 1
	if bind.Port == 0 {
		attempts = 10
	}
	host := bind.IP.String()
	if bind.IP == nil {
		host = net.IPv6unspecified.String()
	}
	var err error
	for range attempts {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: bind.Port, Logger: logger})
		if err == nil {
			own := &gossipTransport{NetTransport: t, ctx: ctx, plain: plain, streams: make(chan net.Conn), open: newestConns{most: maxGossipStreams}}
			own.ended, own.end = context.WithCancel(context.Background())
			go own.receive()
			return own, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			break
		}
	}
	return nil, err
}

// StreamCh hands out the connections that come in.
func (t *gossipTransport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown ends the transport, which somebody has to take connections from until then.
func (t *gossipTransport) Shutdown() error {
	defer t.end()
	return t.NetTransport.Shutdown()
}

// receive takes what comes in until the transport has ended. An exchange between nodes
// takes milliseconds.
func (t *gossipTransport) receive() {
	for {
		select {
		case conn := <-t.NetTransport.StreamCh():
			select {
			case t.streams <- t.bounded(conn):
			case <-t.ended.Done():
				_ = conn.Close()
				return
			}
		case <-t.ended.Done():
			return
		}
	}
}

// bounded makes a connection one of those of which there are so many at most.
func (t *gossipTransport) bounded(conn net.Conn) net.Conn {
	t.open.begin(conn)
	return &endingConn{Conn: conn, stop: func() bool { return t.open.finish(conn) }}
}

// DialTimeout connects to a node.
func (t *gossipTransport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout connects to a node.
func (t *gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, Control: t.allow}
	conn, err := dialer.DialContext(t.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	// memberlist sets its deadline only when it has sent all it knows.
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &endingConn{Conn: conn, stop: context.AfterFunc(t.ctx, func() { _ = conn.Close() })}, nil
}

// allow refuses a connection that would leave the machine unencrypted.
func (t *gossipTransport) allow(_, address string, _ syscall.RawConn) error {
	if t.plain && !isLoopback(address) {
		return errPlainGossip
	}
	return nil
}

// endingConn calls stop when it is closed.
type endingConn struct {
	net.Conn
	stop func() bool
}

func (c *endingConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// sayKeysDiffer warns of nodes with other gossip keys, if that is what memberlist's
// words are about.
func (g *gossip) sayKeysDiffer(text string) bool {
	ours := slices.ContainsFunc([]string{"remote state is encrypted", "remote state is not encrypted", "decrypt"}, func(words string) bool {
		return strings.Contains(strings.ToLower(text), words)
	})
	if !ours {
		return false
	}
	if g.quiet.now("encryption") {
		g.log.Warn("gossip cannot be understood: the nodes have different gossip keys, or one has none", "component", "gossip", "error", text)
	}
	return true
}

// gossipLog takes memberlist's log lines. Nearly all of them say that some node is
// not there or another cluster's, which the node says better itself; not so that
// keys differ.
type gossipLog struct{ g *gossip }

func (l gossipLog) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	level, text, found := strings.Cut(line, "] memberlist: ")
	if !found {
		level, text = "", line
	}
	l.g.heard(func() {
		if level == "[ERR" && l.g.sayKeysDiffer(text) {
			return
		}
		l.g.log.Debug(text, "component", "gossip")
	})
	return len(b), nil
}
