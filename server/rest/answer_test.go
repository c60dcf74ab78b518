package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"github.com/remit-io/remit/server/rest"
)

func TestAnswers(t *testing.T) {
	read := &permissionsv1.Permission{Id: "p1", OrganisationId: "o1", Name: "document.read", ProjectName: "production"}
	const readJSON = `{"id":"p1","organisation_id":"o1","name":"document.read","description":"","project_name":"production"}`
	const emptyPage = `"pagination":{"next_cursor":""},"token":""}`
	tests := []struct {
		name, method, target, body string
		reply                      proto.Message
		want                       string
	}{
		{"create permission", "POST", "/permissions", "{}",
			&permissionsv1.CreatePermissionResponse{Id: "p1", Name: "a<b>&c", Token: "t"},
			`{"id":"p1","organisation_id":"","name":"a<b>&c","description":"","project_name":"","token":"t"}`},
		{"get permission", "GET", "/permissions/x", "", nil,
			`{"id":"","organisation_id":"","name":"","description":"","project_name":"","token":""}`},
		{"update permission", "PUT", "/permissions/x", "{}", nil,
			`{"id":"","organisation_id":"","name":"","description":"","project_name":"","token":""}`},
		{"delete permission", "DELETE", "/permissions/x", "", nil, `{"token":""}`},
		{"permissions", "GET", "/permissions", "",
			&permissionsv1.ListPermissionsResponse{Permissions: []*permissionsv1.Permission{read}},
			`{"permissions":[` + readJSON + `],` + emptyPage},
		{"next page", "GET", "/permissions", "",
			&permissionsv1.ListPermissionsResponse{Pagination: &paginationv1.PaginationResponse{NextCursor: "c"}, Token: "t"},
			`{"permissions":[],"pagination":{"next_cursor":"c"},"token":"t"}`},
		{"create role", "POST", "/roles", "{}", nil,
			`{"id":"","organisation_id":"","name":"","description":"","permissions":[],"project_name":"","token":""}`},
		{"get role", "GET", "/roles/x", "",
			&permissionsv1.GetRoleResponse{Id: "r1", Permissions: []*permissionsv1.Permission{read}},
			`{"id":"r1","organisation_id":"","name":"","description":"","permissions":[` + readJSON + `],"project_name":"","token":""}`},
		{"update role", "PUT", "/roles/x", "{}", nil,
			`{"id":"","organisation_id":"","name":"","description":"","permissions":[],"project_name":"","token":""}`},
		{"delete role", "DELETE", "/roles/x", "", nil, `{"token":""}`},
		{"roles", "GET", "/roles", "", nil, `{"roles":[],` + emptyPage},
		{"grant", "POST", "/permissions/assign", "{}", nil, `{"token":""}`},
		{"revoke", "POST", "/permissions/revoke", "{}", nil, `{"token":""}`},
		{"on resource", "GET", "/permissions/user/u/resource/a", "", nil,
			`{"project_name":"","user_id":"","resource_uri":"","permissions":[],"roles":[],"inherited_permissions":[],"inherited_roles":[],"token":""}`},
		{"principals", "GET", "/permissions/principals", "",
			&permissionsv1.ListPrincipalsResponse{Principals: []string{"user:default/guest", "zoë"}},
			`{"principals":["user:default/guest","zoë"],` + emptyPage},
		{"assignments", "GET", "/permissions/assignments/principal/u", "",
			&permissionsv1.GetAllAssignmentsForPrincipalResponse{Assignments: []*permissionsv1.Assignment{{ResourceUri: "/a"}}},
			`{"assignments":[{"resource_uri":"/a","permissions":[],"roles":[],"project_name":""}],` + emptyPage},
		{"check denied", "POST", "/permissions/check", "{}",
			&permissionsv1.CheckPermissionResponse{MissingPermissions: []*permissionsv1.MissingPermission{
				{ResourceUri: "/a", MissingPermissions: []string{"document.read"}}}},
			`{"passed":false,"missing_permissions":[{"resource_uri":"/a","missing_permissions":["document.read"]}],"token":""}`},
		{"check passed", "POST", "/permissions/check", "{}", &permissionsv1.CheckPermissionResponse{Passed: true},
			`{"passed":true,"missing_permissions":[],"token":""}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := send(&fakeConn{reply: tt.reply}, tt.method, base+tt.target, tt.body)
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("status %d, Content-Type %q", w.Code, w.Header().Get("Content-Type"))
			}
			if got := strings.TrimSuffix(w.Body.String(), "\n"); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	const message = "Permission denied: missing required permission 'permission.create' on resource '/organisation/org_123'"
	tests := []struct {
		err          error
		status, code int
	}{
		{status.Error(codes.Canceled, message), 499, 1},
		{status.Error(codes.Unknown, message), 500, 13},
		{status.Error(codes.InvalidArgument, message), 400, 3},
		{status.Error(codes.DeadlineExceeded, message), 504, 4},
		{status.Error(codes.NotFound, message), 404, 5},
		{status.Error(codes.AlreadyExists, message), 409, 6},
		{status.Error(codes.PermissionDenied, message), 403, 7},
		{status.Error(codes.ResourceExhausted, message), 429, 8},
		{status.Error(codes.FailedPrecondition, message), 500, 13},
		{status.Error(codes.Aborted, message), 500, 13},
		{status.Error(codes.OutOfRange, message), 500, 13},
		{status.Error(codes.Unimplemented, message), 501, 12},
		{status.Error(codes.Internal, message), 500, 13},
		{status.Error(codes.Unavailable, message), 503, 14},
		{status.Error(codes.DataLoss, message), 500, 13},
		{status.Error(codes.Unauthenticated, message), 401, 16},
		{status.Error(codes.Code(77), message), 500, 13},
		{errors.New(message), 500, 13},
		{fmt.Errorf("%s: %w", message, context.Canceled), 499, 1},
		{fmt.Errorf("%s: %w", message, context.DeadlineExceeded), 504, 4},
	}
	for _, tt := range tests {
		t.Run(tt.err.Error(), func(t *testing.T) {
			conn := &fakeConn{err: tt.err, header: metadata.Pairs("remit-token", "t")}
			w := send(conn, "GET", base+"/permissions", "")
			wantError(t, w, tt.status, tt.code, message)
			challenge := w.Header().Get("WWW-Authenticate")
			if want := map[bool]string{true: "Bearer"}[tt.status == 401]; challenge != want {
				t.Errorf("WWW-Authenticate %q, want %q", challenge, want)
			}
			if w.Header().Get("Remit-Token") != "t" {
				t.Error("the token of an error is lost")
			}
		})
	}
	w := send(&fakeConn{err: status.Error(codes.PermissionDenied, message)}, "GET", base+"/permissions", "")
	if want := `{"error":{"code":7,"message":"` + message + `"}}` + "\n"; w.Body.String() != want {
		t.Errorf("\n got %s\nwant %s", w.Body, want)
	}
}

// An answer that cannot be written as JSON is a fault of the service.
func TestAnswerNotUTF8(t *testing.T) {
	conn := &fakeConn{reply: &permissionsv1.ListPrincipalsResponse{Principals: []string{"\xff"}}}
	wantError(t, send(conn, "GET", base+"/permissions/principals", ""), 500, 13, "UTF-8")
}

func TestHeaders(t *testing.T) {
	const get = base + "/permissions/x"
	all := []string{"Authorization", "Bearer k", "Remit-Consistency", "fully_consistent", "Remit-Token", "t", "Remit-Request-Id", "00ff"}
	tests := []struct {
		name    string
		headers []string
		want    metadata.MD
	}{
		{"none", nil, metadata.MD{}},
		{"all", all, metadata.Pairs("authorization", "Bearer k", "remit-consistency", "fully_consistent", "remit-token", "t", "remit-request-id", "00ff")},
		{"other schemes are the server's to judge", []string{"Authorization", "Basic eDp5"}, metadata.Pairs("authorization", "Basic eDp5")},
		{"empty", []string{"Remit-Token", ""}, metadata.MD{}},
		{"nothing else", []string{
			"Grpc-Metadata-Authorization", "Bearer k", "Grpc-Metadata-Remit-Token", "t", "Grpc-Metadata-Remit-Forwarded", "1",
			"Grpc-Metadata-X-Forwarded-For", "::1", "Grpc-Timeout", "1S", "Grpcgateway-Authorization", "Bearer k", "Remit-Forwarded", "1",
			"Remit-Actor", "root", "Remit-Token-Bin", "AA==", "Cookie", "a=b", "X-Forwarded-For", "::1", "X-Forwarded-Host", "h",
			"X-Http-Method-Override", "DELETE", "Accept", "text/html", "Te", "trailers"}, metadata.MD{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := &fakeConn{}
			w := send(conn, "GET", get, "", tt.headers...)
			wantCall(t, conn, w, "GetPermission", &permissionsv1.GetPermissionRequest{Name: "x"})
			got := conn.only(t)
			if fmt.Sprint(got.md) != fmt.Sprint(tt.want) {
				t.Errorf("metadata %v, want %v", got.md, tt.want)
			}
			if got.peer != "192.0.2.1:1234" {
				t.Errorf("peer %q, want the request's address", got.peer)
			}
		})
	}

	for name, tt := range map[string]struct {
		headers      []string
		status, code int
	}{
		"Authorization":     {[]string{"Authorization", "Bearer schlüssel"}, 401, 16},
		"Remit-Token":       {[]string{"Remit-Token", "a\tb"}, 400, 3},
		"Remit-Consistency": {[]string{"Remit-Consistency", "a", "Remit-Consistency", "b"}, 400, 3},
	} {
		t.Run("refused "+name, func(t *testing.T) {
			conn := &fakeConn{}
			w := send(conn, "GET", get, "", tt.headers...)
			wantError(t, w, tt.status, tt.code, name)
			if len(conn.calls) != 0 || strings.Contains(w.Body.String(), "schl") {
				t.Errorf("called, or repeated a credential: %s", w.Body)
			}
		})
	}

	t.Run("answer", func(t *testing.T) {
		conn := &fakeConn{header: metadata.Pairs("remit-token", "t", "remit-leader", "n1", "x-other", "o", "content-type", "application/grpc")}
		w := send(conn, "GET", get, "")
		h := w.Header()
		if h.Get("Remit-Token") != "t" || h.Get("Remit-Leader") != "n1" || h.Get("X-Other") != "" || h.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", h)
		}
	})
}

// Every answer names a node: the one that answered, or this one.
func TestNodeHeader(t *testing.T) {
	for name, tt := range map[string]struct {
		conn   *fakeConn
		method string
		path   string
		node   string
	}{
		"this node":              {&fakeConn{}, "GET", "/permissions/read?project_name=p", "here"},
		"an error of this node":  {&fakeConn{err: status.Error(codes.NotFound, "no")}, "GET", "/permissions/read?project_name=p", "here"},
		"another node":           {&fakeConn{header: metadata.Pairs("remit-node", "there")}, "GET", "/permissions/read?project_name=p", "there"},
		"an unknown path":        {&fakeConn{}, "GET", "/nope", "here"},
		"a method not allowed":   {&fakeConn{}, "PATCH", "/permissions", "here"},
		"an unknown field":       {&fakeConn{}, "GET", "/permissions/read?nope=1", "here"},
		"a header that is twice": {&fakeConn{}, "GET", "/permissions/read?project_name=p", "here"},
	} {
		r := httptest.NewRequest(tt.method, base+tt.path, nil)
		if strings.HasPrefix(name, "a header") {
			r.Header["Authorization"] = []string{"a", "b"}
		}
		w := httptest.NewRecorder()
		rest.Handler(tt.conn, nil, "here").ServeHTTP(w, r)
		if got := w.Header().Values("Remit-Node"); len(got) != 1 || got[0] != tt.node {
			t.Errorf("%s: Remit-Node %q, want %q", name, got, tt.node)
		}
	}
}
