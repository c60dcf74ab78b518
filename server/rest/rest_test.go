package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"github.com/remit-io/remit/server/rest"
)

// base and organisations are what the paths of the two services begin with.
const (
	base          = "/permissions-service/v1"
	organisations = "/organisation-service/v1"
)

// A call is what reached the other side of a fakeConn.
type call struct {
	method  string
	request proto.Message
	md      metadata.MD
	peer    string
}

// A fakeConn keeps the calls made on it and answers them all alike.
type fakeConn struct {
	mu     sync.Mutex
	calls  []call
	reply  proto.Message // merged into replies of its type
	header metadata.MD
	err    error
}

func (c *fakeConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	request := args.(proto.Message)
	// What a real connection could not send is a fault of the handler's.
	if _, err := proto.Marshal(request); err != nil {
		return err
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	got := call{method: method, request: proto.Clone(request), md: md}
	if p, ok := peer.FromContext(ctx); ok {
		got.peer = p.Addr.String()
	}
	c.calls = append(c.calls, got)
	for _, opt := range opts {
		if o, ok := opt.(grpc.HeaderCallOption); ok {
			*o.HeaderAddr = c.header
		}
	}
	if c.reply != nil && c.err == nil {
		proto.Merge(reply.(proto.Message), c.reply)
	}
	return c.err
}

func (*fakeConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

// only answers the one call that was made.
func (c *fakeConn) only(t *testing.T) call {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 1 {
		t.Fatalf("%d calls were made, want 1", len(c.calls))
	}
	return c.calls[0]
}

// send lets the handler answer one request. A body of "" is none.
func send(conn *fakeConn, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	rest.Handler(conn, nil, "").ServeHTTP(w, r)
	return w
}

// wantError checks an error's status and code and what its message names.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status, code int, names ...string) {
	t.Helper()
	var body struct {
		Error *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error == nil {
		t.Fatalf("status %d, body is no error: %q (%v)", w.Code, w.Body, err)
	}
	if w.Code != status || body.Error.Code != code {
		t.Errorf("status %d code %d, want %d and %d: %s", w.Code, body.Error.Code, status, code, body.Error.Message)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	for _, name := range names {
		if !strings.Contains(body.Error.Message, name) {
			t.Errorf("message %q does not name %q", body.Error.Message, name)
		}
	}
}

// wantCall checks which method was called with which request.
func wantCall(t *testing.T, conn *fakeConn, w *httptest.ResponseRecorder, method string, request proto.Message) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	got := conn.only(t)
	service := request.ProtoReflect().Descriptor().ParentFile().Services().Get(0)
	if want := fmt.Sprintf("/%s/%s", service.FullName(), method); got.method != want {
		t.Errorf("called %s, want %s", got.method, want)
	}
	if !proto.Equal(got.request, request) {
		t.Errorf("request\n got %v\nwant %v", got.request, request)
	}
}

// TestDocument sends the curl commands of the API's documentation.
func TestDocument(t *testing.T) {
	page := func(limit int32, cursor string) *paginationv1.PaginationRequest {
		p := &paginationv1.PaginationRequest{Limit: proto.Int32(limit)}
		if cursor != "" {
			p.Cursor = proto.String(cursor)
		}
		return p
	}
	tests := []struct {
		method, target, body string
		rpc                  string
		request              proto.Message
	}{
		{"POST", "/permissions", `{
			"project_name": "production",
			"name": "document.read",
			"description": "Allows reading documents"
		}`, "CreatePermission", &permissionsv1.CreatePermissionRequest{
			ProjectName: "production", Name: "document.read", Description: "Allows reading documents"}},
		{"GET", "/permissions/document.read?project_name=production", "",
			"GetPermission", &permissionsv1.GetPermissionRequest{ProjectName: "production", Name: "document.read"}},
		{"PUT", "/permissions/document.view", `{
			"project_name": "production",
			"new_name": "document.read",
			"description": "Updated description for reading documents"
		}`, "UpdatePermission", &permissionsv1.UpdatePermissionRequest{
			ProjectName: "production", Name: "document.view", NewName: "document.read",
			Description: "Updated description for reading documents"}},
		{"DELETE", "/permissions/document.read?project_name=production", "",
			"DeletePermission", &permissionsv1.DeletePermissionRequest{ProjectName: "production", Name: "document.read"}},
		{"GET", "/permissions?project_name=production&limit=10&cursor=abc123&search=document", "",
			"ListPermissions", &permissionsv1.ListPermissionsRequest{
				ProjectName: "production", Pagination: page(10, "abc123"), Search: proto.String("document")}},
		{"POST", "/roles", `{
			"project_name": "production",
			"name": "document_editor",
			"description": "Can read and write documents",
			"permissions": ["document.read", "document.write"]
		}`, "CreateRole", &permissionsv1.CreateRoleRequest{
			ProjectName: "production", Name: "document_editor", Description: "Can read and write documents",
			Permissions: []string{"document.read", "document.write"}}},
		{"GET", "/roles/role_456?project_name=production", "",
			"GetRole", &permissionsv1.GetRoleRequest{ProjectName: "production", Id: "role_456"}},
		{"PUT", "/roles/role_456", `{
			"project_name": "production",
			"name": "document_editor",
			"description": "Updated description",
			"permissions": ["document.read", "document.write", "document.delete"]
		}`, "UpdateRole", &permissionsv1.UpdateRoleRequest{
			ProjectName: "production", Id: "role_456", Name: "document_editor", Description: "Updated description",
			Permissions: []string{"document.read", "document.write", "document.delete"}}},
		{"DELETE", "/roles/role_456?project_name=production", "",
			"DeleteRole", &permissionsv1.DeleteRoleRequest{ProjectName: "production", Id: "role_456"}},
		{"GET", "/roles?project_name=production&limit=10&search=editor", "",
			"ListRoles", &permissionsv1.ListRolesRequest{
				ProjectName: "production", Pagination: page(10, ""), Search: proto.String("editor")}},
		{"POST", "/permissions/assign", `{
			"project_name": "production",
			"user_id": "usr_123",
			"resource_uri": "/project/456/documents/789",
			"permissions": ["document.read"],
			"roles": ["role_456"]
		}`, "GrantUserPermissionsAndRolesOnResource", &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
			ProjectName: "production", UserId: "usr_123", ResourceUri: "/project/456/documents/789",
			Permissions: []string{"document.read"}, Roles: []string{"role_456"}}},
		{"POST", "/permissions/revoke", `{
			"project_name": "production",
			"user_id": "usr_123",
			"resource_uri": "/project/456/documents/789",
			"permissions": ["document.read"],
			"roles": ["role_456"]
		}`, "RevokeUserPermissionsAndRolesOnResource", &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
			ProjectName: "production", UserId: "usr_123", ResourceUri: "/project/456/documents/789",
			Permissions: []string{"document.read"}, Roles: []string{"role_456"}}},
		// The template filled with the URI as it is, slash and all.
		{"GET", "/permissions/user/usr_123/resource//project/456/documents/789?project_name=production", "",
			"GetUserPermissionsAndRolesOnResource", &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
				ProjectName: "production", UserId: "usr_123", ResourceUri: "/project/456/documents/789"}},
		{"GET", "/permissions/principals?project_name=production&limit=10&search=user", "",
			"ListPrincipals", &permissionsv1.ListPrincipalsRequest{
				ProjectName: "production", Pagination: page(10, ""), Search: proto.String("user")}},
		{"GET", "/permissions/assignments/principal/usr_123?project_name=production", "",
			"GetAllAssignmentsForPrincipal", &permissionsv1.GetAllAssignmentsForPrincipalRequest{
				ProjectName: "production", PrincipalId: "usr_123"}},
		{"POST", "/permissions/check", `{
			"project_name": "production",
			"principal_id": "usr_123",
			"resource_uris": ["/project/456/documents/789", "/project/456/documents/101"],
			"permissions": ["document.read", "document.write"]
		}`, "Check", &permissionsv1.CheckPermissionRequest{
			ProjectName: "production", PrincipalId: "usr_123",
			ResourceUris: []string{"/project/456/documents/789", "/project/456/documents/101"},
			Permissions:  []string{"document.read", "document.write"}}},
	}
	called := map[string]bool{}
	for _, tt := range tests {
		called[tt.rpc] = true
		t.Run(tt.rpc, func(t *testing.T) {
			conn := &fakeConn{}
			headers := []string{"Authorization", "Bearer YOUR_API_KEY"}
			if tt.body != "" {
				headers = append(headers, "Content-Type", "application/json")
			}
			w := send(conn, tt.method, base+tt.target, tt.body, headers...)
			wantCall(t, conn, w, tt.rpc, tt.request)
			if got := conn.only(t).md; len(got) != 1 || got.Get("authorization")[0] != "Bearer YOUR_API_KEY" {
				t.Errorf("metadata %v", got)
			}
		})
	}
	service := permissionsv1.File_proto_permissions_v1_permissions_service_proto.Services().Get(0)
	for i := range service.Methods().Len() {
		if name := string(service.Methods().Get(i).Name()); !called[name] {
			t.Errorf("%s has no route in this table", name)
		}
	}
}
