package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// The addresses that the page writes.
const (
	defaultHTTP = "127.0.0.1:7600"
	defaultGRPC = "127.0.0.1:7601"
)

// A node is the remit that the page's commands talk to, on ports of its own.
type node struct {
	http, grpc, key string
	cluster         []string // what makes scripts/cluster start nodes beside it
	binary          string
	cmd             *exec.Cmd
}

var welcome = regexp.MustCompile(`REST http://([^,]+), gRPC ([^,]+),(?s:.*)Root key, shown this once: (\S+)`)

// startNode runs a node and returns when it serves.
func startNode(ctx context.Context, remit, data string) (*node, error) {
	n := &node{binary: remit, cmd: exec.CommandContext(ctx, remit, "serve", "--dev", "--data-dir", data, "--log-level", "warn",
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0")}
	n.cmd.Env = environment()
	n.cmd.Stderr = os.Stderr
	// The terminal's Ctrl-C ends the tour, which ends the node.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	printed := ""
	for lines := bufio.NewScanner(output); lines.Scan(); {
		printed += lines.Text() + "\n"
		if match := welcome.FindStringSubmatch(printed); match != nil {
			n.http, n.grpc, n.key = match[1], match[2], match[3]
			return n, nil
		}
	}
	return nil, errors.Join(errors.New("the node ended before it served"), n.cmd.Wait())
}

// stop ends the node, which has to end well.
func (n *node) stop() error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the node: %w", err)
	}
	if err := n.cmd.Wait(); err != nil {
		return fmt.Errorf("the node did not end well: %w", err)
	}
	return nil
}

// endCluster ends the nodes that the page has started and not ended.
func (n *node) endCluster() {
	down := exec.Command("scripts/cluster", "down")
	down.Env = environment(n.cluster...)
	_ = down.Run() // there are none, as a rule
}

// asActual and asDefault turn the page's addresses into the node's and back.
func (n *node) asActual(text string) string {
	return strings.NewReplacer(defaultHTTP, n.http, defaultGRPC, n.grpc).Replace(text)
}

func (n *node) asDefault(text string) string {
	return strings.NewReplacer(n.http, defaultHTTP, n.grpc, defaultGRPC).Replace(text)
}

// environment is this process's own, without what would steer remit.
func environment(more ...string) []string {
	own := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REMIT_") })
	return append(own, more...)
}

// runSession runs the commands in one bash and returns what each printed.
func runSession(ctx context.Context, n *node, dir string, steps []step) ([]string, error) {
	const end = "\x01" // behind each command's output
	script := "exec 2>&1\n"
	for _, s := range steps {
		// The exit code is the next command's to ask for.
		script += n.asActual(s.command) + "\n" + `status=$?; printf '\001'; (exit $status)` + "\n"
	}
	file := filepath.Join(dir, "session")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return nil, err
	}
	bash := exec.CommandContext(ctx, "bash", file)
	bash.Env = append(environment("PATH="+filepath.Dir(n.binary)+":"+os.Getenv("PATH"), "REMIT_ADDR="+n.grpc, "REMIT_KEY="+n.key), n.cluster...)
	// Into a file: nodes that the session leaves would keep a pipe open.
	printed, err := os.Create(file + ".out")
	if err != nil {
		return nil, err
	}
	defer printed.Close()
	bash.Stdout, bash.Stderr = printed, printed
	err = bash.Run()
	output, readErr := os.ReadFile(printed.Name())
	if readErr != nil {
		return nil, readErr
	}
	outputs := strings.Split(string(output), end)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || len(outputs) != len(steps)+1 {
		return nil, fmt.Errorf("the commands of %s do not run to their end: %v\n%s", page, err, output)
	}
	return outputs, nil
}

// runProgram runs a Go program as if it were a package of this module, whose
// stubs it imports.
func runProgram(ctx context.Context, n *node, dir string, b block) error {
	source := filepath.Join(dir, "program.go")
	if err := os.WriteFile(source, []byte(n.asActual(strings.Join(b.lines, "\n")+"\n")), 0o600); err != nil {
		return err
	}
	const folder = "scripts/tour/program"
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, folder, "main.go"): source}})
	if err != nil {
		return err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return err
	}
	run := exec.CommandContext(ctx, "go", "run", "-overlay", overlayFile, "./"+folder)
	run.Env = environment("REMIT_KEY=" + n.key)
	if output, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}
