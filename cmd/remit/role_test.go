package main

import (
	"slices"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func stageRole(t *testing.T) {
	t.Helper()
	stage(t,
		"permission create document.read",
		"permission create document.write",
		"permission create document.share",
		"role create document_editor --description Edits --permission document.write --permission document.read")
}

func TestRoleCreate(t *testing.T) {
	startFake(t)
	stage(t, "permission create document.read", "permission create document.write")
	prints(t, `
Name:         document_editor
Description:  -
Permissions:  document.read
              document.write
Project:      production
ID:           id-3
`, "role", "create", "document_editor", "--permission", "document.read", "--permission", "document.write")
	prints(t, `
{
  "id": "id-4",
  "organisation_id": "org",
  "name": "reader",
  "description": "Reads",
  "permissions": [
    {
      "id": "id-1",
      "organisation_id": "org",
      "name": "document.read",
      "description": "",
      "project_name": "production"
    }
  ],
  "project_name": "production",
  "token": ""
}
`, "role", "create", "reader", "--description", "Reads", "--permission", "document.read", "-o", "json")
	fails(t, `
remit: permission "nothing" does not exist
hint: remit permission list shows what there is
`, "role", "create", "x", "--permission", "nothing")
}

// The call replaces; the command does so only when told.
func TestRoleCreateExisting(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	fails(t, `
remit: role "document_editor" exists already
hint: remit role update document_editor --add-permission X adds to it; --replace replaces it
`, "role", "create", "document_editor", "--permission", "document.share")
	if request := last[*permissionsv1.GetRoleRequest](t, f); request.GetConsistency() != permissionsv1.Consistency_FULLY_CONSISTENT {
		t.Errorf("looked with %v", request)
	}
	prints(t, `
Name:         document_editor
Description:  -
Permissions:  document.share
Project:      production
ID:           id-4
`, "role", "create", "document_editor", "--permission", "document.share", "--replace")
	fails(t, noProject, "role", "create", "document_editor", "--project", "nowhere")
}

func TestRoleGet(t *testing.T) {
	startFake(t)
	stage(t, "role create empty")
	want := `
Name:         empty
Description:  -
Permissions:  -
Project:      production
ID:           id-1
`
	prints(t, want, "role", "get", "empty")
	prints(t, want, "role", "get", "id-1")
	fails(t, `
remit: role "nobody" does not exist
hint: remit role list shows what there is
`, "role", "get", "nobody")
}

func TestRoleUpdate(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	prints(t, `
Name:         document_editor
Description:  Edits
Permissions:  document.read
              document.share
Project:      production
ID:           id-4
`, "role", "update", "document_editor", "--add-permission", "document.share", "--remove-permission", "document.write")

	// Adding what is there and removing by id.
	prints(t, `
Name:         document_editor
Description:  Edits
Permissions:  document.read
Project:      production
ID:           id-4
`, "role", "update", "id-4", "--add-permission", "document.read", "--remove-permission", "id-3")

	prints(t, `
Name:         editor
Description:  -
Permissions:  document.read
Project:      production
ID:           id-4
`, "role", "update", "document_editor", "--rename", "editor", "--description", "")

	prints(t, `
Name:         editor
Description:  -
Permissions:  document.write
Project:      production
ID:           id-4
`, "role", "update", "editor", "--permission", "document.write")

	f.requests = nil
	stage(t, "role update editor --description Writes --permission document.share")
	if request := last[*permissionsv1.UpdateRoleRequest](t, f); len(f.requests) != 1 || request.GetDescription() != "Writes" || !slices.Equal(request.GetPermissions(), []string{"document.share"}) {
		t.Errorf("replacing everything sent %v", f.requests)
	}
}

func TestRoleUpdateErrors(t *testing.T) {
	startFake(t)
	stageRole(t)
	fails(t, `
remit: role "document_editor" has no permission "document.share"
`, "role", "update", "document_editor", "--remove-permission", "document.share")
	fails(t, `
remit: role "nobody" does not exist
hint: remit role list shows what there is
`, "role", "update", "nobody", "--rename", "x")
	fails(t, `
remit: nothing to change: give --rename, --description, --permission, --add-permission or --remove-permission
hint: remit role update --help shows how
`, "role", "update", "document_editor")
	fails(t, `
remit: --permission replaces all permissions; --add-permission and --remove-permission do not go with it
hint: remit role update --help shows how
`, "role", "update", "document_editor", "--permission", "a", "--add-permission", "b")
	fails(t, `
remit: permission "a" is to be added and removed
hint: remit role update --help shows how
`, "role", "update", "document_editor", "--remove-permission", "a", "--add-permission", "a")
}

func TestRoleDelete(t *testing.T) {
	startFake(t)
	stage(t, "role create empty")
	prints(t, "deleted role empty\n", "role", "delete", "empty")
	prints(t, "no role is called empty: nothing changed\n", "role", "delete", "empty")
	fails(t, noProject, "role", "delete", "empty", "--project", "nowhere")
	prints(t, "{\n  \"token\": \"\"\n}\n", "role", "delete", "empty", "-o", "json")
}

func TestRoleList(t *testing.T) {
	startFake(t)
	expect(t, outcome{exitOK, "", "No roles yet. Create one: remit role create document_editor --permission document.read\n"}, "role", "list")
	stage(t, "permission create a", "permission create b", "permission create c", "permission create d", "permission create e",
		"permission create f", "permission create g",
		"role create few --description Few --permission a --permission b",
		"role create many --permission a --permission b --permission c --permission d --permission e --permission f --permission g",
		"role create none")
	prints(t, `
NAME  PERMISSIONS               DESCRIPTION
few   a, b                      Few
many  a, b, c, d, e and 2 more  -
none  -                         -
`, "role", "list")
	expect(t, outcome{exitOK, "", "No role's name contains \"x\".\n"}, "role", "list", "--search", "x")
	prints(t, `
{
  "roles": [
    {
      "id": "id-10",
      "organisation_id": "org",
      "name": "none",
      "description": "",
      "permissions": [],
      "project_name": "production"
    }
  ],
  "pagination": {
    "next_cursor": ""
  },
  "token": ""
}
`, "role", "list", "--search", "NONE", "-o", "json")
	fails(t, `
remit: cursor "x" is not valid here
`, "role", "list", "--cursor", "x")
}
