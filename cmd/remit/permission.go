package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func newPermissionCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "permission",
		Short: "Create, show, change and delete permissions",
		Long: `A permission names one action that can be allowed, such as document.read. Roles
are made of permissions, and grants give either to someone.`,
		Example: `  remit permission create document.read --description "Read documents"
  remit permission list --search document`,
	}
	c.addFlags(cmd)
	return family(cmd,
		newPermissionCreateCommand(c),
		newPermissionGetCommand(c),
		newPermissionUpdateCommand(c),
		newPermissionDeleteCommand(c),
		newPermissionListCommand(c))
}

// permissionAnswer is what the answers that hold one permission share.
type permissionAnswer interface {
	proto.Message
	GetId() string
	GetName() string
	GetDescription() string
	GetProjectName() string
}

func (c *connection) printPermission(cmd *cobra.Command, p permissionAnswer) error {
	return c.print(cmd, p, func() error {
		return writeFields(cmd.OutOrStdout(),
			field{"Name", []string{p.GetName()}},
			field{"Description", []string{p.GetDescription()}},
			field{"Project", []string{p.GetProjectName()}},
			field{"ID", []string{p.GetId()}})
	})
}

func newPermissionCreateCommand(c *connection) *cobra.Command {
	var (
		description string
		replace     bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a permission",
		Long: `Creates a permission. If the project has one of this name already, that is an
error; with --replace its description is replaced.

A name is a letter or digit and then up to 255 letters, digits and characters
of . _ : - (document.read).`,
		Example: `  remit permission create document.read --description "Read documents"
  remit permission create invoice.pay -o json`,
		Args: exactly("NAME"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			if !replace {
				_, err := client.GetPermission(cmd.Context(), &permissionsv1.GetPermissionRequest{
					ProjectName: c.project,
					Name:        args[0],
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if found, err := exists(err); err != nil {
					return adviseLook(err, "create looks first whether there is one, which needs permission.get; --replace does not, and replaces what is there")
				} else if found {
					return &failure{
						message: fmt.Sprintf("permission %q exists already", args[0]),
						hint:    c.inProject("remit permission update "+shellWord(printable(args[0]))+" --description TEXT") + " changes it; --replace replaces it",
					}
				}
			}
			created, err := client.CreatePermission(cmd.Context(), &permissionsv1.CreatePermissionRequest{
				ProjectName: c.project,
				Name:        args[0],
				Description: description,
			})
			if err != nil {
				return err
			}
			return c.printPermission(cmd, created)
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "`text` that says what it allows, for people")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace the permission's description if there is one of this name")
	return cmd
}

func newPermissionGetCommand(c *connection) *cobra.Command {
	var fresh freshness
	cmd := &cobra.Command{
		Use:        "get NAME",
		SuggestFor: []string{"show"},
		Short:      "Show a permission",
		Long:       "Shows one permission with its description and its id.",
		Example: `  remit permission get document.read
  remit permission get document.read -o json --consistent`,
		Args: exactly("NAME"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			consistency, token, err := fresh.fields()
			if err != nil {
				return err
			}
			got, err := client.GetPermission(cmd.Context(), &permissionsv1.GetPermissionRequest{
				ProjectName: c.project,
				Name:        args[0],
				Consistency: consistency,
				Token:       token,
			})
			if err != nil {
				return err
			}
			return c.printPermission(cmd, got)
		}),
	}
	fresh.addFlags(cmd)
	return cmd
}

func newPermissionUpdateCommand(c *connection) *cobra.Command {
	var rename, description string
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Rename a permission or change its description",
		Long: `Changes what is given and leaves the rest as it is. A renamed permission keeps
its id, so roles and grants follow it.`,
		Example: `  remit permission update document.read --rename doc.read
  remit permission update doc.read --description "Read documents of any kind"
  remit permission update doc.read --description ""`,
		Args: exactly("NAME"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			described := cmd.Flags().Changed("description")
			if !described && rename == "" {
				return usagef("nothing to change: give --rename or --description")
			}
			if !described {
				// The call replaces the description, so it has to be sent again.
				present, err := client.GetPermission(cmd.Context(), &permissionsv1.GetPermissionRequest{
					ProjectName: c.project,
					Name:        args[0],
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if err != nil {
					return adviseLook(err, "the description is read first, to keep it, which needs permission.get; with --description it is not")
				}
				description = present.GetDescription()
			}
			updated, err := client.UpdatePermission(cmd.Context(), &permissionsv1.UpdatePermissionRequest{
				ProjectName: c.project,
				Name:        args[0],
				NewName:     rename,
				Description: description,
			})
			if err != nil {
				return err
			}
			return c.printPermission(cmd, updated)
		}),
	}
	cmd.Flags().StringVar(&rename, "rename", "", "the `name` it shall have")
	cmd.Flags().StringVar(&description, "description", "", "the `text` it shall have, for people")
	return cmd
}

func newPermissionDeleteCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a permission, everywhere",
		Long: `Deletes a permission and takes it out of every role and every grant at once.
Deleting one that does not exist is no error. One that is created later by the
same name is a new permission that nobody holds.`,
		Example: `  remit permission delete document.read
  remit permission delete document.read -o json`,
		Args: exactly("NAME"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			// JSON is the answer alone.
			var before sight
			if c.output != asJSON {
				_, err := client.GetPermission(cmd.Context(), &permissionsv1.GetPermissionRequest{
					ProjectName: c.project,
					Name:        args[0],
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if before, err = seen(err); err != nil {
					return err
				}
			}
			deleted, err := client.DeletePermission(cmd.Context(), &permissionsv1.DeletePermissionRequest{
				ProjectName: c.project,
				Name:        args[0],
			})
			if err != nil {
				return err
			}
			return c.print(cmd, deleted, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), before.afterDeletion("permission", args[0]))
				return err
			})
		}),
	}
}

func newPermissionListCommand(c *connection) *cobra.Command {
	var (
		fresh  freshness
		part   paging
		search string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the permissions of a project",
		Long: `Lists a project's permissions in the order of their names. If there are more than
--limit, it ends with a cursor to go on from.`,
		Example: `  remit permission list
  remit permission list --search document
  remit permission list --limit 1000 -o json`,
		Args: exactly(),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, _ []string) error {
			consistency, token, err := fresh.fields()
			if err != nil {
				return err
			}
			all := &permissionsv1.ListPermissionsResponse{}
			all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.ListPermissions(cmd.Context(), &permissionsv1.ListPermissionsRequest{
					ProjectName: c.project,
					Pagination:  page,
					Search:      given(search),
					Consistency: consistency,
					Token:       token,
				})
				all.Permissions = append(all.Permissions, answer.GetPermissions()...)
				all.Token = answer.GetToken()
				return len(answer.GetPermissions()), answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			return c.print(cmd, all, func() error {
				l := list{
					header:  []string{"NAME", "DESCRIPTION"},
					nothing: "No permissions yet. Create one: " + c.inProject("remit permission create document.read"),
				}
				if search != "" {
					l.nothing = fmt.Sprintf("No permission's name contains %q.", search)
				}
				for _, p := range all.GetPermissions() {
					l.rows = append(l.rows, []string{p.GetName(), p.GetDescription()})
				}
				return part.print(cmd, l, all.GetPagination())
			})
		}),
	}
	part.addFlags(cmd)
	fresh.addFlags(cmd)
	addSearchFlag(cmd, &search)
	return cmd
}
