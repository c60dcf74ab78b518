package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A writing is a way to write, and what was measured of it.
type writing struct {
	fleet
	pace
	follower bool // through one, which passes the writes on

	all, syncs, echoes latencies
	// By round.
	p50, rates, syncP50, echoP50 []float64
	elapsed, busy, leaderCPU     time.Duration
}

func (w *writing) String() string {
	if w.follower {
		return w.fleet.String() + ", through a follower"
	}
	return w.fleet.String()
}

// A pace is how many write at a time, and how long each waits after a write.
type pace struct {
	callers int
	pause   time.Duration
}

// paces are compared each for itself. One leaves the processors idle for most of
// the time: nodes that share them delay each other's writes by that alone.
var paces = []pace{{callers: 1}, {callers: 16}, {callers: 1, pause: 20 * time.Millisecond}}

func (p pace) String() string {
	if p.pause > 0 {
		return fmt.Sprintf("%d at a time, %s apart", p.callers, p.pause)
	}
	return fmt.Sprintf("%d at a time", p.callers)
}

// measureCommits compares what a write takes in clusters of several sizes. Each
// round forms each of them anew, alone on the machine.
func measureCommits(ctx context.Context, s settings) error {
	var all []*writing
	for _, p := range paces {
		for _, f := range s.fleets {
			all = append(all, &writing{fleet: f, pace: p})
			if f == (fleet{voters: 3}) {
				all = append(all, &writing{fleet: f, pace: p, follower: true})
			}
		}
	}
	bare, stop, err := startEcho(ctx, "no key")
	if err != nil {
		return err
	}
	defer stop()
	fleets := slices.Clone(s.fleets)
	for round := range s.rounds {
		progress("commits, round %d of %d", round+1, s.rounds)
		for _, f := range fleets {
			if err := measureFleet(ctx, s, f, all, bare); err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
		}
		slices.Reverse(fleets)
	}
	reportCommits(s, all)
	return nil
}

// measureFleet forms a cluster, makes all writes that are of such a cluster, and
// ends it.
func measureFleet(ctx context.Context, s settings, f fleet, all []*writing, bare *client) error {
	c, _, err := formCluster(ctx, s, f)
	if err != nil {
		return err
	}
	defer c.end()
	leader, err := c.leader(ctx, c.nodes[0])
	if err != nil {
		return err
	}
	if err := leader.createPermission(ctx); err != nil {
		return err
	}
	for i, w := range all {
		if w.fleet != f {
			continue
		}
		asked := leader
		if w.follower {
			asked = c.others(leader)[0]
		}
		write := func(n *client, base int) func(ctx context.Context, caller, i int) error {
			return func(ctx context.Context, caller, i int) error {
				_, err := n.grant(ctx, caller, base+i)
				return err
			}
		}
		base := i * 100_000
		during := func(d time.Duration) load { return load{w.callers, d, w.pause} }
		if _, _, err := during(s.slice/4).drive(ctx, write(asked.client, base)); err != nil { // to be warm
			return err
		}
		synced, err := syncs(ctx, s.dir, s.slice/4)
		if err != nil {
			return err
		}
		echoed, _, err := during(s.slice/4).drive(ctx, write(bare, base))
		if err != nil {
			return err
		}
		machine, process, started := busy(), leader.cpu(), time.Now()
		took, rate, err := during(s.slice).drive(ctx, write(asked.client, base+50_000))
		if err != nil {
			return err
		}
		w.elapsed += time.Since(started)
		w.busy += busy() - machine
		w.leaderCPU += leader.cpu() - process
		w.all, w.syncs, w.echoes = append(w.all, took...), append(w.syncs, synced...), append(w.echoes, echoed...)
		w.p50, w.rates = append(w.p50, took.at(0.5).Seconds()), append(w.rates, rate)
		w.syncP50, w.echoP50 = append(w.syncP50, synced.at(0.5).Seconds()), append(w.echoP50, echoed.at(0.5).Seconds())
	}
	return nil
}

func reportCommits(s settings, all []*writing) {
	fmt.Printf("Grants, one after the other by each writer, sent to the leader; the median of %d rounds of %s, or all their writes. Beside them a loop of writes of 4 KiB with a sync, and a gRPC echo with as many callers, just before each. Ratios are of medians, by round: their median, and in brackets within what half of the rounds lay.\n", s.rounds, s.slice)
	for _, p := range paces {
		var (
			rows  [][]string
			alone *writing // three voters
		)
		for _, w := range all {
			if w.pace == p && w.fleet == (fleet{voters: 3}) && !w.follower {
				alone = w
			}
		}
		for _, w := range all {
			if w.pace != p {
				continue
			}
			for _, l := range []latencies{w.all, w.syncs, w.echoes} {
				l.sorted()
			}
			rows = append(rows, []string{
				w.String(), ms(w.all.at(0.5)), ms(w.all.at(0.99)), fmt.Sprintf("%.0f", median(w.rates)), ratio(w.p50, alone.p50),
				ms(w.syncs.at(0.5)) + ", " + ms(w.syncs.at(0.99)), ratio(w.p50, w.syncP50),
				ms(w.echoes.at(0.5)) + ", " + ms(w.echoes.at(0.99)), ratio(w.p50, w.echoP50),
				us(w.leaderCPU / time.Duration(len(w.all))), utilisation(w.busy, w.elapsed),
			})
		}
		fmt.Println()
		table([]string{p.String(), "p50", "p99", "writes/s", "against 3 voters alone", "sync p50, p99", "write / sync",
			"echo p50, p99", "write / echo", "leader's CPU a write", "CPUs busy"}, rows)
	}
}
