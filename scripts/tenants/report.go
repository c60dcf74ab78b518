package main

import (
	"fmt"
	"time"
)

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

func us(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// reportMemory prints what the state's kinds take. The collector counts whole MiB,
// so a small number of anything says little.
func reportMemory(s settings, stages []stage) {
	fmt.Printf("%d organisations of %d projects of %d keys; %d calls at a time\n\n", s.organisations, s.projects, s.keys, s.callers)
	fmt.Println("| created | in | writes/s | reachable heap | bytes each | resident (of files) |")
	fmt.Println("|---|---|---|---|---|---|")
	for i, at := range stages {
		took, rate, each := "", "", ""
		if i > 0 {
			took = fmt.Sprintf("%.1f s", at.took.Seconds())
			rate = fmt.Sprintf("%.0f", float64(at.count)/at.took.Seconds())
			each = fmt.Sprintf("%d", (at.heap-stages[i-1].heap)<<20/at.count)
		}
		fmt.Printf("| %d %s | %s | %s | %d MiB | %s | %d MiB (%d MiB) |\n", at.count, at.name, took, rate, at.heap, each, at.resident, at.file)
	}
	first, last := stages[0], stages[len(stages)-1]
	fmt.Printf("\nAn organisation with all of that: %d bytes of heap.\n", (last.heap-first.heap)<<20/s.organisations)
}

func reportStarts(s starts) {
	fmt.Printf("\n| start until ready | this node | an empty one |\n|---|---|---|\n")
	fmt.Printf("| from %d entries of the log | %s | %s |\n", s.entries, ms(s.fromLog), ms(s.emptyFromLog))
	fmt.Printf("| from a snapshot | %s | %s |\n", ms(s.fromSnapshot), ms(s.emptyFromSnapshot))
}

func reportChecks(large, empty latencies) {
	fmt.Printf("\n| %d checks, one after the other | this node | an empty one | ratio |\n|---|---|---|---|\n", len(large))
	for _, p := range []float64{0.5, 0.99} {
		fmt.Printf("| p%.0f | %s | %s | %.2f |\n", p*100, us(large.at(p)), us(empty.at(p)), float64(large.at(p))/float64(empty.at(p)))
	}
}

// tolerated is how much longer than without it a write may take while something
// large is deleted.
const tolerated = 50 * time.Millisecond

func reportDeletions(s settings, deletions []*deletion) {
	snapshots := "without snapshots"
	if s.snapshots {
		snapshots = "with snapshots as by default"
	}
	fmt.Printf("\nWrites of another organisation, one after the other, and syncs of a file of the same disk (%s):\n\n", snapshots)
	fmt.Println("| | writes | p50 | p99 | longest | sync p50 | p99 | longest |\n|---|---|---|---|---|---|---|---|")
	row := func(name string, p *phase) {
		fmt.Printf("| %s | %d | %s | %s | %s | %s | %s | %s |\n", name, len(p.writes),
			ms(p.writes.at(0.5)), ms(p.writes.at(0.99)), ms(p.writes.max()), ms(p.syncs.at(0.5)), ms(p.syncs.at(0.99)), ms(p.syncs.max()))
	}
	for _, d := range deletions {
		row("before", &d.baseline)
		row(d.title(), &d.during)
	}
	fmt.Println("\n| deleted | answered after | steps of the sweep | the last after | longest write, against before | it began after | under 50 ms |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, d := range deletions {
		verdict := "yes"
		if d.delay() >= tolerated {
			verdict = "NO"
		}
		fmt.Printf("| %s | %s | %d | %s | %+.1f ms | %s | %s |\n", d.title(), ms(d.call), d.steps, ms(d.sweep),
			d.delay().Seconds()*1000, ms(d.longest), verdict)
	}
	fmt.Println("\n| | grants/s | reachable heap before the grants | with them | swept, and with the writes |\n|---|---|---|---|---|")
	for _, d := range deletions {
		fmt.Printf("| %s | %.0f | %d MiB | %d MiB | %d MiB |\n", d.title(), float64(d.grants)/d.granting.Seconds(), d.before.heap, d.with.heap, d.after.heap)
	}
}

func (d *deletion) title() string { return fmt.Sprintf("%s, %d grants", d.name, d.grants) }
