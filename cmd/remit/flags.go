package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

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
