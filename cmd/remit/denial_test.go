package main

import (
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// deny lets every call fail with this message.
func (f *fakeNode) deny(message string) {
	f.fail = status.Error(codes.PermissionDenied, "Permission denied: "+message)
}

func TestDenialsSayWhatToDo(t *testing.T) {
	f := startFake(t)
	const (
		id    = "6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11"
		holds = "remit whoami shows what the key holds"
		grant = holds + "; an owner can grant it: remit grant key:ID --project remit --permission "
	)
	missing := func(permission, resource string) string {
		return "missing required permission '" + permission + "' on resource '" + resource + "'"
	}
	for _, test := range []struct{ args, message, hints string }{
		{"role get editor", missing("role.get", "/organisation/o/role/editor"),
			grant + "role.get --on /organisation/o/role/ID\na right on a role is granted on the role's id: remit role get editor -o json shows it"},
		{"role get editor --project staging", missing("role.get", "/organisation/o/role/the%2Feditor"),
			grant + "role.get --on /organisation/o/role/ID\na right on a role is granted on the role's id: remit role get the/editor -o json --project staging shows it"},
		{"role get " + id, missing("role.get", "/organisation/o/role/"+id), grant + "role.get --on /organisation/o/role/" + id},
		{"role update editor --rename chief --description x --permission a", missing("role.update", "/organisation/o/role/chief"),
			grant + "role.update --on /organisation/o/role/chief"},
		{"permission get " + id, missing("permission.get", "/organisation/o/permission/"+id),
			grant + "permission.get --on /organisation/o/permission/NAME\na right on a permission is granted on the permission's name: remit permission get " + id + " -o json shows it"},
		{"permission list", missing("permission.list", "/organisation/o"), grant + "permission.list --on /organisation/o"},
		{"assignments u --on /x", missing("principal.assignment.get", "/organisation/o/project/p/resource/*/role/it's"),
			grant + `principal.assignment.get --on '/organisation/o/project/p/resource/*/role/it'\''s'`},
		{"permission get a", missing("permission.get", "/organisation/o/permission/aaa")[:60] + "…'", holds},
		{"permission list", missing("permission.list", "/a\u202eb"), holds},
		{"key invalidate k", "missing required role 'owner' on resource '/organisation/o'",
			holds + "; an owner can grant it: remit grant key:ID --project remit --role owner --on /organisation/o"},
		{"organisation list", "only operators of the cluster may call OrganisationService/ListOrganisations",
			"remit whoami shows which key this is, and whether it is an operator"},
		{"permission list", `the API key is of project "staging" and acts on that project only: use a key of project "remit"`,
			"--project staging (REMIT_PROJECT) names the key's own project; remit whoami shows which key this is"},
		{"project list", `the API key is of project "staging" and acts on that project only: use a key of project "remit"`,
			"remit whoami shows which key this is"},
		{"permission list", "the API key is of another project", "remit whoami shows which key this is"},
		{"project delete remit --yes", `project "remit" is built in and stays`, ""},
	} {
		f.deny(test.message)
		want := "remit: Permission denied: " + printable(test.message) + "\n"
		if test.hints != "" {
			want += "hint: " + strings.ReplaceAll(test.hints, "\n", "\nhint: ") + "\n"
		}
		fails(t, want, strings.Fields(test.args)...)
	}
}

func TestShellWord(t *testing.T) {
	for text, want := range map[string]string{
		"/organisation/o/role/*": "'/organisation/o/role/*'", "": "''", "two words": "'two words'", "it's": `'it'\''s'`,
		"document.read": "document.read", "user:default%2Fguest": "user:default%2Fguest", "$HOME": "'$HOME'", "a\nb": "'a\nb'",
	} {
		if got := shellWord(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		if heard, err := exec.Command("sh", "-c", "printf %s "+shellWord(text)).Output(); err != nil || string(heard) != text {
			t.Errorf("%q: a shell takes it for %q: %v", text, heard, err)
		}
	}
}

// A hint that names a command names it so that it can be run as it is.
func TestHintsNameTheProject(t *testing.T) {
	f := startFake(t)
	f.projects["staging"] = true
	for _, test := range []struct{ args, stderr string }{
		{"permission list", "No permissions yet. Create one: remit permission create document.read$P\n"},
		{"role list", "No roles yet. Create one: remit role create document_editor --permission document.read$P\n"},
		{"principals", "Nobody holds anything yet. Grant something: remit grant usr_123 --role document_editor --on /project/456$P\n"},
		{"key list", "No keys yet. Create one: remit key create ci --role viewer$P\n"},
		{"role get r", "remit: role \"r\" does not exist\nhint: remit role list$P shows what there is\n"},
		{"permission get p", "remit: permission \"p\" does not exist\nhint: remit permission list$P shows what there is\n"},
		{"permission create there", "remit: permission \"there\" exists already\nhint: remit permission update there --description TEXT$P changes it; --replace replaces it\n"},
		{"role create there", "remit: role \"there\" exists already\nhint: remit role update there --add-permission X$P adds to it; --replace replaces it\n"},
	} {
		if strings.HasSuffix(test.args, "there") {
			stage(t, test.args+" --replace")
		}
		for _, at := range []struct{ variable, flag, suffix string }{
			{"", "", ""},
			{"", "--project staging", " --project staging"},
			{"", "--project production", " --project production"},
			{"staging", "", " --project staging"},
		} {
			t.Setenv("REMIT_PROJECT", at.variable)
			want := strings.ReplaceAll(test.stderr, "$P", at.suffix)
			if got := remit(t, append(strings.Fields(test.args), strings.Fields(at.flag)...)...); got.stderr != want {
				t.Errorf("remit %s %s: %s\nwant %s", test.args, at.flag, got.stderr, want)
			}
		}
		t.Setenv("REMIT_PROJECT", "")
	}
	// These two are not about a project.
	fails(t, "remit: project \"x\" does not exist\nhint: remit project list shows what there is\n", "permission", "list", "--project", "x")
	fails(t, "remit: project \"x\" does not exist\nhint: remit project list shows what there is\n", "project", "get", "x")
}
