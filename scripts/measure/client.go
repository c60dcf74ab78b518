package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	project    = "production"
	permission = "document.read"
	// connections is how many of them the callers of a node share.
	connections = 2
	// retryDelay is how long a client waits after an error.
	retryDelay = 10 * time.Millisecond
)

// A client calls a node, or the echo: there is nothing in it that knows which.
type client struct {
	key   string
	conns []*grpc.ClientConn
}

func dial(addr, key string) (*client, error) {
	c := &client{key: key}
	for range connections {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

func (c *client) close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

func (c *client) auth(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key)
}

func (c *client) cluster() clusterv1.ClusterServiceClient {
	return clusterv1.NewClusterServiceClient(c.conns[0])
}

func (c *client) permissions(caller int) permissionsv1.PermissionsServiceClient {
	return permissionsv1.NewPermissionsServiceClient(c.conns[caller%len(c.conns)])
}

func (c *client) createPermission(ctx context.Context) error {
	_, err := c.permissions(0).CreatePermission(c.auth(ctx), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: permission})
	return err
}

// grant makes one of many grants, each on a resource of its own, and returns the
// token of the write.
func (c *client) grant(ctx context.Context, caller, i int) (token string, err error) {
	principal, uri := granted(caller, i)
	answer, err := c.permissions(caller).GrantUserPermissionsAndRolesOnResource(c.auth(ctx), &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: principal, ResourceUri: uri, Permissions: []string{permission},
	})
	return answer.GetToken(), err
}

// revoke takes back what grant granted.
func (c *client) revoke(ctx context.Context, caller, i int) error {
	principal, uri := granted(caller, i)
	_, err := c.permissions(caller).RevokeUserPermissionsAndRolesOnResource(c.auth(ctx), &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: principal, ResourceUri: uri, Permissions: []string{permission},
	})
	return err
}

func granted(caller, i int) (principal, uri string) {
	return fmt.Sprintf("usr_%03d", i%1000), fmt.Sprintf("/folder/%02d/document/%07d", caller, i)
}

// check asks whether what was granted holds, on a resource below it.
func (c *client) check(ctx context.Context, caller, i int, consistency permissionsv1.Consistency, token string) error {
	principal, uri := granted(caller, i)
	answer, err := c.permissions(caller).Check(c.auth(ctx), &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: principal, ResourceUris: []string{uri + "/page/1"}, Permissions: []string{permission},
		Consistency: consistency, Token: token,
	})
	if err == nil && !answer.GetPassed() {
		err = fmt.Errorf("the check of %s on %s was denied", principal, uri)
	}
	return err
}

// A load is calls of several callers, each one after the other.
type load struct {
	callers int
	during  time.Duration
	pause   time.Duration // of a caller after a call
}

// drive makes the calls and returns how long each took, and how many there were a
// second.
func (l load) drive(ctx context.Context, call func(ctx context.Context, caller, i int) error) (latencies, float64, error) {
	took := make([]latencies, l.callers)
	started := time.Now()
	err := parallel(ctx, l.callers, func(ctx context.Context, caller int) error {
		for i, sent := 0, time.Now(); sent.Sub(started) < l.during; i++ {
			if err := call(ctx, caller, i); err != nil {
				return err
			}
			done := time.Now()
			took[caller] = append(took[caller], done.Sub(sent))
			if sent = done; l.pause > 0 {
				if err := sleep(ctx, l.pause); err != nil {
					return err
				}
				sent = time.Now()
			}
		}
		return nil
	})
	elapsed := time.Since(started)
	var all latencies
	for _, some := range took {
		all = append(all, some...)
	}
	return all.sorted(), float64(len(all)) / elapsed.Seconds(), err
}

// parallel runs a function as so many callers; the first error ends them all.
func parallel(ctx context.Context, callers int, run func(ctx context.Context, caller int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			if err := run(ctx, caller); err != nil {
				stop(err) // the first one counts
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
