package main

import (
	"context"
	"fmt"
	"time"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

const (
	bootstrapProject = "production"
	defaultProject   = "default"
	builtInProject   = "remit"
	permission       = "document.read"
)

// An organisation is what its first owner knows of it.
type organisation struct {
	id, owner string
	projects  []project
}

type project struct {
	name string
	keys []string
}

// made is what was created.
type made struct {
	organisations []organisation
	revision      uint64 // all of it is in the state from here on
}

// A stage is one kind of thing that was created, and the node's memory with it.
type stage struct {
	name  string
	count int
	took  time.Duration
	memory
}

// populate creates organisations, projects and keys, one kind after the other.
func populate(ctx context.Context, n *node, s settings) (*made, []stage, error) {
	m := &made{organisations: make([]organisation, s.organisations)}
	var stages []stage
	build := func(name string, count int, create func(ctx context.Context, i int) error) error {
		if count > 0 {
			progress("creating %d %s", count, name)
		}
		started := time.Now()
		if err := each(ctx, s.callers, count, create); err != nil {
			return fmt.Errorf("create %s: %w", name, err)
		}
		took := time.Since(started)
		memory, err := n.memory(ctx)
		stages = append(stages, stage{name, count, took, memory})
		return err
	}
	err := build("nothing", 0, nil)
	if err == nil {
		err = build("organisations", s.organisations, func(ctx context.Context, i int) (err error) {
			m.organisations[i], err = createOrganisation(ctx, n, fmt.Sprintf("organisation %d", i), s)
			return err
		})
	}
	if more := s.projects - 1; err == nil && more > 0 { // each has one already
		err = build("projects", s.organisations*more, func(ctx context.Context, i int) error {
			o, p := &m.organisations[i/more], 1+i%more
			o.projects[p] = project{fmt.Sprintf("project-%d", p), make([]string, s.keys)}
			return createProject(ctx, n, o.owner, o.projects[p].name)
		})
	}
	if err == nil {
		err = build("keys", s.organisations*s.projects*s.keys, func(ctx context.Context, i int) (err error) {
			o := &m.organisations[i/s.keys/s.projects]
			p := &o.projects[i/s.keys%s.projects]
			p.keys[i%s.keys], err = createKey(ctx, n, o.owner, p.name, fmt.Sprintf("key %d", i%s.keys))
			return err
		})
	}
	if err != nil {
		return nil, nil, err
	}
	now, err := n.organisations().GetOrganisation(as(ctx, n.key), &organisationv1.GetOrganisationRequest{})
	if err != nil {
		return nil, nil, err
	}
	m.revision, err = revisionOf(now.GetToken())
	return m, stages, err
}

func createOrganisation(ctx context.Context, n *node, name string, s settings) (organisation, error) {
	answer, err := n.organisations().CreateOrganisation(as(ctx, n.key), &organisationv1.CreateOrganisationRequest{Name: name})
	if err != nil {
		return organisation{}, err
	}
	o := organisation{id: answer.GetOrganisation().GetId(), owner: answer.GetApiKey().GetKey(), projects: make([]project, s.projects)}
	o.projects[0] = project{defaultProject, make([]string, s.keys)}
	return o, nil
}

func createKey(ctx context.Context, n *node, owner, project, name string) (secret string, err error) {
	answer, err := n.organisations().CreateAPIKey(as(ctx, owner), &organisationv1.CreateAPIKeyRequest{ProjectName: project, Name: name})
	return answer.GetApiKey().GetKey(), err
}

// verify fails unless all that was created is there, by counting it and by
// calling with some of the keys.
func (m *made) verify(ctx context.Context, n *node, s settings) error {
	organisations := 0
	cursor, limit := "", int32(100)
	for more := true; more; more = cursor != "" {
		page, err := n.organisations().ListOrganisations(as(ctx, n.key), &organisationv1.ListOrganisationsRequest{
			Pagination: &paginationv1.PaginationRequest{Limit: &limit, Cursor: &cursor},
		})
		if err != nil {
			return err
		}
		organisations += len(page.GetOrganisations())
		cursor = page.GetPagination().GetNextCursor()
	}
	if want := s.organisations + 1; organisations != want { // that of the bootstrap
		return fmt.Errorf("there are %d organisations instead of %d", organisations, want)
	}
	last := m.organisations[len(m.organisations)-1]
	projects, err := n.organisations().GetProjectsForOrganisation(as(ctx, last.owner), &organisationv1.GetProjectsForOrganisationRequest{
		Pagination: &paginationv1.PaginationRequest{Limit: &limit},
	})
	if err != nil {
		return err
	}
	if got, want := len(projects.GetProjects()), min(s.projects+1, int(limit)); got != want { // the built-in one
		return fmt.Errorf("an organisation has %d projects instead of %d", got, want)
	}
	for _, p := range last.projects {
		for _, key := range p.keys {
			who, err := n.organisations().WhoAmI(as(ctx, key), &organisationv1.WhoAmIRequest{})
			if err != nil {
				return err
			}
			if who.GetOrganisation().GetId() != last.id || who.GetProjectName() != p.name {
				return fmt.Errorf("a key of project %s is one of project %s", p.name, who.GetProjectName())
			}
		}
	}
	return nil
}
