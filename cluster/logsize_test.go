package cluster

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// TestLogSize compares with the sizes added up, over appends and cuts at both ends.
func TestLogSize(t *testing.T) {
	const watched = 64 << 10
	random := rand.New(rand.NewPCG(1, 2))
	l := newLogSize(watched)
	sizes := map[uint64]uint64{}
	first, next := uint64(1), uint64(1)
	exact := func(from uint64) (sum uint64) {
		for i := from; i < next; i++ {
			sum += sizes[i]
		}
		return sum
	}
	// A cut at the end may leave a part of a grain counted, and so may the next one.
	slack := 6 * (l.grain + 500 + entryOverhead)
	for range 2000 {
		switch random.IntN(10) {
		case 0:
			if next > first {
				first += random.Uint64N(next - first)
				l.cutFront(first - 1)
			}
		case 1:
			if next > first+1 {
				next = max(next-random.Uint64N(5), first+1)
				l.cutEnd(next)
			}
		default:
			var entries []*raft.Log
			for range random.IntN(20) {
				entry := &raft.Log{Index: next, Data: make([]byte, random.IntN(500))}
				entries = append(entries, entry)
				sizes[next] = uint64(len(entry.Data)) + entryOverhead
				next++
			}
			l.add(entries)
		}
		from := first + random.Uint64N(next-first+1)
		if got, want := l.since(from-1), exact(from); got+l.grain < want || got > want+slack {
			t.Fatalf("since %d of %d to %d: %d, want %d", from, first, next, got, want)
		}
		bytes := random.Uint64N(2 * watched)
		if from := max(l.newest(bytes), first); exact(from) > bytes+slack || from > first && exact(from)+slack < min(bytes, exact(first)) {
			t.Fatalf("the newest %d bytes from %d: %d", bytes, from, exact(from))
		}
		if len(l.marks) > int(exact(first)/l.grain)+3 {
			t.Fatalf("%d marks for %d bytes", len(l.marks), exact(first))
		}
	}
}

// What was in the log is known after opening it again.
func TestLogSizeAfterOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), logFile)
	opts := storeOptions{noSync: true, watchedSize: 64 << 10}
	s, err := openStore(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(100) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(1, 50); err != nil {
		t.Fatal(err)
	}
	before := s.size.since(60)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openStore(path, opts); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.measure(); err != nil {
		t.Fatal(err)
	}
	if got := s.size.since(60); before < 40_000 || got < 40_000 || max(got, before)-min(got, before) > s.size.grain+2000 {
		t.Errorf("40 entries of 1000 bytes take %d after opening, %d before", got, before)
	}
}
