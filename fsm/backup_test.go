package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

var (
	backupID = ID{0xba}
	newEpoch = ID{0xee}
)

// restoreOf is the commands that restore a backup, in chunks of the size.
func restoreOf(key ID, backup []byte, size int) []*Command {
	commands := []*Command{by(key, &BeginRestore{backupID, uint64(len(backup))})}
	offset := uint64(0)
	for chunk := range slices.Chunk(backup, size) {
		commands = append(commands, by(key, &RestoreChunk{backupID, offset, chunk}))
		offset += uint64(len(chunk))
	}
	return append(commands, by(key, &CommitRestore{backupID, sha256.Sum256(backup), newEpoch}))
}

// backupOf is a backup of another cluster, with what the fixture lacks.
func backupOf(t testing.TB, level uint32) (*State, []byte) {
	t.Helper()
	source := newMachineAt(t, level)
	source.must(&PutPermission{source.scope, newID, "doc.print", ""})
	source.must(&Grant{source.scope, "usr_7", "/printers", []ID{newID}, nil})
	source.must(&CreateProject{Scope{source.scope.Organisation, ID{61}}, "beta"})
	source.grantMany("u", endAtOnce+2, func(i int) string { return ManagementURI(source.scope.Organisation, "project", "beta", fmt.Sprint(i)) })
	source.must(&DeleteProject{Scope{source.scope.Organisation, ID{61}}}) // something to sweep
	if level >= levelOfClusters {
		source.mustBy(sent(rootID, ID{0xf1}, 1, &PutPermission{source.scope, readID, "doc.read", ""}))
		source.mustBy(by(rootID, &BeginRestore{ID{0xf2}, 10}))
	}
	state := *source.store.State()
	state.Cluster, state.Epoch, state.Secret = ID{0xc0}, ID{0xe0}, [32]byte{0x50}
	return &state, snapshotOf(t, &state)
}

func TestRestoreOfBackup(t *testing.T) {
	for level := uint32(1); level <= MaxLevel; level++ {
		for _, size := range []int{1000, 8 << 10, MaxChunkBytes} {
			for _, batch := range []int{1, 3, 1000} {
				backup, data := backupOf(t, level)
				m := newTenancy(t)
				m.mustBy(sent(rootID, ID{0xaa}, 1, &PutPermission{m.scope, ID{70}, "doc.sign", ""}))
				before := m.store.State()
				commands := restoreOf(rootID, data, size)
				var results []Result
				for chunk := range slices.Chunk(commands, batch) {
					results = append(results, m.play(chunk...)...)
					if batch == 3 {
						m.restart()
					}
				}
				received := uint64(0)
				for i, r := range results {
					if r.Err != nil {
						t.Fatalf("%T: %v", commands[i].Body, r.Err)
					}
					if c, ok := commands[i].Body.(*RestoreChunk); ok {
						if received += uint64(len(c.Data)); r.Received != received {
							t.Errorf("%d bytes are received, want %d", r.Received, received)
						}
					}
				}
				s := m.store.State()
				if s.Cluster != before.Cluster || s.Level != MaxLevel || s.Epoch != newEpoch || s.Revision != m.index || s.Secret != backup.Secret {
					t.Errorf("restored to cluster %s, level %d, epoch %s, revision %d", s.Cluster, s.Level, s.Epoch, s.Revision)
				}
				want := *backup.Backup()
				want.Cluster, want.Level, want.Epoch = s.Cluster, s.Level, s.Epoch
				if !bytes.Equal(content(t, s), content(t, &want)) || !slices.Equal(slices.Collect(s.Sweeping()), slices.Collect(want.Sweeping())) {
					t.Error("the content is not the backup's")
				}
				if _, _, _, ok := s.Restoring(); ok {
					t.Error("the backup is still being restored")
				}
				if _, ok := s.Remembered(rootID, ID{0xaa}); !ok {
					t.Error("the cluster's own requests are forgotten")
				}
				if _, ok := s.Remembered(rootID, ID{0xf1}); ok {
					t.Error("the backup's requests are remembered")
				}
				if !m.allows("usr_7", "/printers/3", "doc.print") || m.allows("usr_1", "/project/456", "doc.read") {
					t.Error("checks are not the backup's")
				}
				// It goes on from there.
				for i := 0; m.store.State().IsSweeping(builtInScope); i++ {
					if m.must(&Sweep{builtInScope, 1000}); i > 10 {
						t.Fatal("the sweep does not end")
					}
				}
				m.restart()
				if again := m.play(commands[len(commands)-1])[0]; again.Err == nil || again.Err.Code != CodeFailedPrecondition {
					t.Errorf("another commit came to %+v", again)
				}
			}
		}
	}
}

// TestRestoreInOneBatch: what stands before and behind the commit belongs to the
// state before and behind it.
func TestRestoreInOneBatch(t *testing.T) {
	_, data := backupOf(t, MaxLevel)
	commands := restoreOf(rootID, data, MaxChunkBytes)
	play := func(batch int) *State {
		m := newTenancy(t)
		before := by(rootID, &PutPermission{m.scope, ID{70}, "doc.before", ""})
		behind := by(rootID, &PutPermission{m.scope, ID{71}, "doc.behind", ""})
		all := append(append([]*Command{before}, commands...), behind, by(appKey, &PutPermission{m.scope, ID{72}, "doc.gone", ""}), byCluster(&Checkpoint{}))
		for chunk := range slices.Chunk(all, batch) {
			m.play(chunk...)
		}
		p := m.project()
		_, first := p.Permission("doc.before")
		_, second := p.Permission("doc.behind")
		_, third := p.Permission("doc.gone") // of a key that the backup does not have
		if first || !second || third {
			t.Errorf("in batches of %d: before %v, behind %v, of a key that is gone %v", batch, first, second, third)
		}
		if s, err := checkpointBy(m, m.index); err != nil || s.Digest() != m.store.State().Digest() {
			t.Errorf("the checkpoint behind it: %v", err)
		}
		return m.store.State()
	}
	one, all := play(1), play(100)
	if one.Digest() != all.Digest() || !bytes.Equal(snapshotOf(t, one), snapshotOf(t, all)) {
		t.Error("another batch makes another state")
	}
}

func TestChunks(t *testing.T) {
	m := newTenancy(t)
	root := func(body Body) *Command { return by(rootID, body) }
	chunk := func(offset uint64, data string) *Command {
		return root(&RestoreChunk{backupID, offset, []byte(data)})
	}
	m.refuses(root(&BeginRestore{ID{}, 10}), CodeInvalidArgument, "needs an id")
	m.refuses(root(&BeginRestore{backupID, 0}), CodeInvalidArgument, "has 0 bytes, and should have 1 to 4294967296")
	m.refuses(root(&BeginRestore{backupID, MaxBackupBytes + 1}), CodeInvalidArgument, "has 4294967297 bytes")
	m.refuses(chunk(0, "x"), CodeFailedPrecondition, "is not being restored")
	m.refuses(root(&CommitRestore{backupID, [32]byte{}, newEpoch}), CodeFailedPrecondition, "is not being restored")
	for _, body := range []Body{&BeginRestore{backupID, 10}, &RestoreChunk{backupID, 0, []byte("x")}, &CommitRestore{backupID, [32]byte{}, newEpoch}} {
		m.refuses(by(editorKey, body), CodePermissionDenied, "only operators")
	}
	m.mustBy(root(&BeginRestore{backupID, 10}))
	received := func(want uint64, c *Command) {
		t.Helper()
		if r := m.mustBy(c); r.Received != want {
			t.Errorf("%d bytes are received, want %d", r.Received, want)
		}
		m.restart()
		if id, size, n, ok := m.store.State().Restoring(); !ok || id != backupID || size != 10 || n != want {
			t.Errorf("%s has %d of %d bytes, %v", id, n, size, ok)
		}
	}
	stays := func(c *Command, code Code, part string) {
		t.Helper()
		before := m.store.State()
		if r := m.play(c)[0]; r.Err == nil || r.Err.Code != code || !strings.Contains(r.Err.Message, part) || before.restore != m.store.State().restore {
			t.Errorf("%+v came to %+v", c.Body, r)
		}
	}
	received(4, chunk(0, "abcd"))
	received(4, chunk(0, "abcd")) // it was lost that it came
	received(4, chunk(2, "cd"))
	stays(chunk(5, "f"), CodeFailedPrecondition, "a chunk at 5 came where that at 4 is next")
	stays(chunk(3, "de"), CodeFailedPrecondition, "that at 4 is next")
	stays(chunk(4, ""), CodeInvalidArgument, "has 0 bytes, and should have 1 to 524288")
	stays(chunk(4, strings.Repeat("x", MaxChunkBytes+1)), CodeInvalidArgument, "has 524289 bytes")
	stays(chunk(4, "efghijk"), CodeInvalidArgument, "7 bytes at 4 is beyond the backup's 10 bytes")
	stays(chunk(1<<64-1, "xy"), CodeInvalidArgument, "beyond")
	stays(root(&RestoreChunk{ID{1}, 4, []byte("e")}), CodeFailedPrecondition, "another was begun")
	stays(root(&CommitRestore{ID{1}, [32]byte{}, newEpoch}), CodeFailedPrecondition, "another was begun")
	stays(root(&CommitRestore{backupID, [32]byte{}, ID{}}), CodeInvalidArgument, "new epoch")
	stays(root(&CommitRestore{backupID, [32]byte{}, m.store.State().Epoch}), CodeInvalidArgument, "new epoch")
	received(10, chunk(4, "efghij"))
	received(10, chunk(4, "efghij"))
	repeated := sent(rootID, ID{0xaa}, 1, &RestoreChunk{backupID, 4, []byte("efghij")})
	m.mustBy(repeated)
	if r := m.mustBy(repeated); !r.Repeated || r.Received != 10 {
		t.Errorf("a chunk under its request id again came to %+v", r)
	}
	m.mustBy(root(&BeginRestore{ID{1}, 3}))
	if id, size, n, _ := m.store.State().Restoring(); id != (ID{1}) || size != 3 || n != 0 {
		t.Errorf("begun again, %s has %d of %d bytes", id, n, size)
	}
}

// TestEarlyCommit: whoever commits too early is refused before the log. In the log
// such a commit ends the restore: that is how the cluster itself ends one that nobody
// goes on with.
func TestEarlyCommit(t *testing.T) {
	for arrived := range 2 {
		m := newTenancy(t)
		m.mustBy(by(rootID, &BeginRestore{backupID, 10}))
		if arrived > 0 {
			m.mustBy(by(rootID, &RestoreChunk{backupID, 0, []byte("a")}))
		}
		before := m.store.State()
		part := fmt.Sprintf("%d of the backup's 10 bytes have arrived: send the rest", arrived)
		commit := &CommitRestore{ID: backupID, Epoch: newEpoch}
		if err := before.Refuses(by(rootID, commit)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("an operator's comes to %v before the log, want %q", err, part)
		}
		if before.restore == nil {
			t.Error("to ask changed something")
		}
		if r := m.play(byCluster(commit))[0]; r.Err == nil || r.Err.Code != CodeFailedPrecondition || !strings.Contains(r.Err.Message, part) {
			t.Errorf("the cluster's came to %+v, want %q", r, part)
		}
		if _, _, _, ok := m.store.State().Restoring(); ok {
			t.Error("the backup is still being restored")
		}
		if !bytes.Equal(content(t, m.store.State()), content(t, before)) {
			t.Error("something else changed")
		}
		m.refuses(by(rootID, &RestoreChunk{backupID, uint64(arrived), []byte("b")}), CodeFailedPrecondition, "its restore has ended")
	}
}

// TestCommitFails: what cannot become right is given up, and changes nothing else.
func TestCommitFails(t *testing.T) {
	_, good := backupOf(t, MaxLevel)
	ofLevel := func(level uint32, good []byte) []byte {
		data := bytes.Clone(good)
		data[len(snapshotMagic)+4] = byte(level)
		return withTrailer(t, data)
	}
	nobody, _ := backupOf(t, 1)
	nobody.operators = nil
	ended := newTenancy(t).store.State()
	ended.operators = []ID{invalidKey}
	for name, c := range map[string]struct {
		data []byte
		sum  func([]byte) [32]byte
		code Code
		part string
	}{
		"another sum":           {good, func([]byte) [32]byte { return [32]byte{1} }, CodeInvalidArgument, "arrived with SHA-256"},
		"damaged":               {append(bytes.Clone(good), 1), nil, CodeInvalidArgument, "is damaged, or no snapshot"},
		"no snapshot":           {[]byte("hello"), nil, CodeInvalidArgument, "is damaged, or no snapshot"},
		"a level to come":       {ofLevel(MaxLevel+1, good), nil, CodeFailedPrecondition, "of level 3, and the cluster is at level 2: upgrade every node"},
		"without an operator":   {snapshotOf(t, nobody), nil, CodeInvalidArgument, "no operator's key"},
		"an operator who ended": {snapshotOf(t, ended), nil, CodeInvalidArgument, "no operator's key"},
		"of nothing":            {snapshotOf(t, &State{}), nil, CodeInvalidArgument, "no operator's key"},
	} {
		m := newTenancy(t)
		before := m.store.State()
		commands := restoreOf(rootID, c.data, MaxChunkBytes)
		commit := commands[len(commands)-1]
		if c.sum != nil {
			commit.Body.(*CommitRestore).SHA256 = c.sum(c.data)
		}
		for _, c := range commands[:len(commands)-1] {
			m.mustBy(c)
		}
		if err := m.store.State().Refuses(commit); err != nil {
			t.Errorf("%s: it is refused before the log, where it would not end: %v", name, err)
		}
		if r := m.play(commit)[0]; r.Err == nil || r.Err.Code != c.code || !strings.Contains(r.Err.Message, c.part) {
			t.Errorf("%s: it came to %+v", name, r)
		}
		if _, _, _, ok := m.store.State().Restoring(); ok {
			t.Errorf("%s: it is still being restored", name)
		}
		if !bytes.Equal(content(t, m.store.State()), content(t, before)) {
			t.Errorf("%s: something changed", name)
		}
	}
}

// TestParsing: a backup is parsed once it is there, beside apply, and one that is
// not needed any more does not go on.
func TestParsing(t *testing.T) {
	_, data := backupOf(t, MaxLevel)
	m := newTenancy(t)
	goroutines := runtime.NumGoroutine()
	commands := restoreOf(rootID, data, MaxChunkBytes)
	last := len(commands) - 1
	if err := m.store.State().Refuses(commands[last]); err == nil {
		t.Error("a commit before anything is not refused")
	}
	m.play(commands[0])
	if m.store.State().Parsed(backupID) != nil {
		t.Error("a backup is parsed of which nothing is there")
	}
	m.play(commands[:last]...)
	parse := m.store.State().restore.parse
	<-m.store.State().Parsed(backupID)
	if parse.sum != sha256.Sum256(data) || m.store.State().Parsed(ID{1}) != nil {
		t.Error("it is said to be parsed and is not, or another is")
	}
	m.must(&Sweep{m.scope, 1})
	if m.store.State().restore.parse != parse || parse.abandoned.Load() {
		t.Error("the next command began anew")
	}
	// Taken over by a snapshot, it is parsed again.
	if err := m.store.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, m.store.State())))); err != nil {
		t.Fatal(err)
	}
	again := m.store.State().restore.parse
	if again == parse || !parse.abandoned.Load() {
		t.Error("the old parse is not given up")
	}
	<-again.done
	if again.err != nil || again.sum != sha256.Sum256(data) {
		t.Errorf("parsed again, it came to %v", again.err)
	}
	m.play(commands[:last]...)
	m.must(&BeginRestore{ID{1}, 5})
	until(t, "nothing is parsed any more", func() bool { return runtime.NumGoroutine() <= goroutines })

	given := &parsing{done: make(chan struct{}), chunks: func() [][]byte { return [][]byte{data} }}
	given.abandoned.Store(true)
	if given.wait(); given.err != errAbandoned || given.state != nil {
		t.Errorf("a parse that was given up came to %v", given.err)
	}
	if _, err := (&chunkReader{given, [][]byte{data}}).Read(make([]byte, 10)); err != errAbandoned {
		t.Errorf("it is read on: %v", err)
	}
}

// TestSameLogSameRestore applies one log of restores, good and bad, among other
// writes in batches of several sizes and through snapshots.
func TestSameLogSameRestore(t *testing.T) {
	_, backup := backupOf(t, MaxLevel)
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 3))
		source := newTenancy(t)
		start := source.store.State()
		var logs []*raft.Log
		for i := range 12 {
			data := backup
			if r.IntN(3) == 0 {
				data = data[:r.IntN(len(data)-1)+1]
			}
			for _, c := range restoreOf(rootID, data, 2000+r.IntN(MaxChunkBytes)) {
				if commit, ok := c.Body.(*CommitRestore); ok {
					commit.Epoch = ID{0xee, byte(i)}
					if r.IntN(4) == 0 {
						commit.SHA256[3]++
					}
				}
				if _, ok := c.Body.(*RestoreChunk); ok && r.IntN(8) == 0 {
					continue // the commit comes too early
				}
				c.Envelope.Content = r.Uint64()
				for range 1 + r.IntN(5)/4 { // seldom twice
					logs = append(logs, source.log(c))
				}
				logs = append(logs, source.log(by(rootID, &PutPermission{source.scope, ID(randomID(r)), fmt.Sprint("doc.", r.IntN(9)), ""})))
				if r.IntN(8) == 0 {
					logs = append(logs, source.log(&Command{Body: &Checkpoint{}}))
				}
				if r.IntN(9) == 0 {
					break
				}
			}
		}
		play := func(batch int, snapshots bool) *State {
			m := newMachine(t)
			m.store.publish(start)
			for chunk := range slices.Chunk(logs, batch) {
				m.store.ApplyBatch(chunk)
				if snapshots && chunk[0].Index%3 == 0 {
					m.restart()
				}
			}
			return m.store.State()
		}
		want := play(1, false)
		if want.Epoch == start.Epoch {
			t.Fatalf("seed %d: nothing was restored", seed)
		}
		for _, batch := range []int{1, 2, 7, len(logs)} {
			if got := play(batch, batch < 10); got.Digest() != want.Digest() || !bytes.Equal(snapshotOf(t, got), snapshotOf(t, want)) {
				t.Errorf("seed %d: batches of %d give another state", seed, batch)
			}
		}
	}
}

func TestCraftedRestores(t *testing.T) {
	cluster := raw(t, recordCluster, &clusterRecord{Cluster: ID{1}})
	begun := raw(t, recordRestore, &restoreRecord{backupID, 10})
	chunk := func(n int) rawRecord { return raw(t, recordChunk, &chunkRecord{make([]byte, n)}) }
	for name, c := range map[string]struct {
		level   uint32
		records []rawRecord
		wrong   string
	}{
		"all well":           {2, []rawRecord{cluster, begun, chunk(4), chunk(6)}, ""},
		"at level 1":         {1, []rawRecord{cluster, begun}, "level 1"},
		"twice":              {2, []rawRecord{cluster, begun, begun}, "twice"},
		"without an id":      {2, []rawRecord{cluster, raw(t, recordRestore, &restoreRecord{ID{}, 10})}, "10 bytes"},
		"of nothing":         {2, []rawRecord{cluster, raw(t, recordRestore, &restoreRecord{backupID, 0})}, "0 bytes"},
		"too large":          {2, []rawRecord{cluster, raw(t, recordRestore, &restoreRecord{backupID, MaxBackupBytes + 1})}, "4294967297 bytes"},
		"a chunk before it":  {2, []rawRecord{cluster, chunk(1), begun}, "before its restore"},
		"an empty chunk":     {2, []rawRecord{cluster, begun, chunk(0)}, "0 bytes at 0"},
		"a chunk beyond it":  {2, []rawRecord{cluster, begun, chunk(4), chunk(7)}, "7 bytes at 4 of 10"},
		"too large a chunk":  {2, []rawRecord{cluster, raw(t, recordRestore, &restoreRecord{backupID, 1 << 30}), chunk(MaxChunkBytes + 1)}, "524289 bytes"},
		"a chunk of nothing": {2, []rawRecord{cluster, chunk(1)}, "before its restore"},
	} {
		state, err := ReadSnapshot(bytes.NewReader(craftAt(t, c.level, c.records...)))
		switch {
		case c.wrong == "" && (err != nil || state.restore.received != 10):
			t.Errorf("%s: %+v, %v", name, state, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "%!")):
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}
