package index

import (
	"iter"
	"strings"
	"unsafe"
)

// An Index holds assignments: for a principal and a pattern (the canonical URI
// of a grant, maybe with wildcards) a value that the index does not look into.
// It is immutable, so any number of goroutines may read it without a lock. The
// zero Index is empty.
//
// It is a URI trie for every principal, and one of all principals together,
// each written down in key order: what a trie keeps below a node is what an
// ordered list keeps behind a prefix.
type Index struct {
	records    table // principal → page of pattern → value, or large
	large      tree  // principal NUL pattern → value, of those who hold much
	patterns   tree  // pattern NUL principal
	principals tree  // principal
}

const (
	// separator stands between the parts of a key. Neither part can contain
	// it, and it sorts below everything that they can contain.
	separator = "\x00"
	// large is the record of a principal whose assignments are in the tree.
	large = ""
	// maxRecord is the size, in bytes, from which they are.
	maxRecord = 2048
)

// MaxCovering is how many of a principal's assignments one walk looks at.
const MaxCovering = 4096

// Len is the number of assignments.
func (x *Index) Len() int { return x.patterns.len }

// Get returns the value of exactly this assignment.
func (x *Index) Get(principal, pattern string) (value string, ok bool) {
	record, ok := x.records.get(principal)
	if !ok {
		return "", false
	}
	if record == large {
		var space [keySpace]byte
		return x.large.get(key(space[:0], principal, separator, pattern))
	}
	start, _, ok := search(record, pattern)
	if !ok {
		return "", false
	}
	_, value, _ = entryAt(record, start)
	return value, true
}

// Covering yields the principal's assignments that reach the URI: on itself and
// its ancestors, wildcards included, ordered by pattern. It does not allocate.
//
// The record of a principal with few assignments is read through; with many,
// the walk leaps from each one that does not reach the URI to the next that
// could, so that the cost grows with the URI's depth and not with what the
// principal holds. Only wildcards can be arranged so that there are many places
// to look at: after MaxCovering of them the walk gives up, and says so by
// yielding the empty pattern, which nothing is granted on.
func (x *Index) Covering(principal, uri string) iter.Seq2[string, string] {
	return func(yield func(pattern, value string) bool) {
		record, ok := x.records.get(principal)
		if ok && record == large {
			x.coveringLarge(principal, uri, yield)
			return
		}
		for off := 0; off < len(record); {
			pattern, value, next := entryAt(record, off)
			if Covers(pattern, uri) && !yield(pattern, value) {
				return
			}
			off = next
		}
	}
}

func (x *Index) coveringLarge(principal, uri string, yield func(pattern, value string) bool) {
	var space [keySpace]byte
	prefix := key(space[:0], principal, separator)
	var c cursor
	c.seek(&x.large, prefix)
	for steps := 0; !c.atEnd && strings.HasPrefix(c.key, prefix); steps++ {
		if steps == MaxCovering {
			yield("", "")
			return
		}
		pattern := c.key[len(prefix):]
		if Covers(pattern, uri) {
			if !yield(pattern, c.value) {
				return
			}
			c.advance()
		} else if !leap(&c, &x.large, prefix, pattern, uri, false) {
			return
		}
	}
}

// Below yields every assignment on a resource at or below the URI, ordered by
// pattern and principal: who holds anything there. A pattern counts when its
// first segments match the URI's, wildcards included.
func (x *Index) Below(uri string) iter.Seq2[string, string] {
	return func(yield func(pattern, principal string) bool) {
		var c cursor
		c.seek(&x.patterns, "")
		for !c.atEnd {
			pattern, principal, _ := strings.Cut(c.key, separator)
			if reachesBelow(pattern, uri) {
				if !yield(pattern, principal) {
					return
				}
				c.advance()
			} else if !leap(&c, &x.patterns, "", pattern, uri, true) {
				return
			}
		}
	}
}

// Within yields every assignment whose pattern, read as text, is the URI or lies
// below it, ordered by pattern and principal. A wildcard is a segment like any
// other.
func (x *Index) Within(uri string) iter.Seq2[string, string] {
	return func(yield func(pattern, principal string) bool) {
		for _, prefix := range []string{uri + separator, strings.TrimSuffix(uri, "/") + "/"} {
			var c cursor
			for c.seek(&x.patterns, prefix); !c.atEnd && strings.HasPrefix(c.key, prefix); c.advance() {
				pattern, principal, _ := strings.Cut(c.key, separator)
				if (pattern != uri || prefix[len(prefix)-1] != '/') && !yield(pattern, principal) {
					return
				}
			}
		}
	}
}

// Held yields all that the principal holds, ordered by pattern, starting behind
// the given pattern ("" is before the first).
func (x *Index) Held(principal, after string) iter.Seq2[string, string] {
	return func(yield func(pattern, value string) bool) {
		record, ok := x.records.get(principal)
		if ok && record == large {
			prefix := principal + separator
			var c cursor
			c.seek(&x.large, prefix+after)
			for ; !c.atEnd && strings.HasPrefix(c.key, prefix); c.advance() {
				if pattern := c.key[len(prefix):]; pattern != after && !yield(pattern, c.value) {
					return
				}
			}
			return
		}
		for off := 0; off < len(record); {
			pattern, value, next := entryAt(record, off)
			if pattern > after && !yield(pattern, value) {
				return
			}
			off = next
		}
	}
}

// Principals yields everyone who holds anything, in order, starting behind the
// given principal ("" is before the first).
func (x *Index) Principals(after string) iter.Seq[string] {
	return func(yield func(principal string) bool) {
		var c cursor
		for c.seek(&x.principals, after); !c.atEnd; c.advance() {
			if c.key != after && !yield(c.key) {
				return
			}
		}
	}
}

// An Assignment is one entry of the index.
type Assignment struct{ Principal, Pattern, Value string }

// Assignments yields everything, ordered by principal and pattern, starting
// behind the given assignment (the zero one is before the first).
func (x *Index) Assignments(after Assignment) iter.Seq[Assignment] {
	return func(yield func(Assignment) bool) {
		rest := func(principal, pattern string) bool {
			for pattern, value := range x.Held(principal, pattern) {
				if !yield(Assignment{principal, pattern, value}) {
					return false
				}
			}
			return true
		}
		if !rest(after.Principal, after.Pattern) {
			return
		}
		for principal := range x.Principals(after.Principal) {
			if !rest(principal, "") {
				return
			}
		}
	}
}

// A Builder makes the next Index from one. It must not be used from more than
// one goroutine.
type Builder struct {
	edit       *edit
	records    tableEdit
	large      tree
	patterns   tree
	principals tree
}

// Build starts from the index, which stays as it is.
func (x Index) Build() *Builder {
	return &Builder{new(edit), tableEdit{table: x.records}, x.large, x.patterns, x.principals}
}

// Index publishes what was built. The builder may go on: later changes do not
// show in an Index that it has handed out.
func (b *Builder) Index() Index {
	b.edit = new(edit)
	return Index{b.records.publish(), b.large, b.patterns, b.principals}
}

// view reads what was built so far.
func (b *Builder) view() *Index {
	return &Index{b.records.table, b.large, b.patterns, b.principals}
}

// Get returns the value of an assignment as built so far.
func (b *Builder) Get(principal, pattern string) (value string, ok bool) {
	return b.view().Get(principal, pattern)
}

// Covering is Index.Covering as built so far.
func (b *Builder) Covering(principal, uri string) iter.Seq2[string, string] {
	return b.view().Covering(principal, uri)
}

// Within is Index.Within as built so far.
func (b *Builder) Within(uri string) iter.Seq2[string, string] { return b.view().Within(uri) }

// Held is Index.Held, from the first assignment on, as built so far.
func (b *Builder) Held(principal string) iter.Seq2[string, string] {
	return b.view().Held(principal, "")
}

// Put sets the value of an assignment.
func (b *Builder) Put(principal, pattern, value string) {
	record, ok := b.records.get(principal)
	if !ok {
		b.principals.put(b.edit, principal, "")
	}
	b.patterns.put(b.edit, pattern+separator+principal, "")
	if ok && record == large {
		b.large.put(b.edit, principal+separator+pattern, value)
		return
	}
	start, end, _ := search(record, pattern)
	record = replace(record, start, end, pattern, value)
	if len(record) <= maxRecord {
		b.records.put(principal, record)
		return
	}
	for off := 0; off < len(record); {
		pattern, value, next := entryAt(record, off)
		b.large.put(b.edit, principal+separator+pattern, value)
		off = next
	}
	b.records.put(principal, large)
}

// Delete removes an assignment, if it is there.
func (b *Builder) Delete(principal, pattern string) {
	if !b.patterns.remove(b.edit, pattern+separator+principal) {
		return
	}
	record, _ := b.records.get(principal)
	if record == large {
		b.large.remove(b.edit, principal+separator+pattern)
		b.makeSmall(principal)
		return
	}
	start, end, _ := search(record, pattern)
	b.setRecord(principal, record[:start]+record[end:])
}

// setRecord keeps what a principal is left with, or forgets the principal.
func (b *Builder) setRecord(principal string, record page) {
	if record != "" {
		b.records.put(principal, record)
		return
	}
	b.records.remove(principal)
	b.principals.remove(b.edit, principal)
}

// makeSmall moves what a principal holds back into a record when it takes half
// of one at most, so that a principal at the limit does not go to and fro.
func (b *Builder) makeSmall(principal string) {
	record := ""
	for pattern, value := range b.view().Held(principal, "") {
		if record = replace(record, len(record), len(record), pattern, value); len(record) > maxRecord/2 {
			return
		}
	}
	for off := 0; off < len(record); {
		pattern, _, next := entryAt(record, off)
		b.large.remove(b.edit, principal+separator+pattern)
		off = next
	}
	b.setRecord(principal, record)
}

// keySpace is room for the keys of all but the longest names, on the stack.
const keySpace = 256

// key joins parts in the space, or in new memory where they do not fit, and
// returns a view of it: valid while the space is, and not to be kept.
func key(space []byte, parts ...string) string {
	for _, part := range parts {
		space = append(space, part...)
	}
	return unsafe.String(unsafe.SliceData(space), len(space))
}
