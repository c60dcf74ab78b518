package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

func TestOrganisationCreate(t *testing.T) {
	startFake(t)
	expect(t, outcome{exitOK, "remit_secret\n", trim(`
created organisation acme (id-1) and its first owner key, owner (id-2)
This is its secret, shown this once:
To work in it: export REMIT_KEY=<this secret> REMIT_PROJECT=default # its first project
`)}, "organisation", "create", "acme")
	prints(t, `
{
  "organisation": {
    "id": "id-3",
    "name": "acme",
    "created_at": "2026-01-02T03:04:05.600Z",
    "updated_at": "2026-01-02T03:04:05.600Z"
  },
  "api_key": {
    "id": "id-4",
    "name": "owner",
    "key": "remit_secret",
    "created_at": "2026-01-02T03:04:05.600Z",
    "invalidated": false,
    "project_name": "remit",
    "operator": false
  },
  "token": "o1"
}
`, "organization", "create", "acme", "-o", "json")
}

func TestOrganisationShowAndRename(t *testing.T) {
	f := startFake(t)
	const shown = `
Name:     own
Created:  2026-01-02T03:04:05Z
Updated:  -
ID:       org
`
	prints(t, shown, "organisation", "get")
	prints(t, shown, "organisation", "get", "--consistent")
	if got := last[*organisationv1.GetOrganisationRequest](t, f); got.GetId() != "" || got.GetConsistency() != organisationv1.Consistency_FULLY_CONSISTENT {
		t.Errorf("sent %v", got)
	}
	fails(t, "remit: unexpected argument \"org\"\nhint: remit organisation get --help shows how\n", "organisation", "get", "org")
	prints(t, `
Name:     Acme Ltd
Created:  2026-01-02T03:04:05Z
Updated:  2026-01-02T03:04:05Z
ID:       org
`, "organisation", "rename", "Acme Ltd")
	if got := last[*organisationv1.UpdateOrganisationRequest](t, f); got.GetId() != "" {
		t.Errorf("sent %v", got)
	}
}

func TestOrganisationList(t *testing.T) {
	f := startFake(t)
	expect(t, outcome{exitOK, "", "No organisations yet. Create one: remit organisation create acme\n"}, "organisation", "list")
	stage(t, "organisation create acme", "organisation create umbrella")
	prints(t, `
NAME      CREATED               ID
acme      2026-01-02T03:04:05Z  id-1
umbrella  2026-01-02T03:04:05Z  id-3
`, "organisation", "list")
	prints(t, `
NAME  CREATED               ID
acme  2026-01-02T03:04:05Z  id-1
`, "organisation", "list", "--search", "ACM")
	expect(t, outcome{exitOK, "", "No organisation's name contains \"x\".\n"}, "organisation", "list", "--search", "x")
	for i := range 200 {
		name := fmt.Sprintf("o%03d", i)
		f.organisations[name] = &organisationv1.Organisation{Name: name}
	}
	f.requests = nil
	if got := remit(t, "organisation", "list", "--limit", "500"); got.code != exitOK || got.stderr != "" ||
		strings.Count(got.stdout, "\n") != 1+202 || len(f.requests) != 3 {
		t.Errorf("%d calls: %+v", len(f.requests), got)
	}
}

func TestOrganisationDelete(t *testing.T) {
	f := startFake(t)
	stage(t, "organisation create acme")
	fails(t, `
remit: not confirmed, so nothing changed: this deletes organisation acme (id-1, created 2026-01-02T03:04:05Z) with all its projects, keys, roles and grants
hint: --yes deletes without asking
`, "organisation", "delete", "id-1")
	if len(f.organisations) != 1 {
		t.Error("it was deleted unasked")
	}
	prints(t, "deleted organisation acme (id-1, created 2026-01-02T03:04:05Z)\n", "organisation", "delete", "id-1", "--yes")
	if len(f.organisations) != 0 {
		t.Error("it was not deleted")
	}
	fails(t, `
remit: no organisation has the id "id-1": nothing changed
hint: remit organisation list shows what there is
`, "organisation", "delete", "id-1", "--yes")
	stage(t, "organisation create acme")
	prints(t, `
{
  "token": "o4"
}
`, "organisation", "delete", "id-3", "--yes", "-o", "json")

	// It is looked for on every page.
	for i := range 250 {
		name := fmt.Sprintf("o%03d", i)
		f.organisations[name] = &organisationv1.Organisation{Id: "id-" + name, Name: name}
	}
	stage(t, "organisation delete id-o240 --yes")
	if f.requests = nil; remit(t, "organisation", "delete", "id-o240", "--yes").code != exitError || len(f.requests) != 3 {
		t.Errorf("looked with %d requests", len(f.requests))
	}
	if f.requests = nil; remit(t, "organisation", "delete", "id-o000", "--yes").code != exitOK || len(f.requests) != 2 {
		t.Errorf("deleted with %d requests", len(f.requests))
	}
}

func TestProjectCreateAndList(t *testing.T) {
	f := startFake(t)
	prints(t, `
Name:          staging
Created:       2026-01-02T03:04:05Z
Organisation:  org
`, "project", "create", "staging")
	fails(t, "remit: project \"staging\" exists already\n", "project", "create", "staging")
	prints(t, `
{
  "project": {
    "organisation_id": "org",
    "name": "test",
    "created_at": "2026-01-02T03:04:05.600Z"
  },
  "token": "o5"
}
`, "project", "create", "test", "-o", "json")
	prints(t, `
NAME        CREATED
production  2026-01-02T03:04:05Z
remit       2026-01-02T03:04:05Z
staging     2026-01-02T03:04:05Z
test        2026-01-02T03:04:05Z
`, "project", "list")
	expect(t, outcome{exitOK, trim(`
NAME        CREATED
production  2026-01-02T03:04:05Z
`), "There are more. To go on, add: --cursor 1\n"}, "project", "list", "--limit", "1", "--at-least", "o5")
	if got := last[*organisationv1.GetProjectsForOrganisationRequest](t, f); got.GetOrganisationId() != "" ||
		got.GetConsistency() != organisationv1.Consistency_AT_LEAST_AS_FRESH || got.GetToken() != "o5" {
		t.Errorf("sent %v", got)
	}
}

func TestProjectDelete(t *testing.T) {
	f := startFake(t)
	stage(t, "project create staging")
	const refused = `
remit: not confirmed, so nothing changed: this deletes project staging with all its permissions, roles, grants and keys
hint: --yes deletes without asking
`
	fails(t, refused, "project", "delete", "staging")
	fails(t, refused, "project", "delete", "staging", "-o", "json")
	if !f.projects["staging"] {
		t.Error("it was deleted unasked")
	}
	prints(t, "deleted project staging\n", "project", "delete", "staging", "--yes")
	const absent = "remit: project \"staging\" does not exist\nhint: remit project list shows what there is\n"
	for _, flags := range []string{"", "--yes", "-o json", "-o json --yes"} {
		fails(t, absent, append([]string{"project", "delete", "staging"}, strings.Fields(flags)...)...)
	}
	stage(t, "project create staging")
	prints(t, `
{
  "token": "o6"
}
`, "project", "delete", "staging", "-o", "json", "--yes")
}

func TestProjectGet(t *testing.T) {
	f := startFake(t)
	prints(t, `
Name:          production
Created:       2026-01-02T03:04:05Z
Organisation:  org
`, "project", "get", "production", "--consistent")
	if got := last[*organisationv1.GetProjectRequest](t, f); got.GetConsistency() != organisationv1.Consistency_FULLY_CONSISTENT {
		t.Errorf("sent %v", got)
	}
	prints(t, `
{
  "project": {
    "organisation_id": "org",
    "name": "production",
    "created_at": "2026-01-02T03:04:05.600Z"
  },
  "token": ""
}
`, "project", "get", "production", "-o", "json")
	fails(t, "remit: NAME is missing\nhint: remit project get --help shows how\n", "project", "get")
}

// /dev/null looks like a terminal and never answers.
func TestConfirmAsks(t *testing.T) {
	startFake(t)
	stage(t, "organisation create acme")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var stdout, stderr strings.Builder
	code := Main(t.Context(), []string{"organisation", "delete", "id-1"}, null, &stdout, &stderr)
	want := "Delete organisation acme (id-1, created 2026-01-02T03:04:05Z) with all its projects, keys, roles and grants, for ever? Type yes: \n" +
		"remit: not confirmed, so nothing changed: this deletes organisation acme (id-1, created 2026-01-02T03:04:05Z) with all its projects, keys, roles and grants\n" +
		"hint: --yes deletes without asking\n"
	if code != exitError || stdout.String() != "" || stderr.String() != want {
		t.Errorf("exit code %d, stdout %q, stderr\n%s", code, stdout.String(), stderr.String())
	}
}

func TestReadYes(t *testing.T) {
	for text, want := range map[string]bool{
		"yes\n": true, "yes\r\n": true, " yes \n": true, "yes": true, "yes\nno\n": true,
		"": false, "\n": false, "y\n": false, "no\n": false, "yes please\n": false, "\nyes\n": false,
	} {
		if got, _, err := readYes(t.Context(), strings.NewReader(text)); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	silent, open := io.Pipe()
	defer open.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if agreed, _, err := readYes(ctx, silent); agreed || !errors.Is(err, context.Canceled) || err.Error() != "interrupted" {
		t.Errorf("%v, %v", agreed, err)
	}
}

func TestKeyCreate(t *testing.T) {
	f := startFake(t)
	expect(t, outcome{exitOK, "remit_secret\n", trim(`
created key ci (id-1) of project production, with the role viewer
This is its secret, shown this once:
`)}, "key", "create", "ci", "--role", "viewer")
	if got := last[*organisationv1.CreateAPIKeyRequest](t, f); got.GetRole() != "viewer" || got.GetOrganisationId() != "" || got.GetOperator() {
		t.Errorf("sent %v", got)
	}
	expect(t, outcome{exitOK, "remit_secret\n", trim(`
created key ops (id-2) of project remit, an operator
This is its secret, shown this once:
`)}, "key", "create", "ops", "--operator", "--project", "remit")
	prints(t, `
{
  "api_key": {
    "id": "id-3",
    "name": "ci",
    "key": "remit_secret",
    "created_at": "2026-01-02T03:04:05.600Z",
    "invalidated": false,
    "project_name": "production",
    "operator": false
  },
  "token": "o7"
}
`, "key", "create", "ci", "-o", "json")
	fails(t, noProject, "key", "create", "ci", "--project", "nowhere")
	fails(t, `
remit: role "admin" does not exist in project "remit", which has owner, editor and viewer
hint: --role is owner, editor or viewer
`, "key", "create", "ci", "--role", "admin")
	fails(t, "remit: --role is empty: owner, editor or viewer?\nhint: remit key create --help shows how\n", "key", "create", "ci", "--role", "")
	fails(t, "remit: --project is empty: which project?\nhint: remit key create --help shows how\n", "key", "create", "ci", "--project", "")
}

// A secret that nobody saw is of no use to anybody.
func TestKeyCreateCannotShow(t *testing.T) {
	startFake(t)
	var stderr strings.Builder
	for _, test := range []struct{ kind, about, undo string }{
		{"key", "created key ci (id-1) of project production", "remit key invalidate id-1 --project production"},
		{"organisation", "created organisation ci (id-2) and its first owner key, owner (id-3)", "remit organisation delete id-2"},
	} {
		stderr.Reset()
		code := Main(t.Context(), []string{test.kind, "create", "ci"}, strings.NewReader(""), brokenPipe{func() {}}, &stderr)
		want := test.about + `
This is its secret, shown this once:
remit: the secret could not be shown and is lost: broken pipe
hint: without it the key is of no use: ` + test.undo + ` takes it back, then create it again
`
		if code != exitError || stderr.String() != want {
			t.Errorf("%s: exit code %d: %s", test.kind, code, stderr.String())
		}
	}
}

func TestKeyListAndInvalidate(t *testing.T) {
	startFake(t)
	expect(t, outcome{exitOK, "", "No keys yet. Create one: remit key create ci --role viewer\n"}, "key", "list")
	stage(t, "key create ci", "key create web", "key create ops --operator --project remit")
	prints(t, "invalidated key id-2\n", "key", "invalidate", "id-2")
	prints(t, "invalidated key id-2\n", "key", "invalidate", "id-2")
	fails(t, `
remit: key id-3 does not exist in project "production"
hint: remit key list shows what there is
`, "key", "invalidate", "id-3")
	for _, tried := range []string{"delete", "remove", "revoke"} {
		fails(t, `
remit: remit key has no command "`+tried+`": did you mean "invalidate"?
hint: remit key --help shows how
`, "key", tried, "id-1")
	}
	fails(t, `
remit: remit key has no command "show": did you mean "list"?
hint: remit key --help shows how
`, "key", "show")
	prints(t, `
NAME  STATE        OPERATOR  CREATED               ID
ci    valid        no        2026-01-02T03:04:05Z  id-1
web   invalidated  no        2026-01-02T03:04:05Z  id-2
`, "key", "list")
	prints(t, `
NAME  STATE  OPERATOR  CREATED               ID
ops   valid  yes       2026-01-02T03:04:05Z  id-3
`, "key", "list", "--project", "remit", "--search", "op")
	prints(t, `
{
  "token": "o8"
}
`, "key", "invalidate", "id-1", "-o", "json")
}

func TestWhoAmI(t *testing.T) {
	f := startFake(t)
	f.me = &organisationv1.WhoAmIResponse{
		ApiKey: &organisationv1.APIKey{Id: "k", Name: "ci", ProjectName: "production"}, Principal: "key:k",
		Organisation: own(), ProjectName: "production",
	}
	expect(t, outcome{exitOK, trim(`
Key:           ci
Principal:     key:k
Project:       production, so it acts on that project alone
Organisation:  own (org)
Operator:      no
`), "It was granted nothing in the project remit: it may only check.\n"}, "whoami")

	f.me.ProjectName, f.me.Operator = "remit", true
	f.me.Assignments = []*organisationv1.Assignment{
		{ResourceUri: "/organisation/org", Roles: []string{"owner", "viewer"}},
		{ResourceUri: "/organisation/org/project/production", Permissions: []string{"role.get"}},
	}
	prints(t, `
Key:           ci
Principal:     key:k
Project:       remit, so it acts on every project of the organisation
Organisation:  own (org)
Operator:      yes

RESOURCE                              ROLES          PERMISSIONS
/organisation/org                     owner, viewer  -
/organisation/org/project/production  -              role.get
`, "whoami")

	f.me.ProjectName, f.me.Operator, f.me.Assignments = "production", false, f.me.Assignments[1:]
	prints(t, `
Key:           ci
Principal:     key:k
Project:       production, so it acts on that project alone
Organisation:  own (org)
Operator:      no

Granted to it, which holds in the project production only:
RESOURCE                              ROLES  PERMISSIONS
/organisation/org/project/production  -      role.get
`, "whoami")

	f.me = &organisationv1.WhoAmIResponse{Token: "o9"}
	for i := range 150 {
		f.me.Assignments = append(f.me.Assignments, &organisationv1.Assignment{ResourceUri: fmt.Sprintf("/a/%03d", i)})
	}
	f.requests = nil
	got := remit(t, "whoami", "-o", "json", "--limit", "1000")
	if got.code != exitOK || strings.Count(got.stdout, "resource_uri") != 150 || len(f.requests) != 2 ||
		!strings.Contains(got.stdout, `"next_cursor": ""`) || !strings.Contains(got.stdout, `"token": "o9"`) ||
		strings.Index(got.stdout, "/a/000") > strings.Index(got.stdout, "/a/149") {
		t.Errorf("%d calls: %+v", len(f.requests), got)
	}

	f.fail = status.Error(codes.Unavailable, "the node is not ready")
	fails(t, "remit: the node is not ready\n", "whoami")
}
