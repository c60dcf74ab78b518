// Tour checks what README.md shows against the remit that this repository
// builds. Run it in the repository's root:
//
//	go run ./scripts/tour
//
// It builds bin/remit, starts a node and runs every ```console block, in order, in
// one bash session: a line that starts with "$ " is a command, which goes on in lines
// that are indented by four spaces, and what follows is what it prints. A block may
// start more nodes with scripts/cluster; they get a folder and ports of their own, and
// are ended if the page does not end them. It runs the ```go block as a program. It
// compares the tables of flags, of this page and of docs/operations.md, with remit serve --help.
//
// Some things differ from run to run and are compared by their place alone: ids (any
// UUID), tokens (the value of "token" in JSON), secrets, digests, revisions, times, which node
// leads, and the node's addresses, which README.md writes as the default ones.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	page      = "README.md"
	flagsPage = "docs/operations.md"
	timeout   = 2 * time.Minute
	// clusterNodes is how many nodes the page may start with scripts/cluster.
	clusterNodes = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	operations, err := os.ReadFile(flagsPage)
	if err != nil {
		return err
	}
	blocks := blocksOf(string(text))
	steps, err := stepsOf(blocks)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "remit-tour-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	remit, err := filepath.Abs("bin/remit") // which scripts/cluster runs too
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", remit, "./cmd/remit").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	n, err := startNode(ctx, remit, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	port, err := freePorts(clusterNodes)
	if err != nil {
		return err
	}
	n.cluster = clusterEnvironment(filepath.Join(dir, "cluster"), port)
	defer n.endCluster()

	return errors.Join(
		checkSteps(ctx, n, dir, steps),
		checkPrograms(ctx, n, dir, blocks),
		checkFlags(ctx, remit, string(text), string(operations)),
	)
}

// checkSteps runs the commands and says where one prints something else.
func checkSteps(ctx context.Context, n *node, dir string, steps []step) error {
	if _, err := exec.LookPath("curl"); err != nil {
		var left []step
		for _, s := range steps {
			if !strings.HasPrefix(s.command, "curl ") {
				left = append(left, s)
			}
		}
		fmt.Printf("tour: curl is not installed: %d commands are NOT checked\n", len(steps)-len(left))
		steps = left
	}
	outputs, err := runSession(ctx, n, dir, steps)
	if err != nil {
		return err
	}
	var wrong []error
	for i, s := range steps {
		if diff := difference(s.output, n.asDefault(outputs[i])); diff != "" {
			wrong = append(wrong, fmt.Errorf("%s:%d: $ %s\nprints something else (- %s, + now):\n%s", page, s.line, s.command, page, diff))
		}
	}
	if len(wrong) == 0 {
		fmt.Printf("tour: %d commands print what %s shows\n", len(steps), page)
	}
	return errors.Join(wrong...)
}

// checkPrograms runs the Go programs, which have to succeed.
func checkPrograms(ctx context.Context, n *node, dir string, blocks []block) error {
	count := 0
	for _, b := range blocks {
		if b.language != "go" {
			continue
		}
		count++
		if err := runProgram(ctx, n, dir, b); err != nil {
			return fmt.Errorf("%s:%d: the program does not run: %w", page, b.line, err)
		}
	}
	if count == 0 {
		return fmt.Errorf("%s has no Go program", page)
	}
	fmt.Printf("tour: the Go program compiles and runs\n")
	return nil
}
