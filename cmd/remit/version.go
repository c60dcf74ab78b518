package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what the Go linker wrote into the binary.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func readBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{Version: "unknown"}
	}
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	modified := ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = setting.Value
		case "vcs.modified":
			if setting.Value == "true" {
				modified = " with changes"
			}
		}
	}
	if b.Commit != "" {
		b.Commit += modified
	}
	return b
}

func newVersionCommand() *cobra.Command {
	output := table
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Long:  "Prints the module version, the commit and the Go version this binary was built from.",
		Example: `  remit version
  remit version -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := readBuild()
			if output == asJSON {
				text, err := json.MarshalIndent(b, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), string(text))
				return err
			}
			return writeFields(cmd.OutOrStdout(),
				field{"Version", []string{b.Version}},
				field{"Commit", []string{b.Commit}},
				field{"Go", []string{b.Go}})
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}
