package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// errTwice is why a flag with one value does not take another.
var errTwice = errors.New("can be given only once")

// once is the value of a flag that can be given once. A second one would otherwise
// silently take the first one's place.
type once struct {
	pflag.Value
	flag *pflag.Flag
}

func (o once) Set(value string) error {
	if o.flag.Changed {
		return errTwice
	}
	return o.Value.Set(value)
}

// takeOnce lets every flag of the command and of those below it be given once, but
// for those that collect values.
func takeOnce(cmd *cobra.Command) {
	limit := func(flag *pflag.Flag) {
		if flag.Value.Type() != "stringArray" {
			flag.Value = once{flag.Value, flag}
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(limit)
	cmd.PersistentFlags().VisitAll(limit)
	for _, below := range cmd.Commands() {
		takeOnce(below)
	}
}

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
	if errors.Is(err, errTwice) {
		return err
	}
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
