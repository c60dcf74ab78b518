package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	defaultMinFreeDisk = 256 << 20
	// diskInterval is how often the room on the disk is looked at.
	diskInterval = time.Second
)

// ErrLowDisk means that the leader's disk is low and nobody can lead in its place.
// A command that got this answer is in no log.
var ErrLowDisk error = lowDisk{}

type lowDisk struct{}

func (lowDisk) Error() string        { return "the disk of the leader is low" }
func (lowDisk) Is(target error) bool { return target == ErrNotApplied }

// disk knows how much room there is on the disk of the data folder.
type disk struct {
	path    string
	log     *slog.Logger
	minimum uint64
	measure func(path string) (free uint64, err error)

	free    atomic.Uint64 // as of the last look
	low     atomic.Bool
	refuses atomic.Bool // a low leader whom nobody replaces
	blind   bool        // the last look failed
}

// enough is the room with which a disk that was low is so no longer: more than the
// minimum, so that it does not go back and forth.
func (d *disk) enough() uint64 { return d.minimum + d.minimum/4 }

// look looks how much room there is, and logs what changed. A disk that does not say
// stays what it was.
func (d *disk) look() {
	free, err := d.measure(d.path)
	if err != nil {
		if !d.blind {
			d.log.Warn("it cannot be told how much room the disk has", "data_dir", d.path, "error", err)
		}
		d.blind = true
		return
	}
	d.blind = false
	d.free.Store(free)
	switch low := d.low.Load(); {
	case !low && free < d.minimum:
		d.low.Store(true)
		d.log.Warn("the disk is low: make room on it; until then this node leads only if nobody else can, and takes no writes then",
			"data_dir", d.path, "free_bytes", free, "low_below_bytes", d.minimum, "enough_at_bytes", d.enough())
	case low && free >= d.enough():
		d.low.Store(false)
		d.refuses.Store(false)
		d.log.Warn("the disk is no longer low", "data_dir", d.path, "free_bytes", free)
	}
}

// watchDisk looks at the disk until the node ends, and when the leader changes. A
// leader whose disk is low hands over, or else refuses writes: a disk that is full
// ends the node, and a write that grows the log is what fills it.
func (n *Node) watchDisk(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		changed := n.leaders.changed()
		n.disk.look()
		if n.disk.low.Load() {
			n.yieldLeadership()
		}
		select {
		case <-ticker.C:
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}

// yieldLeadership gives leadership to a node that has room, if this one has it.
func (n *Node) yieldLeadership() {
	if _, leads := n.leaderTerm(); !leads {
		n.disk.refuses.Store(false)
		return
	}
	to, err := n.Transfer(n.ctx, "")
	switch {
	case err == nil:
		n.disk.refuses.Store(false)
		n.log.Warn("leadership was handed over, since the disk is low", "to", to)
	case errors.Is(err, ErrNotLeader) || n.Err() != nil:
		n.disk.refuses.Store(false)
	case n.disk.refuses.CompareAndSwap(false, true):
		n.log.Error("writes are refused: the disk is low and no other node can lead",
			"data_dir", n.cfg.DataDir, "free_bytes", n.disk.free.Load(), "reason", err)
	}
}

// refusal is the answer to a write while the disk is low; nil if it is not.
func (d *disk) refusal() error {
	if !d.refuses.Load() {
		return nil
	}
	return fmt.Errorf("%w and no other voter can take over: %d MiB are free, %d MiB are needed before it takes writes again: make room on that node's disk, or bring back a voter that has room",
		ErrLowDisk, d.free.Load()>>20, (d.enough()+1<<20-1)>>20)
}
