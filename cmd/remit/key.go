package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

func newKeyCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Create, list and invalidate API keys",
		Long: `A key is what a program calls with. It belongs to one project and acts there
alone; keys of the built-in project remit act on every project of their
organisation. A key may check; whatever else it may do, it was granted in the
project remit, where it is the principal key:ID.`,
		Example: `  remit key create ci --role viewer
  remit key list`,
	}
	c.addFlags(cmd)
	return family(cmd,
		newKeyCreateCommand(c),
		newKeyListCommand(c),
		newKeyInvalidateCommand(c))
}

func newKeyCreateCommand(c *connection) *cobra.Command {
	var (
		role     string
		operator bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a key and show its secret, once",
		Long: `Creates a key of the project. Its secret goes to stdout alone, this once: nobody
can read it again.

With --role the key holds a role of the built-in project remit on its organisation:
owner, editor or viewer. Nobody gives what he does not hold.`,
		Example: `  remit key create ci --role viewer
  CI_KEY=$(remit key create ci --role viewer --project staging)
  remit key create ops --operator --project remit`,
		Args: exactly("NAME"),
		RunE: c.runOrganisation(ofProject(c, func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			if cmd.Flags().Changed("role") && role == "" {
				return usagef("--role is empty: owner, editor or viewer?")
			}
			created, err := client.CreateAPIKey(cmd.Context(), &organisationv1.CreateAPIKeyRequest{
				ProjectName: c.project,
				Name:        args[0],
				Role:        role,
				Operator:    operator,
			})
			if err != nil {
				return adviseRole(err)
			}
			return c.print(cmd, created, func() error {
				key := created.GetApiKey()
				about := fmt.Sprintf("created key %s (%s) of project %s", key.GetName(), key.GetId(), key.GetProjectName())
				if role != "" {
					about += ", with the role " + role
				}
				if key.GetOperator() {
					about += ", an operator"
				}
				return handOver(cmd, key, about, fmt.Sprintf("remit key invalidate %s --project %s", key.GetId(), key.GetProjectName()))
			})
		})),
	}
	cmd.Flags().StringVar(&role, "role", "", "`role` that it holds on its organisation: owner, editor or viewer")
	cmd.Flags().BoolVar(&operator, "operator", false, "let it run the cluster; only operators may, and only with --project remit. To manage operators' keys it needs --role owner, too")
	return cmd
}

// adviseRole says which roles a key can be created with, if it was to be another.
func adviseRole(err error) error {
	var failed *failure
	if errors.As(err, &failed) && status.Code(err) == codes.NotFound && strings.HasPrefix(failed.message, "role ") {
		failed.hint = "--role is owner, editor or viewer"
	}
	return err
}

// handOver prints the secret of a new key: alone on stdout, where a script takes
// it, and on stderr what a person has to know: what was created, and behind the
// secret what to do with it. undo is the command that takes back what was created.
func handOver(cmd *cobra.Command, key *organisationv1.APIKey, about, undo string, next ...string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nThis is its secret, shown this once:\n", printable(about))
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), printable(key.GetKey())); err != nil {
		return &failure{
			message: fmt.Sprintf("the secret could not be shown and is lost: %v", err),
			hint:    fmt.Sprintf("without it the key is of no use: %s takes it back, then create it again", printable(undo)),
			cause:   err,
		}
	}
	for _, line := range next {
		fmt.Fprintln(cmd.ErrOrStderr(), line)
	}
	return nil
}

func newKeyListCommand(c *connection) *cobra.Command {
	var (
		fresh  freshness
		part   paging
		search string
	)
	cmd := &cobra.Command{
		Use:        "list",
		SuggestFor: []string{"get", "show"},
		Short:      "List the keys of a project",
		Long: `Lists a project's keys without their secrets. If there are more than --limit, it
ends with a cursor to go on from.`,
		Example: `  remit key list
  remit key list --search ci --project remit
  remit key list --limit 1000 -o json`,
		Args: exactly(),
		RunE: c.runOrganisation(ofProject(c, func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, _ []string) error {
			consistency, token, err := fresh.organisationFields()
			if err != nil {
				return err
			}
			all := &organisationv1.ListAPIKeysResponse{}
			all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
				answer, err := client.ListAPIKeys(cmd.Context(), &organisationv1.ListAPIKeysRequest{
					ProjectName: c.project,
					Pagination:  page,
					Search:      given(search),
					Consistency: consistency,
					Token:       token,
				})
				all.ApiKeys = append(all.ApiKeys, answer.GetApiKeys()...)
				all.Token = answer.GetToken()
				return len(answer.GetApiKeys()), answer.GetPagination(), err
			})
			if err != nil {
				return err
			}
			return c.print(cmd, all, func() error {
				l := list{
					header:  []string{"NAME", "STATE", "OPERATOR", "CREATED", "ID"},
					nothing: "No keys yet. Create one: " + c.inProject("remit key create ci --role viewer"),
				}
				if search != "" {
					l.nothing = fmt.Sprintf("No key's name contains %q.", search)
				}
				for _, key := range all.GetApiKeys() {
					state := "valid"
					if key.GetInvalidated() {
						state = "invalidated"
					}
					l.rows = append(l.rows, []string{key.GetName(), state, yesNo(key.GetOperator()), instant(key.GetCreatedAt()), key.GetId()})
				}
				return part.print(cmd, l, all.GetPagination())
			})
		})),
	}
	part.addFlags(cmd)
	fresh.addFlags(cmd)
	addSearchFlag(cmd, &search)
	return cmd
}

func newKeyInvalidateCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:        "invalidate ID",
		SuggestFor: []string{"delete", "remove", "revoke"},
		Short:      "End a key at once",
		Long: `Ends a key of the project, by its id: from now on nobody can call with it. It
cannot be made valid again. Doing so twice is no error. The last owner key of an
organisation and the last operator key of the cluster stay.`,
		Example: `  remit key invalidate 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11
  remit key invalidate 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11 --project staging`,
		Args: exactly("ID"),
		RunE: c.runOrganisation(ofProject(c, func(cmd *cobra.Command, client organisationv1.OrganisationServiceClient, args []string) error {
			invalidated, err := client.InvalidateAPIKey(cmd.Context(), &organisationv1.InvalidateAPIKeyRequest{
				ProjectName: c.project,
				Id:          args[0],
			})
			if err != nil {
				return err
			}
			return c.print(cmd, invalidated, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "invalidated key %s\n", printable(args[0]))
				return err
			})
		})),
	}
}
