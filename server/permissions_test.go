package server

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// wantToken checks that an answer's token is that of the newest state.
func (d *door) wantToken(text string) {
	d.t.Helper()
	got, ok := parseToken(text)
	state := d.store.State()
	if want := (token{state.Cluster, state.Epoch, state.Revision}); !ok || got != want {
		d.t.Errorf("token %q is %v, want %v", text, got, want)
	}
}

func wantEqual(t testing.TB, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("answer\n got %v\nwant %v", got, want)
	}
}

func wantStrings(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestPermission(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		created := do(d, d.CreatePermission, &permissionsv1.CreatePermissionRequest{
			ProjectName: project, Name: "document.read", Description: "Allows reading documents",
		})
		if _, ok := fsm.ParseID(created.Id); !ok {
			t.Errorf("id %q is no id", created.Id)
		}
		wantEqual(t, created, &permissionsv1.CreatePermissionResponse{
			Id: created.Id, OrganisationId: d.init.Organisation.String(), Name: "document.read",
			Description: "Allows reading documents", ProjectName: project, Token: created.Token,
		})
		d.wantToken(created.Token)

		got := do(d, d.GetPermission, &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "document.read"})
		wantEqual(t, got, &permissionsv1.GetPermissionResponse{
			Id: created.Id, OrganisationId: created.OrganisationId, Name: "document.read",
			Description: "Allows reading documents", ProjectName: project, Token: created.Token,
		})
		byID := do(d, d.GetPermission, &permissionsv1.GetPermissionRequest{ProjectName: project, Name: created.Id})
		wantEqual(t, byID, got)

		// Creating again describes it anew and keeps the id.
		again := do(d, d.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "document.read"})
		wantEqual(t, again, &permissionsv1.CreatePermissionResponse{
			Id: created.Id, OrganisationId: created.OrganisationId, Name: "document.read", ProjectName: project, Token: again.Token,
		})
		if again.Token == created.Token {
			t.Error("a write did not lead to another token")
		}

		updated := do(d, d.UpdatePermission, &permissionsv1.UpdatePermissionRequest{
			ProjectName: project, Name: "document.read", Description: "Updated",
		})
		wantEqual(t, updated, &permissionsv1.UpdatePermissionResponse{
			Id: created.Id, OrganisationId: created.OrganisationId, Name: "document.read",
			Description: "Updated", ProjectName: project, Token: updated.Token,
		})
		d.wantToken(updated.Token)

		deleted := do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "document.read"})
		if deleted.Token == "" {
			t.Error("no token")
		}
		d.refuse(t, d.ctx, &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "document.read"}, codes.NotFound, "document.read")
		// Deleting what is not there is no error.
		if again := do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "document.read"}); again.Token == "" {
			t.Error("no token")
		}
		do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: created.Id})
	})
}

func TestPermissionRename(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		id := d.permission("document.read")
		d.permission("document.write")
		role := d.role("reader", "document.read")
		d.grant("anna", "/a", []string{"document.read"}, nil)
		d.grant("ben", "/a", nil, []string{role})

		renamed := do(d, d.UpdatePermission, &permissionsv1.UpdatePermissionRequest{
			ProjectName: project, Name: "document.read", NewName: "document.view", Description: "Views",
		})
		wantEqual(t, renamed, &permissionsv1.UpdatePermissionResponse{
			Id: id, OrganisationId: d.init.Organisation.String(), Name: "document.view", Description: "Views",
			ProjectName: project, Token: renamed.Token,
		})
		for _, user := range []string{"anna", "ben"} {
			if !d.allowed(user, "/a", "document.view") || !d.allowed(user, "/a", id) || d.allowed(user, "/a", "document.read") {
				t.Errorf("the grant of %s did not follow the rename", user)
			}
		}
		got := do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: role})
		if len(got.Permissions) != 1 || got.Permissions[0].Name != "document.view" {
			t.Errorf("the role holds %v", got.Permissions)
		}
		// Its own name is not taken; another's is; the old one is free.
		do(d, d.UpdatePermission, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "document.view", NewName: "document.view"})
		d.refuse(t, d.ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "document.view", NewName: "document.write"},
			codes.AlreadyExists, "document.write")
		if d.permission("document.read") == id {
			t.Error("a new permission has the id of another one")
		}
		if d.allowed("anna", "/a", "document.read") {
			t.Error("a name that was created again revived a grant")
		}
		// By id it is renamed too.
		do(d, d.UpdatePermission, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: id, NewName: "document.see"})
		if !d.allowed("anna", "/a", "document.see") {
			t.Error("a rename by id did nothing")
		}
	})
}

func TestPermissionDeleteEndsEverywhere(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("a")
		d.permission("b")
		role := d.role("r", "a", "b")
		d.grant("anna", "/x", []string{"a", "b"}, nil)
		d.grant("ben", "/x", nil, []string{role})
		d.grant("carl", "/x", []string{"a"}, nil)
		do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "a"})
		d.permission("a")
		for _, user := range []string{"anna", "ben"} {
			if d.allowed(user, "/x", "a") || !d.allowed(user, "/x", "b") {
				t.Errorf("%s: the delete ended too little or too much", user)
			}
		}
		got := do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: role})
		if len(got.Permissions) != 1 || got.Permissions[0].Name != "b" {
			t.Errorf("the role holds %v", got.Permissions)
		}
		// Carl's only assignment went with it.
		all := do(d, d.ListPrincipals, &permissionsv1.ListPrincipalsRequest{ProjectName: project})
		wantStrings(t, "principals", all.Principals, "anna", "ben")
	})
}

func TestListPermissions(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		empty := do(d, d.ListPermissions, &permissionsv1.ListPermissionsRequest{ProjectName: project})
		if len(empty.Permissions) != 0 || empty.Pagination.GetNextCursor() != "" || empty.Pagination == nil {
			t.Errorf("the empty list is %v", empty)
		}
		for _, name := range []string{"b", "B", "a.1", "a:1", "a-1", "a_1", "A", "9"} {
			d.permission(name)
		}
		got := do(d, d.ListPermissions, &permissionsv1.ListPermissionsRequest{ProjectName: project})
		var names []string
		for _, p := range got.Permissions {
			names = append(names, p.Name)
			wantEqual(t, p, &permissionsv1.Permission{Id: p.Id, OrganisationId: d.init.Organisation.String(), Name: p.Name, ProjectName: project})
		}
		wantStrings(t, "names in order of bytes", names, "9", "A", "B", "a-1", "a.1", "a:1", "a_1", "b")
		d.wantToken(got.Token)

		for search, want := range map[string][]string{
			"B": {"B", "b"}, "b": {"B", "b"}, ".": {"a.1"}, "A": {"A", "a-1", "a.1", "a:1", "a_1"}, "zz": nil, "": names,
		} {
			got := do(d, d.ListPermissions, &permissionsv1.ListPermissionsRequest{ProjectName: project, Search: proto.String(search)})
			var found []string
			for _, p := range got.Permissions {
				found = append(found, p.Name)
			}
			wantStrings(t, fmt.Sprintf("search %q", search), found, want...)
		}
	})
}
