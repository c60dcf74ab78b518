package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/remit-io/remit/fsm"
)

// Leadership may move while a call is under way: from here to elsewhere, and to
// here. Nobody notices.
func TestLeadershipMoves(t *testing.T) {
	for _, service := range []string{serviceName, "REST"} {
		f := newFollower(t)
		d := f.leader.door(service)
		d.sample()
		conn := f.links.conn
		// The node that was asked led, until the command was to be appended.
		moved := false
		f.log.hook(func(l *memoryLog) {
			l.before = func(context.Context, fsm.Kind) error {
				if moved {
					return nil
				}
				moved = true
				return fmt.Errorf("%w: leadership moves", ErrNotApplied)
			}
			n := 0
			l.onLeader = func() (grpc.ClientConnInterface, bool, error) {
				switch n++; n {
				case 1, 4:
					return nil, true, nil
				case 2:
					return nil, false, errors.New("an election is under way")
				}
				return conn, false, nil // its own listener for nodes stands in for the next leader's
			}
		})
		if _, err := d.call(d.ctx, grantRequest(project, "ben", "/b", []string{"read"})); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		all := f.log.commands(t)
		first, last := all[len(all)-2].Envelope, all[len(all)-1].Envelope
		if first.Request != last.Request || first.Peer != last.Peer || first.Content != last.Content {
			t.Errorf("%s: %+v became %+v", service, first, last)
		}
		f.log.hook(func(l *memoryLog) { l.onLeader = nil })
		if !d.allowed("ben", "/b", "read") {
			t.Errorf("%s: it was not granted", service)
		}
	}
}

// A leader that hangs does not keep a write until its time is up: the next one is
// asked.
func TestLeaderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t).ready()
		d := n.localDoor()
		d.sample()
		hung := 0
		n.log.hook(func(l *memoryLog) {
			l.before = func(ctx context.Context, _ fsm.Kind) error {
				if hung++; hung > 2 {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
		})
		start := time.Now()
		if _, err := d.call(d.ctx, grantRequest(project, "ben", "/b", []string{"read"})); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*(attemptTimeout+retryDelay) {
			t.Errorf("took %v", took)
		}
	})
}

// A refusal is the newest state's, not that of a leader that does not know yet
// what the cluster has committed.
func TestRefusalsAreConfirmed(t *testing.T) {
	n := newNode(t).ready()
	d := n.localDoor()
	grant := grantRequest(project, "ben", "/b", []string{"late"})
	n.log.hook(func(l *memoryLog) {
		l.onRead = func(context.Context) (uint64, error) {
			n.log.put(t, &fsm.PutPermission{Scope: n.scope(), ID: NewID(), Name: "late"})
			return n.store.State().Revision, nil
		}
	})
	if _, err := d.call(d.ctx, grant); err != nil {
		t.Errorf("refused at an older state: %v", err)
	}
	n.log.hook(func(l *memoryLog) { l.onRead = nil })
	d.refuse(t, d.ctx, grantRequest(project, "ben", "/b", []string{"never"}), codes.NotFound, "never")

	// A node that cannot confirm that it leads does not refuse; it has done nothing.
	n.log.hook(func(l *memoryLog) {
		l.onRead = func(context.Context) (uint64, error) { return 0, errors.New("no majority") }
	})
	ctx, cancel := context.WithTimeout(d.ctx, 2*retryDelay)
	defer cancel()
	d.refuse(t, ctx, grantRequest(project, "ben", "/b", []string{"never"}), codes.Unavailable, "not applied", "no majority")
}

// What is drawn depends on the seed and what it is for, and nothing else.
func TestSeed(t *testing.T) {
	a, b := newSeed(), newSeed()
	secret, hash := a.secret()
	again, sameHash := a.secret()
	other, _ := b.secret()
	key, sameKey := a.id("key"), a.id("key")
	if secret != again || hash != sameHash || secret == other || key != sameKey || key == a.id("project") || a.id("key") == b.id("key") {
		t.Error("two draws for the same are not the same, or those for others are")
	}
	if _, ok := fsm.ParseID(a.id("key").String()); !ok || !strings.HasPrefix(secret, KeyPrefix) || len(secret) != len(KeyPrefix)+43 {
		t.Errorf("id %v, secret of %d bytes", a.id("key"), len(secret))
	}
	if text := fmt.Sprintf("%x", a.draw("secret")); strings.Contains(text, hex.EncodeToString(a[:8])) {
		t.Error("a draw shows its seed")
	}
}
