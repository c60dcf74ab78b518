package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// roleChange is what a role update shall change, as its flags say.
type roleChange struct {
	rename      string
	described   bool
	description string
	replacing   bool
	permissions permissionNames
	add, remove permissionNames
}

func newRoleUpdateCommand(c *connection) *cobra.Command {
	var change roleChange
	cmd := &cobra.Command{
		Use:   "update ROLE",
		Short: "Change a role's name, description or permissions",
		Long: `Changes what is given and leaves the rest as it is. --add-permission and
--remove-permission change the role's set of permissions, --permission replaces
it. A renamed role keeps its id, so grants follow it.

The present values are read and sent back with the changes, so of two updates at
the same moment the later one wins.`,
		Example: `  remit role update document_editor --add-permission document.share --remove-permission document.write
  remit role update document_editor --rename editor --description "Works on documents"
  remit role update editor --permission document.read`,
		Args: exactly("ROLE"),
		RunE: c.run(func(cmd *cobra.Command, client permissionsv1.PermissionsServiceClient, args []string) error {
			change.described = cmd.Flags().Changed("description")
			change.replacing = cmd.Flags().Changed("permission")
			if err := change.check(); err != nil {
				return err
			}
			request := &permissionsv1.UpdateRoleRequest{
				ProjectName: c.project,
				Id:          args[0],
				Name:        change.rename,
				Description: change.description,
				Permissions: change.permissions,
			}
			if !change.described || !change.replacing {
				// The call replaces both, so what shall stay has to be sent again.
				present, err := client.GetRole(cmd.Context(), &permissionsv1.GetRoleRequest{
					ProjectName: c.project,
					Id:          args[0],
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if err != nil {
					return adviseLook(err, "what is not given is read first, to keep it, which needs role.get; with --description and --permission nothing is")
				}
				if err := change.keep(request, present); err != nil {
					return err
				}
			}
			updated, err := client.UpdateRole(cmd.Context(), request)
			if err != nil {
				return err
			}
			return c.printRole(cmd, updated)
		}),
	}
	cmd.Flags().StringVar(&change.rename, "rename", "", "the `name` it shall have")
	cmd.Flags().StringVar(&change.description, "description", "", "the `text` it shall have, for people")
	cmd.Flags().Var(&change.permissions, "permission", "`permission` the role shall have, in place of those it has; may be repeated")
	cmd.Flags().Var(&change.add, "add-permission", "`permission` to put into the role; may be repeated")
	cmd.Flags().Var(&change.remove, "remove-permission", "`permission` to take out of the role; may be repeated")
	return cmd
}

func (r *roleChange) check() error {
	stepwise := len(r.add) > 0 || len(r.remove) > 0
	if r.replacing && stepwise {
		return usagef("--permission replaces all permissions; --add-permission and --remove-permission do not go with it")
	}
	if !r.replacing && !stepwise && !r.described && r.rename == "" {
		return usagef("nothing to change: give --rename, --description, --permission, --add-permission or --remove-permission")
	}
	for _, name := range r.add {
		if slices.Contains(r.remove, name) {
			return usagef("permission %q is to be added and removed", name)
		}
	}
	return nil
}

// keep puts into the request what the role has and the change does not touch. The
// role and its permissions are sent by id, so a rename in between does no harm.
func (r *roleChange) keep(request *permissionsv1.UpdateRoleRequest, present *permissionsv1.GetRoleResponse) error {
	request.Id = present.GetId()
	if !r.described {
		request.Description = present.GetDescription()
	}
	if r.replacing {
		return nil
	}
	// Both by name and by id.
	kept, removed := map[string]bool{}, map[string]bool{}
	for _, p := range present.GetPermissions() {
		if slices.Contains(r.remove, p.GetName()) || slices.Contains(r.remove, p.GetId()) {
			removed[p.GetName()], removed[p.GetId()] = true, true
			continue
		}
		kept[p.GetName()], kept[p.GetId()] = true, true
		request.Permissions = append(request.Permissions, p.GetId())
	}
	for _, name := range r.remove {
		if !removed[name] {
			return fmt.Errorf("role %q has no permission %q", present.GetName(), name)
		}
	}
	for _, name := range r.add {
		if !kept[name] {
			request.Permissions = append(request.Permissions, name)
		}
	}
	return nil
}
