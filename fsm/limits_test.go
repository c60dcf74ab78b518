package fsm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestBuiltInAssignmentLimit: one principal holds so many assignments in the
// built-in project, and what is there already may be changed.
func TestBuiltInAssignmentLimit(t *testing.T) {
	for _, principal := range []string{"u", KeyPrincipal(emptyKey)} {
		m := newTenancy(t)
		get := []ID{permissionID("role.get")}
		grant := func(principal string, i int, permissions ...ID) *Grant {
			return &Grant{builtInScope, principal, own("role", fmt.Sprint(i)), permissions, nil}
		}
		m.grantMany(principal, MaxBuiltInAssignments-1, func(i int) string { return own("role", fmt.Sprint(i)) })
		m.restart()
		// The last one, and one too many, in one batch.
		results := m.apply(grant(principal, 5000, get...), grant(principal, 5001, get...))
		if results[0].Err != nil || results[1].Err == nil || results[1].Err.Code != CodeResourceExhausted {
			t.Errorf("in one batch: %v, %v", results[0].Err, results[1].Err)
		}
		full := fmt.Sprintf(`%q holds 1000 assignments in project "remit" and can have no more`, principal)
		m.refuses(byCluster(grant(principal, 5001, get...)), CodeResourceExhausted, full)
		m.refuses(by(rootID, grant(principal, 5001, get...)), CodeResourceExhausted, full)
		m.restart()
		m.refuses(byCluster(grant(principal, 5001, get...)), CodeResourceExhausted, full)
		// Nobody learns how much another holds without the right to grant.
		m.refuses(by(viewerKey, grant(principal, 5001, permissionID("audit.get"))), CodePermissionDenied, missing("audit.get", own("role", "5001")))
		m.refuses(byCluster(&Grant{builtInScope, principal, "/", get, nil}), CodePermissionDenied, "and below, not on")

		m.must(grant(principal, 5000, permissionID("role.list"))) // more on the same
		m.must(grant(principal, 0, get...))                       // the same again
		m.must(grant("another", 5001, get...))
		m.must(&Grant{m.scope, principal, "/a", []ID{readID}, nil}) // another project
		m.must(&Revoke{builtInScope, principal, own("role", "7"), get, nil})
		m.must(grant(principal, 5001, get...))
		m.refuses(byCluster(grant(principal, 5002, get...)), CodeResourceExhausted, full)
		m.must(&Revoke{builtInScope, principal, own("role", "5000"), get, nil}) // a part of it: it is one all the same
		m.refuses(byCluster(grant(principal, 5002, get...)), CodeResourceExhausted, full)
	}
}

// TestNoTellingOfDeletions: whether a project of that name is being deleted is
// told to those alone who could grant there.
func TestNoTellingOfDeletions(t *testing.T) {
	m := newTenancy(t)
	uri := own("project", "production")
	m.grantMany("u", endAtOnce+2, func(i int) string { return fmt.Sprint(uri, "/resource/", i) })
	m.must(&DeleteProject{m.scope})
	if ending := m.organisation().ending; !slices.Equal(ending, []string{uri}) {
		t.Fatalf("%q are ending", ending)
	}
	for range 2 {
		for _, below := range []string{uri, uri + "/resource/1", uri + "/*"} {
			audit := &Grant{builtInScope, "v", below, []ID{permissionID("audit.get")}, nil}
			m.refuses(by(viewerKey, audit), CodePermissionDenied, missing("audit.get", below))
			m.refuses(by(emptyKey, audit), CodePermissionDenied, missing("audit.get", below))
			m.refuses(by(editorKey, &Grant{builtInScope, "v", below, nil, []ID{roleOwner}}), CodePermissionDenied, missingOwner(below))
			m.refuses(by(rootID, audit), CodeUnavailable, "still being deleted")
			m.refuses(byCluster(audit), CodeUnavailable, "still being deleted")
		}
		m.restart()
	}
	m.must(&Sweep{builtInScope, 3}) // with the one of the project's own key
	m.mustBy(by(rootID, &Grant{builtInScope, "v", uri, []ID{permissionID("audit.get")}, nil}))
}

// A fullProject is one with nearly as many keys as it may have, in a state that
// any number of machines may start from.
type fullProject struct {
	*State
	keys []Key // in the order of the list
}

// newFullProject has room for so many keys more.
func newFullProject(t *testing.T, room int) fullProject {
	m := newTenancy(t)
	m.putKeys(m.scope, MaxProjectKeys-room-1) // and the fixture's
	var keys []Key
	for k := range m.project().Keys("") {
		keys = append(keys, *k)
	}
	if len(keys) != MaxProjectKeys-room {
		t.Fatalf("there are %d keys", len(keys))
	}
	return fullProject{m.store.State(), keys}
}

func (f fullProject) machine(t *testing.T) *machine {
	m := &machine{t: t, store: newStore(t), scope: Scope{ID{1}, ID{2}}, index: f.Revision}
	m.store.publish(f.State)
	return m
}

// createAt creates a key at a time.
func createAt(m *machine, id ID, name string, time int64) Result {
	c := byCluster(&CreateKey{m.scope, id, name, [32]byte(append(id[:], id[:]...)), ID{}, false})
	c.Envelope.Time = time
	return m.play(c)[0]
}

// TestKeyLimit: a project that has all the keys that it can have forgets the
// oldest invalidated one for another, and no valid one ever.
func TestKeyLimit(t *testing.T) {
	full := newFullProject(t, 3)
	m := full.machine(t)
	for i, name := range []string{"c", "a", "b"} { // b and a are of one moment
		if r := createAt(m, ID{0xdd, byte(i)}, name, []int64{9, 5, 5}[i]); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	another := func(i byte) *CreateKey { return newKey(m.scope, ID{0xee, i}, ID{}) }
	exhausted := `project "production" has 10000 keys and can have no more`
	m.refuses(byCluster(another(0)), CodeResourceExhausted, exhausted)
	m.refuses(byCluster(&CreateKey{m.scope, ID{0xee}, "k", hashOf(ID{0xee}), roleViewer, false}), CodeResourceExhausted, exhausted)
	m.must(newKey(builtInScope, ID{0xee, 100}, ID{})) // another project
	m.restart()
	m.refuses(byCluster(another(0)), CodeResourceExhausted, exhausted)

	for _, id := range []ID{{0xdd, 0}, {0xdd, 2}, {0xdd, 1}} { // when they were invalidated does not count
		m.must(&InvalidateKey{m.scope, id})
	}
	// The secret of one that is to be forgotten is another's by now.
	heir := newKey(builtInScope, ID{0xee, 101}, ID{})
	heir.Hash = [32]byte(append(slices.Clone((&ID{0xdd, 1})[:]), (&ID{0xdd, 1})[:]...))
	m.must(heir)
	// What is refused for another reason forgets none.
	known := another(1)
	known.ID = appKey
	m.refuses(byCluster(known), CodeAlreadyExists, "another key")
	nameless := another(1)
	nameless.Name = ""
	m.refuses(byCluster(nameless), CodeInvalidArgument, "name is empty")
	m.refuses(by(viewerKey, newKey(m.scope, ID{0xee, 1}, roleOwner)), CodePermissionDenied, missingOwner(own()))

	for i, forgotten := range []ID{{0xdd, 1}, {0xdd, 2}, {0xdd, 0}} { // "a" before "b", and "c" is the youngest
		before := m.keyCount()
		m.must(another(byte(i)))
		for range 1 + i%2 { // restored in between, once
			if _, ok := m.store.State().keys.ids.get(forgotten.key()); ok || m.keyCount() != before {
				t.Errorf("%s is not forgotten, of %d keys there are %d", forgotten, before, m.keyCount())
			}
			n := 0
			for k := range m.project().Keys("") {
				if n++; k.ID == forgotten {
					t.Errorf("%s is listed", forgotten)
				}
			}
			if n != MaxProjectKeys || !m.finds(ID{0xee, byte(i)}) {
				t.Errorf("%d keys are listed; the new one is found: %v", n, m.finds(ID{0xee, byte(i)}))
			}
			m.restart()
		}
		m.refuses(byCluster(&InvalidateKey{m.scope, forgotten}), CodeNotFound, forgotten.String())
	}
	m.refuses(byCluster(another(9)), CodeResourceExhausted, exhausted)
	if k, _, ok := m.store.State().Key(heir.Hash); !ok || k.ID != heir.ID {
		t.Errorf("the secret of a forgotten key finds %+v, %v", k, ok)
	}

	// In one batch too, and one invalidated makes room for one.
	results := m.apply(another(10), &InvalidateKey{m.scope, appKey}, another(11), another(12))
	for i, refused := range []bool{true, false, false, true} {
		if (results[i].Err != nil) != refused {
			t.Errorf("command %d of a batch: %v", i, results[i].Err)
		}
	}
	if m.finds(appKey) || m.finds(ID{0xee, 12}) || !m.finds(ID{0xee, 11}) {
		t.Error("the batch left other keys")
	}
}

// A keyChoice says which key a full project forgets, -1 if none.
type keyChoice func(list []Key) int

// oldestInvalidated is the right one.
func oldestInvalidated(list []Key) int {
	at := -1
	for i, k := range list {
		if k.Invalidated && (at < 0 || k.Created < list[at].Created) {
			at = i
		}
	}
	return at
}

// runKeys plays a random history of one full project's keys against a list, and
// returns the first difference.
func runKeys(t *testing.T, full fullProject, seed uint64, choose keyChoice) error {
	r := rand.New(rand.NewPCG(seed, 5))
	m, list := full.machine(t), slices.Clone(full.keys)
	byPlace := func(a, b Key) int { return cmp.Compare(a.place(), b.place()) }
	var given []ID
	for op := range 60 {
		if r.IntN(3) == 0 {
			id := list[r.IntN(len(list))].ID
			if len(given) > 0 && r.IntN(3) > 0 {
				id = given[r.IntN(len(given))]
			}
			got := m.apply(&InvalidateKey{m.scope, id})[0].Err
			at := slices.IndexFunc(list, func(k Key) bool { return k.ID == id })
			if (got != nil) != (at < 0) {
				return fmt.Errorf("operation %d: invalidated: %v, at %d of the list", op, got, at)
			}
			if at >= 0 {
				list[at].Invalidated = true
			}
			continue
		}
		id, name, time := ID{0xdd, byte(op)}, fmt.Sprint("k", r.IntN(4)), int64(r.IntN(4))
		given = append(given, id)
		got := createAt(m, id, name, time).Err
		if len(list) >= MaxProjectKeys {
			at := choose(list)
			if (got != nil) != (at < 0) {
				return fmt.Errorf("operation %d: created: %v, forgotten %d of the list", op, got, at)
			}
			if at < 0 {
				continue
			}
			list = slices.Delete(list, at, at+1)
		} else if got != nil {
			return fmt.Errorf("operation %d: %w", op, got)
		}
		k := Key{ID: id, Name: name, Created: time}
		at, _ := slices.BinarySearchFunc(list, k, byPlace)
		list = slices.Insert(list, at, k)
	}
	at := 0
	for k := range m.project().Keys("") {
		if at == len(list) || k.ID != list[at].ID || k.Invalidated != list[at].Invalidated || k.Created != list[at].Created {
			return fmt.Errorf("key %d of the list is %+v", at, k)
		}
		if _, ok := m.store.State().keys.ids.get(k.ID.key()); !ok {
			return fmt.Errorf("key %s is listed and not found", k.ID)
		}
		at++
	}
	if others := full.keys; at != len(list) || m.keyCount()-at != full.State.keys.ids.tree.Len()-len(others) {
		return fmt.Errorf("%d keys of %d are listed, there are %d", at, len(list), m.keyCount())
	}
	return nil
}

func TestKeyHistories(t *testing.T) {
	full := newFullProject(t, 6)
	for seed := range uint64(12) {
		if err := runKeys(t, full, seed, oldestInvalidated); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
	}
	for name, choose := range map[string]keyChoice{
		"none": func([]Key) int { return -1 },
		"the first invalidated in the list": func(list []Key) int {
			return slices.IndexFunc(list, func(k Key) bool { return k.Invalidated })
		},
		"the youngest": func(list []Key) int {
			at := -1
			for i, k := range list {
				if k.Invalidated && (at < 0 || k.Created > list[at].Created) {
					at = i
				}
			}
			return at
		},
		"the last of those of one moment": func(list []Key) int {
			at := -1
			for i, k := range list {
				if k.Invalidated && (at < 0 || k.Created <= list[at].Created) {
					at = i
				}
			}
			return at
		},
		"a valid one where none is invalidated": func(list []Key) int { return max(oldestInvalidated(list), 0) },
	} {
		noticed := false
		for seed := uint64(0); seed < 12 && !noticed; seed++ {
			noticed = runKeys(t, full, seed, choose) != nil
		}
		if !noticed {
			t.Errorf("forgotten is %s, and 12 histories did not notice", name)
		}
	}
}
