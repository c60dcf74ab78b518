package server

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// Ids of another project or organisation are as good as ids of nothing, for those
// too who may do everything in both.
func TestIDsOfOthers(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.twin()
		inSibling := do(w.door, w.CreateRole, &permissionsv1.CreateRoleRequest{ProjectName: sibling, Name: "viewer"}).Id
		readInSibling := do(w.door, w.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: sibling, Name: "look"}).Id
		foreign := w.as(w.stranger)
		inForeign := do(foreign, foreign.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: "viewer"}).Id
		readInForeign := do(foreign, foreign.GetPermission, &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "read"}).Id
		k := w.key(project, fsm.RoleOwner)
		for _, c := range []caller{w.rootCaller(), w.key(fsm.BuiltInProject, fsm.RoleOwner), k} {
			for _, role := range []string{inSibling, inForeign, someID} {
				for _, req := range []proto.Message{
					&permissionsv1.GetRoleRequest{ProjectName: project, Id: role},
					&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: role, Permissions: []string{"read"}},
					grantRequest(project, "anna", "/a", nil, role),
					revokeRequest(project, "anna", "/a", nil, role),
				} {
					w.refuseExactly(t, c.ctx, req, codes.NotFound, fmt.Sprintf("role %q does not exist in project %q: create it first", role, project))
				}
				w.unchanged(t, c, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: role})
			}
			for _, permission := range []string{readInSibling, readInForeign, someID} {
				for _, req := range []proto.Message{
					&permissionsv1.GetPermissionRequest{ProjectName: project, Name: permission},
					&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: permission, NewName: "mine"},
					&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "new", Permissions: []string{permission}},
					&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Permissions: []string{permission}},
					grantRequest(project, "anna", "/a", []string{permission}),
					revokeRequest(project, "anna", "/a", []string{permission}),
				} {
					w.refuseExactly(t, c.ctx, req, codes.NotFound, fmt.Sprintf("permission %q does not exist in project %q: create it first", permission, project))
				}
				w.unchanged(t, c, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: permission})
				if w.as(c).allowed("anna", "/a", permission) {
					t.Errorf("a permission %s of others is held", permission)
				}
			}
			for _, id := range []string{w.key(sibling, "").id.String(), w.init.Key.String(), w.stranger.id.String(), someID} {
				w.refuseExactly(t, c.ctx, invalidateRequest(w.org(), project, id), codes.NotFound, fmt.Sprintf("key %s does not exist in project %q", id, project))
			}
			w.refuse(t, c.ctx, grantRequest(project, w.stranger.principal, "/a", []string{"read"}), codes.NotFound, "is no key of the organisation")
		}
		// A role of the built-in project is given by its name or id there, no other.
		for _, role := range []string{inSibling, "nope", w.fill.Replace("{viewer}")} {
			w.refuse(t, w.ctx, &organisationv1.CreateAPIKeyRequest{OrganisationId: w.org(), ProjectName: project, Name: "x", Role: role}, codes.NotFound, role)
		}
		if _, err := w.call(w.stranger.ctx, &organisationv1.WhoAmIRequest{}); err != nil {
			t.Errorf("the foreign owner's key: %v", err)
		}
	})
}

// unchanged makes a call that succeeds and changes nothing.
func (w *world) unchanged(t *testing.T, c caller, req proto.Message) {
	t.Helper()
	before := digestOf(w.store.State())
	if _, err := w.call(c.ctx, req); err != nil {
		t.Errorf("%T: %v", req, err)
	}
	if digestOf(w.store.State()) != before {
		t.Errorf("%T changed the state", req)
	}
}

// A list is a call whose answer has more pages.
type list struct {
	name    string
	c       caller
	request func(p *paginationv1.PaginationRequest) proto.Message
}

// A cursor is good where it came from and nowhere else: not in another project,
// organisation, key's or other call's list.
func TestCursorsOfOthers(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.twin()
		lists := w.lists()
		limit := int32(1)
		cursors := make([]string, len(lists))
		for i, l := range lists {
			answer, err := w.call(l.c.ctx, l.request(&paginationv1.PaginationRequest{Limit: &limit}))
			if err != nil {
				t.Fatalf("%s: %v", l.name, err)
			}
			cursors[i] = answer.(interface {
				GetPagination() *paginationv1.PaginationResponse
			}).GetPagination().GetNextCursor()
			if cursors[i] == "" {
				t.Fatalf("%s: one page only", l.name)
			}
		}
		for i, l := range lists {
			for j, cursor := range cursors {
				req := l.request(&paginationv1.PaginationRequest{Limit: &limit, Cursor: &cursor})
				if i == j {
					if _, err := w.call(l.c.ctx, req); err != nil {
						t.Errorf("%s with its own cursor: %v", l.name, err)
					}
					continue
				}
				w.refuseExactly(t, l.c.ctx, req, codes.InvalidArgument,
					fmt.Sprintf("invalid cursor %q: send next_cursor of the last answer unchanged, with the same project and search, or none to start over", cursor))
			}
		}
		// To have a cursor is not to have the right: it is asked for first.
		nobody := w.key(fsm.BuiltInProject, "")
		for i, l := range lists {
			req := l.request(&paginationv1.PaginationRequest{Limit: &limit, Cursor: &cursors[i]})
			if _, err := w.call(nobody.ctx, req); l.name != "whoami of root" && l.name != "whoami" {
				wantCode(t, err, codes.PermissionDenied)
			}
		}
	})
}

// lists are lists of two pages at least, no two of them the same.
func (w *world) lists() []list {
	root, k := w.rootCaller(), w.keyHolding(fsm.BuiltInProject, w.uri("/a"), "role.get")
	w.give(k, w.uri("/b"), "role.get")
	w.give(root, w.uri("/a"), "role.get")
	owner := w.key(project, fsm.RoleOwner)
	add := func(c caller, of string) {
		d := w.as(c)
		for _, name := range []string{"k1", "k2"} {
			do(d, d.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: of, Name: name})
			do(d, d.CreateRole, &permissionsv1.CreateRoleRequest{ProjectName: of, Name: name})
			do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(of, name, "/a", []string{name}))
			do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(of, "anna", "/"+name, []string{name}))
		}
	}
	add(root, project)
	add(root, sibling)
	add(w.stranger, project)
	var all []list
	for _, in := range []struct {
		c            caller
		organisation string
		of           string
	}{{root, w.org(), project}, {root, w.org(), sibling}, {w.stranger, w.foreign, project}, {root, w.org(), fsm.BuiltInProject}} {
		for range 2 {
			do(w.as(in.c), w.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{OrganisationId: in.organisation, ProjectName: in.of, Name: "k"})
		}
		all = append(all,
			list{"permissions", in.c, func(p *paginationv1.PaginationRequest) proto.Message {
				return &permissionsv1.ListPermissionsRequest{ProjectName: in.of, Pagination: p}
			}},
			list{"roles", in.c, func(p *paginationv1.PaginationRequest) proto.Message {
				return &permissionsv1.ListRolesRequest{ProjectName: in.of, Pagination: p}
			}},
			list{"keys", in.c, func(p *paginationv1.PaginationRequest) proto.Message {
				return &organisationv1.ListAPIKeysRequest{OrganisationId: in.organisation, ProjectName: in.of, Pagination: p}
			}})
		if in.of == fsm.BuiltInProject {
			continue
		}
		all = append(all,
			list{"principals", in.c, func(p *paginationv1.PaginationRequest) proto.Message {
				return &permissionsv1.ListPrincipalsRequest{ProjectName: in.of, Pagination: p}
			}},
			list{"assignments", in.c, func(p *paginationv1.PaginationRequest) proto.Message {
				return &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: in.of, PrincipalId: "anna", Pagination: p}
			}})
	}
	projects := func(c caller, organisation string) list {
		return list{"projects", c, func(p *paginationv1.PaginationRequest) proto.Message {
			return &organisationv1.GetProjectsForOrganisationRequest{OrganisationId: organisation, Pagination: p}
		}}
	}
	anywhere := func(c caller) list {
		return list{"assignments anywhere", c, func(p *paginationv1.PaginationRequest) proto.Message {
			return &permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: "anna", Pagination: p}
		}}
	}
	self := func(name string, c caller) list {
		return list{name, c, func(p *paginationv1.PaginationRequest) proto.Message {
			return &organisationv1.WhoAmIRequest{Pagination: p}
		}}
	}
	return append(all,
		projects(root, w.org()), projects(w.stranger, w.foreign), anywhere(root), anywhere(owner), anywhere(w.stranger),
		self("whoami of root", root), self("whoami", k),
		list{"organisations", root, func(p *paginationv1.PaginationRequest) proto.Message {
			return &organisationv1.ListOrganisationsRequest{Pagination: p}
		}})
}

// Cursors and tokens of another cluster are refused, whatever else is the same.
func TestCursorsAndTokensOfAnotherCluster(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		other := newNode(t).run().localDoor()
		other.sample()
		limit := int32(1)
		answer := do(other, other.ListPermissions, &permissionsv1.ListPermissionsRequest{
			ProjectName: project, Pagination: &paginationv1.PaginationRequest{Limit: &limit}})
		cursor := answer.Pagination.NextCursor
		d.refuse(t, d.ctx, &permissionsv1.ListPermissionsRequest{ProjectName: project, Pagination: &paginationv1.PaginationRequest{Cursor: &cursor}},
			codes.InvalidArgument, "invalid cursor")
		for m := range methods() {
			req := newRequest(m)
			if !has(req, "consistency") {
				continue
			}
			for _, f := range []string{"project_name", "organisation_id"} {
				if has(req, f) {
					req = with(req, f, map[string]string{"project_name": project, "organisation_id": d.org()}[f])
				}
			}
			for _, f := range []string{"id", "name", "user_id", "principal_id", "resource_uri"} {
				if has(req, f) && !strings.HasPrefix(string(m.Name()), "List") {
					req = with(req, f, map[string]string{"id": d.org(), "name": "read", "user_id": "anna", "principal_id": "anna", "resource_uri": "/a"}[f])
				}
			}
			d.refuse(t, d.ctx, with(req, "token", answer.Token), codes.InvalidArgument, "is of another cluster")
			d.refuse(t, withKey(t.Context(), metadataToken, answer.Token), req, codes.InvalidArgument, "is of another cluster")
		}
	})
}

// A token shows no state that the call may not see: it only says how new that has
// to be.
func TestTokensGrantNothing(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.twin()
		written := w.grant("anna", "/secret", []string{"read"}, nil)
		nobody := w.key(project, "")
		for _, c := range []caller{nobody, w.key(sibling, fsm.RoleOwner)} {
			w.refuse(t, c.ctx, &permissionsv1.ListPrincipalsRequest{ProjectName: project, Token: written}, codes.PermissionDenied)
		}
		d := w.as(w.stranger)
		if got := do(d, d.GetUserPermissionsAndRolesOnResource, &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: "anna", ResourceUri: "/secret", Token: written}); len(got.Permissions) != 0 {
			t.Errorf("the other organisation sees %v", got)
		}
	})
}

// A request id belongs to its call: that of another key's call neither answers nor
// hinders anyone's.
func TestRequestIDsOfOthers(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.twin()
		const id = "00112233445566778899aabbccddeeff"
		owners := []struct {
			c       caller
			project string
		}{{w.key(project, fsm.RoleOwner), project}, {w.key(sibling, fsm.RoleOwner), sibling}, {w.stranger, project}, {w.rootCaller(), project}}
		ids := map[string]bool{}
		for i, o := range owners {
			ctx := withSecret(t.Context(), o.c.secret, metadataRequestID, id)
			answer, err := w.call(ctx, &permissionsv1.CreatePermissionRequest{ProjectName: o.project, Name: fmt.Sprintf("new%d", i)})
			if err != nil {
				t.Fatal(err)
			}
			created := answer.(*permissionsv1.CreatePermissionResponse)
			if created.Name != fmt.Sprintf("new%d", i) || created.ProjectName != o.project || ids[created.Id] {
				t.Errorf("call %d was answered %v", i, created)
			}
			ids[created.Id] = true
			envelope := w.log.last(t).Envelope
			if envelope.Key != o.c.id || strings.ReplaceAll(envelope.Request.String(), "-", "") != id {
				t.Errorf("envelope %+v", envelope)
			}
		}
		nobody := w.key(project, "")
		w.refuseMissing(t, withSecret(t.Context(), nobody.secret, metadataRequestID, id),
			&permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "new0"}, "permission.create", w.uri(""))
	})
}
