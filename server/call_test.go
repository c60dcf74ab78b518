package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func TestAuthentication(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		authorization := func(values ...string) context.Context {
			ctx := t.Context()
			for _, v := range values {
				ctx = metadata.AppendToOutgoingContext(ctx, metadataAuthorization, v)
			}
			return ctx
		}
		for _, good := range []string{"Bearer " + rootKey, "bearer " + rootKey, "BEARER " + rootKey} {
			if _, err := d.call(authorization(good), reads()[0]); err != nil {
				t.Errorf("%q: %v", good, err)
			}
		}
		const wrong = KeyPrefix + "wrong-secret-9876543210"
		for name, values := range map[string][]string{
			"none": nil, "no scheme": {rootKey}, "another scheme": {"Basic " + rootKey}, "no key": {"Bearer"}, "empty key": {"Bearer "},
			"wrong key": {"Bearer " + wrong}, "cut off": {"Bearer " + rootKey[:len(rootKey)-1]}, "longer": {"Bearer " + rootKey + "0"},
			"upper case": {"Bearer " + strings.ToUpper(rootKey)}, "two keys in one": {"Bearer " + rootKey + ", Bearer " + rootKey},
			"two spaces": {"Bearer  " + rootKey}, "glued": {"Bearer" + rootKey}, "the hash": {fmt.Sprintf("Bearer %x", d.init.KeyHash)},
		} {
			for _, req := range everyRequest() {
				d.refuse(t, authorization(values...), req, codes.Unauthenticated)
				_, err := d.call(authorization(values...), req)
				if err == nil || strings.Contains(err.Error(), "secret-98765") || !strings.Contains(err.Error(), "key") && !strings.Contains(err.Error(), "Bearer") {
					t.Errorf("%s: message %v", name, err)
				}
			}
		}
		// Two of them are refused, whichever is right.
		for _, values := range [][]string{{"Bearer " + rootKey, "Bearer " + rootKey}, {"Bearer " + rootKey, "Bearer " + wrong}, {"", "Bearer " + rootKey}} {
			code := codes.Unauthenticated
			if d.isREST {
				code = codes.InvalidArgument
			}
			d.refuse(t, authorization(values...), reads()[0], code)
		}
		// Who is not known learns nothing of what is there.
		unknown := with(reads()[0], "project_name", "nope")
		_, here := d.call(authorization("Bearer "+wrong), reads()[0])
		_, there := d.call(authorization("Bearer "+wrong), unknown)
		if here.Error() != there.Error() {
			t.Errorf("%v differs from %v", here, there)
		}
	})
}

// Every call is refused until the node has heard from the leader, and none is
// answered with nothing while that happens.
func TestNotReady(t *testing.T) {
	for _, service := range []string{serviceName, publishedName, "REST"} {
		d := newNode(t).door(service)
		for _, req := range everyRequest() {
			d.refuse(t, d.ctx, req, codes.Unavailable, "not ready")
			d.refuse(t, t.Context(), req, codes.Unavailable, "not ready")
		}
		if err := d.server.Ready(); err == nil {
			t.Error("the server says that it is ready")
		}
		d.ready().door(service).sample()
	}
}

func TestBecomingReady(t *testing.T) {
	n := newNode(t)
	info := &grpc.UnaryServerInfo{FullMethod: permissionsv1.PermissionsService_Check_FullMethodName}
	handler := func(context.Context, any) (any, error) { return "answer", nil }
	for range 2000 {
		n.server.fresh.newest.Store(0)
		var together sync.WaitGroup
		together.Go(func() { n.server.fresh.newest.Store(1) })
		for range 3 {
			together.Go(func() {
				if resp, err := n.server.Interceptor(context.Background(), &permissionsv1.CheckPermissionRequest{}, info, handler); resp != nil || err == nil {
					t.Errorf("a call without a key was answered with %v, %v", resp, err)
				}
			})
		}
		together.Wait()
	}
}

func TestHealthAndReflectionNeedNoKey(t *testing.T) {
	n := newNode(t)
	conn := n.listen()
	client := healthpb.NewHealthClient(conn)
	healthOf := func(service string) healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		resp, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status
	}
	services := []string{"", serviceName, publishedName, organisationService, publishedPrefix + organisationService}
	for _, service := range services {
		if got := healthOf(service); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("%q is %v before the server is ready", service, got)
		}
	}
	n.run()
	for _, service := range services {
		await(t, service+" serves", func() bool { return healthOf(service) == healthpb.HealthCheckResponse_SERVING })
	}
	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: serviceName})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("watch: %v, %v", got, err)
	}

	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{ListServices: "*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		listed = append(listed, s.Name)
	}
	for _, service := range services[1:] {
		if !slices.Contains(listed, service) {
			t.Errorf("reflection does not list %s: %q", service, listed)
		}
	}

	// Draining turns away those who look, and answers those who call.
	n.server.Drain()
	if err := n.server.Ready(); err == nil || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("ready while draining: %v", err)
	}
	if got, err := watch.Recv(); err != nil || got.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch: %v, %v", got, err)
	}
	for _, service := range services {
		if got := healthOf(service); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("%q is %v while draining", service, got)
		}
	}
	// Whoever gives up leaving does not take back that the node ends.
	n.server.Drain()
	n.server.Resume()
	if got := healthOf(serviceName); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("a draining server came to serve: %v", got)
	}
	n.door(serviceName).sample()
	n.server.Resume()
	if got := healthOf(serviceName); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("a server that drains no more is %v", got)
	}
}

// A method without a row in the table is denied to everyone, the root key
// included, and a stream too.
func TestUnlistedMethods(t *testing.T) {
	called := false
	handler := func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		req := new(permissionsv1.CheckPermissionRequest)
		if err := decode(req); err != nil {
			return nil, err
		}
		return interceptor(ctx, req, &grpc.UnaryServerInfo{FullMethod: "/fake.v1.FakeService/Do"}, func(context.Context, any) (any, error) {
			called = true
			return &permissionsv1.CheckPermissionResponse{}, nil
		})
	}
	desc := &grpc.ServiceDesc{
		ServiceName: "fake.v1.FakeService",
		Methods:     []grpc.MethodDesc{{MethodName: "Do", Handler: handler}},
		Streams: []grpc.StreamDesc{{StreamName: "Flow", ServerStreams: true, Handler: func(any, grpc.ServerStream) error {
			called = true
			return nil
		}}},
	}
	n := newNode(t).run()
	n.local.RegisterService(desc, nil)
	conn := n.listen(func(s *grpc.Server) { s.RegisterService(desc, nil) })
	for _, c := range []grpc.ClientConnInterface{conn, n.local} {
		err := c.Invoke(withKey(t.Context()), "/fake.v1.FakeService/Do", &permissionsv1.CheckPermissionRequest{}, &permissionsv1.CheckPermissionResponse{})
		wantCode(t, err, codes.PermissionDenied, "/fake.v1.FakeService/Do")
		err = c.Invoke(t.Context(), "/fake.v1.FakeService/Do", &permissionsv1.CheckPermissionRequest{}, &permissionsv1.CheckPermissionResponse{})
		wantCode(t, err, codes.Unauthenticated)
	}
	stream, err := conn.NewStream(withKey(t.Context()), &desc.Streams[0], "/fake.v1.FakeService/Flow")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, stream.RecvMsg(&permissionsv1.CheckPermissionResponse{}), codes.PermissionDenied, "/fake.v1.FakeService/Flow")
	if called {
		t.Error("an unlisted method ran")
	}
	err = conn.Invoke(withKey(t.Context()), "/"+serviceName+"/Nope", &permissionsv1.CheckPermissionRequest{}, &permissionsv1.CheckPermissionResponse{})
	wantCode(t, err, codes.Unimplemented, "Nope")
}

// A key whose organisation went is as good as none.
func TestKeyWithoutOrganisation(t *testing.T) {
	n := newNode(t)
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(metadataAuthorization, "Bearer "+rootKey))
	hash, err := hashOf(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := callWith(hash, n.store.State())
	if err != nil || c.key.Hash != sha256.Sum256([]byte(rootKey)) || c.organisation.ID != n.init.Organisation {
		t.Fatalf("%v, %v", c, err)
	}
	_, err = callWith(hash, &fsm.State{})
	wantCode(t, err, codes.Unauthenticated)
}
