package main

import (
	"strings"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// How an answer is printed does not decide which rights a command needs.
func TestBlindKey(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	stage(t, "grant usr_123 --role document_editor --on /a", "project create staging")
	f.blind = true
	for _, test := range []struct{ args, stdout string }{
		{"revoke usr_123 --role document_editor --permission document.read --on /a",
			"revoked from usr_123: role document_editor, permission document.read on /a; this key may not see what was held there and what is left\n"},
		{"permission delete document.share", "no permission is called document.share any more; this key may not see whether one was\n"},
		{"role delete document_editor", "no role is called document_editor any more; this key may not see whether one was\n"},
		{"project delete staging --yes", "deleted project staging\n"},
	} {
		prints(t, test.stdout, strings.Fields(test.args)...)
	}
	if len(f.assignments["usr_123"]) > 0 || len(f.permissions) != 2 || len(f.roles) > 0 || f.projects["staging"] {
		t.Errorf("left %v, %v, %v, %v", f.assignments, f.permissions, f.roles, f.projects)
	}
	for _, args := range []string{
		"revoke usr_123 --role document_editor --on /a", "permission delete document.share", "role delete document_editor",
	} {
		if got := remit(t, append(strings.Fields(args), "-o", "json")...); got.code != exitOK {
			t.Errorf("remit %s -o json: %+v", args, got)
		}
	}

	// A confirmation is asked for, whatever the key may see.
	fails(t, `
remit: not confirmed, so nothing changed: this deletes project production with all its permissions, roles, grants and keys
hint: --yes deletes without asking
`, "project", "delete", "production")
}

// What replaces looks first, to replace nothing unasked: without that right it
// changes nothing, however the answer is to be printed.
func TestBlindKeyReplacesNothing(t *testing.T) {
	f := startFake(t)
	stageRole(t)
	f.blind = true
	const denied = "remit: Permission denied: missing required permission 'get' on resource '/organisation/org'\n" +
		"hint: remit whoami shows what the key holds; an owner can grant it: remit grant key:ID --project remit --permission get --on /organisation/org\n"
	for _, test := range []struct{ args, hint string }{
		{"permission create document.read", "create looks first whether there is one, which needs permission.get; --replace does not, and replaces what is there"},
		{"role create document_editor", "create looks first whether there is one, which needs role.get; --replace does not, and replaces what is there"},
		{"permission update document.read --rename doc.read",
			"the description is read first, to keep it, which needs permission.get; with --description it is not"},
		{"role update document_editor --rename editor",
			"what is not given is read first, to keep it, which needs role.get; with --description and --permission nothing is"},
	} {
		for _, output := range []string{"table", "json"} {
			fails(t, denied+"hint: "+test.hint+"\n", append(strings.Fields(test.args), "-o", output)...)
			switch request := f.requests[len(f.requests)-1].(type) {
			case *permissionsv1.GetPermissionRequest, *permissionsv1.GetRoleRequest:
			default:
				t.Errorf("remit %s sent %v", test.args, request)
			}
		}
	}
	stage(t,
		"permission create document.read --replace",
		"permission update document.read --description x",
		"role update document_editor --description x --permission document.read",
		"role create document_editor --replace")
}
