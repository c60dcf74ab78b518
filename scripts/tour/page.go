package main

import (
	"fmt"
	"regexp"
	"strings"
)

// A block is a fenced block of the page.
type block struct {
	language string
	line     int // of its first line within the fence
	lines    []string
}

// blocksOf returns the fenced blocks.
func blocksOf(text string) []block {
	var (
		blocks []block
		open   *block
	)
	for i, line := range strings.Split(text, "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open != nil:
			blocks, open = append(blocks, *open), nil
		case fence:
			open = &block{language: language, line: i + 2}
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	return blocks
}

// A step is one command and what it prints.
type step struct {
	line    int
	command string
	output  string
}

// indent begins the further lines of a command.
const indent = "    "

// stepsOf returns the commands of the console blocks.
func stepsOf(blocks []block) ([]step, error) {
	var steps []step
	for _, b := range blocks {
		if b.language != "console" {
			continue
		}
		var s *step
		for i, line := range b.lines {
			command, isCommand := strings.CutPrefix(line, "$ ")
			switch {
			case isCommand:
				steps = append(steps, step{line: b.line + i, command: command})
				s = &steps[len(steps)-1]
			case s == nil:
				return nil, fmt.Errorf("%s:%d: a console block starts with a command: $ …", page, b.line+i)
			case s.output == "" && strings.HasPrefix(line, indent):
				s.command += "\n" + line
			default:
				s.output += line + "\n"
			}
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%s has no commands in console blocks", page)
	}
	return steps, nil
}

// varying is what differs from run to run.
var varying = []struct {
	pattern     *regexp.Regexp
	placeholder string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "<id>"},
	{regexp.MustCompile(`("token": ?)"[^"]+"`), `$1"<token>"`},
	{regexp.MustCompile(`\bremit_[0-9A-Za-z_-]{43}(\W|$)`), "<secret>$1"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<digest>"},
	{regexp.MustCompile(`\brevision \d+\b`), "revision <n>"},
	{regexp.MustCompile(`\bin \d+\.\d+ s\b`), "in <time>"},
	{regexp.MustCompile(`\b(node|start) \d\b`), "$1 <n>"},
}

func withPlaceholders(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.placeholder)
	}
	return text
}

// difference compares two texts line by line, but for what varies; empty if they
// are the same.
func difference(want, got string) string {
	want, got = withPlaceholders(want), withPlaceholders(got)
	if want == got {
		return ""
	}
	wanted, printed := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	var diff strings.Builder
	for i := range max(len(wanted), len(printed)) {
		var w, p string
		if i < len(wanted) {
			w = wanted[i]
		}
		if i < len(printed) {
			p = printed[i]
		}
		if w == p {
			mark(&diff, "  ", w)
			continue
		}
		mark(&diff, "- ", w)
		mark(&diff, "+ ", p)
	}
	return diff.String()
}

func mark(diff *strings.Builder, sign, line string) {
	if line != "" {
		fmt.Fprintf(diff, "    %s%s\n", sign, strings.TrimSuffix(line, "\n"))
	}
}
