package server

import (
	"context"

	"github.com/remit-io/remit/fsm"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// CreateRole creates a role, or replaces what an existing one holds.
func (s *Server) CreateRole(ctx context.Context, req *permissionsv1.CreateRoleRequest) (*permissionsv1.CreateRoleResponse, error) {
	c := callOf(ctx)
	v, err := c.project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	permissions, err := v.permissionIDs(req.Permissions)
	if err != nil {
		return nil, err
	}
	r, token, err := s.writeRole(ctx, v, &fsm.PutRole{
		Scope: v.scope(), ID: c.origin.seed.id("role"), Name: req.Name, Description: req.Description, Permissions: permissions,
	})
	if err != nil {
		return nil, err
	}
	return &permissionsv1.CreateRoleResponse{
		Id: r.Id, OrganisationId: r.OrganisationId, Name: r.Name, Description: r.Description,
		Permissions: r.Permissions, ProjectName: r.ProjectName, Token: token,
	}, nil
}

// GetRole returns a role with its permissions.
func (s *Server) GetRole(ctx context.Context, req *permissionsv1.GetRoleRequest) (*permissionsv1.GetRoleResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	role, err := v.role(req.Id)
	if err != nil {
		return nil, err
	}
	r := v.roleMessage(role)
	return &permissionsv1.GetRoleResponse{
		Id: r.Id, OrganisationId: r.OrganisationId, Name: r.Name, Description: r.Description,
		Permissions: r.Permissions, ProjectName: r.ProjectName, Token: s.tokenOf(v.state),
	}, nil
}

// UpdateRole replaces description and permissions, and renames if a name is
// given.
func (s *Server) UpdateRole(ctx context.Context, req *permissionsv1.UpdateRoleRequest) (*permissionsv1.UpdateRoleResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	role, err := v.role(req.Id)
	if err != nil {
		return nil, err
	}
	permissions, err := v.permissionIDs(req.Permissions)
	if err != nil {
		return nil, err
	}
	r, token, err := s.writeRole(ctx, v, &fsm.UpdateRole{
		Scope: v.scope(), ID: role.ID, Name: req.Name, Description: req.Description, Permissions: permissions,
	})
	if err != nil {
		return nil, err
	}
	return &permissionsv1.UpdateRoleResponse{
		Id: r.Id, OrganisationId: r.OrganisationId, Name: r.Name, Description: r.Description,
		Permissions: r.Permissions, ProjectName: r.ProjectName, Token: token,
	}, nil
}

// writeRole answers with the role as the command left it, whatever came after.
func (s *Server) writeRole(ctx context.Context, v view, body fsm.Body) (*permissionsv1.Role, string, error) {
	result, token, err := s.write(ctx, body)
	if err != nil {
		return nil, "", err
	}
	r := v.roleMessage(result.Role)
	r.Permissions = v.permissionMessages(result.Granted)
	return r, token, nil
}

// DeleteRole ends a role wherever it was granted. One that does not exist is no
// error.
func (s *Server) DeleteRole(ctx context.Context, req *permissionsv1.DeleteRoleRequest) (*permissionsv1.DeleteRoleResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	var id fsm.ID
	if role, ok := v.Role(req.Id); ok {
		id = role.ID
	} else if _, isID := fsm.ParseID(req.Id); !isID {
		if err := fsm.ValidateRoleName(req.Id); err != nil {
			return nil, err
		}
	}
	_, token, err := s.write(ctx, &fsm.DeleteRole{Scope: v.scope(), ID: id}) // as with permissions
	if err != nil {
		return nil, err
	}
	s.wakeSweeper()
	return &permissionsv1.DeleteRoleResponse{Token: token}, nil
}

// ListRoles returns a page of the roles, by name.
func (s *Server) ListRoles(ctx context.Context, req *permissionsv1.ListRolesRequest) (*permissionsv1.ListRolesResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	list := v.listing("roles", req.GetSearch())
	limit, behind, err := list.page(v.state, req.Pagination)
	if err != nil {
		return nil, err
	}
	match := matches(req.GetSearch())
	taken, more := page(v.Roles(behind), limit,
		func(r *fsm.Role) bool { return match(r.Name) },
		func(r *fsm.Role) int { return v.weighRoles([]*fsm.Role{r}) })
	next := &paginationv1.PaginationResponse{}
	if more {
		next.NextCursor = list.cursor(v.state, taken[len(taken)-1].Name)
	}
	return &permissionsv1.ListRolesResponse{Roles: v.roleMessages(taken), Pagination: next, Token: s.tokenOf(v.state)}, nil
}
