package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sent is a command of a key with a request id and the content's fingerprint.
func sent(key, request ID, content uint64, body Body) *Command {
	c := by(key, body)
	c.Envelope.Request, c.Envelope.Content = request, content
	return c
}

// TestRepeatedGrant: a grant whose answer was lost, another's revoke, and the
// grant repeated leave it revoked, whatever batches or snapshots are between.
func TestRepeatedGrant(t *testing.T) {
	grant := func(m *machine) *Command {
		return sent(rootID, ID{0xaa}, 7, &Grant{m.scope, "usr_1", "/invoices", []ID{readID}, nil})
	}
	revoke := func(m *machine) *Command {
		return sent(rootID, ID{0xbb}, 8, &Revoke{m.scope, "usr_1", "/invoices", []ID{readID}, nil})
	}
	for name, play := range map[string]func(m *machine) Result{
		"one by one": func(m *machine) Result {
			m.play(grant(m))
			m.play(revoke(m))
			return m.play(grant(m))[0]
		},
		"in one batch":  func(m *machine) Result { return m.play(grant(m), revoke(m), grant(m))[2] },
		"in two":        func(m *machine) Result { m.play(grant(m)); return m.play(revoke(m), grant(m))[1] },
		"over snapshot": func(m *machine) Result { m.play(grant(m), revoke(m)); m.restart(); return m.play(grant(m))[0] },
	} {
		m := newFixture(t)
		first := m.index + 1
		r := play(m)
		want := Memory{Content: 7, Revision: first}
		if r.Err != nil || !r.Repeated || r.Memory == nil || *r.Memory != want {
			t.Errorf("%s: the repetition came to %+v", name, r)
		}
		if m.allows("usr_1", "/invoices", "doc.read") {
			t.Errorf("%s: the grant was carried out twice", name)
		}
		if got, ok := m.store.State().Remembered(rootID, ID{0xaa}); !ok || got != want {
			t.Errorf("%s: remembered %+v, %v", name, got, ok)
		}
		if err := m.store.State().Refuses(grant(m)); err != nil {
			t.Errorf("%s: asked before, it is refused: %v", name, err)
		}
		// The same id of another key is another request.
		if r := m.play(sent(editorKey, ID{0xaa}, 9, grant(m).Body))[0]; r.Repeated {
			t.Errorf("%s: another key's request came to %+v", name, r)
		}
	}
}

func TestMemoryOfIDs(t *testing.T) {
	m := newTenancy(t)
	for i, c := range []struct {
		body Body
		id   ID
	}{
		{&PutPermission{m.scope, newID, "doc.print", ""}, newID},
		{&PutPermission{m.scope, ID{77}, "doc.print", "again"}, newID},
		{&UpdatePermission{m.scope, newID, "", "changed"}, newID},
		{&PutRole{m.scope, ID{78}, "printer", "", nil}, ID{78}},
		{&UpdateRole{m.scope, ID{78}, "", "", nil}, ID{78}},
		{&Grant{m.scope, "u", "/", nil, []ID{{78}}}, ID{}},
		{&DeleteRole{m.scope, ID{78}}, ID{}},
		{&CreateOrganisation{ID{80}, "new", ID{81}, ID{82}, "default", ID{83}, "first", [32]byte{83}}, ID{80}},
		{&CreateProject{Scope{m.scope.Organisation, ID{84}}, "printing"}, ID{84}},
		{newKey(builtInScope, ID{85}, roleViewer), ID{85}},
		{&InvalidateKey{builtInScope, ID{85}}, ID{85}},
		{&BeginRestore{ID{86}, 5}, ID{}},
		{&Checkpoint{}, ID{}},
	} {
		command := sent(rootID, ID{1, byte(i)}, uint64(i), c.body)
		m.mustBy(command)
		if got, ok := m.store.State().Remembered(rootID, ID{1, byte(i)}); !ok || got != (Memory{nil, c.id, uint64(i), m.index}) {
			t.Errorf("%T is remembered as %+v, %v", c.body, got, ok)
		}
		before := m.store.State()
		if r := m.play(command)[0]; r.Err != nil || !r.Repeated || r.Memory.ID != c.id || r.Permission != nil || r.Key != nil {
			t.Errorf("%T repeated comes to %+v", c.body, r)
		}
		if before.Digest() != m.store.State().Digest() {
			t.Errorf("%T repeated changed something", c.body)
		}
	}
}

// TestMemoryOfErrors: what failed fails again, in the same words, although it
// would succeed now; unless the words were to retry.
func TestMemoryOfErrors(t *testing.T) {
	m := newFixture(t)
	missing := sent(rootID, ID{0xaa}, 1, &Grant{m.scope, "usr_1", "/a", []ID{newID}, nil})
	first := m.play(missing)[0]
	if first.Err == nil || first.Err.Code != CodeNotFound || first.Repeated {
		t.Fatalf("the grant came to %+v", first)
	}
	m.must(&PutPermission{m.scope, newID, "doc.print", ""})
	m.restart()
	if r := m.play(missing)[0]; !r.Repeated || !reflect.DeepEqual(r.Err, first.Err) || !reflect.DeepEqual(r.Memory.Err, first.Err) {
		t.Errorf("the repetition came to %+v", r)
	}
	if err := m.store.State().Refuses(missing); err == nil || err.Error() != first.Err.Message {
		t.Errorf("asked before: %v", err)
	}

	other := sent(rootID, ID{0xaa}, 2, missing.Body)
	const words = "remit-request-id aa000000000000000000000000000000 was used for another request: draw a new one"
	if r := m.play(other)[0]; r.Err == nil || r.Err.Code != CodeInvalidArgument || r.Err.Message != words || r.Repeated {
		t.Errorf("another request under the id came to %+v", r)
	}
	if got, _ := m.store.State().Remembered(rootID, ID{0xaa}); got.Content != 1 {
		t.Errorf("another request took its place: %+v", got)
	}

	// A key that has ended since is told what it did.
	ended := sent(editorKey, ID{0xcc}, 1, &PutPermission{m.scope, ID{71}, "doc.sign", ""})
	m = newTenancy(t)
	m.mustBy(ended)
	m.must(&InvalidateKey{builtInScope, editorKey})
	if r := m.play(ended)[0]; r.Err != nil || !r.Repeated {
		t.Errorf("a request of a key that ended came to %+v", r)
	}

	long := sent(rootID, ID{0xdd}, 1, &Grant{m.scope, "usr_1", "/a", []ID{readID}, nil})
	long.Envelope.Requires = []Requirement{{"role.get", "/other/" + strings.Repeat("é", 1100), []string{""}}}
	if first = m.play(long)[0]; first.Err == nil || len(first.Err.Message) < 2000 {
		t.Fatalf("it came to %+v", first)
	}
	r := m.play(long)[0]
	if n := len(r.Err.Message); n > maxRememberedMessage+len("…") || r.Err.Code != CodePermissionDenied || !strings.HasPrefix(first.Err.Message, r.Err.Message[:500]) {
		t.Errorf("repeated, the message has %d bytes: %s", n, r.Err.Message)
	}
}

func TestNotRemembered(t *testing.T) {
	m := newTenancy(t)
	m.must(&CreateProject{Scope{m.scope.Organisation, ID{61}}, "beta"})
	m.grantMany("u", endAtOnce+1, func(i int) string { return ManagementURI(m.scope.Organisation, "project", "beta", fmt.Sprint(i)) })
	m.must(&DeleteProject{Scope{m.scope.Organisation, ID{61}}})
	again := sent(rootID, ID{0xaa}, 1, &CreateProject{Scope{m.scope.Organisation, ID{62}}, "beta"})
	if r := m.play(again)[0]; r.Err == nil || r.Err.Code != CodeUnavailable {
		t.Fatalf("the project came to %+v", r)
	}
	for m.store.State().IsSweeping(builtInScope) {
		m.must(&Sweep{builtInScope, 1000})
	}
	if r := m.play(again)[0]; r.Err != nil || r.Repeated || r.Project == nil {
		t.Errorf("told to retry, and then: %+v", r)
	}

	before := m.store.State()
	c := byCluster(&PutPermission{m.scope, ID{71}, "doc.sign", ""})
	c.Envelope.Request = ID{0xbb}
	for range 2 {
		if r := m.play(c)[0]; r.Err != nil || r.Repeated || r.Permission == nil {
			t.Errorf("the cluster's own command came to %+v", r)
		}
	}
	if before.requests != m.store.State().requests {
		t.Error("the cluster's own command is remembered")
	}

	m = newMachineAt(t, 1)
	put := sent(rootID, ID{0xaa}, 1, &PutPermission{m.scope, ID{71}, "doc.sign", ""})
	for range 2 {
		if r := m.play(put)[0]; r.Err != nil || r.Repeated {
			t.Errorf("at level 1 it came to %+v", r)
		}
	}
	if _, ok := m.store.State().Remembered(rootID, ID{0xaa}); ok {
		t.Error("level 1 remembers")
	}
	m.must(&RaiseLevel{2})
	for i := range 2 {
		if r := m.play(put)[0]; r.Err != nil || r.Repeated != (i == 1) {
			t.Errorf("at level 2, time %d, it came to %+v", i, r)
		}
	}
}

// TestGenerations: the newest 131,072 are remembered, and not for ever.
func TestGenerations(t *testing.T) {
	at := func(i int) ID { return ID{byte(i * 31), byte(i), byte(i >> 8), byte(i >> 16), 1} }
	b := newBatch(&State{Level: levelOfClusters})
	const all = 2*generationSize + 1000
	for i := range all {
		b.revision = uint64(i)
		var r Result
		if i%1000 == 0 {
			r = failed(errorf(CodeNotFound, "request %d", i))
		}
		b.remember(&Envelope{Key: ID{1}, Request: at(i), Content: uint64(i)}, &r)
		if i%5000 == 0 {
			b = newBatch(b.finish(b.revision))
		}
	}
	s := b.finish(all)
	if young, old := s.requests.young.len(), s.requests.old.len(); young != 1000 || old != generationSize {
		t.Errorf("%d and %d are remembered", young, old)
	}
	s.organisations = s.organisations.copy()
	back, err := ReadSnapshot(bytes.NewReader(whole(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*State{"built": s, "read": back} {
		for i := range all {
			m, ok := s.Remembered(ID{1}, at(i))
			if want := i >= generationSize; ok != want {
				t.Fatalf("%s: request %d is remembered: %v", name, i, ok)
			}
			if ok && (m.Content != uint64(i) || m.Revision != uint64(i) || (m.Err != nil) != (i%1000 == 0)) {
				t.Fatalf("%s: request %d is remembered as %+v", name, i, m)
			}
		}
	}
	if s.Digest() != back.Digest() {
		t.Error("read back, the digest is another")
	}
}

// TestMemoryCountsInDigest: each of its parts.
func TestMemoryCountsInDigest(t *testing.T) {
	digest := func(key, id ID, content, revision uint64, r Result, young bool) [32]byte {
		b := newBatch(&State{Level: levelOfClusters})
		b.revision = revision
		b.remember(&Envelope{Key: key, Request: id, Content: content}, &r)
		if !young {
			b.state.requests.old, b.state.requests.young = b.state.requests.young, generation{}
		}
		return b.finish(9).Digest()
	}
	digests := [][32]byte{
		(&State{Level: levelOfClusters, Revision: 9}).Digest(),
		digest(ID{1}, ID{2}, 3, 4, Result{}, true),
		digest(ID{5}, ID{2}, 3, 4, Result{}, true),
		digest(ID{1}, ID{5}, 3, 4, Result{}, true),
		digest(ID{1}, ID{2}, 5, 4, Result{}, true),
		digest(ID{1}, ID{2}, 3, 5, Result{}, true),
		digest(ID{1}, ID{2}, 3, 4, Result{Key: &Key{ID: ID{5}}}, true),
		digest(ID{1}, ID{2}, 3, 4, failed(&Error{CodeNotFound, "x"}), true),
		digest(ID{1}, ID{2}, 3, 4, failed(&Error{CodeNotFound, "y"}), true),
		digest(ID{1}, ID{2}, 3, 4, failed(&Error{CodeAlreadyExists, "x"}), true),
		digest(ID{1}, ID{2}, 3, 4, Result{}, false),
	}
	for i, d := range digests {
		if slices.Contains(digests[:i], d) {
			t.Errorf("digest %d is that of another memory", i)
		}
	}
}

// TestCraftedRequests: as TestCraftedSnapshots.
func TestCraftedRequests(t *testing.T) {
	cluster := raw(t, recordCluster, &clusterRecord{Cluster: ID{1}})
	entry := func(key, id, revision byte) string {
		data := make([]byte, requestBytes)
		data[0], data[16], data[requestBytes-1] = key, id, revision
		return string(data)
	}
	requests := func(old bool, entries string, failures ...failedRecord) rawRecord {
		return raw(t, recordRequests, &requestsRecord{old, []byte(entries), failures})
	}
	one, two := entry(1, 1, 1), entry(1, 2, 2)
	for name, c := range map[string]struct {
		level   uint32
		records []rawRecord
		wrong   string
	}{
		"all well":                   {2, []rawRecord{cluster, requests(true, one), requests(false, two, failedRecord{0, CodeNotFound, "x"})}, ""},
		"in two records":             {2, []rawRecord{cluster, requests(false, one), requests(false, two)}, ""},
		"at level 1":                 {1, []rawRecord{cluster, requests(false, one)}, "level 1"},
		"before the cluster":         {2, []rawRecord{requests(false, one), cluster}, "before the cluster"},
		"the old ones last":          {2, []rawRecord{cluster, requests(false, one), requests(true, two)}, "behind the young"},
		"none":                       {2, []rawRecord{cluster, requests(false, "")}, "0 bytes"},
		"half of one":                {2, []rawRecord{cluster, requests(false, one[:63])}, "63 bytes"},
		"out of order":               {2, []rawRecord{cluster, requests(false, two+one)}, "not in order"},
		"one twice":                  {2, []rawRecord{cluster, requests(false, one+one)}, "not in order"},
		"out of order over records":  {2, []rawRecord{cluster, requests(false, two), requests(false, one)}, "not in order"},
		"one in both generations":    {2, []rawRecord{cluster, requests(true, one), requests(false, one)}, "cannot be of revision"},
		"of the cluster itself":      {2, []rawRecord{cluster, requests(false, entry(0, 1, 1))}, "cannot be of revision"},
		"of a revision to come":      {2, []rawRecord{cluster, requests(false, entry(1, 1, 8))}, "cannot be of revision 8"},
		"a failure of none":          {2, []rawRecord{cluster, requests(false, one, failedRecord{1, CodeNotFound, "x"})}, "no request 1"},
		"two failures of one":        {2, []rawRecord{cluster, requests(false, one, failedRecord{0, CodeNotFound, "x"}, failedRecord{0, CodeNotFound, "y"})}, "no request 0"},
		"a failure without code":     {2, []rawRecord{cluster, requests(false, one, failedRecord{0, 0, "x"})}, "failed so"},
		"a failure that says retry":  {2, []rawRecord{cluster, requests(false, one, failedRecord{0, CodeUnavailable, "x"})}, "failed so"},
		"a failure of too many word": {2, []rawRecord{cluster, requests(false, one, failedRecord{0, CodeNotFound, strings.Repeat("x", 600)})}, "failed so"},
	} {
		state, err := ReadSnapshot(bytes.NewReader(craftAt(t, c.level, c.records...)))
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.wrong == "" && state.requests.young.len()+state.requests.old.len() != 2:
			t.Errorf("%s: %+v", name, state.requests)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "%!")):
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
	var full []rawRecord
	for i := range generationSize/requestsInRecord + 1 {
		var entries strings.Builder
		for j := range requestsInRecord {
			data := make([]byte, requestBytes)
			data[0] = 1
			binary.BigEndian.PutUint64(data[16:], uint64(i*requestsInRecord+j))
			entries.Write(data)
		}
		full = append(full, requests(true, entries.String()))
	}
	if _, err := ReadSnapshot(bytes.NewReader(craftAt(t, 2, append([]rawRecord{cluster}, full...)...))); err == nil || !strings.Contains(err.Error(), "more than 131072") {
		t.Errorf("a generation that is too large: %v", err)
	}
}

// TestManyRemember: a state's memory stays as it was while later ones grow.
func TestManyRemember(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := newBatch(&State{Level: levelOfClusters})
	type kept struct {
		state *State
		n     int
	}
	var all []kept
	var ids []ID
	for i := range 3000 {
		ids = append(ids, randomID(r))
		b.remember(&Envelope{Key: ID{1}, Request: ids[i]}, &Result{})
		if r.IntN(10) == 0 {
			s := b.finish(uint64(i))
			all = append(all, kept{s, i + 1})
			b = newBatch(s)
		}
	}
	for _, k := range all {
		for i, id := range ids {
			if _, ok := k.state.Remembered(ID{1}, id); ok != (i < k.n) {
				t.Fatalf("a state of %d requests remembers number %d: %v", k.n, i, ok)
			}
		}
	}
}
