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

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// clerkPermission is what clerks grant.
const clerkPermission = "clerk.sign"

// A clerk grants and revokes, one change after the other, on resources of its own,
// and keeps a journal of who came to hold what. A change without an answer it sends
// again with its request id until there is one, so that each is made once and none is
// missing.
type clerk struct {
	t      testing.TB
	number int
	rng    *rand.Rand
	// own and another are clients with the clerk's key and with another's, which it is
	// given for each attempt.
	own, another func() permissionsv1.PermissionsServiceClient
	held         map[string]bool // by resource
	next         int             // resource
	journal      []entry         // of the acknowledged changes

	begun, acknowledged atomic.Int64
	refused             atomic.Int64  // connections, over which nothing was sent
	again               int           // answered with an error, or refused, and sent again
	disconnected        int           // of those, other errors of the connection, which do not say what became of it
	lost                int           // grants whose answer was thrown away, and that were revoked before they came again
	longest             time.Duration // from the sending of a change to its answer
}

// An entry is what one change came to.
type entry struct {
	resource string
	held     bool // after it
}

// A signature is a change of a clerk's: grant or revoke.
type signature struct {
	entry
	call func(context.Context, permissionsv1.PermissionsServiceClient) error
}

func (c *clerk) principal() string { return fmt.Sprintf("clerk:%d", c.number) }

func (c *clerk) resource(i int) string { return fmt.Sprintf("/clerk/%d/%d", c.number, i) }

func (c *clerk) grant(resource string) signature {
	return signature{entry{resource, true}, func(ctx context.Context, client permissionsv1.PermissionsServiceClient) error {
		_, err := client.GrantUserPermissionsAndRolesOnResource(ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: c.principal(), ResourceUri: resource, Permissions: []string{clerkPermission},
		})
		return err
	}}
}

func (c *clerk) revoke(resource string) signature {
	return signature{entry{resource, false}, func(ctx context.Context, client permissionsv1.PermissionsServiceClient) error {
		_, err := client.RevokeUserPermissionsAndRolesOnResource(ctx, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: c.principal(), ResourceUri: resource, Permissions: []string{clerkPermission},
		})
		return err
	}}
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
	c.begun.Add(1)
	began := time.Now()
	for {
		attempt, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "remit-request-id", id), patience)
		err := change.call(attempt, client())
		cancel()
		switch {
		case err == nil:
			c.journal = append(c.journal, change.entry)
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
		switch message := status.Convert(err).Message(); {
		case saysOutcome(err):
		case strings.Contains(message, "connection refused"):
			c.refused.Add(1)
		case strings.Contains(message, "connection"):
			c.disconnected++
		default:
			c.t.Errorf("clerk %d: an error does not say what became of the change: %v", c.number, err)
		}
		c.again++
	}
}

// work makes changes until told to stop; what is under way then is finished.
func (c *clerk) work(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		resource := c.resource(c.next)
		held := slices.Sorted(maps.Keys(c.held))
		ok := true
		switch draw := c.rng.IntN(10); {
		case draw < 3 && len(held) > 0:
			resource = held[c.rng.IntN(len(held))]
			ok = c.sign(ctx, c.own, newRequestID(), c.revoke(resource))
			delete(c.held, resource)
		case draw < 5:
			// The answer is lost, somebody else revokes, the grant comes again.
			c.next++
			id, again := newRequestID(), c.grant(resource)
			again.held = false
			ok = c.sign(ctx, c.own, id, c.grant(resource)) &&
				c.sign(ctx, c.another, newRequestID(), c.revoke(resource)) &&
				c.sign(ctx, c.own, id, again)
			c.lost++
		default:
			c.next++
			ok = c.sign(ctx, c.own, newRequestID(), c.grant(resource))
			c.held[resource] = true
		}
		if !ok {
			return
		}
	}
}

// after is what a clerk's principal held, by resource, after so many of its changes.
func (c *clerk) after(changes int64) map[string]bool {
	held := map[string]bool{}
	for _, e := range c.journal[:changes] {
		if delete(held, e.resource); e.held {
			held[e.resource] = true
		}
	}
	return held
}

// heldAt is what it holds by a node's account.
func (c *clerk) heldAt(ctx context.Context, node permissionsv1.PermissionsServiceClient) map[string]bool {
	c.t.Helper()
	held := map[string]bool{}
	for i := range c.next {
		held[c.resource(i)] = true
	}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(held)), 500) {
		answer, err := node.Check(ctx, &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: c.principal(), ResourceUris: some, Permissions: []string{clerkPermission},
			Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
		})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, m := range answer.MissingPermissions {
			delete(held, m.ResourceUri)
		}
	}
	return held
}

// An office is several clerks at work, and readers who ask what they have come to.
type office struct {
	t       testing.TB
	clerks  []*clerk
	readers []*atomic.Int64 // how many answers each has had
	stop    chan struct{}
	running sync.WaitGroup
	ctx     context.Context // of all calls
	cancel  context.CancelFunc
}

// openOffice lets clerks work at the nodes that they are sent to for each attempt.
func openOffice(t testing.TB, clerks int, at func(clerk int) *fleetNode) *office {
	t.Helper()
	_, err := at(0).client().CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: clerkPermission})
	if err != nil {
		t.Fatal(err)
	}
	another, err := organisationv1.NewOrganisationServiceClient(at(0).dial(rootKey)).CreateAPIKey(t.Context(), &organisationv1.CreateAPIKeyRequest{
		ProjectName: project, Name: "another", Role: "editor",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	o := &office{t: t, stop: make(chan struct{}), ctx: ctx, cancel: cancel}
	t.Cleanup(func() { cancel(); o.running.Wait() })
	for i := range clerks {
		c := &clerk{t: t, number: i, rng: rand.New(rand.NewPCG(uint64(i), 1)), held: map[string]bool{}}
		c.own = func() permissionsv1.PermissionsServiceClient { return at(i).client() }
		c.another = func() permissionsv1.PermissionsServiceClient { return at(i).clientWith(another.ApiKey.Key) }
		o.clerks = append(o.clerks, c)
		o.running.Go(func() { c.work(ctx, o.stop) })
	}
	return o
}

// readAt lets a reader ask a node with full consistency, again and again, for what was
// granted before. It must see no error.
func (o *office) readAt(node *fleetNode) {
	o.t.Helper()
	client := node.client()
	_, err := client.GrantUserPermissionsAndRolesOnResource(o.ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: "reader", ResourceUri: "/readers", Permissions: []string{clerkPermission},
	})
	if err != nil {
		o.t.Fatal(err)
	}
	answers := &atomic.Int64{}
	o.readers = append(o.readers, answers)
	o.running.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-o.stop:
				return
			case <-pace.C:
			}
			ctx, cancel := context.WithTimeout(o.ctx, patience)
			answer, err := client.Check(ctx, &permissionsv1.CheckPermissionRequest{
				ProjectName: project, PrincipalId: "reader", ResourceUris: []string{"/readers"}, Permissions: []string{clerkPermission},
				Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
			})
			cancel()
			switch {
			case o.ctx.Err() != nil:
				return
			case err != nil || !answer.Passed:
				o.t.Errorf("a read at %s: passed %t, %v", node.name, answer.GetPassed(), err)
			}
			answers.Add(1)
		}
	})
}

// moreFrom waits until each clerk has made some changes more, and each reader has had
// as many answers.
func (o *office) moreFrom(t testing.TB, more int64) {
	t.Helper()
	for _, c := range o.clerks {
		target := c.acknowledged.Load() + more
		eventually(t, "the clerks work", func() bool { return c.acknowledged.Load() >= target })
	}
	for _, answers := range o.readers {
		target := answers.Load() + more
		eventually(t, "the readers read", func() bool { return answers.Load() >= target })
	}
}

// acknowledged is how many changes of each clerk have been answered.
func (o *office) acknowledged() (changes []int64) {
	for _, c := range o.clerks {
		changes = append(changes, c.acknowledged.Load())
	}
	return changes
}

// begun is how many changes of each clerk have been sent.
func (o *office) begun() (changes []int64) {
	for _, c := range o.clerks {
		changes = append(changes, c.begun.Load())
	}
	return changes
}

// close lets the clerks and readers finish.
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

// sawNoError fails the test if a clerk had to send a change again.
func (o *office) sawNoError() {
	o.t.Helper()
	for _, c := range o.clerks {
		if c.again > 0 {
			o.t.Errorf("clerk %d saw %d errors", c.number, c.again)
		}
	}
}

// audit compares what a node has with what must be there.
func (o *office) audit(node permissionsv1.PermissionsServiceClient) {
	o.t.Helper()
	o.auditCut(node, o.acknowledged(), o.acknowledged())
}

// auditCut compares a node with a state that the clerks went through. Each makes one
// change after the other, so wherever the log is cut, the node has the first changes
// of each and none of its later ones: at least and at most so many.
func (o *office) auditCut(node permissionsv1.PermissionsServiceClient, least, most []int64) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*patience)
	defer cancel()
	for i, c := range o.clerks {
		there, changes := c.heldAt(ctx, node), least[i]
		for changes < min(most[i], c.acknowledged.Load()) && !maps.Equal(there, c.after(changes)) {
			changes++
		}
		want := c.after(changes)
		for n := range c.next {
			if r := c.resource(n); there[r] != want[r] {
				o.t.Errorf("%s on %s: held %t, want %t after %d to %d changes", c.principal(), r, there[r], want[r], least[i], most[i])
			}
		}
	}
}

// saysOutcome reports whether an error of a write says what became of it.
func saysOutcome(err error) bool {
	message := status.Convert(err).Message()
	return strings.Contains(message, "the write was not applied: ") || strings.Contains(message, "the outcome of the write is unknown: ")
}
