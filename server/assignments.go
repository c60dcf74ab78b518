package server

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/index"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// GrantUserPermissionsAndRolesOnResource adds to what a principal holds on a
// resource and below it.
func (s *Server) GrantUserPermissionsAndRolesOnResource(ctx context.Context, req *permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse, error) {
	v, permissions, roles, err := s.assignment(ctx, req)
	if err != nil {
		return nil, err
	}
	_, token, err := s.write(ctx, &fsm.Grant{
		Scope: v.scope(), Principal: req.UserId, URI: req.ResourceUri, Permissions: permissions, Roles: roles,
	})
	if err != nil {
		return nil, err
	}
	return &permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse{Token: token}, nil
}

// RevokeUserPermissionsAndRolesOnResource takes away what was granted on exactly
// this resource. What was not granted is no error.
func (s *Server) RevokeUserPermissionsAndRolesOnResource(ctx context.Context, req *permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.RevokeUserPermissionsAndRolesOnResourceResponse, error) {
	v, permissions, roles, err := s.assignment(ctx, req)
	if err != nil {
		return nil, err
	}
	_, token, err := s.write(ctx, &fsm.Revoke{
		Scope: v.scope(), Principal: req.UserId, URI: req.ResourceUri, Permissions: permissions, Roles: roles,
	})
	if err != nil {
		return nil, err
	}
	return &permissionsv1.RevokeUserPermissionsAndRolesOnResourceResponse{Token: token}, nil
}

// assignment resolves the names that grants and revokes carry.
func (s *Server) assignment(ctx context.Context, req interface {
	GetProjectName() string
	GetPermissions() []string
	GetRoles() []string
}) (v view, permissions, roles []fsm.ID, err error) {
	if v, err = callOf(ctx).project(req.GetProjectName()); err != nil {
		return v, nil, nil, err
	}
	if permissions, err = v.permissionIDs(req.GetPermissions()); err != nil {
		return v, nil, nil, err
	}
	roles, err = v.roleIDs(req.GetRoles())
	return v, permissions, roles, err
}

// GetUserPermissionsAndRolesOnResource returns what was granted on exactly this
// resource and, if asked, what comes from above.
func (s *Server) GetUserPermissionsAndRolesOnResource(ctx context.Context, req *permissionsv1.GetUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.GetUserPermissionsAndRolesOnResourceResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	if err := fsm.ValidatePrincipal(req.UserId); err != nil {
		return nil, err
	}
	uri, err := index.ParsePattern(req.ResourceUri)
	if err != nil {
		return nil, invalid("%v", err)
	}
	resp := &permissionsv1.GetUserPermissionsAndRolesOnResourceResponse{
		ProjectName: v.Name, UserId: req.UserId, ResourceUri: req.ResourceUri, Token: s.tokenOf(v.state),
	}
	here := v.Assignment(req.UserId, uri)
	for _, p := range here.Permissions {
		resp.Permissions = append(resp.Permissions, p.Name)
	}
	for _, r := range here.Roles {
		resp.Roles = append(resp.Roles, r.ID.String())
	}
	if !req.IncludeInherited {
		return resp, nil
	}
	weight := 0
	for a := range v.Reaching(req.UserId, uri) {
		if a.URI == uri {
			continue
		}
		if weight += (located{a, v}).weigh(); a.URI == "" || weight > maxPageBytes {
			return nil, tooMuch("%s inherits too much on %s for one answer: ask for each resource above it", req.UserId, uri)
		}
		for _, p := range a.Permissions {
			resp.InheritedPermissions = append(resp.InheritedPermissions,
				&permissionsv1.InheritedPermission{Permission: v.permissionMessage(p), InheritedFrom: a.URI})
		}
		for _, r := range a.Roles {
			resp.InheritedRoles = append(resp.InheritedRoles,
				&permissionsv1.InheritedRole{Role: v.roleMessage(r), InheritedFrom: a.URI})
		}
	}
	return resp, nil
}

// ListPrincipals returns a page of those who have an assignment, by id.
func (s *Server) ListPrincipals(ctx context.Context, req *permissionsv1.ListPrincipalsRequest) (*permissionsv1.ListPrincipalsResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	list := v.listing("principals", req.GetSearch())
	limit, behind, err := list.page(v.state, req.Pagination)
	if err != nil {
		return nil, err
	}
	taken, more := page(v.Principals(behind), limit, matches(req.GetSearch()), func(s string) int { return len(s) })
	next := &paginationv1.PaginationResponse{}
	if more {
		next.NextCursor = list.cursor(v.state, taken[len(taken)-1])
	}
	return &permissionsv1.ListPrincipalsResponse{Principals: taken, Pagination: next, Token: s.tokenOf(v.state)}, nil
}

// GetAllAssignmentsForPrincipal returns a page of what a principal was granted,
// by URI, in one project or, without its name, in each that the key may see.
func (s *Server) GetAllAssignmentsForPrincipal(ctx context.Context, req *permissionsv1.GetAllAssignmentsForPrincipalRequest) (*permissionsv1.GetAllAssignmentsForPrincipalResponse, error) {
	c := callOf(ctx)
	if err := fsm.ValidatePrincipal(req.PrincipalId); err != nil {
		return nil, err
	}
	views, list, err := c.assignmentViews(req)
	if err != nil {
		return nil, err
	}
	limit, behind, err := list.page(c.state, req.Pagination)
	if err != nil {
		return nil, err
	}
	taken, more := page(assignmentsIn(views, req.PrincipalId, behind), limit, func(located) bool { return true }, located.weigh)
	resp := &permissionsv1.GetAllAssignmentsForPrincipalResponse{Pagination: &paginationv1.PaginationResponse{}, Token: s.tokenOf(c.state)}
	if len(taken) == 1 && taken[0].weigh() > maxPageBytes {
		return nil, tooMuch("what %s was granted on %s is too much for one answer: ask for that resource alone, which names roles by id", req.PrincipalId, taken[0].URI)
	}
	for _, a := range taken {
		resp.Assignments = append(resp.Assignments, &permissionsv1.Assignment{
			ResourceUri: a.URI, Permissions: a.in.permissionMessages(a.Permissions), Roles: a.in.roleMessages(a.Roles), ProjectName: a.in.Name,
		})
	}
	if more {
		last := taken[len(taken)-1]
		resp.Pagination.NextCursor = list.cursor(c.state, last.in.Name+"\n"+last.URI)
	}
	return resp, nil
}

// assignmentViews returns where the principal's assignments are looked for.
func (c *call) assignmentViews(req *permissionsv1.GetAllAssignmentsForPrincipalRequest) ([]view, listing, error) {
	if req.ProjectName != "" {
		v, err := c.project(req.ProjectName)
		if err != nil {
			return nil, listing{}, err
		}
		return []view{v}, v.listing("assignments", req.PrincipalId), nil
	}
	var views []view
	for p := range c.organisation.Projects("") {
		if c.key.Project == fsm.BuiltInProject || c.key.Project == p.Name {
			views = append(views, view{c.state, c.organisation.ID, p})
		}
	}
	// What a key sees may change, so a cursor goes on for the same one only.
	return views, listing{call: "assignments of " + c.key.Project, organisation: c.organisation.ID, about: req.PrincipalId}, nil
}

// located is an assignment in its project.
type located struct {
	fsm.Assignment
	in view
}

func (l located) weigh() int { return weighPermissions(l.Permissions) + l.in.weighRoles(l.Roles) }

// assignmentsIn yields a principal's assignments project by project, from
// behind a place: the project's name and the URI, a line each.
func assignmentsIn(views []view, principal, behind string) iter.Seq[located] {
	project, uri, _ := strings.Cut(behind, "\n")
	return func(yield func(located) bool) {
		for _, v := range views {
			if v.Name < project {
				continue
			}
			after := ""
			if v.Name == project {
				after = uri
			}
			for a := range v.Assignments(principal, after) {
				if !yield(located{a, v}) {
					return
				}
			}
		}
	}
}

// checkChunk is how many resources are judged between two looks at the clock.
const checkChunk = 16

// Check decides whether a principal holds every permission on every resource.
func (s *Server) Check(ctx context.Context, req *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	// The answer repeats the names for every resource.
	for _, name := range req.Permissions {
		if len(name) > fsm.MaxNameBytes {
			return nil, invalid("the permission name %s has %d bytes, %d at most", quote(name), len(name), fsm.MaxNameBytes)
		}
	}
	if err := fsm.ValidateCheckSize(len(req.ResourceUris), len(req.Permissions)); err != nil {
		return nil, err
	}
	if len(req.ResourceUris) > checkChunk {
		var cancel context.CancelFunc
		ctx, cancel = withReadTimeout(ctx)
		defer cancel()
	}
	resp := &permissionsv1.CheckPermissionResponse{Passed: true, Token: s.tokenOf(v.state)}
	// Some at a time: a check of many resources can take long for a principal who
	// holds much, and nobody may be waiting any more.
	for uris := range slices.Chunk(req.ResourceUris, checkChunk) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		decision, err := v.Check(req.PrincipalId, uris, req.Permissions)
		if err != nil {
			return nil, err
		}
		resp.Passed = resp.Passed && decision.Passed
		for _, m := range decision.Missing {
			resp.MissingPermissions = append(resp.MissingPermissions,
				&permissionsv1.MissingPermission{ResourceUri: m.URI, MissingPermissions: m.Permissions})
		}
	}
	return resp, nil
}
