package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// echoPrefix is what the echo prints before the address it serves on.
const echoPrefix = "echo serves on "

// A process is a server that runs beside this one.
type process struct {
	addr string
	key  string
	pid  int
	stop func()
}

// cpu returns the processor time that the process has used, 0 where there is no
// Linux to say it.
func (p *process) cpu() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	// User and system time in hundredths of a second, counted behind the name.
	_, behind, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(behind)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// start runs a command and returns when it has printed a line that matches, with
// what the expression captured.
func start(ctx context.Context, ready *regexp.Regexp, name string, args ...string) (match []string, p *process, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REMIT_") })
	// The terminal's Ctrl-C ends this process, which ends that one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	p = &process{pid: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Kill() // its data is temporary
		_ = cmd.Wait()
	}}
	var printed strings.Builder
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		printed.WriteString(lines.Text() + "\n")
		if match = ready.FindStringSubmatch(printed.String()); match != nil {
			go io.Copy(io.Discard, output)
			return match, p, nil
		}
	}
	p.stop()
	return nil, nil, fmt.Errorf("%s ended before it served", name)
}

func startRemit(ctx context.Context, name, dir string) (*process, error) {
	match, p, err := start(ctx, regexp.MustCompile(`gRPC ([^,]+),(?s:.*)Root key, shown this once: (\S+)`),
		name, "serve", "--dev", "--data-dir", filepath.Join(dir, "data"), "--log-level", "warn",
		// Snapshots are work of the writes that loaded the state.
		"--snapshot-threshold", "1000000000",
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.addr, p.key = match[1], match[2]
	return p, nil
}

// startEcho runs this program as the echo of an answer.
func startEcho(ctx context.Context, answer *permissionsv1.CheckPermissionResponse) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	data, err := proto.Marshal(answer)
	if err != nil {
		return nil, err
	}
	match, p, err := start(ctx, regexp.MustCompile(echoPrefix+`(\S+)`), self, "-echo", base64.StdEncoding.EncodeToString(data))
	if err != nil {
		return nil, err
	}
	p.addr = match[1]
	return p, nil
}

// ballast is memory that the echo holds, about as much as a node with 100,000
// grants does. The heap of a process that holds nothing is collected several
// times as often, which would be to the echo's disadvantage.
const ballast = 16 << 20

// echo answers every check with one message. It has the generated stubs and
// gRPC's own server, as any Go service, and nothing else.
type echo struct {
	permissionsv1.UnimplementedPermissionsServiceServer
	answer  *permissionsv1.CheckPermissionResponse
	ballast []byte
}

// Check answers what was given.
func (e *echo) Check(context.Context, *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
	return e.answer, nil
}

// serveEcho serves the echo of an encoded answer until the context ends.
func serveEcho(ctx context.Context, encoded string) error {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	answer := &permissionsv1.CheckPermissionResponse{}
	if err := proto.Unmarshal(data, answer); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	permissionsv1.RegisterPermissionsServiceServer(s, &echo{answer: answer, ballast: make([]byte, ballast)})
	context.AfterFunc(ctx, s.Stop)
	fmt.Println(echoPrefix + listener.Addr().String())
	return s.Serve(listener)
}
