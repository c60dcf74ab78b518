package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A key that another node created a moment ago is good on each node.
func TestNewKeyOnAFollower(t *testing.T) {
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		w := newWorld(d)
		direct := f.leader.localDoor()
		f.replica.hold()
		created := do(direct, direct.CreateAPIKey, keyRequest(w.org(), project)).ApiKey
		k := w.caller(created)
		f.log.hook(func(l *memoryLog) {
			l.onRead = func(context.Context) (uint64, error) {
				f.replica.release()
				return f.leader.store.State().Revision, nil
			}
		})
		// By the headers alone, and with the message.
		if _, err := w.call(k.ctx, reads()[7]); err != nil {
			t.Errorf("a check with the new key: %v", err)
		}
		f.replica.hold()
		again := do(direct, direct.CreateAPIKey, keyRequest(w.org(), project)).ApiKey
		_, err := w.call(w.caller(again).ctx, writes()[0])
		wantCode(t, err, codes.PermissionDenied) // it is known
	})
}

// A key that another node created is not called invalid by a node that cannot ask
// for it: the caller may try again, and succeeds.
func TestNewKeyWithoutALeader(t *testing.T) {
	everyFollower(t, func(t *testing.T, f *follower, d *door) {
		w := newWorld(d)
		direct := f.leader.localDoor()
		f.replica.hold()
		k := w.caller(do(direct, direct.CreateAPIKey, keyRequest(w.org(), project)).ApiKey)
		f.log.hook(func(l *memoryLog) {
			l.onRead = func(context.Context) (uint64, error) { return 0, errors.New("no leader is known") }
		})
		for _, req := range []proto.Message{reads()[7], writes()[0]} {
			d.refuse(t, k.ctx, req, codes.Unavailable, "it cannot be confirmed now whether the API key is valid: ", "no leader is known; retry")
		}
		d.refuse(t, t.Context(), reads()[7], codes.Unauthenticated, "no API key")
		f.log.hook(func(l *memoryLog) { l.onRead = nil })
		f.replica.release()
		if _, err := w.call(k.ctx, reads()[7]); err != nil {
			t.Errorf("once there is a leader: %v", err)
		}
		d.refuse(t, withSecret(t.Context(), "remit_unknown"), reads()[7], codes.Unauthenticated, "not valid")
	})
}

// A stranger's key is looked for once, for a while, and by some at a time.
func TestStrangersAreBounded(t *testing.T) {
	unknown := func(i int) context.Context { return withSecret(context.Background(), fmt.Sprint("remit_unknown", i)) }
	check := reads()[7]
	t.Run("rounds", func(t *testing.T) {
		for _, service := range []string{serviceName, "REST"} {
			f := newFollower(t)
			d := f.door(service)
			d.sample()
			if rounds := f.roundsOf(func() { d.refuse(t, unknown(0), check, codes.Unauthenticated) }); rounds != 1 {
				t.Errorf("%s: %d rounds", service, rounds)
			}
		}
	})
	t.Run("time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t).ready()
			d := n.localDoor()
			d.sample()
			n.log.hook(func(l *memoryLog) {
				l.onRead = func(ctx context.Context) (uint64, error) {
					<-ctx.Done()
					return 0, ctx.Err()
				}
			})
			var all sync.WaitGroup
			start := time.Now()
			for i := range maxStrangers {
				all.Go(func() {
					d.refuse(t, unknown(i), check, codes.Unavailable, "cannot be confirmed", "did not confirm a read")
				})
			}
			synctest.Wait()
			if len(n.server.strangers) != maxStrangers {
				t.Errorf("%d wait", len(n.server.strangers))
			}
			d.refuse(t, unknown(maxStrangers), check, codes.Unavailable, "cannot be confirmed", "are under way")
			if took := time.Since(start); took != 0 {
				t.Errorf("one more was answered after %v", took)
			}
			if !d.allowed("anna", "/a", "read") {
				t.Error("who is known waits for strangers")
			}
			all.Wait()
			if took := time.Since(start); took != strangerTimeout || len(n.server.strangers) != 0 {
				t.Errorf("answered after %v; %d places are taken", took, len(n.server.strangers))
			}
		})
	})
	t.Run("places", func(t *testing.T) {
		n := newNode(t).ready()
		d := n.door(serviceName)
		d.sample()
		for i := range 3 * maxStrangers {
			d.refuse(t, unknown(i), check, codes.Unauthenticated)
		}
		await(t, "every place is free", func() bool { return len(n.server.strangers) == 0 })
		// What a stranger would send is not waited for.
		stream, err := d.conn.NewStream(unknown(0), &grpc.StreamDesc{ClientStreams: true}, checkMethod)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, stream.RecvMsg(&permissionsv1.CheckPermissionResponse{}), codes.Unauthenticated)
		// Where there is no place left, others are answered at once.
		for range maxStrangers {
			n.server.strangers <- struct{}{}
		}
		if rounds := n.roundsOf(func() { d.refuse(t, unknown(1), check, codes.Unavailable, "cannot be confirmed", "are under way") }); rounds != 0 {
			t.Errorf("%d rounds for one stranger too many", rounds)
		}
		if !d.allowed("anna", "/a", "read") {
			t.Error("denied")
		}
	})
}

// A call is judged at the state that it reads: a right that was given before
// counts, and one that ended before does not.
func TestReadsAreJudgedAtWhatTheyRead(t *testing.T) {
	modes := map[string]func(f *follower, req proto.Message) proto.Message{
		"fully consistent": func(_ *follower, req proto.Message) proto.Message { return with(req, "consistency", fullyConsistent) },
		"at least as fresh": func(f *follower, req proto.Message) proto.Message {
			state := f.leader.store.State()
			return with(req, "token", token{state.Cluster, state.Epoch, state.Revision}.String())
		},
	}
	for name, mode := range modes {
		for _, service := range []string{serviceName, "REST"} {
			f := newFollower(t)
			w := newWorld(f.door(service))
			k := w.key(project, "")
			list := &permissionsv1.ListPermissionsRequest{ProjectName: project}
			permission, _ := w.builtIn().Permission("permission.list")
			scope := w.builtIn().scope()
			caughtUp := func() {
				f.log.hook(func(l *memoryLog) {
					l.onRead = func(context.Context) (uint64, error) {
						f.replica.release()
						return f.leader.store.State().Revision, nil
					}
				})
			}
			caughtUp()
			f.replica.hold()
			f.log.put(t, &fsm.Grant{Scope: scope, Principal: k.principal, URI: w.uri(""), Permissions: []fsm.ID{permission.ID}})
			if _, err := w.call(k.ctx, list); err == nil {
				t.Errorf("%s: a right that this node does not know", service)
			}
			if _, err := w.call(k.ctx, mode(f, list)); err != nil {
				t.Errorf("%s, %s: a right that was given before: %v", name, service, err)
			}
			f.replica.hold()
			f.log.put(t, &fsm.Revoke{Scope: scope, Principal: k.principal, URI: w.uri(""), Permissions: []fsm.ID{permission.ID}})
			_, err := w.call(k.ctx, mode(f, list))
			wantCode(t, err, codes.PermissionDenied, "permission.list")

			f.replica.hold()
			f.log.put(t, &fsm.InvalidateKey{Scope: w.scope(), ID: k.id})
			_, err = w.call(k.ctx, mode(f, reads()[7]))
			wantCode(t, err, codes.Unauthenticated)
		}
	}
}

// A restore gives the state another epoch while reads wait. Tokens of before are
// refused, and nothing else is.
func TestEpochChangesWhileReadsWait(t *testing.T) {
	f := newFollower(t)
	d := f.localDoor()
	d.sample()
	old := f.leader.store.State()
	restore := func() {
		var backup bytes.Buffer
		if err := f.leader.store.State().WriteSnapshot(&backup); err != nil {
			t.Fatal(err)
		}
		id := NewID()
		f.log.put(t, &fsm.BeginRestore{ID: id, Size: uint64(backup.Len())})
		f.log.put(t, &fsm.RestoreChunk{ID: id, Data: backup.Bytes()})
		f.log.put(t, &fsm.CommitRestore{ID: id, SHA256: sha256.Sum256(backup.Bytes()), Epoch: NewID()})
	}
	during := func(then func()) {
		f.log.hook(func(l *memoryLog) {
			l.onRead = func(context.Context) (uint64, error) {
				then()
				return f.leader.store.State().Revision, nil
			}
		})
	}
	during(restore)
	if _, err := d.call(d.ctx, with(reads()[7], "consistency", fullyConsistent)); err != nil {
		t.Errorf("fully consistent over a restore: %v", err)
	}
	if err := f.server.fresh.round(t.Context(), f.links, f.store); err != nil {
		t.Errorf("a round over a restore: %v", err)
	}
	during(func() {})
	for _, revision := range []uint64{0, old.Revision} {
		d.refuse(t, d.ctx, with(reads()[7], "token", token{old.Cluster, old.Epoch, revision}.String()), codes.InvalidArgument, "restored", "drop it")
	}
	// A token of after it is good on a node that has not seen the restore.
	f.replica.hold()
	during(func() {})
	restore()
	state := f.leader.store.State()
	during(f.replica.release)
	if _, err := d.call(d.ctx, with(reads()[7], "token", token{state.Cluster, state.Epoch, state.Revision}.String())); err != nil {
		t.Errorf("a token of after a restore: %v", err)
	}
	during(func() {})
	d.refuse(t, d.ctx, with(reads()[7], "token", token{state.Cluster, state.Epoch, state.Revision + 1}.String()), codes.InvalidArgument, "ahead")
	d.refuse(t, d.ctx, with(reads()[7], "token", token{NewID(), state.Epoch, state.Revision}.String()), codes.InvalidArgument, "another cluster")
}

// A node without a cluster says what to do.
func TestNoCluster(t *testing.T) {
	n := newNode(t)
	n.cluster.change(func(f *fakeCluster) { f.bare, f.waits = true, "it waits for others" })
	for _, service := range []string{serviceName, "REST"} {
		for _, req := range append(everyRequest(), proto.Message(&organisationv1.WhoAmIRequest{})) {
			n.door(service).refuse(t, withKey(t.Context()), req, codes.Unavailable, "belongs to no cluster yet: it waits for others")
		}
	}
	// So does one that its cluster has gone on without.
	n.cluster.change(func(f *fakeCluster) { f.bare, f.waits = false, "it was removed" })
	n.door(serviceName).refuse(t, withKey(t.Context()), reads()[0], codes.Unavailable, "this node is not ready: it was removed")
	n.cluster.change(func(f *fakeCluster) { f.waits = "" })
	n.door(serviceName).refuse(t, withKey(t.Context()), reads()[0], codes.Unavailable, "it has not heard from the leader since it started")
}

// The bound on how old a default read may be is the operator's choice.
func TestStalenessBoundIsChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.server = New(Config{Log: n.log, Store: n.store, Cluster: n.cluster, Logger: n.server.logger, StalenessBound: 3 * time.Second})
		n.local = NewLocal(n.server.LocalInterceptor)
		n.server.Register(n.local)
		d := n.ready().localDoor()
		d.sample()
		n.log.hook(func(l *memoryLog) {
			l.onRead = func(context.Context) (uint64, error) { return 0, errors.New("no leader") }
		})
		time.Sleep(3 * time.Second)
		if !d.allowed("anna", "/a", "read") {
			t.Error("denied")
		}
		time.Sleep(time.Millisecond)
		d.refuse(t, d.ctx, reads()[7], codes.Unavailable, "3s at most")
	})
}
