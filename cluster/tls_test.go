package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// authority signs certificates for tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{certificate: &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}}
	signed := a.sign(t, a.certificate)
	a.certificate, a.key = signed.Leaf, signed.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// sign makes a certificate; one without an authority's key signs itself.
func (a *authority) sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// issue makes a certificate with these URIs, for both sides of a connection.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate), uris ...*url.URL) tls.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:         uris,
	}
	if change != nil {
		change(template)
	}
	return a.sign(t, template)
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

// node makes the files of a node.
func (a *authority) node(t testing.TB, id uuid.UUID) *TLS {
	t.Helper()
	dir := t.TempDir()
	files := &TLS{
		CertFile: filepath.Join(dir, "node.pem"), KeyFile: filepath.Join(dir, "node-key.pem"), CAFile: filepath.Join(dir, "ca.pem"),
	}
	writeCertificate(t, files, a.issue(t, nil, NodeURI(id)))
	writeAuthorities(t, files, a)
	return files
}

func writeCertificate(t testing.TB, files *TLS, certificate tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, files.KeyFile, pem.Block{Type: "PRIVATE KEY", Bytes: key})
	writePEM(t, files.CertFile, pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
}

func writeAuthorities(t testing.TB, files *TLS, all ...*authority) {
	t.Helper()
	var blocks []pem.Block
	for _, a := range all {
		blocks = append(blocks, pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	}
	writePEM(t, files.CAFile, blocks...)
}

// writePEM puts a file in another's place, as whoever renews certificates should.
func writePEM(t testing.TB, path string, blocks ...pem.Block) {
	t.Helper()
	var b bytes.Buffer
	for _, block := range blocks {
		if err := pem.Encode(&b, &block); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path+".tmp", b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// logLines keeps what is logged.
type logLines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// take waits for a line with these words and forgets everything up to here.
func (l *logLines) take(t *testing.T, name, words string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		l.mu.Lock()
		found := strings.Contains(strings.ReplaceAll(l.all.String(), `\"`, `"`), words)
		text := l.all.String()
		if found {
			l.all.Reset()
		}
		l.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: nothing was logged with %q:\n%s", name, words, text)
		}
		time.Sleep(time.Millisecond)
	}
}

// tlsNode is a listener of a node with TLS, with a log.
type tlsNode struct {
	*listener
	id    uuid.UUID
	files *TLS
	log   logLines
}

// tlsCluster is what the listeners of one test agree on.
type tlsCluster struct {
	id, epoch uuid.UUID
	addresses map[uuid.UUID]string
}

func newTLSCluster() *tlsCluster {
	return &tlsCluster{id: uuid.New(), epoch: uuid.New(), addresses: map[uuid.UUID]string{}}
}

// listen starts the listener of a node; without files it is one without TLS.
func (c *tlsCluster) listen(t *testing.T, id uuid.UUID, files *TLS) *tlsNode {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &tlsNode{id: id, files: files}
	if files != nil {
		files.Logger = n.log.logger()
	}
	n.listener = newListener(tcp, n.log.logger(), identity{
		joining: func() bool { return false },
		self:    id,
		cluster: func() *uuid.UUID { return &c.id },
		epoch:   func() uuid.UUID { return c.epoch },
		address: func(id uuid.UUID) (string, error) { return c.addresses[id], nil },
		tls:     files,
	})
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// nothingAdmitted fails if a connection of any kind is waiting to be accepted.
func (n *tlsNode) nothingAdmitted(t *testing.T, name string) {
	t.Helper()
	for kind, l := range n.kinds {
		select {
		case <-l.conns:
			t.Errorf("%s: a connection of kind %d was admitted", name, kind)
		default:
		}
	}
}

// accept takes the connection that was just dialled.
func (n *tlsNode) accept(t *testing.T, kind connKind) net.Conn {
	t.Helper()
	conn, err := n.kinds[kind].Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func mustPing(t *testing.T, from, to net.Conn) {
	t.Helper()
	_ = from.SetDeadline(time.Now().Add(patience))
	_ = to.SetDeadline(time.Now().Add(patience))
	if _, err := from.Write([]byte("ping")); err != nil {
		t.Error(err)
	}
	var got [4]byte
	if _, err := io.ReadFull(to, got[:]); err != nil || string(got[:]) != "ping" {
		t.Errorf("received %q, %v", got, err)
	}
}

func TestCallsBetweenNodesWithTLS(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	c := newTLSCluster()
	caller, target := uuid.New(), uuid.New()
	secret, plain := c.listen(t, caller, ca.node(t, caller)), c.listen(t, caller, nil)
	called := c.listen(t, target, ca.node(t, target))
	open := c.listen(t, uuid.New(), nil)
	impostor, alien, stranger := uuid.New(), uuid.New(), uuid.New()
	c.addresses[called.id] = called.Addr().String()
	c.addresses[open.id] = open.Addr().String()
	// Another node of the cluster where this one is looked for.
	c.addresses[impostor] = called.Addr().String()
	c.addresses[alien] = c.listen(t, alien, foreign.node(t, alien)).Addr().String()
	// Something with a certificate of the authority that is no node's.
	client, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		for {
			conn, err := client.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	c.addresses[stranger] = client.Addr().String()

	for kind := range called.kinds {
		out, err := secret.dial(t.Context(), kind, called.id)
		if err != nil {
			t.Fatal(err)
		}
		in := called.accept(t, kind)
		mustPing(t, out, in)
		mustPing(t, in, out)
		if _, ok := out.(*tls.Conn); !ok {
			t.Errorf("kind %d: a %T was dialled, want TLS", kind, out)
		}
	}
	for _, test := range []struct {
		name   string
		caller *tlsNode
		target uuid.UUID
		want   string // in the caller's error
		called *tlsNode
		logged string // by the called node
	}{
		{"another node at the address", secret, impostor, "that of node " + called.id.String(), called, "bad certificate"},
		{"a node of a foreign authority", secret, alien, "unknown authority", nil, ""},
		{"no node", secret, stranger, "not that of a node", nil, ""},
		{"a node without TLS", secret, open.id, "is it a node with TLS", open, "start both with a node certificate"},
		{"from a node without TLS", plain, called.id, "no connection without TLS", called, "the caller is a node without TLS"},
	} {
		conn, err := test.caller.dial(t.Context(), kindNode, test.target)
		if err == nil {
			_ = conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.target.String()) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
		if test.called != nil {
			test.called.log.take(t, test.name, test.logged)
			test.called.nothingAdmitted(t, test.name)
		}
	}
}

func TestStrangersOnTheNodePortWithTLS(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	c := newTLSCluster()
	id, peer := uuid.New(), uuid.New()
	node := c.listen(t, id, ca.node(t, id))
	node.quiet.mu.Lock()
	node.quiet.every = time.Nanosecond // every refusal is looked at
	node.quiet.mu.Unlock()
	greeting := encodeHello(t, hello{kind: kindAPI, cluster: c.id, epoch: c.epoch, caller: peer, target: id})
	only := func(usage x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} }
	}
	uri := func(text string) *url.URL {
		parsed, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	self := newAuthority(t).issue(t, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, NodeURI(peer))
	for _, test := range []struct {
		name        string
		certificate *tls.Certificate
		version     uint16
		want        verdict // the answer; none if zero
		logged      string
	}{
		{name: "no certificate", logged: "didn't provide a certificate"},
		{name: "client's certificate", certificate: new(ca.issue(t, nil)), logged: "not that of a node"},
		{name: "client's certificate with another URI", certificate: new(ca.issue(t, nil, uri("remit://client/"+peer.String()))), logged: "not that of a node"},
		{name: "URI without an id", certificate: new(ca.issue(t, nil, uri("remit://node"))), logged: "not remit://node/ and a UUID"},
		{name: "id in another form", certificate: new(ca.issue(t, nil, uri("remit://node/"+strings.ToUpper(peer.String())))), logged: "not remit://node/ and a UUID"},
		{name: "more than an id", certificate: new(ca.issue(t, nil, uri(NodeURI(peer).String()+"?x"))), logged: "not remit://node/ and a UUID"},
		{name: "two ids", certificate: new(ca.issue(t, nil, NodeURI(uuid.New()), NodeURI(peer))), logged: "that of 2 nodes"},
		{name: "foreign authority", certificate: new(foreign.issue(t, nil, NodeURI(peer))), logged: "unknown authority"},
		{name: "self-signed", certificate: &self, logged: "unknown authority"},
		{name: "expired", certificate: new(ca.issue(t, expired, NodeURI(peer))), logged: "expired"},
		{name: "for servers alone", certificate: new(ca.issue(t, only(x509.ExtKeyUsageServerAuth), NodeURI(peer))), logged: "incompatible key usage"},
		{name: "another node's id", certificate: new(ca.issue(t, nil, NodeURI(uuid.New()))), want: wrongCertificate, logged: "called as node " + peer.String()},
		{name: "an old TLS", certificate: new(ca.issue(t, nil, NodeURI(peer))), version: tls.VersionTLS12, logged: "unsupported versions"},
	} {
		config := &tls.Config{InsecureSkipVerify: true, MaxVersion: test.version}
		// Sent whatever authorities the node asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if test.certificate == nil {
				return &tls.Certificate{}, nil
			}
			return test.certificate, nil
		}
		tcp, err := net.Dial("tcp", node.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = tcp.SetDeadline(time.Now().Add(patience))
		conn := tls.Client(tcp, config)
		// The handshake may seem to succeed: the node judges after this side is done.
		if err := conn.Handshake(); err == nil {
			_, _ = conn.Write(greeting)
		}
		got, err := readReply(conn)
		if test.want == accepted && err == nil || test.want != accepted && (err != nil || got != test.want) {
			t.Errorf("%s: answered %v, %v", test.name, got, err)
		}
		node.log.take(t, test.name, test.logged)
		node.nothingAdmitted(t, test.name)
		_ = tcp.Close()
	}

	// Without TLS.
	for _, test := range []struct {
		name   string
		send   []byte
		want   verdict
		logged string
	}{
		{"a hello", greeting, needsTLS, "a node without TLS"},
		{"gRPC", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), accepted, "does not look like a TLS handshake"},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), accepted, "does not look like a TLS handshake"},
	} {
		conn, err := net.Dial("tcp", node.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(test.send); err != nil {
			t.Error(err)
		}
		got, err := readReply(conn)
		if test.want == accepted && err == nil || test.want != accepted && (err != nil || got != test.want) {
			t.Errorf("%s: answered %v, %v", test.name, got, err)
		}
		node.log.take(t, test.name, test.logged)
		node.nothingAdmitted(t, test.name)
		_ = conn.Close()
	}
}

// underWay is how many handshakes have not ended.
func (l *listener) underWay() int {
	l.handshakes.mu.Lock()
	defer l.handshakes.mu.Unlock()
	return len(l.handshakes.conns)
}

// TestSilentConnections takes all handshakes there may be, many times over, and says
// nothing: nodes get through all the time, few words are made of it, and each of the
// connections ends by itself.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	ca, c := newAuthority(t), newTLSCluster()
	id := uuid.New()
	node := c.listen(t, id, ca.node(t, id))
	other := uuid.New()
	caller := c.listen(t, other, ca.node(t, other))
	c.addresses[id] = node.Addr().String()
	var silent []net.Conn
	for i := range 3 * maxHandshakes {
		conn, err := net.Dial("tcp", node.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
		if i >= maxHandshakes && i%64 == 0 {
			open, err := caller.dial(t.Context(), kindRaft, id)
			if err != nil {
				t.Fatalf("a node calls past %d silent connections: %v", i, err)
			}
			mustPing(t, open, node.accept(t, kindRaft))
			_ = open.Close()
		}
	}
	for _, conn := range silent {
		_ = conn.SetDeadline(time.Now().Add(patience))
		var timeout net.Error
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatalf("a silent connection read %d bytes, %v", n, err)
		}
	}
	waitFor(t, "the handshakes are free", func() bool { return node.underWay() == 0 })
	lines := strings.Count(node.log.text(), "node connection refused")
	if lines == 0 || lines > 60 {
		t.Errorf("%d lines were logged about %d connections", lines, len(silent))
	}
	node.log.take(t, "too many", "too many are in their handshake")
	// Whoever floods may stop, and the next line says how much was left out.
	waitFor(t, "a line says how many were left out", func() bool {
		conn, err := net.Dial("tcp", node.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		return strings.Contains(node.log.text(), "left_out=")
	})
}

func TestPlaintextStaysOnThisMachine(t *testing.T) {
	c := newTLSCluster()
	node := c.listen(t, uuid.New(), nil)
	far := uuid.New()
	for _, address := range []string{"192.0.2.1:7602", "[2001:db8::1]:7602", "[::ffff:192.0.2.1]:7602"} {
		c.addresses[far] = address
		for kind := range node.kinds {
			if _, err := node.dial(t.Context(), kind, far); !errors.Is(err, errPlaintext) || !strings.Contains(err.Error(), far.String()) {
				t.Errorf("%s: %v", address, err)
			}
		}
		if err := (&listener{node: identity{insecure: true}}).allow(address); err != nil {
			t.Errorf("%s with --insecure: %v", address, err)
		}
		if err := (&listener{node: identity{tls: &TLS{}}}).allow(address); err != nil {
			t.Errorf("%s with TLS: %v", address, err)
		}
		gossip := &gossipTransport{ctx: t.Context(), plain: true}
		if _, err := gossip.DialTimeout(address, time.Second); !errors.Is(err, errPlainGossip) {
			t.Errorf("gossip with %s: %v", address, err)
		}
	}
	for _, address := range []string{"127.0.0.1:7602", "127.8.8.8:7602", "[::1]:7602", "[::ffff:127.0.0.1]:7602"} {
		if err := node.allow(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A node is told by its configuration whether it may.
func TestInsecureNode(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		cfg := gossipConfig(t, "n")
		cfg.Insecure = insecure
		n := openTest(t, cfg, options{})
		if err := n.listener.allow("192.0.2.1:7602"); (err == nil) != insecure {
			t.Errorf("insecure %v: %v", insecure, err)
		}
		if insecure {
			continue // the test itself calls nobody beyond this machine
		}
		if err := n.gossip.call(t.Context(), "192.0.2.1:7603"); err == nil || !strings.Contains(err.Error(), "--gossip-key") {
			t.Errorf("gossip: %v", err)
		}
	}
}
