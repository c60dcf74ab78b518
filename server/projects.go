package server

import (
	"context"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

func projectMessage(organisation fsm.ID, p *fsm.Project) *organisationv1.Project {
	return &organisationv1.Project{OrganisationId: organisation.String(), Name: p.Name, CreatedAt: timestamp(p.Created)}
}

// CreateProject creates a project without permissions, roles and keys.
func (s *Server) CreateProject(ctx context.Context, req *organisationv1.CreateProjectRequest) (*organisationv1.CreateProjectResponse, error) {
	c := callOf(ctx)
	scope := fsm.Scope{Organisation: c.organisation.ID, Project: c.origin.seed.id("project")}
	result, token, err := s.write(ctx, &fsm.CreateProject{Scope: scope, Name: req.Name})
	if err != nil {
		return nil, err
	}
	return &organisationv1.CreateProjectResponse{Project: projectMessage(scope.Organisation, result.Project), Token: token}, nil
}

// GetProject returns a project.
func (s *Server) GetProject(ctx context.Context, req *organisationv1.GetProjectRequest) (*organisationv1.GetProjectResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	return &organisationv1.GetProjectResponse{Project: projectMessage(v.organisation, v.Project), Token: s.tokenOf(v.state)}, nil
}

// GetProjectsForOrganisation returns a page of the projects, by name.
func (s *Server) GetProjectsForOrganisation(ctx context.Context, req *organisationv1.GetProjectsForOrganisationRequest) (*organisationv1.GetProjectsForOrganisationResponse, error) {
	c := callOf(ctx)
	list := listing{call: "projects", organisation: c.organisation.ID, about: req.GetSearch()}
	limit, behind, err := list.page(c.state, req.Pagination)
	if err != nil {
		return nil, err
	}
	match := matches(req.GetSearch())
	taken, more := page(c.organisation.Projects(behind), limit,
		func(p *fsm.Project) bool { return match(p.Name) },
		func(p *fsm.Project) int { return fieldBytes + len(p.Name) })
	resp := &organisationv1.GetProjectsForOrganisationResponse{Pagination: &paginationv1.PaginationResponse{}, Token: s.tokenOf(c.state)}
	for _, p := range taken {
		resp.Projects = append(resp.Projects, projectMessage(c.organisation.ID, p))
	}
	if more {
		resp.Pagination.NextCursor = list.cursor(c.state, taken[len(taken)-1].Name)
	}
	return resp, nil
}

// DeleteProject ends a project with all that belongs to it.
func (s *Server) DeleteProject(ctx context.Context, req *organisationv1.DeleteProjectRequest) (*organisationv1.DeleteProjectResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	_, token, err := s.write(ctx, &fsm.DeleteProject{Scope: v.scope()})
	if err != nil {
		return nil, err
	}
	s.wakeSweeper()
	return &organisationv1.DeleteProjectResponse{Token: token}, nil
}
