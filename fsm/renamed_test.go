package fsm

import "testing"

// TestRightsDoNotFollowARename: a right on a permission's name is judged on the
// name of the moment at which the command is applied, whatever was asked before.
func TestRightsDoNotFollowARename(t *testing.T) {
	actor := ID{47}
	rename := byCluster(&UpdatePermission{Scope{ID{1}, ID{2}}, readID, "doc.open", ""})
	for _, c := range []struct {
		right string
		body  func(scope Scope) Body
	}{
		{"permission.get", func(s Scope) Body { return &Grant{s, "u", "/a", []ID{readID}, nil} }},
		{"permission.get", func(s Scope) Body { return &Grant{s, "u", "/a", []ID{writeID, readID}, []ID{editorID}} }},
		{"permission.get", func(s Scope) Body { return &PutRole{s, newID, "printer", "", []ID{writeID, readID}} }},
		{"permission.get", func(s Scope) Body { return &PutRole{s, newID, "editor", "", []ID{readID}} }},
		{"permission.get", func(s Scope) Body { return &PutRole{s, newID, "a\tb", "", []ID{readID}} }}, // what is not to be told comes first
		{"permission.update", func(s Scope) Body { return &UpdatePermission{s, readID, "", "new"} }},
		{"permission.update", func(s Scope) Body { return &UpdatePermission{s, readID, "doc.open", "new"} }},
		{"permission.update", func(s Scope) Body { return &UpdatePermission{s, readID, "doc.read", "back"} }},
		{"permission.update", func(s Scope) Body { return &UpdatePermission{s, readID, "doc.write", "taken"} }},
		{"permission.delete", func(s Scope) Body { return &DeletePermission{s, readID} }},
	} {
		for _, how := range []string{"one batch", "several", "restored"} {
			m := newTenancy(t)
			m.must(newKey(builtInScope, actor, ID{}))
			for _, uri := range []string{own("permission", "doc.read"), own("permission", "doc.write")} {
				m.must(&Grant{builtInScope, KeyPrincipal(actor), uri, []ID{permissionID(c.right)}, nil})
			}
			m.must(&Grant{builtInScope, KeyPrincipal(actor), own("role"), []ID{permissionID("role.update")}, nil})
			asked := [2]string{c.right, own("permission", "doc.read")} // which he still holds
			late := by(actor, c.body(m.scope), asked)
			want := missing(c.right, own("permission", "doc.open"))
			if how == "one batch" {
				results := m.play(rename, late)
				if results[0].Err != nil || results[1].Err == nil || results[1].Err.Message != want {
					t.Errorf("%T: %v, %v", late.Body, results[0].Err, results[1].Err)
				}
				continue
			}
			m.mustBy(rename)
			if how == "restored" {
				m.restart()
			}
			m.refuses(late, CodePermissionDenied, want)
			m.must(&Grant{builtInScope, KeyPrincipal(actor), own("permission", "doc.open"), []ID{permissionID(c.right)}, nil})
			r := m.play(by(actor, c.body(m.scope), asked))[0]
			if r.Err != nil && r.Err.Code == CodePermissionDenied {
				t.Errorf("%T, with the right on the new name: %v", late.Body, r.Err)
			}
		}
	}
}

// TestRightsOnNames: which commands ask for them, and of whom.
func TestRightsOnNames(t *testing.T) {
	m := newTenancy(t)
	actor := ID{47}
	m.must(newKey(builtInScope, actor, ID{}))
	get := []ID{permissionID("permission.get")}
	m.must(&Grant{builtInScope, KeyPrincipal(actor), own("permission", "doc.read"), get, nil})

	// The first that is missing, in the order of the command.
	m.refuses(by(actor, &Grant{m.scope, "u", "/a", []ID{readID, writeID, shareID}, nil}), CodePermissionDenied, missing("permission.get", own("permission", "doc.write")))
	m.refuses(by(actor, &Grant{m.scope, "u", "/a", []ID{shareID, writeID}, nil}), CodePermissionDenied, missing("permission.get", own("permission", "doc.share")))
	m.refuses(by(actor, &PutRole{m.scope, newID, "printer", "", []ID{readID, shareID}}), CodePermissionDenied, missing("permission.get", own("permission", "doc.share")))
	// No permission, or none that there is.
	m.mustBy(by(actor, &Grant{m.scope, "u", "/a", nil, []ID{editorID}}))
	m.mustBy(by(actor, &Grant{m.scope, "u", "/a", []ID{readID}, []ID{editorID}}))
	m.mustBy(by(actor, &PutRole{m.scope, newID, "printer", "", nil}))
	m.refuses(by(actor, &Grant{m.scope, "u", "/a", []ID{{77}}, nil}), CodeNotFound, ID{77}.String())
	m.refuses(by(actor, &PutRole{m.scope, ID{98}, "scanner", "", []ID{{77}}}), CodeNotFound, ID{77}.String())
	m.refuses(by(actor, &UpdatePermission{m.scope, ID{77}, "", ""}), CodeNotFound, ID{77}.String())
	m.mustBy(by(actor, &DeletePermission{m.scope, ID{77}})) // as often as one likes
	// To take away asks for nothing of it, nor does to describe a role anew.
	m.mustBy(by(actor, &Revoke{m.scope, "u", "/a", []ID{writeID}, nil}))
	m.mustBy(by(actor, &UpdateRole{m.scope, editorID, "", "again", []ID{shareID}}))

	// The cluster itself may, and the built-in project has a rule of its own.
	m.must(&Grant{m.scope, "u", "/b", []ID{writeID, shareID}, nil})
	m.must(&PutRole{m.scope, ID{98}, "scanner", "", []ID{shareID}})
	m.must(&UpdatePermission{m.scope, shareID, "doc.give", ""})
	m.must(&DeletePermission{m.scope, shareID})
	m.must(&Grant{builtInScope, KeyPrincipal(emptyKey), own("role"), []ID{permissionID("role.get")}, nil})
	m.mustBy(by(emptyKey, &Grant{builtInScope, "u", own("role", "x"), []ID{permissionID("role.get")}, nil}))
}
