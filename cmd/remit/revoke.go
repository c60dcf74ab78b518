package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func newRevokeCommand(c *connection) *cobra.Command {
	var r rights
	cmd := &cobra.Command{
		Use:   "revoke PRINCIPAL",
		Short: "Take roles and permissions on a resource back",
		Long: `Takes back roles and permissions that were granted to a principal on exactly this
resource URI. What was not granted there is no error. What the principal holds
by another role or from a URI above stays: see remit assignments. It looks first,
if the key may, and says what was held there and what is still held from a URI above.`,
		Example: `  remit revoke usr_123 --role document_editor --on /project/456/documents
  remit revoke usr_123 --permission document.share --on /project/456/documents/789
  remit revoke service:ci --role auditor --on '/project/*/documents'`,
		Args: exactly("PRINCIPAL"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			if err := r.check("revoke"); err != nil {
				return err
			}
			// JSON is the answer alone.
			var found *holding
			if c.output != asJSON {
				var err error
				if found, err = c.look(cmd, client, args[0], &r); err != nil && !isDenied(err) {
					return err
				}
			}
			revoked, err := client.RevokeUserPermissionsAndRolesOnResource(cmd.Context(),
				&permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
					ProjectName: c.project,
					UserId:      args[0],
					ResourceUri: string(r.on),
					Permissions: r.permissions,
					Roles:       r.roles,
				})
			if err != nil {
				return err
			}
			return c.print(cmd, revoked, func() error {
				for _, line := range found.describe(args[0], &r) {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), printable(line)); err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
	c.addFlags(cmd)
	r.addFlags(cmd, "revoke")
	return cmd
}

// holding is what a principal holds of some rights before they are revoked.
type holding struct {
	here, missing rights
	above         []string // such as "role document_editor from /project"
}

// look asks what a principal holds of the rights on their resource and above it. It
// returns nil with its error.
func (c *connection) look(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, principal string, r *rights) (*holding, error) {
	request := &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
		ProjectName:      c.project,
		UserId:           principal,
		ResourceUri:      string(r.on),
		IncludeInherited: true,
		Consistency:      permissionsv1.Consistency_FULLY_CONSISTENT,
	}
	held, err := client.GetUserPermissionsAndRolesOnResource(cmd.Context(), request)
	if status.Code(err) == codes.ResourceExhausted {
		// More is inherited than one answer takes, which is no reason not to revoke.
		request.IncludeInherited = false
		held, err = client.GetUserPermissionsAndRolesOnResource(cmd.Context(), request)
	}
	if err != nil {
		return nil, err
	}
	found := &holding{}
	for _, name := range r.roles {
		role, err := client.GetRole(cmd.Context(), &permissionsv1.GetRoleRequest{
			ProjectName: c.project, Id: name, Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
		})
		if err != nil {
			return nil, err
		}
		in := &found.missing
		if slices.Contains(held.GetRoles(), role.GetId()) {
			in = &found.here
		}
		in.roles = append(in.roles, role.GetName())
		for _, inherited := range held.GetInheritedRoles() {
			if inherited.GetRole().GetId() == role.GetId() {
				found.above = append(found.above, fmt.Sprintf("role %s from %s", role.GetName(), inherited.GetInheritedFrom()))
			}
		}
	}
	for _, name := range r.permissions {
		permission, err := client.GetPermission(cmd.Context(), &permissionsv1.GetPermissionRequest{
			ProjectName: c.project, Name: name, Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
		})
		if err != nil {
			return nil, err
		}
		in := &found.missing
		if slices.Contains(held.GetPermissions(), permission.GetName()) {
			in = &found.here
		}
		in.permissions = append(in.permissions, permission.GetName())
		for _, inherited := range held.GetInheritedPermissions() {
			if inherited.GetPermission().GetId() == permission.GetId() {
				found.above = append(found.above, fmt.Sprintf("permission %s from %s", permission.GetName(), inherited.GetInheritedFrom()))
			}
		}
	}
	return found, nil
}

// describe says, a line each, what revoking the rights changed and what it did not.
// The holding is nil if the key may not see it.
func (h *holding) describe(principal string, r *rights) []string {
	if h == nil {
		return []string{fmt.Sprintf("revoked from %s: %s on %s; this key may not see what was held there and what is left", principal, r, r.on)}
	}
	on := r.on
	here, missing := h.here.String(), h.missing.String()
	var lines []string
	switch {
	case here == "":
		lines = append(lines, fmt.Sprintf("%s held nothing of this on exactly %s: nothing changed", principal, on))
	case missing == "":
		lines = append(lines, fmt.Sprintf("revoked from %s: %s on %s", principal, here, on))
	default:
		lines = append(lines,
			fmt.Sprintf("revoked from %s: %s on %s", principal, here, on),
			fmt.Sprintf("%s held no %s on exactly %s", principal, missing, on))
	}
	for _, right := range h.above {
		lines = append(lines, fmt.Sprintf("%s still holds %s", principal, right))
	}
	return lines
}
