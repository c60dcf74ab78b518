package server

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// taken returns the commands that came since the last time.
func (l *memoryLog) taken() (attempts [][]byte) {
	l.hook(func(l *memoryLog) { attempts, l.attempts = l.attempts, nil })
	return attempts
}

// writeDoors runs a test over the calls that have time of their own.
func writeDoors(t *testing.T, test func(t *testing.T, d *door)) {
	writeDoorsAt(t, fsm.MaxLevel, test)
}

func writeDoorsAt(t *testing.T, level uint32, test func(t *testing.T, d *door)) {
	for _, service := range []string{"local", "REST"} {
		t.Run(service, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newNodeAt(t, level).ready().localDoor()
				if service == "REST" {
					d = d.door("REST")
				}
				d.sample()
				d.log.taken()
				test(t, d)
			})
		})
	}
}

// withoutTime is a command but for when it was proposed.
func withoutTime(t *testing.T, data []byte) []byte {
	t.Helper()
	c, err := fsm.DecodeCommand(data)
	if err != nil {
		t.Fatal(err)
	}
	c.Envelope.Time = 0
	if data, err = c.Encode(); err != nil {
		t.Fatal(err)
	}
	return data
}

// A command that certainly was not applied is tried again as it was, with all that
// was drawn for it.
func TestWriteIsRetried(t *testing.T) {
	writeDoors(t, func(t *testing.T, d *door) {
		for _, req := range writes() {
			wrapped := fmt.Errorf("%w: leadership moves", ErrNotApplied)
			d.log.hook(func(l *memoryLog) { l.before = failing(3, wrapped) })
			start := time.Now()
			answer, err := d.call(d.ctx, req)
			if err != nil {
				t.Errorf("%T: %v", req, err)
				continue
			}
			d.wantToken(answer.(interface{ GetToken() string }).GetToken())
			if took := time.Since(start); took != 3*retryDelay {
				t.Errorf("%T took %v", req, took)
			}
			attempts := d.log.taken()
			if len(attempts) != 4 {
				t.Fatalf("%T: %d attempts, want 4", req, len(attempts))
			}
			for _, a := range attempts[1:] {
				if !bytes.Equal(withoutTime(t, a), withoutTime(t, attempts[0])) {
					t.Errorf("%T: a retry was another command", req)
				}
			}
		}
	})
}

func TestWriteGivesUp(t *testing.T) {
	writeDoors(t, func(t *testing.T, d *door) {
		for _, req := range writes() {
			d.log.hook(func(l *memoryLog) { l.before = failing(1<<30, ErrNotApplied) })
			start := time.Now()
			d.refuse(t, d.ctx, req, codes.Unavailable, "was not applied", "retry")
			if took := time.Since(start); took != writeTimeout {
				t.Errorf("%T gave up after %v", req, took)
			}
			// Before the caller's deadline, at which its own library would answer.
			for deadline, want := range map[time.Duration]time.Duration{
				220 * time.Millisecond: 198 * time.Millisecond,
				3 * time.Second:        3*time.Second - answerMargin,
			} {
				ctx, cancel := context.WithTimeout(d.ctx, deadline)
				start = time.Now()
				d.refuse(t, ctx, req, codes.Unavailable, "was not applied", "retry")
				if took := time.Since(start); took != want {
					t.Errorf("%T with a deadline after %s gave up after %v, want %s", req, deadline, took, want)
				}
				cancel()
			}
			// A deadline far away does not keep a write at it for ever.
			ctx, cancel := context.WithTimeout(d.ctx, time.Hour)
			start = time.Now()
			d.refuse(t, ctx, req, codes.Unavailable, "was not applied")
			if took := time.Since(start); took != writeTimeout {
				t.Errorf("%T with a late deadline gave up after %v", req, took)
			}
			cancel()
		}
	})
}

// Before the state remembers requests, a command whose fate is not known is not
// tried again: the caller is told.
func TestWriteUnknownAtLevelOne(t *testing.T) {
	writeDoorsAt(t, 1, func(t *testing.T, d *door) {
		for _, req := range writes() {
			for name, before := range map[string]func(context.Context, fsm.Kind) error{
				"at once": failing(1, errUnknown),
				"then": func() func(context.Context, fsm.Kind) error {
					n := 0
					return func(context.Context, fsm.Kind) error {
						if n++; n == 1 {
							return ErrNotApplied
						}
						return errUnknown
					}
				}(),
				"hanging": func(ctx context.Context, _ fsm.Kind) error {
					<-ctx.Done()
					return fmt.Errorf("waiting for the log: %w", ctx.Err())
				},
			} {
				d.log.hook(func(l *memoryLog) { l.before = before })
				d.refuse(t, d.ctx, req, codes.Unavailable, "unknown", "read before you repeat it")
				want := map[string]int{"at once": 1, "then": 2, "hanging": 1}[name]
				if got := len(d.log.taken()); got != want {
					t.Errorf("%T, %s: %d attempts, want %d", req, name, got, want)
				}
			}
			d.log.hook(func(l *memoryLog) { l.before = nil })
		}
		// It may well be applied.
		d.log.hook(func(l *memoryLog) { l.after = func() error { return errUnknown } })
		_, err := d.call(d.ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "new"})
		wantCode(t, err, codes.Unavailable, "unknown", errUnknown.Error())
		if len(d.log.taken()) != 1 {
			t.Error("it was tried again")
		}
		if _, ok := d.view().Permission("new"); !ok {
			t.Error("it was not applied")
		}
	})
}

// What the newest state refuses does not go into the log; what only apply can
// know is answered as apply says.
func TestWriteRefusedByApply(t *testing.T) {
	writeDoors(t, func(t *testing.T, d *door) {
		d.permission("taken")
		d.log.taken()
		rename := &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: "taken"}
		d.refuse(t, d.ctx, rename, codes.AlreadyExists, "taken")
		if len(d.log.taken()) != 0 {
			t.Error("a refused command went into the log")
		}
		var digest [32]byte
		race := func(body fsm.Body) func(context.Context, fsm.Kind) error {
			return func(context.Context, fsm.Kind) error {
				d.log.put(t, body)
				digest = digestOf(d.store.State())
				return nil
			}
		}
		read, _ := d.view().Permission("read")
		for _, test := range []struct {
			req   proto.Message
			first fsm.Body
			code  codes.Code
		}{
			{with(rename, "new_name", "soon"), &fsm.PutPermission{Scope: d.scope(), ID: NewID(), Name: "soon"}, codes.AlreadyExists},
			{with(writes()[6], "user_id", "ben"), &fsm.DeletePermission{Scope: d.scope(), ID: read.ID}, codes.NotFound},
		} {
			d.log.hook(func(l *memoryLog) { l.before = race(test.first) })
			_, err := d.call(d.ctx, test.req)
			wantCode(t, err, test.code)
			if digestOf(d.store.State()) != digest {
				t.Errorf("%T failed and changed the state", test.req)
			}
		}
	})
}

// A caller who went away is not worked for any longer.
func TestWriteCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newNode(t).ready().localDoor()
		d.sample()
		d.log.hook(func(l *memoryLog) { l.before = failing(1<<30, ErrNotApplied) })
		ctx, cancel := context.WithCancel(d.ctx)
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		d.refuse(t, ctx, writes()[0], codes.Unavailable)
		if took := time.Since(start); took != time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}

// Many write at once, each is told of its own write, and none is lost.
func TestConcurrentWriters(t *testing.T) {
	const writers, each = 8, 25
	everyDoor(t, func(t *testing.T, d *door) {
		d.permission("read")
		var mu sync.Mutex
		tokens := map[string]bool{}
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					name := fmt.Sprintf("p-%d-%d", w, i)
					created, err := d.CreatePermission(d.ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name})
					if err != nil || created.Name != name {
						t.Errorf("%s: %v, %v", name, created, err)
						return
					}
					granted, err := d.GrantUserPermissionsAndRolesOnResource(d.ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
						ProjectName: project, UserId: "anna", ResourceUri: "/shared", Permissions: []string{name},
					})
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					answer, err := d.Check(d.ctx, &permissionsv1.CheckPermissionRequest{
						ProjectName: project, PrincipalId: "anna", ResourceUris: []string{"/shared/x"}, Permissions: []string{name}, Token: granted.Token,
					})
					if err != nil || !answer.Passed {
						t.Errorf("%s: its own grant is not seen: %v, %v", name, answer, err)
					}
					mu.Lock()
					tokens[created.Token], tokens[granted.Token] = true, true
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if got := len(d.held("anna", "/shared", false).Permissions); got != writers*each {
			t.Errorf("%d permissions are held, want %d", got, writers*each)
		}
		if len(tokens) != 2*writers*each {
			t.Errorf("%d tokens of %d writes", len(tokens), 2*writers*each)
		}
	})
}

// After a delete, the sweeper goes on in bounded steps until nothing is left,
// and then rests.
func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var names []string
		var ids []fsm.ID
		for i := range 100 {
			ids, names = append(ids, NewID()), append(names, fmt.Sprintf("p%d", i))
			n.log.put(t, &fsm.PutPermission{Scope: n.scope(), ID: ids[i], Name: names[i]})
		}
		role := n.log.put(t, &fsm.PutRole{Scope: n.scope(), ID: NewID(), Name: "viewer", Permissions: ids}).Role
		const users = 3 * sweepLimit / 100
		for i := range users {
			n.log.put(t, &fsm.Grant{Scope: n.scope(), Principal: fmt.Sprintf("usr_%d", i), URI: "/a", Permissions: ids, Roles: []fsm.ID{role.ID}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			n.server.Run(ctx)
			close(stopped)
		}()
		synctest.Wait()
		d := n.localDoor()
		sweeps := func() (count int) {
			n.log.hook(func(l *memoryLog) { count, l.sweeps = l.sweeps, 0 })
			return count
		}
		time.Sleep(time.Minute)
		if got := sweeps(); got != 0 {
			t.Errorf("%d sweeps before anything was deleted", got)
		}

		// It does not wait for its turn, and a leader who is away only delays it.
		start := time.Now()
		do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: names[0]})
		digest := digestOf(n.store.State())
		synctest.Wait()
		if time.Since(start) != 0 || n.store.State().IsSweeping(n.scope()) {
			t.Error("the sweep is not done at once")
		}
		if got := sweeps(); got < users*100/sweepLimit {
			t.Errorf("%d sweeps, of %d permissions each", got, sweepLimit)
		}
		if digestOf(n.store.State()) != digest {
			t.Error("a sweep changed what is alive")
		}

		n.log.hook(func(l *memoryLog) {
			l.before = func(_ context.Context, kind fsm.Kind) error {
				if kind == fsm.KindSweep {
					return ErrNotApplied
				}
				return nil
			}
		})
		do(d, d.DeleteRole, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "viewer"})
		time.Sleep(3*sweepInterval + time.Millisecond)
		if got := sweeps(); got != 4 || !n.store.State().IsSweeping(n.scope()) {
			t.Errorf("%d sweeps were tried while they fail, want 4", got)
		}
		n.log.hook(func(l *memoryLog) { l.before = nil })
		time.Sleep(sweepInterval)
		if n.store.State().IsSweeping(n.scope()) {
			t.Error("the sweep was given up")
		}
		sweeps()
		time.Sleep(time.Minute)
		if got := sweeps(); got != 0 {
			t.Errorf("%d sweeps after everything was swept", got)
		}
		cancel()
		<-stopped
	})
}

// Whoever goes on deleting does not have the sweeper to himself.
func TestSweepTakesTurns(t *testing.T) {
	n := newNode(t).ready()
	d := n.localDoor()
	do(d, d.CreateProject, &organisationv1.CreateProjectRequest{Name: "busy"})
	busy, err := callWith(n.init.KeyHash, n.store.State())
	if err != nil {
		t.Fatal(err)
	}
	v, err := busy.project("busy")
	if err != nil {
		t.Fatal(err)
	}
	victim := n.scope()
	fill := func(scope fsm.Scope) (doomed fsm.ID) {
		doomed, kept := NewID(), NewID()
		n.log.put(t, &fsm.PutPermission{Scope: scope, ID: doomed, Name: "doomed"})
		n.log.put(t, &fsm.PutPermission{Scope: scope, ID: kept, Name: "kept"})
		for i := range 2 * sweepLimit {
			n.log.put(t, &fsm.Grant{Scope: scope, Principal: fmt.Sprintf("u%d", i), URI: "/", Permissions: []fsm.ID{doomed, kept}})
		}
		return doomed
	}
	n.log.put(t, &fsm.DeletePermission{Scope: v.scope(), ID: fill(v.scope())})
	n.log.put(t, &fsm.DeletePermission{Scope: victim, ID: fill(victim)})
	// Each step of the one project's sweep finds that more was deleted there.
	rounds := 0
	n.log.hook(func(l *memoryLog) {
		l.before = func(_ context.Context, kind fsm.Kind) error {
			if kind == fsm.KindSweep && rounds < 10*sweepTurn {
				rounds++
				id := NewID()
				n.log.put(t, &fsm.PutPermission{Scope: v.scope(), ID: id, Name: "again"})
				n.log.put(t, &fsm.DeletePermission{Scope: v.scope(), ID: id})
			}
			return nil
		}
	})
	turns := 0
	for ; n.store.State().IsSweeping(victim); turns++ {
		if turns > 3 {
			t.Fatal("the other project's sweep waits")
		}
		n.server.sweepAll(t.Context())
	}
	if !n.store.State().IsSweeping(v.scope()) {
		t.Error("the busy project is done: nobody was in the way")
	}
	for n.server.sweepAll(t.Context()) {
	}
	if n.store.State().IsSweeping(v.scope()) {
		t.Error("the busy project's sweep was given up")
	}
}
