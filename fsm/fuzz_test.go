package fsm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

// goldenFiles returns the bytes of the golden files whose names match.
func goldenFiles(f *testing.F, pattern string) (all [][]byte) {
	f.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "golden", pattern))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no golden files %q: %v", pattern, err)
	}
	for _, path := range paths {
		dump, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, undump(f, dump))
	}
	return all
}

// FuzzCommand: no bytes make a node panic or ask for memory without bound; what
// decodes encodes to something that decodes to the same; and what it does to a
// state leaves one that goes through a snapshot unchanged.
func FuzzCommand(f *testing.F) {
	for _, data := range goldenFiles(f, "[0-9]*.hex") {
		f.Add(data[:len(data)-checksumBytes])
	}
	fixture := newTenancy(f)
	bodies := []Body{
		&PutPermission{fixture.scope, newID, "doc.print", ""},
		&UpdatePermission{fixture.scope, readID, "doc.open", ""},
		&DeletePermission{fixture.scope, readID},
		&PutRole{fixture.scope, newID, "printer", "", []ID{readID}},
		&UpdateRole{fixture.scope, editorID, "", "", nil},
		&DeleteRole{fixture.scope, editorID},
		&Grant{fixture.scope, "usr_1", "/project/456", []ID{readID}, []ID{editorID}},
		&Revoke{fixture.scope, "usr_1", "/project/456", []ID{shareID}, []ID{editorID}},
		&Sweep{fixture.scope, -1},
		&Grant{builtInScope, KeyPrincipal(emptyKey), own("project", "production"), []ID{permissionID("role.get")}, []ID{roleViewer}},
		&Revoke{builtInScope, KeyPrincipal(rootID), own(), nil, []ID{roleOwner}},
		&Sweep{builtInScope, 1},
		&CreateOrganisation{newID, "new", ID{90}, ID{91}, "default", ID{92}, "first", [32]byte{92}},
		&UpdateOrganisation{acmeScope.Organisation, "renamed"},
		&DeleteOrganisation{acmeScope.Organisation},
		&CreateProject{Scope{fixture.scope.Organisation, newID}, "staging"},
		&DeleteProject{fixture.scope},
		newKey(builtInScope, newID, roleOwner),
		&CreateKey{acmeBuiltIn, newID, "k", hashOf(invalidKey), ID{}, true},
		&InvalidateKey{builtInScope, editorKey},
		&SweepKeys{2},
		&RaiseLevel{2},
		&Checkpoint{},
		&BeginRestore{backupID, 3},
		&RestoreChunk{backupID, 0, []byte("abc")},
	}
	_, backup := backupOf(f, 1)
	for _, c := range restoreOf(rootID, backup, MaxChunkBytes) {
		bodies = append(bodies, c.Body)
	}
	for _, body := range bodies {
		for _, c := range []*Command{byCluster(body), by(rootID, body, [2]string{"role.get", own("role", "x")}), by(appKey, body)} {
			data, err := c.Encode()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data[:len(data)-checksumBytes])
		}
	}
	for _, data := range hostile() {
		if len(data) < 1000 { // mutating much takes long
			f.Add(append([]byte{commandFormat, byte(KindGrant)}, data...))
		}
	}
	// Something to sweep, in one of the states that commands are applied to.
	fixture.must(&PutRole{fixture.scope, ID{30}, "dead", "", nil})
	fixture.must(&Grant{fixture.scope, "usr_9", "/", nil, []ID{{30}}})
	alive := fixture.store.State()
	fixture.must(&DeleteRole{fixture.scope, ID{30}})
	fixture.grantMany("u", endAtOnce+2, func(i int) string { return ManagementURI(builtInScope.Organisation, "project", "beta", fmt.Sprint(i)) })
	fixture.must(&CreateProject{Scope{builtInScope.Organisation, ID{61}}, "beta"})
	fixture.must(&DeleteProject{Scope{builtInScope.Organisation, ID{61}}})
	fixture.must(&SweepKeys{2})
	sweeping := fixture.store.State()
	commands := restoreOf(rootID, backup, MaxChunkBytes)
	var arriving *State
	for _, c := range commands[:len(commands)-1] {
		fixture.mustBy(sent(rootID, ID{0xaa, byte(fixture.index)}, 7, c.Body))
		if arriving == nil {
			arriving = fixture.store.State()
		}
	}
	restoring := fixture.store.State()
	restoring.restore.parse.wait() // a state of another store may give it up
	old := *alive
	old.Level, old.requests = 1, memory{}
	states := []*State{{}, &old, alive, sweeping, arriving, restoring}

	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > MaxCommandBytes {
			return
		}
		if c, err := DecodeCommand(data); err == nil {
			t.Logf("a checksum by chance: %+v", c)
		}
		data = seal(data) // or nothing would get behind the checksum
		var c *Command
		var err error
		if n := allocated(func() { c, err = DecodeCommand(data) }); n > 128<<20 {
			t.Errorf("%d bytes allocated for %d", n, len(data))
		}
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) { // short ids can become too long a command
				t.Fatal(err)
			}
			return
		}
		if second, err := DecodeCommand(again); err != nil || !reflect.DeepEqual(c, second) {
			t.Fatalf("%+v comes back as %+v, %v", c, second, err)
		}
		for _, state := range states {
			before := whole(t, state)
			refusal := state.Refuses(c)
			store := newStore(t)
			store.publish(state)
			next := state.Revision + 1
			logs := []*raft.Log{{Index: next, Type: raft.LogCommand, Data: data}, {Index: next + 1, Type: raft.LogCommand, Data: again}}
			results := store.ApplyBatch(logs)
			first, second := results[0].(Result), results[1].(Result)
			_, commits := c.Body.(*CommitRestore) // which may fail in the log alone
			if (refusal == nil) != (first.Err == nil) && !commits {
				t.Errorf("asked before: %v, applied: %v", refusal, first.Err)
			}
			if _, kept := store.State().Remembered(c.Envelope.Key, c.Envelope.Request); kept && (!second.Repeated || !reflect.DeepEqual(second.Err, first.Err.short())) {
				t.Errorf("the repetition came to %+v, after %+v", second, first)
			}
			if !bytes.Equal(whole(t, state), before) {
				t.Error("the command changed the state before it")
			}
			after := whole(t, store.State())
			if first.Err != nil && !bytes.Equal(content(t, store.State()), content(t, state)) {
				t.Errorf("refused with %v, and yet something changed", first.Err)
			}
			back, err := ReadSnapshot(bytes.NewReader(after))
			if err != nil {
				t.Fatalf("the state after it cannot be read: %v", err)
			}
			if back.Digest() != store.State().Digest() || !bytes.Equal(whole(t, back), after) {
				t.Error("a snapshot changed the state")
			}
		}
	})
}

// FuzzSnapshot: no bytes make reading panic or ask for memory without bound;
// and a state that reads writes a snapshot that reads to the same. A checksum
// that is wrong would stop nearly every change, so each is tried with the right
// one too.
func FuzzSnapshot(f *testing.F) {
	for _, data := range goldenFiles(f, "snapshot*.hex") {
		f.Add(data)
	}
	f.Add(whole(f, &State{}))
	f.Add(whole(f, newTenancy(f).store.State()))
	for _, data := range hostile() {
		if len(data) < 1000 {
			f.Add(craft(f, rawRecord{recordProject, []byte(data)}))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, withTrailer(t, data)} {
			var state *State
			var err error
			if n := allocated(func() { state, err = ReadSnapshot(bytes.NewReader(data)) }); n > 64<<20+64*uint64(len(data)) {
				t.Errorf("%d bytes allocated for %d", n, len(data))
			}
			if err != nil {
				continue
			}
			written := whole(t, state)
			again, err := ReadSnapshot(bytes.NewReader(written))
			if err != nil {
				t.Fatalf("the state that was read writes what cannot be read: %v", err)
			}
			if again.Digest() != state.Digest() || !bytes.Equal(whole(t, again), written) {
				t.Error("a snapshot changed the state")
			}
			for o := range state.organisations.from("") {
				for p := range o.Projects("") {
					p.Check("u", []string{"/a"}, []string{"document.open"})
				}
				o.Holds("u", "role.get", ManagementURI(o.ID))
			}
			// What is to be swept can be, whatever it is.
			b := newBatch(state)
			for scope := range state.Sweeping() {
				b.apply(byCluster(&Sweep{scope, 100}), 0)
			}
			b.apply(byCluster(&SweepKeys{100}), 0)
			swept := whole(t, b.finish(state.Revision))
			if _, err := ReadSnapshot(bytes.NewReader(swept)); err != nil {
				t.Fatalf("a sweep left what cannot be read: %v", err)
			}
		}
	})
}

// withTrailer replaces what does not parse as records by the trailer that fits
// those before it.
func withTrailer(t *testing.T, data []byte) []byte {
	in := &snapshotReader{r: bufio.NewReader(bytes.NewReader(data)), sum: crc32.New(castagnoli)}
	if err := in.header(&State{}); err != nil {
		return data
	}
	var records []rawRecord
	for {
		kind, record, err := in.record()
		if err != nil || kind == recordTrailer {
			return craft(t, records...)
		}
		records = append(records, rawRecord{kind, bytes.Clone(record)})
	}
}
