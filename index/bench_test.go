package index

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"github.com/tidwall/btree"
)

// The benchmarks hold five ways to represent the trie behind one interface:
// what each costs to ask, to write and to keep. docs/architecture.md has the
// figures and why packed records were chosen.

// A representation answers whether a principal holds anything that reaches a URI.
type representation interface {
	put(principal, uri, value string)
	covered(principal, uri string) bool
}

var representations = []struct {
	name string
	make func() representation
}{
	{"plain-map", func() representation { return plainMap{} }},
	{"packed-records", func() representation { return &packedRecords{} }},
	{"map-trie", func() representation { return mapTrie{} }},
	{"immutable-radix", func() representation { return &radix{iradix.New[string]().Txn()} }},
	{"btree-of-strings", func() representation { return &stringBTree{} }},
}

// plainMap is the yardstick: mutable, without wildcards, without any order.
type plainMap map[struct{ principal, uri string }]string

func (m plainMap) put(principal, uri, value string) {
	m[struct{ principal, uri string }{principal, uri}] = value
}

func (m plainMap) covered(principal, uri string) (found bool) {
	Ancestors(uri, func(ancestor string) bool {
		_, ok := m[struct{ principal, uri string }{principal, ancestor}]
		found = found || ok
		return true
	})
	return found
}

type packedRecords struct{ index Index }

func (p *packedRecords) put(principal, uri, value string) {
	b := p.index.Build()
	b.Put(principal, uri, value)
	p.index = b.Index()
}

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

func (m mapTrie) covered(principal, uri string) bool {
	segment, rest := cutSegment(uri)
	for _, choice := range [2]string{segment, Wildcard} {
		if n := m[choice]; n != nil {
			if _, ok := n.holders[principal]; ok || rest != "" && n.children.covered(principal, rest) {
				return true
			}
		}
	}
	return false
}

// radix is a persistent radix tree over principal and URI.
type radix struct{ txn *iradix.Txn[string] }

func (x *radix) put(principal, uri, value string) {
	x.txn.Insert([]byte(principal+separator+uri), value)
}

func (x *radix) covered(principal, uri string) (found bool) {
	var space [keySpace]byte
	full := append(append(append(space[:0], principal...), separator...), uri...)
	Ancestors(uri, func(ancestor string) bool {
		_, ok := x.txn.Get(full[:len(principal)+len(separator)+len(ancestor)])
		found = found || ok
		return true
	})
	return found
}

// stringBTree is a copy-on-write B-tree with one Go string a key.
type stringBTree struct {
	tree btree.Map[string, string]
}

func (x *stringBTree) put(principal, uri, value string) { x.tree.Set(principal+separator+uri, value) }

func (x *stringBTree) covered(principal, uri string) (found bool) {
	var space [keySpace]byte
	Ancestors(uri, func(ancestor string) bool {
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

func BenchmarkCovering(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000} {
		type question struct{ principal, uri string }
		var questions []question
		grants(size, func(principal, uri string) {
			questions = append(questions, question{principal, uri + "/comments"})
		})
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(questions), func(i, j int) {
			questions[i], questions[j] = questions[j], questions[i]
		})
		for _, kind := range representations {
			b.Run(fmt.Sprintf("%s/grants=%d", kind.name, size), func(b *testing.B) {
				before := heap()
				x := kind.make()
				grants(size, func(principal, uri string) { x.put(principal, uri, "\x01") })
				perGrant := float64(heap()-before) / float64(size)
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					q := &questions[i%len(questions)]
					if !x.covered(q.principal, q.uri) {
						b.Fatalf("%v is not covered", *q)
					}
				}
				b.ReportMetric(perGrant, "bytes/grant")
				runtime.KeepAlive(x)
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
