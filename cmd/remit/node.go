package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/server"
)

// stepDownTimeout bounds the handing over of leadership when a node ends.
const stepDownTimeout = 2 * time.Second

// NodeConfig says how to open a node. The addresses may have port 0.
type NodeConfig struct {
	DataDir  string
	NodeName string
	HTTPAddr string
	GRPCAddr string
	RaftAddr string
	// GossipAddr is where the node finds others; empty for one that stays alone.
	GossipAddr string
	// AdvertiseAddr is the host that others know the node by, if it is not that of
	// the addresses.
	AdvertiseAddr string
	// Seeds are gossip addresses of other nodes.
	Seeds     []string
	GossipKey []byte
	// TLS is for all connections but gossip; nil for none.
	TLS      *cluster.TLS
	Insecure bool
	// Replica makes a node that never votes.
	Replica bool
	// Expect lets a node whose data folder is empty start a cluster of so many
	// nodes; with 0 it waits to be told to join one.
	Expect int
	// Level is the newest of formats and semantics that the node claims to support;
	// fsm.MaxLevel if zero.
	Level uint32
	// RootKey is the secret of the first key; drawn at random if empty.
	RootKey string
	// BootstrapProject is the name of the first project; defaultProject if empty.
	BootstrapProject string
	// When snapshots are taken, and how much of the log stays behind one; zero
	// values are cluster.Config's defaults.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	SnapshotBytes     uint64
	TrailingLogs      uint64
	// StalenessBound, HungStoreTimeout and MinFreeDisk (bytes) have their rooms'
	// defaults if zero.
	StalenessBound   time.Duration
	HungStoreTimeout time.Duration
	MinFreeDisk      uint64
	Logger           *slog.Logger
	// Halt ends the process: the node cannot go on. It must not return.
	Halt func(error)
}

// A Node is everything that runs in one process: the replicated log, the state,
// and the servers in front of it.
type Node struct {
	cfg     NodeConfig
	logger  *slog.Logger
	store   *fsm.Store
	cluster *cluster.Node
	server  *server.Server
	// described is server for the cluster, which may ask before there is one.
	described atomic.Pointer[server.Server]

	httpListener, grpcListener net.Listener
	http                       *http.Server
	grpc, api                  *grpc.Server // for clients, and for calls that other nodes pass on

	stop     context.CancelFunc // of what runs in the background
	running  sync.WaitGroup
	serving  chan error // the first server that ended by itself
	formed   bool       // by OpenNode
	first    []byte     // the cluster's first command, once this process has made it
	drawn    string     // the root key in it, if it was drawn
	waitsFor string     // why there is no such command yet
	rootKey  string     // the same, once it holds
}

// OpenNode opens a node and serves. A cluster of one is ready when it returns; any
// other node forms or finds its cluster in Form.
func OpenNode(ctx context.Context, cfg NodeConfig) (_ *Node, err error) {
	n := &Node{cfg: cfg, logger: cfg.Logger, serving: make(chan error, 3)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	listenErr := n.listen()
	// Its error comes first: where a node is started twice, who has the data folder
	// says more than which port is in use.
	if err = n.openCluster(); err != nil {
		return nil, err
	}
	if listenErr != nil {
		return nil, listenErr
	}
	n.server = server.New(server.Config{
		Log: replicatedLog{n.cluster}, Store: n.store, Logger: cfg.Logger,
		Cluster: nodes{n.cluster}, Level: cfg.Level, StalenessBound: cfg.StalenessBound,
	})
	n.described.Store(n.server)

	background, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.running.Go(func() { n.server.Run(background) })
	n.running.Go(func() {
		select {
		case <-n.cluster.Failed():
			cfg.Halt(n.cluster.Err())
		case <-background.Done():
		}
	})
	n.serve()
	if n.cfg.Expect == 1 || n.cluster.IsSoleVoter() {
		if err := n.Form(ctx); err != nil {
			return nil, err
		}
		n.formed = true
	}
	return n, nil
}

// listen opens the listeners for clients.
func (n *Node) listen() (err error) {
	if n.httpListener, err = net.Listen("tcp", n.cfg.HTTPAddr); err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	if n.grpcListener, err = net.Listen("tcp", n.cfg.GRPCAddr); err != nil {
		return fmt.Errorf("listen for gRPC: %w", err)
	}
	return nil
}

func (n *Node) openCluster() (err error) {
	cfg := n.cfg
	n.store = fsm.NewStore(cfg.Halt)
	own := cluster.Config{
		DataDir: cfg.DataDir, NodeName: cfg.NodeName, FSM: n.store, Logger: cfg.Logger,
		RaftAddr: cfg.RaftAddr, GossipAddr: cfg.GossipAddr, AdvertiseAddr: cfg.AdvertiseAddr,
		Seeds: cfg.Seeds, GossipKey: cfg.GossipKey, TLS: cfg.TLS, Insecure: cfg.Insecure,
		Replica: cfg.Replica, Version: readBuild().Version, Level: cmp.Or(cfg.Level, fsm.MaxLevel),
		SnapshotThreshold: cfg.SnapshotThreshold, SnapshotInterval: cfg.SnapshotInterval, SnapshotBytes: cfg.SnapshotBytes,
		TrailingLogs: cfg.TrailingLogs, MinFreeDisk: cfg.MinFreeDisk, HungStoreTimeout: cfg.HungStoreTimeout,
		Describe: n.describe, Digest: n.digest, OnLeave: n.onLeave,
	}
	if n.httpListener != nil && n.grpcListener != nil {
		own.HTTPAddr, own.GRPCAddr = n.advertised(n.httpListener), n.advertised(n.grpcListener)
	}
	n.cluster, err = cluster.Open(own)
	return err
}

// advertised is how others call an address that the node listens on.
func (n *Node) advertised(l net.Listener) string {
	if n.cfg.AdvertiseAddr == "" {
		return l.Addr().String()
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(n.cfg.AdvertiseAddr, port)
}

// stepDown lets another node lead before this one ends, so that writers need not
// wait for an election.
func (n *Node) stepDown() {
	ctx, cancel := context.WithTimeout(context.Background(), stepDownTimeout)
	defer cancel()
	if err := n.cluster.StepDown(ctx); err != nil {
		n.logger.Warn("leadership is not handed over before the node ends", "reason", err)
	}
}

// describe is what the cluster's status says of the state.
func (n *Node) describe() cluster.Description {
	s := n.described.Load()
	if s == nil {
		return cluster.Description{NotReady: "it is starting", Age: -1}
	}
	d := cluster.Description{Level: n.store.State().Level, Age: s.Age()}
	if err := n.ready(); err != nil {
		d.NotReady = status.Convert(err).Message()
	}
	return d
}

func (n *Node) digest(ctx context.Context, revision uint64) ([]byte, error) {
	s := n.described.Load()
	if s == nil {
		return nil, errors.New("the node is starting")
	}
	return s.Digest(ctx, revision)
}

// onLeave turns clients away while the node leaves.
func (n *Node) onLeave(leaving bool) {
	switch s := n.described.Load(); {
	case s != nil && leaving:
		s.Drain()
	case s != nil:
		s.Resume()
	}
}

// HTTPAddr and GRPCAddr are where the node listens.
func (n *Node) HTTPAddr() string { return n.httpListener.Addr().String() }

// GRPCAddr is where the node listens for gRPC.
func (n *Node) GRPCAddr() string { return n.grpcListener.Addr().String() }

// RootKey is the key that this process drew at bootstrap; empty if it drew none. It
// is known when Form has returned.
func (n *Node) RootKey() string { return n.rootKey }

// HasState reports whether the node belongs to a cluster.
func (n *Node) HasState() bool { return n.cluster.HasState() }

// Close drains the node and ends it, within ten seconds. A node that did not
// open whole is closed too.
func (n *Node) Close() error {
	if n.server != nil {
		n.server.Drain()
	}
	var errs []error
	if n.cluster != nil {
		n.stepDown()
	}
	if n.http != nil {
		errs = append(errs, n.drain())
	}
	for _, l := range []net.Listener{n.httpListener, n.grpcListener} {
		if l != nil {
			l.Close() // closed already where a server had it
		}
	}
	if n.stop != nil {
		n.stop()
	}
	n.running.Wait()
	if n.cluster != nil {
		errs = append(errs, n.cluster.Close())
	}
	return errors.Join(errs...)
}
