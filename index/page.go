package index

import (
	"encoding/binary"
	"strings"
)

// A page is a leaf of the tree: entries in key order, packed into one string.
// Each is the key's length, the key, the value's length, the value, the lengths
// as uvarints. Packing costs two bytes an entry where pointers cost dozens, and
// a reader walks one stretch of memory. A page is never changed, only rewritten.
type page = string

// maxPage is where a page is split, in bytes. Measured between 256 and 4,096:
// larger pages save little memory and cost a check a longer walk and a write a
// longer copy.
const maxPage = 768

// entryAt decodes the entry that starts at off and returns the next one's start.
func entryAt(p page, off int) (key, value string, next int) {
	n, off := uvarint(p, off)
	key, off = p[off:off+n], off+n
	n, off = uvarint(p, off)
	return key, p[off : off+n], off + n
}

func uvarint(s string, off int) (n, next int) {
	if b := s[off]; b < 0x80 {
		return int(b), off + 1
	}
	for shift := 0; ; shift += 7 {
		b := s[off]
		off++
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, off
		}
	}
}

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// search returns the offsets of the first entry whose key is not below the
// given one (start is len(p) if there is none) and of the entry after it, and
// whether the keys are equal.
func search(p page, key string) (start, end int, found bool) {
	for start < len(p) {
		k, _, next := entryAt(p, start)
		if k == key {
			return start, next, true
		}
		if k > key {
			break
		}
		start = next
	}
	return start, start, false
}

// replace returns the page with the bytes between start and end replaced by an
// entry of the key and value.
func replace(p page, start, end int, key, value string) page {
	var b strings.Builder
	b.Grow(start + len(p) - end + len(key) + len(value) + uvarintLen(len(key)) + uvarintLen(len(value)))
	b.WriteString(p[:start])
	var n [binary.MaxVarintLen64]byte
	b.Write(n[:binary.PutUvarint(n[:], uint64(len(key)))])
	b.WriteString(key)
	b.Write(n[:binary.PutUvarint(n[:], uint64(len(value)))])
	b.WriteString(value)
	b.WriteString(p[end:])
	return b.String()
}

// split cuts a page in two near its middle. A page of one entry, however
// large, stays whole: right is then empty.
func split(p page) (left, right page, separator string) {
	var last string
	for off := 0; off < len(p); {
		key, _, next := entryAt(p, off)
		if off > 0 && (next > len(p)/2 || next == len(p)) {
			return strings.Clone(p[:off]), strings.Clone(p[off:]), shortestBetween(last, key)
		}
		last, off = key, next
	}
	return p, "", ""
}

// shortestBetween returns the shortest prefix of high that is above low.
func shortestBetween(low, high string) string {
	i := 0
	for i < len(low) && low[i] == high[i] {
		i++
	}
	return strings.Clone(high[:i+1])
}
