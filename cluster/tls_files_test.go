package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

func TestNodeIDOfTheCertificate(t *testing.T) {
	ca, id := newAuthority(t), uuid.New()
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.TLS = ca.node(t, id)
	for range 2 {
		n := startTest(t, cfg, options{})
		if n.ID() != id.String() {
			t.Errorf("node id %s, want that of the certificate, %s", n.ID(), id)
		}
		closeTest(t, n)
	}
	other := uuid.New()
	cfg.TLS = ca.node(t, other)
	_, err := Open(cfg)
	if err == nil {
		t.Fatal("opened with another node's certificate")
	}
	for _, part := range []string{cfg.DataDir, nodeIDFile, cfg.TLS.CertFile, id.String(), other.String(), "remit cert node --id " + id.String()} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in the error: %v", part, err)
		}
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	ca, foreign, id := newAuthority(t), newAuthority(t), uuid.New()
	only := func(usage x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} }
	}
	for _, test := range []struct {
		name   string
		damage func(files *TLS)
		want   string
	}{
		{"no authority given", func(files *TLS) { files.CAFile = "" }, "--tls-ca"},
		{"no key", func(files *TLS) { _ = os.Remove(files.KeyFile) }, "node-key.pem"},
		{"no authority", func(files *TLS) { _ = os.Remove(files.CAFile) }, "ca.pem"},
		{"another's key", func(files *TLS) { files.KeyFile = ca.node(t, id).KeyFile }, "private key does not match"},
		{"foreign authority", func(files *TLS) { writeAuthorities(t, files, foreign) }, "unknown authority"},
		{"empty authority", func(files *TLS) { writePEM(t, files.CAFile) }, "no certificate in PEM form"},
		{"key as authority", func(files *TLS) { files.CAFile = files.KeyFile }, "no certificate in PEM form"},
		{"half an authority", func(files *TLS) {
			b, err := os.ReadFile(files.CAFile)
			if err == nil {
				err = os.WriteFile(files.CAFile, append(b, b[:len(b)/2]...), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "cut off"},
		{"garbage as authority", func(files *TLS) { writePEM(t, files.CAFile, pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}) }, "read certificate 1"},
		{"a client's", func(files *TLS) { writeCertificate(t, files, ca.issue(t, nil)) }, "remit cert node"},
		{"expired", func(files *TLS) { writeCertificate(t, files, ca.issue(t, expired, NodeURI(id))) }, "expired"},
		{"for servers alone", func(files *TLS) {
			writeCertificate(t, files, ca.issue(t, only(x509.ExtKeyUsageServerAuth), NodeURI(id)))
		}, "incompatible key usage"},
		{"for clients alone", func(files *TLS) {
			writeCertificate(t, files, ca.issue(t, only(x509.ExtKeyUsageClientAuth), NodeURI(id)))
		}, "incompatible key usage"},
	} {
		files := ca.node(t, id)
		test.damage(files)
		cfg := testConfig(t.TempDir(), &listFSM{})
		cfg.TLS = files
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
		if _, err := os.Stat(filepath.Join(cfg.DataDir, nodeIDFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the folder was given an id", test.name)
		}
		if err := files.Load(); err == nil {
			t.Errorf("%s: loaded", test.name)
		}
	}
}

// shown returns the serial number of the certificate that a listener shows, or nil.
func shown(address string, config *tls.Config) *big.Int {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber
}

// serve is a listener for clients.
func serve(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// TestRotation changes certificates and the authority below running connections.
func TestRotation(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t), newAuthority(t)
	c := newTLSCluster()
	id, peerID := uuid.New(), uuid.New()
	node := c.listen(t, id, first.node(t, id))
	peer := c.listen(t, peerID, first.node(t, peerID))
	c.addresses[id] = node.Addr().String()
	edge := serve(t, node.files.ServerConfig())
	out, err := peer.dial(t.Context(), kindRaft, id)
	if err != nil {
		t.Fatal(err)
	}
	in := node.accept(t, kindRaft)

	shows := func(name string, ca *authority, certificate tls.Certificate) {
		t.Helper()
		waitFor(t, name+": the node shows its new certificate", func() bool {
			got := shown(node.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			return got != nil && got.Cmp(certificate.Leaf.SerialNumber) == 0
		})
		waitFor(t, name+": clients see it", func() bool {
			got := shown(edge, &tls.Config{RootCAs: ca.pool()})
			return got != nil && got.Cmp(certificate.Leaf.SerialNumber) == 0
		})
	}
	// calls reports whether a new connection comes about.
	calls := func() bool {
		conn, err := peer.dial(t.Context(), kindNode, id)
		if err != nil {
			return false
		}
		_ = node.accept(t, kindNode).Close()
		_ = conn.Close()
		return true
	}
	if !calls() {
		t.Fatal("no connection at the start")
	}

	// The certificate.
	renewed := first.issue(t, nil, NodeURI(id))
	writeCertificate(t, node.files, renewed)
	shows("renewed", first, renewed)
	if !calls() {
		t.Error("no connection with the new certificate")
	}

	// Files that cannot be used change nothing.
	for _, bad := range []struct {
		name    string
		replace func()
		logged  string
	}{
		{"another authority's", func() { writeCertificate(t, node.files, second.issue(t, nil, NodeURI(id))) }, "unknown authority"},
		{"another node's", func() { writeCertificate(t, node.files, first.issue(t, nil, NodeURI(peerID))) }, "is now that of node " + peerID.String()},
		{"expired", func() { writeCertificate(t, node.files, first.issue(t, expired, NodeURI(id))) }, "expired"},
		{"removed", func() { _ = os.Remove(node.files.CertFile) }, "no such file"},
	} {
		bad.replace()
		waitFor(t, bad.name+": the change is seen", func() bool {
			shown(edge, &tls.Config{RootCAs: first.pool()})
			node.log.mu.Lock()
			defer node.log.mu.Unlock()
			return strings.Contains(node.log.all.String(), bad.logged)
		})
		node.log.take(t, bad.name, "those from before stay in use")
		shows(bad.name, first, renewed)
		if !calls() {
			t.Errorf("%s: no connection any more", bad.name)
		}
	}

	// The authority: both at first, then every certificate, then the old one goes.
	writeAuthorities(t, node.files, first, second)
	writeAuthorities(t, peer.files, first, second)
	moved, movedPeer := second.issue(t, nil, NodeURI(id)), second.issue(t, nil, NodeURI(peerID))
	writeCertificate(t, node.files, moved)
	shows("other authority", second, moved)
	waitFor(t, "the peer trusts both authorities", calls)
	writeCertificate(t, peer.files, movedPeer)
	writeAuthorities(t, peer.files, second)
	waitFor(t, "the peer has its new certificate", func() bool {
		certificates, err := peer.files.current()
		return err == nil && certificates.own.Leaf.Equal(movedPeer.Leaf)
	})
	writeAuthorities(t, node.files, second)
	old := first.issue(t, nil, NodeURI(peerID))
	waitFor(t, "the old authority counts no more", func() bool {
		conn, err := tls.Dial("tcp", node.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{old}})
		if err != nil {
			return true
		}
		defer conn.Close()
		if err := (hello{kind: kindNode, cluster: c.id, epoch: c.epoch, caller: peerID, target: id}).write(conn); err != nil {
			return true
		}
		if v, err := readReply(conn); err != nil || v != accepted {
			return true
		}
		_ = node.accept(t, kindNode).Close()
		return false
	})
	if !calls() {
		t.Error("no connection under the new authority")
	}
	mustPing(t, out, in)
	mustPing(t, in, out)
}

// TestNoticeOfTheEnd has a certificate that ends within the hour.
func TestNoticeOfTheEnd(t *testing.T) {
	files := newAuthority(t).node(t, uuid.New())
	var lines syncBuffer
	files.Logger = lines.logger()
	look := func(want int) {
		t.Helper()
		files.looked = time.Time{}
		if err := files.Load(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(lines.String(), "ends soon"); got != want {
			t.Errorf("warned %d times, want %d:\n%s", got, want, lines.String())
		}
	}
	look(1)
	look(1)
	files.noticed = files.noticed.Add(-noticeInterval) // a day later
	look(2)
}

// TestReplicationWithTLS is two nodes with certificates.
func TestReplicationWithTLS(t *testing.T) {
	ca := newAuthority(t)
	cfg := testConfig(t.TempDir(), &listFSM{})
	cfg.TLS = ca.node(t, uuid.New())
	leader := startTest(t, cfg, options{})
	fsm := &listFSM{}
	cfg = testConfig(t.TempDir(), fsm)
	cfg.TLS = ca.node(t, uuid.New())
	other := openTest(t, cfg, options{})
	other.epoch.Store(leader.epoch.Load())
	other.cluster.Store(leader.cluster.Load())
	leader.peers.put(peer{ID: other.id, RaftAddr: other.RaftAddr()})
	other.peers.put(peer{ID: leader.id, RaftAddr: leader.RaftAddr()})
	if err := leader.raft.AddNonvoter(other.serverID(), raft.ServerAddress(other.serverID()), 0, patience).Error(); err != nil {
		t.Fatal(err)
	}
	last := mustApply(t, leader, "encrypted")
	waitFor(t, "the second node has the command", func() bool { return fsm.Revision() == last })
}
