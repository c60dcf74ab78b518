package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// putPermissions creates n permissions and returns their ids.
func (m *machine) putPermissions(n int) (ids []ID) {
	m.t.Helper()
	var bodies []Body
	for i := range n {
		ids = append(ids, ID{0xaa, byte(i >> 16), byte(i >> 8), byte(i)})
		bodies = append(bodies, &PutPermission{m.scope, ids[i], fmt.Sprint("p", i), ""})
	}
	for _, r := range m.apply(bodies...) {
		if r.Err != nil {
			m.t.Fatal(r.Err)
		}
	}
	return ids
}

// sweep applies Sweep commands until there is nothing to do, and returns how
// many that took.
func (m *machine) sweep(limit int) (steps int) {
	m.t.Helper()
	for m.store.State().IsSweeping(m.scope) {
		m.must(&Sweep{m.scope, limit})
		if steps++; steps > 100_000 {
			m.t.Fatal("the sweep does not end")
		}
	}
	return steps
}

// dead returns how many dead numbers are written somewhere.
func (m *machine) dead() (n int) {
	d := draft{Project: *m.project()}
	count := func(numbers []number) {
		for _, number := range numbers {
			if d.dead(number) {
				n++
			}
		}
	}
	d.roles.numbers.Scan(func(_ number, r *Role) bool { count(r.permissions); return true })
	for principal := range d.assignments.Principals("") {
		for _, value := range d.assignments.Held(principal, "") {
			count(rights(value).numbers())
		}
	}
	return n
}

// TestRoleLimit: a role has 1,000 permissions at most.
func TestRoleLimit(t *testing.T) {
	m := newMachine(t)
	ids := m.putPermissions(MaxRolePermissions + 1)
	m.must(&PutRole{m.scope, editorID, "editor", "", ids[1:]})
	if got := len(m.must(&UpdateRole{m.scope, editorID, "", "", ids[:MaxRolePermissions]}).Granted); got != MaxRolePermissions {
		t.Errorf("the role has %d permissions", got)
	}
	for _, body := range []Body{&PutRole{m.scope, newID, "other", "", ids}, &PutRole{m.scope, newID, "editor", "", ids}, &UpdateRole{m.scope, editorID, "", "", ids}} {
		if r := m.apply(body)[0]; r.Err == nil || r.Err.Code != CodeInvalidArgument {
			t.Errorf("%T of %d permissions: %+v", body, len(ids), r.Err)
		}
	}
	editor, _ := m.project().Role("editor")
	if got := len(m.project().RolePermissions(editor)); got != MaxRolePermissions {
		t.Errorf("the role has %d permissions after what was refused", got)
	}
}

// TestAssignmentLimit: an assignment holds 10,000 permissions and roles at most,
// the living ones counted.
func TestAssignmentLimit(t *testing.T) {
	m := newMachine(t)
	ids := m.putPermissions(MaxAssignmentRights)
	m.must(&PutRole{m.scope, editorID, "editor", "", ids[:1]})
	for some := range slices.Chunk(ids, MaxCallRights) {
		m.must(&Grant{m.scope, "u", "/a", some, nil})
	}
	before := content(t, m.store.State())
	r := m.apply(&Grant{m.scope, "u", "/a", nil, []ID{editorID}})[0]
	if r.Err == nil || r.Err.Code != CodeInvalidArgument || !strings.Contains(r.Err.Message, `"u" would hold 10001`) {
		t.Fatalf("the 10,001st right: %+v", r.Err)
	}
	if !bytes.Equal(before, content(t, m.store.State())) {
		t.Error("the refused grant changed the state")
	}
	m.must(&Grant{m.scope, "u", "/a", ids[:MaxCallRights], nil}) // nothing new
	m.must(&Grant{m.scope, "u", "/a/b", nil, []ID{editorID}})
	m.must(&DeletePermission{m.scope, ids[7]})
	m.must(&Grant{m.scope, "u", "/a", nil, []ID{editorID}})
	a := m.project().Assignment("u", "/a")
	if len(a.Permissions) != MaxAssignmentRights-1 || len(a.Roles) != 1 {
		t.Errorf("u holds %d permissions and %d roles", len(a.Permissions), len(a.Roles))
	}
	m.restart()
	for some := range slices.Chunk(append(slices.Clone(ids[:7]), ids[8:]...), MaxCallRights) {
		m.must(&Revoke{m.scope, "u", "/a", some, nil})
	}
	if got := m.holds("u", "/a"); got != "; editor" {
		t.Errorf("u holds %q", got)
	}
}

// TestNothingRevives: what was deleted and created again under its name is new.
func TestNothingRevives(t *testing.T) {
	for _, swept := range []string{"never", "before", "after", "on the way"} {
		for _, kind := range []string{"permission", "role"} {
			t.Run(kind+"/swept "+swept, func(t *testing.T) {
				m := newFixture(t)
				m.must(&PutRole{m.scope, ID{22}, "both", "", []ID{readID, writeID}})
				m.must(&Grant{m.scope, "usr_3", "/", []ID{readID, writeID}, []ID{editorID, ID{22}}})
				m.must(&Grant{m.scope, "usr_4", "/", []ID{readID}, nil})
				m.must(&Grant{m.scope, "usr_5", "/", nil, []ID{editorID}})
				again := func() { m.must(&PutPermission{m.scope, newID, "doc.read", ""}) }
				if kind == "permission" {
					m.must(&DeletePermission{m.scope, readID})
				} else {
					m.must(&DeleteRole{m.scope, editorID})
					again = func() { m.must(&PutRole{m.scope, newID, "editor", "", []ID{readID, writeID}}) }
				}
				switch swept {
				case "never":
					again()
				case "before":
					m.sweep(10)
					again()
				case "after":
					again()
					m.sweep(10)
				case "on the way":
					m.must(&Sweep{m.scope, 3})
					again()
					m.must(&Sweep{m.scope, 3})
				}
				for range 2 {
					if kind == "permission" {
						for _, principal := range []string{"usr_1", "usr_2", "usr_3", "usr_4"} {
							if m.allows(principal, "/project/456/documents", "doc.read") {
								t.Errorf("%s has doc.read back", principal)
							}
						}
						for _, name := range []string{"editor", "viewer", "both"} {
							role, _ := m.project().Role(name)
							if got := permissionNames(m.project().RolePermissions(role)); strings.Contains(got, "doc.read") {
								t.Errorf("the role %q has %q", name, got)
							}
						}
						if got := slices.Collect(m.project().Principals("")); slices.Contains(got, "usr_4") {
							t.Errorf("the principals are %v", got)
						}
					} else {
						if m.allows("usr_1", "/project/456", "doc.write") || m.allows("usr_5", "/", "doc.write") {
							t.Error("somebody has the role back")
						}
						if !m.allows("usr_3", "/", "doc.write") {
							t.Error("what was granted beside the role is gone")
						}
						if got := m.holds("usr_3", "/"); got != "doc.read doc.write; both" {
							t.Errorf("usr_3 holds %q", got)
						}
					}
					m.restart()
				}
				// The new one can be granted like any other.
				if kind == "permission" {
					m.must(&Grant{m.scope, "usr_4", "/", []ID{newID}, nil})
				} else {
					m.must(&Grant{m.scope, "usr_4", "/", nil, []ID{newID}})
				}
				m.sweep(10)
				if !m.allows("usr_4", "/a", "doc.read") || m.dead() > 0 {
					t.Errorf("the new one is not granted, or %d dead numbers are left", m.dead())
				}
			})
		}
	}
}

// TestSweepStartsAgain: what is deleted behind the place of a sweep is found by
// another round, wherever the sweep was.
func TestSweepStartsAgain(t *testing.T) {
	build := func() *machine {
		m := newFixture(t)
		for i := range 20 {
			m.must(&PutRole{m.scope, ID{50, byte(i)}, fmt.Sprint("role ", i), "", []ID{readID, writeID}})
			m.must(&Grant{m.scope, fmt.Sprintf("usr_%02d", i), "/a", []ID{readID, shareID}, []ID{{50, byte(i)}}})
		}
		m.must(&DeletePermission{m.scope, readID})
		return m
	}
	m := build()
	rounds := m.sweep(10)
	if m.dead() > 0 {
		t.Fatalf("%d dead numbers are left", m.dead())
	}
	for at := range rounds {
		m := build()
		for range at {
			m.must(&Sweep{m.scope, 10})
		}
		if at%2 == 0 {
			m.restart()
		}
		m.must(&DeletePermission{m.scope, writeID})
		m.must(&DeleteRole{m.scope, ID{50, 3}})
		digest := m.store.State().Digest()
		more := m.sweep(10)
		if m.dead() > 0 {
			t.Errorf("a delete after %d steps leaves %d dead numbers", at, m.dead())
		}
		if at > 0 && more <= rounds-at {
			t.Errorf("a delete after %d of %d steps was swept by %d more: that is no second round", at, rounds, more)
		}
		if m.store.State().Digest() != digest {
			t.Errorf("the sweep after %d steps changed the digest", at)
		}
		if m.allows("usr_05", "/a", "doc.write") || !m.allows("usr_05", "/a", "doc.share") {
			t.Errorf("a delete after %d steps: checks are wrong", at)
		}
	}
}

// TestSweepBesideWrites: a sweep goes on while everything around it changes.
func TestSweepBesideWrites(t *testing.T) {
	m := newFixture(t)
	ids := m.putPermissions(40)
	for i := range 200 {
		m.must(&Grant{m.scope, fmt.Sprintf("usr_%03d", i), "/a", []ID{ids[i%40], ids[(i+1)%40]}, nil})
	}
	for i := range 40 {
		m.must(&DeletePermission{m.scope, ids[i]})
		m.must(&PutPermission{m.scope, ID{0xbb, byte(i)}, fmt.Sprint("p", i), ""})
		m.must(&Sweep{m.scope, 25})
		m.must(&Grant{m.scope, fmt.Sprintf("usr_%03d", 5*i), "/a", []ID{{0xbb, byte(i)}}, nil})
		m.must(&Grant{m.scope, fmt.Sprintf("new_%03d", i), "/a", []ID{{0xbb, byte(i)}}, nil})
		m.must(&Revoke{m.scope, fmt.Sprintf("usr_%03d", i), "/a", []ID{shareID}, nil})
		m.must(&Sweep{m.scope, -1})
	}
	m.sweep(100)
	if m.dead() > 0 {
		t.Errorf("%d dead numbers are left", m.dead())
	}
	for i := range 40 {
		if !m.allows(fmt.Sprintf("new_%03d", i), "/a", fmt.Sprint("p", i)) {
			t.Errorf("new_%03d lost its grant", i)
		}
	}
	if m.allows("usr_001", "/a", "p1") {
		t.Error("usr_001 has a dead permission back")
	}
}

// TestSweepIsBounded: no step looks at much more than its limit, whatever limit
// the command asks for.
func TestSweepIsBounded(t *testing.T) {
	m := newMachine(t)
	ids := m.putPermissions(2)
	var bodies []Body
	for i := range 15_000 {
		bodies = append(bodies, &Grant{m.scope, fmt.Sprintf("u%05d", i), "/a", ids, nil})
	}
	m.apply(bodies...)
	m.must(&DeletePermission{m.scope, ids[0]})
	before := m.dead()
	m.must(&Sweep{m.scope, 1 << 40})
	if swept := before - m.dead(); swept < 3000 || swept > 10_000 {
		t.Errorf("one step swept %d assignments", swept)
	}
}

// TestListings: what is dead is in no listing, swept or not.
func TestListings(t *testing.T) {
	m := newFixture(t)
	m.must(&Grant{m.scope, "usr_3", "/project/7", []ID{shareID}, nil})
	m.must(&Grant{m.scope, "usr_1", "/project/456/documents/1", []ID{readID}, nil})
	list := func() (all []string) {
		p := m.project()
		for principal := range p.Principals("") {
			for a := range p.Assignments(principal, "") {
				all = append(all, principal+" "+a.URI)
			}
		}
		all = append(all, "holders")
		for a := range p.Holders("/project/456") {
			all = append(all, a.Principal+" "+a.URI)
		}
		all = append(all, "reaching")
		for a := range p.Reaching("usr_1", "/project/456/documents/1/x") {
			all = append(all, a.URI+" "+permissionNames(a.Permissions)+";"+roleNames(a.Roles))
		}
		return all
	}
	compare := func(want ...string) {
		t.Helper()
		if got := list(); !slices.Equal(got, want) {
			t.Errorf("listed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	compare("usr_1 /project/456", "usr_1 /project/456/documents/1", "usr_2 /project/*/documents", "usr_3 /project/7",
		"holders", "usr_2 /project/*/documents", "usr_1 /project/456", "usr_1 /project/456/documents/1",
		"reaching", "/project/456 doc.share;editor", "/project/456/documents/1 doc.read;")
	m.must(&DeletePermission{m.scope, shareID})
	m.must(&DeleteRole{m.scope, viewerID})
	for range 2 {
		compare("usr_1 /project/456", "usr_1 /project/456/documents/1",
			"holders", "usr_1 /project/456", "usr_1 /project/456/documents/1",
			"reaching", "/project/456 ;editor", "/project/456/documents/1 doc.read;")
		m.sweep(3)
	}
	var after []string
	for a := range m.project().Assignments("usr_1", "/project/456") {
		after = append(after, a.URI)
	}
	if !slices.Equal(after, []string{"/project/456/documents/1"}) {
		t.Errorf("behind /project/456 there is %v", after)
	}
	// A caller may leave any walk.
	for range m.project().Principals("") {
		break
	}
	for range m.project().Holders("/") {
		break
	}
	for range m.project().Assignments("usr_1", "") {
		break
	}
	for range m.project().Permissions("") {
		break
	}
	for range m.store.State().Sweeping() {
		break
	}
}

// TestCataloguePages: permissions and roles are listed by name, behind a name
// that need not exist.
func TestCataloguePages(t *testing.T) {
	m := newFixture(t)
	names := func(after string) (all []string) {
		for p := range m.project().Permissions(after) {
			all = append(all, p.Name)
		}
		for r := range m.project().Roles(after) {
			all = append(all, r.Name)
		}
		return all
	}
	for after, want := range map[string]string{
		"":          "doc.read doc.share doc.write editor viewer",
		"doc.read":  "doc.share doc.write editor viewer",
		"doc.reaf":  "doc.share doc.write editor viewer",
		"doc.write": "editor viewer",
		"editor":    "viewer",
		"z":         "",
	} {
		if got := strings.Join(names(after), " "); got != want {
			t.Errorf("behind %q there is %q, want %q", after, got, want)
		}
	}
	if p, ok := m.project().Role(editorID.String()); !ok || p.Name != "editor" {
		t.Errorf("by id: %+v", p)
	}
	if _, ok := m.project().Role(newID.String()); ok {
		t.Error("an unknown id is found")
	}
	if _, ok := new(Project).Permission("doc.read"); ok {
		t.Error("an empty project has a permission")
	}
}
