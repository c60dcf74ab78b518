package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/server"
	"github.com/remit-io/remit/server/rest"
)

const (
	// drainTimeout bounds how long calls under way may take once a node closes.
	drainTimeout = 4 * time.Second
	// streamWorkers is how many goroutines stand ready for gRPC calls. More calls
	// at a time get goroutines of their own.
	streamWorkers = 64
	// maxStreams bounds the calls under way on one connection, and
	// maxHeaderBytes the headers of each: a key is asked for after them.
	maxStreams     = 1000
	maxHeaderBytes = 64 << 10
	// connectTimeout bounds how long a connection may take to say that it speaks
	// gRPC. A node that ends waits for those that have not.
	connectTimeout = 3 * time.Second
)

// NodeConfig says how to open a node. The addresses may have port 0.
type NodeConfig struct {
	DataDir  string
	NodeName string
	HTTPAddr string
	GRPCAddr string
	RaftAddr string
	// Bootstrap lets a node whose data folder is empty start a cluster.
	Bootstrap bool
	// RootKey is the secret of the first key; drawn at random if empty.
	RootKey string
	// BootstrapProject is the name of the first project; defaultProject if empty.
	BootstrapProject string
	// When snapshots are taken, and how much of the log stays behind one; zero
	// values are cluster.Config's defaults.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64
	Logger            *slog.Logger
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

	httpListener, grpcListener net.Listener
	http                       *http.Server
	grpc                       *grpc.Server

	stop    context.CancelFunc // of what runs in the background
	running sync.WaitGroup
	serving chan error // the first server that ended by itself
	rootKey string     // drawn by this process at bootstrap, else empty
}

// OpenNode opens a node and serves. It returns when the node has its state, or,
// where there is none and Bootstrap is not set, at once.
func OpenNode(ctx context.Context, cfg NodeConfig) (_ *Node, err error) {
	n := &Node{cfg: cfg, logger: cfg.Logger, serving: make(chan error, 2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	// The data folder first: where a node is started twice, who has the folder
	// says more than which port is in use.
	n.store = fsm.NewStore(cfg.Halt)
	n.cluster, err = cluster.Open(cluster.Config{
		DataDir: cfg.DataDir, NodeName: cfg.NodeName, RaftAddr: cfg.RaftAddr, FSM: n.store, Logger: cfg.Logger,
		SnapshotThreshold: cfg.SnapshotThreshold, SnapshotInterval: cfg.SnapshotInterval, TrailingLogs: cfg.TrailingLogs,
	})
	if err != nil {
		return nil, err
	}
	if n.httpListener, err = net.Listen("tcp", cfg.HTTPAddr); err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	if n.grpcListener, err = net.Listen("tcp", cfg.GRPCAddr); err != nil {
		return nil, fmt.Errorf("listen for gRPC: %w", err)
	}
	n.server = server.New(server.Config{Log: replicatedLog{n.cluster}, Store: n.store, Logger: cfg.Logger})

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
	if cfg.Bootstrap || n.cluster.HasState() {
		if err := n.bootstrap(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *Node) serve() {
	n.grpc = grpc.NewServer(
		grpc.InTapHandle(n.server.Tap),
		grpc.UnaryInterceptor(n.server.Interceptor),
		grpc.StreamInterceptor(n.server.StreamInterceptor),
		grpc.MaxRecvMsgSize(server.MaxRequestBytes),
		// Goroutines that live on keep their grown stacks: a check takes a sixth
		// less of the processor than with a new one for each call.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	n.server.Register(n.grpc)
	reflection.Register(n.grpc)

	local := server.NewLocal(n.server.LocalInterceptor)
	n.server.Register(local)
	n.http = &http.Server{
		Handler:           n.handler(rest.Handler(local, n.server.Admit, n.cluster.ID())),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,

		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(n.logger.Handler(), slog.LevelWarn),
	}
	n.running.Go(func() {
		if err := n.http.Serve(n.httpListener); !errors.Is(err, http.ErrServerClosed) {
			n.serving <- fmt.Errorf("serve HTTP: %w", err)
		}
	})
	n.running.Go(func() {
		if err := n.grpc.Serve(n.grpcListener); err != nil {
			n.serving <- fmt.Errorf("serve gRPC: %w", err)
		}
	})
}

// handler routes by hand: an http.ServeMux would redirect paths with a doubled
// slash, which resource URIs have.
func (n *Node) handler(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/livez":
			fmt.Fprintln(w, "ok")
		case "/readyz":
			if err := n.ready(); err != nil {
				http.Error(w, status.Convert(err).Message(), http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(w, "ok")
		default:
			api.ServeHTTP(w, r)
		}
	})
}

// ready says why the node does not answer yet, nil if it does.
func (n *Node) ready() error {
	err := n.server.Ready()
	if err != nil && !n.cluster.HasState() {
		return errors.New("this node belongs to no cluster yet: to start one with it, run it with --bootstrap-expect 1")
	}
	return err
}

// HTTPAddr and GRPCAddr are where the node listens.
func (n *Node) HTTPAddr() string { return n.httpListener.Addr().String() }

// GRPCAddr is where the node listens for gRPC.
func (n *Node) GRPCAddr() string { return n.grpcListener.Addr().String() }

// RootKey is the key that this process drew at bootstrap; empty if it drew none.
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

// drain lets calls under way end, for a while.
func (n *Node) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		n.grpc.GracefulStop()
	}()
	err := n.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = n.http.Close()
	}
	select {
	case <-graceful:
	case <-ctx.Done():
		n.grpc.Stop()
		<-graceful
	}
	return err
}

// replicatedLog words the cluster's errors as the server knows them.
type replicatedLog struct{ *cluster.Node }

// Apply replicates a command.
func (l replicatedLog) Apply(ctx context.Context, command []byte) (any, uint64, error) {
	result, revision, err := l.Node.Apply(ctx, command)
	if errors.Is(err, cluster.ErrNotLeader) || errors.Is(err, cluster.ErrNotApplied) {
		err = fmt.Errorf("%w: %w", server.ErrNotApplied, err)
	}
	return result, revision, err
}
