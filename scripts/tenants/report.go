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

func reportDeletions(deletions []*deletion) {
	fmt.Printf("\nAnother organisation writes, one write after the other, while this is deleted and swept:\n\n")
	fmt.Println("| | writes | p50 | p99 | longest | a bare sync meanwhile: p50 | p99 | longest |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	row := func(name string, p *phase) {
		fmt.Printf("| %s | %d | %s | %s | %s | %s | %s | %s |\n", name, len(p.writes),
			ms(p.writes.at(0.5)), ms(p.writes.at(0.99)), ms(p.writes.max()), ms(p.syncs.at(0.5)), ms(p.syncs.at(0.99)), ms(p.syncs.max()))
	}
	for _, d := range deletions {
		row("before", &d.baseline)
		row(fmt.Sprintf("%s, %d grants", d.name, d.grants), &d.during)
	}
	fmt.Println()
	for _, d := range deletions {
		verdict := "under"
		if d.delay() >= tolerated {
			verdict = "NOT under"
		}
		fmt.Printf("- %s, %d grants (made in %.1f s, %.0f/s): answered after %s; %d commands of the sweep, the last after %s. "+
			"The longest write took %s longer than before, %s %s; it began %s after the call. Heap %d MiB, with the grants %d MiB, at the end %d MiB.\n",
			d.name, d.grants, d.granting.Seconds(), float64(d.grants)/d.granting.Seconds(), ms(d.call), d.steps, ms(d.sweep),
			ms(d.delay()), verdict, tolerated, ms(d.longest), d.before.heap, d.with.heap, d.after.heap)
	}
}
