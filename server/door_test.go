package server

import (
	"context"
	"iter"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permioorganisationv1 "github.com/remit-io/remit/proto/permio/organisation/v1"
	permiov1 "github.com/remit-io/remit/proto/permio/permissions/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A door is one way to call a node.
type door struct {
	*node
	permissionsv1.PermissionsServiceClient
	organisationv1.OrganisationServiceClient
	conn   grpc.ClientConnInterface
	prefix string // of the name of each service
	isREST bool
	ctx    context.Context // carries the key
}

const (
	serviceName         = "permissions.v1.PermissionsService"
	organisationService = "organisation.v1.OrganisationService"
	publishedPrefix     = "permio."
	publishedName       = publishedPrefix + serviceName
)

// everyDoor runs a test over gRPC, under both names of the services, and over
// REST, each on a node of its own.
func everyDoor(t *testing.T, test func(t *testing.T, d *door)) {
	for _, service := range []string{serviceName, publishedName, "REST"} {
		t.Run(service, func(t *testing.T) { test(t, newNode(t).run().door(service)) })
	}
}

func (n *node) door(service string) *door {
	n.t.Helper()
	d := &door{node: n, ctx: withKey(n.t.Context())}
	switch service {
	case "local":
		d.conn = n.local
	case "REST":
		d.isREST, d.conn = true, newRESTConn(n)
	case publishedName:
		d.prefix, d.conn = publishedPrefix, n.listen()
		d.PermissionsServiceClient = permiov1.NewPermissionsServiceClient(d.conn)
		d.OrganisationServiceClient = permioorganisationv1.NewOrganisationServiceClient(d.conn)
		return d
	default:
		d.conn = n.listen()
	}
	return d.withClients()
}

// localDoor calls the node within the process.
func (n *node) localDoor() *door {
	return n.door("local")
}

func (d *door) withClients() *door {
	d.PermissionsServiceClient = permissionsv1.NewPermissionsServiceClient(d.conn)
	d.OrganisationServiceClient = organisationv1.NewOrganisationServiceClient(d.conn)
	return d
}

// withKey adds the root key and other metadata to a context.
func withKey(ctx context.Context, pairs ...string) context.Context {
	return withSecret(ctx, rootKey, pairs...)
}

func withSecret(ctx context.Context, secret string, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, append([]string{metadataAuthorization, "Bearer " + secret}, pairs...)...)
}

// services are those of the API that people and programs call; operators' own is
// another matter.
func services() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{
		permissionsv1.File_proto_permissions_v1_permissions_service_proto.Services().Get(0),
		organisationv1.File_proto_organisation_v1_organisation_service_proto.Services().Get(0),
	}
}

// methods yields those of both services.
func methods() iter.Seq[protoreflect.MethodDescriptor] {
	return func(yield func(protoreflect.MethodDescriptor) bool) {
		for _, s := range services() {
			for i := range s.Methods().Len() {
				if !yield(s.Methods().Get(i)) {
					return
				}
			}
		}
	}
}

// methodFor returns the method that takes the request.
func methodFor(req proto.Message) protoreflect.MethodDescriptor {
	for m := range methods() {
		if m.Input() == req.ProtoReflect().Descriptor() {
			return m
		}
	}
	panic("no method takes " + string(req.ProtoReflect().Descriptor().FullName()))
}

// newRequest returns an empty request of the method.
func newRequest(m protoreflect.MethodDescriptor) proto.Message { return newMessage(m.Input()) }

// newMessage returns an empty message.
func newMessage(m protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.FullName())
	if err != nil {
		panic(err)
	}
	return kind.New().Interface()
}

// path is the full name of the method that takes the request.
func (d *door) path(req proto.Message) string { return d.fullName(methodFor(req)) }

func (d *door) fullName(m protoreflect.MethodDescriptor) string {
	return "/" + d.prefix + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// call makes the one call that takes the request.
func (d *door) call(ctx context.Context, req proto.Message, opts ...grpc.CallOption) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(methodFor(req).Output().FullName())
	if err != nil {
		panic(err)
	}
	reply := kind.New().Interface()
	err = d.conn.Invoke(ctx, d.path(req), req, reply, opts...)
	return reply, err
}

// do makes a call that has to succeed.
func do[Q proto.Message, A any](d *door, call func(context.Context, Q, ...grpc.CallOption) (A, error), req Q) A {
	d.t.Helper()
	answer, err := call(d.ctx, req)
	if err != nil {
		d.t.Fatalf("%T %v: %v", req, req, err)
	}
	return answer
}

// refuse makes a call that has to fail and to leave the state as it was.
func (d *door) refuse(t testing.TB, ctx context.Context, req proto.Message, code codes.Code, names ...string) {
	t.Helper()
	before := digestOf(d.store.State())
	_, err := d.call(ctx, req)
	wantCode(t, err, code, names...)
	if digestOf(d.store.State()) != before {
		t.Errorf("%T was refused and changed the state", req)
	}
}

// permission, role, grant and check are the calls that other tests stand on.
func (d *door) permission(name string) string {
	d.t.Helper()
	return do(d, d.CreatePermission, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name}).Id
}

func (d *door) role(name string, permissions ...string) string {
	d.t.Helper()
	return do(d, d.CreateRole, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: name, Permissions: permissions}).Id
}

func (d *door) grant(user, uri string, permissions, roles []string) string {
	d.t.Helper()
	return do(d, d.GrantUserPermissionsAndRolesOnResource, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
	}).Token
}

func (d *door) revoke(user, uri string, permissions, roles []string) string {
	d.t.Helper()
	return do(d, d.RevokeUserPermissionsAndRolesOnResource, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
	}).Token
}

func (d *door) allowed(user, uri string, permissions ...string) bool {
	d.t.Helper()
	return do(d, d.Check, &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: user, ResourceUris: []string{uri}, Permissions: permissions,
	}).Passed
}
