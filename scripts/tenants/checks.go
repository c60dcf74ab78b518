package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	// sampled is how many projects are asked about; each gets a grant.
	sampled = 1000
	// emptyKeys is how many keys the empty node is asked with: so many that HTTP/2
	// does not remember their headers there either.
	emptyKeys = 100
)

const principal = "usr_1"

// latencies are how long calls took, ascending once sorted.
type latencies []time.Duration

func (l latencies) at(p float64) time.Duration { return l[int(p*float64(len(l)-1))] }

func (l latencies) max() time.Duration { return l[len(l)-1] }

// An asker is a node with keys, and the projects that they are of.
type asker struct {
	*node
	keys, projects []string
	took           latencies
}

// compareChecks asks both nodes in turn, one call after another, each with a
// random key.
func compareChecks(ctx context.Context, large, empty *node, m *made, s settings) (onLarge, onEmpty latencies, err error) {
	progress("checking")
	many, one := &asker{node: large}, &asker{node: empty}
	random := rand.New(rand.NewPCG(1, 2))
	places := random.Perm(s.organisations * s.projects)
	for _, place := range places[:min(sampled, len(places))] {
		o := m.organisations[place/s.projects]
		p := o.projects[place%s.projects]
		if err := large.grantSample(ctx, o.owner, p.name); err != nil {
			return nil, nil, err
		}
		for _, key := range p.keys {
			many.keys, many.projects = append(many.keys, key), append(many.projects, p.name)
		}
	}
	if err := empty.grantSample(ctx, empty.key, bootstrapProject); err != nil {
		return nil, nil, err
	}
	for i := range emptyKeys {
		secret, err := createKey(ctx, empty, empty.key, bootstrapProject, fmt.Sprintf("key %d", i))
		if err != nil {
			return nil, nil, err
		}
		one.keys, one.projects = append(one.keys, secret), append(one.projects, bootstrapProject)
	}
	askers := []*asker{many, one}
	for round := range s.rounds {
		for _, a := range askers {
			for range s.checks {
				took, err := a.check(ctx, random.IntN(len(a.keys)))
				if err != nil {
					return nil, nil, err
				}
				if round > 0 { // both are warm now
					a.took = append(a.took, took)
				}
			}
		}
		slices.Reverse(askers)
	}
	slices.Sort(many.took)
	slices.Sort(one.took)
	return many.took, one.took, nil
}

// grantSample grants what check asks for.
func (n *node) grantSample(ctx context.Context, owner, project string) error {
	if err := createPermission(ctx, n, owner, project); err != nil {
		return err
	}
	_, err := grant(ctx, n, owner, project, principal, "/project/1")
	return err
}

func (a *asker) check(ctx context.Context, i int) (time.Duration, error) {
	ctx = as(ctx, a.keys[i])
	service := permissionsv1.NewPermissionsServiceClient(a.conns[0])
	request := &permissionsv1.CheckPermissionRequest{
		ProjectName: a.projects[i], PrincipalId: principal,
		ResourceUris: []string{"/project/1/documents/7"}, Permissions: []string{permission},
	}
	sent := time.Now()
	answer, err := service.Check(ctx, request)
	took := time.Since(sent)
	if err == nil && !answer.GetPassed() {
		err = errors.New("a check was denied")
	}
	return took, err
}

// createPermission creates the permission that all grants are of.
func createPermission(ctx context.Context, n *node, key, project string) error {
	_, err := n.permissions().CreatePermission(as(ctx, key), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: permission})
	return err
}

// grant grants the permission and returns the revision at which it holds.
func grant(ctx context.Context, n *node, key, project, principal, uri string) (revision uint64, err error) {
	answer, err := n.permissions().GrantUserPermissionsAndRolesOnResource(as(ctx, key), &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: principal, ResourceUri: uri, Permissions: []string{permission},
	})
	if err != nil {
		return 0, err
	}
	return revisionOf(answer.GetToken())
}
