package main

import (
	"context"
	"fmt"
	"sync/atomic"
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
	var revision atomic.Uint64
	build := func(name string, count int, create func(ctx context.Context, i int) (token string, err error)) error {
		if count > 0 {
			progress("creating %d %s", count, name)
		}
		started := time.Now()
		err := each(ctx, s.callers, count, func(ctx context.Context, i int) error {
			token, err := create(ctx, i)
			if err != nil {
				return err
			}
			reached, err := revisionOf(token)
			for seen := revision.Load(); reached > seen && !revision.CompareAndSwap(seen, reached); seen = revision.Load() {
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("create %s: %w", name, err)
		}
		took := time.Since(started)
		memory, err := n.memory(ctx)
		stages = append(stages, stage{name, count, took, memory})
		return err
	}
	err := build("nothing", 0, nil)
	if err == nil {
		err = build("organisations", s.organisations, func(ctx context.Context, i int) (string, error) {
			var token string
			var err error
			m.organisations[i], token, err = createOrganisation(ctx, n, fmt.Sprintf("organisation %d", i), s)
			return token, err
		})
	}
	if more := s.projects - 1; err == nil && more > 0 { // each has one already
		err = build("projects", s.organisations*more, func(ctx context.Context, i int) (string, error) {
			o := &m.organisations[i/more]
			name := fmt.Sprintf("project-%d", 1+i%more)
			answer, err := n.organisations().CreateProject(as(ctx, o.owner), &organisationv1.CreateProjectRequest{Name: name})
			o.projects[1+i%more] = project{name, make([]string, s.keys)}
			return answer.GetToken(), err
		})
	}
	if err == nil {
		err = build("keys", s.organisations*s.projects*s.keys, func(ctx context.Context, i int) (string, error) {
			o := &m.organisations[i/s.keys/s.projects]
			p := &o.projects[i/s.keys%s.projects]
			secret, token, err := createKey(ctx, n, o.owner, p.name, fmt.Sprintf("key %d", i%s.keys))
			p.keys[i%s.keys] = secret
			return token, err
		})
	}
	m.revision = revision.Load()
	return m, stages, err
}

func createOrganisation(ctx context.Context, n *node, name string, s settings) (organisation, string, error) {
	answer, err := n.organisations().CreateOrganisation(as(ctx, n.key), &organisationv1.CreateOrganisationRequest{Name: name})
	if err != nil {
		return organisation{}, "", err
	}
	o := organisation{id: answer.GetOrganisation().GetId(), owner: answer.GetApiKey().GetKey(), projects: make([]project, s.projects)}
	o.projects[0] = project{defaultProject, make([]string, s.keys)}
	return o, answer.GetToken(), nil
}

func createKey(ctx context.Context, n *node, owner, project, name string) (secret, token string, err error) {
	answer, err := n.organisations().CreateAPIKey(as(ctx, owner), &organisationv1.CreateAPIKeyRequest{ProjectName: project, Name: name})
	return answer.GetApiKey().GetKey(), answer.GetToken(), err
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
