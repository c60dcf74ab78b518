// Tenants measures how one node carries many organisations: what they take of its
// memory, how long it takes to start, whether a check is slower than on an empty
// node, and whether the deletion of a large organisation delays the writes of
// another.
//
// The nodes are processes of their own, on free ports, with their data in a
// temporary folder. What is compared is measured in the same run.
//
// Run it in the repository's root, with bin/remit built:
//
//	go run ./scripts/tenants
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// settings say how much is created, and how long it is measured.
type settings struct {
	remit         string
	organisations int
	projects      int // of each organisation, the one called default among them
	keys          int // of each project
	grants        int // of what is deleted
	managing      int // grants in the built-in project on a project that is deleted
	callers       int
	snapshots     bool // taken as by default while deletions are measured

	rounds   int           // of checks, on each node
	checks   int           // of a round
	baseline time.Duration // of writes before a deletion
	quiet    time.Duration // without a command of the sweep, after which it is done
}

func main() {
	s := settings{rounds: 41, checks: 500, baseline: 10 * time.Second, quiet: 4 * time.Second, managing: 20_000}
	flag.StringVar(&s.remit, "remit", "bin/remit", "the remit to measure")
	flag.IntVar(&s.organisations, "organisations", 1000, "organisations to create")
	flag.IntVar(&s.projects, "projects", 10, "projects of each organisation")
	flag.IntVar(&s.keys, "keys", 10, "API keys of each project")
	flag.IntVar(&s.grants, "grants", 1_000_000, "grants of the organisation, and of the project, that is deleted")
	flag.IntVar(&s.callers, "callers", 256, "calls at a time, while the state is made")
	flag.BoolVar(&s.snapshots, "snapshots", false, "let the node take snapshots while writes are measured; they delay writes on their own account")
	smoke := flag.Bool("smoke", false, "only try that all of it works, with tiny numbers")
	flag.Parse()
	if *smoke {
		s.organisations, s.projects, s.keys, s.grants, s.managing, s.callers = 3, 2, 2, 3000, 1500, 64
		s.rounds, s.checks, s.baseline, s.quiet = 3, 20, 300*time.Millisecond, 300*time.Millisecond
		fmt.Print("a smoke test: too small for its figures to mean anything\n\n")
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := s.validate()
	if err == nil {
		err = measure(ctx, s)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tenants:", err)
		os.Exit(1)
	}
	if *smoke {
		fmt.Println("\nall of it works")
	}
}

func (s settings) validate() error {
	if min(s.organisations, s.projects, s.keys, s.grants, s.callers) < 1 {
		return errors.New("every number must be at least 1")
	}
	return nil
}

// progress tells whoever waits what is going on; the result is on stdout.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "tenants: "+format+"\n", args...)
}

func measure(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "remit-tenants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	large := &node{binary: s.remit, data: filepath.Join(dir, "large"), key: newRootKey()}
	defer large.kill()
	empty := &node{binary: s.remit, data: filepath.Join(dir, "empty"), key: newRootKey()}
	defer empty.kill()
	for _, n := range []*node{large, empty} {
		if _, err := n.start(ctx, withoutSnapshots...); err != nil {
			return err
		}
	}

	made, stages, err := populate(ctx, large, s)
	if err != nil {
		return err
	}
	reportMemory(s, stages)
	flags := withoutSnapshots
	if s.snapshots {
		flags = nil
	}
	starts, err := restart(ctx, large, empty, made, flags)
	if err != nil {
		return err
	}
	reportStarts(starts)
	if err := made.verify(ctx, large, s); err != nil {
		return err
	}
	onLarge, onEmpty, err := compareChecks(ctx, large, empty, made, s)
	if err != nil {
		return err
	}
	reportChecks(onLarge, onEmpty)
	if err := empty.end(); err != nil {
		return err
	}
	deletions, err := measureDeletions(ctx, large, made, s)
	if err != nil {
		return err
	}
	reportDeletions(s, deletions)
	return nil
}
