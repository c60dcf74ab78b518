package main_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 20 * time.Second
	rootKey  = "remit_root_key_of_the_process_tests"
	// endAtOnce keeps a program with the race detector from sleeping a second before it
	// ends.
	endAtOnce = "GORACE=atexit_sleep_ms=20"
)

var buildDir string // of the binary that the tests start

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if buildDir, err = os.MkdirTemp("", "remit-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(buildDir)
	return m.Run()
}

// goTool is the go command that make was told to use.
func goTool() string { return cmp.Or(os.Getenv("GO"), "go") }

// binary builds the real remit, once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "remit")
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	output, err := exec.Command(goTool(), append(args, ".")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return path, nil
})

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// A process is a running remit.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr output
	http, grpc     string        // the addresses, once it serves
	tls            *tls.Config   // of its clients; nil for one that takes them without
	ended          chan struct{} // closed when the process has ended
}

// A launch says how to start remit: on free ports, unless the arguments name some.
type launch struct {
	env  []string // beside the test's own, without its REMIT_ variables
	args []string
	// binary is what is run, if not the remit of this tree.
	binary string
	// wrapper, if set, is a command that runs the command line behind it.
	wrapper []string
	// tls is how tests connect to the process, if it has TLS.
	tls *tls.Config
}

// serve is the launch of a node on a data folder.
func serve(dataDir string, args ...string) launch {
	return launch{
		env:  []string{"REMIT_ROOT_KEY=" + rootKey},
		args: append([]string{"serve", "--data-dir", dataDir, "--bootstrap-expect", "1"}, args...),
	}
}

// start starts remit; the process ends with the test at the latest.
func (l launch) start(t testing.TB) *process {
	t.Helper()
	path := l.binary
	if path == "" {
		var err error
		if path, err = binary(); err != nil {
			t.Fatal(err)
		}
	}
	line := append(append([]string{}, l.wrapper...), append([]string{path}, l.args...)...)
	p := &process{t: t, cmd: exec.Command(line[0], line[1:]...), tls: l.tls, ended: make(chan struct{})}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "REMIT_") {
			p.cmd.Env = append(p.cmd.Env, variable)
		}
	}
	p.cmd.Env = append(p.cmd.Env, endAtOnce, "REMIT_HTTP_ADDR=127.0.0.1:0", "REMIT_GRPC_ADDR=127.0.0.1:0", "REMIT_RAFT_ADDR=127.0.0.1:0", "REMIT_GOSSIP_ADDR=127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, l.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.SysProcAttr = dieWithTest()
	started := make(chan error)
	go func() {
		// The process ends with its thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if _, report, found := strings.Cut(p.stderr.String(), "DATA RACE"); found {
			t.Errorf("the race detector found a race in the process:%.8000s", report)
		}
		if t.Failed() {
			t.Logf("process %d printed:\n%s\nand on stderr:\n%s", p.cmd.Process.Pid, tail(p.stdout.String()), tail(p.stderr.String()))
		}
	})
	return p
}

func tail(text string) string {
	if len(text) > 4000 {
		return "…" + text[len(text)-4000:]
	}
	return text
}

// kill ends the process by SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// signal sends a signal to the process.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", s, err)
	}
}

// exits waits for the end of the process and returns its exit code.
func (p *process) exits() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("the process did not end within %s", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

var servingLine = regexp.MustCompile(`(?m)^remit is serving: REST https?://(\S+), gRPC (\S+), data in .+\n`)

// serves waits until the process says where it serves.
func (p *process) serves() *process {
	p.t.Helper()
	eventually(p.t, "the process serves", func() bool {
		if found := servingLine.FindStringSubmatch(p.stdout.String()); found != nil {
			p.http, p.grpc = found[1], found[2]
			return true
		}
		if p.hasEnded() {
			p.t.Fatalf("the process ended before it served: %s", p.stderr.String())
		}
		return false
	})
	return p
}

// ready waits until the process serves and is ready.
func (p *process) ready() *process {
	p.t.Helper()
	p.serves()
	eventually(p.t, "the process is ready", func() bool {
		code, _ := p.get("/readyz")
		return code == http.StatusOK
	})
	return p
}

// get asks the process over HTTP, without a key.
func (p *process) get(path string) (code int, body string) {
	p.t.Helper()
	request, err := http.NewRequest(http.MethodGet, p.url(path), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	code, _, body = p.do(request)
	return code, body
}

// url is where the process serves a path.
func (p *process) url(path string) string {
	if p.tls != nil {
		return "https://" + p.http + path
	}
	return "http://" + p.http + path
}

// do sends a request to the process, over a connection that is not kept.
func (p *process) do(request *http.Request) (code int, header http.Header, body string) {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: p.tls, DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// dial connects to the process with a key.
func (p *process) dial(key string) *grpc.ClientConn {
	p.t.Helper()
	transport := insecure.NewCredentials()
	if p.tls != nil {
		transport = credentials.NewTLS(p.tls)
	}
	conn, err := grpc.NewClient(p.grpc,
		grpc.WithTransportCredentials(transport),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key), method, req, reply, conn, opts...)
		}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// client returns a client of the process with a key.
func (p *process) client(key string) permissionsv1.PermissionsServiceClient {
	return permissionsv1.NewPermissionsServiceClient(p.dial(key))
}
