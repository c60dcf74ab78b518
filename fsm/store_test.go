package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// withDeadline bounds a test that waits: it ends at once where all is well.
func withDeadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// waiting returns how many reads wait.
func (s *Store) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiters)
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 30 s still not: %s", what)
		}
	}
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestWaitReached(t *testing.T) {
	m := newMachine(t)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for revision := range uint64(2) {
		s, err := m.store.Wait(done, revision) // no need to wait
		if err != nil || s.Revision != 1 {
			t.Errorf("revision %d: %+v, %v", revision, s, err)
		}
	}
	got := make(chan error)
	go func() {
		s, err := m.store.Wait(withDeadline(t), 3)
		if err == nil && s.Revision < 3 {
			err = fmt.Errorf("the state is of revision %d", s.Revision)
		}
		got <- err
	}()
	until(t, "somebody waits", func() bool { return m.store.waiting() == 1 })
	m.must(&PutPermission{m.scope, readID, "doc.read", ""})
	if m.store.waiting() != 1 {
		t.Error("revision 2 woke who waits for 3")
	}
	m.must(&PutPermission{m.scope, writeID, "doc.write", ""})
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestWaitEnds(t *testing.T) {
	m := newMachine(t)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan error)
	go func() {
		_, err := m.store.Wait(ctx, 99)
		got <- err
	}()
	until(t, "somebody waits", func() bool { return m.store.waiting() == 1 })
	cancel()
	err := <-got
	if codeOf(err) != CodeUnavailable || !strings.Contains(err.Error(), "at revision 1 and did not reach 99") {
		t.Errorf("%v", err)
	}
	if n := m.store.waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// TestWaitOverARestore: revisions go on over a restore, and so do those who wait
// for one.
func TestWaitOverARestore(t *testing.T) {
	m := newMachine(t)
	got := make(chan error)
	for range 3 {
		go func() {
			state, err := m.store.Wait(withDeadline(t), 99)
			if err == nil && state.Epoch != (ID{9}) {
				err = fmt.Errorf("a state of epoch %v", state.Epoch)
			}
			got <- err
		}()
	}
	until(t, "all wait", func() bool { return m.store.waiting() == 3 })
	before := m.store.State()
	restored := *before
	restored.Epoch = ID{9}
	restored.Revision++
	m.store.publish(&restored)
	if n := m.store.waiting(); n != 3 {
		t.Errorf("%d wait after a restore at another revision", n)
	}
	// The state may be replaced between the look at it and the waiting.
	w, err := m.store.enlist(before, 99)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.reached:
	default:
		t.Error("who looked at a state before the last one waits without having seen that")
	}
	later := restored
	later.Revision = 99
	m.store.publish(&later)
	for range 3 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

func TestTooManyWait(t *testing.T) {
	m := newMachine(t)
	var all []*waiter
	for i := range maxWaiters {
		w, err := m.store.enlist(m.store.State(), uint64(100+i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	if _, err := m.store.Wait(withDeadline(t), 99); codeOf(err) != CodeUnavailable || !strings.Contains(err.Error(), fmt.Sprint(maxWaiters)) {
		t.Errorf("one more: %v", err)
	}
	if _, err := m.store.Wait(withDeadline(t), 1); err != nil {
		t.Errorf("one that need not wait: %v", err)
	}
	m.store.leave(all[7])
	if _, err := m.store.enlist(m.store.State(), 99); err != nil {
		t.Errorf("after one left: %v", err)
	}
	later := *m.store.State()
	later.Revision = 1 << 40
	m.store.publish(&later)
	for i, w := range all {
		select {
		case <-w.reached:
		default:
			if i != 7 {
				t.Fatalf("waiter %d was not woken", i)
			}
		}
	}
	m.store.leave(all[8]) // who was woken may leave too
	if n := m.store.waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// TestManyWait: many wait for many revisions, some give up, and nobody is woken
// early, late or never.
func TestManyWait(t *testing.T) {
	m := newMachine(t)
	const last = 400
	var readers sync.WaitGroup
	ctx := withDeadline(t)
	for i := range 600 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 20 {
				revision := 1 + r.Uint64N(last)
				ctx, cancel := ctx, func() {}
				if r.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(2000))*time.Microsecond)
				}
				s, err := m.store.Wait(ctx, revision)
				gaveUp := ctx.Err() != nil
				cancel()
				if err == nil && s.Revision < revision || err != nil && !gaveUp {
					t.Errorf("revision %d: %v", revision, err)
				}
			}
		})
	}
	for m.index < last {
		m.apply(&Sweep{m.scope, 1}, &PutPermission{m.scope, readID, "doc.read", fmt.Sprint(m.index)})
	}
	m.apply(&Sweep{m.scope, 1})
	readers.Wait()
	if n := m.store.waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// TestUnknownCommandHalts: a node that cannot apply a command must not go on to
// the next.
func TestUnknownCommandHalts(t *testing.T) {
	m := newMachine(t)
	before := m.store.State()
	var halted error
	m.store.halt = func(err error) { halted = err }
	good := m.log(byCluster(&PutPermission{m.scope, readID, "doc.read", ""}))
	for name, data := range map[string][]byte{"a later kind": seal([]byte{commandFormat, 200, 0x80}), "nothing": nil} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: apply went on", name)
				}
			}()
			m.store.ApplyBatch([]*raft.Log{good, {Index: 77, Type: raft.LogCommand, Data: data}})
		}()
		if halted == nil || !strings.Contains(halted.Error(), "revision 77") {
			t.Errorf("%s: halted with %v", name, halted)
		}
		if upgrade := data != nil; errors.Is(halted, ErrUpgrade) != upgrade {
			t.Errorf("%s: halted with %v", name, halted)
		}
	}
	if m.store.State() != before {
		t.Error("a state was published")
	}
}

func TestApplyOfNoCommands(t *testing.T) {
	m := newMachine(t)
	before := m.store.State()
	results := m.store.ApplyBatch([]*raft.Log{{Index: 2, Type: raft.LogConfiguration}, {Index: 3, Type: raft.LogConfiguration}})
	if len(results) != 2 || results[0] != nil || results[1] != nil || m.store.State() != before {
		t.Errorf("they came to %v and revision %d", results, m.store.Revision())
	}
	if r, ok := m.store.Apply(m.log(byCluster(&Sweep{m.scope, 1}))).(Result); !ok || r.Err != nil || m.store.Revision() != m.index {
		t.Errorf("a single command came to %+v and revision %d", r, m.store.Revision())
	}
}

// A sink is what raft gives a snapshot to be written to.
type sink struct {
	bytes.Buffer
	room              int
	closed, cancelled bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.Len()+len(p) > s.room {
		return 0, errFull
	}
	return s.Buffer.Write(p)
}
func (s *sink) ID() string    { return "snapshot" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.cancelled = true; return nil }

func TestSnapshotAndRestore(t *testing.T) {
	m := newFixture(t)
	snapshot, err := m.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := m.store.State()
	m.must(&DeletePermission{m.scope, readID}) // does not show in the snapshot
	full := &sink{room: 100}
	if err := snapshot.Persist(full); !errors.Is(err, errFull) || !full.cancelled || full.closed {
		t.Errorf("on a full disk: %v, cancelled %v, closed %v", err, full.cancelled, full.closed)
	}
	written := &sink{room: 1 << 20}
	if err := snapshot.Persist(written); err != nil || written.cancelled || !written.closed {
		t.Fatalf("%v, cancelled %v, closed %v", err, written.cancelled, written.closed)
	}
	snapshot.Release()

	other := newMachine(t)
	before := other.store.State()
	data := written.Bytes()
	if err := other.store.Restore(io.NopCloser(bytes.NewReader(data[:len(data)-1]))); err == nil || other.store.State() != before {
		t.Errorf("a snapshot that is cut off: %v", err)
	}
	got := make(chan error)
	go func() {
		_, err := other.store.Wait(withDeadline(t), want.Revision)
		got <- err
	}()
	until(t, "somebody waits", func() bool { return other.store.waiting() == 1 })
	if err := other.store.Restore(io.NopCloser(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("who waited for the snapshot's revision: %v", err)
	}
	if s := other.store.State(); s.Digest() != want.Digest() || s.Revision != want.Revision {
		t.Errorf("restored to revision %d", s.Revision)
	}
}
