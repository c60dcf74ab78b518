package server

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// everyWorld runs a test over gRPC and over REST, with more than one tenant. The
// matrix shows that the other name of the services leads to the same.
func everyWorld(t *testing.T, test func(t *testing.T, w *world)) {
	for _, service := range []string{serviceName, "REST"} {
		t.Run(service, func(t *testing.T) { test(t, newWorld(newNode(t).run().door(service))) })
	}
}

// noOwner is what those are told who are no owners there.
func noOwner(uri string) string {
	return "Permission denied: missing required role 'owner' on resource '" + uri + "'"
}

// Nobody grants what he does not hold, to himself or to others, by whatever call.
func TestNobodyGrantsWhatHeDoesNotHold(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		grants := []string{"permission.get", "role.get", "principal.assignment.create", "apiKeys.create"}
		mallory := w.keyHolding(fsm.BuiltInProject, w.uri(""), grants...)
		accomplice := w.key(fsm.BuiltInProject, "")
		owner, _ := w.builtIn().Role(fsm.RoleOwner)
		for _, user := range []string{mallory.principal, accomplice.principal, "anna"} {
			for _, uri := range []string{"", "/permission", "/role/x", "/principal/*", "/project/remit", "/project/production/resource/a"} {
				for _, role := range []string{fsm.RoleOwner, owner.ID.String()} {
					w.refuseExactly(t, mallory.ctx, grantRequest(fsm.BuiltInProject, user, w.uri(uri), nil, role), codes.PermissionDenied, noOwner(w.uri(uri)))
				}
				w.refuseMissing(t, mallory.ctx, grantRequest(fsm.BuiltInProject, user, w.uri(uri), nil, fsm.RoleEditor), "permission.create", w.uri(uri))
				w.refuseMissing(t, mallory.ctx, grantRequest(fsm.BuiltInProject, user, w.uri(uri), nil, fsm.RoleViewer), "permission.list", w.uri(uri))
				if user == "anna" {
					continue
				}
				for p := range fsm.ManagementPermissions() {
					if !slices.Contains(grants, p) {
						w.refuseMissing(t, mallory.ctx, grantRequest(fsm.BuiltInProject, user, w.uri(uri), []string{p}), p, w.uri(uri))
						// What he holds does not carry along what he does not.
						w.refuseMissing(t, mallory.ctx, grantRequest(fsm.BuiltInProject, user, w.uri(uri), append([]string{p}, grants...)), p, w.uri(uri))
					}
				}
			}
		}
		for _, of := range []string{project, fsm.BuiltInProject} {
			for _, role := range []string{fsm.RoleOwner, owner.ID.String()} {
				w.refuseExactly(t, mallory.ctx, &organisationv1.CreateAPIKeyRequest{
					OrganisationId: w.org(), ProjectName: of, Name: "x", Role: role}, codes.PermissionDenied, noOwner(w.uri("")))
			}
			for role, lacks := range map[string]string{fsm.RoleEditor: "permission.create", fsm.RoleViewer: "permission.list"} {
				w.refuseMissing(t, mallory.ctx, &organisationv1.CreateAPIKeyRequest{
					OrganisationId: w.org(), ProjectName: of, Name: "x", Role: role}, lacks, w.uri(""))
			}
		}
		// What he holds he may give, there and below.
		w.as(mallory).give(accomplice, w.uri(""), grants...)
		w.as(mallory).give(accomplice, w.uri("/project/*"), "role.get")

		// To hold it somewhere is not to hold it above, beside, or on the wildcard.
		w.give(mallory, w.uri("/project/production/resource/a/b"), "role.update")
		for _, uri := range []string{"", "/project", "/project/production", "/project/*", "/project/production/resource/a", "/project/production/resource/a/*",
			"/project/production/resource/*/b", "/project/staging/resource/a/b", "/project/production/resource/a/bb"} {
			w.refuseMissing(t, mallory.ctx, grantRequest(fsm.BuiltInProject, accomplice.principal, w.uri(uri), []string{"role.update"}), "role.update", w.uri(uri))
		}
		w.as(mallory).give(accomplice, w.uri("/project/production/resource/a/b/*"), "role.update")

		// An editor and a viewer give what they are, and no more.
		editor, viewer := w.key(fsm.BuiltInProject, fsm.RoleEditor), w.key(fsm.BuiltInProject, fsm.RoleViewer)
		w.refuseExactly(t, editor.ctx, grantRequest(fsm.BuiltInProject, editor.principal, w.uri(""), nil, fsm.RoleOwner), codes.PermissionDenied, noOwner(w.uri("")))
		// Who holds each of today's permissions is no owner for that.
		all := w.key(fsm.BuiltInProject, "")
		for p := range fsm.ManagementPermissions() {
			w.give(all, w.uri(""), p)
		}
		w.refuseExactly(t, all.ctx, grantRequest(fsm.BuiltInProject, all.principal, w.uri(""), nil, fsm.RoleOwner), codes.PermissionDenied, noOwner(w.uri("")))
		w.refuseExactly(t, all.ctx, revokeRequest(fsm.BuiltInProject, w.key(fsm.BuiltInProject, fsm.RoleOwner).principal, w.uri(""), nil, fsm.RoleOwner),
			codes.PermissionDenied, noOwner(w.uri("")))
		w.refuseMissing(t, editor.ctx, grantRequest(fsm.BuiltInProject, editor.principal, w.uri("/x"), []string{"apiKeys.create"}), "apiKeys.create", w.uri("/x"))
		w.refuseMissing(t, editor.ctx, &organisationv1.CreateAPIKeyRequest{
			OrganisationId: w.org(), ProjectName: fsm.BuiltInProject, Name: "x", Role: fsm.RoleOwner}, "apiKeys.create", w.uri("/project/remit"))
		w.refuse(t, viewer.ctx, grantRequest(fsm.BuiltInProject, viewer.principal, w.uri(""), nil, fsm.RoleViewer), codes.PermissionDenied, "principal.assignment.create")
		do(w.as(editor), w.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, accomplice.principal, w.uri("/x"), nil, fsm.RoleEditor))

		// With a project's own key there is no way to the built-in project at all.
		local := w.keyHolding(project, w.uri(""), grants...)
		w.refuse(t, local.ctx, grantRequest(fsm.BuiltInProject, local.principal, w.uri(""), []string{"role.get"}), codes.PermissionDenied, "acts on that project only")
		w.refuseExactly(t, local.ctx, &organisationv1.CreateAPIKeyRequest{
			OrganisationId: w.org(), ProjectName: project, Name: "x", Role: fsm.RoleOwner}, codes.PermissionDenied, noOwner(w.uri("")))
	})
}

// Grants in the built-in project stay within the organisation, whoever makes
// them.
func TestNobodyGrantsOutsideTheOrganisation(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		owner := w.key(fsm.BuiltInProject, fsm.RoleOwner)
		for _, c := range []caller{w.rootCaller(), owner} {
			for _, uri := range []string{
				"/", "/organisation", "/organisation/*", "/*", "/*/*", "/*/" + w.org(), "/organisation/" + w.foreign, "/organisation/" + w.foreign + "/role",
				"/organisation/" + someID, w.uri("x"), w.uri("%2F"), "/organisation/" + strings.ToUpper(w.org()), "/Organisation/" + w.org(),
				"/organisation/" + w.org()[:35], "/organisation/*/project", "/organization/" + w.org(), "/a",
			} {
				for _, user := range []string{c.principal, w.stranger.principal, "anna"} {
					if user == w.stranger.principal {
						w.refuse(t, c.ctx, grantRequest(fsm.BuiltInProject, user, uri, nil, fsm.RoleViewer), codes.NotFound, "is no key of the organisation")
						continue
					}
					w.refuse(t, c.ctx, grantRequest(fsm.BuiltInProject, user, uri, nil, fsm.RoleViewer), codes.PermissionDenied, `grants in project "remit" are on '`+w.uri("")+"'")
					w.refuse(t, c.ctx, grantRequest(fsm.BuiltInProject, user, uri, []string{"role.get"}), codes.PermissionDenied, `grants in project "remit"`)
				}
			}
			// URIs that only look as if they were inside.
			for _, uri := range []string{w.uri("/.."), w.uri("/../" + w.foreign), w.uri("//"), w.uri("/./x"), "//organisation/" + w.org(), w.uri("/a*")} {
				w.refuse(t, c.ctx, grantRequest(fsm.BuiltInProject, c.principal, uri, []string{"role.get"}), codes.InvalidArgument)
			}
		}
	})
}

// What is built in stays as it is, for owners and operators too.
func TestBuiltInIsReadOnly(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		owner, _ := w.builtIn().Role(fsm.RoleOwner)
		update, _ := w.builtIn().Permission("role.update")
		const remit = fsm.BuiltInProject
		attacks := []proto.Message{
			&permissionsv1.CreatePermissionRequest{ProjectName: remit, Name: "role.update", Description: "x"},
			&permissionsv1.CreatePermissionRequest{ProjectName: remit, Name: "new"},
			&permissionsv1.UpdatePermissionRequest{ProjectName: remit, Name: "role.update", Description: "x"},
			&permissionsv1.UpdatePermissionRequest{ProjectName: remit, Name: "role.update", NewName: "role.change"},
			&permissionsv1.UpdatePermissionRequest{ProjectName: remit, Name: update.ID.String(), NewName: "role.get"},
			&permissionsv1.DeletePermissionRequest{ProjectName: remit, Name: "role.update"},
			&permissionsv1.DeletePermissionRequest{ProjectName: remit, Name: update.ID.String()},
			&permissionsv1.CreateRoleRequest{ProjectName: remit, Name: fsm.RoleOwner},
			&permissionsv1.CreateRoleRequest{ProjectName: remit, Name: fsm.RoleViewer, Permissions: []string{"role.update", "apiKeys.create"}},
			&permissionsv1.CreateRoleRequest{ProjectName: remit, Name: "admin", Permissions: []string{"role.update"}},
			&permissionsv1.UpdateRoleRequest{ProjectName: remit, Id: fsm.RoleViewer, Permissions: []string{"role.update"}},
			&permissionsv1.UpdateRoleRequest{ProjectName: remit, Id: owner.ID.String(), Name: "boss"},
			&permissionsv1.UpdateRoleRequest{ProjectName: remit, Id: fsm.RoleOwner},
			&permissionsv1.DeleteRoleRequest{ProjectName: remit, Id: fsm.RoleOwner},
			&permissionsv1.DeleteRoleRequest{ProjectName: remit, Id: owner.ID.String()},
		}
		for _, c := range []caller{w.rootCaller(), w.key(remit, fsm.RoleOwner)} {
			for _, req := range attacks {
				w.refuse(t, c.ctx, req, codes.PermissionDenied, "are built in")
			}
			w.refuse(t, c.ctx, &organisationv1.DeleteProjectRequest{OrganisationId: w.org(), ProjectName: remit}, codes.PermissionDenied, "built in and stays")
			w.refuse(t, c.ctx, &organisationv1.CreateProjectRequest{OrganisationId: w.org(), Name: remit}, codes.InvalidArgument, "reserved")
			// The ids of what is built in are the same everywhere, and mean nothing in
			// other projects.
			for _, req := range []proto.Message{
				&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: owner.ID.String()},
				&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "x", Permissions: []string{update.ID.String()}},
				grantRequest(project, "anna", "/a", nil, owner.ID.String()),
				grantRequest(project, "anna", "/a", []string{update.ID.String()}),
			} {
				w.refuse(t, c.ctx, req, codes.NotFound)
			}
		}
	})
}

// Who may create roles may not change a role that stands already, even if it
// appears while he asks.
func TestCreateRoleOverAnother(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		w.role("admin", "read", "write")
		admin, _ := w.view().Role("admin")
		for _, of := range []string{project, fsm.BuiltInProject} {
			mallory := w.keyHolding(of, w.uri(""), "role.create", "permission.get", "role.get", "principal.assignment.create")
			for _, permissions := range [][]string{nil, {"read"}, {"read", "write"}} {
				w.refuseMissing(t, mallory.ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "admin", Permissions: permissions},
					"role.update", w.uri("/role/admin"))
				// What is refused anyway does not tell whether there is such a role.
				for _, id := range []string{admin.ID.String(), someID} {
					w.refuse(t, mallory.ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: id, Permissions: permissions},
						codes.InvalidArgument, "has the form of an id")
				}
				for _, name := range []string{"admin", "nobody"} {
					w.refuse(t, mallory.ctx, &permissionsv1.CreateRoleRequest{
						ProjectName: project, Name: name, Permissions: permissions, Description: strings.Repeat("x", fsm.MaxDescriptionBytes+1),
					}, codes.InvalidArgument, "the description has")
				}
			}
			// The right on the name is not the right on the role.
			w.give(mallory, w.uri("/role/admin"), "role.update")
			w.refuseMissing(t, mallory.ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "admin"}, "role.update", w.uri("/role/admin"))

			late := "late " + of
			var digest [32]byte
			w.onceBefore(fsm.KindPutRole, func() {
				read, _ := w.view().Permission("read")
				w.log.put(t, &fsm.PutRole{Scope: w.scope(), ID: NewID(), Name: late, Permissions: []fsm.ID{read.ID}})
				digest = digestOf(w.store.State())
			})
			_, err := w.call(mallory.ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: late, Permissions: []string{"write"}})
			role, _ := w.view().Role(late)
			wantCode(t, err, codes.PermissionDenied, "missing required permission 'role.update'")
			if role == nil || len(w.view().RolePermissions(role)) != 1 || digestOf(w.store.State()) != digest {
				t.Errorf("the role that came in between became %v", role)
			}
		}
	})
}

// onceBefore lets something happen before the next command of a kind is applied.
func (n *node) onceBefore(kind fsm.Kind, then func()) {
	n.log.hook(func(l *memoryLog) {
		l.before = func(_ context.Context, k fsm.Kind) error {
			if k == kind {
				l.hook(func(l *memoryLog) { l.before = nil })
				then()
			}
			return nil
		}
	})
}

// A rename takes the right on the new name too, so that nobody puts something of
// his in the place of a name that others trust.
func TestRenameUnderAnotherName(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		for _, of := range []string{project, fsm.BuiltInProject} {
			k := w.key(of, "")
			w.give(k, w.uri("/permission/read"), "permission.update")
			w.give(k, w.fill.Replace(orgURI+"/role/{viewer}"), "role.update")
			for _, name := range []string{"read", w.fill.Replace("{read}")} {
				for _, to := range []string{"admin.all", "write", "reads", "read.", "Read"} {
					w.refuseMissing(t, k.ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: name, NewName: to},
						"permission.update", w.uri("/permission/"+to))
				}
			}
			for _, id := range []string{"viewer", w.fill.Replace("{viewer}")} {
				for _, to := range []string{"admin", "viewers", "Viewer", "viewer "} {
					w.refuseMissing(t, k.ctx, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: id, Name: to}, "role.update", w.uri("/role/"+to))
				}
			}
			// The right on the new name alone does not do either.
			other := w.key(of, "")
			w.give(other, w.uri("/permission/admin.all"), "permission.update")
			w.give(other, w.uri("/role/admin"), "role.update")
			w.refuseMissing(t, other.ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: "admin.all"},
				"permission.update", w.uri("/permission/read"))
			w.refuseMissing(t, other.ctx, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Name: "admin"},
				"role.update", w.uri("/role/viewer"))
		}
	})
}
