package server

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// ends says how often the leader said that it ended a restore.
func (n *node) ends() int { return strings.Count(n.logged.String(), "a restore made no progress") }

// A restore that stands still is ended by the leader, which counts from the last that
// came of it.
func TestBrokenOffRestoreEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newNode(t).run().localDoor()
		begun, err := d.operate().BeginRestore(d.ctx, &clusterv1.BeginRestoreRequest{Size: 10})
		if err != nil {
			t.Fatal(err)
		}
		chunk := func(offset uint64) error {
			_, err := d.operate().RestoreChunk(d.ctx, &clusterv1.RestoreChunkRequest{RestoreId: begun.RestoreId, Offset: offset, Data: []byte{1}})
			return err
		}
		for offset := range uint64(3) {
			time.Sleep(RestoreIdle - restoreInterval)
			if err := chunk(offset); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(RestoreIdle - restoreInterval)
		if !d.restoring() || d.ends() != 0 {
			t.Error("a restore that goes on is ended")
		}
		time.Sleep(2 * restoreInterval)
		if d.restoring() || d.ends() != 1 {
			t.Errorf("one that stands still is not ended, or said to be %d times", d.ends())
		}
		all := d.commits()
		if len(all) != 1 || all[0].Envelope.Key != (fsm.ID{}) || all[0].Body.(*fsm.CommitRestore).SHA256 != [32]byte{} {
			t.Errorf("it took %+v", all)
		}
		wantCode(t, chunk(3), codes.FailedPrecondition, "its restore has ended")
		time.Sleep(time.Hour)
		if d.ends() != 1 || len(d.commits()) != 1 {
			t.Error("it is ended again")
		}
	})
}

// Only a node that leads ends restores, and counts from when it began to.
func TestOnlyTheLeaderEndsRestores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t).run()
		n.log.put(t, &fsm.BeginRestore{ID: NewID(), Size: 10})
		time.Sleep(RestoreIdle - restoreInterval)
		n.log.hook(func(l *memoryLog) {
			l.onLeader = func() (grpc.ClientConnInterface, bool, error) { return nil, false, nil }
		})
		time.Sleep(time.Hour)
		if !n.restoring() || len(n.commits()) != 0 {
			t.Error("a node that does not lead ends a restore")
		}
		n.log.hook(func(l *memoryLog) { l.onLeader = nil })
		time.Sleep(RestoreIdle - restoreInterval)
		if !n.restoring() {
			t.Error("it counts from before it led")
		}
		// What does not get into the log is tried again.
		n.log.hook(func(l *memoryLog) { l.before = failing(2, ErrNotApplied) })
		time.Sleep(2 * restoreInterval)
		if !n.restoring() || n.ends() != 0 {
			t.Error("it is ended by what did not get into the log")
		}
		time.Sleep(2 * restoreInterval)
		if n.restoring() || n.ends() != 1 {
			t.Errorf("it is given up, or said to be ended %d times", n.ends())
		}
	})
}

// A whole backup that nobody commits is ended too, but not while it is read, which
// may take longer.
func TestRestoreStandsWhileItIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := unread(t)
		d := n.run().localDoor()
		d.begin(d.snapshot(), fsm.MaxChunkBytes)
		store.hide(t)
		time.Sleep(time.Hour)
		if !d.restoring() || len(d.commits()) != 0 {
			t.Error("it is ended while it is read")
		}
		store.unread.Store(nil)
		time.Sleep(RestoreIdle - restoreInterval)
		if !d.restoring() {
			t.Error("it is ended too early")
		}
		time.Sleep(2 * restoreInterval)
		if d.restoring() || d.ends() != 1 {
			t.Errorf("it is not ended, or said to be %d times", d.ends())
		}
	})
}

// A restore that is committed at the last moment was not ended.
func TestRestoreCommittedAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newNode(t).run().localDoor()
		snapshot := d.snapshot()
		id := d.begin(snapshot, fsm.MaxChunkBytes)
		committing := false
		d.log.hook(func(l *memoryLog) {
			l.before = func(_ context.Context, kind fsm.Kind) error {
				if kind == fsm.KindCommitRestore && !committing {
					committing = true
					if _, err := d.commit(id, snapshot); err != nil {
						t.Error(err)
					}
				}
				return nil
			}
		})
		time.Sleep(RestoreIdle + 2*restoreInterval)
		if d.restoring() || d.ends() != 0 || len(d.commits()) != 2 {
			t.Errorf("%d commits, and it is said to be ended %d times", len(d.commits()), d.ends())
		}
	})
}
