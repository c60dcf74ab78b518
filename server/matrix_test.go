package server

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permioorganisationv1 "github.com/remit-io/remit/proto/permio/organisation/v1"
	permiov1 "github.com/remit-io/remit/proto/permio/permissions/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// documented is what the API's documentation says of each method: whose key may
// call it, and which permission it needs on which resource.
var documented = map[string]string{
	"PermissionsService/CreatePermission": "project; permission.create /organisation/{org}",
	"PermissionsService/GetPermission":    "project; permission.get /organisation/{org}/permission/{name}",
	"PermissionsService/UpdatePermission": "project; permission.update /organisation/{org}/permission/{name}; permission.update /organisation/{org}/permission/{new_name}",
	"PermissionsService/DeletePermission": "project; permission.delete /organisation/{org}/permission/{name}",
	"PermissionsService/ListPermissions":  "project; permission.list /organisation/{org}",
	"PermissionsService/CreateRole":       "project; role.create /organisation/{org}; permission.get /organisation/{org}/permission/{permission_name}; role.update /organisation/{org}/role/{id}",
	"PermissionsService/GetRole":          "project; role.get /organisation/{org}/role/{id}",
	"PermissionsService/UpdateRole":       "project; role.update /organisation/{org}/role/{id}; role.update /organisation/{org}/role/{name}",
	"PermissionsService/DeleteRole":       "project; role.delete /organisation/{org}/role/{id}",
	"PermissionsService/ListRoles":        "project; role.list /organisation/{org}",
	"PermissionsService/GrantUserPermissionsAndRolesOnResource": "project; permission.get /organisation/{org}/permission/{permission_name}; role.get /organisation/{org}/role/{role_id}; " +
		"principal.assignment.create /organisation/{org}/principal/{user_id}",
	"PermissionsService/RevokeUserPermissionsAndRolesOnResource": "project; principal.assignment.delete /organisation/{org}/project/{project}/resource{resource_uri}",
	"PermissionsService/GetUserPermissionsAndRolesOnResource":    "project; principal.assignment.get /organisation/{org}/project/{project}/resource{resource_uri}",
	"PermissionsService/ListPrincipals":                          "project; principal.list /organisation/{org}",
	"PermissionsService/GetAllAssignmentsForPrincipal":           "project; principal.assignment.list /organisation/{org}/principal/{principal_id}",
	"PermissionsService/Check":                                   "project",

	"OrganisationService/CreateOrganisation":         "operator",
	"OrganisationService/ListOrganisations":          "operator",
	"OrganisationService/DeleteOrganisation":         "operator",
	"OrganisationService/GetOrganisation":            "organisation; organisation.get /organisation/{id}",
	"OrganisationService/UpdateOrganisation":         "organisation; organisation.update /organisation/{id}",
	"OrganisationService/CreateProject":              "organisation; project.create /organisation/{org}",
	"OrganisationService/GetProjectsForOrganisation": "organisation; project.get /organisation/{org}",
	"OrganisationService/GetProject":                 "project; project.get /organisation/{org}/project/{project}",
	"OrganisationService/DeleteProject":              "project; project.delete /organisation/{org}/project/{project}",
	"OrganisationService/CreateAPIKey":               "project; apiKeys.create /organisation/{org}/project/{project}",
	"OrganisationService/ListAPIKeys":                "project; apiKeys.list /organisation/{org}/project/{project}",
	"OrganisationService/InvalidateAPIKey":           "project; apiKeys.invalidate /organisation/{org}/project/{project}",
	"OrganisationService/WhoAmI":                     "any",
}

// A need is a right without which a call fails, and the resource as the failure
// names it.
type need struct{ permission, on, sent string }

// A sample is one call of a method that succeeds with what it needs.
type sample struct {
	name    string
	request proto.Message // {names} in it are filled in
	needs   []need
	// only names whose key may make this very call, where the method is open to
	// others too: "remit" or "operator".
	only string
	// elsewhere is what the foreign organisation's owner gets, where that is not
	// what the method's other samples get.
	elsewhere *codes.Code
}

// on reads "permission URI", or "permission URI as URI" where the caller names
// the resource otherwise.
func on(lines ...string) (all []need) {
	for _, line := range lines {
		f := strings.Fields(line)
		all = append(all, need{f[0], f[1], f[len(f)-1]})
	}
	return all
}

func onEach(uri string, permissions ...string) (all []need) {
	for _, p := range permissions {
		all = append(all, need{p, uri, uri})
	}
	return all
}

func code(c codes.Code) *codes.Code { return &c }

// filled replaces {names} in every text of a request.
func (w *world) filled(req proto.Message) proto.Message {
	req = proto.Clone(req)
	m := req.ProtoReflect()
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			for i := range v.List().Len() {
				v.List().Set(i, protoreflect.ValueOfString(w.fill.Replace(v.List().Get(i).String())))
			}
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(w.fill.Replace(v.String())))
		}
		return true
	})
	return req
}

// rowOf words a row of the table as documented does.
func rowOf(r rule) string {
	row := map[reach]string{anywhere: "any", inProject: "project", inOrganisation: "organisation", inCluster: "operator"}[r.reach]
	for _, needed := range r.rights {
		row += "; " + needed.permission + " " + needed.on.path
	}
	return row
}

// isOperation reports a method of the cluster service: TestOperatorsAlone is about
// those.
func isOperation(method string) bool { return strings.HasPrefix(method, "ClusterService/") }

// TestMatrix calls every method of the services through every door: with a key
// that holds what the documentation says and nothing else, without each part of
// that, and with the keys of others.
func TestMatrix(t *testing.T) {
	seen := map[string]bool{}
	for _, desc := range []grpc.ServiceDesc{
		permissionsv1.PermissionsService_ServiceDesc, permiov1.PermissionsService_ServiceDesc,
		organisationv1.OrganisationService_ServiceDesc, permioorganisationv1.OrganisationService_ServiceDesc,
	} {
		for _, m := range desc.Methods {
			method := methodOf("/" + desc.ServiceName + "/" + m.MethodName)
			r, ok := rules[method]
			if !ok {
				t.Errorf("%s has no row in the table", method)
			}
			if got := rowOf(r); got != documented[method] {
				t.Errorf("%s:\nthe table asks for      %q\ndocumentation asks for  %q", method, got, documented[method])
			}
			if len(samples[method]) == 0 {
				t.Errorf("%s has no sample call", method)
			}
			seen[method] = true
		}
	}
	for method := range rules {
		if !seen[method] && !isOperation(method) {
			t.Errorf("%s has a row and is no method", method)
		}
	}
	for _, service := range []string{serviceName, publishedName, "REST"} {
		t.Run(service, func(t *testing.T) {
			for method, all := range samples {
				for _, s := range all {
					for _, of := range keysFor(method, s) {
						t.Run(strings.Join([]string{method, s.name, of}, "/"), func(t *testing.T) {
							w := newWorld(newNode(t).run().door(service))
							w.try(t, method, s, of)
						})
					}
				}
			}
		})
	}
}

// keysFor returns the projects whose keys may make the call.
func keysFor(method string, s sample) []string {
	reach, _, _ := strings.Cut(documented[method], ";")
	switch {
	case s.only != "":
		return []string{s.only}
	case reach == "project" || reach == "any":
		return []string{project, fsm.BuiltInProject}
	case reach == "operator":
		return []string{"operator"}
	}
	return []string{fsm.BuiltInProject}
}

// try makes a sample's call with a key of a project, or an operator's.
func (w *world) try(t *testing.T, method string, s sample, of string) {
	req := w.filled(s.request)
	c := w.operator
	if of != "operator" {
		c = func() caller { return w.key(of, "") }
	}
	k, ended := c(), c()
	for _, n := range s.needs {
		w.give(k, w.fill.Replace(n.on), n.permission)
		w.give(ended, w.fill.Replace(n.on), n.permission)
	}
	w.invalidate(w.projectOf(ended), ended)
	for _, n := range s.needs {
		w.take(k, w.fill.Replace(n.on), n.permission)
		w.refuseMissing(t, k.ctx, req, n.permission, w.fill.Replace(n.sent))
		w.give(k, w.fill.Replace(n.on), n.permission)
	}
	w.refuse(t, ended.ctx, req, codes.Unauthenticated, "the API key is not valid")
	w.refuse(t, t.Context(), req, codes.Unauthenticated, "no API key")
	secret, _ := NewSecret()
	w.refuse(t, withSecret(t.Context(), secret), req, codes.Unauthenticated, "the API key is not valid")
	w.trySibling(t, method, req)
	w.tryForeign(t, method, s, req)
	if _, err := w.call(k.ctx, req); err != nil {
		t.Errorf("with all that it needs: %v", err)
	}
}

// projectOf returns the project of a key, as the key itself is told.
func (w *world) projectOf(c caller) string {
	return do(w.as(c), w.WhoAmI, &organisationv1.WhoAmIRequest{}).ProjectName
}

// trySibling calls with an owner of the organisation whose key is of another
// project: he learns nothing but that.
func (w *world) trySibling(t *testing.T, method string, req proto.Message) {
	t.Helper()
	k := w.key(sibling, fsm.RoleOwner)
	reach, _, _ := strings.Cut(documented[method], ";")
	text := `Permission denied: the API key is of project "staging" and acts on that project only: use a key of project "remit"`
	if reach == "operator" {
		text = "Permission denied: only operators of the cluster may call " + method
	}
	if reach == "organisation" { // one of the very project is refused too
		w.refuse(t, w.key(project, fsm.RoleOwner).ctx, req, codes.PermissionDenied, `the API key is of project "production"`)
	}
	if reach == "any" || reach == "project" && projectNameOf(req) == "" {
		if _, err := w.call(k.ctx, req); err != nil {
			t.Errorf("a sibling about itself: %v", err)
		}
		return
	}
	w.refuseExactly(t, k.ctx, req, codes.PermissionDenied, text)
	if has(req, "project_name") {
		w.refuseExactly(t, k.ctx, with(req, "project_name", "nope"), codes.PermissionDenied, text)
		w.refuseExactly(t, k.ctx, with(req, "project_name", fsm.BuiltInProject), codes.PermissionDenied, text)
	}
	for _, field := range []string{"organisation_id", "id"} {
		if has(req, field) {
			w.refuseExactly(t, k.ctx, with(req, field, someID), codes.PermissionDenied, text)
		}
	}
}

func projectNameOf(req proto.Message) string {
	if r, ok := req.(interface{ GetProjectName() string }); ok {
		return r.GetProjectName()
	}
	return ""
}

// organisationField is what a request to the method names an organisation in.
func organisationField(method string) string {
	if strings.HasSuffix(method, "/GetOrganisation") || strings.HasSuffix(method, "/UpdateOrganisation") {
		return "id"
	}
	return "organisation_id"
}

// tryForeign calls with the owner of another organisation: what the request names
// is looked for in his own, and naming this one is refused as naming none is.
func (w *world) tryForeign(t *testing.T, method string, s sample, req proto.Message) {
	t.Helper()
	field := organisationField(method)
	want := codes.NotFound
	switch {
	case strings.HasPrefix(documented[method], "any"):
		want = codes.OK
	case has(req, field), strings.HasPrefix(documented[method], "operator"):
		want = codes.PermissionDenied
	}
	if s.elsewhere != nil {
		want = *s.elsewhere
	}
	before := digestOf(w.store.State())
	answer, err := w.call(w.stranger.ctx, req)
	wantCode(t, err, want)
	if digestOf(w.store.State()) != before {
		t.Error("a stranger changed the state")
	}
	if err == nil && strings.Contains(fmt.Sprint(answer), w.org()) {
		t.Errorf("a stranger was answered %v", answer)
	}
	if err == nil || !has(req, field) || want != codes.PermissionDenied {
		return
	}
	// An organisation that does not exist is refused in the same words.
	message := strings.ReplaceAll(err.Error(), w.org(), someID)
	if !strings.Contains(message, someID) {
		t.Errorf("%q does not name the organisation", message)
	}
	if _, err := w.call(w.stranger.ctx, with(req, field, someID)); err == nil || err.Error() != message {
		t.Errorf("no organisation: %v\nwant %s", err, message)
	}
}

// Two organisations with projects, permissions, roles and principals of the same
// names: whatever one does, the other neither sees nor feels it.
func TestOrganisationsAreApart(t *testing.T) {
	for _, service := range []string{serviceName, "REST"} {
		t.Run(service, func(t *testing.T) {
			for method, all := range samples {
				for _, s := range all {
					w := newWorld(newNode(t).run().door(service))
					w.twin()
					before := w.everything(w.rootCaller())
					req := w.filled(s.request)
					if f := organisationField(method); has(req, f) {
						req = with(req, f, w.foreign)
					}
					answer, err := w.call(w.stranger.ctx, req)
					if strings.HasPrefix(documented[method], "operator") {
						wantCode(t, err, codes.PermissionDenied)
					}
					if text := fmt.Sprint(answer, err); strings.Contains(text, w.org()) && !strings.Contains(fmt.Sprint(req), w.org()) {
						t.Errorf("%s, %s: the other organisation shows: %s", method, s.name, text)
					}
					if after := w.everything(w.rootCaller()); after != before {
						t.Errorf("%s, %s: the other organisation changed from\n%s\nto\n%s", method, s.name, before, after)
					}
				}
			}
		})
	}
}

// twin gives the foreign organisation what the other one has, with other rights.
func (w *world) twin() {
	d := w.as(w.stranger)
	do(d, d.CreateProject, &organisationv1.CreateProjectRequest{OrganisationId: w.foreign, Name: project})
	d.permission("read")
	d.permission("write")
	d.role("viewer", "write")
	d.grant("anna", "/a", []string{"write"}, []string{"viewer"})
}

// everything is what an owner sees of his organisation.
func (w *world) everything(c caller) string {
	w.t.Helper()
	organisation := do(w.as(c), w.WhoAmI, &organisationv1.WhoAmIRequest{}).Organisation.Id
	var all strings.Builder
	for _, req := range []proto.Message{
		&organisationv1.GetOrganisationRequest{Id: organisation},
		&organisationv1.GetProjectsForOrganisationRequest{OrganisationId: organisation},
		&organisationv1.ListAPIKeysRequest{OrganisationId: organisation, ProjectName: project},
		&organisationv1.ListAPIKeysRequest{OrganisationId: organisation, ProjectName: fsm.BuiltInProject},
		&permissionsv1.ListPermissionsRequest{ProjectName: project},
		&permissionsv1.ListRolesRequest{ProjectName: project},
		&permissionsv1.ListPrincipalsRequest{ProjectName: project},
		&permissionsv1.ListPrincipalsRequest{ProjectName: fsm.BuiltInProject},
		&permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: "anna"},
		&permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: c.principal},
	} {
		answer, err := w.call(c.ctx, req)
		if err != nil {
			w.t.Fatalf("%T: %v", req, err)
		}
		fmt.Fprintln(&all, with(answer, "token", ""))
	}
	return all.String()
}
