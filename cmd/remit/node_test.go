package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"github.com/remit-io/remit/server"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func nodeConfig(t *testing.T, dataDir string) NodeConfig {
	return NodeConfig{
		DataDir: dataDir, HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", RaftAddr: "127.0.0.1:0",
		Expect: 1,
		Logger: slog.New(slog.DiscardHandler),
		Halt:   func(err error) { panic(fmt.Sprintf("%s: the node halts: %v", t.Name(), err)) },
	}
}

// openNode opens a node that is closed with the test, or before it by closeNode.
func openNode(t *testing.T, cfg NodeConfig) *Node {
	t.Helper()
	n, err := OpenNode(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// httpGet asks a node over a connection that is not kept.
func httpGet(t *testing.T, n *Node, path string) (code int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + n.HTTPAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// createPermission creates one over gRPC, with a key.
func createPermission(t *testing.T, n *Node, key, name string) error {
	t.Helper()
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	_, err = permissionsv1.NewPermissionsServiceClient(conn).CreatePermission(ctx,
		&permissionsv1.CreatePermissionRequest{ProjectName: defaultProject, Name: name})
	return err
}

// awaitGoroutines waits until no more than a number of goroutines are left.
func awaitGoroutines(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > most; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), most, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// Two nodes after each other have the same folder and the same ports, and leave
// nothing running.
func TestNodeGivesEverythingBack(t *testing.T) {
	before := runtime.NumGoroutine()
	cfg := nodeConfig(t, t.TempDir())
	n := openNode(t, cfg)
	key := n.RootKey()
	if !strings.HasPrefix(key, server.KeyPrefix) || len(key) < minRootKey {
		t.Errorf("root key %q", key)
	}
	if err := createPermission(t, n, key, "document.read"); err != nil {
		t.Error(err)
	}
	cfg.HTTPAddr, cfg.GRPCAddr, cfg.RaftAddr = n.HTTPAddr(), n.GRPCAddr(), n.cluster.RaftAddr()
	closeNode(t, n)
	awaitGoroutines(t, before)
	if err := n.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}

	n = openNode(t, cfg)
	if n.RootKey() != "" {
		t.Error("the second node drew a root key")
	}
	if code, body := httpGet(t, n, "/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/readyz %d %q", code, body)
	}
	if err := createPermission(t, n, key, "document.write"); err != nil {
		t.Error(err)
	}
	closeNode(t, n)
	awaitGoroutines(t, before)
}

// A node that does not open gives back what it took.
func TestNodeThatDoesNotOpenGivesEverythingBack(t *testing.T) {
	before := runtime.NumGoroutine()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dataDir := t.TempDir()
	for _, set := range []func(*NodeConfig){
		func(cfg *NodeConfig) { cfg.HTTPAddr = taken.Addr().String() },
		func(cfg *NodeConfig) { cfg.GRPCAddr = taken.Addr().String() },
		func(cfg *NodeConfig) { cfg.RaftAddr = taken.Addr().String() },
		func(cfg *NodeConfig) { cfg.DataDir = filepath.Join(cfg.DataDir, "LOCK", "below a file") },
	} {
		cfg := nodeConfig(t, dataDir)
		set(&cfg)
		if n, err := OpenNode(t.Context(), cfg); err == nil {
			n.Close()
			t.Errorf("%+v opens", cfg)
		}
		awaitGoroutines(t, before)
		closeNode(t, openNode(t, nodeConfig(t, dataDir)))
	}
}

// A node without state that may not start a cluster lives, and is not ready.
func TestNodeWithoutCluster(t *testing.T) {
	cfg := nodeConfig(t, t.TempDir())
	cfg.Expect = 0
	n := openNode(t, cfg)
	if n.HasState() {
		t.Error("the node has state")
	}
	if code, body := httpGet(t, n, "/livez"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez %d %q", code, body)
	}
	const why = "this node belongs to no cluster yet: it waits to be told which cluster to join: run remit join, or start it with --bootstrap-expect\n"
	if code, body := httpGet(t, n, "/readyz"); code != http.StatusServiceUnavailable || body != why {
		t.Errorf("/readyz %d %q", code, body)
	}
	if err := createPermission(t, n, "any key", "document.read"); status.Code(err) != codes.Unavailable {
		t.Errorf("CreatePermission: %v", err)
	}
	if code, body := httpGet(t, n, "/permissions-service/v1/permissions"); code != http.StatusServiceUnavailable {
		t.Errorf("REST %d %s", code, body)
	}
	closeNode(t, n)
}

// A process that was killed after Bootstrap and before Init leaves a cluster
// without a state. The next one initialises it, whatever its flags.
func TestNodeInitialisesAfterInterruptedBootstrap(t *testing.T) {
	dataDir := t.TempDir()
	interrupted, err := cluster.Open(cluster.Config{DataDir: dataDir, RaftAddr: "127.0.0.1:0", FSM: fsm.NewStore(func(err error) { panic(err) })})
	if err != nil {
		t.Fatal(err)
	}
	id := server.NewID()
	if err := interrupted.Bootstrap(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := interrupted.Close(); err != nil {
		t.Fatal(err)
	}

	cfg := nodeConfig(t, dataDir)
	cfg.Expect = 0
	n := openNode(t, cfg)
	if n.store.State().Cluster != id {
		t.Errorf("cluster %s, bootstrapped as %s", n.store.State().Cluster, id)
	}
	if err := createPermission(t, n, n.RootKey(), "document.read"); err != nil {
		t.Errorf("with key %q: %v", n.RootKey(), err)
	}
}

// stepContext ends after it was asked for a number of times whether it has.
type stepContext struct {
	context.Context
	left atomic.Int64
	once sync.Once
	done chan struct{}
}

func newStepContext(steps int64) *stepContext {
	ctx := &stepContext{Context: context.Background(), done: make(chan struct{})}
	ctx.left.Store(steps)
	return ctx
}

func (c *stepContext) Done() <-chan struct{} {
	if c.left.Add(-1) < 0 {
		c.once.Do(func() { close(c.done) })
	}
	return c.done
}

func (c *stepContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// A node that is told to end while it opens never leaves a cluster whose root key
// nobody was told.
func TestRootKeyIsNeverLost(t *testing.T) {
	for steps := int64(0); ; steps++ {
		dataDir := t.TempDir()
		n, err := OpenNode(newStepContext(steps), nodeConfig(t, dataDir))
		if err == nil {
			key := n.RootKey()
			if err := createPermission(t, n, key, "document.read"); err != nil {
				t.Errorf("ended after %d steps, with key %q: %v", steps, key, err)
			}
			closeNode(t, n)
			t.Logf("%d steps end before the node is open", steps)
			return
		}
		if n != nil {
			t.Fatalf("ended after %d steps: a node and %v", steps, err)
		}
		n = openNode(t, nodeConfig(t, dataDir))
		if n.RootKey() == "" {
			t.Errorf("ended after %d steps (%v): the root key is lost", steps, err)
		}
		closeNode(t, n)
	}
}
