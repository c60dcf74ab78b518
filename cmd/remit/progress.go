package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// progress tells on stderr how far a long command is, a line for each step.
type progress struct {
	w    io.Writer
	last string
}

func newProgress(cmd *cobra.Command) *progress { return &progress{w: cmd.ErrOrStderr()} }

// step tells what is done or under way, unless that was told last.
func (p *progress) step(format string, args ...any) {
	line := printable(fmt.Sprintf(format, args...))
	if line != p.last {
		fmt.Fprintln(p.w, line)
	}
	p.last = line
}

// meterInterval is how often a meter tells.
const meterInterval = time.Second

// A meter tells on stderr how many bytes are done.
type meter struct {
	progress
	verb  string
	total uint64 // 0 if nobody knows
	done  uint64
	told  time.Time
}

func newMeter(cmd *cobra.Command, verb string, total uint64) *meter {
	return &meter{progress: *newProgress(cmd), verb: verb, total: total, told: time.Now()}
}

// add tells of more bytes, now and then.
func (m *meter) add(n int) {
	m.done += uint64(n)
	if time.Since(m.told) >= meterInterval {
		m.tell()
	}
}

// tell tells how far it is.
func (m *meter) tell() {
	m.told = time.Now()
	if m.total > 0 {
		m.step("%s %s of %s", m.verb, byteSize(m.done), byteSize(m.total))
		return
	}
	m.step("%s %s", m.verb, byteSize(m.done))
}

// byteSize is a number of bytes for people.
func byteSize(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for ; value >= 1<<10 && unit < 3; unit++ {
		value /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[unit])
}
