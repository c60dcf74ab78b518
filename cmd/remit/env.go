package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envVariable is the annotation that holds the name of a flag's variable.
const envVariable = "remit_env"

// offerEnv gives every flag of the command and of those below it an environment
// variable, and says so in the flag's usage.
func offerEnv(cmd *cobra.Command) {
	offer := func(flag *pflag.Flag) {
		name := "REMIT_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		flag.Annotations = map[string][]string{envVariable: {name}}
		if isList(flag) {
			name += ", one per line"
		}
		flag.Usage += " (env " + name + ")"
	}
	cmd.Flags().VisitAll(offer)
	cmd.PersistentFlags().VisitAll(offer)
	for _, below := range cmd.Commands() {
		offerEnv(below)
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
		values := []string{value}
		if isList(flag) {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' })
		}
		for _, value := range values {
			if err := cmd.Flags().Set(flag.Name, value); err != nil {
				failed = usagef("the environment variable %s, for --%s, is %q: %v", variable[0], flag.Name, value, reason(err))
				return
			}
		}
	})
	return failed
}

// isList reports whether a flag may be repeated and takes each value as it is.
// Its variable holds one value a line: a URI or a role's name may hold any other
// separator.
func isList(flag *pflag.Flag) bool { return flag.Value.Type() == "stringArray" }

// flagError says which flag does not take which value, and why. A command that
// does not exist goes first: its flags were read as those of the one above it.
func flagError(cmd *cobra.Command, err error) error {
	if unknown := cmd.Flags().Args(); cmd.HasSubCommands() && len(unknown) > 0 {
		return cmd.ValidateArgs(unknown)
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return usagef("--%s %q: %v", invalid.GetFlag().Name, invalid.GetValue(), reason(err))
	}
	return usagef("%v", err)
}

// reason is why a flag does not take a value, without what pflag and strconv say
// around it.
func reason(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	err = invalid.Unwrap()
	syntax := errors.Is(err, strconv.ErrSyntax)
	switch kind := invalid.GetFlag().Value.Type(); {
	case kind == "bool":
		return errors.New("must be true or false")
	case kind == "int" && syntax:
		return errors.New("must be a whole number")
	case kind == "uint64" && syntax:
		return errors.New("must be a whole number, 0 or more")
	case kind == "duration":
		if _, err := time.ParseDuration(invalid.GetValue() + "s"); err == nil {
			return fmt.Errorf("has no unit: write %ss", invalid.GetValue())
		}
		return errors.New("must be a time such as 5s or 500ms")
	}
	var number *strconv.NumError
	if errors.As(err, &number) {
		err = number.Err
	}
	return err
}
