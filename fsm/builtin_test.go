package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestBuiltIns: permissions and roles keep their places for ever, since logs and
// snapshots keep them as numbers. The list may grow at its end.
func TestBuiltIns(t *testing.T) {
	want := strings.Fields(`
		permission.create permission.get permission.update permission.delete permission.list
		role.create role.get role.update role.delete role.list
		principal.assignment.create principal.assignment.delete principal.assignment.get principal.assignment.list principal.list
		organisation.get organisation.update project.create project.get project.delete
		apiKeys.create apiKeys.list apiKeys.invalidate usage.get audit.get owner editor viewer`)
	for place, name := range want {
		if builtIns[place].name != name {
			t.Errorf("at %d there is %q, was %q", place, builtIns[place].name, name)
		}
	}
	if len(builtIns) > 64 {
		t.Errorf("%d built-ins do not fit into a set", len(builtIns))
	}
	p := must(newTenancy(t).organisation().Project(BuiltInProject))
	var listed []string
	for name, description := range ManagementPermissions() {
		listed = append(listed, name)
		permission, ok := p.Permission(name)
		if !ok || permission.Description != description || description == "" || int(permission.number) != 2*slices.Index(want, name) {
			t.Errorf("%s is %+v", name, permission)
			continue
		}
		if err := firstOf(ValidatePermissionName(name), ValidateDescription(description)); err != nil {
			t.Error(err)
		}
		if byID, ok := p.Permission(permission.ID.String()); !ok || byID != permission {
			t.Errorf("%s is not found by its id", name)
		}
	}
	if !slices.Equal(listed, want[:25]) {
		t.Errorf("the management permissions are %q", listed)
	}
	for range ManagementPermissions() {
		break
	}
	// Their ids are in grants that are kept.
	for name, id := range map[string]string{
		"permission role.get": "16e98f7c-e10d-85fc-be59-a913063eb7bd",
		"role owner":          "46e4cdd2-a775-8634-a3d9-07ba3ae833cb",
	} {
		kind, name, _ := strings.Cut(name, " ")
		if got := builtInID(kind, name).String(); got != id {
			t.Errorf("the id of the %s %s is %s, was %s", kind, name, got, id)
		}
	}
}

// TestBuiltInRoles: an owner may do everything, an editor and a viewer exactly
// what the documentation lists.
func TestBuiltInRoles(t *testing.T) {
	m := newTenancy(t)
	o := m.organisation()
	p := must(o.Project(BuiltInProject))
	var all []string
	for name := range ManagementPermissions() {
		all = append(all, name)
	}
	for name, c := range map[string]struct {
		key         ID
		permissions []string
	}{
		RoleOwner: {rootID, all},
		RoleEditor: {editorKey, strings.Fields(`
			apiKeys.list organisation.get
			permission.create permission.delete permission.get permission.list permission.update
			principal.assignment.create principal.assignment.delete principal.assignment.get principal.assignment.list principal.list
			project.get role.create role.delete role.get role.list role.update usage.get`)},
		RoleViewer: {viewerKey, strings.Fields(`
			apiKeys.list organisation.get permission.get permission.list
			principal.assignment.get principal.assignment.list principal.list project.get role.get role.list usage.get`)},
		"": {emptyKey, nil},
	} {
		for _, permission := range all {
			want := slices.Contains(c.permissions, permission)
			if got := o.Holds(KeyPrincipal(c.key), permission, own("project", "x")); got != want {
				t.Errorf("the %s's key holds %s: %v", name, permission, got)
			}
			d, err := m.store.State().Check(o.ID, BuiltInProject, KeyPrincipal(c.key), []string{own("project", "x")}, []string{permission})
			if err != nil || d.Passed != want {
				t.Errorf("a check of the %s's key for %s: %v, %v", name, permission, d.Passed, err)
			}
		}
		granted, ok := BuiltInRole(name)
		if ok != (name != "") {
			t.Errorf("the role %q is there: %v", name, ok)
		}
		if !ok {
			continue
		}
		role, _ := p.Role(name)
		slices.Sort(c.permissions)
		want := strings.Join(c.permissions, " ")
		if name == RoleOwner {
			sorted := slices.Sorted(slices.Values(all))
			want = strings.Join(sorted, " ")
		}
		if got := permissionNames(granted); got != want || permissionNames(p.RolePermissions(role)) != want {
			t.Errorf("the role %s has %q", name, got)
		}
	}
}

// TestBuiltInIsReadOnly: nobody changes the permissions and roles of the built-in
// project, under any name, nor deletes or sweeps them.
func TestBuiltInIsReadOnly(t *testing.T) {
	m := newTenancy(t)
	for _, body := range []Body{
		&PutPermission{builtInScope, newID, "doc.print", ""},
		&PutPermission{builtInScope, newID, "role.get", "mine"},
		&PutPermission{builtInScope, newID, "owner", ""},
		&UpdatePermission{builtInScope, permissionID("role.get"), "role.see", ""},
		&UpdatePermission{builtInScope, permissionID("role.get"), "", "mine"},
		&UpdatePermission{builtInScope, newID, "doc.print", ""},
		&DeletePermission{builtInScope, permissionID("role.get")},
		&DeletePermission{builtInScope, newID},
		&PutRole{builtInScope, newID, "mine", "", []ID{permissionID("role.get")}},
		&PutRole{builtInScope, newID, RoleViewer, "", []ID{permissionID("apiKeys.create")}},
		&PutRole{builtInScope, roleViewer, RoleViewer, "", nil},
		&UpdateRole{builtInScope, roleViewer, "", "", []ID{permissionID("apiKeys.create")}},
		&UpdateRole{builtInScope, roleViewer, "seer", "", nil},
		&DeleteRole{builtInScope, roleOwner},
		&DeleteRole{builtInScope, newID},
	} {
		m.refuses(by(rootID, body), CodePermissionDenied, `the permissions and roles of project "remit" are built in`)
		m.refuses(byCluster(body), CodePermissionDenied, "built in")
	}
	// Their ids are not those of other projects' records, and the other way.
	m.refuses(byCluster(&Grant{m.scope, "u", "/a", []ID{permissionID("role.get")}, nil}), CodeNotFound, permissionID("role.get").String())
	m.refuses(byCluster(&Grant{m.scope, "u", "/a", nil, []ID{roleViewer}}), CodeNotFound, roleViewer.String())
	m.refuses(byCluster(&PutRole{m.scope, newID, "mine", "", []ID{permissionID("role.get")}}), CodeNotFound, permissionID("role.get").String())
	m.refuses(byCluster(&Grant{builtInScope, "u", own(), []ID{readID}, nil}), CodeNotFound, readID.String())
	m.refuses(byCluster(&Grant{builtInScope, "u", own(), nil, []ID{editorID}}), CodeNotFound, editorID.String())
	m.refuses(byCluster(&Grant{builtInScope, "u", own(), nil, nil}), CodeInvalidArgument, "at least one")

	before := content(t, m.store.State())
	m.must(&Sweep{builtInScope, 1000})
	if !bytes.Equal(before, content(t, m.store.State())) {
		t.Error("a sweep of the built-in project changed the state")
	}
}

// TestBuiltInsAreShared: an organisation costs no copy of them, and what is
// granted in one is not seen in another.
func TestBuiltInsAreShared(t *testing.T) {
	m := newTenancy(t)
	acme, _ := m.store.State().Organisation(acmeScope.Organisation)
	for _, o := range []*Organisation{m.organisation(), acme} {
		p := must(o.Project(BuiltInProject))
		if !p.IsBuiltIn() || p.permissions != builtInProject.permissions || p.roles != builtInProject.roles {
			t.Errorf("organisation %s has its own catalogue", o.Name)
		}
	}
	if m.project().IsBuiltIn() {
		t.Error("another project is built in")
	}
	names := slices.Collect(must(acme.Project(BuiltInProject)).Principals(""))
	if !slices.Equal(names, []string{KeyPrincipal(acmeKey)}) {
		t.Errorf("acme's principals are %v", names)
	}
	m.restart()
	if p := must(m.organisation().Project(BuiltInProject)); p.permissions != builtInProject.permissions {
		t.Error("a restored organisation has its own catalogue")
	}
	if got := fmt.Sprint(slices.Collect(must(m.organisation().Project(BuiltInProject)).Principals(""))); strings.Contains(got, KeyPrincipal(acmeKey)) {
		t.Errorf("the principals are %v", got)
	}
}

func (m *machine) organisation() *Organisation {
	o, _ := m.store.State().Organisation(m.scope.Organisation)
	return o
}
