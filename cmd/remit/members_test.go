package main

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

func withMembers(f *fakeNode) {
	f.cluster.members = []*clusterv1.Member{
		{Id: "id-a", Name: "a", Leader: true, Suffrage: "voter", RaftAddress: "a:2", GossipAddress: "a:3", HttpAddress: "a:0", GrpcAddress: "a:1", Version: "v1",
			SupportedLevel: 2, Level: 2, AppliedRevision: 120, AgeMs: 1500, Healthy: true, LogBytes: 3 << 20, FreeDiskBytes: 5 << 30, LastIndex: 125, SnapshotIndex: 90},
		{Id: "id-b", Name: "b", Suffrage: "voter", AgeMs: -1, Problems: []string{"not reached: connection refused"}},
		{Id: "id-c", Name: "c", Suffrage: "nonvoter", Version: "v0", AppliedRevision: 100, Lag: 20, AgeMs: -1, Problems: []string{"not ready", "the disk\nis nearly full"}},
	}
}

func TestMembers(t *testing.T) {
	f := startFake(t)
	withMembers(f)
	prints(t, `
NAME  ID    ROLE     HTTP  GRPC  VERSION  REVISION  LAG  AGE   HEALTH
a     id-a  leader   a:0   a:1   v1       120       0    1.5s  healthy
b     id-b  voter    -     -     -        -         -    -     not reached: connection refused
c     id-c  replica  -     -     v0       100       20   -     not ready; the disk is nearly full
`, "members")

	got := remit(t, "members", "-o", "json")
	var list []map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || len(list) != 3 {
		t.Fatalf("%v: %+v", err, got)
	}
	for key, want := range map[string]any{
		"id": "id-a", "name": "a", "leader": true, "suffrage": "voter", "raft_address": "a:2", "gossip_address": "a:3", "http_address": "a:0", "grpc_address": "a:1",
		"version": "v1", "level": 2.0, "supported_level": 2.0, "applied_revision": 120.0, "lag": 0.0, "freshness_ms": 1500.0, "healthy": true,
	} {
		if list[0][key] != want {
			t.Errorf("%s is %v, want %v", key, list[0][key], want)
		}
	}
	if problems, ok := list[0]["problems"].([]any); !ok || len(problems) != 0 || list[1]["healthy"] != false {
		t.Errorf("%v", list)
	}
	// Nothing is made up about a node that was not reached.
	for _, key := range []string{"lag", "freshness_ms", "free_disk_bytes", "log_bytes", "applied_revision", "level", "http_address"} {
		if value, there := list[1][key]; !there || value != nil {
			t.Errorf("%s of a node that was not reached is %v", key, value)
		}
	}
	if list[2]["freshness_ms"] != nil || list[2]["lag"] != 20.0 {
		t.Errorf("%v", list[2])
	}
	f.fail = status.Error(codes.PermissionDenied, "Permission denied: only operators of the cluster may call ClusterService/ListMembers")
	fails(t, `
remit: Permission denied: only operators of the cluster may call ClusterService/ListMembers
hint: remit whoami shows which key this is, and whether it is an operator
`, "members")
	f.fail = status.Error(codes.Unavailable, "this node belongs to no cluster yet: remit join makes it join one")
	fails(t, `
remit: this node belongs to no cluster yet: remit join makes it join one
hint: remit join HOST:PORT --addr `+f.addr+` makes it join the cluster that gossips there; --addr (REMIT_ADDR) names another node
`, "members")
}

func TestStatus(t *testing.T) {
	f := startFake(t)
	withMembers(f)
	prints(t, `
Node:       a (id-a)
Health:     healthy
Role:       leader
Version:    v1
Level:      2 of 2 that it supports
Revision:   120, 0 behind the newest
Age:        1.5s
HTTP:       a:0
gRPC:       a:1
Raft:       a:2
Gossip:     a:3
Log:        3.0 MiB to index 125, snapshot at 90
Disk free:  5.0 GiB
Leader:     this node
Members:    2 with a vote, 1 without
Cluster:    cluster
Epoch:      epoch
`, "status")
	got := remit(t, "status", "-o", "json")
	var answer struct {
		Node      struct{ ID string }
		LeaderID  string `json:"leader_id"`
		ClusterID string `json:"cluster_id"`
		Voters    int
	}
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || answer.Node.ID != "id-a" || answer.LeaderID != "id-a" || answer.ClusterID != "cluster" || answer.Voters != 2 {
		t.Errorf("%v, %+v: %+v", err, answer, got)
	}
}

func TestVerify(t *testing.T) {
	f := startFake(t)
	f.cluster.digests = &clusterv1.VerifyResponse{Revision: 9, Agree: true, Members: []*clusterv1.MemberDigest{{Id: "id-a", Name: "a", Digest: "01"}, {Id: "id-b", Name: "b", Digest: "01"}}}
	prints(t, `
NAME  ID    DIGEST  PROBLEM
a     id-a  01      -
b     id-b  01      -
all nodes agree at revision 9
`, "verify")
	f.cluster.digests.Agree, f.cluster.digests.Members[1].Digest, f.cluster.digests.Members[1].Problem = false, "", "the node cannot be reached"
	expect(t, outcome{exitDenied, trim(`
NAME  ID    DIGEST  PROBLEM
a     id-a  01      -
b     id-b  -       the node cannot be reached
the nodes do not agree, or not all were reached, at revision 9
`), ""}, "verify")
	if got := remit(t, "verify", "-o", "json"); got.code != exitDenied || !strings.Contains(got.stdout, `"agree": false`) {
		t.Errorf("%+v", got)
	}
}
