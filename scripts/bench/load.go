package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	project            = "production"
	grantsPerPrincipal = 10
	loaders            = 256 // grants at a time: they share the log's syncs
)

// A grant of the state: every number has as many digits as every other, so that
// all requests are of one size.
type grant struct{ principal, uri string }

func grantOf(i int) grant {
	return grant{
		principal: fmt.Sprintf("usr_%06d", i/grantsPerPrincipal),
		uri:       fmt.Sprintf("/tenant/%04d/project/%06d", i%1000, i),
	}
}

// load grants roles and returns checks that pass: of a permission of the role, on
// a resource two levels below the URI of the grant.
func load(ctx context.Context, c *client, grants int) ([]*permissionsv1.CheckPermissionRequest, error) {
	ctx, service := c.service(ctx, 0)
	permissions := []string{"document.read", "document.write", "document.delete", "document.share"}
	for _, name := range permissions {
		if _, err := service.CreatePermission(ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name}); err != nil {
			return nil, err
		}
	}
	role, err := service.CreateRole(ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "document_editor", Permissions: permissions[:2]})
	if err != nil {
		return nil, err
	}
	var next atomic.Int64
	err = parallel(loaders, func(caller int) error {
		_, service := c.service(ctx, caller)
		for i := int(next.Add(1)) - 1; i < grants; i = int(next.Add(1)) - 1 {
			g := grantOf(i)
			_, err := service.GrantUserPermissionsAndRolesOnResource(ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: g.principal, ResourceUri: g.uri, Roles: []string{role.GetId()},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(1, 2))
	requests := make([]*permissionsv1.CheckPermissionRequest, 1<<12)
	for i := range requests {
		g := grantOf(random.IntN(grants))
		requests[i] = &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: g.principal,
			ResourceUris: []string{g.uri + "/document"}, Permissions: []string{"document.read"},
		}
	}
	return requests, nil
}
