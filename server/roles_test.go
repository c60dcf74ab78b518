package server

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func namesOf(permissions []*permissionsv1.Permission) (names []string) {
	for _, p := range permissions {
		names = append(names, p.Name)
	}
	return names
}

func TestRole(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		read, write := d.permission("document.read"), d.permission("document.write")
		organisation := d.init.Organisation.String()
		readMessage := &permissionsv1.Permission{Id: read, OrganisationId: organisation, Name: "document.read", ProjectName: project}
		writeMessage := &permissionsv1.Permission{Id: write, OrganisationId: organisation, Name: "document.write", ProjectName: project}

		// Permissions by name and by id, twice, come out once each by name.
		created := do(d, d.CreateRole, &permissionsv1.CreateRoleRequest{
			ProjectName: project, Name: "document_editor", Description: "Can edit",
			Permissions: []string{"document.write", read, "document.write", "document.read"},
		})
		if _, ok := fsm.ParseID(created.Id); !ok {
			t.Errorf("id %q is no id", created.Id)
		}
		wantEqual(t, created, &permissionsv1.CreateRoleResponse{
			Id: created.Id, OrganisationId: organisation, Name: "document_editor", Description: "Can edit",
			Permissions: []*permissionsv1.Permission{readMessage, writeMessage}, ProjectName: project, Token: created.Token,
		})
		d.wantToken(created.Token)

		got := do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: created.Id})
		wantEqual(t, got, &permissionsv1.GetRoleResponse{
			Id: created.Id, OrganisationId: organisation, Name: "document_editor", Description: "Can edit",
			Permissions: []*permissionsv1.Permission{readMessage, writeMessage}, ProjectName: project, Token: created.Token,
		})
		wantEqual(t, do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: "document_editor"}), got)

		// Creating again replaces what it holds and keeps the id.
		again := do(d, d.CreateRole, &permissionsv1.CreateRoleRequest{
			ProjectName: project, Name: "document_editor", Permissions: []string{"document.write"},
		})
		wantEqual(t, again, &permissionsv1.CreateRoleResponse{
			Id: created.Id, OrganisationId: organisation, Name: "document_editor",
			Permissions: []*permissionsv1.Permission{writeMessage}, ProjectName: project, Token: again.Token,
		})

		// An update replaces too; an empty name leaves the name.
		updated := do(d, d.UpdateRole, &permissionsv1.UpdateRoleRequest{
			ProjectName: project, Id: created.Id, Description: "Reads", Permissions: []string{"document.read"},
		})
		wantEqual(t, updated, &permissionsv1.UpdateRoleResponse{
			Id: created.Id, OrganisationId: organisation, Name: "document_editor", Description: "Reads",
			Permissions: []*permissionsv1.Permission{readMessage}, ProjectName: project, Token: updated.Token,
		})
		d.wantToken(updated.Token)
		emptied := do(d, d.UpdateRole, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "document_editor", Name: "nobody"})
		wantEqual(t, emptied, &permissionsv1.UpdateRoleResponse{
			Id: created.Id, OrganisationId: organisation, Name: "nobody", ProjectName: project, Token: emptied.Token,
		})

		deleted := do(d, d.DeleteRole, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: created.Id})
		if deleted.Token == "" {
			t.Error("no token")
		}
		d.refuse(t, d.ctx, &permissionsv1.GetRoleRequest{ProjectName: project, Id: created.Id}, codes.NotFound, created.Id)
		if again := do(d, d.DeleteRole, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: created.Id}); again.Token == "" {
			t.Error("no token")
		}
		do(d, d.DeleteRole, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "nobody"})
	})
}

func TestRoleChangesReachGrants(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("read")
		d.permission("write")
		id := d.role("editor", "read")
		d.role("taken")
		d.grant("anna", "/a", nil, []string{"editor"})
		if !d.allowed("anna", "/a", "read") || d.allowed("anna", "/a", "read", "write") {
			t.Error("the role grants too much or too little")
		}
		do(d, d.UpdateRole, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: id, Name: "writer", Permissions: []string{"read", "write"}})
		if !d.allowed("anna", "/a", "read", "write") {
			t.Error("the grant did not follow the role")
		}
		d.refuse(t, d.ctx, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: id, Name: "taken"}, codes.AlreadyExists, "taken")
		do(d, d.UpdateRole, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: id, Name: "writer", Permissions: []string{"read", "write"}})

		do(d, d.DeleteRole, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "writer"})
		if d.allowed("anna", "/a", "read") {
			t.Error("a deleted role grants")
		}
		if d.role("writer", "read") == id {
			t.Error("a new role has the id of another one")
		}
		if d.allowed("anna", "/a", "read") {
			t.Error("a name that was created again revived a grant")
		}
	})
}

// A role may have the name of a permission, a path of the API or any visible
// text, and an id wins over a name.
func TestRoleNames(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("read")
		for _, name := range []string{"read", "principals", "role_456", "Gäste & Kunden", "a/b", "a%2Fb", "*", "..", " ", "?x=1#y", "编辑"} {
			id := d.role(name, "read")
			for _, by := range []string{id, name} {
				if d.isREST && by == ".." {
					continue // clients resolve such paths before they send them
				}
				if got := do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: by}); got.Id != id || got.Name != name {
					t.Errorf("role %q is %v", by, got)
				}
			}
			d.grant("anna", "/"+id, nil, []string{name})
			if !d.allowed("anna", "/"+id, "read") {
				t.Errorf("role %q grants nothing", name)
			}
		}
	})
}

func TestListRoles(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("b")
		d.permission("a")
		names := []string{"Editor", "admin", "document_editor", "viewer"}
		for _, name := range slices.Backward(names) {
			d.role(name, "b", "a")
		}
		got := do(d, d.ListRoles, &permissionsv1.ListRolesRequest{ProjectName: project})
		var found []string
		for _, r := range got.Roles {
			found = append(found, r.Name)
			whole := do(d, d.GetRole, &permissionsv1.GetRoleRequest{ProjectName: project, Id: r.Id})
			wantEqual(t, r, &permissionsv1.Role{
				Id: whole.Id, OrganisationId: whole.OrganisationId, Name: whole.Name, Permissions: whole.Permissions, ProjectName: project,
			})
			wantStrings(t, "permissions", namesOf(r.Permissions), "a", "b")
		}
		wantStrings(t, "roles", found, names...)
		d.wantToken(got.Token)
		for _, search := range []string{"EDITOR", "editor", "Edit"} {
			got := do(d, d.ListRoles, &permissionsv1.ListRolesRequest{ProjectName: project, Search: proto.String(search)})
			if len(got.Roles) != 2 || got.Roles[0].Name != "Editor" || got.Roles[1].Name != "document_editor" {
				t.Errorf("search %q: %v", search, got.Roles)
			}
		}
	})
}
