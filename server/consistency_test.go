package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	minimizeLatency = permissionsv1.Consistency_MINIMIZE_LATENCY
	atLeastAsFresh  = permissionsv1.Consistency_AT_LEAST_AS_FRESH
	fullyConsistent = permissionsv1.Consistency_FULLY_CONSISTENT
)

// ahead is how much one command adds to a memoryLog's index.
const ahead = 3

// next is the token of the state that the next command leads to.
func (n *node) next() string {
	state := n.store.State()
	return token{state.Cluster, state.Epoch, state.Revision + ahead}.String()
}

// roundsOf counts the read-index requests that a function makes.
func (n *node) roundsOf(f func()) int {
	count := func() (rounds int) {
		n.log.hook(func(l *memoryLog) { rounds = l.rounds })
		return rounds
	}
	before := count()
	f()
	return count() - before
}

// A read that asks for a state which is not there yet waits for it.
func TestReadsWait(t *testing.T) {
	type ask struct {
		name string
		ask  func(d *door, req proto.Message) (context.Context, proto.Message)
	}
	asks := []ask{
		{"token field", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return d.ctx, with(req, "token", d.next())
		}},
		{"mode and token fields", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return d.ctx, with(with(req, "token", d.next()), "consistency", atLeastAsFresh)
		}},
		{"token header", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return withKey(d.t.Context(), metadataToken, d.next()), req
		}},
		{"mode and token headers", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return withKey(d.t.Context(), metadataToken, d.next(), metadataConsistency, "At_Least_As_Fresh"), req
		}},
		{"mode field, token header", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return withKey(d.t.Context(), metadataToken, d.next()), with(req, "consistency", atLeastAsFresh)
		}},
		{"token field over mode header", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return withKey(d.t.Context(), metadataConsistency, "minimize_latency"), with(req, "token", d.next())
		}},
		{"fully consistent field", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return d.ctx, with(req, "consistency", fullyConsistent)
		}},
		{"fully consistent header", func(d *door, req proto.Message) (context.Context, proto.Message) {
			return withKey(d.t.Context(), metadataConsistency, "fully_consistent"), req
		}},
	}
	for _, service := range []string{serviceName, publishedName, "REST"} {
		d := newNode(t).ready().door(service)
		d.sample()
		for i, req := range reads() {
			for _, ask := range asks {
				// The leader knows of a command that is not applied here yet.
				asked := make(chan struct{}, 1)
				reached := d.store.State().Revision + ahead
				d.log.hook(func(l *memoryLog) {
					l.onRead = func(context.Context) (uint64, error) {
						asked <- struct{}{}
						return reached, nil
					}
				})
				done := make(chan error, 1)
				go func() {
					ctx, req := ask.ask(d, req)
					answer, err := d.call(ctx, req)
					if err == nil {
						if got, ok := parseToken(answer.(interface{ GetToken() string }).GetToken()); !ok || got.revision < reached {
							err = errors.New("answered from an older state: " + answer.(interface{ GetToken() string }).GetToken())
						}
					}
					done <- err
				}()
				select {
				case <-asked:
				case err := <-done:
					t.Fatalf("%s, request %d, %s: did not ask the leader: %v", service, i, ask.name, err)
				}
				d.log.put(t, &fsm.PutPermission{Scope: d.scope(), ID: NewID(), Name: "other"})
				if err := <-done; err != nil {
					t.Errorf("%s, request %d, %s: %v", service, i, ask.name, err)
				}
			}
		}
	}
}

// A state that is there already needs no question, and the default asks none.
func TestReadsWithoutWaiting(t *testing.T) {
	for _, service := range []string{serviceName, publishedName, "REST"} {
		d := newNode(t).ready().door(service)
		d.sample()
		written := d.grant("anna", "/b", []string{"read"}, nil)
		for _, req := range reads() {
			for name, ask := range map[string]struct {
				ctx    context.Context
				req    proto.Message
				rounds int
			}{
				"default":                 {d.ctx, req, 0},
				"minimize field":          {d.ctx, with(req, "consistency", minimizeLatency), 0},
				"minimize header":         {withKey(t.Context(), metadataConsistency, "minimize_latency"), req, 0},
				"reached":                 {d.ctx, with(req, "token", written), 0},
				"reached header":          {withKey(t.Context(), metadataToken, written), req, 0},
				"field over header mode":  {withKey(t.Context(), metadataConsistency, "at_least_as_fresh"), with(req, "consistency", minimizeLatency), 0},
				"field over bad header":   {withKey(t.Context(), metadataConsistency, "nonsense"), with(req, "consistency", fullyConsistent), 1},
				"field over header token": {withKey(t.Context(), metadataToken, "garbage"), with(req, "token", written), 0},
				"field token over header": {withKey(t.Context(), metadataConsistency, "minimize_latency"), with(req, "token", written), 0},
				"header with field token": {withKey(t.Context(), metadataConsistency, "fully_consistent"), with(req, "token", written), 1},
				"fully consistent field":  {d.ctx, with(req, "consistency", fullyConsistent), 1},
				"empty headers":           {withKey(t.Context(), metadataConsistency, "", metadataToken, ""), req, 0},
			} {
				rounds := d.roundsOf(func() {
					answer, err := d.call(ask.ctx, ask.req)
					if err != nil {
						t.Errorf("%T, %s: %v", req, name, err)
						return
					}
					d.wantToken(answer.(interface{ GetToken() string }).GetToken())
				})
				if rounds != ask.rounds {
					t.Errorf("%T, %s: %d questions to the leader, want %d", req, name, rounds, ask.rounds)
				}
			}
		}
	}
}

// What an earlier answer, of a read or a write, gave as its token leads to a
// state with all that it told of.
func TestReadYourWrites(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		for _, req := range everyRequest() {
			answer, err := d.call(d.ctx, req)
			if err != nil {
				t.Fatalf("%T: %v", req, err)
			}
			text := answer.(interface{ GetToken() string }).GetToken()
			do(d, d.ListPermissions, &permissionsv1.ListPermissionsRequest{ProjectName: project, Consistency: atLeastAsFresh, Token: text})
			d.sample()
		}
	})
}

// Waiting ends at the caller's deadline, or after five seconds, with an error
// that a retry may help against; never with an older state.
func TestReadsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, service := range []string{"local", "REST"} {
			n := newNode(t).ready()
			d := n.localDoor()
			if service == "REST" {
				d = n.door("REST")
			}
			d.sample()
			never := func(ctx context.Context) (uint64, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			lagging := func(context.Context) (uint64, error) { return n.store.State().Revision + ahead, nil }
			for _, hang := range []func(context.Context) (uint64, error){never, lagging} {
				n.log.hook(func(l *memoryLog) { l.onRead = hang })
				for _, req := range reads() {
					for _, req := range []proto.Message{with(req, "token", n.next()), with(req, "consistency", fullyConsistent)} {
						start := time.Now()
						d.refuse(t, d.ctx, req, codes.Unavailable, "retry")
						if took := time.Since(start); took != readTimeout {
							t.Errorf("%T gave up after %v", req, took)
						}
						ctx, cancel := context.WithTimeout(d.ctx, 200*time.Millisecond)
						start = time.Now()
						d.refuse(t, ctx, req, codes.Unavailable, "retry")
						if took := time.Since(start); took != 200*time.Millisecond {
							t.Errorf("%T with a deadline gave up after %v", req, took)
						}
						cancel()
					}
				}
			}
			failed := errors.New("no leader")
			n.log.hook(func(l *memoryLog) { l.onRead = func(context.Context) (uint64, error) { return 0, failed } })
			d.refuse(t, d.ctx, with(reads()[0], "consistency", fullyConsistent), codes.Unavailable, "no leader", "retry")
		}
	})
}

// Reads that wait are counted, and so many wait and no more.
func TestWaitingReadsAreBounded(t *testing.T) {
	d := newNode(t).ready().localDoor()
	d.sample()
	for name, waits := range map[string]func() (context.Context, proto.Message){
		"fully consistent": func() (context.Context, proto.Message) {
			return d.ctx, with(reads()[0], "consistency", fullyConsistent)
		},
		"with a token": func() (context.Context, proto.Message) { return d.ctx, with(reads()[0], "token", d.next()) },
	} {
		d.log.hook(func(l *memoryLog) {
			l.onRead = func(context.Context) (uint64, error) {
				if got := d.server.reads.Load(); got != 1 {
					t.Errorf("%s: %d reads wait while one does", name, got)
				}
				d.permission("other") // so that the token's revision is there
				return d.store.State().Revision, nil
			}
		})
		ctx, req := waits()
		if _, err := d.call(ctx, req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := d.server.reads.Load(); got != 0 {
			t.Errorf("%s: %d reads wait when none does", name, got)
		}
		d.server.reads.Store(maxWaitingReads)
		ctx, req = waits()
		d.refuse(t, ctx, req, codes.Unavailable, "10000 reads wait", "ask another node")
		if _, err := d.call(d.ctx, reads()[0]); err != nil {
			t.Errorf("one that need not wait: %v", err)
		}
		d.server.reads.Store(0)
	}
}

// Default reads are never answered from a state that may be older than the
// bound; the others have their own proof.
func TestStaleness(t *testing.T) {
	hang := func(ctx context.Context) (uint64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	for name, onRead := range map[string]func(n *node) func(context.Context) (uint64, error){
		"no leader": func(*node) func(context.Context) (uint64, error) {
			return func(context.Context) (uint64, error) { return 0, errors.New("no leader") }
		},
		"no answer": func(*node) func(context.Context) (uint64, error) { return hang },
		"not applied": func(n *node) func(context.Context) (uint64, error) {
			return func(context.Context) (uint64, error) { return n.store.State().Revision + ahead, nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				n := newNode(t)
				stopped := make(chan struct{})
				go func() {
					n.server.Run(ctx)
					close(stopped)
				}()
				synctest.Wait()
				d := n.localDoor()
				d.sample()
				written := d.grant("anna", "/b", []string{"read"}, nil)
				health := func() healthpb.HealthCheckResponse_ServingStatus {
					resp, err := n.server.health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: serviceName})
					if err != nil {
						t.Fatal(err)
					}
					return resp.Status
				}
				if n.server.Ready() != nil || health() != healthpb.HealthCheckResponse_SERVING {
					t.Errorf("not ready after the first round: %v, %v", n.server.Ready(), health())
				}
				time.Sleep(time.Minute) // rounds keep it fresh
				if !d.allowed("anna", "/a", "read") {
					t.Error("denied")
				}

				n.log.hook(func(l *memoryLog) { l.onRead = onRead(n) })
				time.Sleep(DefaultStalenessBound - 1500*time.Millisecond)
				if !d.allowed("anna", "/a", "read") || n.server.Ready() != nil {
					t.Error("refused before the bound")
				}
				time.Sleep(1501 * time.Millisecond)
				for _, req := range reads() {
					d.refuse(t, d.ctx, req, codes.Unavailable, "s old", "10s at most")
					d.refuse(t, d.ctx, with(req, "consistency", minimizeLatency), codes.Unavailable, "10s at most")
					if _, err := d.call(d.ctx, with(req, "token", written)); err != nil {
						t.Errorf("%T at a state that is there: %v", req, err)
					}
				}
				if err := n.server.Ready(); err == nil || !strings.Contains(err.Error(), "old") {
					t.Errorf("ready: %v", err)
				}
				d.refuse(t, d.ctx, with(reads()[0], "consistency", fullyConsistent), codes.Unavailable, "retry")
				time.Sleep(healthInterval)
				if health() != healthpb.HealthCheckResponse_NOT_SERVING {
					t.Error("health says that it serves")
				}

				// One that gives up leaving then is as old as it was.
				n.server.Drain()
				n.server.Resume()
				if health() != healthpb.HealthCheckResponse_NOT_SERVING {
					t.Error("a node that resumes serves although its state is too old")
				}

				n.log.hook(func(l *memoryLog) { l.onRead = nil })
				time.Sleep(DefaultStalenessBound + freshnessInterval)
				if err := n.server.Ready(); err != nil || health() != healthpb.HealthCheckResponse_SERVING || !d.allowed("anna", "/a", "read") {
					t.Errorf("not ready again: %v", err)
				}
				cancel()
				<-stopped
			})
		})
	}
}

// What counts is when the leader was asked, not when it answered.
func TestFreshnessCountsFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.log.onRead = func(context.Context) (uint64, error) {
			time.Sleep(4 * time.Second)
			return n.store.State().Revision, nil
		}
		n.ready()
		time.Sleep(DefaultStalenessBound - 4*time.Second)
		if err := n.server.Ready(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
		if n.server.Ready() == nil {
			t.Error("the state counts as younger than the question")
		}
	})
}

// A node without a cluster is not ready, and becomes so soon after it has one.
func TestFreshnessBeforeInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		empty := fsm.NewStore(func(err error) { t.Error(err) })
		n.server.store, n.log.store, n.log.index = empty, empty, 0
		n.store = empty
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			n.server.Run(ctx)
			close(stopped)
		}()
		time.Sleep(time.Minute)
		if n.server.Ready() == nil {
			t.Error("ready without a cluster")
		}
		n.log.put(t, n.init)
		time.Sleep(2 * startupInterval)
		n.localDoor().sample()
		cancel()
		<-stopped
	})
}

// TestCheckOfNobody: a check of many resources ends when its caller is gone.
func TestCheckOfNobody(t *testing.T) {
	n := newNode(t).ready()
	d := n.localDoor()
	d.permission("read")
	ctx, cancel := context.WithCancel(d.ctx)
	cancel()
	_, err := d.call(ctx, &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: "anna", ResourceUris: []string{"/a"}, Permissions: []string{"read"},
	})
	wantCode(t, err, codes.Canceled)
}
