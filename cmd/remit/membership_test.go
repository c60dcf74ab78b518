package main

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

func TestJoinCommand(t *testing.T) {
	f := startFake(t)
	f.cluster.steps = []string{"found the cluster", "catching up", "catching up", "member of the cluster"}
	expect(t, outcome{exitOK, "the node at " + f.addr + " has joined the cluster at there:7603\n", trim(`
found the cluster
catching up (revision 1 of 2)
catching up (revision 2 of 4)
member of the cluster (revision 3 of 6)
`)}, "join", "there:7603")
	if got := last[*clusterv1.JoinRequest](t, f); got.GetAddress() != "there:7603" {
		t.Errorf("sent %v", got)
	}
	f.cluster.steps = f.cluster.steps[:1]
	expect(t, outcome{exitOK, "{\n  \"step\": \"found the cluster\",\n  \"applied_revision\": 0,\n  \"target_revision\": 0\n}\n", "found the cluster\n"},
		"join", "there:7603", "-o", "json")

	f.cluster.failAfter = status.Error(codes.PermissionDenied, "Permission denied: only operators of the cluster may call ClusterService/AddMember")
	expect(t, outcome{exitError, "", trim(`
found the cluster
remit: Permission denied: only operators of the cluster may call ClusterService/AddMember
hint: REMIT_KEY (or --key) has to be an operator's key of the cluster at there:7603
`)}, "join", "there:7603")
	f.cluster.steps, f.cluster.failAfter = nil, status.Error(codes.FailedPrecondition, "this node belongs to a cluster already: wipe it")
	fails(t, "remit: this node belongs to a cluster already: wipe it\n", "join", "there:7603")
	fails(t, "remit: ADDR is missing\nhint: remit join --help shows how\n", "join")
}

func TestLeaveCommand(t *testing.T) {
	f := startFake(t)
	f.cluster.steps = []string{"drained", "removed"}
	expect(t, outcome{exitOK, "the node at " + f.addr + " has left the cluster\n", "drained\nremoved\n"}, "leave")
	if got := last[*clusterv1.LeaveRequest](t, f); got.GetNode() != "" || got.GetForce() {
		t.Errorf("sent %v", got)
	}
	expect(t, outcome{exitOK, "b has left the cluster\n", "drained\nremoved\n"}, "leave", "b", "--force")
	if got := last[*clusterv1.LeaveRequest](t, f); got.GetNode() != "b" || !got.GetForce() {
		t.Errorf("sent %v", got)
	}
	f.cluster.steps, f.cluster.failAfter = nil, status.Error(codes.FailedPrecondition, "1 of 2 voters would be left: force it")
	fails(t, "remit: 1 of 2 voters would be left: force it\nhint: remit members shows who is there; --force does it all the same\n", "leave", "b")
	fails(t, "remit: 1 of 2 voters would be left: force it\n", "leave", "b", "--force")
	f.cluster.failAfter = status.Error(codes.Unavailable, "there is no leader to remove node b")
	fails(t, "remit: there is no leader to remove node b\nhint: remit members shows who is there: bring back a majority of the voters; if they are lost for good, see remit recover --help\n", "leave", "b")
	fails(t, "remit: unexpected argument \"c\"\nhint: remit leave --help shows how\n", "leave", "b", "c")
}

func TestVotes(t *testing.T) {
	f := startFake(t)
	prints(t, "b leads (id-b)\n", "transfer-leadership")
	prints(t, "{\n  \"leader_id\": \"id-b\",\n  \"leader_name\": \"b\"\n}\n", "transfer-leadership", "b", "-o", "json")
	if got := last[*clusterv1.TransferLeadershipRequest](t, f); got.GetNode() != "b" {
		t.Errorf("sent %v", got)
	}
	fails(t, "remit: node \"nope\" is no member of the cluster: name one by its id or its name\nhint: remit members shows what there is\n", "transfer-leadership", "nope")
	prints(t, "b is a voter\n", "promote", "b")
	fails(t, "remit: 1 of 2 voters would be left: force it\nhint: remit members shows who is there; --force does it all the same\n", "demote", "b")
	prints(t, "b is a replica\n", "demote", "b", "--force")
	prints(t, "{}\n", "demote", "b", "--force", "-o", "json")
}

// What may take long waits for as long as it takes, unless told otherwise, and a
// signal ends it.
func TestPatience(t *testing.T) {
	f := startFake(t)
	f.hang = make(chan struct{})
	fails(t, "remit: no answer from "+f.addr+" within 50ms\nhint: --timeout (REMIT_TIMEOUT) waits longer; a change may have been made all the same\n", "leave", "--timeout", "50ms")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan outcome)
	go func() { ended <- remitContext(ctx, "join", "there:7603") }()
	<-f.hang
	cancel()
	if got := <-ended; got.code != exitError || got.stderr != "remit: interrupted\n" {
		t.Errorf("%+v", got)
	}
	fails(t, "remit: --timeout -1s: must be more than 0\nhint: remit leave --help shows how\n", "leave", "--timeout", "-1s")
	fails(t, "remit: --timeout 0s: must be more than 0\nhint: remit members --help shows how\n", "members", "--timeout", "0s")
}
