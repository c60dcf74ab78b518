// Bench measures unary gRPC Check against a bare gRPC echo: how much of what
// gRPC itself can do is left once remit authenticates, authorizes and decides.
//
// Both servers are processes of their own. They get the same requests, byte for
// byte, from the same client code with the same settings, and answer messages
// of the same size. Runs of the two alternate, in an order that is swapped each
// round, and are short, so that whatever else the machine does falls on both.
//
// Run it in the repository's root, with bin/remit built:
//
//	go run ./scripts/bench
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
)

// settings are what both sides are measured with.
type settings struct {
	remit       string
	side        time.Duration // of one run of one side
	rounds      int
	callers     int
	connections int
	grants      int
}

func main() {
	var s settings
	flag.StringVar(&s.remit, "remit", "bin/remit", "the remit to measure")
	benchtime := flag.String("benchtime", "1s", "twice what each run of each side takes; or Nx, as for go test, for a short smoke test")
	flag.IntVar(&s.rounds, "rounds", 40, "runs of each side")
	flag.IntVar(&s.callers, "callers", 32, "calls at a time")
	flag.IntVar(&s.connections, "connections", 2, "connections that the callers share")
	flag.IntVar(&s.grants, "grants", 100_000, "grants in the state")
	echo := flag.String("echo", "", "")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := func() error {
		if *echo != "" {
			return serveEcho(ctx, *echo)
		}
		if err := s.setTime(*benchtime); err != nil {
			return err
		}
		return measure(ctx, s)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (s *settings) setTime(benchtime string) error {
	if strings.HasSuffix(benchtime, "x") {
		fmt.Println("a smoke test: too short for its figures to mean anything")
		s.side, s.rounds, s.grants = 100*time.Millisecond, 2, 1000
		return nil
	}
	d, err := time.ParseDuration(benchtime)
	if err != nil || d <= 0 {
		return fmt.Errorf("-benchtime %q is neither a duration nor Nx", benchtime)
	}
	s.side = d / 2
	return nil
}

// A side is one of the two servers with what was measured of it.
type side struct {
	name    string
	process *process
	*client
	throughput []float64 // calls a second, by round
	latencies  []time.Duration
	cpu        time.Duration // of the server, for all of these calls
}

func measure(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "remit-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	node, err := startRemit(ctx, s.remit, dir)
	if err != nil {
		return err
	}
	defer node.stop()
	checked, err := dial(node.addr, node.key, s)
	if err != nil {
		return err
	}
	defer checked.close()
	started := time.Now()
	requests, err := load(ctx, checked, s.grants)
	if err != nil {
		return err
	}
	fmt.Printf("loaded %d grants in %.1f s\n", s.grants, time.Since(started).Seconds())

	answer, err := checked.check(ctx, requests[0])
	if err != nil {
		return err
	}
	bare, err := startEcho(ctx, answer)
	if err != nil {
		return err
	}
	defer bare.stop()
	echoed, err := dial(bare.addr, node.key, s)
	if err != nil {
		return err
	}
	defer echoed.close()

	fmt.Printf("%d callers on %d connections, GOMAXPROCS %d, requests of %d bytes, answers of %d; %d rounds of %s a side\n",
		s.callers, s.connections, runtime.GOMAXPROCS(0), proto.Size(requests[0]), proto.Size(answer), s.rounds, s.side)
	sides := []*side{
		{name: "remit Check", process: node, client: checked},
		{name: "bare gRPC echo", process: bare, client: echoed},
	}
	for round := range s.rounds + 1 {
		for _, side := range sides {
			cpu := side.process.cpu()
			calls, latencies, err := side.drive(ctx, requests, s)
			if err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			if round == 0 {
				continue // both are warm now
			}
			side.throughput = append(side.throughput, calls)
			side.latencies = append(side.latencies, latencies...)
			side.cpu += side.process.cpu() - cpu
		}
		slices.Reverse(sides)
	}
	if sides[0].client != checked {
		slices.Reverse(sides)
	}
	report(sides[0], sides[1])
	return nil
}

func report(checked, echoed *side) {
	for _, side := range []*side{checked, echoed} {
		slices.Sort(side.latencies)
		at := func(p float64) time.Duration {
			return side.latencies[int(p*float64(len(side.latencies)-1))].Round(time.Microsecond)
		}
		fmt.Printf("%-15s %8.0f calls/s (median of %d rounds, %.0f to %.0f)   p50 %s   p99 %s   %s of the server's CPU a call\n", side.name,
			median(side.throughput), len(side.throughput), slices.Min(side.throughput), slices.Max(side.throughput), at(0.5), at(0.99),
			(side.cpu / time.Duration(len(side.latencies))).Round(100*time.Nanosecond))
	}
	var ratios []float64
	for i, calls := range checked.throughput {
		ratios = append(ratios, calls/echoed.throughput[i])
	}
	slices.Sort(ratios)
	fmt.Printf("remit Check / bare gRPC echo: %.2f by the medians; by round %.2f (median), half of the rounds within %.2f to %.2f\n",
		median(checked.throughput)/median(echoed.throughput), median(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
