package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func (m *machine) finds(key ID) bool {
	k, o, ok := m.store.State().Key(hashOf(key))
	if ok && (k.ID != key || o.ID != k.Organisation) {
		m.t.Errorf("the secret of key %s finds %+v of %s", key, k, o.ID)
	}
	return ok
}

func (m *machine) builtIn() *Project { return must(m.organisation().Project(BuiltInProject)) }

func TestCreateKey(t *testing.T) {
	m := newTenancy(t)
	c := newKey(builtInScope, newID, roleViewer)
	got := m.mustBy(by(rootID, c)).Key
	want := Key{newID, c.Name, c.Hash, builtInScope.Organisation, BuiltInProject, remitID, 1, false}
	if got == nil || *got != want {
		t.Errorf("it answers %+v, want %+v", got, want)
	}
	if k, o, ok := m.store.State().Key(c.Hash); !ok || *k != want || o != m.organisation() {
		t.Errorf("its secret finds %+v", k)
	}
	if !m.holdsRight(newID, "role.get", own("role", "x")) || m.holdsRight(newID, "role.create", own()) {
		t.Error("it is no viewer")
	}
	if m.store.State().IsOperator(newID) {
		t.Error("it is an operator's")
	}
	// Without a role it holds nothing; in another project the role is a grant all
	// the same, and reaches no other project.
	if m.holdsRight(emptyKey, "role.get", own()) {
		t.Error("a key without a role holds something")
	}
	m.must(newKey(m.scope, ID{98}, roleEditor))
	if !m.holdsRight(ID{98}, "role.create", own()) {
		t.Error("the project's key is no editor")
	}
	m.mustBy(by(ID{98}, &PutPermission{m.scope, ID{97}, "doc.print", ""}, [2]string{"permission.create", own()}))
	m.refuses(by(ID{98}, &Grant{builtInScope, "u", own(), nil, []ID{roleViewer}}), CodePermissionDenied, "of another project")

	operator := newKey(builtInScope, ID{96}, ID{})
	operator.Operator = true
	m.mustBy(by(rootID, operator))
	if !m.store.State().IsOperator(ID{96}) || !slices.IsSortedFunc(m.store.State().operators, ID.compare) {
		t.Errorf("the operators are %v", m.store.State().operators)
	}
	if m.holdsRight(ID{96}, "role.get", own()) {
		t.Error("an operator holds something in the organisation")
	}
}

func TestCreateKeyRefusals(t *testing.T) {
	m := newTenancy(t)
	with := func(change func(c *CreateKey)) *CreateKey {
		c := newKey(builtInScope, newID, ID{})
		change(c)
		return c
	}
	for _, c := range []struct {
		command *Command
		code    Code
		part    string
	}{
		{byCluster(newKey(Scope{ID{1}, ID{77}}, newID, ID{})), CodeNotFound, "project"},
		{byCluster(newKey(Scope{ID{77}, remitID}, newID, ID{})), CodeNotFound, "organisation"},
		{byCluster(newKey(Scope{ID{1}, ID{60}}, newID, ID{})), CodeNotFound, "project"}, // deleted
		{byCluster(newKey(builtInScope, newID, newID)), CodeNotFound, "role " + newID.String()},
		{byCluster(newKey(builtInScope, newID, editorID)), CodeNotFound, "role " + editorID.String()}, // of another project
		{byCluster(newKey(m.scope, newID, editorID)), CodeNotFound, "role " + editorID.String()},
		{byCluster(newKey(builtInScope, newID, permissionID("role.get"))), CodeNotFound, "role"},
		{byCluster(with(func(c *CreateKey) { c.Name = "" })), CodeInvalidArgument, "key name is empty"},
		{byCluster(with(func(c *CreateKey) { c.Name = "a\u200b" })), CodeInvalidArgument, "U+200B"},
		{byCluster(with(func(c *CreateKey) { c.Name = strings.Repeat("x", 257) })), CodeInvalidArgument, "257 bytes"},
		{byCluster(with(func(c *CreateKey) { c.ID = ID{} })), CodeInvalidArgument, "needs an id"},
		{byCluster(with(func(c *CreateKey) { c.ID = editorKey })), CodeAlreadyExists, editorKey.String()},
		{byCluster(with(func(c *CreateKey) { c.ID = acmeKey })), CodeAlreadyExists, acmeKey.String()},
		{byCluster(with(func(c *CreateKey) { c.ID = invalidKey })), CodeAlreadyExists, invalidKey.String()},
		{byCluster(with(func(c *CreateKey) { c.Hash = hashOf(acmeKey) })), CodeAlreadyExists, "draw another"},
		{byCluster(with(func(c *CreateKey) { c.Scope, c.Operator = m.scope, true })), CodeInvalidArgument, `of project "remit", not of "production"`},

		// Nobody gives what he does not hold.
		{by(viewerKey, newKey(builtInScope, newID, roleOwner)), CodePermissionDenied, missingOwner(own())},
		{by(viewerKey, newKey(builtInScope, newID, roleEditor)), CodePermissionDenied, missing("permission.create", own())},
		{by(editorKey, newKey(builtInScope, newID, roleOwner)), CodePermissionDenied, missingOwner(own())},
		{by(emptyKey, newKey(builtInScope, newID, roleViewer)), CodePermissionDenied, missing("permission.get", own())},
		{by(editorKey, newKey(m.scope, newID, roleOwner)), CodePermissionDenied, missingOwner(own())},
		{by(appKey, newKey(m.scope, newID, roleViewer)), CodePermissionDenied, missing("permission.get", own())}, // holds it only on the project
		{by(editorKey, with(func(c *CreateKey) { c.Operator = true })), CodePermissionDenied, "only operators"},
		{by(acmeKey, &CreateKey{acmeBuiltIn, newID, "k", hashOf(newID), roleOwner, true}), CodePermissionDenied, "only operators"},
	} {
		m.refuses(c.command, c.code, c.part)
	}
	// What is refused leaves no key, and what goes before it in a batch stays.
	if m.finds(newID) {
		t.Error("the key is there")
	}
	results := m.play(by(viewerKey, newKey(builtInScope, newID, roleOwner)), by(viewerKey, newKey(builtInScope, newID, roleViewer)))
	if results[0].Err == nil || results[1].Err != nil || !m.finds(newID) {
		t.Errorf("in one batch: %v, %v", results[0].Err, results[1].Err)
	}
}

// TestInvalidateKey: it ends at once, with what it held, and stays in the list.
func TestInvalidateKey(t *testing.T) {
	m := newTenancy(t)
	m.must(&Grant{builtInScope, KeyPrincipal(editorKey), own("role", "x"), []ID{permissionID("apiKeys.create")}, nil})
	r := m.mustBy(by(rootID, &InvalidateKey{builtInScope, editorKey}))
	if r.Key == nil || !r.Key.Invalidated || r.Key.ID != editorKey {
		t.Errorf("it answers %+v", r.Key)
	}
	if m.finds(editorKey) || m.holdsRight(editorKey, "role.get", own()) || m.holdsRight(editorKey, "apiKeys.create", own("role", "x")) {
		t.Error("it is not at its end")
	}
	m.refuses(by(editorKey, &Sweep{builtInScope, 1}), CodeUnauthenticated, "not valid")
	m.refuses(byCluster(&Grant{builtInScope, KeyPrincipal(editorKey), own(), nil, []ID{roleViewer}}), CodeNotFound, "no key")
	listed := 0
	for k := range m.builtIn().Keys("") {
		if k.ID == editorKey && k.Invalidated {
			listed++
		}
	}
	if listed != 1 {
		t.Errorf("it is listed %d times", listed)
	}
	before := m.store.State().Backup().Digest()
	m.mustBy(by(rootID, &InvalidateKey{builtInScope, editorKey})) // again
	if m.store.State().Backup().Digest() != before {
		t.Error("to invalidate it again changed something")
	}
	// Its secret may be another key's; that one then outlives it.
	second := newKey(m.scope, newID, ID{})
	second.Hash = hashOf(editorKey)
	m.must(second)
	for range 2 {
		if k, _, ok := m.store.State().Key(second.Hash); !ok || k.ID != newID {
			t.Errorf("the secret finds %+v, %v", k, ok)
		}
		m.restart()
	}

	for _, c := range []struct {
		body *InvalidateKey
		part string
	}{
		{&InvalidateKey{builtInScope, ID{77}}, "key " + ID{77}.String()},
		{&InvalidateKey{m.scope, viewerKey}, `in project "production"`},
		{&InvalidateKey{builtInScope, appKey}, `in project "remit"`},
		{&InvalidateKey{builtInScope, acmeKey}, "does not exist"},
		{&InvalidateKey{acmeBuiltIn, viewerKey}, "does not exist"},
		{&InvalidateKey{builtInScope, deletedKey}, "does not exist"},
		{&InvalidateKey{Scope{ID{1}, ID{60}}, deletedKey}, "project"},
		{&InvalidateKey{Scope{ID{77}, remitID}, viewerKey}, "organisation"},
	} {
		m.refuses(byCluster(c.body), CodeNotFound, c.part)
	}
}

// TestDeadKeysSecret: a key of a deleted project that had the secret of another
// before it does not take that one's away when it is swept.
func TestDeadKeysSecret(t *testing.T) {
	m := newTenancy(t)
	first := newKey(m.scope, ID{70}, ID{})
	m.must(first)
	m.must(&InvalidateKey{m.scope, first.ID})
	second := newKey(builtInScope, ID{71}, ID{})
	second.Hash = first.Hash
	m.must(second)
	m.must(&DeleteProject{m.scope})
	m.must(&SweepKeys{1000})
	m.must(&SweepKeys{1000})
	if _, ok := m.store.State().keys.ids.get(first.ID.key()); ok {
		t.Error("the first key was not swept")
	}
	if k, _, ok := m.store.State().Key(first.Hash); !ok || k.ID != second.ID {
		t.Errorf("the secret finds %+v, %v", k, ok)
	}
}

// TestLastOwner: an organisation always has a key that may do anything and
// reaches all of it.
func TestLastOwner(t *testing.T) {
	m := newTenancy(t)
	last := "organisation's last owner key"
	revoke := func(key ID) *Revoke { return &Revoke{builtInScope, KeyPrincipal(key), own(), nil, []ID{roleOwner}} }
	refusedAll := func() {
		t.Helper()
		for _, c := range []*Command{byCluster(revoke(rootID)), by(rootID, revoke(rootID)), byCluster(&Revoke{builtInScope, KeyPrincipal(rootID), own() + "/", []ID{permissionID("role.get")}, []ID{roleViewer, roleOwner}})} {
			m.refuses(c, CodePermissionDenied, last)
		}
	}
	// A second operator, so that being the last one of those is not the reason.
	operator := newKey(builtInScope, ID{96}, ID{})
	operator.Operator = true
	m.must(operator)
	refusedAll()
	m.refuses(by(rootID, &InvalidateKey{builtInScope, rootID}), CodePermissionDenied, last)
	m.refuses(byCluster(&InvalidateKey{builtInScope, rootID}), CodePermissionDenied, last)

	// These own it too, and cannot stand in: no key, one of another project, one
	// of a part, and one that ended.
	m.must(&Grant{builtInScope, "usr_boss", own(), nil, []ID{roleOwner}})
	m.must(&Grant{builtInScope, KeyPrincipal(appKey), own(), nil, []ID{roleOwner}})
	m.must(&Grant{builtInScope, KeyPrincipal(editorKey), own() + "/*", nil, []ID{roleOwner}})
	m.must(newKey(builtInScope, ID{95}, roleOwner))
	m.must(&InvalidateKey{builtInScope, ID{95}})
	m.must(&Grant{builtInScope, KeyPrincipal(viewerKey), own(), everyPermission(), nil}) // all of it, and yet not the role
	refusedAll()
	for _, body := range []Body{ // these may go, however often
		&Revoke{builtInScope, "usr_boss", own(), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(appKey), own(), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(appKey), own(), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(editorKey), own() + "/*", nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(rootID), own(), nil, []ID{roleViewer}},
		&Revoke{builtInScope, KeyPrincipal(rootID), own("x"), nil, []ID{roleOwner}},
		&Revoke{builtInScope, KeyPrincipal(viewerKey), own(), nil, []ID{roleOwner}},
		&Grant{builtInScope, KeyPrincipal(rootID), own(), nil, []ID{roleOwner}}, // twice is one
		&InvalidateKey{m.scope, appKey},
	} {
		m.must(body)
		refusedAll()
	}

	// With a second owner either may go, and then the other stays.
	m.must(&Grant{builtInScope, KeyPrincipal(viewerKey), own(), nil, []ID{roleOwner}})
	m.restart()
	m.mustBy(by(rootID, revoke(rootID))) // an operator's key: of an operator
	m.refuses(byCluster(revoke(viewerKey)), CodePermissionDenied, last)
	m.refuses(byCluster(&InvalidateKey{builtInScope, viewerKey}), CodePermissionDenied, last)
	m.must(&InvalidateKey{builtInScope, rootID})
	m.restart()
	m.refuses(byCluster(&InvalidateKey{builtInScope, viewerKey}), CodePermissionDenied, last)
	if m.organisation().owners != 1 {
		t.Errorf("there are %d owners", m.organisation().owners)
	}

	// Two owners who end each other in one batch: the second stays.
	m.must(newKey(builtInScope, ID{94}, roleOwner))
	results := m.play(byCluster(&InvalidateKey{builtInScope, ID{94}}), byCluster(revoke(viewerKey)))
	if results[0].Err != nil || results[1].Err == nil || !strings.Contains(results[1].Err.Message, last) {
		t.Errorf("in one batch: %v, %v", results[0].Err, results[1].Err)
	}
	// Acme's only owner is not the business of another organisation.
	m.refuses(byCluster(&InvalidateKey{acmeBuiltIn, acmeKey}), CodePermissionDenied, last)
}

// TestLastOperator: a cluster always has one, and only operators end them.
func TestLastOperator(t *testing.T) {
	m := newTenancy(t)
	owner, operator := ID{95}, ID{96}
	m.must(newKey(builtInScope, owner, roleOwner))
	m.refuses(by(owner, &InvalidateKey{builtInScope, rootID}), CodePermissionDenied, "only operators")
	m.refuses(byCluster(&InvalidateKey{builtInScope, rootID}), CodePermissionDenied, "cluster's last operator key")
	m.refuses(by(rootID, &InvalidateKey{builtInScope, rootID}), CodePermissionDenied, "cluster's last operator key")
	c := newKey(builtInScope, operator, ID{})
	c.Operator = true
	m.mustBy(by(rootID, c))
	m.refuses(by(owner, &InvalidateKey{builtInScope, operator}), CodePermissionDenied, "only operators")
	m.mustBy(by(operator, &InvalidateKey{builtInScope, rootID}))
	if s := m.store.State(); s.IsOperator(rootID) || !s.IsOperator(operator) || len(s.operators) != 1 {
		t.Errorf("the operators are %v", s.operators)
	}
	m.restart()
	m.refuses(by(operator, &InvalidateKey{builtInScope, operator}), CodePermissionDenied, "cluster's last operator key")
	m.refuses(by(rootID, &DeleteOrganisation{acmeScope.Organisation}), CodeUnauthenticated, "not valid")
	// To revoke all that an operator holds does not make him less of one.
	m.must(&Revoke{builtInScope, KeyPrincipal(operator), own(), nil, []ID{roleOwner}})
	m.mustBy(by(operator, &DeleteOrganisation{acmeScope.Organisation}))
}

// TestKeys lists them by name, and those of the same name by id.
func TestKeys(t *testing.T) {
	m := newTenancy(t)
	for i, name := range []string{"b", "a", "b", "ab", "B"} {
		c := newKey(m.scope, ID{70, byte(i)}, ID{})
		c.Name, c.Hash = name, [32]byte{70, byte(i)}
		m.must(c)
	}
	m.must(&InvalidateKey{m.scope, ID{70, 1}})
	for range 2 {
		var got, behind []string
		for k := range m.project().Keys("") {
			got = append(got, fmt.Sprint(k.Name, k.ID[1]))
		}
		if want := "B4 a1 ab3 b0 b2 key 440"; strings.Join(got, " ") != want {
			t.Errorf("the keys are %q, want %q", got, want)
		}
		for k := range m.project().Keys(KeyPlace("b", ID{70, 0})) {
			behind = append(behind, fmt.Sprint(k.Name, k.ID[1]))
		}
		if want := "b2 key 440"; strings.Join(behind, " ") != want {
			t.Errorf("behind the first b there are %q, want %q", behind, want)
		}
		m.restart()
	}
	for range m.project().Keys("") {
		break
	}
}
