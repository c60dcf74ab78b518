package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func newCheckCommand(c *connection) *cobra.Command {
	var (
		fresh freshness
		on    []string
	)
	cmd := &cobra.Command{
		Use:   "check PRINCIPAL PERMISSION...",
		Short: "Ask whether someone may do something",
		Long: `Asks whether a principal holds every one of the permissions on every one of the
resource URIs, directly, by a role, or from a URI above. Otherwise it prints
what is missing where.

A node answers from the newest state that it has, which may be some moments old.
--consistent asks for every write acknowledged anywhere before, at the cost of a
round with the leader; --at-least asks for one write, by the token that -o json
shows in its answer, and waits only where the node is behind that.

The exit code is 0 for allowed, 1 for denied and 2 if there was no answer.`,
		Example: `  remit check usr_123 document.read --on /project/456/documents/789
  remit check usr_123 document.read document.write --on /project/456 --on /project/457
  remit check usr_123 document.read --on /project/456 --consistent
  remit check usr_123 document.read --on /project/456 && echo "come in"`,
		Args: atLeast("PRINCIPAL", "PERMISSION"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			consistency, token, err := fresh.fields()
			if err != nil {
				return err
			}
			if len(on) == 0 {
				return usagef("--on is missing: on which resource?")
			}
			if slices.Contains(on, "") {
				return usagef("--on is empty: on which resource?")
			}
			for _, name := range args[1:] {
				if strings.Contains(name, ",") {
					return usagef("permission %q holds a comma: leave a space between permissions", name)
				}
			}
			decision, err := client.Check(cmd.Context(), &permissionsv1.CheckPermissionRequest{
				ProjectName:  c.project,
				PrincipalId:  args[0],
				Permissions:  args[1:],
				ResourceUris: on,
				Consistency:  consistency,
				Token:        token,
			})
			if err != nil {
				return err
			}
			err = c.print(cmd, decision, func() error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), describe(decision))
				return err
			})
			if err == nil && !decision.GetPassed() {
				return errDenied
			}
			return err
		}),
	}
	c.addFlags(cmd)
	cmd.Flags().StringArrayVar(&on, "on", nil, "the resource `URI`, such as /project/456/documents/789; may be repeated")
	fresh.addFlags(cmd)
	return cmd
}

// describe says a decision in one line, and if it is no, what is missing on each
// resource in a line more.
func describe(decision *permissionsv1.CheckPermissionResponse) string {
	if decision.GetPassed() {
		return "allowed\n"
	}
	var text strings.Builder
	text.WriteString("denied\n")
	for _, m := range decision.GetMissingPermissions() {
		fmt.Fprintf(&text, "missing on %s: %s\n", printable(m.GetResourceUri()),
			printable(strings.Join(m.GetMissingPermissions(), ", ")))
	}
	return text.String()
}
