package server

import (
	"context"

	"github.com/remit-io/remit/fsm"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// CreatePermission creates a permission, or describes an existing one anew.
func (s *Server) CreatePermission(ctx context.Context, req *permissionsv1.CreatePermissionRequest) (*permissionsv1.CreatePermissionResponse, error) {
	c := callOf(ctx)
	v, err := c.project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	result, token, err := s.write(ctx, &fsm.PutPermission{Scope: v.scope(), ID: c.origin.seed.id("permission"), Name: req.Name, Description: req.Description})
	if err != nil {
		return nil, err
	}
	p := v.permissionMessage(result.Permission)
	return &permissionsv1.CreatePermissionResponse{
		Id: p.Id, OrganisationId: p.OrganisationId, Name: p.Name, Description: p.Description, ProjectName: p.ProjectName, Token: token,
	}, nil
}

// GetPermission returns a permission.
func (s *Server) GetPermission(ctx context.Context, req *permissionsv1.GetPermissionRequest) (*permissionsv1.GetPermissionResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	permission, err := v.permission(req.Name)
	if err != nil {
		return nil, err
	}
	p := v.permissionMessage(permission)
	return &permissionsv1.GetPermissionResponse{
		Id: p.Id, OrganisationId: p.OrganisationId, Name: p.Name, Description: p.Description, ProjectName: p.ProjectName, Token: s.tokenOf(v.state),
	}, nil
}

// UpdatePermission replaces the description, and renames if a new name is given.
func (s *Server) UpdatePermission(ctx context.Context, req *permissionsv1.UpdatePermissionRequest) (*permissionsv1.UpdatePermissionResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	permission, err := v.permission(req.Name)
	if err != nil {
		return nil, err
	}
	result, token, err := s.write(ctx, &fsm.UpdatePermission{Scope: v.scope(), ID: permission.ID, Name: req.NewName, Description: req.Description})
	if err != nil {
		return nil, err
	}
	p := v.permissionMessage(result.Permission)
	return &permissionsv1.UpdatePermissionResponse{
		Id: p.Id, OrganisationId: p.OrganisationId, Name: p.Name, Description: p.Description, ProjectName: p.ProjectName, Token: token,
	}, nil
}

// DeletePermission ends a permission wherever it was granted. One that does not
// exist is no error.
func (s *Server) DeletePermission(ctx context.Context, req *permissionsv1.DeletePermissionRequest) (*permissionsv1.DeletePermissionResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	var id fsm.ID
	if permission, ok := v.Permission(req.Name); ok {
		id = permission.ID
	} else if _, isID := fsm.ParseID(req.Name); !isID {
		if err := fsm.ValidatePermissionName(req.Name); err != nil {
			return nil, err
		}
	}
	// Also what does not exist, for the log to remember that: a repetition of the call
	// must not delete what was created since.
	_, token, err := s.write(ctx, &fsm.DeletePermission{Scope: v.scope(), ID: id})
	if err != nil {
		return nil, err
	}
	s.wakeSweeper()
	return &permissionsv1.DeletePermissionResponse{Token: token}, nil
}

// ListPermissions returns a page of the permissions, by name.
func (s *Server) ListPermissions(ctx context.Context, req *permissionsv1.ListPermissionsRequest) (*permissionsv1.ListPermissionsResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	list := v.listing("permissions", req.GetSearch())
	limit, behind, err := list.page(v.state, req.Pagination)
	if err != nil {
		return nil, err
	}
	match := matches(req.GetSearch())
	taken, more := page(v.Permissions(behind), limit,
		func(p *fsm.Permission) bool { return match(p.Name) },
		func(p *fsm.Permission) int { return weighPermissions([]*fsm.Permission{p}) })
	next := &paginationv1.PaginationResponse{}
	if more {
		next.NextCursor = list.cursor(v.state, taken[len(taken)-1].Name)
	}
	return &permissionsv1.ListPermissionsResponse{Permissions: v.permissionMessages(taken), Pagination: next, Token: s.tokenOf(v.state)}, nil
}
