package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestTLSCluster forms a cluster whose nodes have certificates, works with it as
// clients do, and tries all that its ports must not let in.
func TestTLSCluster(t *testing.T) {
	t.Parallel()
	a, foreign := newAuthority(t), newAuthority(t)
	f, gossipKey := newSecureFleet(t, a, 3, "--log-level", "info")
	f.form(inOrder(3))
	leader := f.leader(f.nodes[0])
	follower := f.other(leader)
	a.cert("client", "--name", "client")
	a.node("spare")
	foreign.node("node1", "--id", follower.kept("node-id"))

	t.Run("clients", func(t *testing.T) {
		follower.must("permission", "create", "document.read")
		request, err := http.NewRequest(http.MethodGet, follower.url("/permissions-service/v1/permissions/document.read?project_name="+project), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+rootKey)
		request.Header.Set("Remit-Consistency", "fully_consistent")
		code, header, body := follower.do(request)
		if code != http.StatusOK || !strings.Contains(body, "document.read") || header.Get("Remit-Node") != follower.kept("node-id") {
			t.Errorf("REST: %d %v %s", code, header, body)
		}
		if !strings.Contains(follower.stdout.String(), "REST https://"+follower.http+",") {
			t.Errorf("the node says %s", follower.stdout.String())
		}
	})
	t.Run("edge", func(t *testing.T) {
		for _, n := range f.nodes {
			plain := &process{t: t, http: n.http, grpc: n.grpc}
			if code, body := plain.get("/livez"); code != http.StatusBadRequest || strings.Contains(body, "ok\n") {
				t.Errorf("HTTP without TLS: %d %s", code, body)
			}
			if err := create(t.Context(), plain, rootKey, "over.plaintext"); status.Code(err) != codes.Unavailable {
				t.Errorf("gRPC without TLS: %v", err)
			}
			for port, addr := range map[string]string{"HTTP": n.http, "gRPC": n.grpc} {
				conn, err := tls.Dial("tcp", addr, trust(t, foreign))
				if err == nil {
					conn.Close()
					t.Errorf("%s: a client of another authority takes the node's certificate", port)
				}
			}
		}
		for env, says := range map[string]string{
			"": "--tls-ca FILE (REMIT_TLS_CA) speaks TLS",
			"REMIT_TLS_CA=" + foreign.dir + "/ca.pem": "does not hold: ",
		} {
			_, err := runRemit(t, []string{"REMIT_ADDR=" + leader.grpc, "REMIT_KEY=" + rootKey, env}, "members")
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("remit members with %q: %v", env, err)
			}
		}
	})
	t.Run("node port", func(t *testing.T) {
		members, err := leader.members()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			target, caller := f.named(m.Name), f.named(m.Name)
			for caller == target {
				caller = f.other(target)
			}
			called := knock{
				addr: m.RaftAddress, cluster: target.kept("cluster-id"), epoch: target.kept("epoch"),
				caller: caller.kept("node-id"), target: m.ID,
			}
			// What the port lets in, so that what it does not let in says something.
			if err := called.with(t, &tls.Config{Certificates: []tls.Certificate{a.pair(caller.name)}}); err != nil {
				t.Errorf("a node of the cluster: %v", err)
			}
			for who, config := range map[string]*tls.Config{
				"plaintext":                                  nil,
				"no certificate":                             {},
				"a client's certificate":                     {Certificates: []tls.Certificate{a.pair("client")}},
				"a foreign authority":                        {Certificates: []tls.Certificate{foreign.pair("node1")}},
				"the certificate of another node":            {Certificates: []tls.Certificate{a.pair("spare")}},
				"the certificate of the node that is called": {Certificates: []tls.Certificate{a.pair(target.name)}},
			} {
				if err := called.with(t, config); err == nil {
					t.Errorf("%s got in at the node port of %s", who, m.Name)
				}
			}
		}
	})
	t.Run("gossip port", func(t *testing.T) {
		for _, n := range f.nodes {
			var kept []string
			for what, key := range map[string][]byte{"no key": nil, "another key": bytes.Repeat([]byte{7}, 32)} {
				id, tcp, udp := gossips(t, n, key)
				if tcp == nil || udp == nil {
					t.Errorf("with %s: %v over TCP, %v over UDP", what, tcp, udp)
				}
				kept = append(kept, id)
			}
			id, tcp, udp := gossips(t, n, gossipKey)
			if tcp != nil || udp != nil {
				t.Errorf("with the key: %v over TCP, %v over UDP", tcp, udp)
			}
			eventually(t, "a stranger with the key is found", func() bool { return strings.Contains(n.stderr.String(), "peer_id="+id) })
			for _, id := range kept {
				if strings.Contains(n.stderr.String(), id) {
					t.Errorf("%s listens to a stranger without the key", n.name)
				}
			}
		}
	})
	t.Run("strangers", func(t *testing.T) {
		for name, test := range map[string]struct {
			of   *authority
			cert string
			key  []byte
			wait string
			says string
		}{
			"foreign authority":  {foreign, "node1", gossipKey, "2s", "certificate"},
			"another gossip key": {a, "spare", bytes.Repeat([]byte{7}, 32), "10s", "join the cluster at "},
		} {
			stranger := f.add()
			stranger.secure(test.key)
			stranger.certify(test.of, test.cert)
			f.start(stranger)
			// It shows the certificate that it has to clients too.
			stranger.tls = trust(t, test.of)
			stranger.serves()
			_, err := runRemit(t, []string{"REMIT_ADDR=" + stranger.grpc, "REMIT_KEY=" + rootKey, "REMIT_TLS_CA=" + test.of.dir + "/ca.pem"},
				"join", leader.gossip, "--timeout", test.wait)
			if err == nil {
				t.Errorf("a node with %s joins", name)
			} else if !strings.Contains(err.Error(), test.says) {
				t.Errorf("a node with %s joins: %v", name, err)
			}
			if code, body := stranger.get("/readyz"); code != http.StatusServiceUnavailable {
				t.Errorf("a node with %s: /readyz %d %s", name, code, body)
			}
			stranger.kill()
		}
		expectMembers(t, leader, 3, 0)
	})
	t.Run("double", func(t *testing.T) {
		// Who has a node's certificate is that node, as far as anybody can tell, but it has
		// none of its data, which may be a vote.
		double := f.add()
		double.secure(gossipKey)
		double.certify(a, follower.name)
		f.start(double).serves()
		if double.kept("node-id") != follower.kept("node-id") {
			t.Fatal("the node does not take its id from its certificate")
		}
		_, err := double.remit("join", leader.gossip, "--timeout", "10s")
		if err == nil {
			t.Error("a double has joined")
		}
		if err != nil && !strings.Contains(err.Error(), "has lost its data") {
			t.Errorf("a double joins: %v", err)
		}
		if code, body := double.get("/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("a double: /readyz %d %s", code, body)
		}
		double.kill()
		expectMembers(t, leader, 3, 0)
		follower.must("permission", "create", "document.write")
	})
	t.Run("wrong certificate", func(t *testing.T) {
		follower.signal(syscall.SIGTERM)
		follower.endsCleanly()
		follower.certify(a, "spare")
		if text := f.start(follower).refuses(); !strings.Contains(text, follower.kept("node-id")) || !strings.Contains(text, "certificate") {
			t.Errorf("with the certificate of another node: %s", text)
		}
		follower.certify(a, follower.name)
		f.start(follower).ready()
	})
}

// named is the node of a name.
func (f *fleet) named(name string) *fleetNode {
	f.t.Helper()
	for _, n := range f.nodes {
		if n.name == name {
			return n
		}
	}
	f.t.Fatalf("no node is called %s", name)
	return nil
}

// A knock is the beginning of a connection between nodes by somebody who knows all
// that is to be said.
type knock struct{ addr, cluster, epoch, caller, target string }

// with says it over a connection with TLS, or without, and returns why the node did
// not take it.
func (k knock) with(t *testing.T, config *tls.Config) error {
	t.Helper()
	conn, err := net.Dial("tcp", k.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		config = config.Clone()
		config.InsecureSkipVerify = true // it would take any node
		conn = tls.Client(conn, config)
	}
	const kind = 3 // calls of the API
	said := append([]byte("RMIT"), 2, kind)
	for _, id := range []string{k.cluster, k.epoch, k.caller, k.target} {
		parsed, err := uuid.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, parsed[:]...)
	}
	if _, err := conn.Write(said); err != nil {
		return err
	}
	var reply [6]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return err
	}
	if verdict := reply[5]; verdict != 0 {
		return fmt.Errorf("verdict %d", verdict)
	}
	return nil
}

// gossips tries to gossip with a node, as a node of this id, and returns why it could
// not.
func gossips(t *testing.T, n *fleetNode, key []byte) (id string, tcp, udp error) {
	t.Helper()
	config := memberlist.DefaultLocalConfig()
	id = uuid.NewString()
	config.Name, config.BindAddr, config.BindPort, config.SecretKey = id, "127.0.0.1", 0, key
	config.AdvertiseAddr = "127.0.0.1"
	config.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = list.Shutdown() }()
	addr, err := net.ResolveUDPAddr("udp", n.gossip)
	if err != nil {
		t.Fatal(err)
	}
	_, udp = list.Ping(n.kept("node-id"), addr)
	_, tcp = list.Join([]string{n.gossip})
	return id, tcp, udp
}
