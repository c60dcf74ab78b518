package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/format"
	"log"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// documentNode is a node that the documentation's examples run against, with the
// key that they use.
type documentNode struct {
	*process
	ctx    context.Context
	key    string
	client permissionsv1.PermissionsServiceClient
}

func startDocumentNode(t *testing.T) *documentNode {
	p := serve(t.TempDir()).start(t).ready()
	return &documentNode{p, t.Context(), rootKey, p.client(rootKey)}
}

// forEachOwner runs the examples with the key of the organisation that a cluster
// comes with, and with the owner key of another, in which they must work alike.
func forEachOwner(t *testing.T, test func(t *testing.T, n *documentNode)) {
	t.Run("first organisation", func(t *testing.T) { test(t, startDocumentNode(t)) })
	t.Run("second organisation", func(t *testing.T) {
		n := startDocumentNode(t)
		n.permissions("of.another.tenant")
		made, err := organisationv1.NewOrganisationServiceClient(n.dial(rootKey)).CreateOrganisation(n.ctx,
			&organisationv1.CreateOrganisationRequest{Name: "acme"})
		n.check(made, err)
		n.key = made.ApiKey.Key
		n.client = n.process.client(n.key)
		n.check(organisationv1.NewOrganisationServiceClient(n.dial(n.key)).CreateProject(n.ctx,
			&organisationv1.CreateProjectRequest{Name: project}))
		test(t, n)
	})
}

func (n *documentNode) check(_ any, err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *documentNode) permissions(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.check(n.client.CreatePermission(n.ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name}))
	}
}

// editor makes sure that the role document_editor is there, and returns its id.
func (n *documentNode) editor() string {
	n.t.Helper()
	roles, err := n.client.ListRoles(n.ctx, &permissionsv1.ListRolesRequest{ProjectName: project})
	n.check(roles, err)
	if len(roles.Roles) > 0 {
		return roles.Roles[0].Id
	}
	made, err := n.client.CreateRole(n.ctx, &permissionsv1.CreateRoleRequest{
		ProjectName: project, Name: "document_editor", Description: "Can read and write documents", Permissions: []string{"document.read", "document.write"}})
	n.check(made, err)
	return made.Id
}

func (n *documentNode) grant(user, uri string) {
	n.t.Helper()
	n.check(n.client.GrantUserPermissionsAndRolesOnResource(n.ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: []string{"document.read"}, Roles: []string{n.editor()}}))
}

// An example is one of the documentation's curl commands.
type example struct {
	line string // how the command begins, to name it
	// stage makes what the command is about, and returns what stands in it for
	// its placeholders, once for each time that it is run.
	stage func(n *documentNode) []map[string]string
	// answer is a text of JSON that the answer has to match.
	answer string
}

const (
	permissionAnswer = `{"id": "*", "organisation_id": "*", "name": "document.read", "description": "%s", "project_name": "production"}`
	editorAnswer     = `{"id": "$ROLE", "organisation_id": "*", "name": "document_editor", "description": "%s", "project_name": "production", "permissions": [%s]}`
)

func named(names ...string) string {
	var list []string
	for _, name := range names {
		list = append(list, fmt.Sprintf(`{"id": "*", "organisation_id": "*", "name": %q, "description": "*", "project_name": "production"}`, name))
	}
	return strings.Join(list, ", ")
}

// once is the stage of a command that is run once.
func once(stage func(n *documentNode) map[string]string) func(n *documentNode) []map[string]string {
	return func(n *documentNode) []map[string]string { return []map[string]string{stage(n)} }
}

func nothing(*documentNode) map[string]string { return nil }

func permissionStage(n *documentNode) map[string]string {
	n.permissions("document.read", "document.write", "document.delete")
	n.check(n.client.UpdatePermission(n.ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "document.read", Description: "Allows reading documents"}))
	return map[string]string{"{name}": "document.read"}
}

func roleStage(n *documentNode) map[string]string {
	permissionStage(n)
	id := n.editor()
	return map[string]string{"{id}": id, "role_456": id}
}

func grantStage(n *documentNode) map[string]string {
	roleStage(n)
	n.grant("usr_123", "/project/456/documents/789")
	n.grant("user_123", "/project/456/documents")
	return map[string]string{"{principal_id}": "usr_123", "role_456": n.editor()}
}

var examples = []example{
	{`curl -X POST "https://api.perms.io/permissions-service/v1/permissions"`, once(nothing), fmt.Sprintf(permissionAnswer, "Allows reading documents")},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/permissions/{name}`, once(permissionStage), fmt.Sprintf(permissionAnswer, "Allows reading documents")},
	{`curl -X PUT "https://api.perms.io/permissions-service/v1/permissions/{name}"`, once(permissionStage), fmt.Sprintf(permissionAnswer, "Updated description for reading documents")},
	{`curl -X DELETE "https://api.perms.io/permissions-service/v1/permissions/{name}`, once(permissionStage), `{}`},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/permissions?`, once(func(n *documentNode) map[string]string {
		permissionStage(n)
		for i := range 12 {
			n.permissions(fmt.Sprintf("document.extra.%02d", i))
		}
		first, err := n.client.ListPermissions(n.ctx, &permissionsv1.ListPermissionsRequest{ProjectName: project, Search: &documentSearch})
		n.check(first, err)
		return map[string]string{"abc123": first.Pagination.NextCursor}
	}), `{"permissions": [` + named("document.extra.09", "document.extra.10", "document.extra.11", "document.read", "document.write") + `], "pagination": {"next_cursor": ""}}`},
	{`curl -X POST "https://api.perms.io/permissions-service/v1/roles"`, once(permissionStage),
		fmt.Sprintf(editorAnswer, "Can read and write documents", named("document.read", "document.write"))},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/roles/{id}?`, once(roleStage),
		fmt.Sprintf(editorAnswer, "Can read and write documents", named("document.read", "document.write"))},
	{`curl -X PUT "https://api.perms.io/permissions-service/v1/roles/{id}"`, once(roleStage),
		fmt.Sprintf(editorAnswer, "Updated description", named("document.delete", "document.read", "document.write"))},
	{`curl -X DELETE "https://api.perms.io/permissions-service/v1/roles/{id}?`, once(roleStage), `{}`},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/roles?`, once(roleStage),
		`{"roles": [` + fmt.Sprintf(editorAnswer, "Can read and write documents", named("document.read", "document.write")) + `], "pagination": {"next_cursor": ""}}`},
	{`curl -X POST "https://api.perms.io/permissions-service/v1/permissions/assign"`, once(roleStage), `{}`},
	{`curl -X POST "https://api.perms.io/permissions-service/v1/permissions/revoke"`, once(grantStage), `{}`},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/permissions/user/{user_id}/resource/{resource_uri}?`, func(n *documentNode) []map[string]string {
		grantStage(n)
		return []map[string]string{ // the URI as it is, with the slash doubled, percent-encoded
			{"{user_id}": "usr_123", "{resource_uri}": "project/456/documents/789"},
			{"{user_id}": "usr_123", "{resource_uri}": "/project/456/documents/789"},
			{"{user_id}": "usr_123", "{resource_uri}": "%2Fproject%2F456%2Fdocuments%2F789"},
		}
	}, `{"project_name": "production", "user_id": "usr_123", "resource_uri": "/project/456/documents/789", "permissions": ["document.read"], "roles": ["$ROLE"]}`},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/permissions/principals?`, once(grantStage), `{"principals": ["user_123"], "pagination": {"next_cursor": ""}}`},
	{`curl -X GET "https://api.perms.io/permissions-service/v1/permissions/assignments/principal/{principal_id}?`, once(grantStage),
		`{"assignments": [{"resource_uri": "/project/456/documents/789", "permissions": [` + named("document.read") + `], "roles": [` +
			fmt.Sprintf(editorAnswer, "Can read and write documents", named("document.read", "document.write")) + `]}]}`},
	{`curl -X POST "https://api.perms.io/permissions-service/v1/permissions/check"`, once(grantStage),
		`{"passed": false, "missing_permissions": [{"resource_uri": "/project/456/documents/101", "missing_permissions": ["document.read", "document.write"]}]}`},
	{`curl -X POST "https://api.perms.io/permissions-service/v1/permissions/check"`, once(func(n *documentNode) map[string]string {
		n.grant("usr_123", "/project/456/documents")
		return grantStage(n)
	}), `{"passed": true, "missing_permissions": []}`},
}

var documentSearch = "document"

// TestDocumentCommands runs every curl command of the documentation. Only what is
// a placeholder there is filled in: the host, the key, ids and the cursor.
func TestDocumentCommands(t *testing.T) {
	content, err := os.ReadFile("testdata/document/commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	commands := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n\n")
	if len(commands) != 16 {
		t.Fatalf("%d commands", len(commands))
	}
	commands = append(commands, commands[15]) // the check has two outcomes
	for _, by := range []struct {
		name string
		run  func(*testing.T, string) reply
	}{{"net/http", runHTTP}, {"curl", runCurl}} {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("curl"); err != nil && by.name == "curl" {
				t.Skip(err)
			}
			forEachOwner(t, func(t *testing.T, n *documentNode) {
				for i, e := range examples {
					if !strings.HasPrefix(commands[i], e.line) {
						t.Fatalf("command %d is\n%s\nwant %s", i, commands[i], e.line)
					}
					for _, values := range e.stage(n) {
						pairs := []string{"https://api.perms.io", "http://" + n.http, "YOUR_API_KEY", n.key}
						for placeholder, value := range values {
							pairs = append(pairs, placeholder, value)
						}
						command := strings.NewReplacer(pairs...).Replace(commands[i])
						got := by.run(t, command)
						if got.code != http.StatusOK {
							t.Errorf("%s\nanswers %d: %s", command, got.code, got.body)
							continue
						}
						answer := e.answer
						if strings.Contains(answer, "$ROLE") {
							answer = strings.ReplaceAll(answer, "$ROLE", n.editor())
						}
						if err := matches([]byte(got.body), []byte(answer)); err != nil {
							t.Errorf("%s\nanswers %s\nwant %s\n%v", command, got.body, answer, err)
						}
					}
				}
			})
		})
	}
}

// matches compares an answer with what is wanted of it: the answer may have more
// fields, and "*" is any text.
func matches(got, want []byte) error {
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		return err
	}
	if err := json.Unmarshal(want, &w); err != nil {
		return err
	}
	return match("answer", g, w)
}

func match(at string, got, want any) error {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", at)
		}
		for field, value := range want {
			have, ok := object[field]
			if !ok {
				return fmt.Errorf("%s has no %s", at, field)
			}
			if err := match(at+"."+field, have, value); err != nil {
				return err
			}
		}
		return nil
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Errorf("%s is no list of %d", at, len(want))
		}
		for i := range want {
			if err := match(fmt.Sprintf("%s[%d]", at, i), list[i], want[i]); err != nil {
				return err
			}
		}
		return nil
	case string:
		if text, ok := got.(string); ok && want == "*" && (text != "" || strings.HasSuffix(at, ".description")) {
			return nil
		}
	}
	if got != want {
		return fmt.Errorf("%s is %v, want %v", at, got, want)
	}
	return nil
}

// TestDocumentFunctions runs the Go functions of the documentation.
func TestDocumentFunctions(t *testing.T) {
	published, err := os.ReadFile("testdata/document/functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	formatted, err := format.Source(published)
	if err != nil {
		t.Fatal(err)
	}
	pasted, err := os.ReadFile("document_functions_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if count := bytes.Count(published, []byte("\nfunc ")) + 1; count != 16 || !bytes.HasSuffix(pasted, formatted) {
		t.Errorf("document_functions_test.go does not hold the %d functions as they are published", count)
	}

	forEachOwner(t, callDocumentFunctions)
}

func callDocumentFunctions(t *testing.T, n *documentNode) {
	var printed bytes.Buffer
	flags, output := log.Flags(), log.Writer()
	log.SetFlags(0)
	log.SetOutput(&printed)
	defer func() {
		log.SetFlags(flags)
		log.SetOutput(output)
	}()
	// prints compares what was logged since the last time, in which ID is any id.
	prints := func(want ...string) {
		t.Helper()
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Join(want, "\n")+"\n"), "ID_", "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
		if !regexp.MustCompile("^" + pattern + "$").MatchString(printed.String()) {
			t.Errorf("printed\n%swant\n%s", printed.String(), strings.Join(want, "\n"))
		}
		printed.Reset()
	}

	createPermission(n.client)
	prints("Created permission: document.read (ID: ID_)")
	getPermission(n.client, project, "document.read")
	prints("Permission: document.read - Allows reading documents")
	updatePermission(n.client, project, "document.read")
	prints("Updated permission: document.read")
	n.permissions("document.write", "document.delete", "other")
	listPermissions(n.client, project)
	prints("Permission: document.delete - ", "Permission: document.read - Updated description for reading documents", "Permission: document.write - ")

	createRole(n.client, project, []string{"document.read", "document.write"})
	prints("Created role: document_editor (ID: ID_)")
	id := n.editor()
	getRole(n.client, project, id)
	prints("Role: document_editor - Can read and write documents (Permissions: 2)")
	updateRole(n.client, project, id, []string{"document.read", "document.write", "document.delete"})
	prints("Updated role: document_editor")
	listRoles(n.client, project)
	prints("Role: document_editor - Updated description (Permissions: 3)")

	const documents = "/project/456/documents"
	grantPermissions(n.client, "usr_123", documents, []string{"document.read"}, []string{id})
	prints("Granted permissions to user usr_123 on resource /project/456/documents")
	getUserPermissions(n.client, "usr_123", documents)
	prints("User has 1 permissions and 1 roles on resource /project/456/documents")
	listPrincipals(n.client, project)
	prints("Principal: usr_123")
	getAllAssignments(n.client, project, "usr_123")
	prints("Resource: /project/456/documents, Permissions: 1, Roles: 1")
	both := []string{"document.read", "document.write"}
	checkPermissions(n.client, "usr_123", []string{documents + "/789", documents + "/101"}, both)
	prints("Permission check passed for principal usr_123")
	revokePermissions(n.client, "usr_123", documents, nil, []string{id})
	prints("Revoked permissions from user usr_123 on resource /project/456/documents")
	checkPermissions(n.client, "usr_123", []string{documents + "/789", "/project/4567"}, both)
	prints("Permission check failed:", "  Resource /project/456/documents/789 missing: [document.write]",
		"  Resource /project/4567 missing: [document.read document.write]")

	deleteRole(n.client, project, id)
	prints("Deleted role: " + id)
	deletePermission(n.client, project, "document.read")
	prints("Deleted permission: document.read")
	listPrincipals(n.client, project)
	if printed.Len() > 0 {
		t.Errorf("after its permission is deleted, nobody should be listed: %s", printed.String())
	}
}
