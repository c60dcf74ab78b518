package cluster

import (
	"bytes"
	"context"
	"errors"
	"log"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossipTransport is memberlist's own, except that its calls to other nodes end
// with the node.
type gossipTransport struct {
	*memberlist.NetTransport
	ctx context.Context
}

// newGossipTransport listens on one port, for UDP and TCP.
func newGossipTransport(ctx context.Context, bind *net.TCPAddr, logger *log.Logger) (*gossipTransport, error) {
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
			return &gossipTransport{NetTransport: t, ctx: ctx}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			break
		}
	}
	return nil, err
}

// DialTimeout connects to a node.
func (t *gossipTransport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout connects to a node.
func (t *gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
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

// endingConn is closed with the node.
type endingConn struct {
	net.Conn
	stop func() bool
}

func (c *endingConn) Close() error {
	c.stop()
	return c.Conn.Close()
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
		if level == "[ERR" && strings.Contains(text, "crypt") && l.g.quiet.now("encryption") {
			l.g.log.Warn("gossip cannot be understood: the nodes have different gossip keys, or one has none", "component", "gossip", "error", text)
			return
		}
		l.g.log.Debug(text, "component", "gossip")
	})
	return len(b), nil
}
