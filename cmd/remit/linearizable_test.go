package main_test

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// TestLinearizable pauses leaders until the others have elected another one and
// written more, and lets them go on, while clients read with full consistency from
// all nodes, the paused one included: what they saw must be what one single node
// could have answered. REMIT_NIGHTLY pauses 200 leaders.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	pauses := 5
	if os.Getenv("REMIT_NIGHTLY") != "" {
		pauses = 200
	}
	if h := (pauser{pauses: pauses}).run(t); !h.fits(t) {
		t.Error("no order of the operations explains what clients saw")
	}
}

// A pauser runs three nodes under load and pauses one leader after the other.
type pauser struct {
	binary string // "" for the remit of this tree
	pauses int
	// slow is a variable for the environment of node 1, which is then made the leader
	// before each pause.
	slow string
	// untilStale ends the run once a read is older than one before it.
	untilStale bool
}

// run returns what clients saw.
func (p pauser) run(t *testing.T) *history {
	t.Helper()
	f := newFleet(t, 3, "--log-level", "warn")
	f.binary = p.binary
	if p.slow != "" {
		f.nodes[0].env = []string{p.slow}
	}
	f.form(rand.Perm(3))
	clients := make([]permissionsv1.PermissionsServiceClient, len(f.nodes))
	for i, n := range f.nodes {
		clients[i] = n.client()
	}
	_, err := clients[0].CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: registerPermission})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	h := newHistory()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	// Few operations of each register at a time: what porcupine has to try grows with
	// them exponentially.
	var all []*register
	for number := range 12 {
		all = append(all, &register{number: number})
	}
	var paused atomic.Int64 // node, -1 if none is
	paused.Store(-1)
	for _, r := range all {
		running.Go(func() {
			client := h.client()
			// Through nodes in turns, so that an attempt that is stuck in one does not hold
			// back the next.
			turn := 0
			pace := time.NewTicker(20 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				_ = h.write(ctx, client, r, func() permissionsv1.PermissionsServiceClient {
					for turn++; int64(turn%len(clients)) == paused.Load(); turn++ {
					}
					return clients[turn%len(clients)]
				})
			}
		})
	}
	var reads sync.WaitGroup
	running.Go(func() {
		defer reads.Wait()
		// Sent one after the other without waiting for answers: those that a paused node
		// finds when it goes on were sent after others had written more.
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for node := range clients {
				reads.Go(func() {
					limited, cancel := context.WithTimeout(ctx, 2*patience)
					defer cancel()
					_ = h.read(limited, all[i%len(all)], clients[node]) // without an answer it says nothing
				})
			}
		}
	})

	for range p.pauses {
		if p.untilStale && h.staleRead() != nil {
			break
		}
		leader := f.leader(f.nodes[0])
		if p.slow != "" && leader != f.nodes[0] {
			f.nodes[0].must("transfer-leadership", f.nodes[0].name)
			leader = f.nodes[0]
			awaitWrites(t, all, 3)
		}
		for i, n := range f.nodes {
			if n == leader {
				paused.Store(int64(i))
			}
		}
		leader.signal(syscall.SIGSTOP)
		witness := f.other(leader)
		eventually(t, "the others elect a leader", func() bool { return f.leader(witness) != leader })
		awaitWrites(t, all, 3)
		leader.signal(syscall.SIGCONT)
		paused.Store(-1)
		awaitWrites(t, all, 3)
	}
	return h
}

// awaitWrites waits until each register has been counted up some times.
func awaitWrites(t *testing.T, all []*register, more int64) {
	t.Helper()
	for _, r := range all {
		target := r.acknowledged.Load() + more
		eventually(t, "clients write", func() bool { return r.acknowledged.Load() >= target })
	}
}
