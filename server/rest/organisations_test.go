package rest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

func TestOrganisationCalls(t *testing.T) {
	page := &paginationv1.PaginationRequest{Limit: proto.Int32(10), Cursor: proto.String("c")}
	tests := []struct {
		method, target, body string
		rpc                  string
		request              proto.Message
	}{
		{"POST", "/organisation", `{"name":"acme"}`, "CreateOrganisation", &organisationv1.CreateOrganisationRequest{Name: "acme"}},
		{"GET", "/organisation?limit=10&cursor=c&search=ac", "", "ListOrganisations",
			&organisationv1.ListOrganisationsRequest{Pagination: page, Search: proto.String("ac")}},
		{"GET", "/organisation/org_1?consistency=AT_LEAST_AS_FRESH&token=t", "", "GetOrganisation",
			&organisationv1.GetOrganisationRequest{Id: "org_1", Consistency: organisationv1.Consistency_AT_LEAST_AS_FRESH, Token: "t"}},
		{"PUT", "/organisation/org_1", `{"name":"acme"}`, "UpdateOrganisation",
			&organisationv1.UpdateOrganisationRequest{Id: "org_1", Name: "acme"}},
		{"DELETE", "/organisation/org_1", "", "DeleteOrganisation", &organisationv1.DeleteOrganisationRequest{Id: "org_1"}},
		{"POST", "/organisation/org_1/project", `{"name":"staging"}`, "CreateProject",
			&organisationv1.CreateProjectRequest{OrganisationId: "org_1", Name: "staging"}},
		{"POST", "/organisation/org_1/project", `{"organisation_id":"org_1","name":"staging"}`, "CreateProject",
			&organisationv1.CreateProjectRequest{OrganisationId: "org_1", Name: "staging"}},
		{"GET", "/organisation/org_1/project?project_name=staging", "", "GetProject",
			&organisationv1.GetProjectRequest{OrganisationId: "org_1", ProjectName: "staging"}},
		{"DELETE", "/organisation/org_1/project?project_name=staging", "", "DeleteProject",
			&organisationv1.DeleteProjectRequest{OrganisationId: "org_1", ProjectName: "staging"}},
		{"GET", "/organisation/org_1/projects?limit=10&cursor=c&search=st", "", "GetProjectsForOrganisation",
			&organisationv1.GetProjectsForOrganisationRequest{OrganisationId: "org_1", Pagination: page, Search: proto.String("st")}},
		{"POST", "/organisation/org_1/api-key", `{"project_name":"remit","name":"ci","role":"viewer","operator":true}`, "CreateAPIKey",
			&organisationv1.CreateAPIKeyRequest{OrganisationId: "org_1", ProjectName: "remit", Name: "ci", Role: "viewer", Operator: true}},
		{"GET", "/organisation/org_1/api-key?project_name=staging&limit=10&cursor=c&search=ci", "", "ListAPIKeys",
			&organisationv1.ListAPIKeysRequest{OrganisationId: "org_1", ProjectName: "staging", Pagination: page, Search: proto.String("ci")}},
		{"DELETE", "/organisation/org_1/api-key/key_1?project_name=staging", "", "InvalidateAPIKey",
			&organisationv1.InvalidateAPIKeyRequest{OrganisationId: "org_1", ProjectName: "staging", Id: "key_1"}},
		{"GET", "/whoami?limit=10&cursor=c&consistency=fully_consistent", "", "WhoAmI",
			&organisationv1.WhoAmIRequest{Pagination: page, Consistency: organisationv1.Consistency_FULLY_CONSISTENT}},
		// A variable is one raw segment, decoded once.
		{"GET", "/organisation/a%2Fproject", "", "GetOrganisation", &organisationv1.GetOrganisationRequest{Id: "a/project"}},
		{"DELETE", "/organisation/a%252Fb/api-key/..?project_name=p%2Fq", "", "InvalidateAPIKey",
			&organisationv1.InvalidateAPIKeyRequest{OrganisationId: "a%2Fb", ProjectName: "p/q", Id: ".."}},
	}
	called := map[string]bool{}
	for _, tt := range tests {
		called[tt.rpc] = true
		t.Run(tt.method+tt.target, func(t *testing.T) {
			conn := &fakeConn{}
			wantCall(t, conn, send(conn, tt.method, organisations+tt.target, tt.body), tt.rpc, tt.request)
		})
	}
	service := organisationv1.File_proto_organisation_v1_organisation_service_proto.Services().Get(0)
	for i := range service.Methods().Len() {
		if name := string(service.Methods().Get(i).Name()); !called[name] {
			t.Errorf("%s has no route in this table", name)
		}
	}
}

func TestBadOrganisationCalls(t *testing.T) {
	tests := []struct {
		method, target, body string
		names                []string
	}{
		{"POST", "/organisation", `{"id":"x"}`, []string{"id"}},
		{"PUT", "/organisation/a", `{"id":"b"}`, []string{"id", `"a"`, `"b"`}},
		{"POST", "/organisation/a/project", `{"organisation_id":"b"}`, []string{"organisation_id", `"a"`, `"b"`}},
		{"POST", "/organisation/a/api-key", `{"organisation_id":"b"}`, []string{"organisation_id", `"a"`, `"b"`}},
		{"POST", "/organisation/a/api-key", `{"key":"chosen"}`, []string{"key"}},
		{"POST", "/organisation/a/api-key", `{"operator":"yes"}`, []string{"operator"}},
		{"GET", "/organisation/a?id=b", "", []string{`"id"`}},
		{"DELETE", "/organisation/a/project?organisation_id=b&project_name=p", "", []string{`"organisation_id"`}},
		{"DELETE", "/organisation/a/api-key/k?id=l", "", []string{`"id"`}},
		{"DELETE", "/organisation/a/project?project_name=p&project_name=q", "", []string{"project_name", "2 times"}},
		{"GET", "/whoami?search=x", "", []string{`"search"`}},
	}
	for _, tt := range tests {
		t.Run(tt.method+tt.target+tt.body, func(t *testing.T) {
			conn := &fakeConn{}
			wantError(t, send(conn, tt.method, organisations+tt.target, tt.body), 400, 3, tt.names...)
			if len(conn.calls) != 0 {
				t.Error("a call was made")
			}
		})
	}
}

func TestOrganisationAnswers(t *testing.T) {
	created := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC))
	const createdJSON = `"created_at":"2026-01-02T03:04:05.006Z"`
	key := &organisationv1.APIKey{Id: "k1", Name: "owner", Key: "remit_secret", CreatedAt: created, ProjectName: "remit"}
	const keyJSON = `{"id":"k1","name":"owner","key":"remit_secret",` + createdJSON + `,"invalidated":false,"project_name":"remit","operator":false}`
	acme := &organisationv1.Organisation{Id: "o1", Name: "acme", CreatedAt: created, UpdatedAt: created}
	const acmeJSON = `{"id":"o1","name":"acme",` + createdJSON + `,"updated_at":"2026-01-02T03:04:05.006Z"}`
	tests := []struct {
		name, method, target, body string
		reply                      proto.Message
		want                       string
	}{
		{"create organisation", "POST", "/organisation", "{}",
			&organisationv1.CreateOrganisationResponse{Organisation: acme, ApiKey: key, Token: "t"},
			`{"organisation":` + acmeJSON + `,"api_key":` + keyJSON + `,"token":"t"}`},
		{"organisations", "GET", "/organisation", "", nil, `{"organisations":[],"pagination":{"next_cursor":""},"token":""}`},
		{"projects", "GET", "/organisation/o1/projects", "",
			&organisationv1.GetProjectsForOrganisationResponse{
				Projects:   []*organisationv1.Project{{OrganisationId: "o1", Name: "default", CreatedAt: created}},
				Pagination: &paginationv1.PaginationResponse{NextCursor: "c"}},
			`{"projects":[{"organisation_id":"o1","name":"default",` + createdJSON + `}],"pagination":{"next_cursor":"c"},"token":""}`},
		{"delete project", "DELETE", "/organisation/o1/project", "", &organisationv1.DeleteProjectResponse{Token: "t"}, `{"token":"t"}`},
		{"create key", "POST", "/organisation/o1/api-key", "{}", &organisationv1.CreateAPIKeyResponse{ApiKey: key},
			`{"api_key":` + keyJSON + `,"token":""}`},
		{"invalidate key", "DELETE", "/organisation/o1/api-key/k1", "", nil, `{"token":""}`},
		{"whoami", "GET", "/whoami", "",
			&organisationv1.WhoAmIResponse{ApiKey: key, Principal: "key:k1", Organisation: acme, ProjectName: "remit", Operator: true,
				Assignments: []*organisationv1.Assignment{{ResourceUri: "/organisation/o1", Roles: []string{"owner"}}}},
			`{"api_key":` + keyJSON + `,"principal":"key:k1","organisation":` + acmeJSON + `,"project_name":"remit","operator":true,` +
				`"assignments":[{"resource_uri":"/organisation/o1","permissions":[],"roles":["owner"]}],"pagination":{"next_cursor":""},"token":""}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := send(&fakeConn{reply: tt.reply}, tt.method, organisations+tt.target, tt.body)
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			if got := strings.TrimSuffix(w.Body.String(), "\n"); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}
