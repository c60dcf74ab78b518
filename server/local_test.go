package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A checker is a service with one method that tests write.
type checker struct {
	permissionsv1.UnimplementedPermissionsServiceServer
	check func(context.Context, *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error)
}

func (c *checker) Check(ctx context.Context, req *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
	return c.check(ctx, req)
}

const checkMethod = permissionsv1.PermissionsService_Check_FullMethodName

// localTo returns a connection to a service whose checks the function answers.
func localTo(check func(context.Context, *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error)) *Local {
	l := NewLocal(nil)
	permissionsv1.RegisterPermissionsServiceServer(l, &checker{check: check})
	return l
}

func TestLocalCopies(t *testing.T) {
	var kept *permissionsv1.CheckPermissionRequest
	answer := &permissionsv1.CheckPermissionResponse{MissingPermissions: []*permissionsv1.MissingPermission{{ResourceUri: "/a"}}}
	l := localTo(func(_ context.Context, req *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
		kept = req
		req.PrincipalId, req.ResourceUris[0] = "changed", "/changed"
		return answer, nil
	})
	req := &permissionsv1.CheckPermissionRequest{PrincipalId: "anna", ResourceUris: []string{"/a"}}
	reply := &permissionsv1.CheckPermissionResponse{}
	if err := l.Invoke(t.Context(), checkMethod, req, reply); err != nil {
		t.Fatal(err)
	}
	if kept == req || req.PrincipalId != "anna" || req.ResourceUris[0] != "/a" {
		t.Errorf("the handler changed the caller's request: %v", req)
	}
	answer.MissingPermissions[0].ResourceUri = "/changed"
	if reply.MissingPermissions[0].ResourceUri != "/a" {
		t.Errorf("the handler changed the caller's answer: %v", reply)
	}
}

func TestLocalMetadata(t *testing.T) {
	l := localTo(func(ctx context.Context, _ *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
		in, _ := metadata.FromIncomingContext(ctx)
		if method, ok := grpc.Method(ctx); !ok || method != checkMethod {
			t.Errorf("method %q", method)
		}
		if p, ok := peer.FromContext(ctx); !ok || p.LocalAddr != nil {
			t.Errorf("peer %v", p)
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the deadline is lost")
		}
		for _, err := range []error{
			grpc.SetHeader(ctx, metadata.Pairs("a", in.Get("who")[0])), grpc.SetHeader(ctx, metadata.Pairs("a", "2", "b", "3")),
			grpc.SendHeader(ctx, metadata.Pairs("c", "4")), grpc.SetTrailer(ctx, metadata.Pairs("t", "5")),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		if len(in.Get("secret")) > 0 {
			t.Error("metadata of the caller's own call came through")
		}
		return nil, status.Error(codes.NotFound, "gone")
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("secret", "x"))
	ctx = metadata.AppendToOutgoingContext(peer.NewContext(ctx, &peer.Peer{}), "Who", "anna")
	var header, trailer metadata.MD
	err := l.Invoke(ctx, checkMethod, &permissionsv1.CheckPermissionRequest{}, &permissionsv1.CheckPermissionResponse{},
		grpc.Header(&header), grpc.Trailer(&trailer), grpc.WaitForReady(true))
	wantCode(t, err, codes.NotFound, "gone")
	wantStrings(t, "header a", header.Get("a"), "anna", "2")
	wantStrings(t, "header b", header.Get("b"), "3")
	wantStrings(t, "header c", header.Get("c"), "4")
	wantStrings(t, "trailer", trailer.Get("t"), "5")
}

func TestLocalUnknown(t *testing.T) {
	l := NewLocal(nil)
	newNode(t).server.Register(l)
	for _, method := range []string{"/permissions.v1.PermissionsService/Nope", "/nope.v1.PermissionsService/Check", checkMethod[1:], "", "/"} {
		err := l.Invoke(t.Context(), method, &permissionsv1.CheckPermissionRequest{}, &permissionsv1.CheckPermissionResponse{})
		wantCode(t, err, codes.Unimplemented, method)
	}
	_, err := l.NewStream(t.Context(), &grpc.StreamDesc{}, "/grpc.health.v1.Health/Watch")
	wantCode(t, err, codes.Unimplemented, "Watch")
}

// Every answer repeats its token as a header, and says which node and revision it
// is of; a refusal does, too.
func TestLocalToken(t *testing.T) {
	d := newNode(t).ready().localDoor()
	for _, req := range everyRequest() {
		d.sample()
		var header metadata.MD
		answer, err := d.call(d.ctx, req, grpc.Header(&header))
		if err != nil {
			t.Fatalf("%T: %v", req, err)
		}
		name, text := string(methodFor(req).Name()), answer.(interface{ GetToken() string }).GetToken()
		wantStrings(t, name, header.Get(metadataToken), text)
		wantStrings(t, name, header.Get(metadataNode), d.cluster.ID())
		of, _ := parseToken(text)
		wantStrings(t, name, header.Get(metadataRevision), fmt.Sprint(of.revision))
		if _, err := d.call(d.ctx, with(req, "project_name", "nope"), grpc.Header(&header)); err == nil {
			t.Errorf("%T: a project that does not exist", req)
		}
		wantStrings(t, name, header.Get(metadataNode), d.cluster.ID())
		wantStrings(t, name, header.Get(metadataRevision), fmt.Sprint(d.store.State().Revision))
	}
	var header metadata.MD
	if _, err := d.call(t.Context(), reads()[0], grpc.Header(&header)); err == nil {
		t.Error("no key is needed")
	}
	wantStrings(t, "a stranger's answer", header.Get(metadataNode), d.cluster.ID())
	if len(header) != 1 {
		t.Errorf("a stranger is told %v", header)
	}
}

func TestErrors(t *testing.T) {
	refusal := &fsm.Error{Code: fsm.CodeAlreadyExists, Message: "it exists"}
	for _, test := range []struct {
		err     error
		code    codes.Code
		message string
	}{
		{refusal, codes.AlreadyExists, "it exists"},
		{fmt.Errorf("while writing: %w", refusal), codes.AlreadyExists, "it exists"},
		{&fsm.Error{Code: fsm.CodeInvalidArgument}, codes.InvalidArgument, ""},
		{&fsm.Error{Code: fsm.CodeNotFound}, codes.NotFound, ""},
		{&fsm.Error{Code: fsm.CodeResourceExhausted}, codes.ResourceExhausted, ""},
		{&fsm.Error{Code: fsm.CodeUnavailable}, codes.Unavailable, ""},
		{notFound("no %s", "role"), codes.NotFound, "no role"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		{fmt.Errorf("waiting: %w", context.Canceled), codes.Canceled, "waiting"},
		{errors.New("broken"), codes.Internal, "broken"},
	} {
		wantCode(t, statusOf(test.err), test.code, test.message)
		n := newNode(t).ready()
		l := NewLocal(n.server.LocalInterceptor)
		permissionsv1.RegisterPermissionsServiceServer(l, &checker{
			check: func(context.Context, *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
				return nil, test.err
			},
		})
		reply := &permissionsv1.CheckPermissionResponse{}
		err := l.Invoke(withKey(t.Context()), checkMethod, &permissionsv1.CheckPermissionRequest{}, reply)
		wantCode(t, err, test.code, test.message)
		if _, isStatus := status.FromError(err); !isStatus || !proto.Equal(reply, &permissionsv1.CheckPermissionResponse{}) {
			t.Errorf("%v with reply %v", err, reply)
		}
	}
	if err := statusOf(nil); err != nil {
		t.Error(err)
	}
}

func TestMethodOf(t *testing.T) {
	for full, want := range map[string]string{
		"/permissions.v1.PermissionsService/Check":        "PermissionsService/Check",
		"/permio.permissions.v1.PermissionsService/Check": "PermissionsService/Check",
		"/Health/Check":                      "Health/Check",
		"/a.PermissionsService/Check/Health": "PermissionsService/Check/Health",
		"/x.Health/y.Check":                  "Health/y.Check",
		"nothing":                            "nothing",
		"":                                   "",
		"/":                                  "",
	} {
		if got := methodOf(full); got != want {
			t.Errorf("%q: got %q, want %q", full, got, want)
		}
	}
}
