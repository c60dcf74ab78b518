package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The fixture's records.
var (
	readID   = ID{10} // permissions doc.read, doc.write, doc.share
	writeID  = ID{11}
	shareID  = ID{12}
	editorID = ID{20} // role of doc.read and doc.write
	viewerID = ID{21} // role of doc.read
	newID    = ID{99} // nobody has it

	remitID = ID{5} // of every machine, its project remit and its root key
	rootID  = ID{3}
)

// newFixture is a machine on which usr_1 is an editor on /project/456 and may
// share there, and usr_2 views every project's documents.
func newFixture(t testing.TB) *machine {
	m := newMachine(t)
	m.must(&PutPermission{m.scope, readID, "doc.read", "Read"})
	m.must(&PutPermission{m.scope, writeID, "doc.write", ""})
	m.must(&PutPermission{m.scope, shareID, "doc.share", ""})
	m.must(&PutRole{m.scope, editorID, "editor", "Edits", []ID{readID, writeID}})
	m.must(&PutRole{m.scope, viewerID, "viewer", "", []ID{readID}})
	m.must(&Grant{m.scope, "usr_1", "/project/456", []ID{shareID}, []ID{editorID}})
	m.must(&Grant{m.scope, "usr_2", "/project/*/documents", nil, []ID{viewerID}})
	return m
}

// content is what commands change, as bytes: all of a state but its revision,
// and what it remembers of the commands themselves.
func content(t testing.TB, s *State) []byte {
	t.Helper()
	return whole(t, s.Backup())
}

// whole is all of a state but its revision, as bytes.
func whole(t testing.TB, s *State) []byte {
	t.Helper()
	later := *s
	later.Revision = 1 << 40
	var b bytes.Buffer
	if err := later.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (m *machine) allows(principal, uri, permission string) bool {
	m.t.Helper()
	return stateCheck(m.store.State(), m.scope, principal, uri, permission)
}

func permissionNames(permissions []*Permission) string {
	var names []string
	for _, p := range permissions {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

func roleNames(roles []*Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

// holds describes an assignment.
func (m *machine) holds(principal, uri string) string {
	a := m.project().Assignment(principal, uri)
	return permissionNames(a.Permissions) + "; " + roleNames(a.Roles)
}

// TestRefusals gives every command all that it can be refused for: the code, a
// message that names the value, and nothing changed.
func TestRefusals(t *testing.T) {
	scope := newFixture(t).scope
	elsewhere := Scope{scope.Organisation, ID{77}}
	unknown := Scope{ID{77}, scope.Project}
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		body    Body
		code    Code
		message string // a part
	}{
		{&Init{Cluster: ID{5}}, CodeAlreadyExists, "initialised before"},

		{&PutPermission{elsewhere, newID, "doc.print", ""}, CodeNotFound, elsewhere.Project.String()},
		{&PutPermission{unknown, newID, "doc.print", ""}, CodeNotFound, "does not exist"},
		{&PutPermission{Scope{}, newID, "doc.print", ""}, CodeNotFound, "does not exist"},
		{&PutPermission{scope, newID, "", ""}, CodeInvalidArgument, "needs a name"},
		{&PutPermission{scope, newID, "doc print", ""}, CodeInvalidArgument, `"doc print"`},
		{&PutPermission{scope, newID, long, ""}, CodeInvalidArgument, "300 bytes"},
		{&PutPermission{scope, newID, "check", ""}, CodeInvalidArgument, `"check"`},
		{&PutPermission{scope, newID, "doc.print", strings.Repeat("x", 5000)}, CodeInvalidArgument, "5000 bytes"},
		{&PutPermission{scope, newID, "doc.read", "\xff"}, CodeInvalidArgument, "not valid UTF-8"},
		{&PutPermission{scope, readID, "doc.print", ""}, CodeAlreadyExists, readID.String()},

		{&UpdatePermission{elsewhere, readID, "doc.print", ""}, CodeNotFound, elsewhere.Project.String()},
		{&UpdatePermission{scope, newID, "doc.print", ""}, CodeNotFound, newID.String()},
		{&UpdatePermission{scope, editorID, "doc.print", ""}, CodeNotFound, editorID.String()},
		{&UpdatePermission{scope, readID, "doc.write", ""}, CodeAlreadyExists, `"doc.write"`},
		{&UpdatePermission{scope, readID, "doc/print", ""}, CodeInvalidArgument, `"doc/print"`},
		{&UpdatePermission{scope, readID, "", strings.Repeat("x", 5000)}, CodeInvalidArgument, "5000 bytes"},

		{&DeletePermission{elsewhere, readID}, CodeNotFound, elsewhere.Project.String()},

		{&PutRole{elsewhere, newID, "printer", "", nil}, CodeNotFound, elsewhere.Project.String()},
		{&PutRole{scope, newID, "", "", nil}, CodeInvalidArgument, "empty"},
		{&PutRole{scope, newID, "a\u200bb", "", nil}, CodeInvalidArgument, "U+200B"},
		{&PutRole{scope, newID, newID.String(), "", nil}, CodeInvalidArgument, newID.String()},
		{&PutRole{scope, newID, "printer", "\xff", nil}, CodeInvalidArgument, "not valid UTF-8"},
		{&PutRole{scope, newID, "printer", "", []ID{readID, newID}}, CodeNotFound, "permission " + newID.String()},
		{&PutRole{scope, newID, "editor", "", []ID{viewerID}}, CodeNotFound, "permission " + viewerID.String()},
		{&PutRole{scope, newID, "printer", "", make([]ID, MaxRolePermissions+1)}, CodeInvalidArgument, "1001 permissions, 1000 at most"},
		{&PutRole{scope, editorID, "printer", "", nil}, CodeAlreadyExists, editorID.String()},

		{&UpdateRole{elsewhere, editorID, "", "", nil}, CodeNotFound, elsewhere.Project.String()},
		{&UpdateRole{scope, newID, "printer", "", nil}, CodeNotFound, "role " + newID.String()},
		{&UpdateRole{scope, readID, "printer", "", nil}, CodeNotFound, "role " + readID.String()},
		{&UpdateRole{scope, editorID, "viewer", "", nil}, CodeAlreadyExists, `"viewer"`},
		{&UpdateRole{scope, editorID, "\t", "", nil}, CodeInvalidArgument, "U+0009"},
		{&UpdateRole{scope, editorID, "", strings.Repeat("x", 5000), nil}, CodeInvalidArgument, "5000 bytes"},
		{&UpdateRole{scope, editorID, "", "", []ID{newID}}, CodeNotFound, "permission " + newID.String()},
		{&UpdateRole{scope, editorID, "", "", make([]ID, MaxRolePermissions+1)}, CodeInvalidArgument, "1001 permissions"},

		{&DeleteRole{unknown, editorID}, CodeNotFound, "does not exist"},

		{&Grant{elsewhere, "usr_1", "/a", []ID{readID}, nil}, CodeNotFound, elsewhere.Project.String()},
		{&Grant{scope, "usr_1", "/a", nil, nil}, CodeInvalidArgument, "at least one"},
		{&Grant{scope, "", "/a", []ID{readID}, nil}, CodeInvalidArgument, "principal is empty"},
		{&Grant{scope, "usr\u202e", "/a", []ID{readID}, nil}, CodeInvalidArgument, "U+202E"},
		{&Grant{scope, long, "/a", []ID{readID}, nil}, CodeInvalidArgument, "300 bytes"},
		{&Grant{scope, "usr_1", "a", []ID{readID}, nil}, CodeInvalidArgument, `"a"`},
		{&Grant{scope, "usr_1", "/a//b", []ID{readID}, nil}, CodeInvalidArgument, `"/a//b"`},
		{&Grant{scope, "usr_1", "/a/b*", []ID{readID}, nil}, CodeInvalidArgument, `"/a/b*"`},
		{&Grant{scope, "usr_1", "/a/..", []ID{readID}, nil}, CodeInvalidArgument, `"/a/.."`},
		{&Grant{scope, "usr_1", "/a", []ID{readID, newID}, nil}, CodeNotFound, "permission " + newID.String()},
		{&Grant{scope, "usr_1", "/a", []ID{editorID}, nil}, CodeNotFound, "permission " + editorID.String()},
		{&Grant{scope, "usr_1", "/a", []ID{readID}, []ID{editorID, newID}}, CodeNotFound, "role " + newID.String()},
		{&Grant{scope, "usr_1", "/a", nil, []ID{readID}}, CodeNotFound, "role " + readID.String()},

		{&Revoke{elsewhere, "usr_1", "/project/456", []ID{shareID}, nil}, CodeNotFound, elsewhere.Project.String()},
		{&Revoke{scope, "usr_1", "/project/456", nil, nil}, CodeInvalidArgument, "at least one"},
		{&Revoke{scope, "", "/project/456", []ID{shareID}, nil}, CodeInvalidArgument, "principal is empty"},
		{&Revoke{scope, "usr_1", "/project//456", []ID{shareID}, nil}, CodeInvalidArgument, `"/project//456"`},
		{&Revoke{scope, "usr_1", "/project/456", []ID{shareID, newID}, nil}, CodeNotFound, "permission " + newID.String()},
		{&Revoke{scope, "usr_1", "/project/456", []ID{shareID}, []ID{newID}}, CodeNotFound, "role " + newID.String()},

		{&Sweep{elsewhere, 10}, CodeNotFound, elsewhere.Project.String()},
	} {
		t.Run(strings.TrimPrefix(fmt.Sprintf("%T/%s", c.body, c.message), "*fsm."), func(t *testing.T) {
			m := newFixture(t)
			before := m.store.State()
			if err := before.Refuses(&Command{Body: c.body}); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("asked before, it is refused with %v", err)
			}
			r := m.apply(c.body)[0]
			if r.Err == nil {
				t.Fatalf("%+v is applied", c.body)
			}
			if r.Err.Code != c.code || !strings.Contains(r.Err.Message, c.message) {
				t.Errorf("code %d: %s; want %d: …%s…", r.Err.Code, r.Err.Message, c.code, c.message)
			}
			if r.Permission != nil || r.Role != nil || r.Granted != nil {
				t.Errorf("a refusal answers %+v", r)
			}
			checkMessage(t, r.Err)
			after := m.store.State()
			if before.Digest() != after.Digest() || !bytes.Equal(content(t, before), content(t, after)) {
				t.Error("the refused command changed the state")
			}
			if after.Revision != m.index {
				t.Errorf("the revision is %d, want %d", after.Revision, m.index)
			}
		})
	}
}

// TestSuccesses applies every command and looks at what it came to.
func TestSuccesses(t *testing.T) {
	for name, c := range map[string]func(t *testing.T, m *machine, p func() *Project){
		"create permission": func(t *testing.T, m *machine, p func() *Project) {
			r := m.must(&PutPermission{m.scope, newID, "doc.print", "Print"})
			got, ok := p().Permission("doc.print")
			if !ok || got.ID != newID || got.Description != "Print" || *r.Permission != *got {
				t.Errorf("%+v, answered %+v", got, r.Permission)
			}
			if byID, ok := p().Permission(newID.String()); !ok || byID != got {
				t.Errorf("by id: %+v", byID)
			}
		},
		"create permission again": func(t *testing.T, m *machine, p func() *Project) {
			r := m.must(&PutPermission{m.scope, newID, "doc.read", "again"})
			if r.Permission.ID != readID || r.Permission.Description != "again" {
				t.Errorf("answered %+v", r.Permission)
			}
			if _, ok := p().Permission(newID.String()); ok {
				t.Error("the id of the second command is used")
			}
			if !m.allows("usr_1", "/project/456/a", "doc.read") {
				t.Error("the grant is lost")
			}
		},
		"describe permission": func(t *testing.T, m *machine, p func() *Project) {
			r := m.must(&UpdatePermission{m.scope, readID, "", "new"})
			if got, _ := p().Permission("doc.read"); got.Description != "new" || *r.Permission != *got {
				t.Errorf("%+v, answered %+v", got, r.Permission)
			}
		},
		"rename permission": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&UpdatePermission{m.scope, readID, "doc.open", "x"})
			if _, ok := p().Permission("doc.read"); ok {
				t.Error("the old name still finds it")
			}
			if !m.allows("usr_1", "/project/456/a", "doc.open") || m.allows("usr_1", "/project/456/a", "doc.read") {
				t.Error("grants do not follow the new name")
			}
			// The old name is free, and new.
			m.must(&PutPermission{m.scope, newID, "doc.read", ""})
			if m.allows("usr_1", "/project/456/a", "doc.read") {
				t.Error("grants of the renamed permission hold for its old name")
			}
		},
		"rename permission to itself": func(t *testing.T, m *machine, p func() *Project) {
			if r := m.must(&UpdatePermission{m.scope, readID, "doc.read", "x"}); r.Permission.ID != readID {
				t.Errorf("answered %+v", r.Permission)
			}
		},
		"delete permission": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&DeletePermission{m.scope, readID})
			if m.allows("usr_1", "/project/456/a", "doc.read") || !m.allows("usr_1", "/project/456/a", "doc.write") {
				t.Error("checks do not show the delete")
			}
			editor, _ := p().Role("editor")
			if got := permissionNames(p().RolePermissions(editor)); got != "doc.write" {
				t.Errorf("the role has %q", got)
			}
		},
		"delete permission that is not there": func(t *testing.T, m *machine, p func() *Project) {
			before := content(t, m.store.State())
			m.must(&DeletePermission{m.scope, newID})
			if !bytes.Equal(before, content(t, m.store.State())) {
				t.Error("the state changed")
			}
		},
		"create role": func(t *testing.T, m *machine, p func() *Project) {
			r := m.must(&PutRole{m.scope, newID, "sharer", "Shares", []ID{shareID, readID, shareID}})
			got, ok := p().Role("sharer")
			if !ok || got.ID != newID || got.Description != "Shares" || got != r.Role {
				t.Errorf("%+v, answered %+v", got, r.Role)
			}
			if names := permissionNames(r.Granted); names != "doc.read doc.share" {
				t.Errorf("it has %q", names)
			}
		},
		"create role again": func(t *testing.T, m *machine, p func() *Project) {
			r := m.must(&PutRole{m.scope, newID, "editor", "again", []ID{shareID}})
			if r.Role.ID != editorID || r.Role.Description != "again" || permissionNames(r.Granted) != "doc.share" {
				t.Errorf("answered %+v with %q", r.Role, permissionNames(r.Granted))
			}
			if m.allows("usr_1", "/project/456", "doc.write") || !m.allows("usr_1", "/project/456", "doc.share") {
				t.Error("checks do not show what the role holds now")
			}
		},
		"create role of nothing": func(t *testing.T, m *machine, p func() *Project) {
			if r := m.must(&PutRole{m.scope, newID, "nobody", "", nil}); len(r.Granted) > 0 {
				t.Errorf("it has %q", permissionNames(r.Granted))
			}
		},
		"update role": func(t *testing.T, m *machine, p func() *Project) {
			r := m.must(&UpdateRole{m.scope, editorID, "author", "", []ID{writeID}})
			if r.Role.Name != "author" || r.Role.Description != "" || permissionNames(r.Granted) != "doc.write" {
				t.Errorf("answered %+v with %q", r.Role, permissionNames(r.Granted))
			}
			if _, ok := p().Role("editor"); ok {
				t.Error("the old name still finds it")
			}
			if !m.allows("usr_1", "/project/456", "doc.write") || m.allows("usr_1", "/project/456", "doc.read") {
				t.Error("checks do not show what the role holds now")
			}
		},
		"update role without a name": func(t *testing.T, m *machine, p func() *Project) {
			if r := m.must(&UpdateRole{m.scope, editorID, "", "x", nil}); r.Role.Name != "editor" || len(r.Granted) > 0 {
				t.Errorf("answered %+v with %q", r.Role, permissionNames(r.Granted))
			}
		},
		"delete role": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&DeleteRole{m.scope, editorID})
			if m.allows("usr_1", "/project/456", "doc.write") || !m.allows("usr_1", "/project/456", "doc.share") {
				t.Error("checks do not show the delete")
			}
			if got := m.holds("usr_1", "/project/456"); got != "doc.share; " {
				t.Errorf("usr_1 holds %q", got)
			}
		},
		"grant": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&Grant{m.scope, "usr_1", "/project/456/", []ID{shareID, readID, readID}, []ID{viewerID}})
			if got := m.holds("usr_1", "/project/456"); got != "doc.read doc.share; editor viewer" {
				t.Errorf("usr_1 holds %q", got)
			}
		},
		"grant on everything": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&Grant{m.scope, "root", "/", []ID{readID}, nil})
			if !m.allows("root", "/", "doc.read") || !m.allows("root", "/a/b", "doc.read") {
				t.Error("the root does not reach everything")
			}
		},
		"revoke": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&Revoke{m.scope, "usr_1", "/project/456/", []ID{shareID, readID}, nil})
			if got := m.holds("usr_1", "/project/456"); got != "; editor" {
				t.Errorf("usr_1 holds %q", got)
			}
			m.must(&Revoke{m.scope, "usr_1", "/project/456", nil, []ID{editorID}})
			if got := slices.Collect(p().Principals("")); !slices.Equal(got, []string{"usr_2"}) {
				t.Errorf("the principals are %v", got)
			}
		},
		"revoke what was not granted": func(t *testing.T, m *machine, p func() *Project) {
			before := content(t, m.store.State())
			m.must(&Revoke{m.scope, "usr_1", "/project/456", []ID{readID}, []ID{viewerID}})
			m.must(&Revoke{m.scope, "usr_1", "/project/456/documents", []ID{shareID}, nil})
			m.must(&Revoke{m.scope, "usr_1", "/project/*", []ID{shareID}, nil})
			m.must(&Revoke{m.scope, "nobody", "/project/456", []ID{shareID}, nil})
			if !bytes.Equal(before, content(t, m.store.State())) {
				t.Error("the state changed")
			}
		},
		"revoke a wildcard": func(t *testing.T, m *machine, p func() *Project) {
			m.must(&Revoke{m.scope, "usr_2", "/project/*/documents", nil, []ID{viewerID}})
			if m.allows("usr_2", "/project/1/documents", "doc.read") {
				t.Error("the grant is still there")
			}
		},
		"sweep nothing": func(t *testing.T, m *machine, p func() *Project) {
			before := content(t, m.store.State())
			m.must(&Sweep{m.scope, 10})
			if !bytes.Equal(before, content(t, m.store.State())) {
				t.Error("the state changed")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFixture(t)
			if err := m.store.State().Refuses(&Command{Body: &Sweep{m.scope, 1}}); err != nil {
				t.Errorf("a command that succeeds would be refused: %v", err)
			}
			c(t, m, m.project)
			m.restart()
			want := content(t, m.store.State())
			m.restart()
			if !bytes.Equal(want, content(t, m.store.State())) {
				t.Error("a snapshot changed the state")
			}
		})
	}
}

func TestInit(t *testing.T) {
	m := newMachine(t)
	s := m.store.State()
	if s.Cluster != (ID{9}) || s.Epoch != (ID{8}) || s.Secret != [32]byte{7} || s.Level != MaxLevel || s.Revision != 1 {
		t.Errorf("the state is %+v", s)
	}
	k, owned, ok := s.Key([32]byte{4})
	if want := (Key{rootID, "root", [32]byte{4}, m.scope.Organisation, BuiltInProject, remitID, 1, false}); !ok || *k != want {
		t.Errorf("the root key is %+v", k)
	}
	if _, _, ok := s.Key([32]byte{5}); ok {
		t.Error("another key is found")
	}
	if !s.IsOperator(rootID) || s.IsOperator(ID{}) || s.IsOperator(newID) {
		t.Errorf("the operators are %v", s.operators)
	}
	o, ok := s.Organisation(m.scope.Organisation)
	if !ok || o.Name != BootstrapOrganisation || o.Created != 1 || o.Updated != 1 || o != owned {
		t.Errorf("the organisation is %+v", o)
	}
	if !o.Holds(KeyPrincipal(rootID), "organisation.update", ManagementURI(o.ID)) {
		t.Error("the root key does not own the organisation")
	}
	if p, ok := o.Project("production"); !ok || p.ID != m.scope.Project {
		t.Errorf("the project is %+v", p)
	}
}

// TestInOneBatch: later commands of a batch see what earlier ones did, and a
// refused one between them leaves nothing.
func TestInOneBatch(t *testing.T) {
	m := newMachine(t)
	results := m.apply(
		&PutPermission{m.scope, readID, "doc.read", ""},
		&Grant{m.scope, "u", "/a", []ID{readID}, nil},
		&PutRole{m.scope, editorID, "editor", "", []ID{readID, writeID}},
		&PutPermission{m.scope, writeID, "doc.write", ""},
		&PutRole{m.scope, editorID, "editor", "", []ID{readID, writeID}},
		&Grant{m.scope, "u", "/b", nil, []ID{editorID}},
		&Revoke{m.scope, "u", "/a", []ID{readID}, nil},
	)
	for i, r := range results {
		if refused := r.Err != nil; refused != (i == 2) {
			t.Errorf("command %d: %v", i, r.Err)
		}
	}
	if m.allows("u", "/a", "doc.read") || !m.allows("u", "/b", "doc.write") {
		t.Error("the batch came to something else")
	}
	if got := m.store.Revision(); got != m.index {
		t.Errorf("the revision is %d, want %d", got, m.index)
	}
}

// TestNumbersRunOut: a number that was given out never comes back, not even
// where a project had more permissions than there are numbers.
func TestNumbersRunOut(t *testing.T) {
	m := newFixture(t)
	b := newBatch(m.store.State())
	_, p, err := b.project(m.scope)
	if err != nil {
		t.Fatal(err)
	}
	p.numbers = 1<<31 - 2
	m.store.publish(b.finish(m.index))
	m.must(&PutPermission{m.scope, ID{30}, "last.but.one", ""})
	m.must(&PutRole{m.scope, ID{31}, "last", "", []ID{{30}}})
	m.must(&Grant{m.scope, "u", "/a", nil, []ID{{31}}})
	before := content(t, m.store.State())
	for _, body := range []Body{&PutPermission{m.scope, ID{32}, "one.more", ""}, &PutRole{m.scope, ID{33}, "one more", "", nil}} {
		if r := m.apply(body)[0]; r.Err == nil || r.Err.Code != CodeResourceExhausted {
			t.Errorf("%T came to %+v", body, r)
		}
	}
	if !bytes.Equal(before, content(t, m.store.State())) {
		t.Error("the refused commands changed the state")
	}
	m.restart()
	if !m.allows("u", "/a", "last.but.one") || m.allows("u", "/a", "doc.read") {
		t.Error("the last numbers do not work")
	}
}

// TestManyNames: names are found the same way or the other, however many there
// are, and never under one that they had before.
func TestManyNames(t *testing.T) {
	m := newMachine(t)
	look := func(n int) {
		t.Helper()
		for _, i := range []int{0, 1, n / 2, n - 1} {
			name := fmt.Sprint("p", i)
			if p, ok := m.project().Permission(name); !ok || p.Name != name {
				t.Fatalf("of %d permissions, %q finds %+v", n, name, p)
			}
		}
		for _, name := range []string{fmt.Sprint("p", n), "p", ""} {
			if p, ok := m.project().Permission(name); ok {
				t.Fatalf("of %d permissions, %q finds %+v", n, name, p)
			}
		}
	}
	put := func(from, to int) {
		var bodies []Body
		for i := from; i < to; i++ {
			bodies = append(bodies, &PutPermission{m.scope, ID{1, byte(i >> 8), byte(i)}, fmt.Sprint("p", i), ""})
		}
		m.apply(bodies...)
	}
	put(0, 3)
	look(3)
	put(3, maxQuick)
	look(maxQuick)
	put(maxQuick, maxQuick+1)
	look(maxQuick + 1)
	m.must(&DeletePermission{m.scope, ID{1, maxQuick >> 8, maxQuick & 0xff}})
	look(maxQuick)
	m.must(&UpdatePermission{m.scope, ID{1, 0, 7}, "renamed", ""})
	if _, ok := m.project().Permission("p7"); ok {
		t.Error("a name finds what had it before")
	}
	if p, ok := m.project().Permission("renamed"); !ok || p.Name != "renamed" {
		t.Errorf("the new name finds %+v", p)
	}
	m.restart()
	look(maxQuick)
}

// TestRefusesBesideApply: any number of requests may check, and ask what a
// command would come to, while others are applied.
func TestRefusesBesideApply(t *testing.T) {
	m := newFixture(t)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := m.store.State()
				if !stateCheck(s, m.scope, "usr_1", "/project/456", "doc.share") || stateCheck(s, m.scope, "usr_1", "/b", "doc.share") {
					t.Error("a check is wrong")
				}
				for _, body := range []Body{
					&PutPermission{m.scope, newID, "doc.print", ""},
					&PutRole{m.scope, newID, "printer", "", []ID{writeID}},
					&Grant{m.scope, "usr_1", "/a", nil, []ID{editorID}},
					&DeletePermission{m.scope, shareID},
				} {
					if err := s.Refuses(&Command{Body: body}); err != nil {
						t.Errorf("%T would be refused: %v", body, err)
					}
				}
			}
		})
	}
	for i := range 200 {
		m.must(&PutPermission{m.scope, ID{100, byte(i)}, fmt.Sprint("permission", i), ""})
		m.must(&Grant{m.scope, "usr_1", "/b", []ID{{100, byte(i)}}, nil})
	}
	close(stop)
	readers.Wait()
}

// TestPublishedCataloguesStay is about catalogues of many records, whose trees
// split and merge: states that were published before stay as they were.
func TestPublishedCataloguesStay(t *testing.T) {
	m := newMachine(t)
	r := rand.New(rand.NewPCG(5, 5))
	type kept struct {
		state   *State
		content []byte
	}
	var all []kept
	for step := range 40 {
		var bodies []Body
		for range 100 {
			n := r.IntN(600)
			id := ID{1, byte(n >> 8), byte(n)}
			switch {
			case r.IntN(10) < 8-6*(step/10%2):
				bodies = append(bodies, &PutPermission{m.scope, id, fmt.Sprint("permission.", n), fmt.Sprint(step)})
				bodies = append(bodies, &PutRole{m.scope, id, fmt.Sprint("role ", n), fmt.Sprint(step), nil})
			case r.IntN(3) == 0:
				bodies = append(bodies, &UpdatePermission{m.scope, id, fmt.Sprint("renamed.", n), ""})
			default:
				bodies = append(bodies, &DeletePermission{m.scope, id}, &DeleteRole{m.scope, id})
			}
		}
		m.apply(bodies...)
		all = append(all, kept{m.store.State(), content(t, m.store.State())})
	}
	for _, k := range all {
		if !bytes.Equal(content(t, k.state), k.content) {
			t.Fatalf("the state of revision %d has changed since", k.state.Revision)
		}
		o, _ := k.state.Organisation(m.scope.Organisation)
		project, _ := o.Project("production")
		for p := range project.Permissions("") {
			if byID, ok := project.permissions.byID(p.ID); !ok || byID != p {
				t.Fatalf("permission %q is not found by its id", p.Name)
			}
		}
	}
}
