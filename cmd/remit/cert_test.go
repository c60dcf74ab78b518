package main

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/remit-io/remit/cluster"
)

// inFolder makes a new folder the working one.
func inFolder(t *testing.T) {
	t.Helper()
	clearEnv(t)
	t.Chdir(t.TempDir())
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Fatalf("%s: %q", path, b)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// validFor fails unless a certificate ends this many days from now, give or take one.
func validFor(t *testing.T, certificate *x509.Certificate, days int) {
	t.Helper()
	want := time.Now().AddDate(0, 0, days)
	if off := certificate.NotAfter.Sub(want).Abs(); off > 24*time.Hour || !certificate.NotBefore.Before(time.Now()) {
		t.Errorf("valid from %s to %s, want to %s", certificate.NotBefore, certificate.NotAfter, want)
	}
}

func TestCertificates(t *testing.T) {
	inFolder(t)
	end := func(days int) string { return day(time.Now().AddDate(0, 0, days)) }
	prints(t, `
wrote certs/ca.pem, the authority's certificate, valid until `+end(3650)+`: every node and client needs it
wrote certs/ca-key.pem, its key: keep it to yourself and off the nodes
next: remit cert node --name NAME --host HOST, once for each node
`, "cert", "ca")
	id := uuid.New()
	prints(t, `
wrote certs/node1.pem, the certificate of node `+id.String()+` for localhost, 127.0.0.1, ::1, valid until `+end(30)+`
wrote certs/node1-key.pem, its key: for this node alone
next: remit serve --tls-cert certs/node1.pem --tls-key certs/node1-key.pem --tls-ca certs/ca.pem
Clients call the node by localhost or 127.0.0.1 or ::1, with --tls-ca certs/ca.pem.
`, "cert", "node", "--name", "node1", "--id", id.String(), "--host", "localhost", "--host", "127.0.0.1", "--host", "::1", "--days", "30")
	stage(t, "cert node --host node2.example.com")
	prints(t, `
wrote certs/ci.pem, a client's certificate, valid until `+end(365)+`
wrote certs/ci-key.pem, its key: for ci alone
`, "cert", "client", "--name", "ci")

	authority := readCertificate(t, "certs/ca.pem")
	validFor(t, authority, authorityDays)
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	one, two, client := readCertificate(t, "certs/node1.pem"), readCertificate(t, "certs/node.pem"), readCertificate(t, "certs/ci.pem")
	validFor(t, one, 30)
	validFor(t, two, certificateDays)
	validFor(t, client, certificateDays)
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := one.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := one.Verify(x509.VerifyOptions{Roots: roots, DNSName: "node2.example.com"}); err == nil {
		t.Error("a certificate holds for another's host")
	}
	if _, err := client.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("client: %v", err)
	}
	if _, err := client.Verify(x509.VerifyOptions{Roots: roots}); err == nil || len(client.URIs) > 0 {
		t.Errorf("a client's certificate is good for a server, or has URIs: %v, %v", err, client.URIs)
	}

	// What a node makes of them.
	files := cluster.TLS{CertFile: "certs/node1.pem", KeyFile: "certs/node1-key.pem", CAFile: "certs/ca.pem"}
	if got, err := files.NodeID(); got != id || err != nil {
		t.Errorf("node id %s, %v, want %s", got, err, id)
	}
	files = cluster.TLS{CertFile: "certs/node.pem", KeyFile: "certs/node-key.pem", CAFile: "certs/ca.pem"}
	if drawn, err := files.NodeID(); drawn == id || err != nil {
		t.Errorf("node id %s, %v", drawn, err)
	}
	files = cluster.TLS{CertFile: "certs/ci.pem", KeyFile: "certs/ci-key.pem", CAFile: "certs/ca.pem"}
	if err := files.Load(); err == nil {
		t.Error("a client's certificate is a node's")
	}

	for _, name := range []string{"ca", "node1", "node", "ci"} {
		if info, err := os.Stat("certs/" + name + "-key.pem"); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key of %s: %v, %v", name, info, err)
		}
	}
}

func TestCertificatesAreNotOverwritten(t *testing.T) {
	inFolder(t)
	stage(t, "cert ca --dir c", "cert node --dir c --host a", "cert client --dir c --name ci")
	for _, test := range []struct{ command, file string }{
		{"cert ca --dir c", "c/ca"},
		{"cert node --dir c --host a", "c/node"},
		{"cert client --dir c --name ci", "c/ci"},
	} {
		for _, there := range []string{test.file + ".pem", test.file + "-key.pem"} {
			before, err := os.ReadFile(there)
			if err != nil {
				t.Fatal(err)
			}
			other := test.file + "-key.pem"
			if there == other {
				other = test.file + ".pem"
			}
			held, err := os.ReadFile(other)
			if err == nil {
				err = os.Remove(other)
			}
			if err != nil {
				t.Fatal(err)
			}
			fails(t, "remit: "+there+" is there already and is not overwritten\nhint: make the new one in another --dir, or move that file away\n", strings.Fields(test.command)...)
			if _, err := os.Stat(other); err == nil {
				t.Errorf("remit %s leaves %s behind", test.command, other)
			}
			if after, err := os.ReadFile(there); err != nil || !slices.Equal(before, after) {
				t.Errorf("remit %s changes %s: %v", test.command, there, err)
			}
			if err := os.WriteFile(other, held, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestCertificateErrors(t *testing.T) {
	inFolder(t)
	got := remit(t, "cert", "node", "--host", "a")
	if got.code != exitError || !strings.HasPrefix(got.stderr, "remit: there is no authority in certs: ") ||
		!strings.HasSuffix(got.stderr, "\nhint: remit cert ca makes one; --dir names the folder of another\n") {
		t.Errorf("%+v", got)
	}
	stage(t, "cert ca --days 10", "cert client --name ci --days 9")
	fails(t, `
remit: the certificate would be valid until `+day(time.Now().AddDate(0, 0, 20))+` and its authority ends on `+day(time.Now().AddDate(0, 0, 10))+`
hint: --days 9 at most; remit cert ca makes a new authority in another --dir
`, "cert", "node", "--host", "a", "--days", "20")
	for _, test := range []struct{ args, want string }{
		{"ca --days 0", `--days 0: must be 1 to 36500`},
		{"ca --days 99999", `--days 99999: must be 1 to 36500`},
		{"ca --dir=", `--dir is empty: which folder?`},
		{"node", `--host is missing: by which host name or IP address do clients call the node?`},
		{"node --host a:7601", `--host "a:7601" is neither a host name nor an IP address; it goes without a port`},
		{"node --host https://a", `--host "https://a" is neither a host name nor an IP address; it goes without a port`},
		{"node --host 0.0.0.0", `--host "0.0.0.0" is what a node listens on: give an address that clients call it by`},
		{"node --host a --name ../a", `--name "../a": it becomes the name of files and must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit`},
		{"node --host a --name ca", `--name ca is the name of the authority's files`},
		{"client --name ca", `--name ca is the name of the authority's files`},
		{"client", `--name is missing: whose certificate is it?`},
	} {
		args := strings.Fields("cert " + test.args)
		fails(t, "remit: "+test.want+"\nhint: remit "+strings.Join(args[:2], " ")+" --help shows how\n", args...)
	}
	for _, id := range []string{"", "7", uuid.Nil.String(), strings.ToUpper(uuid.New().String())} {
		got := remit(t, "cert", "node", "--host", "a", "--id="+id)
		if got.code != exitError || !strings.HasPrefix(got.stderr, `remit: --id "`+id+`" is not the id of a node`) {
			t.Errorf("%+v", got)
		}
	}
	// A certificate that signs nothing, in the authority's place.
	for _, suffix := range []string{".pem", "-key.pem"} {
		if err := os.Rename("certs/ci"+suffix, "certs/ca"+suffix); err != nil {
			t.Fatal(err)
		}
	}
	fails(t, "remit: certs/ca.pem is not the certificate of an authority\n", "cert", "client", "--name", "x", "--days", "1")
	if left, err := filepath.Glob("certs/*"); len(left) != 2 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// startTLSFake starts a fake node with a certificate for 127.0.0.1, and returns
// the folder of the authority.
func startTLSFake(t *testing.T) (f *fakeNode, dir string) {
	t.Helper()
	dir = t.TempDir()
	clearEnv(t)
	stage(t, "cert ca --dir "+dir, "cert node --host 127.0.0.1 --dir "+dir)
	files := &cluster.TLS{CertFile: filepath.Join(dir, "node.pem"), KeyFile: filepath.Join(dir, "node-key.pem"), CAFile: filepath.Join(dir, "ca.pem")}
	return startFake(t, grpc.Creds(credentials.NewTLS(files.ServerConfig()))), dir
}

func TestConnectionWithTLS(t *testing.T) {
	f, dir := startTLSFake(t)
	authority := filepath.Join(dir, "ca.pem")
	stage(t, "permission create a --tls-ca "+authority, "permission list --tls --tls-ca "+authority)
	t.Setenv("REMIT_TLS_CA", authority)
	stage(t, "permission list")
	if len(f.requests) < 3 {
		t.Errorf("requests %v", f.requests)
	}

	_, port, _ := net.SplitHostPort(f.addr)
	fails(t, `
remit: the certificate of localhost:`+port+` does not hold: x509: certificate is not valid for any names, but wanted to match localhost
hint: --tls-ca (REMIT_TLS_CA) names the authority that signed it; --addr calls the node by a host that is in it
`, append(anyCommand, "--addr", "localhost:"+port)...)
	t.Setenv("REMIT_TLS_CA", "")
	fails(t, `
remit: the certificate of `+f.addr+` does not hold: x509: certificate signed by unknown authority
hint: --tls-ca (REMIT_TLS_CA) names the authority that signed it; --addr calls the node by a host that is in it
`, append(anyCommand, "--tls")...)
	fails(t, `
remit: `+f.addr+` ends the connection without an answer, as a node with TLS does
hint: --tls-ca FILE (REMIT_TLS_CA) speaks TLS to a node whose certificate this file's authority signed, --tls to one whose certificate this machine trusts
`, anyCommand...)
	fails(t, "remit: --tls-ca: open "+dir+"/none.pem: no such file or directory\nhint: remit permission get --help shows how\n",
		append(anyCommand, "--tls-ca", dir+"/none.pem")...)
	fails(t, "remit: --tls-ca: "+dir+"/node-key.pem holds no certificate in PEM form\nhint: remit permission get --help shows how\n",
		append(anyCommand, "--tls-ca", dir+"/node-key.pem")...)
}

func TestTLSToNodeWithout(t *testing.T) {
	f := startFake(t)
	for range 3 {
		fails(t, `
remit: `+f.addr+` does not speak TLS
hint: leave out --tls-ca and --tls (REMIT_TLS_CA, REMIT_TLS), or start the node with --tls-cert, --tls-key and --tls-ca
`, append(anyCommand, "--tls")...)
	}
	if len(f.requests) > 0 {
		t.Errorf("requests %v", f.requests)
	}
}

func TestKeyLeavesThisMachineEncrypted(t *testing.T) {
	clearEnv(t)
	c := connection{addr: "192.0.2.1:7601", key: testKey, tls: true, timeout: 1}
	conn, err := c.dial()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
