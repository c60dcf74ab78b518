package index

import (
	"encoding/binary"
	"slices"
)

// A Loader makes an Index from all of its assignments in order, as a snapshot has
// them. It takes a third of the time of a Builder, which looks for each one's
// place; and makes an Index that cannot be told from a Builder's but by how full
// its pages are.
type Loader struct {
	principal string
	record    []byte // of the principal, as a page
	holders   []holder
	large     treeLoader
	who       treeLoader
	patterns  []string // keys of Index.patterns
}

type holder struct {
	principal string
	record    page
}

// Add adds an assignment, whose principal and pattern have to be above those
// added before.
func (l *Loader) Add(principal, pattern, value string) {
	if principal != l.principal {
		l.finishPrincipal()
		l.principal = principal
	}
	l.record = appendEntry(l.record, pattern, value)
	l.patterns = append(l.patterns, pattern+separator+principal)
}

func (l *Loader) finishPrincipal() {
	if len(l.record) == 0 {
		return
	}
	record := page(l.record)
	if len(record) > maxRecord {
		for off := 0; off < len(record); {
			pattern, value, next := entryAt(record, off)
			l.large.add(l.principal+separator+pattern, value)
			off = next
		}
		record = large
	}
	l.holders = append(l.holders, holder{l.principal, record})
	l.who.add(l.principal, "")
	l.record = l.record[:0]
}

// Index returns what was added. The loader is of no use afterwards.
func (l *Loader) Index() Index {
	l.finishPrincipal()
	slices.Sort(l.patterns)
	var patterns treeLoader
	for _, key := range l.patterns {
		patterns.add(key, "")
	}
	return Index{loadTable(l.holders), l.large.tree(), patterns.tree(), l.who.tree()}
}

func appendEntry(p []byte, key, value string) []byte {
	p = append(binary.AppendUvarint(p, uint64(len(key))), key...)
	return append(binary.AppendUvarint(p, uint64(len(value))), value...)
}

// loadTable makes a table of records in order of principal, which is the order in
// a bucket too.
func loadTable(holders []holder) (t table) {
	if len(holders) == 0 {
		return t
	}
	for _, h := range holders {
		t.bytes += uvarintLen(len(h.principal)) + len(h.principal) + uvarintLen(len(h.record)) + len(h.record)
	}
	t.buckets = (t.bytes + bucketBytes - 1) / bucketBytes
	buckets := make([][]byte, t.buckets)
	for _, h := range holders {
		b := t.bucket(h.principal)
		buckets[b] = appendEntry(buckets[b], h.principal, h.record)
	}
	for chunk := range slices.Chunk(buckets, chunkBuckets) {
		pages := make([]page, len(chunk))
		for i, b := range chunk {
			pages[i] = page(b)
		}
		t.chunks = append(t.chunks, pages)
	}
	return t
}

const (
	// How full a tree is loaded, so that the first writes need not split it.
	loadedPage   = maxPage * 3 / 4
	loadedFanout = maxFanout * 3 / 4
)

// A treeLoader makes a tree of keys in order.
type treeLoader struct {
	len   int
	last  string
	page  []byte
	pages []page
	keys  []string // between the pages
}

func (l *treeLoader) add(key, value string) {
	if len(l.page) > 0 && len(l.page)+len(key)+len(value)+4 > loadedPage {
		l.pages = append(l.pages, page(l.page))
		l.keys = append(l.keys, shortestBetween(l.last, key))
		l.page = l.page[:0]
	}
	l.page = appendEntry(l.page, key, value)
	l.last = key
	l.len++
}

func (l *treeLoader) tree() tree {
	if l.len == 0 {
		return tree{}
	}
	pages, keys := append(l.pages, page(l.page)), l.keys
	var nodes []*node
	var between []string
	for _, part := range parts(len(pages)) {
		nodes = append(nodes, &node{keys: slices.Clone(keys[part.from : part.to-1]), pages: slices.Clone(pages[part.from:part.to])})
		if part.to < len(pages) {
			between = append(between, keys[part.to-1])
		}
	}
	for len(nodes) > 1 {
		below, keys := nodes, between
		nodes, between = nil, nil
		for _, part := range parts(len(below)) {
			nodes = append(nodes, &node{keys: slices.Clone(keys[part.from : part.to-1]), nodes: slices.Clone(below[part.from:part.to])})
			if part.to < len(below) {
				between = append(between, keys[part.to-1])
			}
		}
	}
	return tree{nodes[0], l.len}
}

type part struct{ from, to int }

// parts cuts n children into as few nodes as hold them loaded, all about equally
// full.
func parts(n int) []part {
	count := (n + loadedFanout - 1) / loadedFanout
	all := make([]part, count)
	for i := range all {
		all[i] = part{i * n / count, (i + 1) * n / count}
	}
	return all
}
