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
	// A row of the page's table: | `--http-addr` | `127.0.0.1:7600` | what it is |
	flagRow = regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\|([^|]*)\\|")
	// A line of the help: --http-addr address   address to … (env REMIT_…) (default "…")
	flagHelp = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+) .*?(?:\(default "?([^"\n]*?)"?\))?$`)
)

// checkFlags compares the table of flags, and their defaults, with the help.
func checkFlags(ctx context.Context, remit, text string) error {
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

	var wrong []error
	for _, match := range flagRow.FindAllStringSubmatch(text, -1) {
		name, shown := match[1], strings.Trim(match[2], " `")
		value, ok := have[name]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("%s names --%s, which remit serve does not have", page, name))
		case shown != value:
			wrong = append(wrong, fmt.Errorf("%s gives --%s the default %q; it is %q", page, name, shown, value))
		}
		delete(have, name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		wrong = append(wrong, fmt.Errorf("%s does not name --%s of remit serve", page, name))
	}
	if len(wrong) == 0 {
		fmt.Println("tour: the table of flags agrees with remit serve --help")
	}
	return errors.Join(wrong...)
}
