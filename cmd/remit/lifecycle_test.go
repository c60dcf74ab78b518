package main_test

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// endTimeout is how long a node may take to end when it is told to.
const endTimeout = 10 * time.Second

// endsCleanly waits for a node that was told to end.
func (p *process) endsCleanly() {
	p.t.Helper()
	began := time.Now()
	if code := p.exits(); code != 0 {
		p.t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	if took := time.Since(began); took > endTimeout {
		p.t.Errorf("the node took %s to end", took)
	}
}

// refuses waits for a process that cannot serve, and returns what it says.
func (p *process) refuses() string {
	p.t.Helper()
	if code := p.exits(); code != 2 {
		p.t.Errorf("exit code %d", code)
	}
	if text := p.stdout.String(); text != "" {
		p.t.Errorf("it printed %q", text)
	}
	return p.stderr.String()
}

func create(ctx context.Context, p *process, key, name string) error {
	_, err := p.client(key).CreatePermission(ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name})
	return err
}

// TestTerminate ends nodes under load, with clients that hold on to them.
func TestTerminate(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			node := serve(filepath.Join(t.TempDir(), "data"))
			p := node.start(t).ready()
			watch, err := healthpb.NewHealthClient(p.dial("")).Watch(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := watch.Recv(); err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
				t.Fatalf("health: %v, %v", resp, err)
			}
			half, err := net.Dial("tcp", p.http)
			if err != nil {
				t.Fatal(err)
			}
			defer half.Close()
			if _, err := half.Write([]byte("POST /permissions-service/v1/permissions HTTP/1.1\r\nHost: remit\r\nContent-Length: 100\r\n\r\n{")); err != nil {
				t.Fatal(err)
			}

			l := newLoad(8, 2)
			b := l.on(t, p)
			b.until(200)
			b.end()
			p.signal(signal)
			if resp, err := watch.Recv(); err != nil || resp.Status != healthpb.HealthCheckResponse_NOT_SERVING {
				t.Errorf("health while it drains: %v, %v", resp, err)
			}
			p.endsCleanly()
			b.wait()

			p = node.start(t).ready()
			l.verify(t, p)
			if l.applied > 0 {
				t.Errorf("%d changes were applied, but not answered", l.applied)
			}
			p.signal(signal)
			p.endsCleanly()
		})
	}
}

// A node that drains ends at once by another signal.
func TestTerminateTwice(t *testing.T) {
	t.Parallel()
	p := serve(t.TempDir()).start(t).ready()
	watch, err := healthpb.NewHealthClient(p.dial("")).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	eventually(t, "the node drains", func() bool { return strings.Contains(p.stderr.String(), "draining") })
	eventually(t, "the node ends", func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		return p.hasEnded()
	})
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended by %s", p.cmd.ProcessState)
	}
}

func TestSecondProcess(t *testing.T) {
	dataDir := t.TempDir()
	first := serve(dataDir).start(t).ready()
	says := "remit: data folder " + dataDir + " is in use by another process (process id " + strconv.Itoa(first.cmd.Process.Pid) + "): stop that process"
	for name, second := range map[string]launch{
		"same folder":           serve(dataDir),
		"same folder and ports": serve(dataDir, "--http-addr", first.http, "--grpc-addr", first.grpc),
	} {
		// The fastest of three, since the machine may have other work.
		const within = 2 * time.Second
		fastest := time.Hour
		for range 3 {
			began := time.Now()
			p := second.start(t)
			if text := p.refuses(); !strings.HasPrefix(text, says) {
				t.Errorf("%s: it says %q", name, text)
			}
			fastest = min(fastest, time.Since(began))
		}
		if fastest > within {
			t.Errorf("%s: it took %s", name, fastest)
		}
		t.Logf("%s: refused within %s", name, fastest)
	}
	if err := create(t.Context(), first, rootKey, "document.read"); err != nil {
		t.Errorf("the first process: %v", err)
	}
}

func TestDev(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	node := launch{env: []string{"TMPDIR=" + temp}, args: []string{"serve", "--dev"}}
	p := node.start(t).ready()
	key := printedKey(t, p)
	if made, err := os.ReadDir(temp); err != nil || len(made) != 1 {
		t.Errorf("the temporary folder holds %v, %v", made, err)
	}

	// What it suggests works as it is printed.
	_, suggestion, _ := strings.Cut(p.stdout.String(), "another terminal:\n")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	shell := launch{wrapper: []string{"sh", "-ec", suggestion}, env: []string{"PATH=" + filepath.Dir(path) + ":" + os.Getenv("PATH")}}
	try := shell.start(t)
	if code := try.exits(); code != 0 || !strings.Contains(try.stdout.String(), "allowed\n") {
		t.Errorf("%s\nexit code %d, printed:\n%s%s", suggestion, code, try.stdout.String(), try.stderr.String())
	}
	if !strings.Contains(suggestion, "export REMIT_KEY="+key+" REMIT_ADDR="+p.grpc) {
		t.Errorf("suggests %s", suggestion)
	}

	p.signal(syscall.SIGINT)
	p.endsCleanly()
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("the temporary folder still holds %v, %v", left, err)
	}

	// A folder that was given stays.
	dataDir := filepath.Join(temp, "given")
	node.args = append(node.args, "--data-dir", dataDir)
	p = node.start(t).ready()
	key = printedKey(t, p)
	p.signal(syscall.SIGINT)
	p.endsCleanly()
	p = node.start(t).ready()
	if err := create(t.Context(), p, key, "document.read"); err != nil {
		t.Error(err)
	}
	if text := p.stdout.String(); !strings.Contains(text, "export REMIT_KEY=<the root key this folder was started with> ") {
		t.Errorf("started again it suggests %s", text)
	}
}

var keyLine = regexp.MustCompile(`(?m)^Root key, shown this once: (remit_[A-Za-z0-9_-]{43})$`)

// printedKey is the root key that a process printed.
func printedKey(t *testing.T, p *process) string {
	t.Helper()
	found := keyLine.FindAllStringSubmatch(p.stdout.String(), -1)
	if len(found) != 1 {
		t.Fatalf("%d root keys printed: %s", len(found), p.stdout.String())
	}
	return found[0][1]
}

// TestRootKeyIsShownOnce looks for the root key wherever it must not be: in what
// the first process logs, in what the next ones print, and in the data folder.
func TestRootKeyIsShownOnce(t *testing.T) {
	t.Parallel()
	dataDir := t.TempDir()
	node := serve(dataDir, "--log-level", "debug", "--snapshot-threshold", "1", "--snapshot-interval", "10ms")
	node.env = nil
	p := node.start(t).ready()
	key := printedKey(t, p)
	if err := create(t.Context(), p, key, "document.read"); err != nil {
		t.Fatal(err)
	}
	if err := create(t.Context(), p, "remit_a_wrong_key_that_is_not_logged", "document.read"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong key: %v", err)
	}
	eventually(t, "a snapshot is there", func() bool {
		taken, err := filepath.Glob(filepath.Join(dataDir, "snapshots", "*", "state.bin"))
		return err == nil && slices.ContainsFunc(taken, func(path string) bool { return !strings.Contains(path, ".tmp") })
	})
	p.signal(syscall.SIGTERM)
	p.endsCleanly()
	next := node.start(t).ready()
	if err := create(t.Context(), next, key, "document.write"); err != nil {
		t.Errorf("the root key after a restart: %v", err)
	}
	for what, text := range map[string]string{
		"the log": p.stderr.String(), "what the next process prints": next.stdout.String(), "the next process's log": next.stderr.String(),
	} {
		if strings.Contains(text, key) || keyLine.MatchString(text) || strings.Contains(text, "not_logged") {
			t.Errorf("%s shows a key:\n%s", what, text)
		}
	}
	next.kill()
	err := filepath.WalkDir(dataDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(key)) {
			t.Errorf("%s holds the root key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRootKeyStays gives a cluster another root key, which changes nothing.
func TestRootKeyStays(t *testing.T) {
	t.Parallel()
	node := serve(t.TempDir())
	const warning = "the root key given is ignored"
	p := node.start(t).ready()
	if text := p.stdout.String() + p.stderr.String(); strings.Contains(text, rootKey) || strings.Contains(text, warning) {
		t.Errorf("with a root key given it prints\n%s", text)
	}
	p.kill()
	const other = "another_root_key_0123456789_0123456789"
	node.env = []string{"REMIT_ROOT_KEY=" + other}
	p = node.start(t).ready()
	if err := create(t.Context(), p, rootKey, "document.read"); err != nil {
		t.Errorf("with the first root key: %v", err)
	}
	if err := create(t.Context(), p, other, "document.read"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("with the second root key: %v", err)
	}
	text := p.stdout.String() + p.stderr.String()
	if strings.Count(text, warning) != 1 || !strings.Contains(p.stderr.String(), "level=WARN") || strings.Contains(text, other) {
		t.Errorf("with another root key it prints\n%s", text)
	}
}

// TestWithoutCluster starts a node that has nothing to serve yet.
func TestWithoutCluster(t *testing.T) {
	t.Parallel()
	dataDir := t.TempDir()
	node := launch{args: []string{"serve", "--data-dir", dataDir}}
	p := node.start(t).serves()
	if !strings.Contains(p.stdout.String(), "\nThis node belongs to no cluster yet, so it is not ready. To make it part of one:\n") {
		t.Errorf("it prints %s", p.stdout.String())
	}
	if code, body := p.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez %d %s", code, body)
	}
	if code, body := p.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "run remit join, or start it with --bootstrap-expect") {
		t.Errorf("/readyz %d %s", code, body)
	}
	if err := create(t.Context(), p, rootKey, "document.read"); status.Code(err) != codes.Unavailable {
		t.Errorf("CreatePermission: %v", err)
	}
	health, err := healthpb.NewHealthClient(p.dial("")).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	p.signal(syscall.SIGTERM)
	p.endsCleanly()

	// The same folder can start a cluster.
	p = serve(dataDir).start(t).ready()
	if err := create(t.Context(), p, rootKey, "document.read"); err != nil {
		t.Error(err)
	}
}

// TestReadsWaitForRecovery asks a node from before it is started again. It answers
// nothing until it knows what it knew when it was killed.
func TestReadsWaitForRecovery(t *testing.T) {
	t.Parallel()
	dataDir := t.TempDir()
	p := serve(dataDir).start(t).ready()
	l := newLoad(8, 4)
	b := l.on(t, p)
	b.until(200)
	if err := create(t.Context(), p, rootKey, "last"); err != nil {
		t.Fatal(err)
	}
	b.end()
	p.kill()
	b.wait()

	request, err := http.NewRequest(http.MethodGet, "http://"+p.http+"/permissions-service/v1/permissions/last?project_name="+project, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+rootKey)
	again := serve(dataDir, "--http-addr", p.http).start(t)
	answers := map[int]int{}
	eventually(t, "the node answers", func() bool {
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			answers[0]++ // nobody listens yet
			return false
		}
		resp.Body.Close()
		answers[resp.StatusCode]++
		return resp.StatusCode != http.StatusServiceUnavailable
	})
	if answers[http.StatusOK] != 1 {
		t.Errorf("answers by status: %v", answers)
	}
	l.verify(t, again.ready())
	t.Logf("answers by status: %v", answers)
}

// TestDiskFull lets the log's file grow no further. The node ends and says why;
// what it acknowledged is there when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	node := serve(t.TempDir())
	full := node
	full.wrapper = []string{"sh", "-c", `ulimit -f 512 && exec "$@"`, "sh"}
	p := full.start(t).ready()
	l := newLoad(8, 3)
	b := l.on(t, p)
	b.end()
	if code := p.exits(); code != 2 || !strings.Contains(p.stderr.String(), "remit: this node cannot go on: write to the log failed") {
		t.Errorf("exit code %d: %s", code, tail(p.stderr.String()))
	}
	b.wait()
	p = node.start(t).ready()
	l.verify(t, p)
	t.Logf("%d changes acknowledged; of those under way %d were applied and %d were not", l.acknowledged, l.applied, l.lost)
}
