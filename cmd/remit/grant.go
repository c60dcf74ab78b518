package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// resource is the one URI that a command is about.
type resource string

func (r *resource) String() string { return string(*r) }

func (r *resource) Type() string { return "URI" }

func (r *resource) Set(uri string) error {
	if uri == "" {
		return errors.New("is empty: on which resource?")
	}
	*r = resource(uri)
	return nil
}

// permissionNames are the names given by repeating a flag. No name holds a comma,
// so whoever writes one means two names.
type permissionNames []string

func (p *permissionNames) String() string { return strings.Join(*p, ", ") }

func (p *permissionNames) Type() string { return "stringArray" }

func (p *permissionNames) Set(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case strings.Contains(name, ","):
		return errors.New("holds a comma: repeat the flag for each permission")
	}
	*p = append(*p, name)
	return nil
}

// rights is what is granted or revoked, and where, as the flags say.
type rights struct {
	on          resource
	roles       []string
	permissions permissionNames
}

func (r *rights) addFlags(cmd *cobra.Command, verb string) {
	cmd.Flags().Var(&r.on, "on", "the resource, such as /project/456/documents")
	cmd.Flags().StringArrayVar(&r.roles, "role", nil, "`role` to "+verb+", by name or id; may be repeated")
	cmd.Flags().Var(&r.permissions, "permission", "`permission` to "+verb+"; may be repeated")
}

func (r *rights) check(verb string) error {
	if len(r.roles) == 0 && len(r.permissions) == 0 {
		return usagef("nothing to %s: give --role or --permission", verb)
	}
	if slices.Contains(r.roles, "") {
		return usagef("--role is empty: which role?")
	}
	if r.on == "" {
		return usagef("--on is missing: on which resource?")
	}
	return nil
}

// String names the rights as a sentence does.
func (r *rights) String() string {
	var parts []string
	for _, role := range r.roles {
		parts = append(parts, "role "+role)
	}
	for _, permission := range r.permissions {
		parts = append(parts, "permission "+permission)
	}
	return strings.Join(parts, ", ")
}

func newGrantCommand(c *connection) *cobra.Command {
	var r rights
	cmd := &cobra.Command{
		Use:   "grant PRINCIPAL",
		Short: "Give someone roles and permissions on a resource",
		Long: `Grants roles and permissions to a principal on a resource URI and everything
below it. It adds to what the principal holds there.

A segment of the URI may be *, which stands for exactly one segment of any name.`,
		Example: `  remit grant usr_123 --role document_editor --on /project/456/documents
  remit grant usr_123 --permission document.read --permission document.share --on /project/456/documents/789
  remit grant service:ci --role auditor --on '/project/*/documents'`,
		Args: exactly("PRINCIPAL"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			if err := r.check("grant"); err != nil {
				return err
			}
			granted, err := client.GrantUserPermissionsAndRolesOnResource(cmd.Context(),
				&permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
					ProjectName: c.project,
					UserId:      args[0],
					ResourceUri: string(r.on),
					Permissions: r.permissions,
					Roles:       r.roles,
				})
			if err != nil {
				return err
			}
			return c.print(cmd, granted, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), printable(fmt.Sprintf("granted %s: %s on %s", args[0], &r, r.on)))
				return err
			})
		}),
	}
	c.addFlags(cmd)
	r.addFlags(cmd, "grant")
	return cmd
}
