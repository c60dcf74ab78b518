package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func TestEnvironment(t *testing.T) {
	f := startFake(t)
	f.projects["staging"] = true
	t.Setenv("REMIT_OUTPUT", "json")
	t.Setenv("REMIT_PROJECT", "staging")
	got := remit(t, "check", "usr_123", "document.read", "--on", "/a")
	request := last[*permissionsv1.CheckPermissionRequest](t, f)
	if got.code != exitDenied || !strings.HasPrefix(got.stdout, "{") || request.GetProjectName() != "staging" {
		t.Errorf("%+v, sent %v", got, request)
	}

	// The command line goes before the environment.
	got = remit(t, "check", "usr_123", "document.read", "-o", "table", "--on", "/d", "--project", "production")
	request = last[*permissionsv1.CheckPermissionRequest](t, f)
	if got.stdout != "denied\nmissing on /d: document.read\n" || request.GetProjectName() != "production" {
		t.Errorf("%+v, sent %v", got, request)
	}
}

// A variable that was left over confirms nothing and gives nobody anything.
func TestEnvironmentIsForTheConnection(t *testing.T) {
	f := startFake(t)
	stage(t, "project create staging", "permission create a")
	for _, name := range []string{"YES", "OPERATOR", "REPLACE", "CONSISTENT"} {
		t.Setenv("REMIT_"+name, "true")
	}
	for _, name := range []string{"ROLE", "ON", "PERMISSION", "DESCRIPTION", "RENAME", "SEARCH", "LIMIT", "CURSOR", "AT_LEAST"} {
		t.Setenv("REMIT_"+name, "/x")
	}
	for _, line := range []string{
		"project delete staging", "permission create a", "permission update a", "grant usr_123 --on /a", "grant usr_123 --role r", "check usr_123 a",
	} {
		if got := remit(t, strings.Fields(line)...); got.code != exitError {
			t.Errorf("remit %s: %+v", line, got)
		}
	}
	stage(t, "key create ci", "permission list")
	if got := f.keys[0]; got.GetOperator() {
		t.Errorf("created %v", got)
	}
	if got := last[*permissionsv1.ListPermissionsRequest](t, f); got.GetSearch() != "" || got.GetConsistency() != 0 || got.GetPagination().GetCursor() != "" {
		t.Errorf("sent %v", got)
	}
}

func TestBadEnvironment(t *testing.T) {
	startFake(t)
	for _, test := range []struct{ name, value, want string }{
		{"REMIT_TIMEOUT", "soon", `remit: the environment variable REMIT_TIMEOUT, for --timeout, is "soon": must be a time such as 5s or 500ms`},
		{"REMIT_OUTPUT", "xml", `remit: the environment variable REMIT_OUTPUT, for --output, is "xml": must be table or json`},
		{"REMIT_INSECURE", "maybe", `remit: the environment variable REMIT_INSECURE, for --insecure, is "maybe": must be true or false`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(test.name, test.value)
			fails(t, test.want+"\nhint: remit principals --help shows how\n", "principals")
		})
	}
}

func TestUnknown(t *testing.T) {
	clearEnv(t)
	for _, test := range []struct{ args, want string }{
		{"frobnicate", "remit: remit has no command \"frobnicate\"\nhint: remit --help shows how\n"},
		{"chek", "remit: remit has no command \"chek\": did you mean \"check\"?\nhint: remit --help shows how\n"},
		{"chek bob --on /x", "remit: remit has no command \"chek\": did you mean \"check\"?\nhint: remit --help shows how\n"},
		{"permission lst", "remit: remit permission has no command \"lst\": did you mean \"list\"?\nhint: remit permission --help shows how\n"},
		{"permission craete a --description b", "remit: remit permission has no command \"craete\": did you mean \"create\"?\nhint: remit permission --help shows how\n"},
		{"--frob chek", "remit: unknown flag: --frob\nhint: remit --help shows how\n"},
		{"permission craete a", "remit: remit permission has no command \"craete\": did you mean \"create\"?\nhint: remit permission --help shows how\n"},
		{"completion tcl", "remit: remit completion has no command \"tcl\"\nhint: remit completion --help shows how\n"},
		{"help frobnicate", "remit: remit has no command \"frobnicate\"\nhint: remit help --help shows how\n"},
		{"version --frob", "remit: unknown flag: --frob\nhint: remit version --help shows how\n"},
		{"version --key k", "remit: unknown flag: --key\nhint: remit version --help shows how\n"},
		{"permission create", "remit: NAME is missing\nhint: remit permission create --help shows how\n"},
		{"permission create a b", "remit: unexpected argument \"b\"\nhint: remit permission create --help shows how\n"},
		{"role get", "remit: ROLE is missing\nhint: remit role get --help shows how\n"},
	} {
		fails(t, test.want, strings.Fields(test.args)...)
	}
}

// Of two values, neither is meant more than the other.
func TestFlagsGivenTwice(t *testing.T) {
	f := startFake(t)
	for _, test := range []struct{ args, want string }{
		{"key create ci --role viewer --role owner", `remit: --role "owner": can be given only once`},
		{"key create ci --operator --operator", `remit: --operator "true": can be given only once`},
		{"permission list --project production --project staging", `remit: --project "staging": can be given only once`},
		{"permission list --limit 1 --limit 2", `remit: --limit "2": can be given only once`},
		{"permission list -o json --output table", `remit: --output "table": can be given only once`},
		{"whoami --timeout 1s --timeout 2s", `remit: --timeout "2s": can be given only once`},
		{"serve --dev --dev", `remit: --dev "true": can be given only once`},
	} {
		args := strings.Fields(test.args)
		cmd, _, err := newRootCommand(strings.NewReader(""), io.Discard, io.Discard).Find(args)
		if err != nil {
			t.Fatal(err)
		}
		fails(t, test.want+"\nhint: "+cmd.CommandPath()+" --help shows how\n", args...)
	}
	t.Setenv("REMIT_PROJECT", "nowhere")
	stage(t, "permission list --project production") // the variable does not count
	if len(f.requests) != 1 {
		t.Errorf("sent %v", f.requests)
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "list", 4}, {"list", "", 4}, {"list", "list", 0}, {"lst", "list", 1}, {"lst", "get", 2},
		{"craete", "create", 2}, {"kitten", "sitting", 3},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestHelp(t *testing.T) {
	clearEnv(t)
	t.Setenv("REMIT_KEY", "remit_secret")
	root := remit(t)
	for _, want := range []string{"\nSay what can be allowed:\n", "\nSay who is allowed it, and where:\n", "\nAsk:\n", "\n  completion ", "\n  version "} {
		if !strings.Contains(root.stdout, want) {
			t.Errorf("remit prints no %q:\n%s", want, root.stdout)
		}
	}
	if again := remit(t, "--help"); again != root || root.code != exitOK || root.stderr != "" {
		t.Errorf("remit and remit --help differ, or fail: %+v", again)
	}
	everyCommand(t, func(cmd *cobra.Command) {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		got := remit(t, args...)
		if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, cmd.Long) {
			t.Errorf("remit %q: %+v", args, got)
		}
		if strings.Contains(got.stdout, "remit_secret") {
			t.Errorf("remit %q shows the key", args)
		}
	})
}

// connectionFlags are the flags of user commands that have variables.
var connectionFlags = []string{"addr", "key", "project", "timeout", "tls", "tls-ca", "insecure", "output"}

func TestEveryCommandIsDocumented(t *testing.T) {
	everyCommand(t, func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || strings.Contains(cmd.Short, "\n") {
			t.Errorf("%s: short text %q", path, cmd.Short)
		}
		if !strings.HasSuffix(cmd.Long, ".") {
			t.Errorf("%s: long text %q", path, cmd.Long)
		}
		examples := strings.Split(cmd.Example, "\n")
		if len(examples) < 2 {
			t.Errorf("%s has fewer than two examples", path)
		}
		for _, example := range examples {
			if cmd.HasParent() && !strings.Contains(example, path) {
				t.Errorf("%s: example %q is of another command", path, example)
			}
		}
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			variable := "(env REMIT_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_")) + ")"
			offered := flag.Name != "help" && (cmd.Name() == "serve" || slices.Contains(connectionFlags, flag.Name))
			if strings.Contains(flag.Usage, "(env ") != offered || offered && !strings.HasSuffix(flag.Usage, variable) {
				t.Errorf("%s --%s: usage %q", path, flag.Name, flag.Usage)
			}
		})
	})
}

// everyCommand visits each command but cobra's own.
func everyCommand(t *testing.T, visit func(cmd *cobra.Command)) {
	t.Helper()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		visit(cmd)
		for _, below := range cmd.Commands() {
			if name := below.Name(); name != "help" && name != "completion" {
				walk(below)
			}
		}
	}
	walk(newRootCommand(strings.NewReader(""), io.Discard, io.Discard))
}

func TestCompletion(t *testing.T) {
	clearEnv(t)
	if got := remit(t, "completion", "bash"); got.code != exitOK || !strings.Contains(got.stdout, "__remit") {
		t.Errorf("completion bash: %+v", got)
	}
	if got := remit(t, "__complete", "permission", "list", "-o", ""); !strings.HasPrefix(got.stdout, "table\njson\n") {
		t.Errorf("completion of -o: %+v", got)
	}
}

func TestVersion(t *testing.T) {
	clearEnv(t)
	b := readBuild()
	if b.Version == "" || !strings.HasPrefix(b.Go, "go") {
		t.Errorf("build %+v", b)
	}
	prints(t, "Version:  "+b.Version+"\nCommit:   "+cell(b.Commit)+"\nGo:       "+b.Go+"\n", "version")
	prints(t, "{\n  \"version\": \""+b.Version+"\",\n  \"commit\": \""+b.Commit+"\",\n  \"go\": \""+b.Go+"\"\n}\n", "version", "-o", "json")
	prints(t, "remit version "+b.Version+"\n", "--version")
}
