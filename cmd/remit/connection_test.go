package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

var anyCommand = []string{"permission", "get", "document.read"}

func TestUnreachable(t *testing.T) {
	clearEnv(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	got := remit(t, append(anyCommand, "--addr", addr)...)
	if got.code != exitError || got.stdout != "" ||
		!strings.HasPrefix(got.stderr, "remit: cannot reach "+addr+": ") ||
		!strings.HasSuffix(got.stderr, "\nhint: is a node running at "+addr+"? remit serve --dev starts one; --addr (REMIT_ADDR) names the gRPC address of another\n") {
		t.Errorf("%+v", got)
	}
}

// A listener that takes the connection and says nothing.
func TestSilentNode(t *testing.T) {
	clearEnv(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := remit(t, append(anyCommand, "--addr", listener.Addr().String(), "--timeout", "50ms")...)
	if got.code != exitError || !strings.HasPrefix(got.stderr, "remit: cannot reach "+listener.Addr().String()+": ") {
		t.Errorf("%+v", got)
	}
}

// The REST port is one off the gRPC port.
func TestHTTPNode(t *testing.T) {
	clearEnv(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	addr := server.Listener.Addr().String()
	fails(t, `
remit: `+addr+` answers HTTP and not gRPC
hint: is this a node's REST address? --addr (REMIT_ADDR) takes its gRPC address, such as 127.0.0.1:7601
`, append(anyCommand, "--addr", addr)...)
}

func TestTimeout(t *testing.T) {
	f := startFake(t)
	f.hang = make(chan struct{}, 1)
	fails(t, `
remit: no answer from `+f.addr+` within 100ms
hint: --timeout (REMIT_TIMEOUT) waits longer; a change may have been made all the same
`, append(anyCommand, "--timeout", "100ms")...)
}

func TestInterrupted(t *testing.T) {
	f := startFake(t)
	f.hang = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.hang
		cancel()
	}()
	got := remitContext(ctx, anyCommand...)
	if want := (outcome{exitError, "", "remit: interrupted\n"}); got != want {
		t.Errorf("%+v", got)
	}
}

// A call that its command limits was not interrupted.
func TestAttempt(t *testing.T) {
	f := startFake(t)
	f.hang = make(chan struct{}, 1)
	c := connection{addr: f.addr, patient: true}
	conn, err := c.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = clusterv1.NewClusterServiceClient(conn).ListMembers(ctx, &clusterv1.ListMembersRequest{})
	if status.Code(err) != codes.DeadlineExceeded || err.Error() != "no answer from "+f.addr+" in time" {
		t.Errorf("%v", err)
	}
}

func TestServerErrors(t *testing.T) {
	f := startFake(t)
	for _, test := range []struct {
		fail error
		want string
	}{
		{status.Error(codes.PermissionDenied, "Permission denied: missing required permission 'permission.get' on resource '/organisation/org_123/permission/document.read'"),
			"remit: Permission denied: missing required permission 'permission.get' on resource '/organisation/org_123/permission/document.read'\n" +
				"hint: remit whoami shows what the key holds; an owner can grant it: " +
				"remit grant key:ID --project remit --permission permission.get --on /organisation/org_123/permission/document.read\n"},
		{status.Error(codes.Unavailable, "the node is not ready: it has no leader"), "remit: the node is not ready: it has no leader\n"},
		{status.Error(codes.InvalidArgument, "name \"\x1b[2J\" is not valid"), "remit: name \"\ufffd[2J\" is not valid\n"},
		{status.Error(codes.Internal, ""), "remit: Internal\n"},
	} {
		f.fail = test.fail
		fails(t, test.want, anyCommand...)
	}
}

func TestUnauthenticated(t *testing.T) {
	startFake(t)
	t.Setenv("REMIT_KEY", "")
	fails(t, `
remit: no API key is given
hint: set REMIT_KEY (or --key) to a key of the project
`, anyCommand...)
	fails(t, `
remit: a valid key is needed: authorization: Bearer <key>
hint: is the key in REMIT_KEY (or --key) one of this cluster?
`, append(anyCommand, "--key", "wrong")...)
}

func TestKeyStaysOnThisMachine(t *testing.T) {
	clearEnv(t)
	t.Setenv("REMIT_KEY", testKey)
	for _, addr := range []string{"192.0.2.1:7601", "[2001:db8::1]:7601", "node.example.com:7601", "127.0.0.1.example.com:7601", "0.0.0.0:7601"} {
		fails(t, `
remit: the key is not sent to `+addr+`: the connection is not encrypted and leaves this machine
hint: --tls-ca FILE (REMIT_TLS_CA) encrypts it, to a node that has TLS
hint: --insecure (REMIT_INSECURE=true) sends it all the same; everyone on the way can read it
`, append(anyCommand, "--addr", addr)...)
	}
	for _, test := range []struct {
		addr     string
		key      string
		insecure bool
	}{
		{"127.0.0.1:7601", testKey, false},
		{"127.8.8.8:7601", testKey, false},
		{"[::1]:7601", testKey, false},
		{"localhost:7601", testKey, false},
		{"192.0.2.1:7601", testKey, true},
		{"192.0.2.1:7601", "", false},
	} {
		c := connection{addr: test.addr, key: test.key, insecure: test.insecure, timeout: 1}
		conn, err := c.dial()
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		conn.Close()
	}
}

func TestConnectionFlags(t *testing.T) {
	startFake(t)
	const hint = "\nhint: remit permission get --help shows how\n"
	for _, test := range []struct{ flag, value, want string }{
		{"--addr", "localhost", `remit: --addr "localhost" is not HOST:PORT, such as 127.0.0.1:7601`},
		{"--addr", ":7601", `remit: --addr ":7601" is not HOST:PORT, such as 127.0.0.1:7601`},
		{"--addr", "http://127.0.0.1:7600", `remit: --addr "http://127.0.0.1:7600" is not HOST:PORT, such as 127.0.0.1:7601`},
		{"--timeout", "0s", `remit: --timeout 0s: must be more than 0`},
		{"--timeout", "soon", `remit: --timeout "soon": must be a time such as 5s or 500ms`},
		{"--timeout", "5", `remit: --timeout "5": has no unit: write 5s`},
		{"--timeout", "1.5", `remit: --timeout "1.5": has no unit: write 1.5s`},
		{"--project", "", `remit: --project is empty: which project?`},
		{"--output", "xml", `remit: --output "xml": must be table or json`},
		{"--key", "two words", `remit: the key (--key, REMIT_KEY) holds a character that no key has, such as a space or a line break`},
		{"--key", "ends\r", `remit: the key (--key, REMIT_KEY) holds a character that no key has, such as a space or a line break`},
	} {
		fails(t, test.want+hint, append(anyCommand, test.flag, test.value)...)
	}
}
