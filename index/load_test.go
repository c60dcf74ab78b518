package index

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// load makes an index of all assignments of the model.
func load(m model) Index {
	var l Loader
	keys := slices.SortedFunc(maps.Keys(m), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, k := range keys {
		l.Add(k[0], k[1], m[k])
	}
	return l.Index()
}

// TestLoader: an index that was loaded answers as any other, and can be built on.
func TestLoader(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 11))
		m, principals := model{}, []string{"u", "user", "user:1", "user:12", "z"}
		for i := range 1 + r.IntN(40) {
			principals = append(principals, fmt.Sprint("p", i))
		}
		for range r.IntN(1 + 100*int(seed)) {
			value := strings.Repeat("v", r.IntN(40))
			if r.IntN(100) == 0 {
				value = strings.Repeat("w", r.IntN(5000))
			}
			// The first hold much, the last a thing or two.
			m[[2]string{principals[r.IntN(1+r.IntN(len(principals)))], randomPattern(r, true)}] = value
		}
		x := load(m)
		loaded, before := x, maps.Clone(m)
		for range 40 {
			checkForm(t, &x)
			compare(t, r, &x, m, principals)
			b := x.Build()
			for range 20 {
				principal, pattern := principals[r.IntN(len(principals))], randomPattern(r, true)
				if r.IntN(2) == 0 {
					b.Put(principal, pattern, "new")
					m[[2]string{principal, pattern}] = "new"
				} else {
					b.Delete(principal, pattern)
					delete(m, [2]string{principal, pattern})
				}
			}
			x = b.Index()
		}
		checkForm(t, &loaded)
		compare(t, r, &loaded, before, principals)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestLoadedForm: at every size, among them those at which a page or a node is
// just full.
func TestLoadedForm(t *testing.T) {
	sizes := []int{0, 1, 2, 3, 100, 2999, 20_000}
	for n := range 120 {
		sizes = append(sizes, n*17+n%3)
	}
	for _, n := range sizes {
		var l treeLoader
		m, want, records := model{}, map[string]string{}, map[string]string{}
		var holders []holder
		for i := range n {
			key, value := fmt.Sprintf("%06d%s", i, strings.Repeat("k", i%50)), strings.Repeat("v", i%30)
			if i%500 == 7 {
				value = strings.Repeat("w", 900)
			}
			l.add(key, value)
			want[key] = value
			holders, records[key] = append(holders, holder{key, value}), value
			m[[2]string{"u", "/" + key}] = value
		}
		x, table := l.tree(), loadTable(holders)
		checkTree(t, &x, want)
		checkTable(t, &table, records)
		one := load(m) // a principal who holds all of it
		checkForm(t, &one)
		checkTree(t, &one.patterns, func() map[string]string {
			patterns := map[string]string{}
			for k := range m {
				patterns[k[1]+separator+k[0]] = ""
			}
			return patterns
		}())
	}
}
