package cluster

import (
	"sort"
	"sync"

	"github.com/hashicorp/raft"
)

const (
	// entryOverhead is about what an entry takes beyond its data.
	entryOverhead = 32
	// logSizeGrains is how many grains the size that is watched for is cut into.
	logSizeGrains = 64
)

// logSize knows about how many bytes the entries of the log take, by index: to the
// grain, a small part of the size that makes a snapshot due.
type logSize struct {
	grain uint64
	grown chan struct{} // has a value after each grain

	mu    sync.Mutex
	total uint64    // bytes of all entries noted
	marks []logMark // ascending, about a grain apart
}

// logMark says how many bytes were noted before an entry.
type logMark struct{ index, before uint64 }

func newLogSize(watched uint64) *logSize {
	return &logSize{grain: max(watched/logSizeGrains, 1), grown: make(chan struct{}, 1)}
}

// add notes entries at the end of the log.
func (l *logSize) add(entries []*raft.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, entry := range entries {
		if len(l.marks) == 0 || l.total-l.marks[len(l.marks)-1].before >= l.grain {
			l.marks = append(l.marks, logMark{entry.Index, l.total})
			select {
			case l.grown <- struct{}{}:
			default:
			}
		}
		l.total += uint64(len(entry.Data)+len(entry.Extensions)) + entryOverhead
	}
}

// cutEnd forgets the entries from an index on.
func (l *logSize) cutEnd(first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.search(first); i < len(l.marks) {
		l.total = l.marks[i].before
		l.marks = l.marks[:i]
	}
}

// cutFront forgets the entries to an index.
func (l *logSize) cutFront(last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.search(last + 2); i > 1 { // the mark before the first entry that stays
		l.marks = append(l.marks[:0], l.marks[i-1:]...)
	}
}

// search returns the first mark at or after an index.
func (l *logSize) search(index uint64) int {
	return sort.Search(len(l.marks), func(i int) bool { return l.marks[i].index >= index })
}

// since returns the bytes of the entries after an index, and up to a grain more.
func (l *logSize) since(index uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.marks) == 0 {
		return 0
	}
	return l.total - l.marks[max(l.search(index+2)-1, 0)].before
}

// newest returns the index from which on the entries take at most so many bytes,
// or a grain; 1 if all do.
func (l *logSize) newest(bytes uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.marks), func(i int) bool { return l.total-l.marks[i].before <= bytes })
	switch {
	case i == 0:
		return 1
	case i == len(l.marks):
		i--
	}
	return l.marks[i].index
}
