package main

import (
	"fmt"

	"github.com/spf13/cobra"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func newPrincipalsCommand(c *connection) *cobra.Command {
	var (
		fresh  freshness
		part   paging
		search string
	)
	cmd := &cobra.Command{
		Use:   "principals",
		Short: "List who was granted anything",
		Long: `Lists the principals that hold at least one grant in the project, in the order of
their ids. If there are more than --limit, it ends with a cursor to go on from.`,
		Example: `  remit principals
  remit principals --search service:
  remit principals --limit 1000 -o json`,
		Args: exactly(),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, _ []string) error {
			consistency, token, err := fresh.fields()
			if err != nil {
				return err
			}
			all := &permissionsv1.ListPrincipalsResponse{}
			all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.ListPrincipals(cmd.Context(), &permissionsv1.ListPrincipalsRequest{
					ProjectName: c.project,
					Pagination:  page,
					Search:      given(search),
					Consistency: consistency,
					Token:       token,
				})
				all.Principals = append(all.Principals, answer.GetPrincipals()...)
				all.Token = answer.GetToken()
				return len(answer.GetPrincipals()), answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			return c.print(cmd, all, func() error {
				l := list{
					header:  []string{"PRINCIPAL"},
					nothing: "Nobody holds anything yet. Grant something: " + c.inProject("remit grant usr_123 --role document_editor --on /project/456"),
				}
				if search != "" {
					l.nothing = fmt.Sprintf("No principal's id contains %q.", search)
				}
				for _, principal := range all.GetPrincipals() {
					l.rows = append(l.rows, []string{principal})
				}
				return part.print(cmd, l, all.GetPagination())
			})
		}),
	}
	c.addFlags(cmd)
	part.addFlags(cmd)
	fresh.addFlags(cmd)
	addSearchFlag(cmd, &search)
	return cmd
}
