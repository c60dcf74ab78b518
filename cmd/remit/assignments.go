package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func newAssignmentsCommand(c *connection) *cobra.Command {
	var (
		fresh     freshness
		part      paging
		on        resource
		inherited bool
	)
	cmd := &cobra.Command{
		Use:   "assignments PRINCIPAL",
		Short: "List what someone was granted, and where",
		Long: `Lists the roles and permissions a principal was granted, in the order of the
resource URIs. With --on it shows one resource: what was granted on exactly this
URI and, with --inherited, on the URIs above it.

An empty --project asks for all projects that the key may see.`,
		Example: `  remit assignments usr_123
  remit assignments usr_123 --on /project/456/documents
  remit assignments usr_123 --on /project/456/documents/789 --inherited`,
		Args: exactly("PRINCIPAL"),
		RunE: c.runAnyProject(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			switch {
			case on != "" && part.cursor != "":
				return usagef("--cursor goes on after a list of all assignments; it does not go with --on")
			case on != "" && c.project == "":
				return usagef("--project is empty: which project? Only without --on it can be all")
			case on != "":
				return c.assignmentsOn(cmd, client, args[0], string(on), inherited, fresh)
			case inherited:
				return usagef("--inherited needs --on: what is inherited on which resource?")
			}
			return c.allAssignments(cmd, client, args[0], part, fresh)
		}),
	}
	c.addFlags(cmd)
	cmd.Flags().Var(&on, "on", "only what was granted on exactly this resource")
	cmd.Flags().BoolVar(&inherited, "inherited", false, "with --on: show what was granted on the URIs above, too")
	part.addFlags(cmd)
	fresh.addFlags(cmd)
	return cmd
}

func (c *connection) allAssignments(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, principal string, part paging, fresh freshness) error {
	consistency, token, err := fresh.fields()
	if err != nil {
		return err
	}
	all := &permissionsv1.GetAllAssignmentsForPrincipalResponse{}
	all.Pagination, err = part.each(func(page *paginationv1.PaginationRequest) (int, *paginationv1.PaginationResponse, error) {
		answer, err := client.GetAllAssignmentsForPrincipal(cmd.Context(), &permissionsv1.GetAllAssignmentsForPrincipalRequest{
			ProjectName: c.project,
			PrincipalId: principal,
			Pagination:  page,
			Consistency: consistency,
			Token:       token,
		})
		all.Assignments = append(all.Assignments, answer.GetAssignments()...)
		all.Token = answer.GetToken()
		return len(answer.GetAssignments()), answer.GetPagination(), err
	})
	if err != nil {
		return err
	}
	return c.print(cmd, all, func() error {
		l := list{
			header:  []string{"RESOURCE", "ROLES", "PERMISSIONS"},
			nothing: fmt.Sprintf("%s was granted nothing.", printable(principal)),
		}
		if c.project == "" {
			l.header = append([]string{"PROJECT"}, l.header...)
		}
		for _, a := range all.GetAssignments() {
			row := []string{a.GetResourceUri(), strings.Join(names(a.GetRoles()), ", "), strings.Join(names(a.GetPermissions()), ", ")}
			if c.project == "" {
				row = append([]string{a.GetProjectName()}, row...)
			}
			l.rows = append(l.rows, row)
		}
		return part.print(cmd, l, all.GetPagination())
	})
}

func (c *connection) assignmentsOn(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, principal, uri string, inherited bool, fresh freshness) error {
	consistency, token, err := fresh.fields()
	if err != nil {
		return err
	}
	held, err := client.GetUserPermissionsAndRolesOnResource(cmd.Context(), &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
		ProjectName:      c.project,
		UserId:           principal,
		ResourceUri:      uri,
		IncludeInherited: inherited,
		Consistency:      consistency,
		Token:            token,
	})
	if err != nil {
		return err
	}
	return c.print(cmd, held, func() error {
		roles, err := c.roleNames(cmd, client, held.GetRoles(), held.GetToken())
		if err != nil {
			return err
		}
		rows := bySource(held, roles)
		if len(rows) == 0 {
			where := "on exactly " + uri
			if inherited {
				where = "on " + uri + " or above"
			}
			fmt.Fprintln(cmd.ErrOrStderr(), printable(fmt.Sprintf("%s was granted nothing %s.", principal, where)))
			return nil
		}
		return writeTable(cmd.OutOrStdout(), []string{"RESOURCE", "ROLES", "PERMISSIONS"}, rows)
	})
}

// roleNames asks for the names of roles. A role that is gone by now, or that the
// key may not see, is named by its id.
func (c *connection) roleNames(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, ids []string, token string) ([]string, error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		request := &permissionsv1.GetRoleRequest{ProjectName: c.project, Id: id}
		if token != "" {
			request.Consistency, request.Token = permissionsv1.Consistency_AT_LEAST_AS_FRESH, token
		}
		role, err := client.GetRole(cmd.Context(), request)
		switch status.Code(err) {
		case codes.OK:
			names[i] = role.GetName()
		case codes.NotFound, codes.PermissionDenied:
			names[i] = id
		default:
			return nil, err
		}
	}
	return names, nil
}

// bySource makes a row for each URI that something was granted on: first the one
// that was asked for, then those above, as they were answered.
func bySource(held *permissionsv1.GetUserPermissionsAndRolesOnResourceResponse, ownRoles []string) [][]string {
	type source struct{ roles, permissions []string }
	sources := map[string]*source{}
	var order []string
	at := func(uri string) *source {
		if sources[uri] == nil {
			sources[uri] = &source{}
			order = append(order, uri)
		}
		return sources[uri]
	}
	if len(ownRoles)+len(held.GetPermissions()) > 0 {
		own := at(held.GetResourceUri())
		own.roles, own.permissions = ownRoles, held.GetPermissions()
	}
	for _, r := range held.GetInheritedRoles() {
		from := at(r.GetInheritedFrom())
		from.roles = append(from.roles, r.GetRole().GetName())
	}
	for _, p := range held.GetInheritedPermissions() {
		from := at(p.GetInheritedFrom())
		from.permissions = append(from.permissions, p.GetPermission().GetName())
	}
	var rows [][]string
	for _, uri := range order {
		rows = append(rows, []string{uri, strings.Join(sources[uri].roles, ", "), strings.Join(sources[uri].permissions, ", ")})
	}
	return rows
}
