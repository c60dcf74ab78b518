package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func newRoleCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "role",
		Short: "Create, show, change and delete roles",
		Long: `A role is a set of permissions that is granted as one. Whoever holds the role
holds what is in it now: a changed role changes every grant of it.

A role is named by its name or by its id.`,
		Example: `  remit role create document_editor --permission document.read --permission document.write
  remit role update document_editor --add-permission document.share
  remit role list`,
	}
	c.addFlags(cmd)
	return family(cmd,
		newRoleCreateCommand(c),
		newRoleGetCommand(c),
		newRoleUpdateCommand(c),
		newRoleDeleteCommand(c),
		newRoleListCommand(c))
}

// roleAnswer is what the answers that hold one role share.
type roleAnswer interface {
	proto.Message
	GetId() string
	GetName() string
	GetDescription() string
	GetPermissions() []*permissionsv1.Permission
	GetProjectName() string
}

func (c *connection) printRole(cmd *cobra.Command, r roleAnswer) error {
	return c.print(cmd, r, func() error {
		return writeFields(cmd.OutOrStdout(),
			field{"Name", []string{r.GetName()}},
			field{"Description", []string{r.GetDescription()}},
			field{"Permissions", names(r.GetPermissions())},
			field{"Project", []string{r.GetProjectName()}},
			field{"ID", []string{r.GetId()}})
	})
}

// names returns the names of permissions or roles.
func names[T interface{ GetName() string }](things []T) []string {
	var names []string
	for _, thing := range things {
		names = append(names, thing.GetName())
	}
	return names
}

func newRoleCreateCommand(c *connection) *cobra.Command {
	var (
		description string
		permissions permissionNames
		replace     bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a role",
		Long: `Creates a role of permissions that exist. If the project has a role of this name
already, that is an error; with --replace its description and its permissions
are replaced, and it stays granted where it is.`,
		Example: `  remit role create document_editor --permission document.read --permission document.write
  remit role create auditor --description "Reads everything" --permission document.read -o json`,
		Args: exactly("NAME"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			if !replace {
				present, err := client.GetRole(cmd.Context(), &permissionsv1.GetRoleRequest{
					ProjectName: c.project,
					Id:          args[0],
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if found, err := exists(err); err != nil {
					return adviseLook(err, "create looks first whether there is one, which needs role.get; --replace does not, and replaces what is there")
				} else if found && present.GetName() == args[0] {
					return &failure{
						message: fmt.Sprintf("role %q exists already", args[0]),
						hint:    c.inProject("remit role update "+shellWord(printable(args[0]))+" --add-permission X") + " adds to it; --replace replaces it",
					}
				}
			}
			created, err := client.CreateRole(cmd.Context(), &permissionsv1.CreateRoleRequest{
				ProjectName: c.project,
				Name:        args[0],
				Description: description,
				Permissions: permissions,
			})
			if err != nil {
				return err
			}
			return c.printRole(cmd, created)
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "`text` that says what it is for, for people")
	cmd.Flags().Var(&permissions, "permission", "`permission` in the role; may be repeated")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace the role if there is one of this name")
	return cmd
}

func newRoleGetCommand(c *connection) *cobra.Command {
	var fresh freshness
	cmd := &cobra.Command{
		Use:        "get ROLE",
		SuggestFor: []string{"show"},
		Short:      "Show a role and its permissions",
		Long:       "Shows one role, by its name or id, with all of its permissions.",
		Example: `  remit role get document_editor
  remit role get 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11 -o json`,
		Args: exactly("ROLE"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			consistency, token, err := fresh.fields()
			if err != nil {
				return err
			}
			got, err := client.GetRole(cmd.Context(), &permissionsv1.GetRoleRequest{
				ProjectName: c.project,
				Id:          args[0],
				Consistency: consistency,
				Token:       token,
			})
			if err != nil {
				return err
			}
			return c.printRole(cmd, got)
		}),
	}
	fresh.addFlags(cmd)
	return cmd
}

func newRoleDeleteCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "delete ROLE",
		Short: "Delete a role, everywhere",
		Long: `Deletes a role, by its name or id, and takes it out of every grant at once.
Deleting one that does not exist is no error. One that is created later by the
same name is a new role that nobody holds.`,
		Example: `  remit role delete document_editor
  remit role delete 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11`,
		Args: exactly("ROLE"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			// JSON is the answer alone.
			var before sight
			if c.output != asJSON {
				_, err := client.GetRole(cmd.Context(), &permissionsv1.GetRoleRequest{
					ProjectName: c.project,
					Id:          args[0],
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if before, err = seen(err); err != nil {
					return err
				}
			}
			deleted, err := client.DeleteRole(cmd.Context(), &permissionsv1.DeleteRoleRequest{
				ProjectName: c.project,
				Id:          args[0],
			})
			if err != nil {
				return err
			}
			return c.print(cmd, deleted, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), before.afterDeletion("role", args[0]))
				return err
			})
		}),
	}
}
