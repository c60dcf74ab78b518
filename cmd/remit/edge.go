package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

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
	// maxIdle is how long a connection of a client's stands without a call.
	maxIdle = 15 * time.Minute
	// minPing is how often a connection may ask whether the node is still there. Other
	// nodes do so every ten seconds.
	minPing = 5 * time.Second
)

// serve starts the servers for clients, and the one for calls that other nodes
// pass on.
func (n *Node) serve() {
	options := []grpc.ServerOption{
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
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	}
	httpListener := n.httpListener
	if n.cfg.TLS != nil {
		config := n.cfg.TLS.ServerConfig()
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
		overHTTP := config.Clone()
		overHTTP.NextProtos = []string{"h2", "http/1.1"}
		httpListener = tls.NewListener(httpListener, overHTTP)
	}
	n.grpc = grpc.NewServer(options...)
	n.server.Register(n.grpc)
	reflection.Register(n.grpc)
	n.api = grpc.NewServer(
		grpc.InTapHandle(n.server.NodeTap),
		grpc.UnaryInterceptor(n.server.NodeInterceptor),
		grpc.StreamInterceptor(n.server.StreamInterceptor),
		grpc.MaxRecvMsgSize(server.MaxRequestBytes),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	)
	n.server.Register(n.api)

	local := server.NewLocal(n.server.LocalInterceptor)
	n.server.Register(local)
	n.http = &http.Server{
		Handler:           n.handler(rest.Handler(local, n.server.Admit, n.cluster.ID())),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,

		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(httpLog{n.logger}, "", 0),
	}
	n.running.Go(func() {
		if err := n.http.Serve(httpListener); !errors.Is(err, http.ErrServerClosed) {
			n.serving <- fmt.Errorf("serve HTTP: %w", err)
		}
	})
	n.running.Go(func() {
		if err := n.grpc.Serve(n.grpcListener); err != nil {
			n.serving <- fmt.Errorf("serve gRPC: %w", err)
		}
	})
	n.running.Go(func() { _ = n.api.Serve(n.cluster.APIListener()) }) // ends with the node
}

// httpLog takes the lines of net/http. What a stranger can bring about as often as he
// likes is for debugging.
type httpLog struct{ logger *slog.Logger }

func (l httpLog) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.Contains(line, []byte("TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.logger.Log(context.Background(), level, string(bytes.TrimSpace(line)), "component", "http")
	return len(line), nil
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
	if err == nil {
		return nil
	}
	if !n.cluster.HasState() {
		return errors.New("this node belongs to no cluster yet: " + n.cluster.Waiting())
	}
	if why := n.cluster.Estranged(); why != "" {
		return fmt.Errorf("%s; %s", status.Convert(err).Message(), why)
	}
	if coordinator, awaits := n.cluster.AwaitsFirst(); awaits {
		return fmt.Errorf("the cluster has no first command yet, which node %s writes: if that one is lost for good, nothing has begun, "+
			"so remove the data folders of all nodes and start them again", coordinator)
	}
	return err
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
	n.api.Stop() // other nodes try again elsewhere
	return err
}
