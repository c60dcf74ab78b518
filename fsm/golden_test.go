package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

var update = flag.Bool("update", false, "write the golden files that are missing")

// goldenCommands has one command of each kind, by the name of its file.
var goldenCommands = map[string]Body{
	"01_init": &Init{
		Cluster: goldenID(0xc1), Epoch: goldenID(0xe1), Secret: [32]byte{0x5e, 31: 0x5e},
		CreateOrganisation: CreateOrganisation{
			Organisation: goldenScope.Organisation, Name: BootstrapOrganisation, BuiltIn: goldenID(0x0c),
			Project: goldenScope.Project, ProjectName: "production",
			Key: goldenID(0x41), KeyName: "root", KeyHash: [32]byte{0x4a, 31: 0x4a},
		},
	},
	"02_put_permission":    &PutPermission{goldenScope, goldenID(1), "document.read", "May read documents"},
	"03_update_permission": &UpdatePermission{goldenScope, goldenID(1), "document.open", "Öffnen"},
	"04_delete_permission": &DeletePermission{goldenScope, goldenID(1)},
	"05_put_role":          &PutRole{goldenScope, goldenID(0x11), "document_editor", "Edits documents", []ID{goldenID(1), goldenID(2)}},
	"06_update_role":       &UpdateRole{goldenScope, goldenID(0x11), "", "", nil},
	"07_delete_role":       &DeleteRole{goldenScope, goldenID(0x11)},
	"08_grant":             &Grant{goldenScope, "user:default/guest", "/project/*/documents", []ID{goldenID(1)}, []ID{goldenID(0x11)}},
	"09_revoke":            &Revoke{goldenScope, "usr_123", "/project/456", nil, []ID{goldenID(0x11)}},
	"10_sweep":             &Sweep{goldenScope, 1000},
	"11_create_organisation": &CreateOrganisation{
		Organisation: goldenSecond.Organisation, Name: "Bücher GmbH", BuiltIn: goldenID(0x1c),
		Project: goldenSecond.Project, ProjectName: "default",
		Key: goldenID(0x42), KeyName: "first owner", KeyHash: [32]byte{0x4b, 31: 0x4b},
	},
	"12_update_organisation": &UpdateOrganisation{goldenSecond.Organisation, "acme"},
	"13_delete_organisation": &DeleteOrganisation{goldenID(0x2a)},
	"14_create_project":      &CreateProject{Scope{goldenScope.Organisation, goldenID(0x0d)}, "staging-2"},
	"15_delete_project":      &DeleteProject{Scope{goldenScope.Organisation, goldenID(0x0d)}},
	"16_create_key":          &CreateKey{goldenBuiltIn, goldenID(0x43), "ci", [32]byte{0x4c, 31: 0x4c}, builtInID("role", RoleViewer), true},
	"17_invalidate_key":      &InvalidateKey{goldenBuiltIn, goldenID(0x44)},
	"18_sweep_keys":          &SweepKeys{500},
	"01_init_of_level_2": &Init{
		Cluster: goldenID(0xc1), Epoch: goldenID(0xe1), Secret: [32]byte{0x5e, 31: 0x5e}, Level: 2,
		CreateOrganisation: CreateOrganisation{
			Organisation: goldenScope.Organisation, Name: BootstrapOrganisation, BuiltIn: goldenID(0x0c),
			Project: goldenScope.Project, ProjectName: "production",
			Key: goldenID(0x41), KeyName: "root", KeyHash: [32]byte{0x4a, 31: 0x4a},
		},
	},
	"08_grant_with_content": &Grant{goldenScope, "user:default/guest", "/project/*/documents", []ID{goldenID(1)}, []ID{goldenID(0x11)}},
	"19_raise_level":        &RaiseLevel{2},
	"20_checkpoint":         &Checkpoint{},
	"21_begin_restore":      &BeginRestore{goldenID(0x61), 4<<30 - 1},
	"22_restore_chunk":      &RestoreChunk{goldenID(0x61), 512 << 10, []byte(snapshotMagic)},
	"23_commit_restore":     &CommitRestore{goldenID(0x61), [32]byte{0x5a, 31: 0xa5}, goldenID(0xe2)},
}

var (
	goldenScope   = Scope{goldenID(0x0a), goldenID(0x0b)}
	goldenBuiltIn = Scope{goldenID(0x0a), goldenID(0x0c)}
	goldenSecond  = Scope{goldenID(0x1a), goldenID(0x1b)}
)

func goldenID(b byte) ID { return ID{b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, b} }

func goldenEnvelope() Envelope {
	return Envelope{
		Request: goldenID(0xf0), Key: goldenID(0x41), Actor: "key:" + goldenID(0x41).String(), Peer: "192.0.2.7:50123", Time: 1_700_000_000_123,
		Requires: []Requirement{{"permission.get", "/organisation/o/permission/", []string{"document.read", "document.write"}}},
	}
}

// golden compares data with the dump in the file and returns the dump's bytes.
// A file is a hex dump, so that a diff shows what changed.
//
// The formats are frozen: what a file holds is in somebody's log or snapshot. Files
// are added with what is new, and none is ever changed.
func golden(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	if _, err := os.Stat(path); *update && errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(path, []byte(hex.Dump(data)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dump, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.Dump(data); got != string(dump) {
		t.Errorf("%s has other bytes now: logs and snapshots that are kept would not be read any more\ngot\n%s\nwant\n%s", path, got, dump)
	}
	return undump(t, dump)
}

func undump(t testing.TB, dump []byte) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(string(dump)) {
		if len(line) > 60 { // offset, 16 bytes, text
			digits.WriteString(strings.ReplaceAll(line[10:60], " ", ""))
		}
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGoldenCommands(t *testing.T) {
	kinds := map[Kind]bool{}
	for name, body := range goldenCommands {
		kinds[body.kind()] = true
		want := Command{goldenEnvelope(), body}
		if strings.HasSuffix(name, "_with_content") {
			want.Envelope.Content = 0xfedc_ba98_7654_3210
		}
		data, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeCommand(golden(t, name, data))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s decodes to %+v, %v", name, got, err)
		}
		if prefix := fmt.Sprintf("%02d_", body.kind()); !strings.HasPrefix(name, prefix) {
			t.Errorf("%s is of kind %d", name, body.kind())
		}
	}
	for kind := Kind(0); kind < 255; kind++ {
		if _, known := newBody(kind); known != kinds[kind] {
			t.Errorf("kind %d: known %v, golden file %v", kind, known, kinds[kind])
		}
	}
}

// goldenState has something of everything that a snapshot keeps: it is in the
// middle of every sweep, with what is dead before and behind the place.
func goldenState(t testing.TB) *State {
	m := &machine{t: t, store: newStore(t), scope: goldenScope}
	second := PutPermission{goldenScope, goldenID(2), "document.write", ""}
	bill := PutPermission{goldenScope, goldenID(3), "bill:pay", "Zahlt\n"}
	for _, body := range []Body{
		goldenCommands["01_init"], goldenCommands["02_put_permission"], &second, &bill,
		goldenCommands["05_put_role"],
		&PutRole{goldenScope, goldenID(0x12), "Rolle für alle", "", nil},
		&PutRole{goldenScope, goldenID(0x13), "accountant", "", []ID{goldenID(3), goldenID(2)}},
		goldenCommands["08_grant"],
		&Grant{goldenScope, "usr_123", "/", []ID{goldenID(1), goldenID(2), goldenID(3)}, nil},
		&Grant{goldenScope, "usr_123", "/project/456", []ID{goldenID(3)}, []ID{goldenID(0x11), goldenID(0x13)}},
		&Grant{goldenScope, "Zoë", "/büro", nil, []ID{goldenID(0x12)}},
		goldenCommands["03_update_permission"],
		&DeletePermission{goldenScope, goldenID(2)},
		&Sweep{goldenScope, 6},
		&Sweep{goldenScope, 2},
		goldenCommands["07_delete_role"],
		goldenCommands["11_create_organisation"], goldenCommands["12_update_organisation"],
		goldenCommands["14_create_project"],
		goldenCommands["16_create_key"],
		&CreateKey{goldenBuiltIn, goldenID(0x44), "busy", [32]byte{0x4d}, ID{}, false},
		&CreateKey{goldenScope, goldenID(0x45), "größe", [32]byte{0x4e}, ID{}, false},
		&CreateKey{Scope{goldenScope.Organisation, goldenID(0x0d)}, goldenID(0x40), "dead", [32]byte{0x4f}, ID{}, false},
		&CreateKey{Scope{goldenScope.Organisation, goldenID(0x0d)}, goldenID(0x46), "dead too", [32]byte{0x50}, ID{}, false},
	} {
		m.must(body)
	}
	// Two grants more than the deletion of a project removes.
	viewer := []ID{builtInID("role", RoleViewer)}
	var bodies []Body
	for i := range endAtOnce + 2 {
		below := ManagementURI(goldenScope.Organisation, "project", "staging-2", fmt.Sprint(i))
		bodies = append(bodies, &Grant{goldenBuiltIn, fmt.Sprint("usr_", i/500), below, nil, viewer})
	}
	m.apply(bodies...)
	third := *goldenCommands["11_create_organisation"].(*CreateOrganisation)
	third.Organisation, third.Key, third.KeyHash = goldenID(0x2a), goldenID(0x47), [32]byte{0x51}
	m.must(goldenCommands["15_delete_project"])
	m.must(goldenCommands["17_invalidate_key"])
	m.must(&SweepKeys{2})
	m.must(&third)
	m.must(goldenCommands["13_delete_organisation"])
	s := m.store.State()
	o, _ := s.Organisation(goldenScope.Organisation)
	if p, _ := o.Project("production"); !p.sweep.Active || !p.sweep.Again || !p.sweep.Roles || p.sweep.Role == 0 || p.sweep.Principal == "" {
		t.Fatalf("the sweep is at %+v", p.sweep)
	}
	if k := s.keySweep; !k.Active || !k.Again || k.After != goldenID(0x41) {
		t.Fatalf("the sweep of keys is at %+v", k)
	}
	if p, _ := o.Project(BuiltInProject); len(o.ending) != 1 || len(slices.Collect(p.Principals(""))) != 3 || len(s.operators) != 2 {
		t.Fatalf("%q are ending, %q hold something, the operators are %v", o.ending, slices.Collect(p.Principals("")), s.operators)
	}
	return s
}

// goldenStateOfLevel2 has besides what level 2 added: both generations of the
// memory, with what succeeded and what failed, and a backup that arrives.
func goldenStateOfLevel2(t testing.TB) *State {
	m := &machine{t: t, store: newStore(t), scope: goldenScope}
	m.store.publish(goldenState(t))
	m.index = m.store.Revision()
	m.must(&RaiseLevel{2})
	for i, c := range goldenRequests() {
		m.play(c)
		if i == 2 {
			b := newBatch(m.store.State())
			b.state.requests.old, b.state.requests.young = b.state.requests.young, newGeneration()
			m.store.publish(b.finish(m.index))
		}
	}
	m.must(&Checkpoint{})
	m.must(&BeginRestore{goldenID(0x61), 100})
	m.must(&RestoreChunk{goldenID(0x61), 0, []byte("first")})
	m.must(&RestoreChunk{goldenID(0x61), 5, []byte("second")})
	s := m.store.State()
	if young, old := s.requests.young, s.requests.old; young.len() != 2 || old.len() != 3 || young.errors.tree.Len() != 1 || old.errors.tree.Len() != 1 {
		t.Fatalf("%d and %d requests are remembered", young.len(), old.len())
	}
	return s
}

// goldenRequests are of a key: two of five fail, and one is repeated.
func goldenRequests() []*Command {
	request := func(n byte, body Body) *Command {
		c := sent(goldenID(0x41), goldenID(n), 0x0102_0304_0506_0708+uint64(n), body)
		c.Envelope.Time = 1_700_000_000_456
		return c
	}
	return []*Command{
		request(0xf1, &PutPermission{goldenScope, goldenID(5), "film:watch", ""}),
		request(0xf2, &DeletePermission{goldenScope, goldenID(6)}),
		request(0xf3, &Grant{goldenScope, "usr_9", "/a", []ID{goldenID(6)}, nil}),
		request(0xf4, &UpdatePermission{goldenScope, goldenID(6), "", "übrig"}),
		request(0xf2, &DeletePermission{goldenScope, goldenID(6)}),
		request(0xf5, &PutRole{goldenScope, goldenID(0x15), "viewer", "", []ID{goldenID(5)}}),
	}
}

func TestGoldenSnapshots(t *testing.T) {
	for suffix, want := range map[string]*State{"": goldenState(t), "_of_level_2": goldenStateOfLevel2(t)} {
		written := snapshotOf(t, want)
		got, err := ReadSnapshot(bytes.NewReader(golden(t, "snapshot"+suffix, written)))
		if err != nil {
			t.Fatal(err)
		}
		// The digest is compared across versions.
		digest := want.Digest()
		golden(t, "digest"+suffix, digest[:])
		if got.Digest() != digest {
			t.Error("the snapshot has another digest")
		}
		if got.Cluster != want.Cluster || got.Epoch != want.Epoch || got.Level != want.Level || got.Revision != want.Revision || got.Secret != want.Secret {
			t.Errorf("the snapshot is of %+v", got)
		}
		if !bytes.Equal(snapshotOf(t, got), written) {
			t.Error("what was read writes another snapshot")
		}
	}
}

// goldenLog is the commands of a cluster: of level 1, or such a one that was
// raised and has a backup restored in the end.
func goldenLog(t *testing.T, level uint32) (log []*Command) {
	bodies := []Body{
		goldenCommands["01_init"], goldenCommands["02_put_permission"],
		&PutPermission{goldenScope, goldenID(2), "document.write", ""},
		goldenCommands["05_put_role"], goldenCommands["08_grant"], goldenCommands["03_update_permission"], goldenCommands["06_update_role"],
		&Grant{goldenScope, "usr_123", "/project/456", []ID{goldenID(2)}, []ID{goldenID(0x11)}},
		goldenCommands["09_revoke"], goldenCommands["04_delete_permission"], goldenCommands["10_sweep"], goldenCommands["07_delete_role"],
		goldenCommands["11_create_organisation"], goldenCommands["12_update_organisation"],
		goldenCommands["14_create_project"], goldenCommands["16_create_key"],
		&CreateKey{Scope{goldenScope.Organisation, goldenID(0x0d)}, goldenID(0x40), "dead", [32]byte{0x4f}, ID{}, false},
		goldenCommands["15_delete_project"], goldenCommands["17_invalidate_key"], goldenCommands["18_sweep_keys"], goldenCommands["13_delete_organisation"],
		&PutPermission{goldenScope, goldenID(7), "film:rate", "Bewerten"},
		&PutRole{goldenScope, goldenID(0x17), "critic", "", []ID{goldenID(7), goldenID(2)}},
		&Grant{goldenScope, "usr_5", "/films/*", []ID{goldenID(2)}, []ID{goldenID(0x17)}},
		&DeletePermission{goldenScope, goldenID(2)},
		&UpdateRole{goldenScope, goldenID(0x17), "reviewer", "writes", []ID{goldenID(7)}},
	}
	for i, body := range bodies {
		c := byCluster(body)
		if c.Envelope.Time = 1_700_000_000_000 + int64(i); i%3 == 1 {
			if c.Envelope = goldenEnvelope(); i != 7 { // of the root key, which holds nothing at "/organisation/o"
				c.Envelope.Requires[0].Prefix = ManagementURI(goldenScope.Organisation, "permission") + "/"
			}
		}
		c.Envelope.Request = goldenID(byte(i))
		log = append(log, c)
	}
	if level == 1 {
		return log
	}
	backup := snapshotOf(t, goldenState(t))
	log = append(append(log, byCluster(&RaiseLevel{2})), goldenRequests()...)
	log = append(log, byCluster(&Checkpoint{}), byCluster(&BeginRestore{goldenID(0x61), uint64(len(backup))}))
	for i := 0; i < len(backup); i += 4096 {
		log = append(log, byCluster(&RestoreChunk{goldenID(0x61), uint64(i), backup[i:min(i+4096, len(backup))]}))
	}
	log = append(log, byCluster(&CommitRestore{goldenID(0x61), sha256.Sum256(backup), goldenID(0xe2)}))
	return append(log, goldenRequests()...)
}

// TestGoldenLogs: what is in somebody's log comes to the same for ever.
func TestGoldenLogs(t *testing.T) {
	for level := uint32(1); level <= 2; level++ {
		name := fmt.Sprint("log_of_level_", level)
		var log []byte
		for _, c := range goldenLog(t, level) {
			data, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			log = append(binary.AppendUvarint(log, uint64(len(data))), data...)
		}
		store := newStore(t)
		var outcomes []byte
		for rest, index := golden(t, name, log), uint64(1); len(rest) > 0; index++ {
			n, size := binary.Uvarint(rest)
			r := store.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: rest[size : size+int(n)]}).(Result)
			rest = rest[size+int(n):]
			code := byte(0)
			if r.Err != nil {
				code = byte(r.Err.Code)
			}
			outcomes = append(outcomes, code)
		}
		digest := store.State().Digest()
		golden(t, name+"_outcome", append(outcomes, digest[:]...))
		if level == 2 && (store.State().Epoch != goldenID(0xe2) || !bytes.Contains(outcomes, []byte{5, 5})) {
			t.Errorf("the log came to %v in epoch %s", outcomes, store.State().Epoch)
		}
	}
}
