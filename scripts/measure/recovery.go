package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	rnd "math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// measureRecovery kills leaders under a client that writes, and then hands
// leadership over under clients at every node.
func measureRecovery(ctx context.Context, s settings) error {
	c, _, err := formCluster(ctx, s, fleet{voters: 3})
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.nodes[0].createPermission(ctx); err != nil {
		return err
	}
	var gaps latencies
	seen := 0 // errors
	for run := range s.kills {
		progress("killing leader %d of %d", run+1, s.kills)
		gap, failed, err := killLeader(ctx, c, run)
		if err != nil {
			return err
		}
		gaps = append(gaps, gap)
		seen += failed
	}
	gaps.sorted()
	fmt.Println("One client writes through a node that survives, one write after the other; each has a request id of its own, and is sent again under it after an error.")
	fmt.Println()
	table([]string{"the leader's SIGKILL", "runs", "median", "worst", "errors that the client saw"}, [][]string{
		{"from the last acknowledged write to the next one", strconv.Itoa(len(gaps)), seconds(gaps.at(0.5)), seconds(gaps.max()), strconv.Itoa(seen)},
	})
	kept := errors.Join(s.promise("half of the recoveries", gaps.at(0.5), 3*time.Second), s.promise("a recovery", gaps.max(), 8*time.Second))

	var writes, reads, calls latencies
	seen = 0
	for run := range s.transfers {
		progress("handing leadership over, %d of %d", run+1, s.transfers)
		t, err := transfer(ctx, c, run)
		if err != nil {
			return err
		}
		writes, reads, calls = append(writes, t.writing), append(reads, t.reading), append(calls, t.call)
		seen += t.errors
	}
	fmt.Printf("\nAt each of the three nodes one client writes and one makes fully consistent checks; together they saw %d errors in %d transfers.\n\n", seen, s.transfers)
	row := func(name string, l latencies) []string {
		l.sorted()
		return []string{name, strconv.Itoa(len(l)), ms(l.at(0.5)), ms(l.max())}
	}
	table([]string{"a transfer of leadership", "runs", "median", "worst"}, [][]string{
		row("until the call is answered", calls),
		row("longest time between two acknowledged writes of a client", writes),
		row("longest time between two answered checks of a client", reads),
	})
	if s.promises && seen > 0 {
		kept = errors.Join(kept, fmt.Errorf("%d callers saw an error while leadership was handed over, and none is promised", seen))
	}
	return errors.Join(kept, s.promise("a write while leadership was handed over", writes.max(), time.Second))
}

// killLeader kills the leader while a client writes, and returns how long that had
// to wait and how many errors it saw. The cluster is whole again afterwards.
func killLeader(ctx context.Context, c *cluster, run int) (gap time.Duration, failed int, err error) {
	leader, err := c.leader(ctx, c.nodes[run%len(c.nodes)])
	if err != nil {
		return 0, 0, err
	}
	survivor := c.others(leader)[run%2]
	w := watch(ctx, survivor.writing(0, run))
	defer w.stop()
	// Long enough for writes to flow, and at no certain point between heartbeats.
	if err := sleep(ctx, time.Second+rnd.N(time.Second)); err != nil {
		return 0, 0, err
	}
	killed := time.Now()
	leader.kill()
	// What is sent from now on only another leader can have taken.
	if err := w.acknowledges(ctx, time.Now()); err != nil {
		return 0, 0, err
	}
	w.stop()
	if err := leader.start(ctx); err != nil {
		return 0, 0, err
	}
	if err := leader.awaitReady(ctx); err != nil {
		return 0, 0, err
	}
	return w.longest(killed), w.errors, nil
}

// A handover is a transfer of leadership as it was noticed.
type handover struct {
	call, writing, reading time.Duration
	errors                 int
}

func transfer(ctx context.Context, c *cluster, run int) (t handover, err error) {
	asked := c.nodes[run%len(c.nodes)]
	if _, err := c.leader(ctx, asked); err != nil {
		return t, err
	}
	if _, err := asked.grant(ctx, len(c.nodes), 0); err != nil {
		return t, err
	}
	var writers, readers []*watcher
	for i, n := range c.nodes {
		writers = append(writers, watch(ctx, n.writing(i, run)))
		readers = append(readers, watch(ctx, func(ctx context.Context, _ int) error {
			return n.check(ctx, len(c.nodes), 0, permissionsv1.Consistency_FULLY_CONSISTENT, "")
		}))
	}
	all := append(append([]*watcher{}, writers...), readers...)
	defer func() {
		for _, w := range all {
			w.stop()
		}
	}()
	if err := sleep(ctx, time.Second/2+rnd.N(time.Second/2)); err != nil {
		return t, err
	}
	began := time.Now()
	if _, err := asked.cluster().TransferLeadership(asked.auth(ctx), &clusterv1.TransferLeadershipRequest{}); err != nil {
		return t, fmt.Errorf("transfer leadership: %w", err)
	}
	answered := time.Now()
	t.call = answered.Sub(began)
	for _, w := range all {
		if err := w.acknowledges(ctx, answered); err != nil {
			return t, err
		}
	}
	for _, w := range all {
		w.stop()
		t.errors += w.errors
	}
	for i := range c.nodes {
		t.writing = max(t.writing, writers[i].longest(began))
		t.reading = max(t.reading, readers[i].longest(began))
	}
	return t, nil
}

// writing returns the writes of one caller, as a watcher makes them.
func (n *node) writing(caller, run int) func(ctx context.Context, i int) error {
	return func(ctx context.Context, i int) error {
		_, err := n.grant(ctx, caller, run*1_000_000+i)
		return err
	}
}

// A watcher makes calls, one after the other, until it is told to stop.
type watcher struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	calls  []answeredCall
	errors int   // that could be answered by sending the call again
	last   error // of them
	failed error // what could not
}

type answeredCall struct{ sent, answered time.Time }

// watch makes calls in the background. One that fails is sent again with the same
// request id, as a client does that wants to know what became of it.
func watch(ctx context.Context, call func(ctx context.Context, i int) error) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for i := 0; ctx.Err() == nil; i++ {
			var id [16]byte
			_, _ = rand.Read(id[:]) // never fails
			w.one(metadata.AppendToOutgoingContext(ctx, "remit-request-id", hex.EncodeToString(id[:])), i, call)
		}
	}()
	return w
}

func (w *watcher) one(ctx context.Context, i int, call func(ctx context.Context, i int) error) {
	sent := time.Now()
	for {
		attempt, cancel := context.WithTimeout(ctx, patience)
		err := call(attempt, i)
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		switch code := status.Code(err); {
		case err == nil:
			w.calls = append(w.calls, answeredCall{sent, time.Now()})
		case code == codes.Unavailable || code == codes.DeadlineExceeded:
			w.errors++
			w.last = err
		default:
			w.failed = err
			w.cancel()
		}
		w.mu.Unlock()
		if err == nil || sleep(ctx, retryDelay) != nil {
			return
		}
	}
}

func (w *watcher) stop() {
	w.cancel()
	<-w.ended
}

// acknowledges waits until a call is answered that was sent later than the given time.
func (w *watcher) acknowledges(ctx context.Context, sent time.Time) error {
	err := until(ctx, patience, 5*time.Millisecond, "a client has no answer", func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.calls) > 0 && w.calls[len(w.calls)-1].sent.After(sent), w.failed
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.last != nil {
		err = errors.Join(err, w.last)
	}
	return err
}

// longest returns the longest time between two answers of which the second came
// later than the given time. The watcher has stopped.
func (w *watcher) longest(from time.Time) (gap time.Duration) {
	for i := 1; i < len(w.calls); i++ {
		if w.calls[i].answered.After(from) {
			gap = max(gap, w.calls[i].answered.Sub(w.calls[i-1].answered))
		}
	}
	return gap
}
