package rest_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

func TestQuery(t *testing.T) {
	tests := []struct {
		target, rpc string
		request     proto.Message
	}{
		{"/permissions", "ListPermissions", &permissionsv1.ListPermissionsRequest{}},
		{"/permissions?", "ListPermissions", &permissionsv1.ListPermissionsRequest{}},
		{"/permissions?limit=0", "ListPermissions", &permissionsv1.ListPermissionsRequest{
			Pagination: &paginationv1.PaginationRequest{Limit: proto.Int32(0)}}},
		{"/roles?limit=-2147483648&cursor=", "ListRoles", &permissionsv1.ListRolesRequest{
			Pagination: &paginationv1.PaginationRequest{Limit: proto.Int32(-1 << 31), Cursor: proto.String("")}}},
		{"/roles?search=", "ListRoles", &permissionsv1.ListRolesRequest{Search: proto.String("")}},
		{"/permissions/principals?search=a+b%2Bc%26%3D%2F&cursor=a%2Fb%3D%3D", "ListPrincipals", &permissionsv1.ListPrincipalsRequest{
			Search: proto.String("a b+c&=/"), Pagination: &paginationv1.PaginationRequest{Cursor: proto.String("a/b==")}}},
		{"/permissions/assignments/principal/u?limit=100&cursor=c&consistency=AT_LEAST_AS_FRESH&token=t", "GetAllAssignmentsForPrincipal",
			&permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: "u", Token: "t", Consistency: permissionsv1.Consistency_AT_LEAST_AS_FRESH,
				Pagination: &paginationv1.PaginationRequest{Limit: proto.Int32(100), Cursor: proto.String("c")}}},
		{"/permissions/x?consistency=fully_consistent", "GetPermission",
			&permissionsv1.GetPermissionRequest{Name: "x", Consistency: permissionsv1.Consistency_FULLY_CONSISTENT}},
		{"/permissions/user/u/resource/a?include_inherited=true&consistency=MINIMIZE_LATENCY", "GetUserPermissionsAndRolesOnResource",
			&permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{UserId: "u", ResourceUri: "/a", IncludeInherited: true,
				Consistency: permissionsv1.Consistency_MINIMIZE_LATENCY}},
		{"/permissions/user/u/resource/a?include_inherited=false", "GetUserPermissionsAndRolesOnResource",
			&permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{UserId: "u", ResourceUri: "/a"}},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			conn := &fakeConn{}
			wantCall(t, conn, send(conn, "GET", base+tt.target, ""), tt.rpc, tt.request)
		})
	}
}

func TestBadQuery(t *testing.T) {
	tests := []struct {
		method, target string
		names          []string
	}{
		{"GET", "/permissions?foo=1", []string{`"foo"`}},
		{"GET", "/permissions?foo=1&project_name=p&bar", []string{`"bar", "foo"`}},
		{"GET", "/permissions?=x", []string{`""`}},
		{"GET", "/permissions?%ff=x", []string{`"\xff"`}},
		{"GET", "/permissions?projectName=p", []string{"projectName"}},
		{"GET", "/permissions?Limit=1", []string{"Limit"}},
		{"GET", "/permissions?pagination=1", []string{"pagination"}},
		{"GET", "/permissions?pagination.limit=1", []string{"pagination.limit"}},
		{"GET", "/permissions?pagination[limit]=1", []string{"pagination[limit]"}},
		{"GET", "/permissions?include_inherited=true", []string{"include_inherited"}},
		{"GET", "/permissions/assignments/principal/u?search=x", []string{"search"}},
		{"GET", "/permissions/x?limit=1", []string{"limit"}},
		{"GET", "/permissions/x?name=x", []string{"name"}},
		{"GET", "/permissions/user/u/resource/a?resource_uri=/a", []string{"resource_uri"}},
		{"DELETE", "/permissions/x?token=t", []string{"token"}},
		{"DELETE", "/roles/x?id=x", []string{"id"}},
		{"GET", "/permissions?a&b&c&d&e&f&g&h&i", []string{`"h", …`}},
		{"GET", "/permissions?" + strings.Repeat("a", 5000), []string{"…"}},
		{"POST", "/permissions?project_name=p", []string{"project_name", "body"}},
		{"POST", "/permissions/check?foo=1", []string{"foo"}},
		{"PUT", "/permissions/x?foo=1", []string{"foo"}},
		{"PUT", "/roles/x?id=x", []string{"id"}},
		{"GET", "/permissions?project_name=p&project_name=p", []string{"project_name", "2 times"}},
		{"GET", "/permissions?limit=1&limit=2&limit=3", []string{"limit", "3 times"}},
		{"GET", "/permissions?limit=", []string{"limit", `""`}},
		{"GET", "/permissions?limit=ten", []string{"limit", `"ten"`}},
		{"GET", "/permissions?limit=1.0", []string{"limit", `"1.0"`}},
		{"GET", "/permissions?limit=2147483648", []string{"limit", `"2147483648"`}},
		{"GET", "/permissions?search=%FF", []string{"search", "UTF-8"}},
		{"GET", "/permissions?project_name=%FF", []string{"project_name", "UTF-8"}},
		{"GET", "/permissions?consistency=", []string{"consistency", `""`}},
		{"GET", "/permissions?consistency=strong", []string{"consistency", `"strong"`, "Consistency"}},
		{"GET", "/permissions?consistency=3", []string{"consistency", `"3"`}},
		{"GET", "/permissions/user/u/resource/a?include_inherited=1", []string{"include_inherited", `"1"`}},
		{"GET", "/permissions/user/u/resource/a?include_inherited", []string{"include_inherited", `""`}},
		{"GET", "/permissions?project_name=%zz", []string{"query", "%zz"}},
		{"GET", "/permissions?limit=1;cursor=2", []string{"query", "semicolon"}},
		{"POST", "/permissions?%zz", []string{"query", "%zz"}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s%.100s", tt.method, tt.target), func(t *testing.T) {
			conn := &fakeConn{}
			body := map[bool]string{true: "{}"}[tt.method == "POST" || tt.method == "PUT"]
			wantError(t, send(conn, tt.method, base+tt.target, body), 400, 3, tt.names...)
			if len(conn.calls) != 0 {
				t.Error("a call was made")
			}
		})
	}
}

func TestBodies(t *testing.T) {
	const large = 4 << 20
	fits := `{"description":"` + strings.Repeat("x", large-len(`{"description":""}`)) + `"}`
	tests := []struct {
		name, target, body string
		headers            []string
		request            proto.Message
	}{
		{"empty object", "POST /permissions", "{}", nil, &permissionsv1.CreatePermissionRequest{}},
		{"spaces", "POST /permissions", " \r\n\t{ } \n", nil, &permissionsv1.CreatePermissionRequest{}},
		{"parameters", "POST /permissions", "{}", []string{"Content-Type", "Application/JSON; charset=utf-8"}, &permissionsv1.CreatePermissionRequest{}},
		{"empty type", "POST /permissions", "{}", []string{"Content-Type", ""}, &permissionsv1.CreatePermissionRequest{}},
		{"null is unset", "POST /permissions", `{"name":null}`, nil, &permissionsv1.CreatePermissionRequest{}},
		{"escapes", "POST /permissions", `{"name":"\u00e9\ud83d\ude00\u0000\/"}`, nil, &permissionsv1.CreatePermissionRequest{Name: "é😀\x00/"}},
		{"consistency", "POST /permissions/check", `{"consistency":"AT_LEAST_AS_FRESH","token":"t"}`, nil,
			&permissionsv1.CheckPermissionRequest{Consistency: permissionsv1.Consistency_AT_LEAST_AS_FRESH, Token: "t"}},
		{"as it is", "POST /permissions/assign", `{"resource_uri":"//a%2Fb/"}`, nil,
			&permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{ResourceUri: "//a%2Fb/"}},
		{"4 MiB", "POST /permissions", fits, nil, &permissionsv1.CreatePermissionRequest{Description: fits[len(`{"description":"`) : large-len(`"}`)]}},
		{"the path's name", "PUT /permissions/a%2Fb", `{"name":"a/b","new_name":"c"}`, nil, &permissionsv1.UpdatePermissionRequest{Name: "a/b", NewName: "c"}},
		{"empty name", "PUT /permissions/a", `{"name":""}`, nil, &permissionsv1.UpdatePermissionRequest{Name: "a"}},
		{"a role's new name", "PUT /roles/r", `{"id":"r","name":"n"}`, nil, &permissionsv1.UpdateRoleRequest{Id: "r", Name: "n"}},
		{"no body", "GET /permissions/x", "", []string{"Content-Type", "text/plain"}, &permissionsv1.GetPermissionRequest{Name: "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := &fakeConn{}
			method, path, _ := strings.Cut(tt.target, " ")
			w := send(conn, method, base+path, tt.body, tt.headers...)
			if w.Code != 200 {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			if got := conn.only(t).request; !proto.Equal(got, tt.request) {
				t.Errorf("request %v", got)
			}
		})
	}
}

func TestBadBodies(t *testing.T) {
	long := strings.Repeat("1", 1<<20)
	tests := []struct {
		name, target, body string
		headers            []string
		status             int
		names              []string
	}{
		{"empty", "POST /permissions", "", nil, 400, []string{"empty"}},
		{"empty on PUT", "PUT /roles/x", "", nil, 400, []string{"empty"}},
		{"only space", "POST /permissions", " \n", nil, 400, []string{"empty"}},
		{"null", "POST /permissions", "null", nil, 400, []string{"null"}},
		{"array", "POST /permissions", "[{}]", nil, 400, []string{"[{}]"}},
		{"string", "POST /permissions", `"x"`, nil, 400, []string{`\"x\"`}},
		{"form", "POST /permissions", "name=x", nil, 400, []string{"name=x"}},
		{"byte order mark", "POST /permissions", "\ufeff{}", nil, 400, []string{"not a JSON object"}},
		{"long", "POST /permissions", "\"" + long, nil, 400, []string{"…"}},
		{"open", "POST /permissions", `{"name":"x"`, nil, 400, []string{"EOF"}},
		{"open string", "POST /permissions", `{"name":"x`, nil, 400, []string{"EOF"}},
		{"no quotes", "POST /permissions", `{name:"x"}`, nil, 400, []string{"name"}},
		{"comma", "POST /permissions", `{"name":"x",}`, nil, 400, []string{"}"}},
		{"comment", "POST /permissions", `{} // x`, nil, 400, []string{"/"}},
		{"garbage after", "POST /permissions", `{"name":"x"}garbage`, nil, 400, []string{"garbage"}},
		{"brace after", "POST /permissions", `{"name":"x"}}`, nil, 400, []string{"}"}},
		{"second object", "POST /permissions", `{"name":"x"}{"name":"y"}`, nil, 400, []string{"{"}},
		{"second line", "POST /permissions", "{\"name\":\"x\"}\n{\"name\":\"y\"}\n", nil, 400, []string{"{"}},
		{"unknown field", "POST /permissions", `{"name":"x","colour":"red"}`, nil, 400, []string{"colour"}},
		{"unknown with null", "POST /permissions", `{"colour":null}`, nil, 400, []string{"colour"}},
		{"another call's field", "POST /permissions", `{"permissions":[]}`, nil, 400, []string{"permissions"}},
		{"answer's field", "POST /permissions", `{"organisation_id":"x"}`, nil, 400, []string{"organisation_id"}},
		{"type field", "POST /permissions", `{"@type":"x"}`, nil, 400, []string{"@type"}},
		{"extension", "POST /permissions", `{"[permissions.v1.x]":1}`, nil, 400, []string{"[permissions.v1.x]"}},
		{"number", "POST /permissions", `{"name":5}`, nil, 400, []string{"name", "5"}},
		{"bool", "POST /permissions", `{"name":true}`, nil, 400, []string{"name", "true"}},
		{"object", "POST /permissions", `{"name":{}}`, nil, 400, []string{"name", "{"}},
		{"array for one", "POST /permissions", `{"name":["x"]}`, nil, 400, []string{"name", "["}},
		{"one for array", "POST /roles", `{"permissions":"x"}`, nil, 400, []string{`"x"`}},
		{"number in array", "POST /roles", `{"permissions":["x",5]}`, nil, 400, []string{"permissions", "5"}},
		{"null in array", "POST /roles", `{"permissions":["x",null]}`, nil, 400, []string{"permissions", "null"}},
		{"long number", "POST /permissions", `{"name":` + long + `}`, nil, 400, []string{"name", "111…"}},
		{"enum", "POST /permissions/check", `{"consistency":"STRONG"}`, nil, 400, []string{"consistency", "STRONG"}},
		{"enum as bool", "POST /permissions/check", `{"consistency":true}`, nil, 400, []string{"consistency", "true"}},
		{"deep", "POST /permissions", `{"name":` + strings.Repeat("[", 100000), nil, 400, []string{"name"}},
		{"twice", "POST /permissions", `{"name":"x","name":"x"}`, nil, 400, []string{"duplicate", "name"}},
		{"twice in two styles", "POST /permissions", `{"project_name":"x","projectName":"x"}`, nil, 400, []string{"duplicate", "projectName"}},
		{"invalid UTF-8", "POST /permissions", "{\"name\":\"\xff\"}", nil, 400, []string{"UTF-8"}},
		{"half a pair", "POST /permissions", `{"name":"\ud800","description":""}`, nil, 400, []string{"escape code"}},
		{"control character", "POST /permissions", "{\"name\":\"a\nb\"}", nil, 400, []string{"invalid character"}},
		{"form type", "POST /permissions", "{}", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, []string{"x-www-form-urlencoded"}},
		{"plain", "POST /permissions", "{}", []string{"Content-Type", "text/plain"}, 400, []string{"text/plain"}},
		{"grpc", "POST /permissions", "{}", []string{"Content-Type", "application/grpc"}, 400, []string{"application/grpc"}},
		{"other JSON", "POST /permissions", "{}", []string{"Content-Type", "application/json-patch+json"}, 400, []string{"json-patch"}},
		{"no type", "PUT /roles/x", "{}", []string{"Content-Type", ";;"}, 400, []string{";;"}},
		{"two types", "POST /permissions", "{}", []string{"Content-Type", "application/json", "Content-Type", "text/plain"}, 400, []string{"text/plain"}},
		{"another name", "PUT /permissions/a", `{"name":"b"}`, nil, 400, []string{"name", `"a"`, `"b"`}},
		{"another id", "PUT /roles/a", `{"id":"b"}`, nil, 400, []string{"id", `"a"`, `"b"`}},
		{"body of GET", "GET /permissions", "{}", nil, 400, []string{"GET", "body"}},
		{"body of DELETE", "DELETE /roles/x", "x", nil, 400, []string{"DELETE", "body"}},
		{"over 4 MiB", "POST /permissions", `{"name":"` + strings.Repeat("x", 4<<20), nil, 413, []string{"4194304"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := &fakeConn{}
			method, path, _ := strings.Cut(tt.target, " ")
			w := send(conn, method, base+path, tt.body, tt.headers...)
			wantError(t, w, tt.status, 3, tt.names...)
			if len(conn.calls) != 0 {
				t.Error("a call was made")
			}
			if w.Body.Len() > 2048 {
				t.Errorf("an error of %d bytes", w.Body.Len())
			}
		})
	}
}
