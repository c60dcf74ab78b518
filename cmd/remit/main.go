// Command remit runs a node of the permissions service and is its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"
)

// The exit codes. A script can tell a denied check from a check that failed.
const (
	exitOK     = 0
	exitDenied = 1
	exitError  = 2
)

// errDenied is the outcome of a check that was answered, and answered with no.
var errDenied = errors.New("denied")

// errDisagree is the outcome of a comparison that was made and found a difference.
var errDisagree = errors.New("the nodes do not agree")

func main() {
	// gRPC's own lines would stand between ours on stderr; what matters of them comes
	// back as errors of calls.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks to end; from then on the next one ends at once.
	context.AfterFunc(ctx, stop)
	os.Exit(Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Main runs one command line until it is done or the context ends, and returns
// the exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand(stdin, stdout, stderr)
	// Never nil: cobra reads os.Args in place of nil.
	root.SetArgs(append([]string{}, args...))
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDenied), errors.Is(err, errDisagree):
		return exitDenied
	}
	report(stderr, cmd, err)
	return exitError
}

// report says on stderr what went wrong and, where it is known, what to do.
func report(stderr io.Writer, cmd *cobra.Command, err error) {
	fmt.Fprintf(stderr, "remit: %v\n", err)
	var failed *failure
	var usage *usageError
	switch {
	case errors.As(err, &failed) && failed.hint != "":
		for _, hint := range strings.Split(failed.hint, "\n") {
			fmt.Fprintf(stderr, "hint: %s\n", hint)
		}
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "hint: %s --help shows how\n", cmd.CommandPath())
	}
}
