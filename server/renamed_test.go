package server

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A right on one permission does not follow it to the name of another, if it is
// renamed between the caller's look and the log.
func TestRightsDoNotFollowARename(t *testing.T) {
	for _, test := range []struct {
		right string
		kind  fsm.Kind
		call  func(principal string) proto.Message
	}{
		{"permission.delete", fsm.KindDeletePermission, func(string) proto.Message {
			return &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "tmp"}
		}},
		{"permission.update", fsm.KindUpdatePermission, func(string) proto.Message {
			return &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "tmp", Description: "defaced"}
		}},
		{"permission.get", fsm.KindGrant, func(principal string) proto.Message {
			return grantRequest(project, principal, "/", []string{"tmp"})
		}},
		{"permission.get", fsm.KindPutRole, func(string) proto.Message {
			return &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "mine", Permissions: []string{"tmp"}}
		}},
	} {
		everyWorld(t, func(t *testing.T, w *world) {
			id := w.permission("tmp")
			k := w.key(project, "")
			w.give(k, w.uri("/permission/tmp"), test.right)
			w.give(k, w.uri(""), "principal.assignment.create", "role.create")
			w.onceBefore(test.kind, func() {
				w.log.put(t, &fsm.UpdatePermission{Scope: w.scope(), ID: mustID(t, id), Name: "payroll.admin"})
			})
			_, err := w.call(k.ctx, test.call("mallory"))
			wantCode(t, err, codes.PermissionDenied, missing(test.right, w.uri("/permission/payroll.admin")))
			if p, ok := w.view().Permission("payroll.admin"); !ok || p.Description != "" {
				t.Errorf("the permission is %+v", p)
			}
			if w.allowed("mallory", "/", "payroll.admin") {
				t.Error("mallory was granted it")
			}
		})
	}
}

// What a name that is not a role's would be on takes the right on all roles:
// otherwise the one on the text would tell that there is no such role.
func TestRoleNamesTellNothing(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		k := w.key(project, "")
		for _, right := range []string{"role.get", "role.update", "role.delete"} {
			w.give(k, w.uri("/role/auditor"), right)
		}
		w.give(k, w.uri(""), "principal.assignment.create")
		refused := func() {
			t.Helper()
			for right, req := range map[string]proto.Message{
				"role.delete": &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "auditor"},
				"role.update": &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "auditor"},
				"role.get":    &permissionsv1.GetRoleRequest{ProjectName: project, Id: "auditor"},
			} {
				w.refuseMissing(t, k.ctx, req, right, w.uri("/role/auditor"))
			}
			w.refuseMissing(t, k.ctx, grantRequest(project, "anna", "/", nil, "auditor"), "role.get", w.uri("/role/auditor"))
		}
		refused()
		w.role("auditor", "read")
		refused()
		all := w.key(project, fsm.RoleEditor)
		if _, err := w.call(all.ctx, &permissionsv1.GetRoleRequest{ProjectName: project, Id: "auditor"}); err != nil {
			t.Error(err)
		}
		w.refuse(t, all.ctx, &permissionsv1.GetRoleRequest{ProjectName: project, Id: "nobody"}, codes.NotFound)
	})
}
