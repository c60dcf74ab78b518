package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// Projects that are deleted.
const (
	largeProject   = "large"
	managedProject = "managed" // much is granted on it in the built-in project
)

// A deletion is of something large, while another organisation writes.
type deletion struct {
	name   string
	grants int
	grant  func(ctx context.Context, i int) error
	delete func() error
	verify func() error

	granting            time.Duration
	before, with, after memory // of the grants
	disturbance
}

// measureDeletions deletes an organisation, a project, and a project on which
// much was granted in the built-in project: those grants are swept in steps.
func measureDeletions(ctx context.Context, n *node, m *made, s settings) ([]*deletion, error) {
	doomed, err := createWhole(ctx, n, "doomed", s)
	if err != nil {
		return nil, err
	}
	rest, err := createWhole(ctx, n, "in part", s)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{largeProject, managedProject} {
		if err := createProject(ctx, n, rest.owner, name); err != nil {
			return nil, err
		}
	}
	deletions := []*deletion{
		{
			name: "organisation", grants: s.grants,
			grant: func(ctx context.Context, i int) error { return grantOneOf(ctx, n, doomed.owner, defaultProject, i) },
			delete: func() error {
				_, err := n.organisations().DeleteOrganisation(as(ctx, n.key), &organisationv1.DeleteOrganisationRequest{Id: doomed.id})
				return err
			},
			verify: func() error { return verifyEnded(ctx, n, doomed) },
		},
		{
			name: "project", grants: s.grants,
			grant:  func(ctx context.Context, i int) error { return grantOneOf(ctx, n, rest.owner, largeProject, i) },
			delete: func() error { return deleteProject(ctx, n, rest.owner, largeProject) },
			verify: func() error { return verifyNew(ctx, n, rest.owner, largeProject) },
		},
		{
			name: "project, in `remit`", grants: s.managing,
			grant:  func(ctx context.Context, i int) error { return grantManaging(ctx, n, rest, i) },
			delete: func() error { return deleteProject(ctx, n, rest.owner, managedProject) },
			verify: func() error { return verifyNew(ctx, n, rest.owner, managedProject) },
		},
	}
	if err := createPermission(ctx, n, doomed.owner, defaultProject); err != nil {
		return nil, err
	}
	if err := createPermission(ctx, n, rest.owner, largeProject); err != nil {
		return nil, err
	}
	w, err := newWriter(ctx, n, m.organisations[0])
	if err != nil {
		return nil, err
	}
	for _, d := range deletions {
		if err := d.run(ctx, n, w, s); err != nil {
			return nil, fmt.Errorf("deletion of the %s: %w", d.name, err)
		}
	}
	return deletions, nil
}

func (d *deletion) run(ctx context.Context, n *node, w *writer, s settings) (err error) {
	if d.before, err = n.memory(ctx); err != nil {
		return err
	}
	progress("making %d grants", d.grants)
	started := time.Now()
	if err := each(ctx, s.callers, d.grants, d.grant); err != nil {
		return err
	}
	d.granting = time.Since(started)
	if d.with, err = n.memory(ctx); err != nil {
		return err
	}
	progress("writing for %s, then deleting the %s", s.baseline, d.name)
	if d.disturbance, err = w.disturb(ctx, s, d.delete); err != nil {
		return err
	}
	if d.after, err = n.memory(ctx); err != nil {
		return err
	}
	return d.verify()
}

// createWhole creates an organisation like all the others.
func createWhole(ctx context.Context, n *node, name string, s settings) (organisation, error) {
	o, err := createOrganisation(ctx, n, name, s)
	for i := 1; i < s.projects && err == nil; i++ {
		err = createProject(ctx, n, o.owner, fmt.Sprintf("project-%d", i))
		o.projects[i].name = fmt.Sprintf("project-%d", i)
	}
	for _, p := range o.projects {
		for i := 0; i < s.keys && err == nil; i++ {
			_, err = createKey(ctx, n, o.owner, p.name, fmt.Sprintf("key %d", i))
		}
	}
	return o, err
}

func createProject(ctx context.Context, n *node, owner, name string) error {
	_, err := n.organisations().CreateProject(as(ctx, owner), &organisationv1.CreateProjectRequest{Name: name})
	return err
}

func deleteProject(ctx context.Context, n *node, owner, name string) error {
	_, err := n.organisations().DeleteProject(as(ctx, owner), &organisationv1.DeleteProjectRequest{ProjectName: name})
	return err
}

// grantOneOf makes one of many grants: to a thousand principals on one resource
// after the other.
func grantOneOf(ctx context.Context, n *node, owner, project string, i int) error {
	_, err := grant(ctx, n, owner, project, fmt.Sprintf("usr_%03d", i%1000), fmt.Sprintf("/folder/%02d/document/%d", i/1000%100, i/1000))
	return err
}

// grantManaging makes one of many grants in the built-in project, on resources of
// the project that is deleted.
func grantManaging(ctx context.Context, n *node, o organisation, i int) error {
	_, err := n.permissions().GrantUserPermissionsAndRolesOnResource(as(ctx, o.owner), &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: builtInProject, UserId: fmt.Sprintf("usr_%02d", i%100), Roles: []string{"viewer"},
		ResourceUri: fmt.Sprintf("/organisation/%s/project/%s/resource/document/%d", o.id, managedProject, i/100),
	})
	return err
}

// verifyEnded fails unless the organisation's owner key is invalid.
func verifyEnded(ctx context.Context, n *node, o organisation) error {
	_, err := n.organisations().WhoAmI(as(ctx, o.owner), &organisationv1.WhoAmIRequest{})
	if status.Code(err) != codes.Unauthenticated {
		return fmt.Errorf("its key is answered %v", err)
	}
	return nil
}

// verifyNew creates a project of that name again, which is refused until the
// sweep is done, and fails unless it is empty.
func verifyNew(ctx context.Context, n *node, owner, name string) error {
	err := until(ctx, time.Minute, 10*time.Millisecond, "a project of this name cannot be created", func() (bool, error) {
		err := createProject(ctx, n, owner, name)
		if status.Code(err) == codes.Unavailable {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	principals, err := n.permissions().ListPrincipals(as(ctx, owner), &permissionsv1.ListPrincipalsRequest{ProjectName: name})
	if err == nil && len(principals.GetPrincipals()) > 0 {
		err = fmt.Errorf("the project %s that was created anew has principals", name)
	}
	return err
}
