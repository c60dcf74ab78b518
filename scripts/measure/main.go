// Measure runs clusters of real processes on this machine and prints, as Markdown,
// how long they take to form and to recover from the loss of their leader, what
// writes and checks take, and what the disk holds after a long run.
//
// Every node has its own data folder below a temporary one (TMPDIR says on which
// disk) and free ports. What depends on the machine stands beside a loop of syncs
// of a file on the same disk, or beside a bare gRPC echo, of the same minute;
// configurations that are compared alternate in rounds.
//
// Run it in the repository's root, with bin/remit built, on a machine that does
// nothing else:
//
//	go run ./scripts/measure
//	go run ./scripts/measure -only commit,check
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings say how much is measured.
type settings struct {
	remit string
	dir   string // of the section that runs

	forms     int
	kills     int
	transfers int
	rounds    int           // of configurations that are compared
	slice     time.Duration // of each measured thing in a round
	fleets    []fleet       // whose commits are compared
	disk      time.Duration // of writes with the default settings of snapshots
	samples   int           // of the disk
	promises  bool          // figures that are worse than what is promised are an error
}

// A section is one of the tables.
type section struct {
	name, title string
	run         func(ctx context.Context, s settings) error
}

var sections = []section{
	{"form", "Forming", measureForming},
	{"recovery", "Recovery", measureRecovery},
	{"commit", "Commits", measureCommits},
	{"check", "Checks", measureChecks},
	{"disk", "Disk", measureDisk},
}

func names() []string {
	var all []string
	for _, one := range sections {
		all = append(all, one.name)
	}
	return all
}

func main() {
	s := settings{samples: 12, promises: true, fleets: []fleet{
		{voters: 1}, {voters: 3}, {voters: 3, replicas: 2}, {voters: 3, replicas: 4},
		{voters: 3, replicas: 2, aside: true}, {voters: 3, replicas: 4, aside: true},
	}}
	flag.StringVar(&s.remit, "remit", "bin/remit", "the remit to measure")
	flag.IntVar(&s.forms, "forms", 10, "clusters to form")
	flag.IntVar(&s.kills, "kills", 20, "leaders to kill")
	flag.IntVar(&s.transfers, "transfers", 20, "times to hand leadership over")
	flag.IntVar(&s.rounds, "rounds", 10, "rounds of what is compared")
	flag.DurationVar(&s.slice, "slice", 2*time.Second, "how long each thing is measured in a round")
	flag.DurationVar(&s.disk, "disk", 10*time.Minute, "how long to write while the disk is watched; a fifth of it again with frequent snapshots")
	only := flag.String("only", strings.Join(names(), ","), "the sections to run")
	smoke := flag.Bool("smoke", false, "only try that all of it works, with tiny numbers")
	echo := flag.Bool("echo", false, "")
	flag.Parse()
	if *smoke {
		s.forms, s.kills, s.transfers, s.rounds, s.slice, s.disk, s.samples = 1, 1, 1, 1, 100*time.Millisecond, time.Second, 2
		s.fleets, s.promises = []fleet{{voters: 1}, {voters: 3}, {voters: 3, replicas: 1, aside: true}}, false
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := func() error {
		if *echo {
			return serveEcho(ctx)
		}
		if *smoke {
			fmt.Println("a smoke test: too short for its figures to mean anything")
		}
		chosen, err := choose(*only)
		if err == nil {
			err = s.validate()
		}
		if err != nil {
			return err
		}
		return s.run(ctx, chosen)
	}()
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
	if *smoke {
		fmt.Println("\nall of it works")
	}
}

// choose returns the sections of these names, in their own order.
func choose(only string) ([]section, error) {
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("-only %q: there is no section %q, only %s", only, name, strings.Join(names(), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(sections), func(one section) bool { return !slices.Contains(wanted, one.name) }), nil
}

func (s settings) validate() error {
	if min(s.forms, s.kills, s.transfers, s.rounds) < 1 || min(s.slice, s.disk) <= 0 {
		return errors.New("every number must be more than 0")
	}
	return nil
}

func (s settings) run(ctx context.Context, chosen []section) error {
	dir, err := os.MkdirTemp("", "remit-measure-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s/%s, %d CPUs, data in %s, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), filepath.Dir(dir), time.Now().UTC().Format(time.RFC3339))
	for _, one := range chosen {
		s.dir = filepath.Join(dir, one.name)
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			return err
		}
		fmt.Printf("\n## %s\n\n", one.title)
		machine, own, started := busy(), ownCPU(), time.Now()
		if err := one.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		elapsed := time.Since(started)
		fmt.Printf("\nMeasured for %s; other processes took %s of the machine's CPUs.\n",
			elapsed.Round(time.Second), utilisation(busy()-machine-(ownCPU()-own), elapsed))
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
	}
	return nil
}

// progress tells whoever waits what is going on; the result is on stdout.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "measure: "+format+"\n", args...)
}
