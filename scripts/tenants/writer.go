package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// syncInterval is the pause between two syncs of a file beside the node's.
const syncInterval = 10 * time.Millisecond

// A disturbance is what one organisation's writes have of what another does.
type disturbance struct {
	baseline, during phase
	call             time.Duration // until the deletion was answered
	sweep            time.Duration // from the call to the last command of the sweep, if there was any
	steps            uint64        // commands of the sweep
	longest          time.Duration // when the longest write began, from the call
}

// delay is how much longer the longest write took than without the disturbance.
func (d *disturbance) delay() time.Duration { return d.during.writes.max() - d.baseline.writes.max() }

// A phase is a while in which one caller writes, one write after the other, and
// another one syncs a file of the same disk.
type phase struct {
	writes, syncs latencies
}

// A writer grants in the default project of an organisation.
type writer struct {
	*node
	organisation
	count int
}

func newWriter(ctx context.Context, n *node, o organisation) (*writer, error) {
	return &writer{node: n, organisation: o}, createPermission(ctx, n, o.owner, defaultProject)
}

func (w *writer) write(ctx context.Context) (revision uint64, err error) {
	w.count++
	return grant(ctx, w.node, w.owner, defaultProject, fmt.Sprintf("usr_%d", w.count%1000), fmt.Sprintf("/document/%d", w.count))
}

// A write is one that was answered.
type write struct {
	sent     time.Time
	took     time.Duration
	revision uint64
}

// disturb writes for a while, and again while something is deleted and until the
// node has swept what that left.
func (w *writer) disturb(ctx context.Context, s settings, deletion func() error) (d disturbance, err error) {
	ends := time.Now().Add(s.baseline)
	d.baseline, err = w.measure(ctx, func(last write) (bool, error) { return last.sent.After(ends), nil })
	if err != nil {
		return d, err
	}
	type answer struct {
		took time.Duration
		err  error
	}
	var (
		answers       = make(chan answer, 1)
		answered      bool
		called, swept time.Time
		previous      uint64
		others        uint64 // revisions that are not the writer's
		longest       time.Duration
	)
	begins := time.Now().Add(s.quiet / 4)
	ends = time.Now().Add(s.baseline)
	d.during, err = w.measure(ctx, func(last write) (bool, error) {
		if called.IsZero() {
			if previous = last.revision; last.sent.After(begins) {
				called = time.Now()
				go func() {
					err := deletion()
					answers <- answer{time.Since(called), err}
				}()
			}
			return false, nil
		}
		if more := last.revision - previous - 1; more > 0 {
			others, swept = others+more, time.Now()
		}
		previous = last.revision
		if last.took > longest {
			longest, d.longest = last.took, last.sent.Sub(called)
		}
		select {
		case a := <-answers:
			if a.err != nil {
				return false, a.err
			}
			answered, d.call = true, a.took
		default:
		}
		quiet := last.sent.Add(-s.quiet)
		return answered && quiet.After(called) && quiet.After(swept) && last.sent.After(ends), nil
	})
	if err != nil {
		return d, err
	}
	if others == 0 {
		return d, errors.New("the log has no command of it")
	}
	if d.steps = others - 1; d.steps > 0 { // one is the deletion
		d.sweep = swept.Sub(called)
	}
	return d, nil
}

// measure writes until done says so of the last write.
func (w *writer) measure(ctx context.Context, done func(last write) (bool, error)) (p phase, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	synced := make(chan error, 1)
	go func() {
		var err error
		p.syncs, err = syncs(ctx, filepath.Dir(w.data))
		synced <- err
	}()
	for ended := false; !ended && err == nil; {
		last := write{sent: time.Now()}
		if last.revision, err = w.write(ctx); err == nil {
			last.took = time.Since(last.sent)
			p.writes = append(p.writes, last.took)
			ended, err = done(last)
		}
	}
	stop()
	err = errors.Join(err, <-synced)
	slices.Sort(p.writes)
	slices.Sort(p.syncs)
	return p, err
}

// syncs writes and syncs a small file again and again until the context ends: what
// the disk itself takes, whoever else uses it.
func syncs(ctx context.Context, dir string) (took latencies, err error) {
	file, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, 4096)
	for ctx.Err() == nil {
		started := time.Now()
		if _, err := file.WriteAt(block, 0); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(started))
		select {
		case <-ctx.Done():
		case <-time.After(syncInterval):
		}
	}
	return took, nil
}
