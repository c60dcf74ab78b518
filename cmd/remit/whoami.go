package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

// builtInProject is the project that holds who may do what with an organisation.
const builtInProject = "remit"

func newWhoAmICommand(c *connection) *cobra.Command {
	var (
		fresh freshness
		part  paging
	)
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Show the key and what it may do",
		Long: `Shows the key that calls: its project, its organisation, and what it was granted
in the built-in project remit, which is what it may do with the organisation. Any
valid key may ask.`,
		Example: `  remit whoami
  remit whoami -o json
  remit whoami --key "$CI_KEY"`,
		Args: exactly(),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, _ []string) error {
			consistency, token, err := fresh.organisationFields()
			if err != nil {
				return err
			}
			var me *organisationv1.WhoAmIResponse
			pagination, err := part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.WhoAmI(cmd.Context(), &organisationv1.WhoAmIRequest{
					Pagination:  page,
					Consistency: consistency,
					Token:       token,
				})
				rows := len(answer.GetAssignments())
				if me != nil && answer != nil {
					answer.Assignments = append(me.Assignments, answer.Assignments...)
				}
				me = answer
				return rows, answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			me.Pagination = pagination
			return c.print(cmd, me, func() error { return printCaller(cmd, me, &part) })
		}),
	}
	c.addNodeFlags(cmd)
	part.addFlags(cmd)
	fresh.addFlags(cmd)
	return cmd
}

// printCaller prints who calls, and then what it was granted.
func printCaller(cmd *cobra.Command, me *organisationv1.WhoAmIResponse, part *paging) error {
	project := me.GetProjectName()
	reach := ", so it acts on that project alone"
	if project == builtInProject {
		reach = ", so it acts on every project of the organisation"
	}
	err := writeFields(cmd.OutOrStdout(),
		field{"Key", []string{me.GetApiKey().GetName()}},
		field{"Principal", []string{me.GetPrincipal()}},
		field{"Project", []string{project + reach}},
		field{"Organisation", []string{fmt.Sprintf("%s (%s)", me.GetOrganisation().GetName(), me.GetOrganisation().GetId())}},
		field{"Operator", []string{yesNo(me.GetOperator())}})
	if err != nil {
		return err
	}
	l := list{
		header:  []string{"RESOURCE", "ROLES", "PERMISSIONS"},
		nothing: "It was granted nothing in the project remit: it may only check.",
	}
	if me.GetOperator() {
		l.nothing = "It was granted nothing in the project remit."
	}
	for _, a := range me.GetAssignments() {
		l.rows = append(l.rows, []string{a.GetResourceUri(), strings.Join(a.GetRoles(), ", "), strings.Join(a.GetPermissions(), ", ")})
	}
	if len(l.rows) > 0 {
		fmt.Fprintln(cmd.OutOrStdout())
		if project != builtInProject {
			fmt.Fprintln(cmd.OutOrStdout(), printable(fmt.Sprintf("Granted to it, which holds in the project %s only:", project)))
		}
	}
	return part.print(cmd, l, me.GetPagination())
}
