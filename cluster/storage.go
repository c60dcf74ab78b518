package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	defaultSnapshotThreshold = 8192
	defaultSnapshotInterval  = 30 * time.Second
	defaultSnapshotBytes     = 64 << 20
	defaultTrailingLogs      = 10240
	defaultHungStoreTimeout  = 10 * time.Second

	// never is a threshold that Raft does not reach by itself: see takeSnapshots.
	never = math.MaxUint64
)

// setStorageDefaults fills in what says nothing of storage.
func (c *Config) setStorageDefaults() {
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = defaultSnapshotThreshold
	}
	if c.SnapshotInterval == 0 {
		c.SnapshotInterval = defaultSnapshotInterval
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = defaultSnapshotBytes
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = defaultTrailingLogs
	}
	if c.HungStoreTimeout == 0 {
		c.HungStoreTimeout = defaultHungStoreTimeout
	}
	if c.MinFreeDisk == 0 {
		c.MinFreeDisk = defaultMinFreeDisk
	}
}

// openStorage opens the log and the snapshots of the data folder.
func (n *Node) openStorage(opts options, raftLog hclog.Logger) (err error) {
	opts.store.onFailure, opts.store.hungAfter = n.fail, n.cfg.HungStoreTimeout
	opts.store.watchedSize = n.cfg.SnapshotBytes
	if n.store, err = openStore(n.dir.file(logFile), opts.store); err != nil {
		return err
	}
	n.transfers = newTransfers(n.log, n.cfg.TrailingLogs, opts.transferPatience, n.store.LastIndex)
	n.snapshots, err = openSnapshots(n.ctx, n.cfg.DataDir, raftLog.Named("snapshot"))
	if err != nil {
		return err
	}
	n.snapshots.afterSnapshot = opts.afterSnapshot
	n.snapshots.transfers = n.transfers
	n.snapshots.firstIndex = n.store.FirstIndex
	n.snapshots.hungAfter, n.snapshots.log = n.cfg.HungStoreTimeout, n.log
	n.store.keeping = func(cut func(lowest uint64) error) error {
		// The entry at the newest snapshot's own index stays: a follower that has loaded
		// it is asked for that one first, even when there is a newer snapshot by then.
		newest := n.snapshots.newest()
		return n.transfers.keeping(func(lowest uint64) error { return cut(min(lowest, newest.index)) })
	}
	n.disk = &disk{path: n.cfg.DataDir, log: n.log, minimum: n.cfg.MinFreeDisk, measure: freeDisk}
	if opts.freeDisk != nil {
		n.disk.measure = opts.freeDisk
	}
	n.disk.look()
	// The log's entry is durable before Bootstrap can write a cluster id: see requireLog.
	if err = syncDir(n.cfg.DataDir); err != nil {
		return fmt.Errorf("sync data folder %s: %w", n.cfg.DataDir, err)
	}
	if err = n.read(func() error { return n.loadCluster(n.snapshots) }); err != nil {
		return err
	}
	return n.read(n.store.measure)
}

// takeSnapshots takes a snapshot whenever one is due, until the node ends. Raft's
// own goroutine for that knows neither the log's size nor the followers that are
// being sent a snapshot.
func (n *Node) takeSnapshots() {
	interval := func() time.Duration { return n.cfg.SnapshotInterval + rand.N(n.cfg.SnapshotInterval) }
	look := time.NewTimer(interval())
	defer look.Stop()
	var notBefore time.Time // after a failure
	for {
		due := false
		select {
		case <-look.C:
			due = n.dueByCount() || n.dueBySize()
			look.Reset(interval())
		case <-n.store.size.grown:
			due = n.dueBySize() && time.Now().After(notBefore)
		case <-n.ctx.Done():
			return
		}
		if !due || n.transfers.held() {
			continue
		}
		err := n.await(n.ctx, func() error { return n.raft.Snapshot().Error() }) // Raft logs it
		if err == nil {
			err = n.store.cutFront(n.store.size.newest(n.cfg.SnapshotBytes) - 1)
		}
		if err != nil {
			notBefore = time.Now().Add(n.cfg.SnapshotInterval)
		}
	}
}

// dueByCount reports whether the log has enough entries beyond the newest snapshot.
func (n *Node) dueByCount() bool {
	last, taken := n.raft.LastIndex(), n.snapshots.newest().index
	return last > taken && last-taken >= n.cfg.SnapshotThreshold
}

// dueBySize reports whether what the next snapshot would allow to cut from the log
// is large enough, and not small beside the snapshot itself: a large state would
// else be written for ever.
func (n *Node) dueBySize() bool {
	newest := n.snapshots.newest()
	logged, ahead := n.store.size.since(newest.index), n.store.size.since(n.cfg.FSM.Revision())
	return logged > ahead && logged-ahead >= max(n.cfg.SnapshotBytes, newest.size)
}
