package server

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// sibling is a project beside the one that most tests are about.
const sibling = "staging"

// A caller is a key and what it takes to call with it.
type caller struct {
	id        fsm.ID
	principal string
	secret    string
	ctx       context.Context
}

func (d *door) caller(k *organisationv1.APIKey) caller {
	d.t.Helper()
	id, ok := fsm.ParseID(k.Id)
	if !ok || k.Key == "" {
		d.t.Fatalf("no new key: %v", k)
	}
	return caller{id, "key:" + k.Id, k.Key, withSecret(d.t.Context(), k.Key)}
}

// as is the door with another key.
func (d *door) as(c caller) *door {
	other := *d
	other.ctx = c.ctx
	return &other
}

// org is the id of the root key's organisation.
func (d *door) org() string { return d.init.Organisation.String() }

// uri is a management URI of the root key's organisation.
func (d *door) uri(below string) string { return "/organisation/" + d.org() + below }

func (d *door) rootCaller() caller {
	return caller{d.init.Key, fsm.KeyPrincipal(d.init.Key), rootKey, withKey(d.t.Context())}
}

// key creates a key with a role, or none.
func (d *door) key(project, role string) caller {
	d.t.Helper()
	return d.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
		OrganisationId: d.org(), ProjectName: project, Name: "of the test", Role: role,
	}).ApiKey)
}

// operator creates an operator's key that holds nothing beside.
func (d *door) operator() caller {
	d.t.Helper()
	return d.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
		OrganisationId: d.org(), ProjectName: fsm.BuiltInProject, Name: "of the test", Operator: true,
	}).ApiKey)
}

// keyHolding creates a key that holds the permissions, each on the URI.
func (d *door) keyHolding(project, uri string, permissions ...string) caller {
	d.t.Helper()
	c := d.key(project, "")
	d.give(c, uri, permissions...)
	return c
}

func (d *door) project(name string) {
	d.t.Helper()
	do(d, d.CreateProject, &organisationv1.CreateProjectRequest{OrganisationId: d.org(), Name: name})
}

func (d *door) deleteProject(name string) {
	d.t.Helper()
	do(d, d.DeleteProject, &organisationv1.DeleteProjectRequest{OrganisationId: d.org(), ProjectName: name})
}

// organisation creates an organisation and returns its id and owner key.
func (d *door) organisation(name string) (id string, owner caller) {
	d.t.Helper()
	resp := do(d, d.CreateOrganisation, &organisationv1.CreateOrganisationRequest{Name: name})
	return resp.Organisation.Id, d.caller(resp.ApiKey)
}

// give grants management permissions to a key.
func (d *door) give(c caller, uri string, permissions ...string) {
	d.t.Helper()
	do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, c.principal, uri, permissions))
}

// take revokes what give granted.
func (d *door) take(c caller, uri string, permissions ...string) {
	d.t.Helper()
	do(d, d.RevokeUserPermissionsAndRolesOnResource, revokeRequest(fsm.BuiltInProject, c.principal, uri, permissions))
}

func (d *door) invalidate(project string, c caller) {
	d.t.Helper()
	do(d, d.InvalidateAPIKey, invalidateRequest(d.org(), project, c.id.String()))
}

func grantRequest(project, user, uri string, permissions []string, roles ...string) *permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest {
	return &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
	}
}

func revokeRequest(project, user, uri string, permissions []string, roles ...string) *permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest {
	return &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
		ProjectName: project, UserId: user, ResourceUri: uri, Permissions: permissions, Roles: roles,
	}
}

func invalidateRequest(organisation, project, id string) *organisationv1.InvalidateAPIKeyRequest {
	return &organisationv1.InvalidateAPIKeyRequest{OrganisationId: organisation, ProjectName: project, Id: id}
}

// missing is the document's text for a right that is not there.
func missing(permission, resource string) string {
	return "Permission denied: missing required permission '" + permission + "' on resource '" + resource + "'"
}

// refuseExactly is refuse with the whole message.
func (d *door) refuseExactly(t testing.TB, ctx context.Context, req proto.Message, code codes.Code, message string) {
	t.Helper()
	before := digestOf(d.store.State())
	_, err := d.call(ctx, req)
	if s := status.Convert(err); s.Code() != code || s.Message() != message {
		t.Errorf("%T:\ngot  %v %q\nwant %v %q", req, s.Code(), s.Message(), code, message)
	}
	if digestOf(d.store.State()) != before {
		t.Errorf("%T was refused and changed the state", req)
	}
}

// refuseMissing is refuseExactly for a right that is not there.
func (d *door) refuseMissing(t testing.TB, ctx context.Context, req proto.Message, permission, resource string) {
	t.Helper()
	d.refuseExactly(t, ctx, req, codes.PermissionDenied, missing(permission, resource))
}

// swept waits until the sweeper has nothing left to do.
func (d *door) swept() {
	d.t.Helper()
	await(d.t, "everything is swept", func() bool {
		state := d.store.State()
		for range state.Sweeping() {
			return false
		}
		return !state.SweepingKeys()
	})
}

// A world is a door to a node with more than one tenant.
type world struct {
	*door
	foreign  string // id of the other organisation
	stranger caller // its owner
	fill     *strings.Replacer
}

// newWorld adds to the sample a sibling project, another organisation, and names
// for what samples are about: {org}, {read}, {viewer}, {ci} and {other}.
func newWorld(d *door) *world {
	d.t.Helper()
	d.sample()
	d.project(sibling)
	w := &world{door: d}
	w.foreign, w.stranger = d.organisation("acme")
	read, _ := d.view().Permission("read")
	viewer, _ := d.view().Role("viewer")
	w.fill = strings.NewReplacer("{org}", d.org(), "{read}", read.ID.String(), "{viewer}", viewer.ID.String(),
		"{ci}", d.key(project, "").id.String(), "{other}", w.foreign)
	return w
}
