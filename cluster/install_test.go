package cluster

import (
	"io"
	"reflect"
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
