package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// sweepKeys applies SweepKeys commands until there is nothing to do, and returns
// how many that took.
func (m *machine) sweepKeys(limit int) (steps int) {
	m.t.Helper()
	for m.store.State().SweepingKeys() {
		m.must(&SweepKeys{limit})
		if steps++; steps > 100_000 {
			m.t.Fatal("the sweep of keys does not end")
		}
	}
	return steps
}

func (m *machine) keyCount() int { return m.store.State().keys.ids.tree.Len() }

// putKeys creates n keys of a project, in one batch.
func (m *machine) putKeys(scope Scope, n int) (ids []ID) {
	m.t.Helper()
	var bodies []Body
	for i := range n {
		id := ID{0xcc, byte(i >> 16), byte(i >> 8), byte(i), scope.Project[0]}
		ids = append(ids, id)
		bodies = append(bodies, &CreateKey{scope, id, "k", [32]byte(append(id[:], id[:]...)), ID{}, false})
	}
	for _, r := range m.apply(bodies...) {
		if r.Err != nil {
			m.t.Fatal(r.Err)
		}
	}
	return ids
}

// grantMany grants a right in the built-in project on n URIs, in one batch. Where
// that is more than a principal may hold, there are several.
func (m *machine) grantMany(principal string, n int, uri func(i int) string) {
	m.t.Helper()
	var bodies []Body
	for i := range n {
		principal := principal
		if n > MaxBuiltInAssignments {
			principal = fmt.Sprint(principal, i/MaxBuiltInAssignments)
		}
		bodies = append(bodies, &Grant{builtInScope, principal, uri(i), []ID{permissionID("role.get")}, nil})
	}
	for _, r := range m.apply(bodies...) {
		if r.Err != nil {
			m.t.Fatal(r.Err)
		}
	}
}

// TestDeletionsAreBounded: to end what is large takes no more than to end what is
// small, as far as the one command goes.
func TestDeletionsAreBounded(t *testing.T) {
	m := newTenancy(t)
	m.must(&PutPermission{acmeScope, ID{55}, "doc.read", ""})
	cost := func(body Body) uint64 {
		c, s := byCluster(body), m.store.State()
		return allocated(func() {
			if err := s.Refuses(c); err != nil {
				t.Fatal(err)
			}
		})
	}
	organisation, project := &DeleteOrganisation{acmeScope.Organisation}, &DeleteProject{acmeScope}
	small := max(cost(organisation), cost(project))
	var bodies []Body
	for i := range 50_000 {
		bodies = append(bodies, &Grant{acmeScope, fmt.Sprintf("u%05d", i/5), fmt.Sprintf("/a/%d", i), []ID{{55}}, nil})
	}
	m.apply(bodies...)
	m.putKeys(acmeScope, MaxProjectKeys)
	for _, body := range []Body{organisation, project} {
		if large := cost(body); large > small+64<<10 {
			t.Errorf("%T takes %d bytes, %d when there is little", body, large, small)
		}
	}
	keys := m.keyCount()
	m.must(project)
	if got := m.keyCount(); got != keys {
		t.Errorf("the deletion removed %d keys itself", keys-got)
	}
	m.must(organisation)
	if steps := m.sweepKeys(2500); steps < 5 || steps > 12 {
		t.Errorf("the keys were swept in %d steps of 2,500", steps)
	}
	if got := m.keyCount(); got != keys-MaxProjectKeys-2 {
		t.Errorf("%d keys are left of %d", got, keys)
	}
}

// TestEnding: grants on a deleted project beyond a thousand go in steps, and
// until then no project has its name.
func TestEnding(t *testing.T) {
	m := newTenancy(t)
	uri := own("project", "production")
	const grants = 13_000
	m.grantMany("much", grants, func(i int) string { return fmt.Sprint(uri, "/resource/", i) })
	left := func() int { return m.builtIn().assignments.Len() }
	before := left()
	m.must(&DeleteProject{m.scope})
	if removed := before - left(); removed != endAtOnce {
		t.Errorf("the deletion removed %d grants", removed)
	}
	again := &CreateProject{Scope{m.scope.Organisation, newID}, "production"}
	for _, limit := range []int{-1 << 40, 0, 2, 999} {
		m.restart()
		if !m.store.State().IsSweeping(builtInScope) {
			t.Fatal("nobody is told to sweep")
		}
		m.refuses(byCluster(again), CodeUnavailable, `"production" is still being deleted`)
		now := left()
		m.must(&Sweep{builtInScope, limit})
		if removed := now - left(); removed != max(limit, 1) {
			t.Fatalf("a sweep of %d removed %d", limit, removed)
		}
	}
	// Others go on meanwhile.
	m.must(&Grant{builtInScope, "u", own("project", "production-2"), []ID{permissionID("role.get")}, nil})
	m.must(&Grant{builtInScope, "u", own("project") + "/*", []ID{permissionID("role.get")}, nil})
	m.must(&CreateProject{Scope{m.scope.Organisation, ID{98}}, "production-2"})
	// A second project ends behind the first.
	m.grantMany("v", 1500, func(i int) string { return fmt.Sprint(own("project", "production-2"), "/resource/", i) })
	m.must(&DeleteProject{Scope{m.scope.Organisation, ID{98}}})
	if len(m.organisation().ending) != 2 {
		t.Errorf("%+v are ending", m.organisation().ending)
	}
	now := left()
	m.must(&Sweep{builtInScope, 1 << 40})
	if removed := now - left(); removed != 10_000 {
		t.Errorf("one sweep removed %d", removed)
	}
	for _, below := range []string{uri, uri + "/resource", uri + "/*", uri + "/resource/1/*"} {
		m.refuses(byCluster(&Grant{builtInScope, "u", below, []ID{permissionID("role.get")}, nil}), CodeUnavailable, "still being deleted")
	}
	for steps := 0; m.store.State().IsSweeping(builtInScope); steps++ {
		m.must(&Sweep{builtInScope, 10_000})
		if steps > 3 {
			t.Fatal("the sweep does not end")
		}
	}
	if len(m.organisation().ending) != 0 {
		t.Errorf("%+v are ending", m.organisation().ending)
	}
	m.must(again)
	if o := m.organisation(); o.Holds("u", "role.get", uri+"/resource/1") != true || o.Holds("v", "role.get", own("project", "production-2", "resource", "1")) {
		t.Error("more or less is held than the grant on every project")
	}
	m.must(&Revoke{builtInScope, "u", own("project") + "/*", []ID{permissionID("role.get")}, nil})
	if m.organisation().Holds("u", "role.get", uri+"/resource/1") {
		t.Error("a grant has come back")
	}
}

// TestEndingOfAKey: what a key was granted ends at once with it, as much as that
// may be.
func TestEndingOfAKey(t *testing.T) {
	for _, how := range []string{"invalidated", "its project deleted"} {
		m := newTenancy(t)
		m.grantMany(KeyPrincipal(appKey), MaxBuiltInAssignments-1, func(i int) string { return own("role", fmt.Sprint(i)) })
		held := func() (n int) {
			for range m.builtIn().Assignments(KeyPrincipal(appKey), "") {
				n++
			}
			return n
		}
		if n := held(); n != MaxBuiltInAssignments {
			t.Fatalf("the key holds %d assignments", n)
		}
		m.sweepKeys(100) // of the fixture's deleted project
		others := m.builtIn().assignments.Len() - MaxBuiltInAssignments
		if how == "invalidated" {
			m.must(&InvalidateKey{m.scope, appKey})
		} else {
			m.must(&DeleteProject{m.scope})
			if m.finds(appKey) {
				t.Error("the key is found")
			}
			m.sweepKeys(1)
		}
		if n := held(); n != 0 || m.builtIn().assignments.Len() != others {
			t.Errorf("%s: %d grants are left, and %d of others, who had %d", how, n, m.builtIn().assignments.Len()-n, others)
		}
		if m.store.State().IsSweeping(builtInScope) || len(m.organisation().ending) > 0 {
			t.Errorf("%s: something is left to be swept: %q", how, m.organisation().ending)
		}
		m.refuses(by(appKey, &Sweep{m.scope, 1}), CodeUnauthenticated, "not valid")
		before := content(t, m.store.State())
		m.must(&Sweep{builtInScope, 500})
		if !bytes.Equal(before, content(t, m.store.State())) {
			t.Error("a sweep with nothing to do changed the state")
		}
	}
}

// TestSweepOfKeysThatHoldMuch: a step counts what it removes with the keys.
func TestSweepOfKeysThatHoldMuch(t *testing.T) {
	m := newTenancy(t)
	keys := m.putKeys(m.scope, 12)
	for _, key := range keys {
		m.grantMany(KeyPrincipal(key), 300, func(i int) string { return own("role", fmt.Sprint(i)) })
	}
	m.must(&DeleteProject{m.scope})
	for steps := 0; m.store.State().SweepingKeys(); steps++ {
		before := m.builtIn().assignments.Len()
		m.must(&SweepKeys{500})
		if removed := before - m.builtIn().assignments.Len(); removed > 500+300 {
			t.Errorf("a step of 500 removed %d grants", removed)
		}
		if steps > 20 {
			t.Fatal("the sweep does not end")
		}
	}
	for _, key := range keys {
		for a := range m.builtIn().Assignments(KeyPrincipal(key), "") {
			t.Fatalf("a dead key holds %+v", a)
		}
	}
}

// TestSweepKeysIsBounded: a step looks at as many keys as its limit says, living
// ones too, makes progress however small that is, and ends.
func TestSweepKeysIsBounded(t *testing.T) {
	build := func() *machine {
		m := newTenancy(t)
		m.putKeys(m.scope, 30)
		m.putKeys(acmeScope, 30)
		m.must(&DeleteProject{m.scope})
		return m
	}
	m := build()
	all := m.keyCount()
	living := all - 32 // production's, and the one of the fixture's deleted project
	for _, limit := range []int{-1 << 40, -1, 0, 1, 2, 7, 1000, 1 << 40} {
		m := build()
		bound := min(max(limit, 1), 10_000)
		steps := 0
		for ; m.store.State().SweepingKeys(); steps++ {
			from, before := m.store.State().keySweep.After, m.keyCount()
			var ahead []ID
			for k := range m.store.State().keys.ids.from(from.key()) {
				if k.ID != from {
					ahead = append(ahead, k.ID)
				}
			}
			m.must(&SweepKeys{limit})
			if removed := before - m.keyCount(); removed > bound {
				t.Fatalf("a step of %d removed %d keys", limit, removed)
			}
			after := m.store.State().keySweep.After
			if at := slices.Index(ahead, after); m.store.State().keySweep.Active && after != (ID{}) && (at < 0 || at >= bound) {
				t.Fatalf("a step of %d went from %s to %s", limit, from, after)
			}
			if steps > 3*all {
				t.Fatalf("with steps of %d it does not end", limit)
			}
		}
		if got := m.keyCount(); got != living {
			t.Errorf("with steps of %d there are %d keys left, want %d", limit, got, living)
		}
		for _, key := range []ID{viewerKey, editorKey, acmeKey} {
			if !m.finds(key) {
				t.Errorf("with steps of %d key %s is gone", limit, key)
			}
		}
		before := content(t, m.store.State())
		m.must(&SweepKeys{limit})
		if !bytes.Equal(before, content(t, m.store.State())) {
			t.Error("a step with nothing to do changed the state")
		}
	}
}

// TestSweepKeysStartsAgain: keys that die behind the place of a sweep are found
// by another round, wherever it was.
func TestSweepKeysStartsAgain(t *testing.T) {
	m := newTenancy(t)
	m.sweepKeys(100)
	second := Scope{m.scope.Organisation, ID{61}}
	m.must(&CreateProject{second, "second"})
	m.putKeys(m.scope, 10)
	m.putKeys(second, 10)
	start := m.store.State()
	for at := range 30 {
		m := &machine{t: t, store: newStore(t), scope: m.scope, index: start.Revision}
		m.store.publish(start)
		m.must(&DeleteProject{m.scope})
		for range at {
			m.must(&SweepKeys{1})
		}
		if at%2 == 0 {
			m.restart()
		}
		m.must(&DeleteProject{second})
		m.sweepKeys(2)
		if got, want := m.keyCount(), start.keys.ids.tree.Len()-21; got != want {
			t.Errorf("deleted after %d steps there are %d keys left, want %d", at, got, want)
		}
	}
}

// TestRestoreInAnySweep: a node that restores in the middle of a sweep goes on as
// the others do.
func TestRestoreInAnySweep(t *testing.T) {
	build := func() *machine {
		m := newTenancy(t)
		m.putKeys(m.scope, 12)
		m.grantMany("u", 1030, func(i int) string { return own("project", "production", fmt.Sprint(i)) })
		m.grantMany(KeyPrincipal(viewerKey), 20, func(i int) string { return own("role", fmt.Sprint(i)) })
		m.must(&PutPermission{acmeScope, ID{55}, "doc.read", ""})
		for i := range 12 {
			m.must(&Grant{acmeScope, fmt.Sprint("u", i), "/", []ID{{55}}, nil})
		}
		m.must(&DeletePermission{acmeScope, ID{55}})
		m.must(&DeleteProject{m.scope})
		m.must(&InvalidateKey{builtInScope, viewerKey})
		return m
	}
	straight, restored := build(), build()
	for step := 0; ; step++ {
		s := straight.store.State()
		sweeping := slices.Collect(s.Sweeping())
		if len(sweeping) == 0 && !s.SweepingKeys() {
			break
		}
		if step > 200 {
			t.Fatal("the sweeps do not end")
		}
		var bodies []Body
		if s.SweepingKeys() {
			bodies = append(bodies, &SweepKeys{1})
		}
		for _, scope := range sweeping {
			bodies = append(bodies, &Sweep{scope, 2})
		}
		for _, body := range bodies {
			straight.must(body)
			restored.must(body)
			restored.restart()
			a, b := straight.store.State(), restored.store.State()
			if a.Digest() != b.Digest() || !bytes.Equal(content(t, a), content(t, b)) {
				t.Fatalf("step %d, %T: the states differ", step, body)
			}
			if !slices.Equal(slices.Collect(a.Sweeping()), slices.Collect(b.Sweeping())) || a.SweepingKeys() != b.SweepingKeys() {
				t.Fatalf("step %d: what is to be swept differs", step)
			}
			if x, y := straight.organisation(), restored.organisation(); x.owners != y.owners || !slices.Equal(x.ending, y.ending) {
				t.Fatalf("step %d: %d owners and %d", step, x.owners, y.owners)
			}
		}
	}
	if n := straight.builtIn().assignments.Len(); n != 2 { // the root key's and the editor's
		t.Errorf("%d grants are left", n)
	}
}
