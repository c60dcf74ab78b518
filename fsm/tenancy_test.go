package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// The tenancy's keys and organisations.
var (
	builtInScope = Scope{ID{1}, remitID}
	editorKey    = ID{41} // of project remit, with that role on the organisation
	viewerKey    = ID{42}
	emptyKey     = ID{43} // of project remit, without any right
	appKey       = ID{44} // of production, which may do anything on /organisation/{org}/project/production
	invalidKey   = ID{45}
	deletedKey   = ID{46} // of a project that was deleted
	acmeScope    = Scope{ID{50}, ID{52}}
	acmeBuiltIn  = Scope{ID{50}, ID{51}}
	acmeKey      = ID{53} // owns acme
	roleOwner    = builtInID("role", RoleOwner)
	roleEditor   = builtInID("role", RoleEditor)
	roleViewer   = builtInID("role", RoleViewer)
)

// own is a URI in the first organisation.
func own(segments ...string) string { return ManagementURI(builtInScope.Organisation, segments...) }

func permissionID(name string) ID { return builtInID("permission", name) }

func hashOf(key ID) [32]byte { return [32]byte{key[0], key[1], key[2], 31: 1} }

// newKey is the command that creates a key.
func newKey(scope Scope, id ID, role ID) *CreateKey {
	return &CreateKey{scope, id, fmt.Sprint("key ", id[0]), hashOf(id), role, false}
}

// newTenancy is the fixture with keys of every sort and a second organisation.
func newTenancy(t testing.TB) *machine {
	m := newFixture(t)
	gone := Scope{m.scope.Organisation, ID{60}}
	for _, body := range []Body{
		newKey(builtInScope, editorKey, roleEditor),
		newKey(builtInScope, viewerKey, roleViewer),
		newKey(builtInScope, emptyKey, ID{}),
		newKey(m.scope, appKey, ID{}),
		&Grant{builtInScope, KeyPrincipal(appKey), own("project", "production"), nil, []ID{roleOwner}},
		newKey(builtInScope, invalidKey, roleOwner),
		&InvalidateKey{builtInScope, invalidKey},
		&CreateProject{gone, "gone"},
		newKey(gone, deletedKey, roleOwner),
		&DeleteProject{gone},
		&CreateOrganisation{acmeScope.Organisation, "acme", acmeBuiltIn.Project, acmeScope.Project, "default", acmeKey, "first", hashOf(acmeKey)},
	} {
		m.must(body)
	}
	return m
}

// refuses applies a command that has to be refused: with the code, a message
// that has the part, and nothing changed.
func (m *machine) refuses(c *Command, code Code, part string) {
	m.t.Helper()
	before := m.store.State()
	asked := before.Refuses(c)
	r := m.play(c)[0]
	if r.Err == nil {
		m.t.Errorf("%T%+v of %x is applied, want code %d: …%s…", c.Body, c.Body, c.Envelope.Key[:1], code, part)
		return
	}
	if r.Err.Code != code || !strings.Contains(r.Err.Message, part) {
		m.t.Errorf("%T%+v of %x: code %d: %s; want %d: …%s…", c.Body, c.Body, c.Envelope.Key[:1], r.Err.Code, r.Err.Message, code, part)
	}
	if asked == nil || asked.Error() != r.Err.Message {
		m.t.Errorf("asked before, it is refused with %v", asked)
	}
	if r.Err.Code != CodePermissionDenied { // which quotes what was asked for as it stands
		checkMessage(m.t.(*testing.T), r.Err)
	}
	if r.Permission != nil || r.Role != nil || r.Granted != nil || r.Organisation != nil || r.Project != nil || r.Key != nil {
		m.t.Errorf("a refusal answers %+v", r)
	}
	after := m.store.State()
	if before.Backup().Digest() != after.Backup().Digest() || !bytes.Equal(content(m.t, before), content(m.t, after)) {
		m.t.Errorf("%T%+v is refused and yet changed the state", c.Body, c.Body)
	}
}

// mustBy applies a command of somebody that has to succeed.
func (m *machine) mustBy(c *Command) Result {
	m.t.Helper()
	r := m.play(c)[0]
	if r.Err != nil {
		m.t.Errorf("%T%+v of %x: %v", c.Body, c.Body, c.Envelope.Key[:1], r.Err)
	}
	return r
}

func (m *machine) holdsRight(key ID, permission, uri string) bool {
	k, _ := m.store.State().keys.ids.get(key.key())
	o, ok := m.store.State().Organisation(k.Organisation)
	return ok && o.Holds(KeyPrincipal(key), permission, uri)
}

func missingOwner(uri string) string {
	return "Permission denied: missing required role 'owner' on resource '" + uri + "'"
}

func missing(permission, uri string) string {
	return "Permission denied: missing required permission '" + permission + "' on resource '" + uri + "'"
}
