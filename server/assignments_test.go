package server

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func (d *door) held(user, uri string, inherited bool) *permissionsv1.GetUserPermissionsAndRolesOnResourceResponse {
	d.t.Helper()
	return do(d, d.GetUserPermissionsAndRolesOnResource, &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, IncludeInherited: inherited,
	})
}

func TestGrantAndRevoke(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		read := d.permission("read")
		d.permission("write")
		d.permission("share")
		viewer, editor := d.role("viewer", "read"), d.role("editor", "write")
		const user, uri = "user:default/guest", "/project/456/documents"

		d.wantToken(d.grant(user, uri, []string{read}, []string{"viewer"}))
		got := d.held(user, uri, false)
		wantEqual(t, got, &permissionsv1.GetUserPermissionsAndRolesOnResourceResponse{
			ProjectName: project, UserId: user, ResourceUri: uri, Permissions: []string{"read"}, Roles: []string{viewer}, Token: got.Token,
		})
		d.wantToken(got.Token)

		// Grants add; the same one again changes nothing.
		d.grant(user, uri+"/", []string{"write", "read"}, []string{editor, "viewer", viewer})
		d.grant(user, uri, []string{"read"}, nil)
		got = d.held(user, uri, false)
		wantStrings(t, "permissions", got.Permissions, "read", "write")
		wantStrings(t, "roles by name", got.Roles, editor, viewer)

		// Exactly this URI: not above, not below, not beside.
		for _, other := range []string{"/", "/project/456", "/project/456/documents/789", "/project/456/documents2"} {
			if got := d.held(user, other, false); len(got.Permissions)+len(got.Roles) != 0 {
				t.Errorf("%s: %v", other, got)
			}
		}

		// Revoking what was not granted, here, or to anyone, is no error.
		before := digestOf(d.store.State())
		d.wantToken(d.revoke(user, uri, []string{"share"}, nil))
		d.revoke(user, "/project", []string{"read"}, []string{"viewer"})
		d.revoke("nobody", uri, []string{"read"}, nil)
		if digestOf(d.store.State()) != before {
			t.Error("a revoke of nothing changed the state")
		}
		d.revoke(user, uri+"/", []string{read}, []string{"editor"})
		got = d.held(user, uri, false)
		wantStrings(t, "permissions", got.Permissions, "write")
		wantStrings(t, "roles", got.Roles, viewer)
		d.revoke(user, uri, []string{"write"}, []string{viewer})
		if all := do(d, d.ListPrincipals, &permissionsv1.ListPrincipalsRequest{ProjectName: project}); len(all.Principals) != 0 {
			t.Errorf("principals without assignments: %q", all.Principals)
		}
	})
}

func TestGrantUnknown(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("read")
		d.role("viewer", "read")
		const missing = "00000000-0000-4000-8000-000000000000"
		for _, bad := range []struct {
			permissions, roles []string
			code               codes.Code
			name               string
		}{
			{[]string{"read", "nope"}, []string{"viewer"}, codes.NotFound, `permission "nope"`},
			{[]string{"read", missing}, nil, codes.NotFound, missing},
			{[]string{"read"}, []string{"viewer", "nope"}, codes.NotFound, `role "nope"`},
			{[]string{"read"}, []string{missing}, codes.NotFound, missing},
			{nil, nil, codes.InvalidArgument, "at least one permission or role"},
		} {
			d.refuse(t, d.ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: "anna", ResourceUri: "/a", Permissions: bad.permissions, Roles: bad.roles,
			}, bad.code, bad.name)
			d.refuse(t, d.ctx, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: "anna", ResourceUri: "/a", Permissions: bad.permissions, Roles: bad.roles,
			}, bad.code, bad.name)
		}
		if n := len(d.log.commands(t)); n != 2 {
			t.Errorf("%d commands went into the log, want the 2 that were right", n)
		}
	})
}

func TestInherited(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		read := d.permission("read")
		write := d.permission("write")
		viewer := d.role("viewer", "read")
		organisation := d.init.Organisation.String()
		readMessage := &permissionsv1.Permission{Id: read, OrganisationId: organisation, Name: "read", ProjectName: project}
		writeMessage := &permissionsv1.Permission{Id: write, OrganisationId: organisation, Name: "write", ProjectName: project}
		viewerMessage := &permissionsv1.Role{
			Id: viewer, OrganisationId: organisation, Name: "viewer", Permissions: []*permissionsv1.Permission{readMessage}, ProjectName: project,
		}
		d.grant("anna", "/", nil, []string{viewer})
		d.grant("anna", "/a/*", []string{"write"}, nil)
		d.grant("anna", "/a/b", []string{"read"}, []string{viewer})
		d.grant("anna", "/a/b/c", []string{"write"}, nil)
		d.grant("anna", "/a/bc", []string{"write"}, nil)
		d.grant("ben", "/a", []string{"write"}, nil)

		plain := d.held("anna", "/a/b", false)
		if len(plain.InheritedPermissions)+len(plain.InheritedRoles) != 0 {
			t.Errorf("inherited, unasked: %v", plain)
		}
		got := d.held("anna", "/a/b", true)
		wantEqual(t, got, &permissionsv1.GetUserPermissionsAndRolesOnResourceResponse{
			ProjectName: project, UserId: "anna", ResourceUri: "/a/b", Permissions: []string{"read"}, Roles: []string{viewer},
			InheritedPermissions: []*permissionsv1.InheritedPermission{{Permission: writeMessage, InheritedFrom: "/a/*"}},
			InheritedRoles:       []*permissionsv1.InheritedRole{{Role: viewerMessage, InheritedFrom: "/"}},
			Token:                got.Token,
		})
		deep := d.held("anna", "/a/b/c/d", true)
		if len(deep.Permissions)+len(deep.Roles) != 0 {
			t.Errorf("granted on exactly this: %v", deep)
		}
		wantEqual(t, deep, &permissionsv1.GetUserPermissionsAndRolesOnResourceResponse{
			ProjectName: project, UserId: "anna", ResourceUri: "/a/b/c/d",
			InheritedPermissions: []*permissionsv1.InheritedPermission{
				{Permission: writeMessage, InheritedFrom: "/a/*"}, {Permission: readMessage, InheritedFrom: "/a/b"}, {Permission: writeMessage, InheritedFrom: "/a/b/c"},
			},
			InheritedRoles: []*permissionsv1.InheritedRole{{Role: viewerMessage, InheritedFrom: "/"}, {Role: viewerMessage, InheritedFrom: "/a/b"}},
			Token:          deep.Token,
		})
		// A grant's own pattern is asked for as it was granted.
		wantStrings(t, "on the pattern", d.held("anna", "/a/*", false).Permissions, "write")
	})
}

func TestAssignments(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("read")
		d.permission("admin")
		viewer := d.role("viewer", "read")
		d.grant("anna", "/b", []string{"read", "admin"}, []string{"viewer"})
		d.grant("anna", "/a/*/c", nil, []string{viewer})
		d.grant("anna", "/", []string{"read"}, nil)
		d.grant("ben", "/a", []string{"read"}, nil)

		for _, name := range []string{project, ""} {
			got := do(d, d.GetAllAssignmentsForPrincipal, &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: name, PrincipalId: "anna"})
			var uris []string
			for _, a := range got.Assignments {
				uris = append(uris, a.ResourceUri)
				if a.ProjectName != project {
					t.Errorf("project_name %q", a.ProjectName)
				}
			}
			wantStrings(t, "URIs", uris, "/", "/a/*/c", "/b")
			d.wantToken(got.Token)
			last := got.Assignments[2]
			wantStrings(t, "permissions", namesOf(last.Permissions), "admin", "read")
			whole := do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: viewer})
			if len(last.Roles) != 1 {
				t.Fatalf("roles %v", last.Roles)
			}
			wantEqual(t, last.Roles[0], &permissionsv1.Role{
				Id: viewer, OrganisationId: whole.OrganisationId, Name: "viewer", Permissions: whole.Permissions, ProjectName: project,
			})
		}
		none := do(d, d.GetAllAssignmentsForPrincipal, &permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: "nobody"})
		if len(none.Assignments) != 0 || none.Pagination == nil || none.Pagination.NextCursor != "" {
			t.Errorf("assignments of nobody: %v", none)
		}
	})
}

func TestListPrincipals(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("read")
		for _, user := range []string{"usr_2", "Usr_1", "service:ci", "user:default/guest", "jürgen"} {
			d.grant(user, "/a", []string{"read"}, nil)
			d.grant(user, "/b", []string{"read"}, nil)
		}
		list := func(search string) []string {
			return do(d, d.ListPrincipals, &permissionsv1.ListPrincipalsRequest{ProjectName: project, Search: proto.String(search)}).Principals
		}
		wantStrings(t, "principals in order of bytes", list(""), "Usr_1", "jürgen", "service:ci", "user:default/guest", "usr_2")
		wantStrings(t, "USR_", list("USR_"), "Usr_1", "usr_2")
		wantStrings(t, "JÜR", list("JÜR"), "jürgen")
		wantStrings(t, "nothing", list("nobody"))
	})
}

func TestCheck(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		read := d.permission("read")
		d.permission("write")
		viewer := d.role("viewer", "read")
		d.grant("anna", "/project/45", nil, []string{viewer})
		d.grant("anna", "/project/*/shared", []string{"write"}, nil)

		check := func(uris []string, permissions ...string) *permissionsv1.CheckPermissionResponse {
			return do(d, d.Check, &permissionsv1.CheckPermissionRequest{ProjectName: project, PrincipalId: "anna", ResourceUris: uris, Permissions: permissions})
		}
		passed := check([]string{"/project/45", "/project/45/a/b/"}, "read", read)
		wantEqual(t, passed, &permissionsv1.CheckPermissionResponse{Passed: true, Token: passed.Token})
		d.wantToken(passed.Token)

		// What is missing comes in the order and the words of the request.
		failed := check([]string{"/project/456", "/project/45/shared/x", "/project/45/", "/"}, "write", "unknown.permission", read)
		wantEqual(t, failed, &permissionsv1.CheckPermissionResponse{
			MissingPermissions: []*permissionsv1.MissingPermission{
				{ResourceUri: "/project/456", MissingPermissions: []string{"write", "unknown.permission", read}},
				{ResourceUri: "/project/45/shared/x", MissingPermissions: []string{"unknown.permission"}},
				{ResourceUri: "/project/45/", MissingPermissions: []string{"write", "unknown.permission"}},
				{ResourceUri: "/", MissingPermissions: []string{"write", "unknown.permission", read}},
			},
			Token: failed.Token,
		})
		if got := do(d, d.Check, &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: "nobody", ResourceUris: []string{"/a"}, Permissions: []string{"read"},
		}); got.Passed {
			t.Error("nobody may read")
		}
	})
}
