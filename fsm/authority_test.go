package fsm

import (
	"fmt"
	"strings"
	"testing"
)

// TestJudge: who sent a command has to be valid, to act there, and to hold all
// that the call requires.
func TestJudge(t *testing.T) {
	m := newTenancy(t)
	put := &PutPermission{m.scope, newID, "doc.print", ""}
	elsewhere := Scope{m.scope.Organisation, ID{77}}
	for _, c := range []struct {
		command *Command
		code    Code
		part    string
	}{
		{by(newID, put), CodeUnauthenticated, "not valid any more"},
		{by(invalidKey, put), CodeUnauthenticated, "not valid any more"},
		{by(deletedKey, put), CodeUnauthenticated, "not valid any more"},
		{by(deletedKey, &PutPermission{Scope{m.scope.Organisation, ID{60}}, newID, "doc.print", ""}), CodeUnauthenticated, "not valid"},
		{by(ID{0, 1}, put), CodeUnauthenticated, "not valid"},

		// Another project, whether it is there or not.
		{by(appKey, &PutPermission{builtInScope, newID, "doc.print", ""}), CodePermissionDenied, "of another project"},
		{by(appKey, &PutPermission{elsewhere, newID, "doc.print", ""}), CodePermissionDenied, "of another project"},
		{by(appKey, &Grant{acmeScope, "u", "/", []ID{readID}, nil}), CodePermissionDenied, "of another project"},
		{by(appKey, &PutPermission{Scope{ID{77}, m.scope.Project}, newID, "doc.print", ""}), CodePermissionDenied, "of another project"},
		{by(rootID, &PutPermission{acmeScope, newID, "doc.print", ""}), CodePermissionDenied, "of another project"},
		{by(rootID, &PutPermission{Scope{ID{77}, ID{78}}, newID, "doc.print", ""}), CodePermissionDenied, "of another project"},
		{by(acmeKey, put), CodePermissionDenied, "of another project"},
		{by(acmeKey, &DeletePermission{m.scope, readID}), CodePermissionDenied, "of another project"},
		{by(acmeKey, &InvalidateKey{builtInScope, editorKey}), CodePermissionDenied, "of another project"},
		{by(appKey, &UpdateOrganisation{m.scope.Organisation, "mine"}), CodePermissionDenied, "of another project"},
		{by(acmeKey, &UpdateOrganisation{m.scope.Organisation, "mine"}), CodePermissionDenied, "of another project"},
		{by(rootID, &UpdateOrganisation{acmeScope.Organisation, "mine"}), CodePermissionDenied, "of another project"},
		{by(appKey, &CreateProject{Scope{m.scope.Organisation, newID}, "mine"}), CodePermissionDenied, "of another project"},
		{by(appKey, &DeleteProject{builtInScope}), CodePermissionDenied, "of another project"},
		{by(appKey, newKey(builtInScope, newID, ID{})), CodePermissionDenied, "of another project"},
		{by(acmeKey, &Sweep{m.scope, 1}), CodePermissionDenied, "of another project"},

		// A missing right, in the words of the documentation.
		{by(emptyKey, put, [2]string{"permission.create", own()}), CodePermissionDenied, missing("permission.create", own())},
		{by(viewerKey, put, [2]string{"permission.create", own()}), CodePermissionDenied, missing("permission.create", own())},
		{by(editorKey, &UpdateOrganisation{m.scope.Organisation, "mine"}, [2]string{"organisation.update", own()}), CodePermissionDenied, missing("organisation.update", own())},
		{by(appKey, put, [2]string{"permission.create", own()}), CodePermissionDenied, missing("permission.create", own())},
		{by(appKey, put, [2]string{"permission.create", own("project")}), CodePermissionDenied, missing("permission.create", own("project"))},
		{by(appKey, put, [2]string{"permission.create", own("project", "production-2")}), CodePermissionDenied, "production-2'"},
		{by(appKey, put, [2]string{"permission.create", own("project", "prod")}), CodePermissionDenied, "/prod'"},
		{by(editorKey, put, [2]string{"permission.get", own("permission", "a")}, [2]string{"audit.get", own()}), CodePermissionDenied, missing("audit.get", own())},
		{by(rootID, put, [2]string{"no.such", own()}), CodePermissionDenied, missing("no.such", own())},
		{by(rootID, put, [2]string{"", own()}), CodePermissionDenied, missing("", own())},
		{by(rootID, put, [2]string{"owner", own()}), CodePermissionDenied, missing("owner", own())},
		{by(rootID, put, [2]string{"permission.get", ManagementURI(acmeScope.Organisation)}), CodePermissionDenied, "'permission.get'"},
		{by(rootID, put, [2]string{"permission.get", "/"}), CodePermissionDenied, missing("permission.get", "/")},
		{by(rootID, put, [2]string{"permission.get", "/organisation"}), CodePermissionDenied, "/organisation'"},
		{by(rootID, put, [2]string{"permission.get", own() + "0"}), CodePermissionDenied, own() + "0'"},
		{by(rootID, put, [2]string{"permission.get", ""}), CodePermissionDenied, "on resource ''"},

		// What only operators do.
		{by(acmeKey, &CreateOrganisation{Organisation: newID, Name: "mine", BuiltIn: ID{90}, Project: ID{91}, ProjectName: "p", Key: ID{92}, KeyName: "k"}), CodePermissionDenied, "only operators"},
		{by(editorKey, &DeleteOrganisation{acmeScope.Organisation}), CodePermissionDenied, "only operators"},
		{by(acmeKey, &DeleteOrganisation{acmeScope.Organisation}), CodePermissionDenied, "only operators"},
		{by(acmeKey, &DeleteOrganisation{newID}), CodePermissionDenied, "only operators"},
		{by(invalidKey, &DeleteOrganisation{acmeScope.Organisation}), CodeUnauthenticated, "not valid"},
	} {
		m.refuses(c.command, c.code, c.part)
	}

	// And what is allowed.
	m.mustBy(by(rootID, put, [2]string{"permission.create", own()}, [2]string{"audit.get", own("any", "thing")}))
	m.mustBy(by(editorKey, &DeletePermission{m.scope, newID}, [2]string{"permission.delete", own("permission", "doc.print")}))
	m.mustBy(by(appKey, put, [2]string{"permission.create", own("project", "production")}, [2]string{"principal.assignment.delete", own("project", "production", "resource", "a")}))
	m.mustBy(by(acmeKey, &UpdateOrganisation{acmeScope.Organisation, "ours"}, [2]string{"organisation.update", ManagementURI(acmeScope.Organisation)}))
}

// TestRequiresIsGrouped: every suffix of every requirement counts.
func TestRequiresIsGrouped(t *testing.T) {
	m := newTenancy(t)
	m.must(&Grant{builtInScope, KeyPrincipal(emptyKey), own("permission", "a"), []ID{permissionID("permission.get")}, nil})
	m.must(&Grant{builtInScope, KeyPrincipal(emptyKey), own("permission", "c"), []ID{permissionID("permission.get")}, nil})
	command := func(requires ...Requirement) *Command {
		c := by(emptyKey, &PutPermission{m.scope, newID, "doc.print", ""})
		c.Envelope.Requires = requires
		return c
	}
	m.refuses(command(Requirement{"permission.get", own("permission") + "/", []string{"a", "b", "c"}}), CodePermissionDenied, missing("permission.get", own("permission", "b")))
	m.refuses(command(
		Requirement{"permission.get", own("permission") + "/", []string{"a", "c"}},
		Requirement{"permission.list", own("permission"), []string{"/a"}},
	), CodePermissionDenied, missing("permission.list", own("permission", "a")))
	m.mustBy(command(Requirement{"permission.get", own() + "/permission", []string{"/a", "/c/below", "/a"}}))
}

// TestGrantsInTheBuiltInProject: within the organisation, and nothing that the
// actor does not hold there himself.
func TestGrantsInTheBuiltInProject(t *testing.T) {
	m := newTenancy(t)
	grant := func(uri string, permissions []string, roles ...ID) *Grant {
		c := &Grant{builtInScope, "u", uri, nil, roles}
		for _, name := range permissions {
			c.Permissions = append(c.Permissions, permissionID(name))
		}
		return c
	}
	may := []string{"principal.assignment.create"}
	m.must(&Grant{builtInScope, KeyPrincipal(emptyKey), own(), []ID{permissionID(may[0])}, nil})
	toSelf := func(uri string, permissions []string, roles ...ID) *Grant {
		c := grant(uri, permissions, roles...)
		c.Principal = KeyPrincipal(emptyKey)
		return c
	}
	for _, uri := range []string{
		"/", "/organisation", "/*", "/organisation/*", "/*/" + m.scope.Organisation.String(), "/*/*/project", own() + "0", own() + "-",
		"/Organisation/" + m.scope.Organisation.String(), "/organization/" + m.scope.Organisation.String(),
		ManagementURI(acmeScope.Organisation), ManagementURI(acmeScope.Organisation, "project", "default"), "/project/production",
		"/organisation/" + strings.ToUpper(acmeScope.Organisation.String()),
	} {
		m.refuses(by(rootID, grant(uri, may)), CodePermissionDenied, "and below, not on '"+uri+"'")
		m.refuses(byCluster(grant(uri, may)), CodePermissionDenied, "and below, not on '"+uri+"'")
	}
	for _, c := range []struct {
		key     ID
		body    *Grant
		missing string // a permission, or the role "owner"; "" if it is allowed
	}{
		// Oneself an owner, with the right to grant alone.
		{emptyKey, toSelf(own(), nil, roleOwner), "owner"},
		{emptyKey, toSelf(own("project", "production"), nil, roleOwner), "owner"},
		{emptyKey, toSelf(own(), nil, roleEditor), "permission.create"},
		{emptyKey, toSelf(own(), nil, roleViewer), "permission.get"},
		{emptyKey, toSelf(own(), []string{"apiKeys.create"}), "apiKeys.create"},
		{emptyKey, toSelf(own(), []string{"principal.assignment.create", "role.get"}), "role.get"},
		{emptyKey, grant(own(), may), ""},
		{emptyKey, grant(own("*"), may), ""},

		{viewerKey, grant(own(), nil, roleViewer), ""},
		{viewerKey, grant(own("role", "x"), []string{"role.get"}), ""},
		{viewerKey, grant(own(), nil, roleEditor), "permission.create"},
		{viewerKey, grant(own(), nil, roleViewer, roleOwner), "owner"},
		{viewerKey, grant(own(), []string{"audit.get"}), "audit.get"},
		{editorKey, grant(own(), nil, roleEditor, roleViewer), ""},
		{editorKey, grant(own(), nil, roleOwner), "owner"},
		{editorKey, grant(own("a", "b"), nil, roleOwner), "owner"},
		{editorKey, grant(own(), []string{"apiKeys.invalidate"}), "apiKeys.invalidate"},
		{rootID, grant(own(), nil, roleOwner), ""},

		// Where it is held, by whole segments, and a wildcard is a literal.
		{appKey, grant(own("project", "production"), nil, roleOwner), "of another project"},
		{rootID, grant(own("project", "*"), nil, roleOwner), ""},
	} {
		switch {
		case c.missing == "":
			m.mustBy(by(c.key, c.body))
		case c.missing == RoleOwner:
			m.refuses(by(c.key, c.body), CodePermissionDenied, missingOwner(c.body.URI))
		case strings.Contains(c.missing, " "):
			m.refuses(by(c.key, c.body), CodePermissionDenied, c.missing)
		default:
			m.refuses(by(c.key, c.body), CodePermissionDenied, missing(c.missing, c.body.URI))
		}
	}

	local := ID{47} // of project remit, who may do anything on some URIs
	m.must(newKey(builtInScope, local, ID{}))
	m.must(&Grant{builtInScope, KeyPrincipal(local), own("project", "a"), nil, []ID{roleOwner}})
	m.must(&Grant{builtInScope, KeyPrincipal(local), own("principal") + "/*", nil, []ID{roleOwner}})
	for uri, allowed := range map[string]bool{
		own("project", "a"):                         true,
		own("project", "a", "resource"):             true,
		own("project", "a") + "/*":                  true,
		own("project", "a") + "/resource/*/x":       true,
		own("principal") + "/*":                     true,
		own("principal") + "/*/x":                   true,
		own("principal", "u"):                       true,
		own("principal"):                            false,
		own("project"):                              false,
		own("project", "b"):                         false,
		own("project", "ab"):                        false,
		own("project") + "/*":                       false,
		own("project") + "/*/resource":              false,
		own() + "/*":                                false,
		own() + "/*/a":                              false,
		own() + "/*/*":                              false,
		own():                                       false,
		own("project", "a") + "-":                   false,
		own("principals", "u"):                      false,
		own("project", EscapeSegment("*"), "a"):     false,
		own("project") + "/" + EscapeSegment("a/b"): false,
	} {
		for _, body := range []*Grant{grant(uri, nil, roleOwner), grant(uri, []string{"audit.get"})} {
			if allowed {
				m.mustBy(by(local, body))
			} else {
				m.refuses(by(local, body), CodePermissionDenied, "on resource '"+uri+"'")
			}
		}
	}
}

// TestKeyPrincipals: only a living key of the organisation is granted anything
// under the prefix of keys, in any project.
func TestKeyPrincipals(t *testing.T) {
	m := newTenancy(t)
	for _, scope := range []Scope{builtInScope, m.scope} {
		uri, permission := own(), permissionID("role.get")
		if scope == m.scope {
			uri, permission = "/a", readID
		}
		for _, principal := range []string{
			"key:", "key:nonsense", "key:" + newID.String(), KeyPrincipal(acmeKey), KeyPrincipal(invalidKey), KeyPrincipal(deletedKey),
			KeyPrincipal(editorKey) + " ", "key:" + strings.ToUpper(ID{0xab}.String()), "key:" + KeyPrincipal(editorKey), KeyPrincipal(ID{}),
		} {
			m.refuses(byCluster(&Grant{scope, principal, uri, []ID{permission}, nil}), CodeNotFound, fmt.Sprintf("principal %q is no key of the organisation", principal))
			m.must(&Revoke{scope, principal, uri, []ID{permission}, nil}) // nothing was granted
		}
		for _, principal := range []string{KeyPrincipal(editorKey), KeyPrincipal(appKey), "KEY:" + newID.String(), "key", "keys:1", editorKey.String()} {
			m.must(&Grant{scope, principal, uri, []ID{permission}, nil})
		}
	}
	if k, ok := keyOfPrincipal(KeyPrincipal(editorKey)); !ok || k != editorKey {
		t.Errorf("the key of its principal is %v, %v", k, ok)
	}
}

// TestStrongerRights: what a name belongs to counts, not only what the call asked
// for.
func TestStrongerRights(t *testing.T) {
	m := newTenancy(t)
	actor := ID{47}
	m.must(newKey(builtInScope, actor, ID{}))
	principal := KeyPrincipal(actor)
	requires := [][2]string{{"role.create", own()}}
	m.must(&Grant{builtInScope, principal, own(), []ID{permissionID("role.create"), permissionID("permission.get")}, nil})

	// Creating a role over one that is there, the stronger for it.
	m.refuses(by(actor, &PutRole{m.scope, newID, "editor", "", nil}, requires...), CodePermissionDenied, missing("role.update", own("role", editorID.String())))
	m.mustBy(by(actor, &PutRole{m.scope, newID, "printer", "", nil}, requires...))
	m.refuses(by(actor, &PutRole{m.scope, ID{98}, "printer", "", nil}, requires...), CodePermissionDenied, missing("role.update", own("role", newID.String())))
	m.must(&Grant{builtInScope, principal, own("role", editorID.String()), []ID{permissionID("role.update")}, nil})
	m.mustBy(by(actor, &PutRole{m.scope, ID{98}, "editor", "", []ID{readID}}, requires...))
	// One batch: the role that comes first makes the second an update.
	results := m.play(by(rootID, &PutRole{m.scope, ID{97}, "boss", "", []ID{writeID}}), by(actor, &PutRole{m.scope, ID{96}, "boss", "", nil}, requires...))
	if results[0].Err != nil || results[1].Err == nil || results[1].Err.Code != CodePermissionDenied {
		t.Errorf("in one batch: %+v, %+v", results[0].Err, results[1].Err)
	}

	// Renaming a role: the new name's URI counts too, and escapes what is in it.
	m.refuses(by(actor, &UpdateRole{m.scope, editorID, "chief", "", nil}), CodePermissionDenied, missing("role.update", own("role", "chief")))
	m.refuses(by(actor, &UpdateRole{m.scope, editorID, "../" + editorID.String(), "", nil}), CodePermissionDenied, own()+"/role/..%2F"+editorID.String())
	m.refuses(by(actor, &UpdateRole{m.scope, editorID, editorID.String() + "/x", "", nil}), CodePermissionDenied, "%2Fx")
	m.refuses(by(actor, &UpdateRole{m.scope, editorID, "*", "", nil}), CodePermissionDenied, "/role/%2A'")
	m.refuses(by(actor, &UpdateRole{m.scope, newID, "viewer", "", nil}), CodePermissionDenied, missing("role.update", own("role", "viewer")))
	m.mustBy(by(actor, &UpdateRole{m.scope, editorID, "", "again", nil}))
	m.mustBy(by(actor, &UpdateRole{m.scope, editorID, "editor", "again", nil}))
	m.must(&Grant{builtInScope, principal, own("role", "chief"), []ID{permissionID("role.update")}, nil})
	m.mustBy(by(actor, &UpdateRole{m.scope, editorID, "chief", "", nil}))

	// And a permission.
	m.must(&Grant{builtInScope, principal, own("permission", "doc.read"), []ID{permissionID("permission.update")}, nil})
	m.refuses(by(actor, &UpdatePermission{m.scope, readID, "doc.open", ""}), CodePermissionDenied, missing("permission.update", own("permission", "doc.open")))
	m.refuses(by(actor, &UpdatePermission{m.scope, readID, "doc.write", ""}), CodePermissionDenied, missing("permission.update", own("permission", "doc.write")))
	m.mustBy(by(actor, &UpdatePermission{m.scope, readID, "", "again"}))
	m.mustBy(by(actor, &UpdatePermission{m.scope, readID, "doc.read", "again"}))
	m.must(&Grant{builtInScope, principal, own("permission", "doc.open"), []ID{permissionID("permission.update")}, nil})
	m.mustBy(by(actor, &UpdatePermission{m.scope, readID, "doc.open", ""}))
}
