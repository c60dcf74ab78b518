package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A node is a remit of its own, which can be killed and started again.
type node struct {
	binary string
	name   string
	data   string
	gossip string
	key    string
	flags  []string // of serve, beyond where things are
	nice   bool     // takes the processors only when nobody else wants them
	*client

	cmd  *exec.Cmd // nil while it does not run
	http string
	grpc string
}

// patience is how long a cluster may take for anything.
const patience = time.Minute

var welcome = regexp.MustCompile(`REST http://([^,]+), gRPC ([^,]+),`)

// start runs the node and returns when it serves; it need not be ready yet.
func (n *node) start(ctx context.Context) error {
	command := []string{n.binary}
	if n.nice {
		command = []string{"nice", "-n", "19", n.binary}
	}
	command = append(command, append([]string{
		"serve", "--data-dir", n.data, "--node-name", n.name, "--log-level", "warn", "--gossip-addr", n.gossip,
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0"}, n.flags...)...)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REMIT_") })
	cmd.Env = append(cmd.Env, "REMIT_ROOT_KEY="+n.key)
	// The terminal's Ctrl-C ends this process, which ends that one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has it
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd = cmd
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if match := welcome.FindStringSubmatch(lines.Text()); match != nil {
			go io.Copy(io.Discard, stdout)
			n.http, n.grpc = match[1], match[2]
			n.client, err = dial(n.grpc, n.key)
			return err
		}
	}
	n.kill()
	return fmt.Errorf("%s ended before it served: %s", n.name, n.complaint())
}

// log is the file that the node writes its log to.
func (n *node) log() string { return n.data + ".log" }

// complaint is the end of what the node wrote to its log.
func (n *node) complaint() string {
	text, _ := os.ReadFile(n.log())
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n    ")
}

// kill ends the process as a crash would, and returns when it is gone.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
	if n.client != nil {
		_ = n.client.close()
		n.client = nil
	}
}

func (n *node) awaitReady(ctx context.Context) error {
	err := until(ctx, patience, 5*time.Millisecond, n.name+" is not ready", func() (bool, error) {
		answer, err := http.Get("http://" + n.http + "/readyz")
		if err != nil {
			return false, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK, err
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, n.complaint())
	}
	return err
}

// disk returns how many bytes the node's log and its snapshots take.
func (n *node) disk() (log, snapshots int64, err error) {
	info, err := os.Stat(filepath.Join(n.data, "raft.db"))
	if err != nil {
		return 0, 0, err
	}
	err = filepath.WalkDir(filepath.Join(n.data, "snapshots"), func(_ string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var file os.FileInfo
			if file, err = entry.Info(); err == nil {
				snapshots += file.Size()
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			err = nil // an older snapshot that is being removed
		}
		return err
	})
	return info.Size(), snapshots, err
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
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
