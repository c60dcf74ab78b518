package server

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// withID adds a request id, of the test's choice, to a context with the key.
func (c caller) withID(t *testing.T, n int) context.Context {
	return withSecret(t.Context(), c.secret, metadataRequestID, fmt.Sprintf("%032x", n))
}

// A write that is repeated under its request id changes nothing, and is answered
// as the first one was, by whichever node and over whichever protocol.
func TestRepetitions(t *testing.T) {
	for method, all := range samples {
		for i, s := range all {
			if has(s.request, "consistency") {
				continue
			}
			f := newFollower(t)
			w := newWorld(f.door(serviceName))
			req, ctx := w.filled(s.request), w.rootCaller().withID(t, i)
			first, err := w.call(ctx, req)
			if err != nil {
				t.Fatalf("%s, %s: %v", method, s.name, err)
			}
			digest := digestOf(f.store.State())
			f.log.taken()
			for _, d := range []*door{w.door, f.leader.door(publishedName), f.door("REST")} {
				again, err := d.call(ctx, req)
				if key := created(first); key != nil {
					id := key.Id
					if o, ok := first.(*organisationv1.CreateOrganisationResponse); ok {
						id = o.Organisation.Id
					}
					wantCode(t, err, codes.AlreadyExists, id, "secret", "was in the answer then", "with a new remit-request-id")
					continue
				}
				if err != nil || !proto.Equal(again, first) {
					t.Errorf("%s, %s: %v, %v\nbefore it was %v", method, s.name, again, err, first)
				}
			}
			if digestOf(f.store.State()) != digest || len(f.log.taken()) != 0 {
				t.Errorf("%s, %s: a repetition did something", method, s.name)
			}
			// The id is the key's own, and good for this request alone.
			_, err = w.call(ctx, with(writes()[0], "description", "another"))
			wantCode(t, err, codes.InvalidArgument, "used for another request", fmt.Sprintf("%032x", i))
			if _, err := w.call(w.operator().withID(t, i), &organisationv1.CreateOrganisationRequest{Name: "another"}); err != nil {
				t.Errorf("another key's request of this id: %v", err)
			}
		}
	}
}

// What names and rights have come to since does not matter to a repetition.
func TestRepetitionsAfterwards(t *testing.T) {
	w := newWorld(newNode(t).ready().localDoor())
	k := w.key(project, fsm.RoleOwner)
	first := map[int]proto.Message{}
	requests := []proto.Message{
		&permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "p", Description: "about"},
		&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "p", NewName: "q"},
		&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "r", Permissions: []string{"q"}},
		&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "r", Name: "s", Permissions: []string{"q"}},
		grantRequest(project, "ben", "/b", []string{"q"}, "s"),
		revokeRequest(project, "ben", "/b", []string{"q"}),
		&permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "absent"},
		&permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "absent"},
		&permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "s"},
		&permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "q"},
	}
	for i, req := range requests {
		answer, err := w.call(k.withID(t, i), req)
		if err != nil {
			t.Fatalf("%T: %v", req, err)
		}
		first[i] = answer
	}
	w.permission("absent")
	w.role("absent")
	owner, _ := w.builtIn().Role(fsm.RoleOwner)
	w.log.put(t, &fsm.Revoke{Scope: w.builtIn().scope(), Principal: k.principal, URI: w.uri(""), Roles: []fsm.ID{owner.ID}})
	for i, req := range requests {
		again, err := w.call(k.withID(t, i), req)
		if err != nil {
			t.Errorf("%T: %v", req, err)
			continue
		}
		// Of a permission that is gone, a role tells the name.
		for _, m := range []proto.Message{again, first[i]} {
			if r, ok := m.(interface {
				GetPermissions() []*permissionsv1.Permission
			}); ok {
				for _, p := range r.GetPermissions() {
					p.Id = ""
				}
			}
		}
		if !proto.Equal(again, first[i]) {
			t.Errorf("%T: %v\nbefore it was %v", req, again, first[i])
		}
	}
	if _, ok := w.view().Permission("absent"); !ok {
		t.Error("a repetition deleted what was created since")
	}
	if _, ok := w.view().Role("absent"); !ok {
		t.Error("a repetition deleted what was created since")
	}
	// Its key has to be valid.
	w.invalidate(project, k)
	_, err := w.call(k.withID(t, 0), requests[0])
	wantCode(t, err, codes.Unauthenticated)
}

// A repetition is answered by what it was: what has become of things since it tells
// only who may still look.
func TestRepetitionsTellNothingNew(t *testing.T) {
	w := newWorld(newNode(t).ready().localDoor())
	k := w.key(project, fsm.RoleOwner)
	do(w.door, w.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "p"})
	role := do(w.door, w.CreateRole, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "r"}).Id
	requests := []proto.Message{
		&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "p", Description: "mine"},
		&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: role, Description: "mine", Permissions: []string{"p"}},
		&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "s", Permissions: []string{"p"}},
	}
	for i, req := range requests {
		if _, err := w.call(k.withID(t, i), req); err != nil {
			t.Fatalf("%T: %v", req, err)
		}
	}
	do(w.door, w.UpdateRole, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: role, Name: "secret"})
	do(w.door, w.UpdatePermission, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "p", NewName: "secret"})
	do(w.door, w.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "p", Description: "secret"})
	tells := func() (secrets int) {
		for i, req := range requests {
			again, err := w.call(k.withID(t, i), req)
			if err != nil {
				t.Errorf("%T: %v", req, err)
			}
			if strings.Contains(fmt.Sprint(again), "secret") {
				secrets++
			}
		}
		return secrets
	}
	if told := tells(); told != len(requests) {
		t.Errorf("an owner is told of %d of %d changes", told, len(requests))
	}
	owner, _ := w.builtIn().Role(fsm.RoleOwner)
	w.log.put(t, &fsm.Revoke{Scope: w.builtIn().scope(), Principal: k.principal, URI: w.uri(""), Roles: []fsm.ID{owner.ID}})
	if told := tells(); told != 0 {
		t.Errorf("who has lost all rights is told of %d changes", told)
	}
}

// A refusal of the log is repeated too. One that did not come that far is judged
// anew.
func TestRepeatedRefusals(t *testing.T) {
	n := newNode(t).ready()
	d := n.localDoor()
	d.sample()
	rename := &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: "soon"}
	n.onceBefore(fsm.KindUpdatePermission, func() {
		n.log.put(t, &fsm.PutPermission{Scope: n.scope(), ID: NewID(), Name: "soon"})
	})
	ctx := withKey(t.Context(), metadataRequestID, fmt.Sprintf("%032x", 1))
	_, err := d.call(ctx, rename)
	wantCode(t, err, codes.AlreadyExists, "soon")
	do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "soon"})
	_, again := d.call(ctx, rename)
	wantCode(t, again, codes.AlreadyExists, "soon")

	ctx = withKey(t.Context(), metadataRequestID, fmt.Sprintf("%032x", 2))
	grant := grantRequest(project, "ben", "/b", []string{"later"})
	_, err = d.call(ctx, grant)
	wantCode(t, err, codes.NotFound, "later")
	d.permission("later")
	if _, err := d.call(ctx, grant); err != nil {
		t.Errorf("after its permission was created: %v", err)
	}
}

// Two attempts of one call may be under way at once: the log tells the second what
// the first came to.
func TestRepetitionInTheLog(t *testing.T) {
	for _, req := range []proto.Message{
		&permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "new", Description: "about"},
		&organisationv1.CreateAPIKeyRequest{ProjectName: project, Name: "new"},
		&organisationv1.CreateOrganisationRequest{Name: "new"},
		grantRequest(project, "ben", "/b", []string{"read"}),
	} {
		n := newNode(t).ready()
		d := n.localDoor()
		d.sample()
		var before [32]byte
		n.log.hook(func(l *memoryLog) {
			l.before = func(context.Context, fsm.Kind) error {
				all := l.commands(t)
				data, err := all[len(all)-1].Encode()
				if err != nil {
					t.Fatal(err)
				}
				l.apply(data)
				before = digestOf(n.store.State())
				return nil
			}
		})
		answer, err := d.call(d.ctx, req)
		if err != nil {
			t.Errorf("%T: %v", req, err)
			continue
		}
		if digestOf(n.store.State()) != before {
			t.Errorf("%T was done twice", req)
		}
		if token, _ := parseToken(answer.(interface{ GetToken() string }).GetToken()); token.revision != n.store.State().Revision-ahead {
			t.Errorf("%T: the token is of revision %d, the state of %d", req, token.revision, n.store.State().Revision)
		}
		if key := created(answer); key != nil {
			if _, err := d.call(withSecret(t.Context(), key.Key), &organisationv1.WhoAmIRequest{}); err != nil {
				t.Errorf("%T: its key: %v", req, err)
			}
		}
	}
}

// What is no part of the request is no part of its content, and everything else
// is.
func TestContent(t *testing.T) {
	of := func(method string, req proto.Message) uint64 { return (&call{method: method, request: req}).content() }
	const create = permissionsv1.PermissionsService_CreatePermission_FullMethodName
	req := &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "a", Description: "b"}
	content := of(create, req)
	if of("/permio.permissions.v1.PermissionsService/CreatePermission", proto.Clone(req)) != content {
		t.Error("the service's other name makes it another request")
	}
	for _, other := range []proto.Message{with(req, "name", "c"), with(req, "description", ""), with(req, "project_name", "x")} {
		if of(create, other) == content {
			t.Errorf("%v is taken for %v", other, req)
		}
	}
	if of(permissionsv1.PermissionsService_GetPermission_FullMethodName, req) == content {
		t.Error("another method is taken for the same request")
	}
}
