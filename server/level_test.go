package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// oldNode is a node whose state is of the first level.
func oldNode(t *testing.T) *node {
	n := newNodeAt(t, 1)
	n.cluster.change(func(f *fakeCluster) {
		for i := range f.members {
			f.members[i].SupportedLevel = fsm.MaxLevel
		}
	})
	return n
}

// The level rises when the last node was upgraded, and not before.
func TestLevelRises(t *testing.T) {
	n := oldNode(t)
	n.cluster.change(func(f *fakeCluster) {
		f.members[1].SupportedLevel = 1
		f.members[2].Reached = false
	})
	look := func(want string) {
		t.Helper()
		reason, err := n.server.raiseLevel(t.Context())
		if err != nil || !strings.Contains(reason, want) || (want == "") != (reason == "") {
			t.Errorf("%q, %v, want %q", reason, err, want)
		}
	}
	look(`node "b" (` + idB + `) supports level 1 at most: upgrade it`)
	n.cluster.change(func(f *fakeCluster) { f.members[1].SupportedLevel = fsm.MaxLevel })
	look(`node "c" (` + idC + `) cannot be asked`)
	if got := n.store.State().Level; got != 1 || len(n.log.commands(t)) > 0 {
		t.Fatalf("level %d, commands %v", got, n.log.commands(t))
	}
	n.cluster.change(func(f *fakeCluster) { f.members[2].Reached = true })
	n.run()
	await(t, "the level has risen", func() bool { return n.store.State().Level == fsm.MaxLevel })
	await(t, "it is logged", func() bool { return strings.Contains(n.logged.String(), "level raised") })
	if c := n.log.last(t); c.Envelope.Key != (fsm.ID{}) {
		t.Errorf("the command is %+v", c)
	}
	d := n.door(serviceName)
	_, err := d.operate().AddMember(d.ctx, &clusterv1.AddMemberRequest{Id: "old", SupportedLevel: 1})
	wantCode(t, err, codes.FailedPrecondition, "upgrade that node")
}

// A node that does not support the next level does not propose it, nor does one
// that does not lead.
func TestLevelStays(t *testing.T) {
	n := oldNode(t)
	n.server.level = 1
	if reason, err := n.server.raiseLevel(t.Context()); err != nil || reason != "" {
		t.Errorf("%q, %v", reason, err)
	}
	n.server.level = fsm.MaxLevel
	for _, log := range []Log{followerLog{n.log, nil, nil}, followerLog{n.log, nil, errors.New("no leader")}} {
		n.server.log = log
		if reason, err := n.server.raiseLevel(t.Context()); err != nil || reason != "" {
			t.Errorf("%q, %v", reason, err)
		}
	}
	if len(n.log.commands(t)) > 0 || n.store.State().Level != 1 {
		t.Errorf("commands %v", n.log.commands(t))
	}
}

// What waits is logged once, and what fails is tried again.
func TestLevelRisesLater(t *testing.T) {
	n := oldNode(t)
	n.log.hook(func(l *memoryLog) { l.before = failing(1, errors.New("the disk is full")) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.server.raiseLevels(ctx)
	}()
	await(t, "the level has risen", func() bool { return n.store.State().Level == fsm.MaxLevel })
	cancel()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the loop goes on")
	}
	if lines := n.logged.String(); strings.Count(lines, "the disk is full") != 1 {
		t.Errorf("logged %s", lines)
	}
}
