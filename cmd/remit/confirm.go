package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// confirmation lets nobody delete by a slip what cannot be brought back.
type confirmation struct {
	yes bool
}

func (c *confirmation) addFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "delete without asking")
}

// ask returns nil once somebody agreed to the deletion: by the flag or, at a
// terminal, in answer to the question.
func (c *confirmation) ask(cmd *cobra.Command, what string) error {
	if c.yes {
		return nil
	}
	what = printable(what)
	if isTerminal(cmd.InOrStdin()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "Delete %s, for ever? Type yes: ", what)
		agreed, whole, err := readYes(cmd.Context(), cmd.InOrStdin())
		if !whole {
			fmt.Fprintln(cmd.ErrOrStderr()) // the question's line is still open
		}
		if err != nil || agreed {
			return err
		}
	}
	return &failure{
		message: fmt.Sprintf("not confirmed, so nothing changed: this deletes %s", what),
		hint:    "--yes deletes without asking",
	}
}

// isTerminal reports whether somebody may sit there. Of /dev/null, which looks the
// same, an answer is read too, and is none.
func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// readYes reads a line, and reports whether it is yes and whether it came whole,
// with its line break. A signal ends the wait.
func readYes(ctx context.Context, in io.Reader) (agreed, whole bool, err error) {
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(in).ReadString('\n') // what came before an error is the answer
		line <- text
	}()
	select {
	case text := <-line:
		return strings.TrimSpace(text) == "yes", strings.HasSuffix(text, "\n"), nil
	case <-ctx.Done():
		return false, false, &failure{message: "interrupted", cause: ctx.Err()}
	}
}
