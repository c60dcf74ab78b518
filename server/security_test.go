package server

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

var update = flag.Bool("update", false, "rewrite the tables in docs/security.md")

// TestSecurityDocument keeps the tables of docs/security.md to what the code
// asks for.
func TestSecurityDocument(t *testing.T) {
	const path = "../docs/security.md"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for name, table := range map[string]string{"methods": methodTable(), "permissions": permissionTable()} {
		begin, end := "<!-- "+name+": generated -->\n", "<!-- "+name+": end -->"
		before, rest, found := strings.Cut(text, begin)
		current, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("%s lacks the marks of the table %q", path, name)
		}
		if current != table && !*update {
			t.Errorf("the table %q is out of date: go test ./server -run SecurityDocument -update", name)
		}
		text = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func methodTable() string {
	reaches := map[reach]string{anywhere: "any", inProject: "of the project or `remit`", inOrganisation: "of `remit`", inCluster: "an operator's"}
	var b strings.Builder
	for _, desc := range []grpc.ServiceDesc{
		permissionsv1.PermissionsService_ServiceDesc, organisationv1.OrganisationService_ServiceDesc, clusterv1.ClusterService_ServiceDesc,
	} {
		fmt.Fprintf(&b, "\n`%s`\n\n| method | key | permission → resource |\n|---|---|---|\n", desc.ServiceName)
		names := make([]string, 0, len(desc.Methods)+len(desc.Streams))
		for _, m := range desc.Methods {
			names = append(names, m.MethodName)
		}
		for _, m := range desc.Streams {
			names = append(names, m.StreamName)
		}
		for _, name := range names {
			r := rules[methodOf("/"+desc.ServiceName+"/"+name)]
			var lines []string
			for _, needed := range r.rights {
				line := fmt.Sprintf("%s → `%s`", needed.permission, needed.on.path)
				if needed.on.when != "" {
					line += " " + needed.on.when
				}
				lines = append(lines, line)
			}
			if len(lines) == 0 && r.note == "" {
				lines = []string{"none"}
			}
			if r.note != "" {
				lines = append(lines, r.note)
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, reaches[r.reach], strings.Join(lines, "<br>"))
		}
	}
	return b.String() + "\n"
}

func permissionTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| permission | what it allows | %s | %s | %s |\n|---|---|---|---|---|\n", fsm.RoleOwner, fsm.RoleEditor, fsm.RoleViewer)
	for name, description := range fsm.ManagementPermissions() {
		fmt.Fprintf(&b, "| %s | %s |", name, description)
		for _, role := range []string{fsm.RoleOwner, fsm.RoleEditor, fsm.RoleViewer} {
			mark := " "
			permissions, _ := fsm.BuiltInRole(role)
			for _, p := range permissions {
				if p.Name == name {
					mark = " ✓ "
				}
			}
			fmt.Fprintf(&b, "%s|", mark)
		}
		b.WriteString("\n")
	}
	return b.String() + "\n"
}
