package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// connections is how many of them the callers of a node share.
const connections = 4

// A client calls a node.
type client struct {
	root  string // the node's root key
	conns []*grpc.ClientConn
	turn  atomic.Int64
}

func dial(addr, root string) (*client, error) {
	c := &client{root: root}
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

func (c *client) conn() *grpc.ClientConn {
	return c.conns[int(c.turn.Add(1))%len(c.conns)]
}

func (c *client) organisations() organisationv1.OrganisationServiceClient {
	return organisationv1.NewOrganisationServiceClient(c.conn())
}

func (c *client) permissions() permissionsv1.PermissionsServiceClient {
	return permissionsv1.NewPermissionsServiceClient(c.conn())
}

// as returns a context for calls with a key.
func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// litter makes the node allocate what it drops at once: the answer to a question
// about many resources, of which none may be read.
func (c *client) litter(ctx context.Context) error {
	request := &permissionsv1.CheckPermissionRequest{ProjectName: bootstrapProject, PrincipalId: "nobody", Permissions: []string{permission}}
	for i := range 1000 {
		request.ResourceUris = append(request.ResourceUris, fmt.Sprintf("/litter/%d", i))
	}
	_, err := c.permissions().Check(as(ctx, c.root), request)
	return err
}

// each runs a function for every number below count, so many callers at a time,
// until one fails.
func each(ctx context.Context, callers, count int, run func(ctx context.Context, i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		running sync.WaitGroup
		next    atomic.Int64
	)
	for range min(callers, count) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := run(ctx, i); err != nil {
					stop(err) // the first one counts
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// revisionOf reads the revision in a token. Tokens are opaque to clients of the
// API; here they tell how many commands the sweeps put between two writes.
func revisionOf(token string) (uint64, error) {
	const place = 1 + 16 + 16 // behind the version, the cluster and the epoch
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < place+8 {
		return 0, fmt.Errorf("the token %q has no revision where it was", token)
	}
	return binary.BigEndian.Uint64(b[place:]), nil
}
