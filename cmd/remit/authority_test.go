package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An authority is a folder of certificates that remit cert makes.
type authority struct {
	t   testing.TB
	dir string
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t, filepath.Join(t.TempDir(), "certs")}
	a.cert("ca")
	return a
}

func (a *authority) cert(args ...string) {
	a.t.Helper()
	if _, err := runRemit(a.t, nil, append(append([]string{"cert"}, args...), "--dir", a.dir)...); err != nil {
		a.t.Fatal(err)
	}
}

// node makes a node's certificate.
func (a *authority) node(name string, args ...string) {
	a.t.Helper()
	a.cert(append([]string{"node", "--name", name, "--host", "127.0.0.1"}, args...)...)
}

// read returns what is in one of the files.
func (a *authority) read(file string) []byte {
	a.t.Helper()
	content, err := os.ReadFile(filepath.Join(a.dir, file))
	if err != nil {
		a.t.Fatal(err)
	}
	return content
}

// pair is the certificate of a name, with its key.
func (a *authority) pair(name string) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.read(name+".pem"), a.read(name+"-key.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// trust is how clients connect that trust some authorities.
func trust(t testing.TB, authorities ...*authority) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	for _, a := range authorities {
		if !pool.AppendCertsFromPEM(a.read("ca.pem")) {
			t.Fatal("no authority")
		}
	}
	return &tls.Config{RootCAs: pool}
}

// newSecureFleet makes nodes with certificates of an authority, and a key of gossip.
func newSecureFleet(t testing.TB, a *authority, count int, flags ...string) (f *fleet, gossipKey []byte) {
	t.Helper()
	gossipKey = make([]byte, 32)
	for i := range gossipKey {
		gossipKey[i] = byte(rand.Uint32())
	}
	f = newFleet(t, count, flags...)
	f.tls, f.authority = trust(t, a), filepath.Join(a.dir, "ca.pem")
	for _, n := range f.nodes {
		a.node(n.name)
		n.secure(gossipKey)
		n.certify(a, n.name)
	}
	return f, gossipKey
}

// secure makes the node one with TLS and gossip that is encrypted.
func (n *fleetNode) secure(gossipKey []byte) {
	n.env = append(n.env, "REMIT_GOSSIP_KEY="+base64.StdEncoding.EncodeToString(gossipKey),
		"REMIT_TLS_CERT="+n.tlsFile("cert"), "REMIT_TLS_KEY="+n.tlsFile("key"), "REMIT_TLS_CA="+n.tlsFile("ca"))
}

// tlsFile is one of the files that the node reads.
func (n *fleetNode) tlsFile(which string) string {
	return filepath.Join(n.fleet.dir, fmt.Sprintf("%s-%s.pem", n.name, which))
}

// certify gives the node a certificate, and the authority that signed it.
func (n *fleetNode) certify(a *authority, name string) {
	n.fleet.t.Helper()
	n.replace("cert", a.read(name+".pem"))
	n.replace("key", a.read(name+"-key.pem"))
	n.replace("ca", a.read("ca.pem"))
}

// replace replaces one of the files that the node reads, at once.
func (n *fleetNode) replace(which string, content []byte) {
	n.fleet.t.Helper()
	next := n.tlsFile(which) + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		n.fleet.t.Fatal(err)
	}
	if err := os.Rename(next, n.tlsFile(which)); err != nil {
		n.fleet.t.Fatal(err)
	}
}

// kept is what is in a file of the node's data folder.
func (n *fleetNode) kept(file string) string {
	n.fleet.t.Helper()
	content, err := os.ReadFile(filepath.Join(n.data, file))
	if err != nil {
		n.fleet.t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}
