package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// latencies are how long calls took, ascending once sorted.
type latencies []time.Duration

func (l latencies) sorted() latencies {
	slices.Sort(l)
	return l
}

func (l latencies) at(p float64) time.Duration { return l[int(p*float64(len(l)-1))] }

func (l latencies) max() time.Duration { return l[len(l)-1] }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }

func us(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// promise fails if a figure is worse than what is promised.
func (s settings) promise(what string, got, most time.Duration) error {
	if !s.promises || got <= most {
		return nil
	}
	return fmt.Errorf("%s took %s, and %s is promised", what, seconds(got), seconds(most))
}

// table prints rows under headings, in Markdown.
func table(headings []string, rows [][]string) {
	line := func(cells []string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }
	line(headings)
	line(slices.Repeat([]string{"---"}, len(headings)))
	for _, row := range rows {
		line(row)
	}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio says what a was of b by round: the median, and within what half of the
// rounds lay.
func ratio(a, b []float64) string {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	slices.Sort(ratios)
	if len(ratios) < 4 {
		return fmt.Sprintf("%.2f", median(ratios))
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
}

// busy returns how much processor time the machine has used since it started, 0
// where there is no Linux to say it.
func busy() time.Duration {
	stat, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(stat), "\n")
	var hundredths int
	for i, field := range strings.Fields(first) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle and waiting, guests (counted as user)
			continue
		}
		n, _ := strconv.Atoi(field)
		hundredths += n
	}
	return time.Duration(hundredths) * 10 * time.Millisecond
}

// cpu returns the processor time that the node's process has used, 0 where there is
// no Linux to say it.
func (n *node) cpu() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	// User and system time in hundredths of a second, counted behind the name.
	_, behind, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(behind)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// ownCPU returns the processor time that this process has used, and the processes
// that it started and that have ended.
func ownCPU() time.Duration {
	var used time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err == nil {
			used += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}
	return used
}

// utilisation is the part of the machine's processors that was used.
func utilisation(used, elapsed time.Duration) string {
	if busy() == 0 {
		return "?"
	}
	return fmt.Sprintf("%.0f %%", 100*max(0, used.Seconds())/elapsed.Seconds()/float64(runtime.NumCPU()))
}
