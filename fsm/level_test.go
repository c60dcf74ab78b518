package fsm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/vmihailenco/msgpack/v5"
)

func TestRaiseLevel(t *testing.T) {
	m := newMachineAt(t, 0)
	if level := m.store.State().Level; level != 1 {
		t.Errorf("an Init that names no level, as those of old, makes level %d", level)
	}
	for _, step := range []struct{ to, want uint32 }{{0, 1}, {1, 1}, {2, 2}, {2, 2}, {1, 2}, {0, 2}} {
		m.must(&RaiseLevel{step.to})
		if level := m.store.State().Level; level != step.want {
			t.Errorf("raised to %d, the level is %d", step.to, level)
		}
		m.restart()
	}
	m = newTenancy(t)
	m.refuses(by(editorKey, &RaiseLevel{2}), CodePermissionDenied, "only operators")
	m.mustBy(by(rootID, &RaiseLevel{2}))
	empty := &machine{t: t, store: newStore(t)}
	if r := empty.apply(&RaiseLevel{2})[0]; r.Err == nil || r.Err.Code != CodeFailedPrecondition || empty.store.State().Level != 0 {
		t.Errorf("before the cluster's first command: %+v", r)
	}
}

// TestNothingOfLevel2BeforeIt: what a command of level 2 comes to at level 1.
func TestNothingOfLevel2BeforeIt(t *testing.T) {
	m := newMachineAt(t, 1)
	for _, body := range []Body{&Checkpoint{}, &BeginRestore{ID{1}, 5}, &RestoreChunk{ID{1}, 0, []byte("x")}, &CommitRestore{ID: ID{1}, Epoch: ID{7}}} {
		m.refuses(by(rootID, body), CodeFailedPrecondition, "needs level 2, and the cluster is at level 1: upgrade every node")
	}
}

// TestLevelToCome: a level beyond what this version knows stops the node, and is
// never proposed by it.
func TestLevelToCome(t *testing.T) {
	for _, body := range []Body{&RaiseLevel{MaxLevel + 1}, &Init{Cluster: ID{9}, Level: MaxLevel + 1}} {
		c := byCluster(body)
		if _, err := c.Encode(); !errors.Is(err, ErrUpgrade) {
			t.Errorf("%T is encoded: %v", body, err)
		}
		b := bytes.NewBuffer([]byte{commandFormat, byte(body.kind())})
		if err := msgpack.NewEncoder(b).Encode(&encoded{&c.Envelope, body}); err != nil {
			t.Fatal(err)
		}
		var halted error
		store := NewStore(func(err error) { halted = err })
		func() {
			defer func() { recover() }()
			store.Apply(&raft.Log{Index: 3, Type: raft.LogCommand, Data: seal(b.Bytes())})
		}()
		if !errors.Is(halted, ErrUpgrade) || !strings.Contains(halted.Error(), "level 3 is not known, 2 at most") || store.Revision() != 0 {
			t.Errorf("%T: halted with %v at revision %d", body, halted, store.Revision())
		}
	}
}

func checkpointBy(m *machine, revision uint64) (*State, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return m.store.Checkpoint(ctx, revision)
}

// TestCheckpoint: each node keeps the state of exactly that revision, wherever
// its batches begin and end.
func TestCheckpoint(t *testing.T) {
	var digests [][32]byte
	for _, before := range []int{0, 1, 3} {
		m := newFixture(t)
		revision := m.index + 4
		got := make(chan error)
		go func() {
			s, err := m.store.Checkpoint(withDeadline(t), revision)
			if err == nil && s.Revision != revision {
				err = errors.New("another state")
			}
			got <- err
		}()
		until(t, "somebody waits", func() bool { return m.store.waiting() == 1 })
		bodies := []Body{
			&PutPermission{m.scope, ID{70}, "a", ""}, &PutPermission{m.scope, ID{71}, "b", ""}, &PutPermission{m.scope, ID{72}, "c", ""},
			&Checkpoint{}, &PutPermission{m.scope, ID{73}, "d", ""}, &DeletePermission{m.scope, readID},
		}
		m.apply(bodies[:before]...)
		results := m.apply(bodies[before:]...)
		if err := <-got; err != nil {
			t.Error(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
		if m.store.Revision() != m.index || m.allows("usr_1", "/project/456", "doc.read") {
			t.Error("what stands behind the checkpoint is not applied")
		}
		s, err := checkpointBy(m, revision)
		if err != nil || s.Revision != revision {
			t.Fatalf("%+v, %v", s, err)
		}
		digests = append(digests, s.Digest())
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Error("the nodes' states at the checkpoint differ")
	}
}

func TestCheckpointIsNotKept(t *testing.T) {
	m := newTenancy(t)
	m.refuses(by(editorKey, &Checkpoint{}), CodePermissionDenied, "only operators")
	if _, err := checkpointBy(m, m.index); codeOf(err) != CodeFailedPrecondition || !strings.Contains(err.Error(), "make a new one") {
		t.Errorf("of a command that is no checkpoint: %v", err)
	}
	if _, err := checkpointBy(m, m.index+1); codeOf(err) != CodeUnavailable || m.store.waiting() != 0 {
		t.Errorf("until the context's end: %v", err)
	}
	again := sent(rootID, ID{0xaa}, 0, &Checkpoint{})
	m.mustBy(again)
	first := m.index
	m.mustBy(again)
	if _, err := checkpointBy(m, first); err != nil {
		t.Errorf("after its repetition: %v", err)
	}
	m.must(&Checkpoint{})
	if _, err := checkpointBy(m, first); codeOf(err) != CodeFailedPrecondition {
		t.Errorf("after another: %v", err)
	}
	if _, err := checkpointBy(m, m.index); err != nil {
		t.Errorf("the newest: %v", err)
	}
	// A node that takes over a snapshot does not pass through it.
	behind, got := newTenancy(t), make(chan error)
	go func() {
		_, err := behind.store.Checkpoint(withDeadline(t), m.index)
		got <- err
	}()
	until(t, "somebody waits", func() bool { return behind.store.waiting() == 1 })
	m.must(&Sweep{m.scope, 1})
	if err := behind.store.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, m.store.State())))); err != nil {
		t.Fatal(err)
	}
	if err := <-got; codeOf(err) != CodeFailedPrecondition {
		t.Errorf("a snapshot came: %v", err)
	}
}

func snapshotOf(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRecovering: what raft makes of a survivor's log and snapshots is the same
// state, in a new epoch; at every level.
func TestRecovering(t *testing.T) {
	for level := uint32(1); level <= MaxLevel; level++ {
		m := newMachineAt(t, level)
		m.must(&PutPermission{m.scope, readID, "doc.read", ""})
		snapshot := snapshotOf(t, m.store.State())
		entry := m.log(by(rootID, &Grant{m.scope, "usr_1", "/", []ID{readID}, nil}))
		want := m.store.Apply(entry)

		store := newStore(t)
		fsm := store.Recovering(ID{0xee})
		if _, err := fsm.Snapshot(); err == nil || !strings.Contains(err.Error(), "nothing to recover") {
			t.Errorf("of an empty node: %v", err)
		}
		if err := fsm.Restore(io.NopCloser(bytes.NewReader(snapshot))); err != nil {
			t.Fatal(err)
		}
		if got := fsm.Apply(entry); got.(Result).Err != nil || want.(Result).Err != nil {
			t.Errorf("the entry came to %+v, want %+v", got, want)
		}
		s, err := fsm.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		written := &sink{room: 1 << 20}
		if err := s.Persist(written); err != nil || !written.closed {
			t.Fatal(err)
		}
		got, err := ReadSnapshot(&written.Buffer)
		if err != nil {
			t.Fatal(err)
		}
		if got.Epoch != (ID{0xee}) || got.Revision != m.index || got.Level != level {
			t.Errorf("recovered to %+v", got)
		}
		got.Epoch = m.store.State().Epoch
		if got.Digest() != m.store.State().Digest() {
			t.Error("recovered to another state")
		}
	}
}
