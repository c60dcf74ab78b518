package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	diskWriters = 64
	// circle is how many grants each writer makes before it takes them back: so many
	// that the state has a size, and the size an end.
	circle = 500
)

// measureDisk watches the data folders during a long run of writes, with
// snapshots as by default and with frequent ones.
func measureDisk(ctx context.Context, s settings) error {
	runs := []struct {
		name   string
		during time.Duration
		flags  []string
	}{
		{"default settings", s.disk, nil},
		{"--snapshot-threshold 1000 --snapshot-interval 1s --trailing-logs 1000", s.disk / 5,
			[]string{"--snapshot-threshold", "1000", "--snapshot-interval", "1s", "--trailing-logs", "1000"}},
	}
	fmt.Printf("%d writers at the leader of 3 voters grant and revoke, up to %d grants at a time. Sizes are the largest of the three nodes, sampled each second, since the row before.\n", diskWriters, diskWriters*circle)
	for _, run := range runs {
		progress("writing for %s", run.during)
		c, _, err := formCluster(ctx, s, fleet{voters: 3}, run.flags...)
		if err != nil {
			return err
		}
		rows, err := watchDisk(ctx, c, run.during, s.samples)
		c.end()
		if err != nil {
			return err
		}
		fmt.Printf("\n`%s`\n\n", run.name)
		table([]string{"after", "writes", "writes/s", "last entry", "newest snapshot at", "log file", "snapshots", "longest write", "errors"}, rows)
	}
	return nil
}

// A diskWatch is what the writers did.
type diskWatch struct {
	started time.Time
	during  time.Duration
	writes  atomic.Int64
	errors  atomic.Int64 // since the last row, as below
	mu      sync.Mutex
	longest time.Duration
}

func watchDisk(ctx context.Context, c *cluster, during time.Duration, samples int) (rows [][]string, err error) {
	leader, err := c.leader(ctx, c.nodes[0])
	if err != nil {
		return nil, err
	}
	if err := leader.createPermission(ctx); err != nil {
		return nil, err
	}
	w := diskWatch{started: time.Now(), during: during}
	err = parallel(ctx, 1+diskWriters, func(ctx context.Context, caller int) (err error) {
		if caller > 0 {
			return w.write(ctx, leader.client, caller-1)
		}
		rows, err = w.sample(ctx, c, leader, samples)
		return err
	})
	return rows, err
}

// sample returns a row for each part of the run.
func (w *diskWatch) sample(ctx context.Context, c *cluster, leader *node, samples int) (rows [][]string, err error) {
	var log, snapshots, before int64
	reported := w.started
	part := w.during / time.Duration(samples)
	for len(rows) < samples {
		if err := sleep(ctx, min(time.Second, part)); err != nil {
			return nil, err
		}
		for _, n := range c.nodes {
			l, s, err := n.disk()
			if err != nil {
				return nil, err
			}
			log, snapshots = max(log, l), max(snapshots, s)
		}
		now := time.Now()
		if now.Sub(w.started) < part*time.Duration(1+len(rows)) {
			continue
		}
		members, err := c.members(ctx, leader)
		if err != nil {
			return nil, err
		}
		var last, snapshot uint64
		for _, m := range members {
			last, snapshot = max(last, m.GetLastIndex()), max(snapshot, m.GetSnapshotIndex())
		}
		writes := w.writes.Load()
		rows = append(rows, []string{
			now.Sub(w.started).Round(time.Second).String(), strconv.FormatInt(writes, 10),
			fmt.Sprintf("%.0f", float64(writes-before)/now.Sub(reported).Seconds()),
			strconv.FormatUint(last, 10), strconv.FormatUint(snapshot, 10), mib(log), mib(snapshots), ms(w.reset()),
			strconv.FormatInt(w.errors.Swap(0), 10),
		})
		log, snapshots, before, reported = 0, 0, writes, now
	}
	return rows, nil
}

// write grants and revokes until the time has come.
func (w *diskWatch) write(ctx context.Context, c *client, caller int) error {
	for i := 0; time.Since(w.started) < w.during; i++ {
		sent := time.Now()
		var err error
		if n := i % (2 * circle); n < circle {
			_, err = c.grant(ctx, caller, n)
		} else {
			err = c.revoke(ctx, caller, n-circle)
		}
		if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
			w.errors.Add(1)
			progress("a write failed: %v", err)
			if err := sleep(ctx, retryDelay); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		took := time.Since(sent)
		w.writes.Add(1)
		w.mu.Lock()
		w.longest = max(w.longest, took)
		w.mu.Unlock()
	}
	return nil
}

// reset returns how long the longest write took since the last reset.
func (w *diskWatch) reset() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := w.longest
	w.longest = 0
	return longest
}
