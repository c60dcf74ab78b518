package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

var (
	// A row of a page's table: | `--http-addr` | `127.0.0.1:7600` | what it is |
	flagRow = regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\|([^|]*)\\|")
	// A line of the help: --http-addr address   address to … (env REMIT_…) (default "…")
	flagHelp = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+) .*?(?:\(default "?([^"\n]*?)"?\))?$`)
)

// checkFlags compares the tables of flags, and their defaults, with the help: one
// page has some of the flags, the other all.
func checkFlags(ctx context.Context, remit, some, all string) error {
	help := exec.CommandContext(ctx, remit, "serve", "--help")
	help.Env = environment()
	output, err := help.Output()
	if err != nil {
		return fmt.Errorf("remit serve --help: %w", err)
	}
	have := map[string]string{}
	for _, match := range flagHelp.FindAllStringSubmatch(string(output), -1) {
		have[match[1]] = match[2]
	}
	delete(have, "help")
	have["node-name"] = "the host's name"
	have["join"] = "" // an empty list

	allWrong, named := compareFlags(flagsPage, all, have)
	someWrong, _ := compareFlags(page, some, have)
	wrong := append(allWrong, someWrong...)
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !named[name] {
			wrong = append(wrong, fmt.Errorf("%s does not name --%s of remit serve", flagsPage, name))
		}
	}
	if len(wrong) == 0 {
		fmt.Printf("tour: %d flags are in the tables as in remit serve --help\n", len(have))
	}
	return errors.Join(wrong...)
}

// compareFlags compares a page's rows with the flags that there are and their
// defaults. It returns the names in the rows too.
func compareFlags(page, text string, have map[string]string) (wrong []error, named map[string]bool) {
	named = map[string]bool{}
	for _, match := range flagRow.FindAllStringSubmatch(text, -1) {
		name, shown := match[1], strings.Trim(match[2], " `")
		named[name] = true
		value, ok := have[name]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("%s names --%s, which remit serve does not have", page, name))
		case shown != value:
			wrong = append(wrong, fmt.Errorf("%s gives --%s the default %q; it is %q", page, name, shown, value))
		}
	}
	return wrong, named
}
