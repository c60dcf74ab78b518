package main

import (
	"io"
	"strconv"

	"github.com/spf13/cobra"
)

// newRootCommand returns the whole command line, with nothing shared between two
// calls.
func newRootCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "remit",
		Short: "Who may do what, on which resources",
		Long: `remit keeps who may do what, on which resources, and answers whether someone may.

A permission names one action (document.read), a role is a set of permissions,
and a grant gives either to a principal on a resource URI and everything below
it. The flags that say which node, key and project, and those of serve, can also
be set by environment variables: --addr by REMIT_ADDR.`,
		Example: `  remit permission create document.read --description "Read documents"
  remit role create document_editor --permission document.read --permission document.write
  remit grant usr_123 --role document_editor --on /project/456/documents
  remit check usr_123 document.read --on /project/456/documents/789`,
		Version:       readBuild().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return bindEnv(cmd)
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)

	c, patient := &connection{}, &connection{patient: true}
	groups := []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Run a node:", []*cobra.Command{newServeCommand(), newCertCommand()}},
		{"Say what can be allowed:", []*cobra.Command{newPermissionCommand(c), newRoleCommand(c)}},
		{"Say who is allowed it, and where:", []*cobra.Command{newGrantCommand(c), newRevokeCommand(c)}},
		{"Ask:", []*cobra.Command{newCheckCommand(c), newAssignmentsCommand(c), newPrincipalsCommand(c), newWhoAmICommand(c)}},
		{"Say whose it is, and who may call:", []*cobra.Command{newOrganisationCommand(c), newProjectCommand(c), newKeyCommand(c)}},
		{"Run the cluster:", []*cobra.Command{
			newMembersCommand(c), newStatusCommand(c), newJoinCommand(patient), newLeaveCommand(patient), newTransferCommand(patient),
			newPromoteCommand(patient), newDemoteCommand(patient), newSnapshotCommand(patient), newVerifyCommand(patient), newRecoverCommand(),
		}},
		{"", []*cobra.Command{newVersionCommand()}},
	}
	family(root)
	for i, group := range groups {
		id := ""
		if group.title != "" {
			id = strconv.Itoa(i)
			root.AddGroup(&cobra.Group{ID: id, Title: group.title})
		}
		for _, cmd := range group.commands {
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	addStandardCommands(root)
	takeOnce(root)
	return root
}

// addStandardCommands adds cobra's help and completion, and makes them refuse what
// they do not know.
func addStandardCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			family(cmd)
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, unknown, err := root.Find(args)
				if err == nil && len(unknown) > 0 && found.HasSubCommands() {
					return found.Args(found, unknown)
				}
				return err
			}
		}
	}
}
