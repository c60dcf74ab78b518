package cluster

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchdogTicks is how many ticks of its watchdog an operation may take.
const watchdogTicks = 20

// watchdog notices that an operation on the disk does not return. It counts ticks
// and not time: a process that was stopped, or starved of processors, for a minute
// in the middle of an operation sees one tick, and its disk is not to blame.
type watchdog struct {
	limit  time.Duration
	onHang func() // called once for each operation that takes longer than the limit

	count   atomic.Uint64 // operations begun so far
	current atomic.Uint64 // the number of the one under way, zero if none is
	end     chan struct{}
	once    sync.Once
}

// newWatchdog starts a watchdog for operations that run one at a time.
func newWatchdog(limit time.Duration, onHang func()) *watchdog {
	w := &watchdog{limit: limit, onHang: onHang, end: make(chan struct{})}
	go w.run()
	return w
}

// watch runs an operation under the watchdog.
func (w *watchdog) watch(operation func() error) error {
	w.current.Store(w.count.Add(1))
	defer w.current.Store(0)
	return operation()
}

func (w *watchdog) run() {
	ticker := time.NewTicker(max(w.limit/watchdogTicks, time.Millisecond))
	defer ticker.Stop()
	var seen uint64
	ticks := 0
	for {
		select {
		case <-ticker.C:
		case <-w.end:
			return
		}
		switch now := w.current.Load(); {
		case now != seen:
			seen, ticks = now, 0
		case now != 0:
			if ticks++; ticks == watchdogTicks {
				w.onHang()
			}
		}
	}
}

// stop ends the watchdog.
func (w *watchdog) stop() { w.once.Do(func() { close(w.end) }) }
