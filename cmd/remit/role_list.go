package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// shownPermissions is how many of a role's permissions a list of roles shows.
const shownPermissions = 5

func newRoleListCommand(c *connection) *cobra.Command {
	var (
		fresh  freshness
		part   paging
		search string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the roles of a project",
		Long: `Lists a project's roles in the order of their names, with the first of their
permissions (-o json and role get show all of them). If there are more than
--limit, it ends with a cursor to go on from.`,
		Example: `  remit role list
  remit role list --search editor
  remit role list --limit 1000 -o json`,
		Args: exactly(),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, _ []string) error {
			consistency, token, err := fresh.fields()
			if err != nil {
				return err
			}
			all := &permissionsv1.ListRolesResponse{}
			all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.ListRoles(cmd.Context(), &permissionsv1.ListRolesRequest{
					ProjectName: c.project,
					Pagination:  page,
					Search:      given(search),
					Consistency: consistency,
					Token:       token,
				})
				all.Roles = append(all.Roles, answer.GetRoles()...)
				all.Token = answer.GetToken()
				return len(answer.GetRoles()), answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			return c.print(cmd, all, func() error {
				l := list{
					header:  []string{"NAME", "PERMISSIONS", "DESCRIPTION"},
					nothing: "No roles yet. Create one: " + c.inProject("remit role create document_editor --permission document.read"),
				}
				if search != "" {
					l.nothing = fmt.Sprintf("No role's name contains %q.", search)
				}
				for _, r := range all.GetRoles() {
					l.rows = append(l.rows, []string{r.GetName(), firstNames(r.GetPermissions()), r.GetDescription()})
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

// firstNames names the first permissions and says how many more there are.
func firstNames(permissions []*permissionsv1.Permission) string {
	if len(permissions) <= shownPermissions {
		return strings.Join(names(permissions), ", ")
	}
	return fmt.Sprintf("%s and %d more",
		strings.Join(names(permissions[:shownPermissions]), ", "), len(permissions)-shownPermissions)
}
