package server

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

// An organisation is never left to nobody: its last owner key stays, whoever
// tries, and however.
func TestTheLastOwnerStays(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		d := w.as(w.stranger)
		root := "/organisation/" + w.foreign
		key := func(role string, permissions ...string) caller {
			c := w.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
				OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject, Name: "x", Role: role}).ApiKey)
			if len(permissions) > 0 {
				d.give(c, root, permissions...)
			}
			return c
		}
		owner, _ := w.builtIn().Role(fsm.RoleOwner) // its id is everywhere the same
		revokes := func(c caller) []proto.Message {
			return []proto.Message{
				revokeRequest(fsm.BuiltInProject, c.principal, root, nil, fsm.RoleOwner),
				revokeRequest(fsm.BuiltInProject, c.principal, root, nil, owner.ID.String()),
				revokeRequest(fsm.BuiltInProject, c.principal, root+"/", nil, fsm.RoleViewer, fsm.RoleOwner),
				revokeRequest(fsm.BuiltInProject, c.principal, root, []string{"role.get"}, fsm.RoleOwner),
			}
		}
		invalidate := func(c caller) proto.Message {
			return invalidateRequest(w.foreign, fsm.BuiltInProject, c.id.String())
		}
		const text = "Permission denied: this is the organisation's last owner key: make another key of project \"remit\" an owner first"
		stays := func(last caller, attackers ...caller) {
			t.Helper()
			for _, c := range append(attackers, last) {
				told := noOwner(root)
				if c == last {
					told = text
				}
				for _, req := range append(revokes(last), invalidate(last)) {
					w.refuseExactly(t, c.ctx, req, codes.PermissionDenied, told)
				}
				w.refuse(t, c.ctx, &organisationv1.DeleteProjectRequest{OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject}, codes.PermissionDenied)
			}
			if _, err := w.call(last.ctx, &organisationv1.GetOrganisationRequest{Id: w.foreign}); err != nil {
				t.Errorf("the last owner: %v", err)
			}
		}
		editor := key(fsm.RoleEditor)
		d.give(editor, root, "apiKeys.invalidate", "project.delete")
		remover := key("", "principal.assignment.delete", "apiKeys.invalidate", "project.delete")
		stays(w.stranger, editor, remover)

		// Owners who cannot act for the organisation do not count: those below it, of
		// other projects, that are no keys, or that have ended.
		below, gone := key(""), key(fsm.RoleOwner)
		do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, below.principal, root+"/project", nil, fsm.RoleOwner))
		do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, below.principal, root+"/*", nil, fsm.RoleOwner))
		do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, "anna", root, nil, fsm.RoleOwner))
		do(d, d.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, w.stranger.principal, root, nil, fsm.RoleOwner)) // again
		do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{OrganisationId: w.foreign, ProjectName: "default", Name: "x", Role: fsm.RoleOwner})
		do(d, d.InvalidateAPIKey, invalidate(gone).(*organisationv1.InvalidateAPIKeyRequest))
		do(d, d.InvalidateAPIKey, invalidate(gone).(*organisationv1.InvalidateAPIKeyRequest)) // again, which counts once
		stays(w.stranger, editor, remover)

		// With a second owner the first may go, and then the second stays.
		for _, end := range []func(first, second caller){
			func(first, second caller) {
				do(w.as(second), w.InvalidateAPIKey, invalidate(first).(*organisationv1.InvalidateAPIKeyRequest))
			},
			func(first, second caller) {
				do(w.as(first), w.RevokeUserPermissionsAndRolesOnResource, revokeRequest(fsm.BuiltInProject, first.principal, root, nil, fsm.RoleOwner))
			},
			func(first, second caller) {
				do(w.as(second), w.RevokeUserPermissionsAndRolesOnResource, revokeRequest(fsm.BuiltInProject, first.principal, root, nil, fsm.RoleOwner))
			},
			func(first, second caller) {
				do(w.as(first), w.InvalidateAPIKey, invalidate(first).(*organisationv1.InvalidateAPIKeyRequest))
			},
		} {
			first := w.stranger
			second := w.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
				OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject, Name: "x", Role: fsm.RoleOwner}).ApiKey)
			end(first, second)
			w.stranger, d = second, w.as(second)
			stays(second, editor, remover)
		}
	})
}

// Two owners who end each other at one time: one of them stays.
func TestTwoOwnersEndEachOther(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		d := w.as(w.stranger)
		second := w.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
			OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject, Name: "x", Role: fsm.RoleOwner}).ApiKey)
		third := w.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
			OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject, Name: "x"}).ApiKey)
		d.give(third, "/organisation/"+w.foreign, "apiKeys.invalidate")
		o, _ := w.store.State().Organisation(mustID(t, w.foreign))
		builtIn, _ := o.Project(fsm.BuiltInProject)
		scope := fsm.Scope{Organisation: o.ID, Project: builtIn.ID}
		w.onceBefore(fsm.KindInvalidateKey, func() { w.log.put(t, &fsm.InvalidateKey{Scope: scope, ID: second.id}) })
		_, err := w.call(second.ctx, invalidateRequest(w.foreign, fsm.BuiltInProject, w.stranger.id.String()))
		wantCode(t, err, codes.Unauthenticated)

		// The same by somebody who is none of them.
		fourth := w.caller(do(d, d.CreateAPIKey, &organisationv1.CreateAPIKeyRequest{
			OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject, Name: "x", Role: fsm.RoleOwner}).ApiKey)
		w.onceBefore(fsm.KindInvalidateKey, func() { w.log.put(t, &fsm.InvalidateKey{Scope: scope, ID: fourth.id}) })
		_, err = w.call(third.ctx, invalidateRequest(w.foreign, fsm.BuiltInProject, w.stranger.id.String()))
		wantCode(t, err, codes.PermissionDenied, noOwner("/organisation/"+w.foreign))
		if _, err := w.call(w.stranger.ctx, &organisationv1.GetOrganisationRequest{Id: w.foreign}); err != nil {
			t.Errorf("nobody is left: %v", err)
		}
	})
}

func mustID(t *testing.T, text string) fsm.ID {
	t.Helper()
	id, ok := fsm.ParseID(text)
	if !ok {
		t.Fatalf("%q is no id", text)
	}
	return id
}

// Operators stand outside every organisation: its owners, those of the first one
// too, neither become one nor end one.
func TestOwnersDoNotReachOperators(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		owner := w.key(fsm.BuiltInProject, fsm.RoleOwner)
		operator := w.operator()
		const only = "Permission denied: only operators of the cluster may "
		for _, c := range []caller{owner, w.stranger, w.key(project, fsm.RoleOwner)} {
			for _, req := range []proto.Message{
				&organisationv1.CreateOrganisationRequest{Name: "x"}, &organisationv1.ListOrganisationsRequest{},
				&organisationv1.DeleteOrganisationRequest{Id: w.foreign}, &organisationv1.DeleteOrganisationRequest{Id: w.org()},
				&organisationv1.DeleteOrganisationRequest{Id: someID}, &organisationv1.DeleteOrganisationRequest{Id: "nonsense"},
			} {
				w.refuseExactly(t, c.ctx, req, codes.PermissionDenied, only+"call "+methodOf(w.path(req)))
			}
		}
		for organisation, c := range map[string]caller{w.org(): owner, w.foreign: w.stranger} {
			for _, of := range []string{fsm.BuiltInProject, "default", project} {
				_, err := w.call(c.ctx, &organisationv1.CreateAPIKeyRequest{OrganisationId: organisation, ProjectName: of, Name: "x", Operator: true, Role: fsm.RoleOwner})
				if err == nil {
					t.Errorf("an owner made an operator's key of %s", of)
				}
			}
			w.refuseExactly(t, c.ctx, &organisationv1.CreateAPIKeyRequest{OrganisationId: organisation, ProjectName: fsm.BuiltInProject, Name: "x", Operator: true},
				codes.PermissionDenied, only+"do this")
		}
		for _, c := range []caller{w.rootCaller(), operator} {
			w.refuseExactly(t, owner.ctx, invalidateRequest(w.org(), fsm.BuiltInProject, c.id.String()), codes.PermissionDenied, only+"do this")
			w.refuse(t, w.stranger.ctx, invalidateRequest(w.org(), fsm.BuiltInProject, c.id.String()), codes.PermissionDenied, w.uri("/project/remit"))
			w.refuse(t, w.stranger.ctx, invalidateRequest(w.foreign, fsm.BuiltInProject, c.id.String()), codes.NotFound)
		}
		// An operator, too, makes operators of the built-in project's keys only.
		w.refuse(t, w.ctx, &organisationv1.CreateAPIKeyRequest{OrganisationId: w.org(), ProjectName: project, Name: "x", Operator: true}, codes.InvalidArgument, "operator's key")
		// An operator who is an owner stays one: without it he could not make another.
		w.refuseExactly(t, owner.ctx, revokeRequest(fsm.BuiltInProject, w.rootCaller().principal, w.uri(""), nil, fsm.RoleOwner), codes.PermissionDenied, only+"do this")
		id, _ := w.organisation("more")
		do(w.door, w.DeleteOrganisation, &organisationv1.DeleteOrganisationRequest{Id: id})
	})
}

// An operator has no rights in organisations by being one.
func TestOperatorsHoldNothingElsewhere(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.twin()
		operator := w.operator()
		for _, all := range samples {
			for _, s := range all {
				if len(s.needs) > 0 {
					w.refuse(t, operator.ctx, w.filled(s.request), codes.PermissionDenied)
				}
			}
		}
		for _, req := range []proto.Message{
			&organisationv1.GetOrganisationRequest{Id: w.foreign}, &organisationv1.UpdateOrganisationRequest{Id: w.foreign, Name: "x"},
			&organisationv1.CreateProjectRequest{OrganisationId: w.foreign, Name: "x"}, &organisationv1.GetProjectsForOrganisationRequest{OrganisationId: w.foreign},
			&organisationv1.DeleteProjectRequest{OrganisationId: w.foreign, ProjectName: project},
			&organisationv1.CreateAPIKeyRequest{OrganisationId: w.foreign, ProjectName: project, Name: "x"},
			invalidateRequest(w.foreign, fsm.BuiltInProject, w.stranger.id.String()),
		} {
			w.refuse(t, w.ctx, req, codes.PermissionDenied, w.foreign)
			w.refuse(t, operator.ctx, req, codes.PermissionDenied, w.foreign)
		}
	})
}

// The cluster is never left without an operator, nor an operator without his key.
func TestTheLastOperatorStays(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.key(fsm.BuiltInProject, fsm.RoleOwner) // so that no rule about owners helps
		root := invalidateRequest(w.org(), fsm.BuiltInProject, w.init.Key.String())
		const text = "Permission denied: this is the cluster's last operator key: create another first"
		w.refuseExactly(t, w.ctx, root, codes.PermissionDenied, text)
		// An organisation that has an operator's key is not deleted under him.
		w.refuse(t, w.ctx, &organisationv1.DeleteOrganisationRequest{Id: w.org()}, codes.PermissionDenied, "has the operator key", w.init.Key.String())
		operator := w.operator()
		w.refuse(t, operator.ctx, &organisationv1.DeleteOrganisationRequest{Id: w.org()}, codes.PermissionDenied, "has the operator key")
		w.give(operator, w.uri(""), "apiKeys.invalidate", "apiKeys.create")
		do(w.as(operator), w.InvalidateAPIKey, root)
		w.refuse(t, w.ctx, &organisationv1.ListOrganisationsRequest{}, codes.Unauthenticated)
		w.refuseExactly(t, operator.ctx, invalidateRequest(w.org(), fsm.BuiltInProject, operator.id.String()), codes.PermissionDenied, text)
		w.refuse(t, operator.ctx, &organisationv1.DeleteOrganisationRequest{Id: w.org()}, codes.PermissionDenied, "has the operator key")
		do(w.as(operator), w.ListOrganisations, &organisationv1.ListOrganisationsRequest{})
	})
}
