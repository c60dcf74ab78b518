package cluster

import (
	"context"
	"io"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// A snapshot that comes late changes nothing: neither the state nor the configuration
// goes back to it, and what follows is taken as before.
func TestOldSnapshotIsNotInstalled(t *testing.T) {
	c := startCluster(t, 3, func(cfg *Config) { cfg.TrailingLogs = 2 })
	leader, follower := c.leader(), c.follower()
	c.waitApplied(mustApply(t, leader.Node, "before"))
	if err := leader.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	taken, err := leader.snapshots.List()
	if err != nil || len(taken) != 1 {
		t.Fatal(taken, err)
	}
	other := c.others(leader)[0]
	if other == follower {
		other = c.others(leader)[1]
	}
	send := func() {
		t.Helper()
		meta, content, err := leader.snapshots.Open(taken[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		term, _ := leader.leaderTerm()
		address := leader.transport.EncodePeer(leader.serverID(), raft.ServerAddress(leader.ID()))
		request := &raft.InstallSnapshotRequest{
			RPCHeader:       raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader.ID()), Addr: address},
			SnapshotVersion: meta.Version, Term: term, Leader: address, LastLogIndex: meta.Index, LastLogTerm: meta.Term,
			Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex, Size: meta.Size,
		}
		var response raft.InstallSnapshotResponse
		err = leader.transport.InstallSnapshot(follower.serverID(), raft.ServerAddress(follower.ID()), request, &response, io.LimitReader(content, meta.Size))
		if err != nil || !response.Success {
			t.Errorf("the old snapshot: %+v, %v", response, err)
		}
	}
	holds := func(what string) {
		t.Helper()
		want, err := leader.configuration()
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, what+": the same members", func() bool {
			got, err := follower.configuration()
			return err == nil && reflect.DeepEqual(got, want)
		})
		if got, want := follower.fsm.list(), leader.fsm.list(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the follower has %q, the leader %q", what, got, want)
		}
	}
	// Only the members have changed since: the state is the same, and yet it is old.
	if err := leader.Demote(t.Context(), other.ID(), false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the follower knows", func() bool { return follower.raft.AppliedIndex() >= leader.raft.LastIndex() })
	send()
	holds("after a change of members")
	c.waitApplied(mustApply(t, leader.Node, "after"))
	send()
	holds("after a write")
	c.waitApplied(mustApply(t, leader.Node, "at the end"))
	holds("at the end")
}

// An old leader may have entries, which nobody else has, beyond a snapshot that it is
// sent. It takes what follows the snapshot in their place, and is sent no second one.
func TestEntriesOfAnOldLeaderBeyondASnapshot(t *testing.T) {
	c := startCluster(t, 3, func(cfg *Config) { cfg.TrailingLogs = 1 })
	old := c.leader()
	c.waitApplied(mustApply(t, old.Node, "before"))
	c.cut(old)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	const more = 50
	for range more {
		waiting.Go(func() { _, _, _ = old.Apply(ctx, []byte("lost")) }) // nobody hears of them
	}
	base := old.fsm.Revision()
	waitFor(t, "the old leader has entries of its own", func() bool { return old.raft.LastIndex() >= base+more })
	waitFor(t, "it leads no more", func() bool { return old.raft.State() != raft.Leader })
	cancel()

	leader := c.leader()
	for range 5 {
		mustApply(t, leader.Node, "after")
	}
	if err := leader.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	first, err := leader.store.FirstIndex()
	if err != nil || first <= base+1 || leader.snapshots.newest().index >= old.raft.LastIndex() {
		t.Fatalf("the log begins with %d, the snapshot is of %d, and the old leader has %d to %d: %v", first, leader.snapshots.newest().index, base, old.raft.LastIndex(), err)
	}
	var restores atomic.Int32
	old.fsm.mu.Lock()
	old.fsm.restoring = func() { restores.Add(1) }
	old.fsm.mu.Unlock()
	c.heal(old)
	c.waitApplied(mustApply(t, leader.Node, "at the end"))
	if got, want := old.fsm.list(), leader.fsm.list(); !reflect.DeepEqual(got, want) {
		t.Errorf("the old leader has %q, the new one %q", got, want)
	}
	if got := restores.Load(); got != 1 {
		t.Errorf("%d snapshots were loaded, want one", got)
	}
}
