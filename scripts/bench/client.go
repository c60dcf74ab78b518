package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A client calls one of the two servers. There is nothing in it that knows which.
type client struct {
	key   string
	conns []*grpc.ClientConn
}

func dial(addr, key string, s settings) (*client, error) {
	c := &client{key: key}
	for range s.connections {
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

// service returns the service by one of the connections, and a context with the
// key for its calls.
func (c *client) service(ctx context.Context, caller int) (context.Context, permissionsv1.PermissionsServiceClient) {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key)
	return ctx, permissionsv1.NewPermissionsServiceClient(c.conns[caller%len(c.conns)])
}

func (c *client) check(ctx context.Context, request *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
	ctx, service := c.service(ctx, 0)
	answer, err := service.Check(ctx, request)
	if err == nil && !answer.GetPassed() {
		err = fmt.Errorf("the check of %v was denied", request)
	}
	return answer, err
}

// drive makes calls for a while, each caller one after the other, and returns how
// many there were a second and how long each took.
func (c *client) drive(ctx context.Context, requests []*permissionsv1.CheckPermissionRequest, s settings) (float64, []time.Duration, error) {
	took := make([][]time.Duration, s.callers)
	started := time.Now()
	err := parallel(s.callers, func(caller int) error {
		ctx, service := c.service(ctx, caller)
		all := make([]time.Duration, 0, 1<<16)
		defer func() { took[caller] = all }()
		for i, sent := caller, time.Now(); sent.Sub(started) < s.side; i++ {
			answer, err := service.Check(ctx, requests[i*7919%len(requests)])
			if err != nil {
				return err
			}
			if !answer.GetPassed() {
				return errors.New("a check was denied")
			}
			done := time.Now()
			all = append(all, done.Sub(sent))
			sent = done
		}
		return nil
	})
	elapsed := time.Since(started)
	var latencies []time.Duration
	for _, all := range took {
		latencies = append(latencies, all...)
	}
	return float64(len(latencies)) / elapsed.Seconds(), latencies, err
}

// parallel runs a function as so many callers and returns the first error.
func parallel(callers int, run func(caller int) error) error {
	var (
		running sync.WaitGroup
		failed  atomic.Pointer[error]
	)
	for caller := range callers {
		running.Go(func() {
			if err := run(caller); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
