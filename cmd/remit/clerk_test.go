package main_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// clerkPermission is what clerks grant.
const clerkPermission = "clerk.sign"

// A clerk grants and revokes, one change after the other, on resources of its own,
// and knows who must hold what. A change without an answer it sends again with its
// request id until there is one, so that each is made once and none is missing.
type clerk struct {
	t      testing.TB
	number int
	rng    *rand.Rand
	held   map[string]bool // by resource
	next   int             // resource

	acknowledged atomic.Int64
	again        int           // answered with an error and sent again
	disconnected int           // of those, errors of the connection, which do not say what became of it
	lost         int           // grants whose answer was thrown away, and that were revoked before they came again
	longest      time.Duration // from the sending of a change to its answer
}

// A change of a clerk's: grant or revoke.
type signature func(context.Context, permissionsv1.PermissionsServiceClient) error

func (c *clerk) principal() string { return fmt.Sprintf("clerk:%d", c.number) }

func (c *clerk) grant(resource string) signature {
	return func(ctx context.Context, client permissionsv1.PermissionsServiceClient) error {
		_, err := client.GrantUserPermissionsAndRolesOnResource(ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: c.principal(), ResourceUri: resource, Permissions: []string{clerkPermission},
		})
		return err
	}
}

func (c *clerk) revoke(resource string) signature {
	return func(ctx context.Context, client permissionsv1.PermissionsServiceClient) error {
		_, err := client.RevokeUserPermissionsAndRolesOnResource(ctx, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: c.principal(), ResourceUri: resource, Permissions: []string{clerkPermission},
		})
		return err
	}
}

// newRequestID draws what a caller sends as remit-request-id.
func newRequestID() string {
	var id [16]byte
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return hex.EncodeToString(id[:])
}

// sign sends a change until it is acknowledged.
func (c *clerk) sign(ctx context.Context, client func() permissionsv1.PermissionsServiceClient, id string, change signature) bool {
	began := time.Now()
	for {
		attempt, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "remit-request-id", id), patience)
		err := change(attempt, client())
		cancel()
		switch {
		case err == nil:
			c.acknowledged.Add(1)
			c.longest = max(c.longest, time.Since(began))
			return true
		case ctx.Err() != nil:
			c.t.Errorf("clerk %d: a change had no answer until the end: %v", c.number, err)
			return false
		case status.Code(err) != codes.Unavailable:
			c.t.Errorf("clerk %d: %v", c.number, err)
			return false
		}
		switch {
		case saysOutcome(err):
		case strings.Contains(status.Convert(err).Message(), "connection"):
			c.disconnected++
		default:
			c.t.Errorf("clerk %d: an error does not say what became of the change: %v", c.number, err)
		}
		c.again++
	}
}

// work makes changes until told to stop; what is under way then is finished.
func (c *clerk) work(ctx context.Context, client func() permissionsv1.PermissionsServiceClient, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		resource := fmt.Sprintf("/clerk/%d/%d", c.number, c.next)
		held := slices.Sorted(maps.Keys(c.held))
		ok := true
		switch draw := c.rng.IntN(10); {
		case draw < 3 && len(held) > 0:
			resource = held[c.rng.IntN(len(held))]
			ok = c.sign(ctx, client, newRequestID(), c.revoke(resource))
			delete(c.held, resource)
		case draw < 5:
			// The answer is lost, somebody else revokes, the grant comes again.
			c.next++
			id := newRequestID()
			ok = c.sign(ctx, client, id, c.grant(resource)) &&
				c.sign(ctx, client, newRequestID(), c.revoke(resource)) &&
				c.sign(ctx, client, id, c.grant(resource))
			c.held[resource] = false
			c.lost++
		default:
			c.next++
			ok = c.sign(ctx, client, newRequestID(), c.grant(resource))
			c.held[resource] = true
		}
		if !ok {
			return
		}
	}
}

// An office is several clerks at work.
type office struct {
	t       testing.TB
	clerks  []*clerk
	stop    chan struct{}
	running sync.WaitGroup
	cancel  context.CancelFunc
}

// openOffice lets clerks work through the client that they are given for each
// change.
func openOffice(t testing.TB, clerks int, client func() permissionsv1.PermissionsServiceClient) *office {
	t.Helper()
	_, err := client().CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: clerkPermission})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	o := &office{t: t, stop: make(chan struct{}), cancel: cancel}
	for i := range clerks {
		c := &clerk{t: t, number: i, rng: rand.New(rand.NewPCG(uint64(i), 1)), held: map[string]bool{}}
		o.clerks = append(o.clerks, c)
		o.running.Go(func() { c.work(ctx, client, o.stop) })
	}
	t.Cleanup(cancel)
	return o
}

// moreFrom waits until each clerk has made some changes more.
func (o *office) moreFrom(t testing.TB, more int64) {
	t.Helper()
	for _, c := range o.clerks {
		target := c.acknowledged.Load() + more
		eventually(t, "the clerks work", func() bool { return c.acknowledged.Load() >= target })
	}
}

// close lets the clerks finish.
func (o *office) close() {
	o.t.Helper()
	close(o.stop)
	o.running.Wait()
	o.cancel()
	var acknowledged int64
	var again, lost int
	var longest time.Duration
	for _, c := range o.clerks {
		acknowledged, again, lost, longest = acknowledged+c.acknowledged.Load(), again+c.again, lost+c.lost, max(longest, c.longest)
	}
	o.t.Logf("%d changes acknowledged, %d sent again, %d grants that came again after they were revoked; the longest took %s", acknowledged, again, lost, longest)
	if acknowledged == 0 || lost == 0 {
		o.t.Error("too few changes for this test to say something about them")
	}
}

// audit compares what a node has with what must be there.
func (o *office) audit(client permissionsv1.PermissionsServiceClient) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*patience)
	defer cancel()
	for _, c := range o.clerks {
		var resources []string
		for i := range c.next {
			resources = append(resources, fmt.Sprintf("/clerk/%d/%d", c.number, i))
		}
		for some := range slices.Chunk(resources, 500) {
			answer, err := client.Check(ctx, &permissionsv1.CheckPermissionRequest{
				ProjectName: project, PrincipalId: c.principal(), ResourceUris: some, Permissions: []string{clerkPermission},
				Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
			})
			if err != nil {
				o.t.Fatal(err)
			}
			missing := map[string]bool{}
			for _, m := range answer.MissingPermissions {
				missing[m.ResourceUri] = true
			}
			for _, resource := range some {
				if c.held[resource] == missing[resource] {
					o.t.Errorf("%s on %s: held %t, want %t", c.principal(), resource, !missing[resource], c.held[resource])
				}
			}
		}
	}
}

// saysOutcome reports whether an error of a write says what became of it.
func saysOutcome(err error) bool {
	message := status.Convert(err).Message()
	return strings.Contains(message, "the write was not applied: ") || strings.Contains(message, "the outcome of the write is unknown: ")
}
