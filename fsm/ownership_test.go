package fsm

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// everyPermission is each of today's, which is not what an owner holds.
func everyPermission() []ID {
	var all []ID
	for name := range ManagementPermissions() {
		all = append(all, permissionID(name))
	}
	return all
}

// TestOwnershipIsMoreThanToday: who holds each permission that there is may grant
// each of them, and makes no owner of anybody.
func TestOwnershipIsMoreThanToday(t *testing.T) {
	m := newTenancy(t)
	mighty := KeyPrincipal(emptyKey)
	m.must(&Grant{builtInScope, mighty, own(), everyPermission(), []ID{roleEditor, roleViewer}})
	grant := func(uri string, permissions, roles []ID) *Command {
		return by(emptyKey, &Grant{builtInScope, mighty, uri, permissions, roles}, [2]string{"principal.assignment.create", uri})
	}
	m.mustBy(grant(own("a"), everyPermission(), []ID{roleEditor, roleViewer}))
	for _, uri := range []string{own(), own("a"), own("project", "production", "resource"), own("project") + "/*"} {
		m.refuses(grant(uri, nil, []ID{roleOwner}), CodePermissionDenied, missingOwner(uri))
		m.refuses(grant(uri, everyPermission(), []ID{roleViewer, roleOwner}), CodePermissionDenied, missingOwner(uri))
	}
	m.refuses(by(emptyKey, newKey(builtInScope, newID, roleOwner)), CodePermissionDenied, missingOwner(own()))
	m.refuses(by(emptyKey, newKey(m.scope, newID, roleOwner)), CodePermissionDenied, missingOwner(own()))
	m.mustBy(by(emptyKey, newKey(builtInScope, newID, roleEditor)))

	// The role itself, there or above, is what it takes; wildcards are of grants.
	m.must(&Grant{builtInScope, mighty, own("project", "a"), nil, []ID{roleOwner}})
	m.must(&Grant{builtInScope, mighty, own("role") + "/*", nil, []ID{roleOwner}})
	for _, uri := range []string{own("project", "a"), own("project", "a", "resource", "x"), own("project", "a") + "/*", own("role") + "/*", own("role", "x", "y")} {
		m.mustBy(grant(uri, nil, []ID{roleOwner}))
	}
	for _, uri := range []string{own("project"), own("project", "b"), own("project", "ab"), own("project") + "/*", own("role"), own("roles", "x"), own() + "/*/x", own()} {
		m.refuses(grant(uri, nil, []ID{roleOwner}), CodePermissionDenied, missingOwner(uri))
	}
	m.restart()
	m.refuses(grant(own(), nil, []ID{roleOwner}), CodePermissionDenied, missingOwner(own()))
	m.must(&Revoke{builtInScope, mighty, own("project", "a"), nil, []ID{roleOwner}})
	m.refuses(grant(own("project", "a"), nil, []ID{roleOwner}), CodePermissionDenied, missingOwner(own("project", "a")))
	if m.organisation().Holds(mighty, RoleOwner, own()) {
		t.Error("ownership is a permission with a name")
	}

	long := own("role") + strings.Repeat("/文", 300)
	if err := m.store.State().Refuses(grant(long, nil, []ID{roleOwner})); err == nil || !utf8.ValidString(err.Error()) {
		t.Errorf("on a long URI: %v", err)
	}
}

// ownerEnds are the commands that take the organisation from a key.
func ownerEnds(key ID) []Body {
	return []Body{
		&Revoke{builtInScope, KeyPrincipal(key), own(), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(key), own() + "/", []ID{permissionID("role.get")}, []ID{roleViewer, roleOwner}},
		&InvalidateKey{builtInScope, key},
	}
}

// TestWhoEndsOwners: of an owner another owner, of an operator an operator.
func TestWhoEndsOwners(t *testing.T) {
	owner, second, operator, plain := ID{90}, ID{91}, ID{92}, ID{93}
	build := func() *machine {
		m := newTenancy(t)
		m.must(newKey(builtInScope, owner, roleOwner))
		m.must(newKey(builtInScope, second, roleOwner))
		for key, role := range map[ID]ID{operator: roleOwner, plain: {}} { // plain owns nothing here
			c := newKey(builtInScope, key, role)
			c.Operator = true
			m.must(c)
		}
		m.must(&Grant{builtInScope, KeyPrincipal(emptyKey), own(), everyPermission(), nil})
		m.must(&Grant{builtInScope, KeyPrincipal(viewerKey), own() + "/*", nil, []ID{roleOwner}}) // below is not there
		return m
	}
	m := build()
	for _, c := range []struct {
		actor, victim ID
		refused       string
	}{
		{editorKey, second, missingOwner(own())},
		{emptyKey, second, missingOwner(own())},
		{viewerKey, second, missingOwner(own())},
		{plain, second, missingOwner(own())}, // an operator is no owner
		{editorKey, operator, "only operators"},
		{emptyKey, operator, "only operators"},
		{owner, operator, "only operators"},
		{owner, rootID, "only operators"},
		{owner, second, ""},
		{second, second, ""},
		{operator, second, ""},
		{plain, operator, ""}, // who need be no owner
		{rootID, operator, ""},
		{operator, operator, ""},
		{ID{}, second, ""}, // the cluster itself
		{ID{}, operator, ""},
	} {
		for _, body := range ownerEnds(c.victim) {
			command := by(c.actor, body)
			if c.actor == (ID{}) {
				command = byCluster(body)
			}
			if c.refused != "" {
				m.refuses(command, CodePermissionDenied, c.refused)
				continue
			}
			m := build()
			before := m.organisation().owners
			m.mustBy(command)
			for range 2 {
				if m.organisation().owners != before-1 {
					t.Errorf("%T by %x leaves %d owners of %d", body, c.actor[:1], m.organisation().owners, before)
				}
				m.restart()
			}
		}
	}

	// What makes nobody an owner who can act, ends as before.
	for _, body := range []Body{
		&Grant{builtInScope, KeyPrincipal(editorKey), own("x"), nil, []ID{roleOwner}},
		&Grant{builtInScope, KeyPrincipal(appKey), own(), nil, []ID{roleOwner}},
		&Grant{builtInScope, "usr_boss", own(), nil, []ID{roleOwner}},
	} {
		m.must(body)
	}
	for _, body := range []Body{
		&Revoke{builtInScope, KeyPrincipal(editorKey), own("x"), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(appKey), own(), nil, []ID{roleOwner}},
		&Revoke{builtInScope, "usr_boss", own(), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(owner), own(), nil, []ID{roleViewer}},
		&Revoke{builtInScope, KeyPrincipal(owner), own("x"), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(plain), own(), nil, []ID{roleOwner}}, // never had it
		&InvalidateKey{m.scope, appKey},
		&InvalidateKey{builtInScope, invalidKey}, // again
	} {
		m.mustBy(by(emptyKey, body))
	}

	// One who was an owner when he asked is none any more.
	m = build()
	results := m.play(byCluster(ownerEnds(owner)[0]), by(owner, ownerEnds(second)[0]))
	if results[0].Err != nil || results[1].Err == nil || results[1].Err.Message != missingOwner(own()) {
		t.Errorf("in one batch: %v, %v", results[0].Err, results[1].Err)
	}
}

// TestWhyOwnersStay: who may not end an owner does not learn whether it is the
// last one, nor whether it is the last operator.
func TestWhyOwnersStay(t *testing.T) {
	m := newTenancy(t)
	acmeRoot, admin := ManagementURI(acmeScope.Organisation), ID{94}
	m.must(newKey(acmeBuiltIn, admin, ID{}))
	m.must(&Grant{acmeBuiltIn, KeyPrincipal(admin), acmeRoot, everyPermission(), nil})
	for _, body := range []Body{&Revoke{acmeBuiltIn, KeyPrincipal(acmeKey), acmeRoot, nil, []ID{roleOwner}}, &InvalidateKey{acmeBuiltIn, acmeKey}} {
		m.refuses(by(admin, body), CodePermissionDenied, missingOwner(acmeRoot))
		m.refuses(by(acmeKey, body), CodePermissionDenied, "organisation's last owner key")
		m.refuses(byCluster(body), CodePermissionDenied, "organisation's last owner key")
	}
	for _, body := range ownerEnds(rootID) { // the last of both
		m.refuses(by(editorKey, body), CodePermissionDenied, "only operators")
		last := "organisation's last owner key"
		if _, ok := body.(*InvalidateKey); ok {
			last = "cluster's last operator key"
		}
		m.refuses(by(rootID, body), CodePermissionDenied, last)
	}
	operator := newKey(builtInScope, ID{95}, ID{})
	operator.Operator = true
	m.must(operator)
	for _, body := range ownerEnds(rootID) {
		m.refuses(by(editorKey, body), CodePermissionDenied, "only operators")
		m.refuses(by(operator.ID, body), CodePermissionDenied, "organisation's last owner key")
	}
}
