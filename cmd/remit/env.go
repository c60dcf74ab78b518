package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envVariable is the annotation that holds the name of a flag's variable.
const envVariable = "remit_env"

// offerEnv gives flags of the set an environment variable, and says so in their
// usage. What a single command is to do comes from the command line alone: a
// variable that was left over must confirm and grant nothing.
func offerEnv(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		flag := flags.Lookup(name)
		variable := "REMIT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		flag.Annotations = map[string][]string{envVariable: {variable}}
		flag.Usage += " (env " + variable + ")"
	}
}

// bindEnv sets the flags that the command line left out from their variables. An
// empty variable counts as none.
func bindEnv(cmd *cobra.Command) error {
	var failed error
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		variable := flag.Annotations[envVariable]
		if len(variable) == 0 || flag.Changed || failed != nil {
			return
		}
		value := os.Getenv(variable[0])
		if value == "" {
			return
		}
		if err := cmd.Flags().Set(flag.Name, value); err != nil {
			failed = usagef("the environment variable %s, for --%s, is %q: %v", variable[0], flag.Name, value, reason(err))
		}
	})
	return failed
}
