package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Strangers hold a bounded part of the node's memory: so many calls without their
// message, and no long names.
func TestPublicCallsAreBounded(t *testing.T) {
	n := newNode(t).run()
	conn := n.listen()
	watch := &grpc.StreamDesc{ServerStreams: true}
	const method = "/grpc.health.v1.Health/Watch"
	taken := func() int { return len(n.server.publicReceives) }

	// Streams whose first message does not come take all the places there are.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxPublicReceives {
		if _, err := conn.NewStream(ctx, watch, method); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "every place is taken", func() bool { return taken() == maxPublicReceives })
	_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	// A key's calls do not wait for strangers.
	d := n.localDoor()
	d.conn = conn
	d.permission("read")

	cancel()
	await(t, "every place is free", func() bool { return taken() == 0 })
	for range 3 * maxPublicReceives {
		if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "answered calls hold no place", func() bool { return taken() == 0 })

	// Who waits for news holds none either.
	for range 2 * maxPublicReceives {
		stream, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if taken() != 0 {
		t.Errorf("%d places are taken by streams that were received", taken())
	}
	stream, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 1<<20)})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a long name: %v", err)
	}
}

// A message that does not come in time ends its call.
func TestPublicCallsEnd(t *testing.T) {
	n := newNode(t)
	ctx, err := n.server.receivePublic(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(n.server.publicReceives) != 1 {
		t.Error("no place is taken")
	}
	received(ctx)
	received(ctx)
	if len(n.server.publicReceives) != 0 || ctx.Err() != nil {
		t.Errorf("%d places are taken, %v", len(n.server.publicReceives), ctx.Err())
	}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		t.Error("a call that was received has ended")
	}
}
