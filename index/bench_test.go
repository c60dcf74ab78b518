package index

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"github.com/tidwall/btree"
)

// The benchmarks hold five ways to represent the trie behind one interface:
// what each costs to ask, to write and to keep. docs/architecture.md has the
// figures and why packed records were chosen.
//
// All look at the URI and each of its ancestors, and none stops at the first
// that answers. Only packed-records and map-trie know wildcards, and look for
// them though none was granted. Packed-records alone also keeps who holds
// anything at or below a URI, and every principal, in order: it pays for that
// in every write and every byte.

// A representation answers whether a principal holds anything that reaches a URI.
type representation interface {
	put(principal, uri, value string)
	// publish makes what was put visible to readers that may keep it. The
	// mutable ones cannot, and do nothing.
	publish()
	covered(principal, uri string) bool
}

var representations = []struct {
	name string
	make func() representation
}{
	{"plain-map", func() representation { return plainMap{} }},
	{"packed-records", func() representation { return &packedRecords{builder: Index{}.Build()} }},
	{"map-trie", func() representation { return mapTrie{} }},
	{"immutable-radix", func() representation { return &radix{txn: iradix.New[string]().Txn()} }},
	{"btree-of-strings", func() representation { return &stringBTree{} }},
}

// plainMap is the yardstick: mutable, without wildcards, without any order.
type plainMap map[struct{ principal, uri string }]string

func (m plainMap) put(principal, uri, value string) {
	m[struct{ principal, uri string }{principal, uri}] = value
}

func (m plainMap) publish() {}

func (m plainMap) covered(principal, uri string) (found bool) {
	ancestors(uri, func(ancestor string) bool {
		_, ok := m[struct{ principal, uri string }{principal, ancestor}]
		found = found || ok
		return true
	})
	return found
}

// ancestors calls yield with "/", then every prefix of whole segments, and the
// canonical URI itself last, until yield returns false.
func ancestors(uri string, yield func(ancestor string) bool) {
	if !yield("/") || uri == "/" {
		return
	}
	for i := 1; i < len(uri); i++ {
		if uri[i] == '/' && !yield(uri[:i]) {
			return
		}
	}
	yield(uri)
}

type packedRecords struct {
	builder *Builder
	index   Index
}

func (p *packedRecords) put(principal, uri, value string) { p.builder.Put(principal, uri, value) }

func (p *packedRecords) publish() { p.index = p.builder.Index() }

func (p *packedRecords) covered(principal, uri string) (found bool) {
	for range p.index.Covering(principal, uri) {
		found = true
	}
	return found
}

// mapTrie is one node for every segment, with a Go map of its children and one
// of the principals who hold something there. Mutable.
type mapTrie map[string]*mapTrieNode

type mapTrieNode struct {
	children mapTrie
	holders  map[string]string
}

func (m mapTrie) put(principal, uri, value string) {
	for at := m; ; {
		segment, rest := cutSegment(uri)
		n := at[segment]
		if n == nil {
			n = &mapTrieNode{}
			at[segment] = n
		}
		if rest == "" {
			if n.holders == nil {
				n.holders = map[string]string{}
			}
			n.holders[principal] = value
			return
		}
		if n.children == nil {
			n.children = mapTrie{}
		}
		at, uri = n.children, rest
	}
}

func (m mapTrie) publish() {}

func (m mapTrie) covered(principal, uri string) (found bool) {
	segment, rest := cutSegment(uri)
	for _, choice := range [2]string{segment, Wildcard} {
		if n := m[choice]; n != nil {
			_, ok := n.holders[principal]
			found = found || ok
			if rest != "" && n.children.covered(principal, rest) {
				found = true
			}
		}
	}
	return found
}

// radix is a persistent radix tree over principal and URI.
type radix struct {
	txn  *iradix.Txn[string]
	tree *iradix.Tree[string]
}

func (x *radix) put(principal, uri, value string) {
	x.txn.Insert([]byte(principal+separator+uri), value)
}

func (x *radix) publish() { x.tree = x.txn.Commit() }

func (x *radix) covered(principal, uri string) (found bool) {
	var space [keySpace]byte
	full := append(append(append(space[:0], principal...), separator...), uri...)
	ancestors(uri, func(ancestor string) bool {
		_, ok := x.tree.Get(full[:len(principal)+len(separator)+len(ancestor)])
		found = found || ok
		return true
	})
	return found
}

// stringBTree is a copy-on-write B-tree with one Go string a key.
type stringBTree struct {
	next btree.Map[string, string]
	tree *btree.Map[string, string]
}

func (x *stringBTree) put(principal, uri, value string) { x.next.Set(principal+separator+uri, value) }

func (x *stringBTree) publish() { x.tree = x.next.Copy() }

func (x *stringBTree) covered(principal, uri string) (found bool) {
	var space [keySpace]byte
	ancestors(uri, func(ancestor string) bool {
		_, ok := x.tree.Get(key(space[:0], principal, separator, ancestor))
		found = found || ok
		return true
	})
	return found
}

// grants yields n grants, 10 a principal, on URIs of four segments.
func grants(n int, yield func(principal, uri string)) {
	r := rand.New(rand.NewPCG(7, 7))
	for i := range n {
		yield(fmt.Sprintf("user:%06d", i/10), fmt.Sprintf("/project/%d/documents/%d", r.IntN(n/100), r.IntN(100_000)))
	}
}

type question struct{ principal, uri string }

// questions returns what is covered, and what is not though its principal holds
// as much elsewhere.
func questions(size int) (covered, uncovered []question) {
	grants(size, func(principal, uri string) {
		covered = append(covered, question{principal, uri + "/comments"})
		uncovered = append(uncovered, question{principal, uri[:len(uri)-1] + "x/comments"})
	})
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(size, func(i, j int) {
		covered[i], covered[j] = covered[j], covered[i]
		uncovered[i], uncovered[j] = uncovered[j], uncovered[i]
	})
	return covered, uncovered
}

func BenchmarkIndex(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000} {
		asked := sync.OnceValue(func() [2][]question {
			covered, uncovered := questions(size)
			return [2][]question{covered, uncovered}
		})
		for _, kind := range representations {
			var perGrant float64
			built := sync.OnceValue(func() representation {
				asked()
				before := heap()
				x := kind.make()
				grants(size, func(principal, uri string) { x.put(principal, uri, "\x01") })
				x.publish()
				perGrant = float64(heap()-before) / float64(size)
				return x
			})
			name := fmt.Sprintf("%s/grants=%d", kind.name, size)
			for i, want := range []bool{true, false} {
				b.Run(name+[]string{"/covered", "/uncovered"}[i], func(b *testing.B) {
					x, questions := built(), asked()[i]
					b.ReportAllocs()
					b.ResetTimer()
					for i := range b.N {
						q := &questions[i%len(questions)]
						if x.covered(q.principal, q.uri) != want {
							b.Fatalf("%v is covered: %v", *q, !want)
						}
					}
					b.ReportMetric(perGrant, "bytes/grant")
				})
			}
			// Last, since it changes what was built. An operation is one grant;
			// 64 are published at once.
			b.Run(name+"/put", func(b *testing.B) {
				x, questions := built(), asked()[0]
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					q := &questions[i%len(questions)]
					x.put(q.principal, q.uri, "\x01")
					if i%64 == 63 {
						x.publish()
					}
				}
			})
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
