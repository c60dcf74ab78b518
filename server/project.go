package server

import (
	"iter"
	"strings"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A view is a project of the caller's organisation at one state.
type view struct {
	state        *fsm.State
	organisation fsm.ID
	*fsm.Project
}

func (v view) scope() fsm.Scope { return fsm.Scope{Organisation: v.organisation, Project: v.ID} }

func (v view) listing(call, about string) listing {
	return listing{call, v.organisation, v.ID, about}
}

// project finds the project that a request names, at the state that the call was
// authorized at: names mean to its handler what they meant there.
func (c *call) project(name string) (view, error) {
	if name == "" {
		return view{}, invalid("project_name is missing: name a project, such as production")
	}
	p, ok := c.organisation.Project(name)
	if !ok {
		return view{}, notFound("project %s does not exist", quote(name))
	}
	return view{c.state, c.organisation.ID, p}, nil
}

// permission finds a permission by name.
func (v view) permission(name string) (*fsm.Permission, error) {
	p, ok := v.Permission(name)
	if !ok {
		return nil, notFound("permission %s does not exist in project %s: create it first", quote(name), quote(v.Name))
	}
	return p, nil
}

func (v view) role(idOrName string) (*fsm.Role, error) {
	r, ok := v.Role(idOrName)
	if !ok && v.IsBuiltIn() {
		return nil, notFound("role %s does not exist in project %s, which has %s, %s and %s",
			quote(idOrName), quote(v.Name), fsm.RoleOwner, fsm.RoleEditor, fsm.RoleViewer)
	}
	if !ok {
		return nil, notFound("role %s does not exist in project %s: create it first", quote(idOrName), quote(v.Name))
	}
	return r, nil
}

// permissionIDs resolves names to ids.
func (v view) permissionIDs(names []string) ([]fsm.ID, error) {
	if len(names) > fsm.MaxCallRights {
		return nil, invalid("%d permissions are too many for one call, %d at most", len(names), fsm.MaxCallRights)
	}
	ids := make([]fsm.ID, 0, len(names))
	for _, name := range names {
		p, err := v.permission(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, p.ID)
	}
	return ids, nil
}

func (v view) roleIDs(idsOrNames []string) ([]fsm.ID, error) {
	if len(idsOrNames) > fsm.MaxCallRights {
		return nil, invalid("%d roles are too many for one call, %d at most", len(idsOrNames), fsm.MaxCallRights)
	}
	ids := make([]fsm.ID, 0, len(idsOrNames))
	for _, s := range idsOrNames {
		r, err := v.role(s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, r.ID)
	}
	return ids, nil
}

func (v view) permissionMessage(p *fsm.Permission) *permissionsv1.Permission {
	return &permissionsv1.Permission{
		Id: p.ID.String(), OrganisationId: v.organisation.String(), Name: p.Name, Description: p.Description, ProjectName: v.Name,
	}
}

func (v view) permissionMessages(all []*fsm.Permission) []*permissionsv1.Permission {
	messages := make([]*permissionsv1.Permission, 0, len(all))
	for _, p := range all {
		messages = append(messages, v.permissionMessage(p))
	}
	return messages
}

func (v view) roleMessage(r *fsm.Role) *permissionsv1.Role {
	return &permissionsv1.Role{
		Id: r.ID.String(), OrganisationId: v.organisation.String(), Name: r.Name, Description: r.Description,
		Permissions: v.permissionMessages(v.RolePermissions(r)), ProjectName: v.Name,
	}
}

func (v view) roleMessages(all []*fsm.Role) []*permissionsv1.Role {
	messages := make([]*permissionsv1.Role, 0, len(all))
	for _, r := range all {
		messages = append(messages, v.roleMessage(r))
	}
	return messages
}

// matches reports a case-insensitive search in a name.
func matches(search string) func(name string) bool {
	search = strings.ToLower(search)
	return func(name string) bool { return search == "" || strings.Contains(strings.ToLower(name), search) }
}

// page takes what is kept of a sequence, up to a limit in number and in weight,
// and reports whether there is more. It takes one at least, if there is one.
func page[T any](all iter.Seq[T], limit int, keep func(T) bool, weigh func(T) int) (taken []T, more bool) {
	weight := 0
	for t := range all {
		if !keep(t) {
			continue
		}
		weight += weigh(t)
		if len(taken) == limit || len(taken) > 0 && weight > maxPageBytes {
			return taken, true
		}
		taken = append(taken, t)
	}
	return taken, false
}

// fieldBytes is about what a permission or role takes in an answer beside its
// name and description: ids, the project's name, tags and lengths.
const fieldBytes = 150

func weighPermissions(all []*fsm.Permission) (weight int) {
	for _, p := range all {
		weight += len(p.Name) + len(p.Description) + fieldBytes
	}
	return weight
}

// weighRoles stops at what no answer can hold.
func (v view) weighRoles(all []*fsm.Role) (weight int) {
	for _, r := range all {
		weight += len(r.Name) + len(r.Description) + fieldBytes + weighPermissions(v.RolePermissions(r))
		if weight > maxPageBytes {
			break
		}
	}
	return weight
}
