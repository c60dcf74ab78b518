package main

import (
	"fmt"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func TestPermissionCreate(t *testing.T) {
	startFake(t)
	prints(t, `
Name:         document.read
Description:  Read documents
Project:      production
ID:           id-1
`, "permission", "create", "document.read", "--description", "Read documents")
	prints(t, `
{
  "id": "id-1",
  "organisation_id": "org",
  "name": "document.read",
  "description": "",
  "project_name": "production",
  "token": "t1"
}
`, "permission", "create", "document.read", "-o", "json", "--replace")
}

// The call replaces; the command does so only when told.
func TestPermissionCreateExisting(t *testing.T) {
	f := startFake(t)
	stage(t, "permission create document.read --description Reads")
	fails(t, `
remit: permission "document.read" exists already
hint: remit permission update document.read --description TEXT changes it; --replace replaces it
`, "permission", "create", "document.read", "--description", "Lies")
	if request := last[*permissionsv1.GetPermissionRequest](t, f); request.GetConsistency() != permissionsv1.Consistency_FULLY_CONSISTENT {
		t.Errorf("looked with %v", request)
	}
	prints(t, `
Name:         document.read
Description:  Reads more
Project:      production
ID:           id-1
`, "permission", "create", "document.read", "--description", "Reads more", "--replace")
	fails(t, noProject, "permission", "create", "document.read", "--project", "nowhere")
}

func TestPermissionGet(t *testing.T) {
	startFake(t)
	stage(t, "permission create document.read")
	prints(t, `
Name:         document.read
Description:  -
Project:      production
ID:           id-1
`, "permission", "get", "document.read")
	fails(t, `
remit: permission "document.write" does not exist
hint: remit permission list shows what there is
`, "permission", "get", "document.write")
}

// An update replaces on the wire; the command leaves what it is not told to change.
func TestPermissionUpdateKeepsTheRest(t *testing.T) {
	f := startFake(t)
	stage(t, "permission create document.read --description Reads")
	prints(t, `
Name:         doc.read
Description:  Reads
Project:      production
ID:           id-1
`, "permission", "update", "document.read", "--rename", "doc.read")
	if got := f.requests[len(f.requests)-2].(*permissionsv1.GetPermissionRequest).GetConsistency(); got != permissionsv1.Consistency_FULLY_CONSISTENT {
		t.Errorf("the present description was read with %v", got)
	}
	prints(t, `
Name:         doc.read
Description:  Reads more
Project:      production
ID:           id-1
`, "permission", "update", "doc.read", "--description", "Reads more")
	prints(t, `
Name:         doc.read
Description:  -
Project:      production
ID:           id-1
`, "permission", "update", "doc.read", "--description", "")
}

func TestPermissionUpdateErrors(t *testing.T) {
	f := startFake(t)
	fails(t, `
remit: permission "document.read" does not exist
hint: remit permission list shows what there is
`, "permission", "update", "document.read", "--rename", "doc.read")
	sent := len(f.requests)
	fails(t, `
remit: nothing to change: give --rename or --description
hint: remit permission update --help shows how
`, "permission", "update", "document.read")
	if len(f.requests) != sent {
		t.Error("an update of nothing was sent")
	}
}

func TestPermissionDelete(t *testing.T) {
	startFake(t)
	stage(t, "permission create document.read")
	prints(t, "deleted permission document.read\n", "permission", "delete", "document.read")
	prints(t, "no permission is called document.read: nothing changed\n", "permission", "delete", "document.read")
	fails(t, noProject, "permission", "delete", "document.read", "--project", "nowhere")
	prints(t, `
{
  "token": "t2"
}
`, "permission", "delete", "document.read", "-o", "json")
}

func TestPermissionList(t *testing.T) {
	startFake(t)
	expect(t, outcome{exitOK, "", "No permissions yet. Create one: remit permission create document.read\n"}, "permission", "list")
	prints(t, `
{
  "permissions": [],
  "pagination": {
    "next_cursor": ""
  },
  "token": "t3"
}
`, "permission", "list", "-o", "json")

	stage(t, "permission create document.write --description Writes", "permission create a", "permission create document.read")
	prints(t, `
NAME            DESCRIPTION
a               -
document.read   -
document.write  Writes
`, "permission", "list")
	prints(t, `
NAME            DESCRIPTION
document.read   -
document.write  Writes
`, "permission", "list", "--search", "DOC")
	expect(t, outcome{exitOK, "", "No permission's name contains \"invoice\".\n"}, "permission", "list", "--search", "invoice")
	expect(t, outcome{exitOK, "NAME  DESCRIPTION\na     -\n", "There are more. To go on, add: --cursor 1\n"},
		"permission", "list", "--limit", "1")
	prints(t, `
NAME            DESCRIPTION
document.read   -
document.write  Writes
`, "permission", "list", "--cursor", "1")
	expect(t, outcome{exitOK, "", "No more.\n"}, "permission", "list", "--cursor", "3")
	prints(t, `
{
  "permissions": [
    {
      "id": "id-2",
      "organisation_id": "org",
      "name": "a",
      "description": "",
      "project_name": "production"
    }
  ],
  "pagination": {
    "next_cursor": "1"
  },
  "token": "t3"
}
`, "permission", "list", "--limit", "1", "-o", "json")
	fails(t, `
remit: cursor "x" is not valid here
`, "permission", "list", "--cursor", "x")
	fails(t, `
remit: --limit 0: must be 1 or more
hint: remit permission list --help shows how
`, "permission", "list", "--limit", "0")
}

// A limit above the API's is met by several calls.
func TestListPages(t *testing.T) {
	f := startFake(t)
	for i := range 250 {
		name := fmt.Sprintf("p%03d", i)
		f.permissions[name] = &permissionsv1.Permission{Name: name}
	}
	for _, test := range []struct {
		args        []string
		rows, calls int
		stderr      string
	}{
		{nil, 100, 1, "There are more. To go on, add: --cursor 100\n"},
		{[]string{"--limit", "230"}, 230, 3, "There are more. To go on, add: --cursor 230\n"},
		{[]string{"--limit", "250"}, 250, 3, ""},
		{[]string{"--limit", "1000"}, 250, 3, ""},
		{[]string{"--limit", "1000", "--cursor", "240"}, 10, 1, ""},
	} {
		f.requests = nil
		got := remit(t, append([]string{"permission", "list"}, test.args...)...)
		rows := -1 // the header
		for _, r := range got.stdout {
			if r == '\n' {
				rows++
			}
		}
		if got.code != exitOK || rows != test.rows || len(f.requests) != test.calls || got.stderr != test.stderr {
			t.Errorf("%q: exit code %d, %d rows in %d calls, stderr %q", test.args, got.code, rows, len(f.requests), got.stderr)
		}
	}
}

// What people wrote into a description neither breaks the table nor reaches the
// terminal as a command.
func TestTableIsPrintable(t *testing.T) {
	startFake(t)
	if got := remit(t, "permission", "create", "a", "--description", "two\nlines\tand \x1b[31mred \u202eback"); got.code != exitOK {
		t.Fatal(got.stderr)
	}
	prints(t, "NAME  DESCRIPTION\na     two lines and \ufffd[31mred \ufffdback\n", "permission", "list")
}
