package main

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

func newOrganisationCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "organisation",
		Aliases: []string{"organization"},
		Short:   "Create, show, rename and delete organisations",
		Long: `An organisation has its own projects and keys, which nobody else sees. Operators,
the keys that run the cluster, create, list and delete organisations; the root
key is the first of them. Every other command is about the key's own organisation.`,
		Example: `  remit organisation create acme
  remit organisation get`,
	}
	c.addNodeFlags(cmd)
	return family(cmd,
		newOrganisationCreateCommand(c),
		newOrganisationListCommand(c),
		newOrganisationGetCommand(c),
		newOrganisationRenameCommand(c),
		newOrganisationDeleteCommand(c))
}

func printOrganisation(cmd *cobra.Command, o *organisationv1.Organisation) error {
	return writeFields(cmd.OutOrStdout(),
		field{"Name", []string{o.GetName()}},
		field{"Created", []string{instant(o.GetCreatedAt())}},
		field{"Updated", []string{instant(o.GetUpdatedAt())}},
		field{"ID", []string{o.GetId()}})
}

func newOrganisationCreateCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "create NAME",
		Short: "Create an organisation and its first key",
		Long: `Creates an organisation with a project called default, besides the built-in one
called remit, and its first key, an owner. The key's secret goes to stdout alone,
this once: nobody can read it again. Only operators may.`,
		Example: `  remit organisation create acme
  ACME_KEY=$(remit organisation create acme)
  remit organisation create "Acme Ltd" -o json`,
		Args: exactly("NAME"),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			created, err := client.CreateOrganisation(cmd.Context(), &organisationv1.CreateOrganisationRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd, created, func() error {
				o, key := created.GetOrganisation(), created.GetApiKey()
				return handOver(cmd, key, fmt.Sprintf("created organisation %s (%s) and its first owner key, %s (%s)",
					o.GetName(), o.GetId(), key.GetName(), key.GetId()),
					"remit organisation delete "+o.GetId(),
					"To work in it: export REMIT_KEY=<this secret> REMIT_PROJECT=default # its first project")
			})
		}),
	}
}

func newOrganisationListCommand(c *connection) *cobra.Command {
	var (
		fresh  freshness
		part   paging
		search string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the organisations of the cluster",
		Long: `Lists the cluster's organisations. If there are more than --limit, it ends with a
cursor to go on from. Only operators may.`,
		Example: `  remit organisation list
  remit organisation list --search acme
  remit organisation list --limit 1000 -o json`,
		Args: exactly(),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, _ []string) error {
			consistency, token, err := fresh.organisationFields()
			if err != nil {
				return err
			}
			all := &organisationv1.ListOrganisationsResponse{}
			all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.ListOrganisations(cmd.Context(), &organisationv1.ListOrganisationsRequest{
					Pagination:  page,
					Search:      given(search),
					Consistency: consistency,
					Token:       token,
				})
				all.Organisations = append(all.Organisations, answer.GetOrganisations()...)
				all.Token = answer.GetToken()
				return len(answer.GetOrganisations()), answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			return c.print(cmd, all, func() error {
				l := list{
					header:  []string{"NAME", "CREATED", "ID"},
					nothing: "No organisations yet. Create one: remit organisation create acme",
				}
				if search != "" {
					l.nothing = fmt.Sprintf("No organisation's name contains %q.", search)
				}
				for _, o := range all.GetOrganisations() {
					l.rows = append(l.rows, []string{o.GetName(), instant(o.GetCreatedAt()), o.GetId()})
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

func newOrganisationGetCommand(c *connection) *cobra.Command {
	var fresh freshness
	cmd := &cobra.Command{
		Use:        "get",
		SuggestFor: []string{"show"},
		Short:      "Show the key's organisation",
		Long:       "Shows the organisation that the key belongs to. A key sees no other.",
		Example: `  remit organisation get
  remit organisation get -o json --consistent`,
		Args: exactly(),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, _ []string) error {
			consistency, token, err := fresh.organisationFields()
			if err != nil {
				return err
			}
			got, err := client.GetOrganisation(cmd.Context(), &organisationv1.GetOrganisationRequest{Consistency: consistency, Token: token})
			if err != nil {
				return err
			}
			return c.print(cmd, got, func() error { return printOrganisation(cmd, got.GetOrganisation()) })
		}),
	}
	fresh.addFlags(cmd)
	return cmd
}

func newOrganisationRenameCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "rename NAME",
		Short: "Rename the key's organisation",
		Long:  "Gives the organisation that the key belongs to another name. Its id stays, and with it every grant.",
		Example: `  remit organisation rename acme
  remit organisation rename "Acme Ltd"`,
		Args: exactly("NAME"),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			updated, err := client.UpdateOrganisation(cmd.Context(), &organisationv1.UpdateOrganisationRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd, updated, func() error { return printOrganisation(cmd, updated.GetOrganisation()) })
		}),
	}
}

func newOrganisationDeleteCommand(c *connection) *cobra.Command {
	var confirm confirmation
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete an organisation with all that is in it",
		Long: `Deletes an organisation, by its id, with its projects, roles and grants. Its keys
end at once. It cannot be brought back, so it asks first, or needs --yes where
nobody can be asked. Only operators may.`,
		Example: `  remit organisation delete 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11
  remit organisation delete 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11 --yes`,
		Args: exactly("ID"),
		RunE: c.runOrganisation(func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			o, err := findOrganisation(cmd, client, args[0])
			if err != nil {
				return err
			}
			name := fmt.Sprintf("organisation %s (%s, created %s)", o.GetName(), o.GetId(), instant(o.GetCreatedAt()))
			if err := confirm.ask(cmd, name+" with all its projects, keys, roles and grants"); err != nil {
				return err
			}
			deleted, err := client.DeleteOrganisation(cmd.Context(), &organisationv1.DeleteOrganisationRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd, deleted, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", printable(name))
				return err
			})
		}),
	}
	confirm.addFlag(cmd)
	return cmd
}

// findOrganisation looks an organisation up in the list of all: only there do
// operators see another than their own.
func findOrganisation(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, id string) (*organisationv1.Organisation, error) {
	var found *organisationv1.Organisation
	all := paging{limit: math.MaxInt}
	_, err := all.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
		answer, err := client.ListOrganisations(cmd.Context(), &organisationv1.ListOrganisationsRequest{
			Pagination:  page,
			Consistency: organisationv1.Consistency_FULLY_CONSISTENT,
		})
		for _, o := range answer.GetOrganisations() {
			if o.GetId() == id {
				found = o
				return 0, nil, err // no further page is needed
			}
		}
		return len(answer.GetOrganisations()), answer.GetPagination(), err
	})
	if err == nil && found == nil {
		err = &failure{
			message: fmt.Sprintf("no organisation has the id %q: nothing changed", id),
			hint:    "remit organisation list shows what there is",
		}
	}
	return found, err
}
