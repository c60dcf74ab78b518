package index

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

const (
	// bucketBytes is the mean size of a bucket at which the table grows.
	bucketBytes = 768
	// chunkBuckets is how many buckets are copied at once: an edit copies the
	// list of chunks, and each chunk that it touches.
	chunkBuckets = 512
)

// A table is an immutable hash table from principals to records. A bucket is a
// page, so that finding a principal and reading all that it holds touches one
// stretch of memory: at a million grants a check's time is that of its cache
// misses. It grows and shrinks by one bucket at a time (linear hashing), so no
// write ever pays for rehashing the whole.
//
// The hash is seeded at random in each process, against chosen collisions; no
// order or result depends on it.
type table struct {
	chunks  [][]page
	buckets int
	bytes   int // in all buckets
}

var hashSeed = maphash.MakeSeed()

// bucket returns the number of the bucket that holds the key.
func (t *table) bucket(key string) int {
	mask := 1<<bits.Len(uint(t.buckets-1)) - 1
	hash := int(maphash.String(hashSeed, key) >> 1)
	if i := hash & mask; i < t.buckets {
		return i
	}
	return hash & (mask >> 1)
}

func (t *table) page(bucket int) page {
	return t.chunks[bucket/chunkBuckets][bucket%chunkBuckets]
}

func (t *table) get(key string) (record string, ok bool) {
	if t.buckets == 0 {
		return "", false
	}
	p := t.page(t.bucket(key))
	start, _, ok := search(p, key)
	if !ok {
		return "", false
	}
	_, record, _ = entryAt(p, start)
	return record, true
}

// A tableEdit makes the next table from one.
type tableEdit struct {
	table
	owned map[int]bool // chunks that this edit has copied; nil before the first
}

// publish returns the table as it is now; later changes do not show in it.
func (t *tableEdit) publish() table {
	t.owned = nil
	return t.table
}

func (t *tableEdit) setPage(bucket int, p page) {
	if t.owned == nil {
		t.chunks = slices.Clone(t.chunks)
		t.owned = map[int]bool{}
	}
	chunk := bucket / chunkBuckets
	if chunk == len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if !t.owned[chunk] {
		t.chunks[chunk] = slices.Clone(t.chunks[chunk])
		t.owned[chunk] = true
	}
	if i := bucket % chunkBuckets; i < len(t.chunks[chunk]) {
		t.bytes += len(p) - len(t.chunks[chunk][i])
		t.chunks[chunk][i] = p
	} else {
		t.bytes += len(p)
		t.chunks[chunk] = append(t.chunks[chunk], p)
	}
}

func (t *tableEdit) put(key, record string) {
	if t.buckets == 0 {
		t.setPage(0, "")
		t.buckets = 1
	}
	b := t.bucket(key)
	p := t.page(b)
	start, end, _ := search(p, key)
	t.setPage(b, replace(p, start, end, key, record))
	for t.bytes > t.buckets*bucketBytes {
		t.grow()
	}
}

func (t *tableEdit) remove(key string) {
	if t.buckets == 0 {
		return
	}
	b := t.bucket(key)
	p := t.page(b)
	start, end, _ := search(p, key)
	t.setPage(b, p[:start]+p[end:])
	for t.buckets > 1 && t.bytes < t.buckets*bucketBytes/4 {
		t.shrink()
	}
}

// sibling returns the bucket whose keys the given one takes over when it is
// added, and gives back when it is dropped.
func sibling(bucket int) int {
	return bucket &^ (1 << (bits.Len(uint(bucket)) - 1))
}

func (t *tableEdit) grow() {
	added, from := t.buckets, sibling(t.buckets)
	whole := t.page(from)
	t.buckets++
	var stay, move []byte
	for off := 0; off < len(whole); {
		key, _, next := entryAt(whole, off)
		if t.bucket(key) == added {
			move = append(move, whole[off:next]...)
		} else {
			stay = append(stay, whole[off:next]...)
		}
		off = next
	}
	t.setPage(from, page(stay))
	t.setPage(added, page(move))
}

func (t *tableEdit) shrink() {
	dropped := t.buckets - 1
	moved := t.page(dropped)
	t.setPage(dropped, "")
	chunk := dropped / chunkBuckets
	t.chunks[chunk] = t.chunks[chunk][:dropped%chunkBuckets]
	if len(t.chunks[chunk]) == 0 {
		t.chunks = t.chunks[:chunk]
		delete(t.owned, chunk)
	}
	t.buckets--
	into := sibling(dropped)
	p := t.page(into)
	for off := 0; off < len(moved); {
		key, record, next := entryAt(moved, off)
		start, end, _ := search(p, key)
		p = replace(p, start, end, key, record)
		off = next
	}
	t.setPage(into, p)
}
