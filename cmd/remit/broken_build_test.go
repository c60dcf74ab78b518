package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An edit breaks a source file of the tree, or of a module that it uses: it replaces
// a text that stands there once.
type edit struct{ module, file, old, new string }

// apply returns the file's text with the edit.
func (e edit) apply(t testing.TB, text string) string {
	t.Helper()
	if n := strings.Count(text, e.old); n != 1 {
		t.Fatalf("%s has %q %d times: the edit has to follow the code", e.file, e.old, n)
	}
	return strings.Replace(text, e.old, e.new, 1)
}

// brokenBinary builds a remit with edits. The tree and the modules stay as they are:
// the compiler is given other files for the tree's, and copies of the modules.
func brokenBinary(t testing.TB, edits ...edit) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	args := []string{"build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json")}
	for _, e := range edits {
		if e.module != "" {
			args = append(args, "-modfile", replacedModule(t, root, dir, e))
			continue
		}
		path := filepath.Join(root, e.file)
		if replace[path] == "" {
			replace[path] = filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(path)))
			copyFile(t, path, replace[path])
		}
		editFile(t, replace[path], e)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "remit")
	mustRun(t, append(args, "-o", binary, ".")...)
	return binary
}

// replacedModule returns a go.mod with which a module is a copy that has the edit.
func replacedModule(t testing.TB, root, dir string, e edit) string {
	t.Helper()
	from, to := strings.TrimSpace(mustRun(t, "list", "-m", "-f", "{{.Dir}}", e.module)), filepath.Join(dir, "module")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	editFile(t, filepath.Join(to, e.file), e)
	mod := filepath.Join(dir, "broken.mod")
	copyFile(t, filepath.Join(root, "go.mod"), mod)
	copyFile(t, filepath.Join(root, "go.sum"), filepath.Join(dir, "broken.sum"))
	mustRun(t, "mod", "edit", "-replace", e.module+"="+to, mod)
	return mod
}

func mustRun(t testing.TB, args ...string) (stdout string) {
	t.Helper()
	cmd := exec.Command(goTool(), args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func editFile(t testing.TB, path string, e edit) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // a module's files are read-only
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(e.apply(t, string(b))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noLease takes away that a leader which hears of no majority steps down.
var noLease = edit{"github.com/hashicorp/raft", "raft.go", "func (r *Raft) checkLeaderLease() time.Duration {", "func (r *Raft) checkLeaderLease() time.Duration {\n\tif r != nil {\n\t\treturn time.Hour\n\t}"}

// TestLinearizableCatches runs the harness of TestLinearizable on builds whose read
// index is wrong: it must notice. It builds remit twice, so it is for the night.
func TestLinearizableCatches(t *testing.T) {
	if os.Getenv("REMIT_NIGHTLY") == "" {
		t.Skip("builds broken remits: set REMIT_NIGHTLY")
	}
	for _, broken := range []struct {
		name  string
		edits []edit
		slow  bool // node 1, which then leads
	}{
		{"a leader that asks nobody", []edit{
			{"", "cluster/readindex.go", "err = n.confirmer.confirm(ctx, term, voters)", "_ = voters"},
			// By itself Raft's lease makes a leader that wakes up notice within a millisecond.
			// The read index is not allowed to rest on that, nor on any other clock.
			noLease,
		}, false},
		{"the revision of a leader whose state is slow", []edit{
			{"", "cluster/readindex.go", "n.newestCommand(n.raft.CommitIndex())", "n.cfg.FSM.Revision(), error(nil)"},
			{"", "fsm/raft.go", "results := make([]any, len(logs))", "results := make([]any, len(logs))\n\tif os.Getenv(\"SLOW_STATE\") != \"\" {\n\t\ttime.Sleep(100 * time.Millisecond)\n\t}"},
			{"", "fsm/raft.go", "import (", "import (\n\t\"os\"\n\t\"time\"\n"},
		}, true},
	} {
		t.Run(broken.name, func(t *testing.T) {
			t.Parallel()
			p := pauser{binary: brokenBinary(t, broken.edits...), pauses: 20}
			if broken.slow {
				p.slow = "SLOW_STATE=yes"
			}
			p.untilStale = true
			around := p.run(t).staleRead()
			if around == nil {
				t.Fatal("no read was stale: the harness does not see that the build is broken")
			}
			if around.fits(t) {
				t.Error("porcupine explains a stale read")
			}
		})
	}
}
