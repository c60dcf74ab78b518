package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// confirmation lets nobody destroy by a slip what cannot be brought back.
type confirmation struct {
	yes bool
	// verb is what is to be confirmed, such as restore; deletion if empty.
	verb string
}

func (c *confirmation) addFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, cmp.Or(c.verb, "delete")+" without asking")
}

// ask returns nil once somebody agreed to the deletion: by the flag or, at a
// terminal, in answer to the question.
func (c *confirmation) ask(cmd *cobra.Command, what string) error {
	return c.agree(cmd, "Delete "+what+", for ever?", "this deletes "+what)
}

// agree is ask in other words: the question, and what would be done.
func (c *confirmation) agree(cmd *cobra.Command, question, deed string) error {
	if c.yes {
		return nil
	}
	if isTerminal(cmd.InOrStdin()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s Type yes: ", printable(question))
		agreed, whole, err := readYes(cmd.Context(), cmd.InOrStdin())
		if !whole {
			fmt.Fprintln(cmd.ErrOrStderr()) // the question's line is still open
		}
		if err != nil || agreed {
			return err
		}
	}
	return &failure{
		message: "not confirmed, so nothing changed: " + printable(deed),
		hint:    "--yes " + cmp.Or(c.verb, "delete") + "s without asking",
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
