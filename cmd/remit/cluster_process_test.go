package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A fleet is the processes of one cluster. Each start of a node is on other ports,
// gossip's aside, by which they find each other.
type fleet struct {
	t     testing.TB
	dir   string
	flags []string // of every node
	// binary is what the nodes run, if not the remit of this tree.
	binary string
	// authority is the file with the authority of the nodes' certificates, if they
	// have TLS, and tls how tests connect to them.
	authority string
	tls       *tls.Config
	nodes     []*fleetNode
}

// A fleetNode is one node of a fleet, through all its processes.
type fleetNode struct {
	*process // the newest
	fleet    *fleet
	name     string
	gossip   string
	data     string
	flags    []string
	env      []string
	seeds    []*fleetNode // whom it looks for; all nodes of the fleet if nil

	mu        sync.Mutex
	connected *process // that clients are connected to
	clients   map[string]permissionsv1.PermissionsServiceClient
}

// client returns a client of the newest process with the root key, over one
// connection. The node must serve.
func (n *fleetNode) client() permissionsv1.PermissionsServiceClient { return n.clientWith(rootKey) }

// clientWith is client with another key.
func (n *fleetNode) clientWith(key string) permissionsv1.PermissionsServiceClient {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.connected != n.process {
		n.connected, n.clients = n.process, map[string]permissionsv1.PermissionsServiceClient{}
	}
	if n.clients[key] == nil {
		n.clients[key] = n.process.client(key)
	}
	return n.clients[key]
}

// newFleet makes nodes that are not started yet.
func newFleet(t testing.TB, count int, flags ...string) *fleet {
	f := &fleet{t: t, dir: t.TempDir(), flags: flags}
	for range count {
		f.add("--bootstrap-expect", fmt.Sprint(count))
	}
	return f
}

// add makes one node more, with flags of its own.
func (f *fleet) add(flags ...string) *fleetNode {
	name := fmt.Sprintf("node%d", len(f.nodes)+1)
	n := &fleetNode{fleet: f, name: name, gossip: freeAddr(f.t), data: filepath.Join(f.dir, name), flags: flags}
	f.nodes = append(f.nodes, n)
	return n
}

// freeAddr returns an address on which nobody listens, over TCP and UDP. Its port is
// below those that the kernel gives to whoever asks for any, so that it stays free
// while its node is down.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", addr)
		tcp.Close()
		if err == nil {
			udp.Close()
			return addr
		}
	}
	t.Fatal("no port is free for both TCP and UDP")
	return ""
}

// start starts a node's process, which finds the others by their gossip addresses.
func (f *fleet) start(n *fleetNode) *fleetNode {
	f.t.Helper()
	known := n.seeds
	if known == nil {
		known = f.nodes
	}
	var seeds []string
	for _, other := range known {
		seeds = append(seeds, other.gossip)
	}
	args := []string{"serve", "--data-dir", n.data, "--node-name", n.name, "--gossip-addr", n.gossip, "--join", strings.Join(seeds, ",")}
	args = append(append(args, f.flags...), n.flags...)
	n.process = launch{binary: f.binary, env: append([]string{"REMIT_ROOT_KEY=" + rootKey}, n.env...), args: args, tls: f.tls}.start(f.t)
	return n
}

// form starts all nodes, in the given order, and waits until they are ready.
func (f *fleet) form(order []int) {
	f.t.Helper()
	for _, i := range order {
		f.start(f.nodes[i])
	}
	for _, n := range f.nodes {
		n.ready()
	}
}

// inOrder is the order of the numbers.
func inOrder(count int) []int {
	order := make([]int, count)
	for i := range order {
		order[i] = i
	}
	return order
}

// remit runs a command against a node, as the first operator.
func (n *fleetNode) remit(args ...string) (stdout string, err error) {
	n.t.Helper()
	env := []string{"REMIT_ADDR=" + n.grpc, "REMIT_KEY=" + rootKey}
	if n.fleet.authority != "" {
		env = append(env, "REMIT_TLS_CA="+n.fleet.authority)
	}
	return runRemit(n.t, env, args...)
}

// runRemit runs a command with these variables alone.
func runRemit(t testing.TB, env []string, args ...string) (stdout string, err error) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(env, endAtOnce)
	cmd.SysProcAttr = dieWithTest()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("remit %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// must runs a command that has to succeed.
func (n *fleetNode) must(args ...string) string {
	n.t.Helper()
	out, err := n.remit(args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// A listedMember is a node in the JSON of remit members.
type listedMember struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	Leader          bool     `json:"leader"`
	Suffrage        string   `json:"suffrage"`
	RaftAddress     string   `json:"raft_address"`
	AppliedRevision uint64   `json:"applied_revision"`
	Healthy         bool     `json:"healthy"`
	Problems        []string `json:"problems"`
	Term            uint64   `json:"term"`
	ReadIndexRounds uint64   `json:"read_index_rounds"`
}

// members asks a node for the members of its cluster.
func (n *fleetNode) members() ([]listedMember, error) {
	out, err := n.remit("members", "-o", "json")
	if err != nil {
		return nil, err
	}
	var members []listedMember
	if err := json.Unmarshal([]byte(out), &members); err != nil {
		return nil, fmt.Errorf("remit members: %w: %s", err, out)
	}
	return members, nil
}

// leader waits until one of the nodes that run leads, as seen by a node.
func (f *fleet) leader(seenBy *fleetNode) *fleetNode {
	f.t.Helper()
	var leader *fleetNode
	eventually(f.t, "a node leads", func() bool {
		members, _ := seenBy.members()
		for _, m := range members {
			for _, n := range f.nodes {
				if m.Leader && m.Healthy && m.Name == n.name && n.process != nil && !n.hasEnded() {
					leader = n
					return true
				}
			}
		}
		return false
	})
	return leader
}

// other returns a node that runs and is none of the given.
func (f *fleet) other(not ...*fleetNode) *fleetNode {
	f.t.Helper()
next:
	for _, n := range f.nodes {
		for _, excluded := range not {
			if n == excluded {
				continue next
			}
		}
		if n.process != nil && !n.hasEnded() {
			return n
		}
	}
	f.t.Fatal("no other node runs")
	return nil
}

// end ends all processes by SIGTERM and waits for them.
func (f *fleet) end() {
	f.t.Helper()
	for _, n := range f.nodes {
		if n.process != nil && !n.hasEnded() {
			n.signal(syscall.SIGTERM)
		}
	}
	for _, n := range f.nodes {
		if n.process != nil {
			n.exits()
		}
	}
}
