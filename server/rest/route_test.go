package rest_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"github.com/remit-io/remit/server/rest"
)

// TestPathVariables has each variable's raw segment and what it means.
func TestPathVariables(t *testing.T) {
	segments := []struct{ raw, want string }{
		{"document.read", "document.read"},
		{"document:read", "document:read"},
		{"a:b", "a:b"},
		{"document.read:x", "document.read:x"},
		{":x", ":x"},
		{"x:", "x:"},
		{"service:ci", "service:ci"},
		{"user:default%2Fguest", "user:default/guest"},
		{"user:default%2fgu%C3%A9st", "user:default/guést"},
		{"user:default%2Fguést", "user:default/guést"},
		{"%2525", "%25"},
		{"a%252Fb", "a%2Fb"},
		{"a+b", "a+b"},
		{"a%20b", "a b"},
		{"a;b=c,d", "a;b=c,d"},
		{"a%3Fb", "a?b"},
		{"a%00b", "a\x00b"},
		{".", "."},
		{"..", ".."},
		{"%2E%2E", ".."},
		{"*", "*"},
		{"chec", "chec"},
		{"check%2F", "check/"},
		{"assignments", "assignments"},
	}
	requests := []struct {
		method, before, after, body string
		rpc                         string
		request                     func(v string) proto.Message
	}{
		{"GET", "/permissions/", "", "", "GetPermission",
			func(v string) proto.Message { return &permissionsv1.GetPermissionRequest{Name: v} }},
		{"PUT", "/permissions/", "", "{}", "UpdatePermission",
			func(v string) proto.Message { return &permissionsv1.UpdatePermissionRequest{Name: v} }},
		{"DELETE", "/permissions/", "", "", "DeletePermission",
			func(v string) proto.Message { return &permissionsv1.DeletePermissionRequest{Name: v} }},
		{"GET", "/roles/", "", "", "GetRole",
			func(v string) proto.Message { return &permissionsv1.GetRoleRequest{Id: v} }},
		{"PUT", "/roles/", "", "{}", "UpdateRole",
			func(v string) proto.Message { return &permissionsv1.UpdateRoleRequest{Id: v} }},
		{"DELETE", "/roles/", "", "", "DeleteRole",
			func(v string) proto.Message { return &permissionsv1.DeleteRoleRequest{Id: v} }},
		{"GET", "/permissions/assignments/principal/", "", "", "GetAllAssignmentsForPrincipal",
			func(v string) proto.Message {
				return &permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: v}
			}},
		{"GET", "/permissions/user/", "/resource/a/b", "", "GetUserPermissionsAndRolesOnResource",
			func(v string) proto.Message {
				return &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{UserId: v, ResourceUri: "/a/b"}
			}},
	}
	for _, r := range requests {
		for _, s := range segments {
			t.Run(r.rpc+"/"+s.raw, func(t *testing.T) {
				conn := &fakeConn{}
				w := send(conn, r.method, base+r.before+s.raw+r.after, r.body)
				wantCall(t, conn, w, r.rpc, r.request(s.want))
			})
		}
	}
}

func TestResourceURI(t *testing.T) {
	tests := []struct{ raw, want string }{
		{"/project/456/documents/789", "/project/456/documents/789"},
		{"//project/456/documents/789", "/project/456/documents/789"},
		{"/%2Fproject%2F456", "/project/456"},
		{"/project%2f456", "/project/456"},
		{"/%2Fproject/456", "/project/456"},
		{"/", "/"},
		{"//", "/"},
		{"/%2F", "/"},
		{"///", "//"},              // refused by the server
		{"///a", "//a"},            // likewise
		{"/a//b", "/a//b"},         // likewise
		{"/a/./b", "/a/./b"},       // likewise
		{"/a/../b", "/a/../b"},     // likewise
		{"/a%2F..%2Fb", "/a/../b"}, // likewise
		{"/a/", "/a/"},             // dropped by the server
		{"//a//", "/a//"},
		{"/a%252Fb", "/a%2Fb"},
		{"/%252Fa", "/%2Fa"},
		{"/a%2525", "/a%25"},
		{"/a:b/c:d", "/a:b/c:d"},
		{"/a%2Fé", "/a/é"},
		{"/a b", "/a b"},
		{"/*/b", "/*/b"},
		{"/resource/resource", "/resource/resource"},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			conn := &fakeConn{}
			r := httptest.NewRequest("GET", "/", nil)
			var err error
			// Not through httptest, which cannot send a space.
			if r.URL, err = url.ParseRequestURI(base + "/permissions/user/usr_123/resource" + tt.raw + "?project_name=p"); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			rest.Handler(conn, nil, "").ServeHTTP(w, r)
			wantCall(t, conn, w, "GetUserPermissionsAndRolesOnResource", &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
				ProjectName: "p", UserId: "usr_123", ResourceUri: tt.want})
		})
	}
}

func TestUnknownPaths(t *testing.T) {
	for _, path := range []string{
		"/", "//", "/livez", "/permissions", "/permissions-service", "/permissions-service/v1", base + "/", "/" + base + "/permissions",
		"/permissions-service//v1/permissions", base + "//permissions", base + "/./permissions", base + "/x/../permissions",
		"/permissions-service/v2/permissions", base + "/permission", base + "/Permissions", base + "/permissions/", base + "/permissions//",
		base + "/permissions/x/", base + "/permissions/x/y", base + "/permissions/check/", base + "/roles/", base + "/roles/x/",
		base + "/permissions/principals/", base + "/permissions/assignments/principal", base + "/permissions/assignments/principal/",
		base + "/permissions/assignments/principal/x/", base + "/permissions/assignments/principal/x/y", base + "/permissions/user/x",
		base + "/permissions/user/x/resource", base + "/permissions/user//resource/a", base + "/permissions/user/x/resources/a",
		base + "%2Fpermissions", base + "/permissions%2Fcheck", base + "/organisation", base + "/whoami",
		organisations, organisations + "/", organisations + "/organisations", organisations + "/organization", organisations + "/roles",
		organisations + "/organisation/", organisations + "/organisation//project", organisations + "/organisation/o/",
		organisations + "/organisation/o/project/", organisations + "/organisation/o/project/p", organisations + "/organisation/o/projects/",
		organisations + "/organisation/o/api-key/", organisations + "/organisation/o/api-key//", organisations + "/organisation/o/api-key/k/",
		organisations + "/organisation/o/api-keys", organisations + "/organisation/o%2Fproject/x", organisations + "/whoami/", organisations + "/whoami/x",
	} {
		for _, method := range []string{"GET", "POST", "BREW"} {
			t.Run(method+path, func(t *testing.T) {
				conn := &fakeConn{}
				// A path that begins with // would be read as a host.
				r := httptest.NewRequest(method, "/", nil)
				var err error
				if r.URL, err = url.ParseRequestURI(path); err != nil {
					t.Fatal(err)
				}
				w := httptest.NewRecorder()
				rest.Handler(conn, nil, "").ServeHTTP(w, r)
				wantError(t, w, 404, 5, fmt.Sprintf("%q", path))
				if len(conn.calls) != 0 {
					t.Error("a call was made")
				}
			})
		}
	}
	conn := &fakeConn{}
	wantError(t, send(conn, "GET", base+"/xy/"+strings.Repeat("é", 5000), ""), 404, 5, "…")
	wantError(t, send(conn, "GET", base+"/permissions/%FF", ""), 400, 3, `"\xff"`, "UTF-8")
	r := httptest.NewRequest("GET", "/", nil)
	r.URL.RawPath = base + "/permissions/%zz"
	w := httptest.NewRecorder()
	rest.Handler(conn, nil, "").ServeHTTP(w, r)
	wantError(t, w, 400, 3, "%zz")
}

func TestMethods(t *testing.T) {
	tests := []struct{ path, allow string }{
		{base + "/permissions", "GET, POST"},
		{base + "/permissions/x", "DELETE, GET, PUT"},
		{base + "/permissions/check", "POST"},
		{base + "/permissions/assign", "POST"},
		{base + "/permissions/revoke", "POST"},
		{base + "/permissions/principals", "GET"},
		{base + "/permissions/user/x/resource/a", "GET"},
		{base + "/permissions/assignments/principal/x", "GET"},
		{base + "/roles", "GET, POST"},
		{base + "/roles/x", "DELETE, GET, PUT"},
		{organisations + "/organisation", "GET, POST"},
		{organisations + "/organisation/o", "DELETE, GET, PUT"},
		{organisations + "/organisation/o/project", "DELETE, GET, POST"},
		{organisations + "/organisation/o/projects", "GET"},
		{organisations + "/organisation/o/api-key", "GET, POST"},
		{organisations + "/organisation/o/api-key/k", "DELETE"},
		{organisations + "/whoami", "GET"},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"} {
			if strings.Contains(tt.allow, method) {
				continue
			}
			t.Run(method+tt.path, func(t *testing.T) {
				conn := &fakeConn{}
				// With what makes a form of it and asks for another method.
				w := send(conn, method, tt.path, "project_name=p", "Content-Type", "application/x-www-form-urlencoded",
					"X-HTTP-Method-Override", "GET")
				wantError(t, w, 405, 12, method, tt.path, tt.allow)
				if got := w.Header().Get("Allow"); got != tt.allow {
					t.Errorf("Allow %q, want %q", got, tt.allow)
				}
				if len(conn.calls) != 0 {
					t.Error("a call was made")
				}
			})
		}
	}
}

// TestOverTheWire sends what Go's client would not, or would tidy up.
func TestOverTheWire(t *testing.T) {
	const permissions = base + "/permissions"
	big := strings.Repeat("x", 16<<20)
	tests := []struct {
		name, request string
		status        int
		resource      string // the URI of the call that is made, if one is
	}{
		{"doubled slash", "GET " + permissions + "/user/u/resource//a/b HTTP/1.1\r\nHost: h\r\n\r\n", 200, "/a/b"},
		{"dots", "GET " + permissions + "/user/u/resource/a/../b HTTP/1.1\r\nHost: h\r\n\r\n", 200, "/a/../b"},
		{"unescaped", "GET " + permissions + "/user/u/resource/a%2Fb|\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", 200, "/a/b|é"},
		{"absolute", "GET http://h" + permissions + "/user/u/resource//a HTTP/1.1\r\nHost: h\r\n\r\n", 200, "/a"},
		{"host-like", "GET //h" + permissions + " HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
		{"dots to nowhere", "GET " + permissions + "/../roles HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
		{"bad escape", "GET " + permissions + "/%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
		{"short escape", "GET " + permissions + "/user/u/resource/a%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
		{"two credentials", "GET " + permissions + " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", 400, ""},
		{"body of GET in chunks", "GET " + permissions + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, ""},
		{"bad chunk on GET", "GET " + permissions + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400, ""},
		{"bad chunk", "POST " + permissions + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400, ""},
		{"too large in chunks", fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", permissions, len(big), big), 413, ""},
		{"too large", fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", permissions, len(big), big), 413, ""},
		{"proxy", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := &fakeConn{}
			server := httptest.NewServer(rest.Handler(conn, nil, ""))
			defer server.Close()
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			// The server has to take all of it before the answer is read.
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
			if answer.StatusCode != tt.status {
				t.Errorf("status %d, want %d: %s", answer.StatusCode, tt.status, body)
			}
			// net/http itself refuses a bad escape, in words of its own.
			if tt.status != 200 && !strings.Contains(tt.name, "escape") && !bytes.HasPrefix(body, []byte(`{"error":{"code":`)) {
				t.Errorf("body %q", body)
			}
			if tt.resource == "" {
				return
			}
			request := conn.only(t).request.(*permissionsv1.GetUserPermissionsAndRolesOnResourceRequest)
			if request.GetResourceUri() != tt.resource {
				t.Errorf("resource URI %q, want %q", request.GetResourceUri(), tt.resource)
			}
		})
	}
}
