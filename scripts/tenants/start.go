package main

import (
	"context"
	"time"
)

// starts is how long the two nodes took until they were ready.
type starts struct {
	entries                         uint64 // of the large node's log
	fromLog, emptyFromLog           time.Duration
	fromSnapshot, emptyFromSnapshot time.Duration
}

// restart ends and starts both nodes: first with nothing but their log, which is
// the worst that can be, then with a snapshot of all of it. It leaves them running
// with the given flags.
func restart(ctx context.Context, large, empty *node, m *made, flags []string) (starts, error) {
	s := starts{entries: m.revision}
	again := func(n *node, flags ...string) (time.Duration, error) {
		if err := n.end(); err != nil {
			return 0, err
		}
		return n.start(ctx, flags...)
	}
	progress("starting again from the log")
	var err error
	if s.emptyFromLog, err = again(empty, withoutSnapshots...); err != nil {
		return s, err
	}
	if s.fromLog, err = again(large, withoutSnapshots...); err != nil {
		return s, err
	}
	progress("starting again from a snapshot")
	for _, n := range []*node{empty, large} {
		if _, err := again(n, withSnapshots...); err != nil {
			return s, err
		}
	}
	err = until(ctx, time.Minute, 10*time.Millisecond, "the nodes took no snapshots", func() (bool, error) {
		return empty.snapshotIndex() > 0 && large.snapshotIndex() >= m.revision, nil
	})
	if err != nil {
		return s, err
	}
	if s.emptyFromSnapshot, err = again(empty, flags...); err != nil {
		return s, err
	}
	s.fromSnapshot, err = again(large, flags...)
	return s, err
}
