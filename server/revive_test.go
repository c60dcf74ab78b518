package server

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A project that is deleted and created again under its name is another one: no
// key, grant, id or cursor of the old one comes back with the name.
func TestProjectsDoNotRevive(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) { w.tryToRevive(t, w.swept) })
	t.Run("before the sweep", func(t *testing.T) { // there is no sweeper
		newWorld(newNode(t).ready().localDoor()).tryToRevive(t, func() {})
	})
}

func (w *world) tryToRevive(t *testing.T, swept func()) {
	owner := w.key(project, fsm.RoleOwner)
	holder := w.key(project, "")
	remote := w.key(fsm.BuiltInProject, "")
	old := w.fill.Replace("{viewer}")
	read := w.fill.Replace("{read}")
	resource := w.uri("/project/production/resource/a")
	for _, uri := range []string{w.uri("/project/production"), resource, w.uri("/project/production/resource/*/b"), w.uri("/project/production/*")} {
		for _, c := range []caller{owner, holder, remote} {
			w.give(c, uri, "apiKeys.create", "apiKeys.list", "project.delete", "principal.assignment.get", "principal.assignment.delete")
		}
	}
	w.give(remote, w.uri("/project/*"), "usage.get") // is about no project by name
	limit := int32(1)
	paged := func(cursor string) proto.Message {
		p := &paginationv1.PaginationRequest{Limit: &limit}
		if cursor != "" {
			p.Cursor = &cursor
		}
		return &permissionsv1.ListPermissionsRequest{ProjectName: project, Pagination: p}
	}
	cursor := do(w.door, w.ListPermissions, paged("").(*permissionsv1.ListPermissionsRequest)).Pagination.NextCursor
	if cursor == "" {
		t.Fatal("one page only")
	}
	attacks := []proto.Message{
		&permissionsv1.CheckPermissionRequest{ProjectName: project, PrincipalId: "anna", ResourceUris: []string{"/a"}, Permissions: []string{"read"}},
		&organisationv1.WhoAmIRequest{}, &permissionsv1.ListPermissionsRequest{ProjectName: project},
		&organisationv1.CreateAPIKeyRequest{OrganisationId: w.org(), ProjectName: project, Name: "x"},
		&organisationv1.DeleteProjectRequest{OrganisationId: w.org(), ProjectName: project},
	}
	dead := func(when string) {
		t.Helper()
		for _, c := range []caller{owner, holder} {
			for _, req := range attacks {
				w.refuse(t, c.ctx, req, codes.Unauthenticated, "not valid")
			}
			w.refuse(t, w.ctx, grantRequest(fsm.BuiltInProject, c.principal, w.uri(""), nil, fsm.RoleOwner), codes.NotFound, "is no key")
		}
		w.refuseMissing(t, remote.ctx, attacks[3], "apiKeys.create", w.uri("/project/production"))
		w.refuseMissing(t, remote.ctx, attacks[4], "project.delete", w.uri("/project/production"))
		w.refuseMissing(t, remote.ctx, revokeRequest(project, "anna", "/a", []string{"read"}), "principal.assignment.delete", resource)
		for _, a := range do(w.as(remote), w.WhoAmI, &organisationv1.WhoAmIRequest{}).Assignments {
			if a.ResourceUri != w.uri("/project/*") {
				t.Errorf("%s: still granted on %s", when, a.ResourceUri)
			}
		}
	}
	w.deleteProject(project)
	swept()
	dead("after the deletion")
	w.refuse(t, w.ctx, paged(cursor), codes.NotFound, `"production" does not exist`)

	w.project(project)
	dead("after the creation")
	for _, name := range []string{"read", "write"} {
		w.permission(name)
	}
	w.role("viewer", "write")
	swept()
	dead("after all")
	w.refuse(t, w.ctx, paged(cursor), codes.InvalidArgument, "invalid cursor")
	for _, req := range []proto.Message{
		&permissionsv1.GetRoleRequest{ProjectName: project, Id: old},
		&permissionsv1.GetPermissionRequest{ProjectName: project, Name: read},
		grantRequest(project, "anna", "/a", nil, old),
		invalidateRequest(w.org(), project, owner.id.String()),
	} {
		w.refuse(t, w.ctx, req, codes.NotFound)
	}
	if w.allowed("anna", "/a", "read") || w.allowed("anna", "/a", read) {
		t.Error("the old grant came back")
	}
	if keys := do(w.door, w.ListAPIKeys, &organisationv1.ListAPIKeysRequest{OrganisationId: w.org(), ProjectName: project}).ApiKeys; len(keys) != 0 {
		t.Errorf("the old keys came back: %v", keys)
	}
}

// A project with more grants than one command removes cannot come again, nor be
// granted on, before all of them are gone.
func TestProjectsEndBeforeTheyComeAgain(t *testing.T) {
	d := newNode(t).ready().localDoor() // without a sweeper
	d.sample()
	const grants = 3500
	ids := make([]caller, 7)
	for i := range ids {
		ids[i] = d.key(fsm.BuiltInProject, "")
	}
	p, _ := d.builtIn().Permission("project.delete")
	for i := range grants {
		d.log.put(t, &fsm.Grant{Scope: d.builtIn().scope(), Principal: ids[i%len(ids)].principal,
			URI: d.uri(fmt.Sprintf("/project/production/resource/%d", i)), Permissions: []fsm.ID{p.ID}})
	}
	d.give(ids[0], d.uri("/project/production"), "project.delete")
	d.deleteProject(project)
	again := &organisationv1.CreateProjectRequest{OrganisationId: d.org(), Name: project}
	steps := 0
	for d.store.State().IsSweeping(d.builtIn().scope()) {
		d.refuse(t, d.ctx, again, codes.Unavailable, "still being deleted", "retry")
		for _, uri := range []string{"/project/production", "/project/production/resource/1", "/project/production/*"} {
			d.refuse(t, d.ctx, grantRequest(fsm.BuiltInProject, ids[1].principal, d.uri(uri), []string{"project.delete"}), codes.Unavailable, "retry")
		}
		d.log.put(t, &fsm.Sweep{Scope: d.builtIn().scope(), Limit: 1000})
		if steps++; steps > grants {
			t.Fatal("the sweep does not end")
		}
	}
	if steps < 2 {
		t.Errorf("%d steps", steps)
	}
	d.project(project)
	for _, c := range ids {
		if held := do(d.as(c), d.WhoAmI, &organisationv1.WhoAmIRequest{}).Assignments; len(held) != 0 {
			t.Errorf("%s still holds %v", c.principal, held)
		}
		d.refuseMissing(t, c.ctx, &organisationv1.DeleteProjectRequest{OrganisationId: d.org(), ProjectName: project}, "project.delete", d.uri("/project/production"))
	}
}

// The same with an organisation: its keys end at once, and one of the same name is
// another.
func TestOrganisationsDoNotRevive(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.twin()
		d := w.as(w.stranger)
		keys := []caller{w.stranger}
		for _, of := range []string{project, "default", fsm.BuiltInProject} {
			keys = append(keys, w.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
				OrganisationId: w.foreign, ProjectName: of, Name: "x", Role: fsm.RoleOwner}).ApiKey))
		}
		limit := int32(1)
		list := &permissionsv1.ListPermissionsRequest{ProjectName: project, Pagination: &paginationv1.PaginationRequest{Limit: &limit}}
		cursor := do(d, d.ListPermissions, list).Pagination.NextCursor
		before := w.everything(w.rootCaller())
		remove := &organisationv1.DeleteOrganisationRequest{Id: w.foreign}
		do(w.door, w.DeleteOrganisation, remove)
		dead := func() {
			t.Helper()
			for _, c := range keys {
				for _, req := range []proto.Message{
					list, &organisationv1.WhoAmIRequest{}, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "x"},
					&organisationv1.CreateProjectRequest{OrganisationId: w.foreign, Name: "x"}, &organisationv1.GetOrganisationRequest{Id: w.foreign},
				} {
					w.refuse(t, c.ctx, req, codes.Unauthenticated, "not valid")
				}
			}
		}
		dead()
		w.swept()
		dead()
		w.refuse(t, w.ctx, remove, codes.NotFound, w.foreign)
		again, owner := w.organisation("acme")
		if again == w.foreign {
			t.Fatal("the id came again")
		}
		do(w.as(owner), w.CreateProject, &organisationv1.CreateProjectRequest{OrganisationId: again, Name: project})
		dead()
		w.refuse(t, owner.ctx, with(list, "pagination", (&paginationv1.PaginationRequest{Cursor: &cursor}).ProtoReflect()), codes.InvalidArgument, "invalid cursor")
		for _, c := range keys {
			w.refuse(t, owner.ctx, grantRequest(fsm.BuiltInProject, c.principal, "/organisation/"+again, nil, fsm.RoleViewer), codes.NotFound, "is no key")
		}
		if after := w.everything(w.rootCaller()); after != before {
			t.Errorf("the other organisation changed from\n%s\nto\n%s", before, after)
		}
	})
}
