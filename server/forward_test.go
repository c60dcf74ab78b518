package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// everyFollower runs a test over the doors of a follower, each on its own.
func everyFollower(t *testing.T, test func(t *testing.T, f *follower, d *door)) {
	for _, service := range []string{serviceName, publishedName, "REST"} {
		t.Run(service, func(t *testing.T) {
			f := newFollower(t)
			test(t, f, f.door(service))
		})
	}
}

// A follower answers every call: writes by the leader, and reads by itself.
func TestAnyNodeTakesAnyCall(t *testing.T) {
	for _, service := range []string{serviceName, publishedName, "REST", "local"} {
		t.Run(service, func(t *testing.T) {
			for method, all := range samples {
				for _, s := range all {
					f := newFollower(t)
					w := newWorld(f.door(service))
					f.log.taken()
					var header metadata.MD
					answer, err := w.call(w.ctx, w.filled(s.request), grpc.Header(&header))
					if err != nil {
						t.Errorf("%s, %s: %v", method, s.name, err)
						continue
					}
					node, commands := idB, 0
					if !has(s.request, "consistency") {
						node, commands = idA, 1
					}
					if got := len(f.log.taken()); got != commands {
						t.Errorf("%s, %s: %d commands, want %d", method, s.name, got, commands)
					}
					w.wantToken(answer.(interface{ GetToken() string }).GetToken())
					if w.isREST || service == "local" {
						wantStrings(t, method+" names the node", header.Get(metadataNode), node)
						wantStrings(t, method+" says the revision", header.Get(metadataRevision), fmt.Sprint(f.store.State().Revision))
					}
				}
			}
		})
	}
}

// What the leader refuses is told as the leader tells it, and is not asked again.
func TestForwardedRefusals(t *testing.T) {
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		d.sample()
		direct := f.leader.localDoor()
		weak := do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{OrganisationId: d.org(), ProjectName: project, Name: "weak"}).ApiKey.Key
		for _, req := range writes() {
			for name, ctx := range map[string]context.Context{"root": d.ctx, "weak": withSecret(t.Context(), weak)} {
				req := with(req, "project_name", "nope")
				before := f.links.looks()
				_, err := d.call(ctx, req)
				_, want := direct.call(ctx, req)
				if status.Code(err) != status.Code(want) || status.Convert(err).Message() != status.Convert(want).Message() || err == nil {
					t.Errorf("%T by %s: %v, the leader says %v", req, name, err, want)
				}
				if asked := f.links.looks() - before; asked != 1 {
					t.Errorf("%T by %s: the leader was asked %d times", req, name, asked)
				}
			}
		}
		// One as large as a request may be comes to the leader, too.
		large := &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "large", Description: strings.Repeat("x", MaxRequestBytes-1000)}
		d.refuse(t, d.ctx, large, codes.InvalidArgument, "description")
		// Strangers cost the leader nothing but a look at the newest keys.
		before := f.links.looks()
		d.refuse(t, withSecret(t.Context(), "remit_unknown"), writes()[0], codes.Unauthenticated)
		if f.links.looks() != before {
			t.Error("a stranger's call was passed on")
		}
		// A malformed id too.
		d.refuse(t, withKey(t.Context(), metadataRequestID, "short"), writes()[0], codes.InvalidArgument, "remit-request-id")
		if f.links.looks() != before {
			t.Error("a malformed call was passed on")
		}
	})
}

// A command says who asked whom first, under the id that the caller chose.
func TestForwardedEnvelope(t *testing.T) {
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		const id = "00112233445566778899aabbccddeeff"
		if _, err := d.call(withKey(t.Context(), metadataRequestID, id), writes()[0]); err != nil {
			t.Fatal(err)
		}
		peer := "bufconn"
		if d.isREST {
			peer = "192.0.2.1:1234"
		}
		e := f.log.last(t).Envelope
		if hex.EncodeToString(e.Request[:]) != id || e.Peer != peer || e.Key != d.init.Key {
			t.Errorf("envelope %+v", e)
		}
	})
}

// What only nodes may say changes nothing when others say it.
func TestForgedMetadata(t *testing.T) {
	forged := seed{1, 2, 3}
	pairs := []string{
		metadataForwarded, "1", metadataPeer, "6.6.6.6:66", metadataSeed, hex.EncodeToString(forged[:]), metadataOutcome, outcomeNotApplied,
	}
	for _, name := range []string{metadataForwarded, metadataPeer, metadataSeed, metadataRequestID, metadataAuthorization} {
		pairs = append(pairs, "grpc-metadata-"+name, "00112233445566778899aabbccddeeff")
	}
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		for where, d := range map[string]*door{"a follower": d, "the leader": f.leader.door(map[bool]string{true: "REST", false: serviceName}[d.isREST])} {
			d.ctx = withKey(t.Context(), pairs...)
			created := do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{OrganisationId: d.org(), ProjectName: project, Name: "new"})
			c := f.log.last(t)
			if strings.Contains(c.Envelope.Peer, "6.6.6.6") || c.Envelope.Peer == "" {
				t.Errorf("%s: peer %q", where, c.Envelope.Peer)
			}
			if strings.HasPrefix(hex.EncodeToString(c.Envelope.Request[:]), "0011223344") {
				t.Errorf("%s: request id %x", where, c.Envelope.Request[:])
			}
			secret, _ := forged.secret()
			if created.ApiKey.Key == secret || created.ApiKey.Id == forged.id("key").String() {
				t.Errorf("%s: the caller chose what was drawn", where)
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), append(pairs, "grpc-metadata-authorization", "Bearer "+rootKey)...)
			d.refuse(t, ctx, writes()[0], codes.Unauthenticated)
		}
	})
}

// nodeConn is a connection between nodes to a node.
func (n *node) nodeConn(t *testing.T) grpc.ClientConnInterface {
	return (&follower{node: n, leader: n}).dialLeader()
}

// A node that does not lead passes nothing on that was passed on to it, and says
// that it did nothing.
func TestOneHop(t *testing.T) {
	f := newFollower(t)
	conn := f.nodeConn(t)
	pass := func(ctx context.Context, method string, pairs ...string) (string, error) {
		var trailer metadata.MD
		ctx = metadata.AppendToOutgoingContext(ctx, append([]string{metadataForwarded, "1"}, pairs...)...)
		err := conn.Invoke(ctx, method, writes()[0], &permissionsv1.CreatePermissionResponse{}, grpc.Trailer(&trailer))
		return strings.Join(trailer.Get(metadataOutcome), ","), err
	}
	const create = permissionsv1.PermissionsService_CreatePermission_FullMethodName
	drawn := hex.EncodeToString(make([]byte, len(seed{})))
	before := f.links.looks()
	outcome, err := pass(withKey(t.Context()), create, metadataSeed, drawn)
	if status.Code(err) != codes.Unavailable || outcome != outcomeNotApplied {
		t.Errorf("%v, outcome %q", err, outcome)
	}
	if asked := f.links.looks() - before; asked != 1 || len(f.log.commands(t)) != 0 {
		t.Errorf("it asked for the leader %d times", asked)
	}
	// It is judged as if it came there first.
	conn = f.leader.nodeConn(t)
	for name, test := range map[string]struct {
		ctx    context.Context
		method string
		seed   string
		code   codes.Code
	}{
		"good":                     {withKey(t.Context()), create, drawn, codes.OK},
		"no key":                   {t.Context(), create, drawn, codes.Unauthenticated},
		"an unknown key":           {withSecret(t.Context(), "remit_x"), create, drawn, codes.Unauthenticated},
		"no seed":                  {withKey(t.Context()), create, "", codes.InvalidArgument},
		"half a seed":              {withKey(t.Context()), create, drawn[:32], codes.InvalidArgument},
		"a read":                   {withKey(t.Context()), permissionsv1.PermissionsService_GetPermission_FullMethodName, drawn, codes.PermissionDenied},
		"a malformed id":           {withKey(t.Context(), metadataRequestID, "x"), create, drawn, codes.InvalidArgument},
		"two request ids":          {withKey(t.Context(), metadataRequestID, drawn[:32], metadataRequestID, drawn[:32]), create, drawn, codes.InvalidArgument},
		"a call that needs no key": {t.Context(), "/grpc.health.v1.Health/Check", drawn, codes.PermissionDenied},
	} {
		outcome, err := pass(test.ctx, test.method, metadataSeed, test.seed)
		want := outcomeRefused
		if test.code == codes.OK {
			want = outcomeAnswered
		}
		if status.Code(err) != test.code || outcome != want {
			t.Errorf("%s: %v, outcome %q", name, err, outcome)
		}
	}
	// What a node asks of its own accord is passed on, and needs a key.
	conn = f.nodeConn(t)
	err = conn.Invoke(withSecret(t.Context(), "remit_x"), create, writes()[0], &permissionsv1.CreatePermissionResponse{})
	wantCode(t, err, codes.Unauthenticated)
	if err := conn.Invoke(withKey(t.Context()), create, writes()[0], &permissionsv1.CreatePermissionResponse{}); err != nil {
		t.Error(err)
	}
}

// A losingConn loses what comes back, after the call was made, for some times.
type losingConn struct {
	grpc.ClientConnInterface
	losses atomic.Int32
	then   func()
}

func (c *losingConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if c.losses.Add(-1) < 0 {
		return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	}
	var reached []grpc.CallOption // which tells that the call was sent
	for _, o := range opts {
		if o, ok := o.(grpc.PeerCallOption); ok {
			reached = append(reached, o)
		}
	}
	_ = c.ClientConnInterface.Invoke(ctx, method, args, proto.Clone(reply.(proto.Message)), reached...)
	if c.then != nil {
		c.then()
	}
	return status.Error(codes.Unavailable, "the connection was closed")
}

func (f *follower) losing(n int32, then func()) {
	c := &losingConn{ClientConnInterface: f.links.conn, then: then}
	c.losses.Store(n)
	f.links.follow(c)
}

// A lost answer is asked for again, and the write is done once: what another did
// in between stays.
func TestLostAnswers(t *testing.T) {
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		d.sample()
		other := f.leader.localDoor()
		grant := grantRequest(project, "ben", "/b", []string{"read"})
		revoke := func() {
			do(other, other.RevokeUserPermissionsAndRolesOnResource, revokeRequest(project, "ben", "/b", []string{"read"}))
		}
		f.losing(2, revoke)
		if _, err := d.call(d.ctx, grant); err != nil {
			t.Fatal(err)
		}
		if d.allowed("ben", "/b", "read") {
			t.Error("the second attempt granted again what had been revoked")
		}

		// The secret of a key is that of the attempt that created it.
		f.losing(2, nil)
		created := do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{OrganisationId: d.org(), ProjectName: project, Name: "once"})
		if _, err := d.call(withSecret(t.Context(), created.ApiKey.Key), reads()[7]); err != nil {
			t.Errorf("the new key: %v", err)
		}
		f.losing(1, nil)
		organisation := do(d, d.CreateOrganisation, &organisationv1.CreateOrganisationRequest{Name: "once"})
		if _, err := d.call(withSecret(t.Context(), organisation.ApiKey.Key), &organisationv1.WhoAmIRequest{}); err != nil {
			t.Errorf("the new owner's key: %v", err)
		}
		count := 0
		for _, k := range do(d, d.ListAPIKeys, &organisationv1.ListAPIKeysRequest{OrganisationId: d.org(), ProjectName: project}).ApiKeys {
			if k.Name == "once" {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%d keys were created", count)
		}
		// A call that ends its own key is not told that the key is wrong.
		own := do(d, d.CreateAPIKey, keyRequest(d.org(), project)).ApiKey
		f.leader.log.put(t, &fsm.Grant{Scope: f.builtIn().scope(), Principal: "key:" + own.Id, URI: fsm.ManagementURI(f.init.Organisation),
			Permissions: []fsm.ID{must(f.builtIn().Permission("apiKeys.invalidate")).ID}})
		f.losing(1, nil)
		_, err := d.call(withSecret(t.Context(), own.Key), invalidateRequest(d.org(), project, own.Id))
		wantCode(t, err, codes.Unavailable, "unknown", "then it is refused now: ", "not valid")
	})
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("it is not there")
	}
	return v
}

// A caller whose write may or may not have been done is told, with what to repeat
// it by, and the repetition is answered as the first would have been.
func TestUnknownOutcomes(t *testing.T) {
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		d.sample()
		conn := f.links.conn
		f.losing(1, func() { f.links.follow(nil) })
		ctx, cancel := context.WithTimeout(d.ctx, 2*time.Second)
		defer cancel()
		grant := grantRequest(project, "ben", "/b", []string{"read"})
		_, err := d.call(ctx, grant)
		id := hex.EncodeToString(f.log.last(t).Envelope.Request[:])
		wantCode(t, err, codes.Unavailable, "the outcome of the write is unknown", "there is no leader", "repeat it with remit-request-id "+id)
		f.links.follow(conn)
		d.revoke("ben", "/b", []string{"read"}, nil)
		if _, err := d.call(withKey(t.Context(), metadataRequestID, id), grant); err != nil {
			t.Error(err)
		}
		if d.allowed("ben", "/b", "read") {
			t.Error("the repetition granted again what had been revoked")
		}
	})
}

// A refusal that is not in the log says nothing of an attempt before it, which may
// be applied yet.
func TestRefusedAfterAnUnknownOutcome(t *testing.T) {
	for _, service := range []string{serviceName, "REST"} {
		f := newFollower(t)
		for _, d := range []*door{f.door(service), f.leader.door(service)} {
			d.permission("mine")
			f.log.hook(func(l *memoryLog) {
				tried := false
				l.before = func(context.Context, fsm.Kind) error {
					if tried {
						return nil
					}
					tried = true
					// Meanwhile another takes the name, and will give it up again.
					f.log.put(t, &fsm.PutPermission{Scope: f.scope(), ID: NewID(), Name: "taken"})
					return errUnknown
				}
			})
			_, err := d.call(d.ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "mine", NewName: "taken"})
			wantCode(t, err, codes.Unavailable, "the outcome of the write is unknown: "+errUnknown.Error()+"; then it is refused now: ", "taken")
			f.log.hook(func(l *memoryLog) { l.before = nil })
			do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "taken"})
			do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "mine"})
		}
	}
}

// At the first level nothing is remembered, so only what certainly did nothing is
// repeated.
func TestForwardingAtLevelOne(t *testing.T) {
	f := newFollowerAt(t, 1)
	d := f.localDoor()
	d.sample()
	f.losing(1, nil)
	before := f.links.looks()
	_, err := d.call(d.ctx, grantRequest(project, "ben", "/b", []string{"read"}))
	wantCode(t, err, codes.Unavailable, "the outcome of the write is unknown", "the connection was closed", "read before you repeat it")
	if asked := f.links.looks() - before; asked != 1 {
		t.Errorf("the leader was asked %d times", asked)
	}
	// The leader's disk may be slow: it says so itself.
	for _, certain := range []bool{true, false} {
		fail := errUnknown
		if certain {
			fail = fmt.Errorf("%w: too busy", ErrNotApplied)
		}
		f.log.hook(func(l *memoryLog) { l.before = failing(1, fail) })
		_, err := d.call(d.ctx, grantRequest(project, "ben", "/c", []string{"read"}))
		if certain && err != nil {
			t.Errorf("it was not tried again: %v", err)
		}
		if !certain {
			wantCode(t, err, codes.Unavailable, "unknown", errUnknown.Error())
		}
	}
	// What could not be sent was not done.
	conn := f.links.conn.(*losingConn).ClientConnInterface.(*grpc.ClientConn)
	f.atNode.Stop()
	await(t, "the connection is known to be gone", func() bool { return conn.GetState() != connectivity.Ready })
	ctx, cancel := context.WithTimeout(d.ctx, 3*retryDelay)
	defer cancel()
	_, err = d.call(ctx, grantRequest(project, "ben", "/d", []string{"read"}))
	wantCode(t, err, codes.Unavailable, "was not applied", "retry")
}

// A leader that has no room takes no write: that is the answer, unless an earlier
// attempt may have been applied.
func TestExhaustedLog(t *testing.T) {
	full := fmt.Errorf("%w: the disk is low", ErrExhausted)
	for level, then := range map[uint32]string{
		1: "; read before you repeat it",
		2: "; then the log takes no writes: the disk is low; repeat it with ",
	} {
		f := newFollowerAt(t, level)
		for _, d := range []*door{f.door(serviceName), f.door("REST"), f.leader.door(serviceName)} {
			f.log.taken()
			f.log.hook(func(l *memoryLog) { l.before = failing(1<<30, full) })
			d.refuse(t, d.ctx, writes()[0], codes.ResourceExhausted, "the write was not applied: the log takes no writes: the disk is low")
			if attempts := len(f.log.taken()); attempts != 1 {
				t.Errorf("%d attempts", attempts)
			}
			first := true
			f.log.hook(func(l *memoryLog) {
				l.before = func(context.Context, fsm.Kind) error {
					if first {
						first = false
						return errUnknown
					}
					return full
				}
			})
			d.refuse(t, d.ctx, writes()[0], codes.Unavailable, "the outcome of the write is unknown: "+errUnknown.Error()+then)
		}
	}
}
