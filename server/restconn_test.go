package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/remit-io/remit/server/rest"
)

// routes are the paths of the calls. What is not in the path goes into the body
// or, with GET and DELETE, into the query.
var routes = map[string]struct{ verb, path string }{
	"CreatePermission":                       {"POST", "/permissions"},
	"GetPermission":                          {"GET", "/permissions/{name}"},
	"UpdatePermission":                       {"PUT", "/permissions/{name}"},
	"DeletePermission":                       {"DELETE", "/permissions/{name}"},
	"ListPermissions":                        {"GET", "/permissions"},
	"CreateRole":                             {"POST", "/roles"},
	"GetRole":                                {"GET", "/roles/{id}"},
	"UpdateRole":                             {"PUT", "/roles/{id}"},
	"DeleteRole":                             {"DELETE", "/roles/{id}"},
	"ListRoles":                              {"GET", "/roles"},
	"GrantUserPermissionsAndRolesOnResource": {"POST", "/permissions/assign"},
	"RevokeUserPermissionsAndRolesOnResource": {"POST", "/permissions/revoke"},
	"GetUserPermissionsAndRolesOnResource":    {"GET", "/permissions/user/{user_id}/resource/{resource_uri}"},
	"ListPrincipals":                          {"GET", "/permissions/principals"},
	"GetAllAssignmentsForPrincipal":           {"GET", "/permissions/assignments/principal/{principal_id}"},
	"Check":                                   {"POST", "/permissions/check"},

	"CreateOrganisation":         {"POST", "/organisation"},
	"GetOrganisation":            {"GET", "/organisation/{id}"},
	"ListOrganisations":          {"GET", "/organisation"},
	"UpdateOrganisation":         {"PUT", "/organisation/{id}"},
	"DeleteOrganisation":         {"DELETE", "/organisation/{id}"},
	"CreateProject":              {"POST", "/organisation/{organisation_id}/project"},
	"GetProject":                 {"GET", "/organisation/{organisation_id}/project"},
	"GetProjectsForOrganisation": {"GET", "/organisation/{organisation_id}/projects"},
	"DeleteProject":              {"DELETE", "/organisation/{organisation_id}/project"},
	"CreateAPIKey":               {"POST", "/organisation/{organisation_id}/api-key"},
	"ListAPIKeys":                {"GET", "/organisation/{organisation_id}/api-key"},
	"InvalidateAPIKey":           {"DELETE", "/organisation/{organisation_id}/api-key/{id}"},
	"WhoAmI":                     {"GET", "/whoami"},
}

// bases begin the paths of each service's calls.
var bases = map[string]string{
	"PermissionsService":  "/permissions-service/v1",
	"OrganisationService": "/organisation-service/v1",
}

// httpStatuses are the statuses that codes have over HTTP.
var httpStatuses = map[codes.Code]int{
	codes.InvalidArgument: 400, codes.Unauthenticated: 401, codes.PermissionDenied: 403, codes.NotFound: 404,
	codes.AlreadyExists: 409, codes.ResourceExhausted: 429, codes.Unavailable: 503,
}

// A restConn makes gRPC calls by HTTP requests, as a client of the REST API
// would, so that the same tests run over both.
type restConn struct {
	t       testing.TB
	handler http.Handler
}

func newRESTConn(n *node) *restConn {
	return &restConn{n.t, rest.Handler(n.local, n.server.Admit, n.cluster.ID())}
}

func (c *restConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.t.Helper()
	r, err := requestFor(ctx, method, args.(proto.Message))
	if err != nil {
		return err
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	for _, o := range opts {
		if o, ok := o.(grpc.HeaderCallOption); ok {
			*o.HeaderAddr = metadata.MD{}
			for name, values := range w.Header() {
				o.HeaderAddr.Append(name, values...)
			}
		}
	}
	if w.Header().Get("Remit-Node") == "" {
		c.t.Errorf("status %d names no node", w.Code)
	}
	if w.Code == http.StatusOK {
		if w.Header().Get("Remit-Revision") == "" {
			c.t.Error("the answer names no revision")
		}
		if token := w.Header().Get("Remit-Token"); token == "" || !strings.Contains(w.Body.String(), token) {
			c.t.Errorf("the header says token %q, the body %s", token, w.Body)
		}
		return protojson.Unmarshal(w.Body.Bytes(), reply.(proto.Message))
	}
	var body struct {
		Error struct {
			Code    codes.Code
			Message string
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		return fmt.Errorf("HTTP status %d with %q: %w", w.Code, w.Body, err)
	}
	if httpStatuses[body.Error.Code] != w.Code {
		c.t.Errorf("HTTP status %d with code %v", w.Code, body.Error.Code)
	}
	return status.Error(body.Error.Code, body.Error.Message)
}

func (*restConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "REST has no streams")
}

// requestFor words a call as an HTTP request.
func requestFor(ctx context.Context, method string, args proto.Message) (*http.Request, error) {
	service, name, _ := strings.Cut(methodOf(method), "/")
	route := routes[name]
	path, query := route.path, url.Values{}
	rest := proto.Clone(args)
	args.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := string(field.Name())
		variable := "{" + name + "}"
		if strings.Contains(path, variable) {
			path = strings.Replace(path, variable, url.PathEscape(value.String()), 1)
			rest.ProtoReflect().Clear(field)
			return true
		}
		if field.Message() == nil {
			query.Set(name, text(field, value))
			return true
		}
		value.Message().Range(func(inner protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			query.Set(string(inner.Name()), text(inner, value))
			return true
		})
		return true
	})
	for _, variable := range []string{"{name}", "{id}", "{user_id}", "{resource_uri}", "{principal_id}", "{organisation_id}"} {
		path = strings.Replace(path, variable, "", 1)
	}
	target := bases[service] + path
	var body []byte
	if route.verb == "POST" || route.verb == "PUT" {
		var err error
		if body, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(rest); err != nil {
			return nil, err
		}
	} else if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r := httptest.NewRequestWithContext(ctx, route.verb, target, bytes.NewReader(body))
	sent, _ := metadata.FromOutgoingContext(ctx)
	for name, values := range sent {
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	return r, nil
}

func text(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	if field.Enum() != nil {
		if v := field.Enum().Values().ByNumber(value.Enum()); v != nil {
			return string(v.Name())
		}
	}
	return value.String()
}
