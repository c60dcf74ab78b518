package main

import (
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func TestGrantAndRevoke(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	prints(t, "granted usr_123: role document_editor, permission document.share on /project/456/documents\n",
		"grant", "usr_123", "--role", "document_editor", "--permission", "document.share", "--on", "/project/456/documents")
	request := last[*permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest](t, f)
	if request.GetProjectName() != "production" || request.GetUserId() != "usr_123" || request.GetResourceUri() != "/project/456/documents" {
		t.Errorf("sent %v", request)
	}
	prints(t, "{\n  \"token\": \"t4\"\n}\n",
		"grant", "usr_123", "--role", "document_editor", "--on", "/project/456/documents", "-o", "json")
	prints(t, "revoked from usr_123: role document_editor on /project/456/documents\n",
		"revoke", "usr_123", "--role", "document_editor", "--on", "/project/456/documents")
	prints(t, "{\n  \"token\": \"t5\"\n}\n",
		"revoke", "usr_123", "--permission", "document.read", "--on", "/project/456/documents", "-o", "json")
}

func TestRevokeSaysWhatChanged(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	const document = "/project/456/documents/789"
	stage(t,
		"grant usr_123 --role document_editor --permission document.share --on /project/456",
		"grant usr_123 --permission document.read --on "+document)
	prints(t, `
revoked from usr_123: permission document.read on /project/456/documents/789
usr_123 held no role document_editor, permission document.share on exactly /project/456/documents/789
usr_123 still holds role document_editor from /project/456
usr_123 still holds permission document.share from /project/456
`, "revoke", "usr_123", "--role", "document_editor", "--permission", "document.read", "--permission", "document.share", "--on", document)
	prints(t, `
usr_123 held nothing of this on exactly /project/456/documents/789: nothing changed
usr_123 still holds role document_editor from /project/456
`, "revoke", "usr_123", "--role", "id-4", "--on", document)
	looked := false
	for _, request := range f.requests {
		if look, ok := request.(*permissionsv1.GetUserPermissionsAndRolesOnResourceRequest); ok {
			looked = true
			if look.GetConsistency() != permissionsv1.Consistency_FULLY_CONSISTENT || !look.GetIncludeInherited() {
				t.Errorf("looked with %v", look)
			}
		}
	}
	if !looked {
		t.Error("did not look")
	}
	last[*permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest](t, f) // revoked all the same

	f.requests = nil
	stage(t, "revoke usr_123 --role document_editor --on "+document+" -o json")
	if len(f.requests) != 1 {
		t.Errorf("with JSON it sent %v", f.requests)
	}
}

func TestGrantAndRevokeErrors(t *testing.T) {
	startFake(t)
	for _, verb := range []string{"grant", "revoke"} {
		hint := "hint: remit " + verb + " --help shows how\n"
		fails(t, "remit: PRINCIPAL is missing\n"+hint, verb)
		fails(t, "remit: unexpected argument \"document.read\"\n"+hint, verb, "usr_123", "document.read", "--on", "/a")
		fails(t, "remit: nothing to "+verb+": give --role or --permission\n"+hint, verb, "usr_123", "--on", "/a")
		fails(t, "remit: --on is missing: on which resource?\n"+hint, verb, "usr_123", "--role", "r")
		fails(t, "remit: --on \"\": is empty: on which resource?\n"+hint, verb, "usr_123", "--role", "r", "--on", "")
		fails(t, "remit: --permission \"a,b\": holds a comma: repeat the flag for each permission\n"+hint, verb, "usr_123", "--permission", "a,b", "--on", "/a")
		fails(t, "remit: --permission \"\": is empty\n"+hint, verb, "usr_123", "--permission", "", "--on", "/a")
		fails(t, "remit: --on \"/b\": can be given only once\n"+hint, verb, "usr_123", "--role", "r", "--on", "/a", "--on", "/b")
		fails(t, "remit: --role is empty: which role?\n"+hint, verb, "usr_123", "--role", "r", "--role", "", "--on", "/a")
	}
	fails(t, `
remit: role "nobody" does not exist
hint: remit role list shows what there is
`, "grant", "usr_123", "--role", "nobody", "--on", "/a")
}

func TestCheck(t *testing.T) {
	startFake(t)
	stageRole(t)
	stage(t, "grant usr_123 --role document_editor --on /project/456/documents")
	prints(t, "allowed\n", "check", "usr_123", "document.read", "--on", "/project/456/documents/789")
	prints(t, `
{
  "passed": true,
  "missing_permissions": [],
  "token": ""
}
`, "check", "usr_123", "document.read", "document.write", "--on", "/project/456/documents/789", "-o", "json")
	expect(t, outcome{exitDenied, trim(`
denied
missing on /project/456/documents: document.share
missing on /project/45: document.read, document.share
`), ""}, "check", "usr_123", "document.read", "document.share", "--on", "/project/456/documents", "--on", "/project/45")
	expect(t, outcome{exitDenied, trim(`
{
  "passed": false,
  "missing_permissions": [
    {
      "resource_uri": "/project",
      "missing_permissions": [
        "document.read"
      ]
    }
  ],
  "token": ""
}
`), ""}, "check", "usr_123", "document.read", "--on", "/project", "-o", "json")
}

func TestCheckErrors(t *testing.T) {
	startFake(t)
	const hint = "hint: remit check --help shows how\n"
	fails(t, "remit: PRINCIPAL is missing\n"+hint, "check")
	fails(t, "remit: PERMISSION is missing\n"+hint, "check", "usr_123", "--on", "/a")
	fails(t, "remit: --on is missing: on which resource?\n"+hint, "check", "usr_123", "document.read")
	fails(t, "remit: --on is empty: on which resource?\n"+hint, "check", "usr_123", "document.read", "--on", "")
	fails(t, "remit: permission \"a,b\" holds a comma: leave a space between permissions\n"+hint, "check", "usr_123", "a,b", "--on", "/a")
	fails(t, noProject, "check", "usr_123", "document.read", "--on", "/a", "--project", "nowhere")
}

func TestAssignments(t *testing.T) {
	startFake(t)
	stageRole(t)
	expect(t, outcome{exitOK, "", "usr_123 was granted nothing.\n"}, "assignments", "usr_123")
	stage(t,
		"grant usr_123 --role document_editor --permission document.share --on /project/456",
		"grant usr_123 --permission document.read --on /project/457")
	prints(t, `
RESOURCE      ROLES            PERMISSIONS
/project/456  document_editor  document.share
/project/457  -                document.read
`, "assignments", "usr_123")
	prints(t, `
PROJECT     RESOURCE      ROLES            PERMISSIONS
production  /project/456  document_editor  document.share
production  /project/457  -                document.read
`, "assignments", "usr_123", "--project", "")
	expect(t, outcome{exitOK, trim(`
RESOURCE      ROLES            PERMISSIONS
/project/456  document_editor  document.share
`), "There are more. To go on, add: --cursor 1\n"}, "assignments", "usr_123", "--limit", "1")
	prints(t, `
{
  "assignments": [
    {
      "resource_uri": "/project/457",
      "permissions": [
        {
          "id": "id-1",
          "organisation_id": "org",
          "name": "document.read",
          "description": "",
          "project_name": "production"
        }
      ],
      "roles": [],
      "project_name": "production"
    }
  ],
  "pagination": {
    "next_cursor": ""
  },
  "token": ""
}
`, "assignments", "usr_123", "--cursor", "1", "-o", "json")
}

func TestAssignmentsOnOneResource(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	stage(t,
		"grant usr_123 --role document_editor --on /project",
		"grant usr_123 --permission document.write --on /project/456",
		"grant usr_123 --role document_editor --permission document.read --on /project/456/documents")
	prints(t, `
RESOURCE                ROLES            PERMISSIONS
/project/456/documents  document_editor  document.read
`, "assignments", "usr_123", "--on", "/project/456/documents")
	// The role's name is asked for at the answer's own revision.
	if request := last[*permissionsv1.GetRoleRequest](t, f); request.GetId() != "id-4" || request.GetToken() != "t6" {
		t.Errorf("asked for the role with %v", request)
	}
	prints(t, `
RESOURCE                ROLES            PERMISSIONS
/project/456/documents  document_editor  document.read
/project                document_editor  -
/project/456            -                document.write
`, "assignments", "usr_123", "--on", "/project/456/documents", "--inherited")
	prints(t, `
RESOURCE      ROLES            PERMISSIONS
/project      document_editor  -
/project/456  -                document.write
`, "assignments", "usr_123", "--on", "/project/456/other", "--inherited")
	expect(t, outcome{exitOK, "", "usr_123 was granted nothing on exactly /project/456/other.\n"},
		"assignments", "usr_123", "--on", "/project/456/other")
	expect(t, outcome{exitOK, "", "usr_123 was granted nothing on /other or above.\n"},
		"assignments", "usr_123", "--on", "/other", "--inherited")
	prints(t, `
{
  "project_name": "production",
  "user_id": "usr_123",
  "resource_uri": "/project/456",
  "permissions": [
    "document.write"
  ],
  "roles": [],
  "inherited_permissions": [],
  "inherited_roles": [],
  "token": "t6"
}
`, "assignments", "usr_123", "--on", "/project/456", "-o", "json")

	// A role deleted in between is named by its id.
	delete(f.roles, "document_editor")
	prints(t, `
RESOURCE  ROLES  PERMISSIONS
/project  id-4   -
`, "assignments", "usr_123", "--on", "/project")
}

func TestAssignmentsErrors(t *testing.T) {
	startFake(t)
	const hint = "hint: remit assignments --help shows how\n"
	fails(t, "remit: PRINCIPAL is missing\n"+hint, "assignments")
	fails(t, "remit: --inherited needs --on: what is inherited on which resource?\n"+hint, "assignments", "usr_123", "--inherited")
	fails(t, "remit: --on \"\": is empty: on which resource?\n"+hint, "assignments", "usr_123", "--on", "")
	fails(t, "remit: --project is empty: which project? Only without --on it can be all\n"+hint, "assignments", "usr_123", "--on", "/a", "--project", "")
	fails(t, "remit: --cursor goes on after a list of all assignments; it does not go with --on\n"+hint,
		"assignments", "usr_123", "--on", "/a", "--cursor", "1")
	fails(t, noProject, "assignments", "usr_123", "--on", "/a", "--project", "nowhere")
	fails(t, noProject, "assignments", "usr_123", "--project", "nowhere")
}

func TestPrincipals(t *testing.T) {
	startFake(t)
	expect(t, outcome{exitOK, "", "Nobody holds anything yet. Grant something: remit grant usr_123 --role document_editor --on /project/456\n"}, "principals")
	stageRole(t)
	stage(t, "grant usr_123 --permission document.read --on /a", "grant service:ci --permission document.read --on /a")
	prints(t, `
PRINCIPAL
service:ci
usr_123
`, "principals")
	prints(t, `
{
  "principals": [
    "service:ci"
  ],
  "pagination": {
    "next_cursor": ""
  },
  "token": ""
}
`, "principals", "--search", "service", "-o", "json")
	expect(t, outcome{exitOK, "", "No principal's id contains \"nobody\".\n"}, "principals", "--search", "nobody")
	fails(t, "remit: unexpected argument \"usr_123\"\nhint: remit principals --help shows how\n", "principals", "usr_123")
}

func TestConsistency(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	reads := [][]string{
		{"permission", "get", "document.read"},
		{"permission", "list"},
		{"role", "get", "document_editor"},
		{"role", "list"},
		{"check", "usr_123", "document.read", "--on", "/a"},
		{"assignments", "usr_123"},
		{"assignments", "usr_123", "--on", "/a"},
		{"principals"},
	}
	type consistent interface {
		GetConsistency() permissionsv1.Consistency
		GetToken() string
	}
	for _, read := range reads {
		for _, test := range []struct {
			flags []string
			want  permissionsv1.Consistency
			token string
		}{
			{nil, permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED, ""},
			{[]string{"--consistent"}, permissionsv1.Consistency_FULLY_CONSISTENT, ""},
			{[]string{"--at-least", "t1"}, permissionsv1.Consistency_AT_LEAST_AS_FRESH, "t1"},
		} {
			remit(t, append(read, test.flags...)...)
			if request := last[consistent](t, f); request.GetConsistency() != test.want || request.GetToken() != test.token {
				t.Errorf("%q %q sent %v %q", read, test.flags, request.GetConsistency(), request.GetToken())
			}
		}
		got := remit(t, append(read, "--consistent", "--at-least", "t1")...)
		if want := "remit: --consistent and --at-least exclude each other\n"; got.code != exitError || len(got.stderr) < len(want) || got.stderr[:len(want)] != want {
			t.Errorf("%q with both: exit code %d, stderr %q", read, got.code, got.stderr)
		}
	}
}
