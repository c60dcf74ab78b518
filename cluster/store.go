package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// store is the Raft log and Raft's few durable values (term, vote) in one bbolt file.
//
// What makes it durable is bbolt's own commit, which we leave alone: it writes
// the changed pages to free places, fdatasyncs, writes the meta page that points
// to them, and fdatasyncs again. The order matters. Switching bbolt's syncing off
// and calling Sync once per commit would halve the syncs, but then the kernel may
// write the meta page before the pages it points to, and a power cut in between
// leaves a meta page that points to old content: not only the entries of that
// commit are gone, entries acknowledged long before can be unreadable.
//
// A commit that failed leaves open what is on the disk, and after a failed fsync
// the kernel may have dropped the pages and report success the next time. So the
// first failure is the last write: every later one gets the same error, and
// onFailure is told so that the node stops. Raft acknowledges nothing that
// StoreLogs did not return nil for.
//
// A commit that does not return is a failure too: Raft's heartbeats do not touch
// the disk, so a leader that waits for its disk for ever stays the leader.
type store struct {
	bolt *raftboltdb.BoltStore
	opts storeOptions
	dog  *watchdog
	size *logSize
	// keeping calls cut with the lowest index that must stay when the log is cut
	// behind a snapshot; set before there is anything to cut.
	keeping func(cut func(lowest uint64) error) error

	// term is the newest that was stored.
	term atomic.Uint64

	mu      sync.Mutex // one commit, with its hook, at a time; bbolt has one writer anyway
	failure atomic.Pointer[error]
}

// storeOptions are what the node, and tests, choose about a store.
type storeOptions struct {
	// onFailure is called once, with the first failed write.
	onFailure func(error)
	// hungAfter is how long a commit may take; zero is defaultHungStoreTimeout.
	hungAfter time.Duration
	// watchedSize is the growth of the log that someone waits for.
	watchedSize uint64

	// noSync switches the syncing off. Only for tests, which must see that it loses commands.
	noSync bool
	// beforeCommit is called at the beginning of each commit.
	beforeCommit func()
	// afterCommit is called after each successful commit, before Raft learns of
	// it and while no other commit can start.
	afterCommit func()
	// openFile opens the file in place of os.OpenFile.
	openFile func(name string, flag int, perm os.FileMode) (*os.File, error)
}

// lockTimeout is how long the log is waited for while another program holds it.
const lockTimeout = time.Second

func openStore(path string, opts storeOptions) (*store, error) {
	var bolt *raftboltdb.BoltStore
	var file *os.File
	err := guard(func() (err error) {
		if err = requireWhole(path); err != nil {
			return err
		}
		bolt, err = raftboltdb.New(raftboltdb.Options{
			Path:   path,
			NoSync: opts.noSync,
			BoltOptions: &bbolt.Options{
				Timeout: lockTimeout,
				// The free list is rebuilt at open: one page less to write at every commit.
				NoFreelistSync: true,
				FreelistType:   bbolt.FreelistMapType,
				OpenFile: func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
					if opts.openFile == nil {
						file, err = os.OpenFile(name, flag, perm)
					} else {
						file, err = opts.openFile(name, flag, perm)
					}
					return file, err
				},
			},
		})
		return err
	})
	if err != nil {
		if file != nil {
			// After a panic nobody else does it, and the memory map, which stays, would keep the lock.
			_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
			_ = file.Close()
		}
		return nil, damagedLog(path, err)
	}
	if opts.hungAfter == 0 {
		opts.hungAfter = defaultHungStoreTimeout
	}
	s := &store{bolt: bolt, opts: opts, size: newLogSize(opts.watchedSize)}
	s.keeping = func(cut func(uint64) error) error { return cut(math.MaxUint64) }
	s.dog = newWatchdog(opts.hungAfter, func() {
		s.fail(fmt.Errorf("a write to the log %s has not returned for %s, so its disk hangs: check the disk, then start the node again",
			path, opts.hungAfter))
	})
	return s, nil
}

// write runs one commit.
func (s *store) write(commit func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed(); err != nil {
		return err
	}
	err := s.dog.watch(func() error {
		if s.opts.beforeCommit != nil {
			s.opts.beforeCommit()
		}
		return commit()
	})
	if err != nil {
		return s.fail(fmt.Errorf("write to the log failed, nothing more is written: %w", err))
	}
	// A commit that hung and came to an end after all: the node has ended by then.
	if err := s.failed(); err != nil {
		return err
	}
	if s.opts.afterCommit != nil {
		s.opts.afterCommit()
	}
	return nil
}

// fail notes the first failure, and returns it.
func (s *store) fail(err error) error {
	if s.failure.CompareAndSwap(nil, &err) && s.opts.onFailure != nil {
		s.opts.onFailure(err)
	}
	return s.failed()
}

// failed returns the first failure.
func (s *store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

func (s *store) StoreLogs(entries []*raft.Log) error {
	err := s.write(func() error { return s.bolt.StoreLogs(entries) })
	if err == nil {
		s.size.add(entries)
	}
	return err
}

// measure notes the size of the entries that the log holds at open.
func (s *store) measure() error {
	first, err := s.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := s.LastIndex()
	for i := first; i <= last && err == nil; i++ {
		var entry raft.Log
		if err = s.GetLog(i, &entry); err == nil {
			s.size.add([]*raft.Log{&entry})
		} else if errors.Is(err, raft.ErrLogNotFound) {
			err = nil // a snapshot from the leader filled the gap
		}
	}
	return err
}

// deleteStep is how many entries one commit removes: entries to store wait for it.
const deleteStep = 500

// DeleteRange removes entries: from the log's beginning, behind a snapshot, or from
// its end, where they contradict a new leader's. Those at the end go at once: a
// crash must not leave a gap.
func (s *store) DeleteRange(first, last uint64) error {
	begin, err := s.FirstIndex()
	if err != nil {
		return err
	}
	end, err := s.LastIndex()
	if err != nil {
		return err
	}
	if first <= begin && last < end {
		return s.cutFront(last)
	}
	s.size.cutEnd(first)
	return s.write(func() error { return s.bolt.DeleteRange(first, last) })
}

// cutFront removes the entries to an index, except what has to stay. It goes in
// steps, so that no write waits for a hundred thousand of them; a crash in between
// leaves entries that the snapshot holds too.
func (s *store) cutFront(last uint64) error {
	for more := true; more; {
		err := s.keeping(func(lowest uint64) error {
			first, err := s.FirstIndex()
			if err != nil {
				return err
			}
			to := last
			if lowest <= last {
				to = lowest - min(lowest, 1)
			}
			if more = first > 0 && first <= to; !more {
				return nil
			}
			to = min(to, first+deleteStep-1)
			s.size.cutFront(to)
			return s.write(func() error { return s.bolt.DeleteRange(first, to) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *store) Set(key, value []byte) error {
	return s.write(func() error { return s.bolt.Set(key, value) })
}

// SetUint64 stores a term or a vote. A term never becomes an older one: Raft handles
// heartbeats beside all else, and one that was overtaken by a vote would take the term
// back (v1.7.3), and with it what the read index rests on. Zero takes back a bootstrap,
// before Raft runs.
func (s *store) SetUint64(key []byte, value uint64) error {
	isTerm := bytes.Equal(key, keyCurrentTerm)
	return s.write(func() error {
		if isTerm && value != 0 && value < s.term.Load() {
			return nil
		}
		err := s.bolt.SetUint64(key, value)
		if isTerm && err == nil {
			s.term.Store(value)
		}
		return err
	})
}

func (s *store) FirstIndex() (uint64, error)                { return s.bolt.FirstIndex() }
func (s *store) LastIndex() (uint64, error)                 { return s.bolt.LastIndex() }
func (s *store) GetLog(index uint64, entry *raft.Log) error { return s.bolt.GetLog(index, entry) }
func (s *store) Get(key []byte) ([]byte, error)             { return s.bolt.Get(key) }

// GetUint64 returns a term or a vote.
func (s *store) GetUint64(key []byte) (uint64, error) {
	value, err := s.bolt.GetUint64(key)
	if err == nil && bytes.Equal(key, keyCurrentTerm) {
		s.term.Store(max(value, s.term.Load()))
	}
	return value, err
}

func (s *store) close() error {
	s.dog.stop()
	return s.bolt.Close()
}
