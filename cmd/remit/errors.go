package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// failure is an error that comes with advice.
type failure struct {
	message string
	hint    string // one a line
	cause   error
}

func (f *failure) Error() string { return f.message }

func (f *failure) Unwrap() error { return f.cause }

// exists says by the error of a look-up whether there is what was looked for.
func exists(err error) (bool, error) {
	switch status.Code(err) {
	case codes.OK:
		return true, nil
	case codes.NotFound:
		return false, nil
	}
	return false, err
}

// A sight is what a look-up saw of what it looked for.
type sight int

const (
	unseen sight = iota // nobody looked, or the key may not see it
	absent
	present
)

// seen says by the error of a look-up what it saw. That the key may not look is no
// error: what is printed must not decide which rights a command needs.
func seen(err error) (sight, error) {
	if isDenied(err) {
		return unseen, nil
	}
	found, err := exists(err)
	if found {
		return present, err
	}
	return absent, err
}

// afterDeletion says what the deletion of a thing that was looked for did.
func (s sight) afterDeletion(kind, name string) string {
	switch s {
	case absent:
		return fmt.Sprintf("no %s is called %s: nothing changed", kind, printable(name))
	case unseen:
		return fmt.Sprintf("no %s is called %s any more; this key may not see whether one was", kind, printable(name))
	}
	return fmt.Sprintf("deleted %s %s", kind, printable(name))
}

// usageError is a mistake in the command line itself.
type usageError struct {
	message string
}

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// exactly takes one argument for each of the names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// atLeast takes one argument for each of the names, and more of the last.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		return nil
	}
}

// family makes a command one that only has commands below it: alone it shows its
// help, and it refuses a name that is none of them.
func family(cmd *cobra.Command, members ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(members...)
	cmd.DisableFlagsInUseLine = true
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			nearest := slices.MinFunc(near, func(a, b string) int {
				return cmp.Compare(editDistance(args[0], a), editDistance(args[0], b))
			})
			return usagef("%s has no command %q: did you mean %q?", cmd.CommandPath(), args[0], nearest)
		}
		return usagef("%s has no command %q", cmd.CommandPath(), args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// editDistance is how many letters have to be put in, taken out or changed to
// make one text the other.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
