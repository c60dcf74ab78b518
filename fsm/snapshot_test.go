package fsm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/vmihailenco/msgpack/v5"
)

func goldenSnapshot(t testing.TB) []byte {
	var b bytes.Buffer
	if err := goldenState(t).WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDamagedSnapshots: no byte of a snapshot can change, be missing or be
// added without it being refused.
func TestDamagedSnapshots(t *testing.T) {
	good := goldenSnapshot(t)
	refused := func(what string, data []byte) {
		t.Helper()
		if _, err := ReadSnapshot(bytes.NewReader(data)); err == nil {
			t.Errorf("a snapshot with %s is read", what)
		}
	}
	for i := range good {
		refused(fmt.Sprintf("the first %d of %d bytes", i, len(good)), good[:i])
		refused(fmt.Sprintf("byte %d left out", i), append(bytes.Clone(good[:i]), good[i+1:]...))
		refused(fmt.Sprintf("byte %d twice", i), append(bytes.Clone(good[:i+1]), good[i:]...))
		data := bytes.Clone(good)
		data[i] = good[i] ^ 1<<(i%8)
		refused(fmt.Sprintf("a bit of byte %d flipped", i), data)
		data[i] = good[i] ^ 0xff
		refused(fmt.Sprintf("byte %d inverted", i), data)
	}
	// The trailer is not in the checksum that it holds.
	for i := len(good) - 40; i < len(good); i++ {
		data := bytes.Clone(good)
		for change := 1; change < 256; change++ {
			data[i] = good[i] ^ byte(change)
			refused(fmt.Sprintf("byte %d as %#x", i, data[i]), data)
		}
	}
	refused("a byte more", append(bytes.Clone(good), 0))
	refused("another behind it", append(bytes.Clone(good), good...))
	refused("zeros instead of its second half", append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)/2)...))
}

// A rawRecord is one that the test writes as it likes.
type rawRecord struct {
	kind recordKind
	data []byte
}

// craft writes a snapshot of records with a checksum that is right.
func craft(t testing.TB, records ...rawRecord) []byte {
	t.Helper()
	return craftAt(t, 1, records...)
}

func craftAt(t testing.TB, level uint32, records ...rawRecord) []byte {
	t.Helper()
	var b bytes.Buffer
	sum := crc32.New(castagnoli)
	w := &snapshotWriter{w: bufio.NewWriter(io.MultiWriter(&b, sum)), sum: sum}
	w.encoder = msgpack.NewEncoder(&w.buffer)
	w.header(&State{Level: level, Revision: 7})
	for _, r := range records {
		head := append([]byte{byte(r.kind)}, uvarintBytes(len(r.data))...)
		if _, err := w.w.Write(append(head, r.data...)); err != nil {
			t.Fatal(err)
		}
		w.records++
	}
	w.flush()
	w.record(recordTrailer, &trailerRecord{w.records, sum.Sum32()})
	w.flush()
	if w.err != nil {
		t.Fatal(w.err)
	}
	return b.Bytes()
}

func uvarintBytes(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func raw(t testing.TB, kind recordKind, v any) rawRecord {
	t.Helper()
	data, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return rawRecord{kind, data}
}

// TestCraftedSnapshots: a checksum that is right does not excuse what no state
// can be.
func TestCraftedSnapshots(t *testing.T) {
	cluster := raw(t, recordCluster, &clusterRecord{Cluster: ID{1}})
	organisation := raw(t, recordOrganisation, &organisationRecord{ID: ID{2}, Name: "o"})
	builtIn := raw(t, recordProject, &projectRecord{ID: ID{6}, Name: BuiltInProject})
	project := raw(t, recordProject, &projectRecord{ID: ID{3}, Name: "p", Numbers: 8})
	key := func(id byte, name string, hash byte, invalidated bool) rawRecord {
		return raw(t, recordKey, &keyRecord{ID{id}, name, [32]byte{hash}, ID{2}, "p", ID{3}, 0, invalidated})
	}
	permission := func(id byte, name string, n number) rawRecord {
		return raw(t, recordPermission, &permissionRecord{ID{id}, name, "", n})
	}
	role := func(id byte, name string, n number, permissions ...number) rawRecord {
		return raw(t, recordRole, &roleRecord{ID{id}, name, "", n, permissions})
	}
	assignment := func(principal, uri, rights string) rawRecord {
		return raw(t, recordAssignment, &assignmentRecord{principal, uri, []byte(rights)})
	}
	base := []rawRecord{cluster, organisation, builtIn, project, permission(4, "a", 0), role(5, "r", 3, 0, 4), assignment("u", "/a", "\x00\x03")}
	keys := func(keys ...rawRecord) []rawRecord { return append(append([]rawRecord{cluster}, keys...), base[1:]...) }
	inBuiltIn := func(more ...rawRecord) []rawRecord { return append(base[:3:3], more...) }
	with := func(more ...rawRecord) []rawRecord { return append(base[:len(base):len(base)], more...) }
	for name, c := range map[string]struct {
		records []rawRecord
		wrong   string
	}{
		"all well":                      {base, ""},
		"nothing":                       {nil, "the cluster is missing"},
		"no cluster":                    {base[1:2], "before the cluster"},
		"a key without a cluster":       {[]rawRecord{key(7, "k", 1, false)}, "between the cluster and the organisations"},
		"a key behind an organisation":  {with(key(7, "k", 1, false)), "between the cluster and the organisations"},
		"keys":                          {keys(key(7, "k", 1, false), key(8, "k", 2, true), key(9, "k", 1, true)), ""},
		"a key again":                   {keys(key(7, "k", 1, false), key(7, "l", 2, false)), "twice"},
		"a bad key name":                {keys(key(7, "", 1, false)), "empty"},
		"a key's secret again":          {keys(key(7, "k", 1, false), key(8, "l", 1, false)), "secret of another"},
		"a bad organisation name":       {[]rawRecord{cluster, raw(t, recordOrganisation, &organisationRecord{ID: ID{2}, Name: "\u200b"})}, "U+200B"},
		"no built-in project":           {append([]rawRecord{cluster, organisation}, base[3:]...), "lacks the built-in project"},
		"none of two":                   {[]rawRecord{cluster, organisation, raw(t, recordOrganisation, &organisationRecord{ID: ID{8}, Name: "o"})}, "lacks the built-in project"},
		"a built-in permission":         {inBuiltIn(permission(9, "organisation.get", 0)), "cannot have the permission"},
		"a built-in role":               {inBuiltIn(role(9, "owner", 51)), "cannot have the role"},
		"a built-in right":              {inBuiltIn(assignment("u", "/organisation", string(makeRights([]number{builtInProject.owner.number})))), ""},
		"a built-in right to come":      {inBuiltIn(assignment("u", "/organisation", string(makeRights([]number{2 * builtInProject.numbers})))), "cannot hold number"},
		"a bad project name":            {with(raw(t, recordProject, &projectRecord{ID: ID{9}, Name: "P"})), `"P"`},
		"a project's id again":          {with(raw(t, recordProject, &projectRecord{ID: ID{3}, Name: "q"})), "id of another"},
		"two clusters":                  {with(cluster), "twice"},
		"a project first":               {[]rawRecord{cluster, project}, "before any organisation"},
		"a permission first":            {[]rawRecord{cluster, organisation, permission(4, "a", 0)}, "before any project"},
		"a permission of no project":    {with(raw(t, recordOrganisation, &organisationRecord{ID: ID{8}, Name: "o"}), permission(9, "b", 2)), "before any project"},
		"a role first":                  {[]rawRecord{cluster, organisation, role(5, "r", 3)}, "before any project"},
		"an assignment first":           {[]rawRecord{cluster, assignment("u", "/a", "\x00")}, "before any project"},
		"two organisations":             {with(organisation), "twice"},
		"two projects":                  {with(project), "twice"},
		"a bad permission name":         {with(permission(9, "a b", 2)), `"a b"`},
		"a permission's id again":       {with(permission(4, "b", 2)), "taken"},
		"a permission's name again":     {with(permission(9, "a", 2)), "taken"},
		"a permission's number again":   {with(permission(9, "b", 0)), "taken"},
		"a permission with a role's":    {with(permission(9, "b", 1)), "number 1"},
		"a permission to come":          {with(permission(9, "b", 16)), "number 16"},
		"a bad role name":               {with(role(9, "\t", 1)), "U+0009"},
		"a role's id again":             {with(role(5, "s", 1)), "taken"},
		"a role's name again":           {with(role(9, "r", 1)), "taken"},
		"a role with a permission's":    {with(role(9, "s", 2)), "number 2"},
		"a role to come":                {with(role(9, "s", 17)), "number 17"},
		"a role's permissions unsorted": {with(role(9, "s", 1, 4, 0)), "not in order"},
		"a role's permission twice":     {with(role(9, "s", 1, 4, 4)), "not in order"},
		"a role of a role":              {with(role(9, "s", 1, 3)), "number 3"},
		"a role's permission to come":   {with(role(9, "s", 1, 16)), "number 16"},
		"a bad principal":               {with(assignment("", "/a", "\x00")), "empty"},
		"a bad URI":                     {with(assignment("u", "a", "\x00")), `"a"`},
		"a URI that is not canonical":   {with(assignment("u", "/b/", "\x00")), `"/b/"`},
		"an assignment of nothing":      {with(assignment("u", "/b", "")), "rights"},
		"rights that are cut off":       {with(assignment("u", "/b", "\x80")), "rights"},
		"an assignment again":           {with(assignment("u", "/a", "\x00")), "not in order"},
		"an assignment out of order":    {with(assignment("t", "/b", "\x00")), "not in order"},
		"a principal's next":            {with(assignment("u", "/b", "\x00"), assignment("v", "/a", "\x0f")), ""},
		"a right to come":               {with(assignment("v", "/a", "\x10")), "number 16"},
		"a trailer in the middle":       {with(rawRecord{recordTrailer, nil}, cluster), "trailer"},
		"a trailer too many":            {with(raw(t, recordTrailer, &trailerRecord{7, 0})), "trailer"},
		"an unknown kind":               {with(rawRecord{99, []byte{0x80}}), ErrUpgrade.Error()},
		"an unknown field":              {with(raw(t, recordPermission, map[string]int{"colour": 1})), ErrUpgrade.Error()},
		"a record too large":            {with(rawRecord{recordPermission, make([]byte, maxRecordBytes+1)}), "at most"},
	} {
		state, err := ReadSnapshot(bytes.NewReader(craft(t, c.records...)))
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.wrong == "" && state.Revision != 7:
			t.Errorf("%s: the state is %+v", name, state)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "%!")):
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

func TestHostileSnapshots(t *testing.T) {
	for name, data := range hostile() {
		for kind := recordCluster; kind <= recordAssignment; kind++ {
			snapshot := craft(t, rawRecord{kind, []byte(data)})
			var err error
			if n := allocated(func() { _, err = ReadSnapshot(bytes.NewReader(snapshot)) }); n > 32<<20 {
				t.Errorf("%s as a record of kind %d: %d bytes allocated for %d", name, kind, n, len(snapshot))
			}
			if err == nil {
				t.Errorf("%s as a record of kind %d is read", name, kind)
			}
		}
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	want := &State{}
	state, err := ReadSnapshot(bytes.NewReader(content(t, want)))
	if err != nil || state.Digest() != want.Digest() {
		t.Errorf("the empty state comes back as %+v, %v", state, err)
	}
}

func TestLaterSnapshot(t *testing.T) {
	data := goldenSnapshot(t)
	data[len(snapshotMagic)]++
	if _, err := ReadSnapshot(bytes.NewReader(data)); !errors.Is(err, ErrUpgrade) {
		t.Errorf("a later format: %v", err)
	}
	data[0]++
	if _, err := ReadSnapshot(bytes.NewReader(data)); err == nil || errors.Is(err, ErrUpgrade) {
		t.Errorf("another magic: %v", err)
	}
}

// TestSnapshotReader: it does not matter in which pieces a snapshot arrives,
// and an error of the source is passed on.
func TestSnapshotReader(t *testing.T) {
	good := goldenSnapshot(t)
	for name, r := range map[string]io.Reader{
		"one byte":                 iotest.OneByteReader(bytes.NewReader(good)),
		"half":                     iotest.HalfReader(bytes.NewReader(good)),
		"data and the end at once": iotest.DataErrReader(bytes.NewReader(good)),
	} {
		if _, err := ReadSnapshot(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("the disk is gone")
	for _, n := range []int{0, 10, 50, 500, len(good) - 1, len(good)} {
		r := io.MultiReader(bytes.NewReader(good[:n]), iotest.ErrReader(broken))
		if _, err := ReadSnapshot(r); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// A fullDisk takes some bytes and no more.
type fullDisk struct{ left int }

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(p []byte) (int, error) {
	if len(p) > d.left {
		n := d.left
		d.left = 0
		return n, errFull
	}
	d.left -= len(p)
	return len(p), nil
}

func TestSnapshotWriter(t *testing.T) {
	m := newFixture(t)
	for i := range 3000 { // more than is buffered
		m.must(&Grant{m.scope, fmt.Sprint("usr_", i), "/project/456/documents", []ID{readID}, nil})
	}
	size := len(content(t, m.store.State()))
	for _, room := range []int{0, 1, 4 << 10, 64 << 10, 100_000, size - 1} {
		if err := m.store.State().WriteSnapshot(&fullDisk{room}); !errors.Is(err, errFull) {
			t.Errorf("with room for %d of %d bytes: %v", room, size, err)
		}
	}
	if err := m.store.State().WriteSnapshot(&fullDisk{size}); err != nil {
		t.Error(err)
	}
}

// TestLaterLevel: a snapshot whose semantics this version does not know is not
// half understood.
func TestLaterLevel(t *testing.T) {
	state := *newFixture(t).store.State()
	state.Level = MaxLevel + 1
	var b bytes.Buffer
	if err := state.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSnapshot(&b); !errors.Is(err, ErrUpgrade) {
		t.Errorf("read with %v", err)
	}
}
