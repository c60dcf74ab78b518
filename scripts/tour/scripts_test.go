package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A checkout is a folder with the scripts and a bin/remit, as make build leaves one.
type checkout struct {
	t    *testing.T
	root string
	env  []string
}

// builtRemit is bin/remit of all checkouts, in builtIn.
var (
	builtRemit = sync.OnceValues(buildRemit)
	builtIn    string
)

func buildRemit() (_ string, err error) {
	if builtIn, err = os.MkdirTemp("", "remit-scripts-"); err != nil {
		return "", err
	}
	remit := filepath.Join(builtIn, "remit")
	build := exec.Command("go", "build", "-o", remit, "./cmd/remit")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return remit, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return remit, nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// newCheckout makes one. The scripts need what Linux has.
func newCheckout(t *testing.T) *checkout {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("scripts/cluster is for Linux")
	}
	for _, tool := range []string{"bash", "setsid"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	remit, err := builtRemit()
	if err != nil {
		t.Fatal(err)
	}
	c := &checkout{t: t, root: filepath.Join(t.TempDir(), "a checkout")}
	for _, folder := range []string{"bin", "scripts"} {
		if err := os.MkdirAll(filepath.Join(c.root, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(remit, filepath.Join(c.root, "bin", "remit")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cluster", "run"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.root, "scripts", name), text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	port, err := freePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	c.env = environment(fmt.Sprintf("REMIT_CLUSTER_PORT=%d", port), "TMPDIR="+t.TempDir())
	return c
}

// bash runs a script in the checkout and returns its output.
func (c *checkout) bash(script string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = c.root, c.env
	// Through a file: nodes that are left would keep a pipe open.
	file, err := os.CreateTemp(c.t.TempDir(), "output")
	if err != nil {
		c.t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	err = cmd.Run()
	out, readErr := os.ReadFile(file.Name())
	if readErr != nil {
		c.t.Fatal(readErr)
	}
	return string(out), err
}

// cluster runs scripts/cluster and wants words in what it prints.
func (c *checkout) cluster(command string, want ...string) string {
	c.t.Helper()
	out, err := c.bash("scripts/cluster " + command)
	if err != nil {
		c.t.Fatalf("scripts/cluster %s: %v\n%s", command, err, out)
	}
	for _, words := range want {
		if !strings.Contains(out, words) {
			c.t.Errorf("scripts/cluster %s does not say %q but:\n%s", command, words, out)
		}
	}
	return out
}

// refuses wants an error that says why.
func (c *checkout) refuses(command, want string) {
	c.t.Helper()
	if out, err := c.bash("scripts/cluster " + command); err == nil || !strings.Contains(out, want) {
		c.t.Errorf("scripts/cluster %s: %v, and it does not say %q but:\n%s", command, err, want, out)
	}
}

// processes returns the command lines of what runs from the checkout.
func (c *checkout) processes() []string {
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.HasPrefix(line, []byte(filepath.Join(c.root, "bin", "remit"))) {
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// wantNothingLeft looks for nodes that still run and for what is left in the folder
// for temporary files.
func (c *checkout) wantNothingLeft() {
	c.t.Helper()
	for _, line := range c.processes() {
		c.t.Errorf("still runs: %s", line)
	}
	for _, variable := range c.env {
		if dir, ok := strings.CutPrefix(variable, "TMPDIR="); ok {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				c.t.Errorf("left on disk: %v, %v", left, err)
			}
		}
	}
}

// lines collects what a process prints, line by line.
type lines struct {
	t    *testing.T
	name string
	next chan string
	all  strings.Builder
}

func readLines(t *testing.T, name string, r io.Reader) *lines {
	l := &lines{t: t, name: name, next: make(chan string, 1000)}
	go func() {
		defer close(l.next)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.next <- s.Text()
		}
	}()
	return l
}

// until waits for a line that matches and returns it.
func (l *lines) until(pattern string) string {
	l.t.Helper()
	expression := regexp.MustCompile(pattern)
	deadline := time.After(time.Minute)
	for {
		select {
		case line, ok := <-l.next:
			if !ok {
				l.t.Fatalf("%s ended without a line like %q:\n%s", l.name, pattern, l.all.String())
			}
			l.all.WriteString(line + "\n")
			if expression.MatchString(line) {
				return line
			}
		case <-deadline:
			l.t.Fatalf("%s prints no line like %q:\n%s", l.name, pattern, l.all.String())
		}
	}
}

// start starts a script of the checkout, to be ended by SIGINT.
func (c *checkout) start(name string, args ...string) (*exec.Cmd, *lines) {
	c.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(c.root, "scripts", name), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, write, write
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	write.Close()
	c.t.Cleanup(func() {
		read.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM) // where it has not ended
		_ = cmd.Wait()
	})
	return cmd, readLines(c.t, name, read)
}

// TestRun starts what make run does and runs every command that it prints, in order,
// in one shell.
func TestRun(t *testing.T) {
	c := newCheckout(t)
	run, printed := c.start("run")
	formed := printed.until(`^3 nodes formed a cluster in [0-9.]+ s: node [1-3] leads$`)
	if seconds, err := strconv.ParseFloat(strings.Fields(formed)[6], 64); err != nil || seconds >= 10 {
		t.Errorf("%s: wants less than 10 s", formed)
	}
	printed.until("^And all the rest")
	printed.until("^node [1-3] leads$")

	var script strings.Builder
	script.WriteString("set -e\n")
	count := 0
	for line := range strings.Lines(printed.all.String()) {
		command, indented := strings.CutPrefix(line, "  ")
		if !indented {
			continue
		}
		if !strings.HasPrefix(command, " ") { // not the next line of the same command
			count++
		}
		script.WriteString(command)
	}
	if count < 10 {
		t.Fatalf("make run prints %d commands:\n%s", count, printed.all.String())
	}
	env := c.env
	c.env = environment() // of another terminal
	out, err := c.bash(script.String())
	c.env = env
	if err != nil {
		t.Fatalf("%v\n%s\nprints\n%s", err, script.String(), out)
	}
	for _, want := range []string{`"passed":false`, "granted dave", "is killed", "is back", "healthy"} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands do not print %q but\n%s", want, out)
		}
	}
	printed.until("answers again$") // the node that was killed

	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err != nil {
		t.Errorf("make run ended by Ctrl-C: %v", err)
	}
	printed.until("^remit has ended; the sample data is gone.$")
	c.wantNothingLeft()
}

// TestRunEndsEarly interrupts it while the cluster forms.
func TestRunEndsEarly(t *testing.T) {
	c := newCheckout(t)
	run, printed := c.start("run")
	deadline := time.Now().Add(time.Minute)
	for len(c.processes()) == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err != nil {
		t.Errorf("make run ended by Ctrl-C: %v", err)
	}
	printed.until("^remit has ended")
	c.wantNothingLeft()
}

// TestUpFails has another process on a port of the second node.
func TestUpFails(t *testing.T) {
	c := newCheckout(t)
	_, first, _ := strings.Cut(c.env[slices.IndexFunc(c.env, func(v string) bool { return strings.HasPrefix(v, "REMIT_CLUSTER_PORT=") })], "=")
	port, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.refuses("up", "another process has this port")
	c.wantNothingLeft()
	if out, err := c.bash("scripts/run"); err == nil || !strings.Contains(out, "node 2 ended") {
		t.Errorf("make run with a port that is taken: %v\n%s", err, out)
	}
	c.wantNothingLeft()
}

// TestRunLeavesOthersAlone starts it in the folder of a cluster that is there.
func TestRunLeavesOthersAlone(t *testing.T) {
	c := newCheckout(t)
	c.env = append(c.env, "REMIT_CLUSTER_DIR="+filepath.Join(c.root, "mine", "cluster"))
	c.cluster("up 1")
	defer c.cluster("down")
	if out, err := c.bash("scripts/run"); err == nil || !strings.Contains(out, "there is a cluster in") {
		t.Errorf("make run beside a cluster: %v\n%s", err, out)
	}
	c.cluster("members", "healthy")
}

// TestCluster goes through the commands of scripts/cluster.
func TestCluster(t *testing.T) {
	c := newCheckout(t)
	c.refuses("up 0", "1 to 9 nodes")
	c.refuses("members", "there is no cluster")
	c.refuses("kill leader", "there is no cluster")
	c.refuses("nonsense", "usage:")
	c.cluster("help", "usage:")
	c.cluster("up", "3 nodes formed a cluster")
	defer func() {
		c.cluster("down")
		c.wantNothingLeft()
	}()
	_, watched := c.start("cluster", "watch")
	watched.until("^node 3 is a member, a voter$")
	watched.until("^node [1-3] leads$")
	c.refuses("up", "there is a cluster in")
	c.refuses("kill", "which node?")
	c.refuses("kill 7", "there is no node 7")
	c.refuses("kill ../1", "there is no node")
	c.refuses("start dead", "all nodes run")
	c.refuses("start 1", "node 1 runs")
	c.refuses("continue 1", "not paused")
	c.refuses("addr 1 nonsense", "which address?")

	leader := c.number("leader")
	c.cluster("kill leader", "node "+leader+" is killed")
	watched.until("^node " + leader + " does not answer$")
	c.refuses("kill "+leader, "does not run")
	if left := c.number("any"); left == leader {
		t.Errorf("any is node %s, which does not run", left)
	}
	if killed := c.number("dead"); killed != leader {
		t.Errorf("dead is node %s and not %s", killed, leader)
	}
	watched.until("^node [1-3] leads$")
	c.cluster("start dead", "node "+leader+" is back")
	watched.until("^node " + leader + " answers again$")

	c.cluster("stop 2", "node 2 has ended")
	watched.until("^node 2 does not answer$")
	c.cluster("start 2", "node 2 is back")
	c.cluster("log 2", "draining")
	watched.until("^node 2 answers again$")

	leader = c.number("leader")
	c.cluster("pause leader", "node "+leader+" is paused")
	c.refuses("pause "+leader, "is paused")
	watched.until("^node [1-3] leads$")
	c.cluster("continue "+leader, "goes on")
	watched.until("^node " + leader + " answers again$")

	c.cluster("replica", "has joined")
	watched.until("^node 4 is now a member, a replica$")
	c.cluster("wipe 4", "as a replica", "has joined")
	leader = c.number("leader")
	c.cluster("kill leader")
	c.cluster("wipe dead", "with a vote", "has joined")
	watched.until("^node " + leader + " is now a member, a (voter|replica)$")
	c.cluster("leave 4", "node4 has left the cluster")
	watched.until("^node 4 is no member any more$")
	c.cluster("leave leader", "has left the cluster")
	watched.until("^node [1-3] leads$")

	if out := c.cluster("members -o json"); strings.Count(out, `"healthy": true`) != 2 {
		t.Errorf("two nodes are left, but\n%s", out)
	}
	out, err := c.bash(`eval "$(scripts/cluster env)" && remit status && test "$(scripts/cluster addr any grpc)" = "$REMIT_ADDR"`)
	if err != nil {
		t.Errorf("env: %v\n%s", err, out)
	}
	c.cluster("down")
	watched.until("^the cluster is gone$")
	c.wantNothingLeft()
	c.cluster("up 1", "1 node formed")
	c.refuses("wipe 1", "the only one that runs")
}

// number returns the node that a word means.
func (c *checkout) number(word string) string {
	c.t.Helper()
	_, port, ok := strings.Cut(strings.TrimSpace(c.cluster("addr "+word+" http")), ":")
	_, first, _ := strings.Cut(strings.TrimSpace(c.cluster("addr 1 http")), ":")
	at, err := strconv.Atoi(port)
	base, baseErr := strconv.Atoi(first)
	if !ok || err != nil || baseErr != nil {
		c.t.Fatalf("the address of %s is %q", word, port)
	}
	return strconv.Itoa((at-base)/10 + 1)
}
