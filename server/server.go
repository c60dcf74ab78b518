// Package server answers the API: it authenticates and authorizes a call, picks
// the state that a read may see, turns a write into a command for the log, and
// words the answer. It knows the state, but not how commands are replicated.
package server

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permioorganisationv1 "github.com/remit-io/remit/proto/permio/organisation/v1"
	permiov1 "github.com/remit-io/remit/proto/permio/permissions/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// A Log replicates commands.
type Log interface {
	// Apply replicates a command and returns when it is synced and applied on
	// this node, with its result and revision. It works on the leader only. An
	// error that Is ErrNotApplied or ErrExhausted means that the command will never be
	// applied; any other leaves that open.
	Apply(ctx context.Context, command []byte) (result any, revision uint64, err error)
	// ReadIndex returns a revision that every write acknowledged before the
	// call has at most.
	ReadIndex(ctx context.Context) (revision uint64, err error)
	// Leader returns a connection to the leader's API, or self on the leader, once
	// that has applied all that earlier leaders committed. Its error says why there is
	// none.
	Leader(ctx context.Context) (conn grpc.ClientConnInterface, self bool, err error)
}

// A Store holds the states that commands lead to.
type Store interface {
	// State returns the newest state, which is immutable.
	State() *fsm.State
	// Wait returns a state with at least the revision, as soon as there is one. Its
	// errors are *fsm.Error.
	Wait(ctx context.Context, revision uint64) (*fsm.State, error)
	// Checkpoint returns the state of exactly the revision of a Checkpoint command, as
	// soon as there is one. Its errors are *fsm.Error.
	Checkpoint(ctx context.Context, revision uint64) (*fsm.State, error)
}

// Limits on a call's message, in bytes, and on how old a default read may be.
const (
	MaxRequestBytes       = 4 << 20
	DefaultStalenessBound = 10 * time.Second
)

// A Config is what a server stands on. Log, Store and Logger are required.
type Config struct {
	Log   Log
	Store Store
	// Cluster is the nodes around this one; nil for a server that stays alone, which
	// takes no operator's calls about them.
	Cluster Cluster
	Logger  *slog.Logger
	// StalenessBound is how old the state of a default read may be;
	// DefaultStalenessBound if 0.
	StalenessBound time.Duration
	// Level is the newest level of formats and semantics that the node supports;
	// fsm.MaxLevel if 0.
	Level uint32
}

// A Server serves the permissions service and the organisation service, each
// under both of its names, and the cluster service.
type Server struct {
	log     Log
	store   Store
	cluster Cluster
	nodeID  string // empty for a server that stays alone
	level   uint32 // the newest that the node supports
	// membership is held while a node is taken in or the level raised.
	membership sync.Mutex
	fresh      *freshness
	draining   atomic.Int32 // reasons to
	logger     *slog.Logger
	token      atomic.Pointer[stateToken] // of the newest state that was answered from
	swept      chan struct{}              // wakes the sweeper
	reads      atomic.Int64               // that wait for a newer state

	healthMu sync.Mutex // held while ready is looked at and health told
	health   *health.Server

	publicReceives chan struct{} // holds one for each call that receivePublic let in
	strangers      chan struct{} // holds one for each call with an unknown key
}

var (
	_ permissionsv1.PermissionsServiceServer = (*Server)(nil)
	_ permiov1.PermissionsServiceServer      = (*Server)(nil)

	_ organisationv1.OrganisationServiceServer       = (*Server)(nil)
	_ permioorganisationv1.OrganisationServiceServer = (*Server)(nil)

	_ clusterv1.ClusterServiceServer = (*Server)(nil)
)

// New returns a server that is not ready until Run has made its first round.
func New(cfg Config) *Server {
	s := &Server{
		log: cfg.Log, store: cfg.Store, cluster: cfg.Cluster, logger: cfg.Logger,
		level:  cmp.Or(cfg.Level, fsm.MaxLevel),
		fresh:  newFreshness(cmp.Or(cfg.StalenessBound, DefaultStalenessBound)),
		swept:  make(chan struct{}, 1),
		health: health.NewServer(),

		publicReceives: make(chan struct{}, maxPublicReceives),
		strangers:      make(chan struct{}, maxStrangers),
	}
	if s.cluster != nil {
		s.nodeID = s.cluster.ID()
	}
	s.setHealth()
	return s
}

// Register adds the services to a gRPC server, or to a Local. Its calls must go
// through Interceptor and StreamInterceptor.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	healthpb.RegisterHealthServer(r, s.health)
	r = guarded{r, s}
	permissionsv1.RegisterPermissionsServiceServer(r, s)
	permiov1.RegisterPermissionsServiceServer(r, s)
	organisationv1.RegisterOrganisationServiceServer(r, s)
	permioorganisationv1.RegisterOrganisationServiceServer(r, s)
	if s.cluster != nil {
		clusterv1.RegisterClusterServiceServer(r, s)
	}
}

// Run keeps the server fresh, sweeps what deletes left, ends restores that were broken
// off and raises the level when all nodes support the next one, until the context ends.
func (s *Server) Run(ctx context.Context) {
	var background sync.WaitGroup
	background.Go(func() { s.sweep(ctx) })
	background.Go(func() { s.endRestores(ctx) })
	if s.cluster != nil {
		background.Go(func() { s.raiseLevels(ctx) })
	}
	background.Go(func() { s.watchHealth(ctx) })
	s.fresh.run(ctx, s.log, s.store, s.setHealth)
	background.Wait()
}

// Ready says why the server may not answer default reads, nil if it may: it has
// heard from the leader since it started, not longer ago than the staleness
// bound, and it is not draining.
func (s *Server) Ready() error {
	if s.draining.Load() > 0 {
		return unavailable("this node is shutting down: ask another one")
	}
	return s.fresh.check()
}

// Drain makes the server not ready, so that load balancers turn away. Calls are
// still answered.
func (s *Server) Drain() {
	s.draining.Add(1)
	s.setHealth()
}

// Resume takes a Drain back.
func (s *Server) Resume() {
	s.draining.Add(-1)
	s.setHealth()
}

// watchHealth tells the health service when the state becomes too old, until the
// context ends: rounds may hang then.
func (s *Server) watchHealth(ctx context.Context) {
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for ready := false; ; {
		if now := s.Ready() == nil; now != ready {
			ready = now
			s.setHealth()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// setHealth makes the health service say what Ready does.
func (s *Server) setHealth() {
	s.healthMu.Lock()
	defer s.healthMu.Unlock()
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if s.Ready() == nil {
		status = healthpb.HealthCheckResponse_SERVING
	}
	for _, service := range []string{
		"", permissionsv1.PermissionsService_ServiceDesc.ServiceName, permiov1.PermissionsService_ServiceDesc.ServiceName,
		organisationv1.OrganisationService_ServiceDesc.ServiceName, permioorganisationv1.OrganisationService_ServiceDesc.ServiceName,
	} {
		s.health.SetServingStatus(service, status)
	}
}
