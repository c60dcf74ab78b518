package main

import (
	"context"
	"encoding/hex"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"github.com/remit-io/remit/server"
)

const upgradeKey = "remit_root_key_of_the_upgrade_tests"

// An upgraded is a node that is upgraded while its cluster runs: closed and opened
// again on its folder, claiming to support another level.
type upgraded struct {
	*Node
	t   *testing.T
	cfg NodeConfig
	log *lockedBuffer
	// stop ends the forming of the node's cluster.
	stop func()
}

// open opens the node, which then forms its cluster, or finds it.
func (u *upgraded) open(level uint32) {
	u.t.Helper()
	u.log = &lockedBuffer{}
	u.cfg.Level, u.cfg.Logger = level, slog.New(slog.NewTextHandler(u.log, nil))
	u.Node = openNode(u.t, u.cfg)
	node := u.Node
	forming, stop := context.WithCancel(context.Background())
	formed := make(chan struct{})
	go func() {
		defer close(formed)
		if err := node.Form(forming); err != nil && forming.Err() == nil {
			u.t.Errorf("%s: %v", u.cfg.NodeName, err)
		}
	}()
	u.stop = func() { stop(); <-formed }
	u.t.Cleanup(u.stop)
}

func (u *upgraded) close() {
	u.t.Helper()
	u.stop()
	closeNode(u.t, u.Node)
}

// ready waits until the node answers.
func (u *upgraded) ready() {
	u.t.Helper()
	u.until(u.cfg.NodeName+" is ready", func() bool { return u.Node.ready() == nil })
}

func (u *upgraded) until(what string, holds func() bool) {
	u.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			u.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// level is that of the node's state.
func (u *upgraded) level() uint32 { return u.store.State().Level }

// as calls the node with the root key.
func (u *upgraded) as(call func(context.Context, *grpc.ClientConn) error) error {
	u.t.Helper()
	conn, err := grpc.NewClient(u.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		u.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	return call(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+upgradeKey), conn)
}

// remembers reports whether the node knows a request id that was used for another
// request.
func (u *upgraded) remembers() (remembers bool) {
	u.t.Helper()
	id := server.NewID()
	for _, description := range []string{"first", "second"} {
		err := u.as(func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := permissionsv1.NewPermissionsServiceClient(conn).CreatePermission(
				metadata.AppendToOutgoingContext(ctx, "remit-request-id", hex.EncodeToString(id[:])),
				&permissionsv1.CreatePermissionRequest{ProjectName: defaultProject, Name: "written.at." + u.cfg.NodeName, Description: description})
			return err
		})
		remembers = status.Code(err) == codes.InvalidArgument && strings.Contains(err.Error(), "was used for another request")
		if err != nil && !remembers {
			u.t.Errorf("a write at %s: %v", u.cfg.NodeName, err)
		}
	}
	return remembers
}

func (u *upgraded) beginRestore() error {
	return u.as(func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := clusterv1.NewClusterServiceClient(conn).BeginRestore(ctx, &clusterv1.BeginRestoreRequest{Size: 1000})
		return err
	})
}

func (u *upgraded) verify() error {
	return u.as(func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := clusterv1.NewClusterServiceClient(conn).Verify(ctx, &clusterv1.VerifyRequest{})
		if err == nil && !answer.GetAgree() {
			u.t.Errorf("the nodes disagree: %v", answer)
		}
		return err
	})
}

// leading returns the one of the nodes that leads.
func leading(t *testing.T, nodes []*upgraded) (leader *upgraded) {
	t.Helper()
	nodes[0].until("a node leads", func() bool {
		for _, u := range nodes {
			if _, self, err := u.cluster.Leader(t.Context()); err == nil && self {
				leader = u
			}
		}
		return leader != nil
	})
	return leader
}

// TestRollingUpgrade upgrades a cluster node by node: as long as one node supports
// level 1 alone, nothing of level 2 is proposed, whoever leads; after that the level
// rises by itself.
func TestRollingUpgrade(t *testing.T) {
	var nodes []*upgraded
	var seeds []string
	for _, name := range []string{"one", "two", "three"} {
		u := &upgraded{t: t, cfg: nodeConfig(t, filepath.Join(t.TempDir(), name))}
		u.cfg.NodeName, u.cfg.GossipAddr, u.cfg.RootKey, u.cfg.Expect, u.cfg.Seeds = name, "127.0.0.1:0", upgradeKey, 3, seeds
		u.open(1)
		u.cfg.GossipAddr = u.cluster.GossipAddr()
		seeds = append(seeds, u.cfg.GossipAddr)
		nodes = append(nodes, u)
	}
	for _, u := range nodes {
		u.ready()
	}
	for i, old := range nodes {
		if i > 0 {
			// Leadership comes to a node that supports level 2 and has everything of it to propose.
			leader := leading(t, nodes)
			if _, err := leader.cluster.Transfer(t.Context(), nodes[0].cluster.ID()); err != nil {
				t.Fatal(err)
			}
			waits := "supports level 1 at most: upgrade it"
			nodes[0].until("the leader says why the level is not raised", func() bool { return strings.Contains(nodes[0].log.String(), waits) })
			for _, u := range nodes {
				if u.level() != 1 {
					t.Errorf("%s is at level %d while %s supports level 1 alone", u.cfg.NodeName, u.level(), old.cfg.NodeName)
				}
				if u.remembers() {
					t.Error("level 1 remembers a request")
				}
				if err := u.beginRestore(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "this needs level 2, and the cluster is at level 1: upgrade every node") {
					t.Errorf("a restore at level 1: %v", err)
				}
				if err := u.verify(); status.Code(err) != codes.FailedPrecondition {
					t.Errorf("a checkpoint at level 1: %v", err)
				}
			}
		}
		old.close()
		old.open(2)
		old.ready()
	}
	for _, u := range nodes {
		u.until(u.cfg.NodeName+" is at level 2", func() bool { return u.level() == 2 })
	}
	for _, u := range nodes {
		if !u.remembers() {
			t.Error("level 2 does not remember a request")
		}
		if err := u.beginRestore(); err != nil {
			t.Errorf("a restore at level 2: %v", err)
		}
		if err := u.verify(); err != nil {
			t.Error(err)
		}
	}

	// A node that supports less does not come in.
	late := &upgraded{t: t, cfg: nodeConfig(t, t.TempDir())}
	late.cfg.NodeName, late.cfg.GossipAddr, late.cfg.Expect = "late", "127.0.0.1:0", 0
	late.open(1)
	got := remit(t, "join", seeds[0], "--addr", late.GRPCAddr(), "--key", upgradeKey)
	if got.code != exitError || !strings.Contains(got.stderr, "the cluster is at level 2 and node ") || !strings.Contains(got.stderr, "supports level 1 at most: upgrade that node, then join again") {
		t.Errorf("a node of level 1 joins: %+v", got)
	}
	if _, ok := late.cluster.ClusterID(); ok {
		t.Error("a node that was refused belongs to the cluster")
	}
	late.close()
	late.open(2)
	if got := remit(t, "join", seeds[0], "--addr", late.GRPCAddr(), "--key", upgradeKey); got.code != exitOK {
		t.Errorf("a node of level 2 joins: %+v", got)
	}
	late.ready()
	if late.level() != 2 {
		t.Errorf("it is at level %d", late.level())
	}
}
