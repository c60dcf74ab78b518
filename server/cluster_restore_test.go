package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// save returns a snapshot of the node.
func (d *door) save() []byte {
	d.t.Helper()
	pieces, err := all(d.operate().SaveSnapshot(d.ctx, &clusterv1.SaveSnapshotRequest{}))
	if err != nil {
		d.t.Fatal(err)
	}
	var whole bytes.Buffer
	for _, piece := range pieces {
		whole.Write(piece.Data)
	}
	return whole.Bytes()
}

// begin begins a restore and sends the snapshot in pieces.
func (d *door) begin(snapshot []byte, piece int) string {
	d.t.Helper()
	begun, err := d.operate().BeginRestore(d.ctx, &clusterv1.BeginRestoreRequest{Size: uint64(len(snapshot))})
	if err != nil {
		d.t.Fatal(err)
	}
	if begun.ChunkBytes != fsm.MaxChunkBytes {
		d.t.Errorf("pieces of %d bytes", begun.ChunkBytes)
	}
	for at := 0; at < len(snapshot); at += piece {
		data := snapshot[at:min(at+piece, len(snapshot))]
		for range 2 { // a repetition changes nothing
			got, err := d.operate().RestoreChunk(d.ctx, &clusterv1.RestoreChunkRequest{RestoreId: begun.RestoreId, Offset: uint64(at), Data: data})
			if err != nil || got.Received != uint64(at+len(data)) {
				d.t.Fatalf("piece at %d: %v, %v", at, got, err)
			}
		}
	}
	return begun.RestoreId
}

func (d *door) commit(id string, snapshot []byte) (*clusterv1.CommitRestoreResponse, error) {
	sum := sha256.Sum256(snapshot)
	return d.operate().CommitRestore(d.ctx, &clusterv1.CommitRestoreRequest{RestoreId: id, Sha256: sum[:]})
}

// A restore brings back what was, under a new epoch, and what came later is gone.
func TestRestore(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d.sample()
	snapshot := d.save()
	saved := d.store.State()
	d.revoke("anna", "/a", []string{"read"}, nil)
	token := d.grant("bob", "/later", []string{"read"}, nil)
	later := d.key(project, "")

	id := d.begin(snapshot, 1000)
	if !d.allowed("bob", "/later", "read") {
		t.Error("the restore changed something before its end")
	}
	done, err := d.commit(id, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	state := d.store.State()
	if done.Revision != state.Revision || done.Epoch != state.Epoch.String() || state.Epoch == saved.Epoch {
		t.Errorf("answered %v in epoch %s at revision %d", done, state.Epoch, state.Revision)
	}
	if d.allowed("bob", "/later", "read") || !d.allowed("anna", "/a", "read") {
		t.Error("the state is not the one saved")
	}
	d.refuse(t, later.ctx, checkRequest("anna", "/a", "read"), codes.Unauthenticated, "not valid")
	req := checkRequest("anna", "/a", "read")
	req.Token = token
	d.refuse(t, d.ctx, req, codes.InvalidArgument, "from before the cluster's data was restored")
	_, err = d.commit(id, snapshot)
	wantCode(t, err, codes.FailedPrecondition, "begin again")
}

func checkRequest(principal, uri, permission string) *permissionsv1.CheckPermissionRequest {
	return &permissionsv1.CheckPermissionRequest{ProjectName: project, PrincipalId: principal, ResourceUris: []string{uri}, Permissions: []string{permission}}
}

func TestRestoreRefused(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d.sample()
	snapshot := d.save()
	before := d.store.State().Backup().Digest()
	c := d.operate()
	_, err := c.RestoreChunk(d.ctx, &clusterv1.RestoreChunkRequest{RestoreId: "x", Data: []byte{1}})
	wantCode(t, err, codes.InvalidArgument, `"x"`, "BeginRestore answers one")
	_, err = c.RestoreChunk(d.ctx, &clusterv1.RestoreChunkRequest{RestoreId: someID, Data: []byte{1}})
	wantCode(t, err, codes.FailedPrecondition, someID)
	_, err = c.BeginRestore(d.ctx, &clusterv1.BeginRestoreRequest{})
	wantCode(t, err, codes.InvalidArgument, "0 bytes")
	id := d.begin(snapshot, 700)
	_, err = c.CommitRestore(d.ctx, &clusterv1.CommitRestoreRequest{RestoreId: id, Sha256: []byte("short")})
	wantCode(t, err, codes.InvalidArgument, "SHA-256 of 5 bytes")
	_, err = d.commit(id, append(bytes.Clone(snapshot), 0))
	wantCode(t, err, codes.InvalidArgument, "SHA-256")
	damaged := bytes.Clone(snapshot)
	damaged[len(damaged)/2] ^= 1
	_, err = d.commit(d.begin(damaged, 700), damaged)
	wantCode(t, err, codes.InvalidArgument, "damaged")
	if d.store.State().Backup().Digest() != before {
		t.Error("a restore that was refused changed the state")
	}
}

// A restore that is begun again under the same request is the same restore.
func TestRestoreIsNamedByItsRequest(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	ctx := withKey(t.Context(), metadataRequestID, strings.Repeat("ab", 16))
	var ids []string
	for range 2 {
		begun, err := d.operate().BeginRestore(ctx, &clusterv1.BeginRestoreRequest{Size: 10})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, begun.RestoreId)
	}
	if restoring, _, _, ok := d.store.State().Restoring(); !ok || ids[0] != ids[1] || restoring.String() != ids[0] {
		t.Errorf("restores %q, the state's is %s", ids, restoring)
	}
}

// snapshot returns a backup of the node.
func (n *node) snapshot() []byte {
	n.t.Helper()
	var b bytes.Buffer
	if err := n.store.State().Backup().WriteSnapshot(&b); err != nil {
		n.t.Fatal(err)
	}
	return b.Bytes()
}

func (n *node) restoring() bool {
	synctest.Wait()
	_, _, _, ok := n.store.State().Restoring()
	return ok
}

// commits are the commands that end a restore.
func (n *node) commits() (all []*fsm.Command) {
	for _, c := range n.log.commands(n.t) {
		if _, ok := c.Body.(*fsm.CommitRestore); ok {
			all = append(all, c)
		}
	}
	return all
}

// An unreadStore shows, while there is one, a state whose backup nobody has begun to
// read, as if that took for ever.
type unreadStore struct {
	*fsm.Store
	unread atomic.Pointer[fsm.State]
}

func (s *unreadStore) State() *fsm.State {
	if state := s.unread.Load(); state != nil {
		return state
	}
	return s.Store.State()
}

// hide makes the newest state such a one.
func (s *unreadStore) hide(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	if err := s.Store.State().WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	state, err := fsm.ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	s.unread.Store(state)
}

// unread is a node whose backups can be hidden.
func unread(t *testing.T) (*node, *unreadStore) {
	n := newNode(t)
	store := &unreadStore{Store: n.store}
	n.server.store = store
	return n, store
}

// A commit waits for the backup to be read for as long as a write may take, and then
// says that it certainly did nothing. Nothing else keeps it: a node that ends waits
// for its calls.
func TestCommitWaitsForTheReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := unread(t)
		d := n.ready().localDoor()
		snapshot := d.snapshot()
		id := d.begin(snapshot, fsm.MaxChunkBytes)
		sum := &clusterv1.CommitRestoreRequest{RestoreId: id, Sha256: make([]byte, 32)}
		store.hide(t)
		took := func(want time.Duration, call func() error) error {
			t.Helper()
			start := time.Now()
			err := call()
			if took := time.Since(start); took != want {
				t.Errorf("it took %v, want %v", took, want)
			}
			return err
		}
		err := took(writeTimeout, func() error {
			_, err := d.commit(id, snapshot)
			return err
		})
		wantCode(t, err, codes.Unavailable, "the write was not applied: "+StillReading+"; retry")
		ctx, cancel := context.WithCancel(d.ctx)
		time.AfterFunc(time.Second, cancel)
		err = took(time.Second, func() error {
			_, err := d.operate().CommitRestore(ctx, sum)
			return err
		})
		wantCode(t, err, codes.Unavailable, StillReading)

		// The node that passed it on hears so before it gives up.
		passed := NewLocal(d.server.NodeInterceptor)
		d.server.Register(passed)
		ctx, cancel = context.WithTimeout(withKey(t.Context(), metadataForwarded, "1", metadataSeed, hex.EncodeToString(make([]byte, len(seed{})))), attemptTimeout)
		defer cancel()
		var trailer metadata.MD
		err = took(attemptTimeout-answerTime, func() error {
			_, err := clusterv1.NewClusterServiceClient(passed).CommitRestore(ctx, sum, grpc.Trailer(&trailer))
			return err
		})
		wantCode(t, err, codes.Unavailable, StillReading)
		wantStrings(t, "the outcome", trailer.Get(metadataOutcome), outcomeNotApplied)
		if len(d.commits()) != 0 {
			t.Error("something got into the log")
		}

		// As soon as it is read, it goes on.
		hidden := store.State()
		time.AfterFunc(time.Second, func() {
			store.unread.Store(nil)
			staged, _, _, _ := hidden.Restoring()
			hidden.Refuses(&fsm.Command{Body: &fsm.CommitRestore{ID: staged, Epoch: NewID()}}) // reads it
		})
		err = took(time.Second, func() error {
			_, err := d.commit(id, snapshot)
			return err
		})
		if err != nil || d.restoring() {
			t.Errorf("it comes to %v", err)
		}
	})
}

func TestVerify(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d.sample()
	verify := func() *clusterv1.VerifyResponse {
		t.Helper()
		got, err := d.operate().Verify(d.ctx, &clusterv1.VerifyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	same := d.server.Digest
	another := func(context.Context, uint64) ([]byte, error) { return []byte("another"), nil }
	absent := func(context.Context, uint64) ([]byte, error) {
		return nil, fmt.Errorf("%w: connection refused", ErrUnreachable)
	}
	answer := func(b, c func(context.Context, uint64) ([]byte, error)) {
		d.cluster.digest = func(ctx context.Context, id string, revision uint64) ([]byte, error) {
			return map[string]func(context.Context, uint64) ([]byte, error){idB: b, idC: c}[id](ctx, revision)
		}
	}
	answer(same, same)
	got := verify()
	sum := d.store.State().Digest()
	if !got.Agree || got.Revision != d.store.State().Revision || len(got.Members) != 3 || d.log.last(t).Body.(*fsm.Checkpoint) == nil {
		t.Errorf("%v", got)
	}
	for _, m := range got.Members {
		if m.Digest != hex.EncodeToString(sum[:]) || m.Problem != "" {
			t.Errorf("%v", m)
		}
	}
	answer(another, same)
	if got := verify(); got.Agree || got.Members[1].Digest != hex.EncodeToString([]byte("another")) {
		t.Errorf("a node with another state: %v", got)
	}
	answer(same, absent)
	if got := verify(); got.Agree || got.Members[2].Digest != "" || !strings.Contains(got.Members[2].Problem, "connection refused") {
		t.Errorf("a node that is not there: %v", got)
	}

	// Nobody can ask for what was never a checkpoint.
	_, err := d.server.Digest(t.Context(), 1)
	wantCode(t, err, codes.FailedPrecondition, "does not keep the checkpoint of revision 1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.server.Digest(ctx, 1<<40)
	wantCode(t, err, codes.Unavailable)
}
