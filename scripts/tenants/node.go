package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A node is a remit of its own, which can be ended and started again.
type node struct {
	binary, data, key string
	*client

	cmd        *exec.Cmd // nil while it does not run
	http       string
	stderr     chan struct{} // closed when all of it was read
	collection atomic.Pointer[collection]
}

// A collection is one cycle of the node's garbage collector.
type collection struct {
	cycle int
	live  int // MiB that were reachable
}

// Flags for a node whose snapshots are not to happen at some time or other.
var (
	withoutSnapshots = []string{"--snapshot-threshold", "1000000000"}
	withSnapshots    = []string{"--snapshot-threshold", "1", "--snapshot-interval", "1s"}
)

var (
	welcome = regexp.MustCompile(`REST http://([^,]+), gRPC ([^,]+),`)
	gcTrace = regexp.MustCompile(`^gc (\d+) @.* \d+->\d+->(\d+) MB,`)
)

func newRootKey() string { return "remit_" + rand.Text() + rand.Text() }

// start runs the node and returns how long it took until it was ready.
func (n *node) start(ctx context.Context, flags ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, n.binary, append([]string{
		"serve", "--dev", "--data-dir", n.data, "--log-level", "warn",
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"}, flags...)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REMIT_") })
	// The runtime says after each collection what is reachable.
	cmd.Env = append(cmd.Env, "GODEBUG=gctrace=1")
	if _, err := os.Stat(n.data); err != nil {
		cmd.Env = append(cmd.Env, "REMIT_ROOT_KEY="+n.key) // a node with state has it
	}
	// The terminal's Ctrl-C ends this process, which ends that one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n.cmd, n.stderr = cmd, make(chan struct{})
	n.collection.Store(&collection{})
	go n.follow(stderr, n.stderr)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if match := welcome.FindStringSubmatch(lines.Text()); match != nil {
			go io.Copy(io.Discard, stdout)
			n.http = match[1]
			if n.client, err = dial(match[2], n.key); err != nil {
				return 0, err
			}
			err := n.awaitReady(ctx)
			return time.Since(started), err
		}
	}
	return 0, fmt.Errorf("%s ended before it served", n.binary)
}

func (n *node) awaitReady(ctx context.Context) error {
	return until(ctx, time.Minute, time.Millisecond, "the node is not ready", func() (bool, error) {
		response, err := http.Get("http://" + n.http + "/readyz")
		if err != nil {
			return false, err
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
}

// follow reads what the node writes to stderr: the runtime's lines for this
// program, all others for whoever runs it.
func (n *node) follow(stderr io.Reader, done chan struct{}) {
	defer close(done)
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if match := gcTrace.FindStringSubmatch(line); match != nil {
			cycle, _ := strconv.Atoi(match[1])
			live, _ := strconv.Atoi(match[2])
			n.collection.Store(&collection{cycle, live})
		} else {
			fmt.Fprint(os.Stderr, line)
		}
		if err != nil {
			return
		}
	}
}

// end ends the node as its operator would; it has to end well.
func (n *node) end() error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the node: %w", err)
	}
	if err := n.wait(); err != nil {
		return fmt.Errorf("the node did not end well: %w", err)
	}
	return nil
}

// kill ends the node if it runs: its data is not needed any more.
func (n *node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.wait()
	}
}

func (n *node) wait() error {
	<-n.stderr
	err := n.cmd.Wait()
	n.cmd = nil
	if n.client != nil {
		err = errors.Join(err, n.client.close())
		n.client = nil
	}
	return err
}

// memory is what a node takes, in MiB.
type memory struct {
	heap     int // reachable objects, as of a collection
	resident int // all of it
	file     int // of that, pages of files that the kernel may drop
}

// memory makes the node collect its garbage, by sending it work, and says what is
// left.
func (n *node) memory(ctx context.Context) (memory, error) {
	// The first collection from now on may have begun earlier.
	first := n.collection.Load().cycle
	deadline := time.Now().Add(time.Minute)
	for n.collection.Load().cycle < first+2 {
		if time.Now().After(deadline) {
			return memory{}, errors.New("the node collects no garbage")
		}
		if err := n.litter(ctx); err != nil {
			return memory{}, err
		}
	}
	m := memory{heap: n.collection.Load().live}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return m, nil // no Linux to say it
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		switch name {
		case "VmRSS":
			m.resident = kib >> 10
		case "RssFile":
			m.file = kib >> 10
		}
	}
	return m, nil
}

// snapshotIndex returns the revision of the newest complete snapshot, 0 if there
// is none.
func (n *node) snapshotIndex() uint64 {
	folders, _ := filepath.Glob(filepath.Join(n.data, "snapshots", "*"))
	newest := uint64(0)
	for _, folder := range folders {
		// Named by term, index and time.
		parts := strings.Split(filepath.Base(folder), "-")
		if len(parts) == 3 && filepath.Ext(folder) == "" {
			index, _ := strconv.ParseUint(parts[1], 10, 64)
			newest = max(newest, index)
		}
	}
	return newest
}

// until asks again and again, until the answer is yes or too much time has passed.
func until(ctx context.Context, limit, pause time.Duration, failure string, ask func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s after %s", failure, limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
