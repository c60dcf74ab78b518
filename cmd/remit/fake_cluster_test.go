package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	"github.com/remit-io/remit/server"

	"github.com/hashicorp/raft"
)

// fakeCluster is the cluster service of a fakeNode.
type fakeCluster struct {
	clusterv1.UnimplementedClusterServiceServer
	members   []*clusterv1.Member
	steps     []string // of Join and Leave
	failAfter error    // how a stream ends
	snapshot  []byte
	saving    func()       // called when a snapshot is saved, if set
	saved     atomic.Int64 // bytes of snapshots that went out
	digests   *clusterv1.VerifyResponse
	// A restore: what came, by request id, and how often each call's answer is lost.
	restored bytes.Buffer
	ids      map[string]bool
	lose     int
	sum      [32]byte
	// What its calls come to, if set.
	chunk, commit func(context.Context) error
}

func (f *fakeCluster) ListMembers(context.Context, *clusterv1.ListMembersRequest) (*clusterv1.ListMembersResponse, error) {
	return &clusterv1.ListMembersResponse{Members: f.members, ClusterId: "cluster"}, nil
}

func (f *fakeCluster) GetStatus(context.Context, *clusterv1.GetStatusRequest) (*clusterv1.GetStatusResponse, error) {
	return &clusterv1.GetStatusResponse{Node: f.members[0], ClusterId: "cluster", Epoch: "epoch", LeaderId: f.members[0].GetId(), Voters: 2, Nonvoters: 1}, nil
}

func (f *fakeCluster) Join(_ *clusterv1.JoinRequest, stream grpc.ServerStreamingServer[clusterv1.JoinResponse]) error {
	for i, step := range f.steps {
		if err := stream.Send(&clusterv1.JoinResponse{Step: step, AppliedRevision: uint64(i), TargetRevision: uint64(i) * 2}); err != nil {
			return err
		}
	}
	return f.failAfter
}

func (f *fakeCluster) Leave(_ *clusterv1.LeaveRequest, stream grpc.ServerStreamingServer[clusterv1.LeaveResponse]) error {
	for _, step := range f.steps {
		if err := stream.Send(&clusterv1.LeaveResponse{Step: step}); err != nil {
			return err
		}
	}
	return f.failAfter
}

func (f *fakeCluster) TransferLeadership(_ context.Context, r *clusterv1.TransferLeadershipRequest) (*clusterv1.TransferLeadershipResponse, error) {
	if r.GetNode() == "nope" {
		return nil, status.Error(codes.NotFound, `node "nope" is no member of the cluster: name one by its id or its name`)
	}
	return &clusterv1.TransferLeadershipResponse{LeaderId: "id-b", LeaderName: "b"}, nil
}

func (f *fakeCluster) Promote(context.Context, *clusterv1.PromoteRequest) (*clusterv1.PromoteResponse, error) {
	return &clusterv1.PromoteResponse{}, nil
}

func (f *fakeCluster) Demote(_ context.Context, r *clusterv1.DemoteRequest) (*clusterv1.DemoteResponse, error) {
	if !r.GetForce() {
		return nil, status.Error(codes.FailedPrecondition, "1 of 2 voters would be left: force it")
	}
	return &clusterv1.DemoteResponse{}, nil
}

func (f *fakeCluster) SaveSnapshot(_ *clusterv1.SaveSnapshotRequest, stream grpc.ServerStreamingServer[clusterv1.SaveSnapshotResponse]) error {
	if f.saving != nil {
		f.saving()
	}
	for piece := range bytes.Lines(f.snapshot) {
		if err := stream.Send(&clusterv1.SaveSnapshotResponse{Data: piece}); err != nil {
			return err
		}
		f.saved.Add(int64(len(piece)))
	}
	return f.failAfter
}

// once reports whether a request comes for the first time. Now and then it answers
// that nobody knows what came of it.
func (f *fakeCluster) once(ctx context.Context) (bool, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	id := fmt.Sprint(md.Get("remit-request-id"))
	if len(id) != 34 {
		return false, status.Errorf(codes.InvalidArgument, "request id %s", id)
	}
	first := !f.ids[id]
	f.ids[id] = true
	if first && f.lose > 0 {
		f.lose--
		return true, status.Error(codes.Unavailable, "the outcome of the write is unknown")
	}
	return first, nil
}

func (f *fakeCluster) BeginRestore(_ context.Context, r *clusterv1.BeginRestoreRequest) (*clusterv1.BeginRestoreResponse, error) {
	f.restored.Reset()
	f.ids = map[string]bool{}
	return &clusterv1.BeginRestoreResponse{RestoreId: fmt.Sprint("restore of ", r.GetSize()), ChunkBytes: 1000}, nil
}

func (f *fakeCluster) RestoreChunk(ctx context.Context, r *clusterv1.RestoreChunkRequest) (*clusterv1.RestoreChunkResponse, error) {
	if f.chunk != nil {
		return nil, f.chunk(ctx)
	}
	first, err := f.once(ctx)
	if first {
		if r.GetOffset() != uint64(f.restored.Len()) || r.GetRestoreId() != fmt.Sprint("restore of ", len(f.snapshot)) {
			return nil, status.Errorf(codes.FailedPrecondition, "a chunk at %d", r.GetOffset())
		}
		f.restored.Write(r.GetData())
	}
	return &clusterv1.RestoreChunkResponse{Received: uint64(f.restored.Len())}, err
}

func (f *fakeCluster) CommitRestore(ctx context.Context, r *clusterv1.CommitRestoreRequest) (*clusterv1.CommitRestoreResponse, error) {
	if f.commit != nil {
		return nil, f.commit(ctx)
	}
	_, err := f.once(ctx)
	f.sum = [32]byte(r.GetSha256())
	return &clusterv1.CommitRestoreResponse{Revision: 77, Epoch: "new-epoch"}, err
}

func (f *fakeCluster) Verify(context.Context, *clusterv1.VerifyRequest) (*clusterv1.VerifyResponse, error) {
	return f.digests, nil
}

// sampleSnapshot is a snapshot of a small cluster.
func sampleSnapshot(t *testing.T) []byte {
	t.Helper()
	store := fsm.NewStore(func(err error) { t.Error(err) })
	id := func(n byte) fsm.ID { return fsm.ID{n, 15: n} }
	put := func(index uint64, body fsm.Body) {
		t.Helper()
		data, err := (&fsm.Command{Envelope: fsm.Envelope{Request: server.NewID()}, Body: body}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if r := store.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: data}).(fsm.Result); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	put(3, &fsm.Init{Cluster: id(1), Epoch: id(2), CreateOrganisation: fsm.CreateOrganisation{
		Organisation: id(3), Name: "default", BuiltIn: id(4), Project: id(5), ProjectName: "production", Key: id(6), KeyName: "root", KeyHash: sha256.Sum256([]byte("secret")),
	}})
	scope := fsm.Scope{Organisation: id(3), Project: id(5)}
	for i := range byte(30) {
		put(uint64(4+i), &fsm.PutPermission{Scope: scope, ID: id(100 + i), Name: fmt.Sprint("p", i), Description: "one of many, to fill more than one piece"})
	}
	put(40, &fsm.Grant{Scope: scope, Principal: "anna", URI: "/a", Permissions: []fsm.ID{id(100)}})
	var b bytes.Buffer
	if err := store.State().WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
