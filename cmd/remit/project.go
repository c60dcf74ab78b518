package main

import (
	"fmt"

	"github.com/spf13/cobra"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

func newProjectCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Create, show, list and delete projects",
		Long: `A project has permissions, roles and grants of its own. The built-in project remit
holds who may do what with the organisation itself. The commands about a project
take its name by --project.`,
		Example: `  remit project create staging
  remit project list`,
	}
	c.addNodeFlags(cmd)
	return family(cmd,
		newProjectCreateCommand(c),
		newProjectGetCommand(c),
		newProjectListCommand(c),
		newProjectDeleteCommand(c))
}

func printProject(cmd *cobra.Command, p *organisationv1.Project) error {
	return writeFields(cmd.OutOrStdout(),
		field{"Name", []string{p.GetName()}},
		field{"Created", []string{instant(p.GetCreatedAt())}},
		field{"Organisation", []string{p.GetOrganisationId()}})
}

func newProjectCreateCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "create NAME",
		Short: "Create a project",
		Long: `Creates a project in the key's organisation, with nothing in it.

A name is a lower-case letter or digit and then up to 62 of these and of -.`,
		Example: `  remit project create staging
  remit project create staging -o json`,
		Args: exactly("NAME"),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			created, err := client.CreateProject(cmd.Context(), &organisationv1.CreateProjectRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd, created, func() error {
				return printProject(cmd, created.GetProject())
			})
		}),
	}
}

func newProjectGetCommand(c *connection) *cobra.Command {
	var fresh freshness
	cmd := &cobra.Command{
		Use:        "get NAME",
		SuggestFor: []string{"show"},
		Short:      "Show a project",
		Long:       "Shows one project with its organisation's id and when it was created.",
		Example: `  remit project get staging
  remit project get staging -o json --consistent`,
		Args: exactly("NAME"),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			consistency, token, err := fresh.organisationFields()
			if err != nil {
				return err
			}
			got, err := client.GetProject(cmd.Context(), &organisationv1.GetProjectRequest{
				ProjectName: args[0],
				Consistency: consistency,
				Token:       token,
			})
			if err != nil {
				return err
			}
			return c.print(cmd, got, func() error { return printProject(cmd, got.GetProject()) })
		}),
	}
	fresh.addFlags(cmd)
	return cmd
}

func newProjectListCommand(c *connection) *cobra.Command {
	var (
		fresh  freshness
		part   paging
		search string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the projects of the key's organisation",
		Long: `Lists the projects of the key's organisation in the order of their names. If there
are more than --limit, it ends with a cursor to go on from.`,
		Example: `  remit project list
  remit project list --search staging
  remit project list --limit 1000 -o json`,
		Args: exactly(),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, _ []string) error {
			consistency, token, err := fresh.organisationFields()
			if err != nil {
				return err
			}
			all := &organisationv1.GetProjectsForOrganisationResponse{}
			all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.GetProjectsForOrganisation(cmd.Context(), &organisationv1.GetProjectsForOrganisationRequest{
					Pagination:  page,
					Search:      given(search),
					Consistency: consistency,
					Token:       token,
				})
				all.Projects = append(all.Projects, answer.GetProjects()...)
				all.Token = answer.GetToken()
				return len(answer.GetProjects()), answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			return c.print(cmd, all, func() error {
				l := list{
					header:  []string{"NAME", "CREATED"},
					nothing: "No projects. Create one: remit project create staging",
				}
				if search != "" {
					l.nothing = fmt.Sprintf("No project's name contains %q.", search)
				}
				for _, p := range all.GetProjects() {
					l.rows = append(l.rows, []string{p.GetName(), instant(p.GetCreatedAt())})
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

func newProjectDeleteCommand(c *connection) *cobra.Command {
	var confirm confirmation
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a project with all that is in it",
		Long: `Deletes a project with its permissions, roles and grants. Its keys end at once.
One that is created later by the same name is a new project. It cannot be brought
back, so it asks first, or needs --yes where nobody can be asked.`,
		Example: `  remit project delete staging
  remit project delete staging --yes`,
		Args: exactly("NAME"),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			if !confirm.yes {
				// Nobody is asked about what is not there.
				_, err := client.GetProject(cmd.Context(), &organisationv1.GetProjectRequest{
					ProjectName: args[0],
					Consistency: organisationv1.Consistency_FULLY_CONSISTENT,
				})
				if err != nil && !isDenied(err) {
					return err
				}
			}
			if err := confirm.ask(cmd, fmt.Sprintf("project %s with all its permissions, roles, grants and keys", args[0])); err != nil {
				return err
			}
			deleted, err := client.DeleteProject(cmd.Context(), &organisationv1.DeleteProjectRequest{ProjectName: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd, deleted, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "deleted project %s\n", printable(args[0]))
				return err
			})
		}),
	}
	confirm.addFlag(cmd)
	return cmd
}
