package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/index"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permioorganisationv1 "github.com/remit-io/remit/proto/permio/organisation/v1"
	permiov1 "github.com/remit-io/remit/proto/permio/permissions/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// lines are the rights of a call, a line each, without the organisation's id.
func (n *node) lines(requires []fsm.Requirement) (all []string) {
	for _, r := range requires {
		for _, suffix := range r.Suffixes {
			all = append(all, r.Permission+" "+strings.Replace(r.Prefix+suffix, n.init.Organisation.String(), "{org}", 1))
		}
	}
	return all
}

// authorize judges a call with the root key.
func (n *node) authorize(method string, req proto.Message) ([]fsm.Requirement, error) {
	c, err := callWith(n.init.KeyHash, n.store.State())
	if err != nil {
		n.t.Fatal(err)
	}
	c.method, c.request = method, req
	return c.authorize()
}

// Every method of the service has a row, under both names, and every row is a
// method's; no row asks its request for what it does not have.
func TestRightsTable(t *testing.T) {
	n := newNode(t)
	rows := 0
	for _, desc := range []grpc.ServiceDesc{
		permissionsv1.PermissionsService_ServiceDesc, permiov1.PermissionsService_ServiceDesc,
		organisationv1.OrganisationService_ServiceDesc, permioorganisationv1.OrganisationService_ServiceDesc,
	} {
		if len(desc.Streams) > 0 {
			t.Errorf("%s has streams, which translators cannot call", desc.ServiceName)
		}
		for _, m := range desc.Methods {
			full := "/" + desc.ServiceName + "/" + m.MethodName
			if _, ok := rules[methodOf(full)]; !ok {
				t.Errorf("%s has no row", full)
			}
			rows++
		}
	}
	operations := len(clusterv1.ClusterService_ServiceDesc.Methods) + len(clusterv1.ClusterService_ServiceDesc.Streams)
	if rows/2+operations != len(rules) {
		t.Errorf("%d methods and %d of operators, %d rows", rows/2, operations, len(rules))
	}
	for _, req := range everyRequest() {
		full := "/" + serviceName + "/" + string(methodFor(req).Name())
		empty := req.ProtoReflect().New().Interface()
		none := req.ProtoReflect().Type().Zero().Interface() // a nil pointer
		for _, req := range []proto.Message{req, empty, none} {
			if _, err := n.authorize(full, req); err != nil {
				t.Errorf("%s: %v", full, err)
			}
		}
	}
}

// TestRequires compares what the calls need with the API's table.
func TestRequires(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		read := d.permission("read")
		write := d.permission("write")
		viewer := d.role("viewer", "read")
		odd := d.role("a/b*", "read")
		list := func(s ...string) []string { return s }
		assign := func(user, uri string, permissions, roles []string) proto.Message {
			return &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
			}
		}
		revoke := func(uri string) proto.Message {
			return &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: "anna", ResourceUri: uri, Permissions: list(read), Roles: list("viewer"),
			}
		}
		get := func(uri string) proto.Message {
			return &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: uri}
		}
		const org = "/organisation/{org}"
		for _, test := range []struct {
			req  proto.Message
			want []string
		}{
			{&permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "read"}, list("permission.create " + org)},
			{&permissionsv1.GetPermissionRequest{ProjectName: project, Name: "read"}, list("permission.get " + org + "/permission/read")},
			{&permissionsv1.GetPermissionRequest{ProjectName: project, Name: read}, list("permission.get " + org + "/permission/read")},
			{&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read"}, list("permission.update " + org + "/permission/read")},
			{&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: read}, list("permission.update " + org + "/permission/read")},
			{&permissionsv1.ListPermissionsRequest{ProjectName: project}, list("permission.list " + org)},
			{&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "new"}, list("role.create " + org)},
			{&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "viewer", Permissions: list("read")}, list(
				"role.create "+org, "permission.get "+org+"/permission/read", "role.update "+org+"/role/"+viewer)},
			{&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: "read"}, list("permission.update " + org + "/permission/read")},
			{&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: odd, Name: "b/*"}, list(
				"role.update "+org+"/role/"+odd, "role.update "+org+"/role/b%2F%2A")},
			{&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: odd, Name: "a/b*"}, list(
				"role.update "+org+"/role/"+odd, "role.update "+org+"/role/a%2Fb%2A")},
			{&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "newer", Permissions: list(write, "read")},
				list("role.create "+org, "permission.get "+org+"/permission/write", "permission.get "+org+"/permission/read")},
			{&permissionsv1.GetRoleRequest{ProjectName: project, Id: viewer}, list("role.get " + org + "/role/" + viewer)},
			{&permissionsv1.GetRoleRequest{ProjectName: project, Id: "viewer"}, list("role.get " + org + "/role/" + viewer)},
			{&permissionsv1.GetRoleRequest{ProjectName: project, Id: "a/b*"}, list("role.get " + org + "/role/" + odd)},
			{&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Permissions: list("read")}, list("role.update " + org + "/role/" + viewer)},
			{&permissionsv1.ListRolesRequest{ProjectName: project}, list("role.list " + org)},
			{assign("anna", "/a", list(read, "write"), list("viewer", odd)), list(
				"permission.get "+org+"/permission/read", "permission.get "+org+"/permission/write",
				"role.get "+org+"/role/"+viewer, "role.get "+org+"/role/"+odd,
				"principal.assignment.create "+org+"/principal/anna")},
			{assign("user:default/guest", "/a", nil, list("a/b*")), list(
				"role.get "+org+"/role/"+odd, "principal.assignment.create "+org+"/principal/user:default%2Fguest")},
			{revoke("/a/b"), list("principal.assignment.delete " + org + "/project/production/resource/a/b")},
			{revoke("/a/b/"), list("principal.assignment.delete " + org + "/project/production/resource/a/b")},
			{revoke("/a/*"), list("principal.assignment.delete " + org + "/project/production/resource/a/*")},
			{revoke("/"), list("principal.assignment.delete " + org + "/project/production/resource")},
			{get("/a/b%2Fc"), list("principal.assignment.get " + org + "/project/production/resource/a/b%2Fc")},
			{get("/"), list("principal.assignment.get " + org + "/project/production/resource")},
			{&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: write, NewName: "change"}, list(
				"permission.update "+org+"/permission/write", "permission.update "+org+"/permission/change")},
			{&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: write, NewName: "write"}, list(
				"permission.update "+org+"/permission/change", "permission.update "+org+"/permission/write")},
			{&permissionsv1.ListPrincipalsRequest{ProjectName: project}, list("principal.list " + org)},
			{&permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: "user:default/guest"},
				list("principal.assignment.list " + org + "/principal/user:default%2Fguest")},
			{reads()[7], nil},
			{&permissionsv1.DeletePermissionRequest{ProjectName: project, Name: write}, list("permission.delete " + org + "/permission/write")},
			{&permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "read"}, list("permission.delete " + org + "/permission/read")},
			{&permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "viewer"}, list("role.delete " + org + "/role/" + viewer)},
			{&permissionsv1.DeleteRoleRequest{ProjectName: project, Id: odd}, list("role.delete " + org + "/role/" + odd)},
		} {
			requires, err := d.authorize(d.path(test.req), test.req)
			if err != nil {
				t.Errorf("%T: %v", test.req, err)
			}
			wantStrings(t, string(methodFor(test.req).Name()), d.lines(requires), test.want...)

			commands := len(d.log.commands(t))
			if _, err := d.call(d.ctx, test.req); err != nil {
				t.Errorf("%T: %v", test.req, err)
			}
			if len(d.log.commands(t)) > commands {
				wantStrings(t, "the command of "+string(methodFor(test.req).Name()), d.lines(d.log.last(t).Envelope.Requires), test.want...)
			}
		}
	})
}

// A variable is one segment of a management URI, whatever is in it.
func TestRequiresEscape(t *testing.T) {
	n := newNode(t)
	for value, want := range map[string]string{
		"a": "a", "a/b": "a%2Fb", "/": "%2F", "%": "%25", "%2F": "%252F", "*": "%2A", "a*": "a%2A", ".": "%2E", "..": "%2E%2E", "...": "...", "a.b": "a.b",
		"é ?#": "é ?#", "../..": "..%2F..", "%2E": "%252E",
	} {
		for path, req := range map[string]proto.Message{
			"/permission/": &permissionsv1.GetPermissionRequest{ProjectName: project, Name: value},
			"/role/":       &permissionsv1.UpdateRoleRequest{ProjectName: project, Name: value},
			"/principal/":  &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: value},
			"/project/":    &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: value, UserId: "anna", ResourceUri: "/"},
		} {
			requires, err := n.authorize("/"+serviceName+"/"+string(methodFor(req).Name()), req)
			if err != nil {
				t.Fatal(err)
			}
			uri := path + want
			if path == "/project/" {
				uri += "/resource"
			}
			last := requires[len(requires)-1] // of a role, the right on its new name
			wantStrings(t, path, last.Suffixes, uri)
			full := last.Prefix + last.Suffixes[0]
			if canonical, err := index.ParseURI(full); err != nil || canonical != full {
				t.Errorf("%q makes %q, which is %q, %v", value, full, canonical, err)
			}
		}
	}
}

// A call with too many names is refused before anything is done for each.
func TestRequiresAreBounded(t *testing.T) {
	d := newNode(t).ready().localDoor()
	names := slices.Repeat([]string{"nope"}, 2*fsm.MaxCallRights)
	for _, req := range []proto.Message{with(writes()[3], "permissions", names), with(with(writes()[6], "permissions", names), "roles", names)} {
		requires, err := d.authorize("/"+serviceName+"/"+string(methodFor(req).Name()), req)
		if err != nil {
			t.Error(err)
		}
		for _, r := range requires {
			if len(r.Suffixes) > fsm.MaxCallRights {
				t.Errorf("%T: %s on %d resources", req, r.Permission, len(r.Suffixes))
			}
		}
		d.refuse(t, d.ctx, req, codes.InvalidArgument, "2000 permissions", "1000 at most")
	}
}

// An envelope says who asked, from where, when and under which id.
func TestEnvelope(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		before := time.Now().UnixMilli()
		d.sample()
		peer := "bufconn"
		if d.isREST {
			peer = "192.0.2.1:1234" // of httptest
		}
		seen := map[fsm.ID]bool{}
		for _, c := range d.log.commands(t) {
			e := c.Envelope
			if e.Key != d.init.Key || e.Actor != "key:"+d.init.Key.String() || e.Peer != peer {
				t.Errorf("envelope %+v", e)
			}
			if e.Time < before || e.Time > time.Now().UnixMilli() {
				t.Errorf("time %d", e.Time)
			}
			if seen[e.Request] {
				t.Errorf("request id %v came twice", e.Request)
			}
			seen[e.Request] = true
		}
		for i, req := range writes() {
			id := fmt.Sprintf("00112233445566778899aabbccddee%XF", i)
			if _, err := d.call(withKey(t.Context(), metadataRequestID, id), req); err != nil {
				t.Errorf("%T: %v", req, err)
			}
			if got := d.log.last(t).Envelope.Request; got.String() != fmt.Sprintf("00112233-4455-6677-8899-aabbccddee%xf", i) {
				t.Errorf("%T: request id %v", req, got)
			}
		}
	})
}

// A hookedStore lets something happen after the state was looked at for a number
// of times.
type hookedStore struct {
	Store
	looks int
	then  func()
}

func (s *hookedStore) State() *fsm.State {
	state := s.Store.State()
	if s.looks--; s.looks == 0 {
		s.then()
	}
	return state
}

// What a call was authorized for is what its command does, even if a name comes
// to mean something else while it runs.
func TestNamesAreResolvedOnce(t *testing.T) {
	requests := writes()[1:] // the first creates
	requests = append(requests, with(with(requests[5], "permissions", []string{}), "roles", []string{"viewer"}))
	for _, req := range requests {
		n := newNode(t).ready()
		d := n.localDoor()
		d.sample()
		if has(req, "new_name") || methodFor(req).Name() == "DeletePermission" {
			req = with(req, "name", "read")
		}
		read, _ := n.view().Permission("read")
		viewer, _ := n.view().Role("viewer")
		// It is judged at the state of the third look; the first finds the key, the
		// second the level.
		n.server.store = &hookedStore{n.store, 3, func() {
			n.log.put(t, &fsm.UpdatePermission{Scope: n.scope(), ID: read.ID, Name: "old.read"})
			n.log.put(t, &fsm.PutPermission{Scope: n.scope(), ID: NewID(), Name: "read"})
			n.log.put(t, &fsm.UpdateRole{Scope: n.scope(), ID: viewer.ID, Name: "old viewer"})
			n.log.put(t, &fsm.PutRole{Scope: n.scope(), ID: NewID(), Name: "viewer"})
		}}
		if _, err := d.call(d.ctx, req); err != nil {
			t.Fatalf("%T: %v", req, err)
		}
		var ids []fsm.ID
		switch b := n.log.last(t).Body.(type) {
		case *fsm.UpdatePermission:
			ids = []fsm.ID{b.ID}
		case *fsm.DeletePermission:
			ids = []fsm.ID{b.ID}
		case *fsm.PutRole:
			ids = b.Permissions
		case *fsm.UpdateRole:
			ids = append(b.Permissions, b.ID)
		case *fsm.DeleteRole:
			ids = []fsm.ID{b.ID}
		case *fsm.Grant:
			ids = append(b.Permissions, b.Roles...)
		case *fsm.Revoke:
			ids = b.Permissions
		}
		if len(ids) == 0 || slices.ContainsFunc(ids, func(id fsm.ID) bool { return id != read.ID && id != viewer.ID }) {
			t.Errorf("%T: the command is about %v, the call was authorized for %v or %v", req, ids, read.ID, viewer.ID)
		}
	}
}
