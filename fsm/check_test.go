package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/remit-io/remit/index"
)

func (m *machine) check(principal string, uris, permissions []string) (Decision, error) {
	return m.store.State().Check(m.scope.Organisation, "production", principal, uris, permissions)
}

// wantMissing checks and compares what is missing: "uri: permission permission".
func (m *machine) wantMissing(principal string, uris, permissions []string, want ...string) {
	m.t.Helper()
	d, err := m.check(principal, uris, permissions)
	if err != nil {
		m.t.Fatal(err)
	}
	var got []string
	for _, missing := range d.Missing {
		got = append(got, missing.URI+": "+strings.Join(missing.Permissions, " "))
	}
	if d.Passed != (len(want) == 0) || !slices.Equal(got, want) {
		m.t.Errorf("%s, %q on %q: passed %v, missing\n%q, want\n%q", principal, permissions, uris, d.Passed, got, want)
	}
}

func TestCheckAnswers(t *testing.T) {
	m := newFixture(t)
	at, on := "/project/456", func(uris ...string) []string { return uris }
	can := func(permissions ...string) []string { return permissions }

	// All of them, all of it.
	m.wantMissing("usr_1", on(at), can("doc.read"))
	m.wantMissing("usr_1", on(at), can("doc.read", "doc.write", "doc.share"))
	m.wantMissing("usr_1", on(at, at+"/a", at+"/a/b/c"), can("doc.share", "doc.read"))
	m.wantMissing("usr_1", on(at+"/"), can("doc.read"))
	m.wantMissing("usr_2", on("/project/1/documents", "/project/2/documents/3"), can("doc.read"))

	// What is missing stands in the order of the request, as it was asked.
	m.wantMissing("usr_1", on("/b/", at, "/a"), can("doc.write", "doc.read"),
		"/b/: doc.write doc.read", "/a: doc.write doc.read")
	m.wantMissing("usr_2", on("/project/9/documents", "/project/9"), can("doc.share", "doc.read", "doc.write"),
		"/project/9/documents: doc.share doc.write", "/project/9: doc.share doc.read doc.write")
	m.wantMissing("usr_1", on("/project/45"), can("doc.read"), "/project/45: doc.read")
	m.wantMissing("nobody", on(at, "/"), can("doc.read"), at+": doc.read", "/: doc.read")

	// An unknown permission is missing, and hides nothing.
	m.wantMissing("usr_1", on(at), can("no.such"), at+": no.such")
	m.wantMissing("usr_1", on(at), can("no.such", "doc.read", "", "doc write", "other"), at+": no.such  doc write other")

	// Ids, and both at once.
	m.wantMissing("usr_1", on(at), can(readID.String(), "doc.read", writeID.String()))
	m.wantMissing("usr_2", on("/project/1/documents"), can(readID.String(), shareID.String(), newID.String(), editorID.String()),
		"/project/1/documents: "+shareID.String()+" "+newID.String()+" "+editorID.String())

	// What is asked twice is answered twice.
	m.wantMissing("usr_1", on(at, at), can("doc.read", "doc.read"))
	m.wantMissing("usr_2", on(at, at), can("doc.read", "doc.share", "doc.read"), at+": doc.read doc.share doc.read", at+": doc.read doc.share doc.read")
	m.wantMissing("usr_1", on(at), can("no.such", "doc.read", "no.such"), at+": no.such no.such")

	// Roles are no permissions.
	m.wantMissing("usr_1", on(at), can("editor"), at+": editor")
}

func TestCheckRefusals(t *testing.T) {
	m := newFixture(t)
	many := slices.Repeat([]string{"/a"}, 101)
	for _, c := range []struct {
		principal         string
		uris, permissions []string
		wrong             string
	}{
		{"usr_1", nil, []string{"doc.read"}, "at least one"},
		{"usr_1", []string{"/a"}, nil, "at least one"},
		{"usr_1", []string{}, []string{}, "at least one"},
		{"", []string{"/a"}, []string{"doc.read"}, "principal is empty"},
		{"usr\u200b", []string{"/a"}, []string{"doc.read"}, "U+200B"},
		{"usr_1", []string{"/a", "b"}, []string{"doc.read"}, `"b"`},
		{"usr_1", []string{"/a", "/a//b"}, []string{"doc.read"}, `"/a//b"`},
		{"usr_1", []string{"/project/*"}, []string{"doc.read"}, `"/project/*"`},
		{"usr_1", []string{"/a", "/a/../b"}, []string{"no.such"}, `"/a/../b"`},
		{"usr_1", []string{"/\x00"}, []string{"doc.read"}, "U+0000"},
		{"usr_1", many, many, "101 resources times 101 permissions"},
	} {
		d, err := m.check(c.principal, c.uris, c.permissions)
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != CodeInvalidArgument || !strings.Contains(refused.Message, c.wrong) {
			t.Errorf("check %q %q %q: %v, want %q", c.principal, c.uris, c.permissions, err, c.wrong)
			continue
		}
		if !reflect.DeepEqual(d, Decision{}) {
			t.Errorf("check %q %q %q is refused with the decision %+v", c.principal, c.uris, c.permissions, d)
		}
		checkMessage(t, refused)
	}
	s := m.store.State()
	for _, c := range []struct {
		organisation ID
		project      string
	}{{m.scope.Organisation, "Production"}, {m.scope.Organisation, ""}, {m.scope.Organisation, strings.Repeat("x", 3000)}, {ID{77}, "production"}, {ID{}, "production"}} {
		_, err := s.Check(c.organisation, c.project, "usr_1", []string{"/a"}, []string{"doc.read"})
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != CodeNotFound {
			t.Errorf("check in %s, %q: %v", c.organisation, c.project, err)
			continue
		}
		checkMessage(t, refused)
	}
	if _, err := new(State).Check(m.scope.Organisation, "production", "usr_1", []string{"/a"}, []string{"doc.read"}); err == nil {
		t.Error("the empty state answers a check")
	}
}

// TestCheckPairs: 10,000 pairs are answered, one more is not.
func TestCheckPairs(t *testing.T) {
	m := newFixture(t)
	list := func(n int, format string) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return all
	}
	for _, c := range []struct{ uris, permissions int }{{1, MaxCheckPairs}, {MaxCheckPairs, 1}, {100, 100}, {1, MaxCheckPairs + 1}, {MaxCheckPairs + 1, 1}, {73, 137}, {101, 100}} {
		uris, permissions := list(c.uris, "/project/456/%d"), list(c.permissions, "p%d")
		permissions[len(permissions)-1] = "doc.read"
		d, err := m.check("usr_1", uris, permissions)
		if fits := c.uris*c.permissions <= MaxCheckPairs; fits != (err == nil) {
			t.Errorf("%d URIs and %d permissions: %v", c.uris, c.permissions, err)
			continue
		}
		if err != nil {
			continue
		}
		if passed := c.permissions == 1; d.Passed != passed {
			t.Errorf("%d URIs and %d permissions: passed %v", c.uris, c.permissions, d.Passed)
		}
		for i, missing := range d.Missing {
			if missing.URI != uris[i] || !slices.Equal(missing.Permissions, permissions[:len(permissions)-1]) {
				t.Fatalf("%d URIs and %d permissions: on %s %d are missing", c.uris, c.permissions, missing.URI, len(missing.Permissions))
			}
		}
	}
}

// TestCheckOfMany asks for more permissions than fit on the stack, held in
// every way, and in every order.
func TestCheckOfMany(t *testing.T) {
	m := newMachine(t)
	var names []string
	var ids []ID
	for i := range 60 {
		names, ids = append(names, fmt.Sprint("p", i)), append(ids, ID{1, byte(i)})
		m.must(&PutPermission{m.scope, ids[i], names[i], ""})
	}
	m.must(&PutRole{m.scope, ID{2}, "first", "", ids[:20]})
	m.must(&PutRole{m.scope, ID{3}, "all", "", ids})
	m.must(&Grant{m.scope, "u", "/", nil, []ID{{2}}})
	m.must(&Grant{m.scope, "u", "/a", ids[20:40], nil})
	m.must(&Grant{m.scope, "u", "/*/b", ids[40:], nil})
	m.must(&Grant{m.scope, "v", "/a", nil, []ID{{3}}})
	back := slices.Clone(names)
	slices.Reverse(back)
	for _, ask := range [][]string{names, back, names[:16], names[:17], back[:21]} {
		m.wantMissing("u", []string{"/a/b", "/a/b/c"}, ask)
		m.wantMissing("v", []string{"/a"}, ask)
		m.wantMissing("w", []string{"/a"}, ask, "/a: "+strings.Join(ask, " "))
	}
	m.wantMissing("u", []string{"/a", "/x", "/x/b"}, back,
		"/a: "+strings.Join(back[:20], " "), "/x: "+strings.Join(back[:40], " "), "/x/b: "+strings.Join(back[20:40], " "))
}

// crossroads are all patterns of n segments that are "a" or a wildcard, in order.
func crossroads(n int) []string {
	all := []string{""}
	for range n {
		var longer []string
		for _, pattern := range all {
			longer = append(longer, pattern+"/*", pattern+"/a")
		}
		all = longer
	}
	return all
}

// TestCheckGivesUp: wildcards can be arranged so that a walk has no end to speak
// of. Then there is an error, and never a wrong answer.
func TestCheckGivesUp(t *testing.T) {
	m := newFixture(t)
	all := crossroads(13)
	var bodies []Body
	for i, pattern := range all {
		permissions := []ID{shareID}
		switch i {
		case index.MaxCovering - 1:
			permissions = append(permissions, readID) // the last one that is looked at
		case index.MaxCovering:
			permissions = append(permissions, writeID)
		}
		bodies = append(bodies, &Grant{m.scope, "usr_big", pattern, permissions, nil})
		if i < index.MaxCovering {
			bodies = append(bodies, &Grant{m.scope, "usr_4096", pattern, permissions, nil})
		}
	}
	for _, r := range m.apply(bodies...) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	deep := strings.Repeat("/a", 13)
	for range 2 {
		for _, on := range []string{deep, deep + "/b/c", deep + "/"} {
			m.wantMissing("usr_big", []string{on}, []string{"doc.read"})
			m.wantMissing("usr_big", []string{on}, []string{"doc.share", "doc.read"})
			m.wantMissing("usr_4096", []string{on}, []string{"doc.write"}, on+": doc.write") // all of them: no more, and no doubt
			for _, ask := range [][]string{{"doc.write"}, {"no.such"}, {"doc.read", "doc.share", "doc.write"}} {
				d, err := m.check("usr_big", []string{"/project/456", on}, ask)
				var refused *Error
				if !errors.As(err, &refused) || refused.Code != CodeResourceExhausted || !strings.Contains(refused.Message, `"usr_big" holds too many grants with wildcards`) || !reflect.DeepEqual(d, Decision{}) {
					t.Errorf("%q on %s: %+v, %v", ask, on, d, err)
					continue
				}
				checkMessage(t, refused)
			}
		}
		// Where they do not lead it is as with anybody.
		m.wantMissing("usr_big", []string{"/a", "/b", deep[2:]}, []string{"doc.share"}, "/a: doc.share", "/b: doc.share", deep[2:]+": doc.share")
		m.wantMissing("usr_1", []string{deep}, []string{"doc.read"}, deep+": doc.read")

		got := slices.Collect(m.project().Reaching("usr_big", deep))
		if len(got) != index.MaxCovering+1 || got[index.MaxCovering].URI != "" || len(got[index.MaxCovering].Permissions) > 0 {
			t.Fatalf("%d assignments reach it, at last %+v", len(got), got[len(got)-1])
		}
		for i, a := range got[:index.MaxCovering] {
			if a.URI != all[i] {
				t.Fatalf("assignment %d is on %q", i, a.URI)
			}
		}
		got = slices.Collect(m.project().Reaching("usr_4096", deep))
		if len(got) != index.MaxCovering || got[len(got)-1].URI == "" {
			t.Errorf("%d assignments reach it, at last %+v", len(got), got[len(got)-1])
		}
		m.restart()
	}
}

// TestCheckDoesNotAllocate is about checks that pass; what is missing has to be
// written down.
func TestCheckDoesNotAllocate(t *testing.T) {
	m := newFixture(t)
	for i := range 5000 { // usr_big holds more than fits into a record
		m.must(&Grant{m.scope, "usr_big", fmt.Sprintf("/project/%d/documents", i), nil, []ID{viewerID}})
	}
	s := m.store.State()
	for name, c := range map[string]struct {
		principal         string
		uris, permissions []string
		passed            bool
		allocations       float64
	}{
		"by role":           {"usr_1", []string{"/project/456/documents/7/comments"}, []string{"doc.read"}, true, 0},
		"directly":          {"usr_1", []string{"/project/456"}, []string{"doc.share"}, true, 0},
		"by wildcard":       {"usr_2", []string{"/project/7/documents/8"}, []string{"doc.read"}, true, 0},
		"by id":             {"usr_2", []string{"/project/7/documents/8"}, []string{readID.String()}, true, 0},
		"of many":           {"usr_big", []string{"/project/4711/documents/8"}, []string{"doc.read"}, true, 0},
		"beyond ASCII":      {"usr_1", []string{"/project/456/größe/"}, []string{"doc.read"}, true, 0},
		"several":           {"usr_1", []string{"/project/456", "/project/456/a"}, []string{"doc.read", "doc.write", "doc.share"}, true, 0},
		"16 permissions":    {"usr_1", []string{"/project/456"}, slices.Repeat([]string{"doc.read"}, 16), true, 0},
		"one missing":       {"usr_2", []string{"/project/7"}, []string{"doc.read"}, false, 2},
		"one of 5,000":      {"usr_big", []string{"/project/4711"}, []string{"doc.read"}, false, 2},
		"unknown principal": {"usr_0", []string{"/project/7"}, []string{"doc.read"}, false, 2},
	} {
		var d Decision
		var err error
		n := testing.AllocsPerRun(100, func() {
			d, err = s.Check(m.scope.Organisation, "production", c.principal, c.uris, c.permissions)
		})
		if err != nil || d.Passed != c.passed || n != c.allocations {
			t.Errorf("%s: passed %v, %v with %v allocations, want %v with %v", name, d.Passed, err, n, c.passed, c.allocations)
		}
	}
}
