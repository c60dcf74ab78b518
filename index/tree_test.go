package index

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// entriesOf decodes a page and holds it to its form: keys in strict order.
func entriesOf(t *testing.T, p page) (keys, values []string) {
	t.Helper()
	for off := 0; off < len(p); {
		var key, value string
		key, value, off = entryAt(p, off)
		if len(keys) > 0 && key <= keys[len(keys)-1] {
			t.Fatalf("key %q follows %q in a page", key, keys[len(keys)-1])
		}
		keys, values = append(keys, key), append(values, value)
	}
	return keys, values
}

func TestUvarint(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 16383, 16384, 1 << 20, 1<<31 - 1} {
		b := binary.AppendUvarint([]byte("xx"), uint64(n))
		if got, next := uvarint(string(b)+"y", 2); got != n || next != len(b) {
			t.Errorf("uvarint of %d is %d and ends at %d, want %d", n, got, next, len(b))
		}
		if got := uvarintLen(n); got != len(b)-2 {
			t.Errorf("uvarintLen(%d) = %d, want %d", n, got, len(b)-2)
		}
	}
}

func TestPage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p, want := page(""), map[string]string{}
	for range 2000 {
		key := strings.Repeat(string(rune('a'+r.IntN(4))), r.IntN(200))
		start, end, found := search(p, key)
		if _, ok := want[key]; ok != found {
			t.Fatalf("search(%q) = %v, want %v", key, found, ok)
		}
		if found && r.IntN(2) == 0 {
			p = p[:start] + p[end:]
			delete(want, key)
		} else {
			want[key] = strings.Repeat("v", r.IntN(300))
			p = replace(p, start, end, key, want[key])
		}
	}
	keys, values := entriesOf(t, p)
	if !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("the keys are %q", keys)
	}
	for i, key := range keys {
		if values[i] != want[key] {
			t.Errorf("%q has %q, want %q", key, values[i], want[key])
		}
	}
}

func TestSplitPage(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		p := page("")
		for range 1 + r.IntN(8) {
			key := fmt.Sprintf("%0*d", 1+r.IntN(5), r.IntN(1000))
			start, end, _ := search(p, key)
			p = replace(p, start, end, key, strings.Repeat("v", r.IntN(1+r.IntN(500))))
		}
		all, _ := entriesOf(t, p)
		left, right, separator := split(p)
		if left+right != p || left == "" || right == "" && len(all) > 1 {
			t.Fatalf("a page of %d entries is split at %d of %d bytes", len(all), len(left), len(p))
		}
		if right == "" {
			continue
		}
		below, _ := entriesOf(t, left)
		above, _ := entriesOf(t, right)
		last, first := below[len(below)-1], above[0]
		if separator <= last || separator > first {
			t.Fatalf("the separator %q is not above %q and at most %q", separator, last, first)
		}
		if !strings.HasPrefix(first, separator) || separator[:len(separator)-1] > last {
			t.Fatalf("between %q and %q a separator shorter than %q is enough", last, first, separator)
		}
	}
}

// checkTree holds a tree to its form and to what it should contain.
func checkTree(t *testing.T, x *tree, want map[string]string) {
	t.Helper()
	got, depths := map[string]string{}, map[int]bool{}
	var walk func(n *node, depth int, low, high string)
	walk = func(n *node, depth int, low, high string) {
		if (len(n.nodes) > 0) == (len(n.pages) > 0) {
			t.Fatalf("a node has %d nodes and %d pages", len(n.nodes), len(n.pages))
		}
		if n.size() > maxFanout || len(n.keys) != n.size()-1 {
			t.Fatalf("a node has %d children and %d keys", n.size(), len(n.keys))
		}
		for i := range n.size() {
			low, high := low, high
			if i > 0 {
				low = n.keys[i-1]
			}
			if i < len(n.keys) {
				if n.keys[i] <= low || high != "" && n.keys[i] >= high {
					t.Fatalf("the separator %q is outside of %q to %q", n.keys[i], low, high)
				}
				high = n.keys[i]
			}
			if len(n.nodes) > 0 {
				walk(n.nodes[i], depth+1, low, high)
				continue
			}
			depths[depth] = true
			keys, values := entriesOf(t, n.pages[i])
			if len(keys) == 0 || len(keys) > 1 && len(n.pages[i]) > maxPage {
				t.Fatalf("a page has %d entries in %d bytes", len(keys), len(n.pages[i]))
			}
			if keys[0] < low || high != "" && keys[len(keys)-1] >= high {
				t.Fatalf("a page of %q to %q lies between the separators %q and %q", keys[0], keys[len(keys)-1], low, high)
			}
			for j, key := range keys {
				got[key] = values[j]
			}
		}
	}
	if x.root != nil {
		walk(x.root, 1, "", "")
	}
	if len(depths) > 1 || depths[maxHeight] {
		t.Fatalf("the pages lie at depths %v", depths)
	}
	if !maps.Equal(got, want) || x.len != len(want) {
		t.Fatalf("the tree has %d entries and says %d, want %d", len(got), x.len, len(want))
	}
	var c cursor
	for c.seek(x, ""); !c.atEnd; c.advance() {
		if value, ok := got[c.key]; !ok || value != c.value {
			t.Fatalf("the cursor is at %q: %q", c.key, c.value)
		}
		delete(got, c.key)
	}
	if len(got) > 0 {
		t.Fatalf("the cursor left out %d entries", len(got))
	}
}

// TestTree grows and shrinks a tree at random, with entries of every size, and
// keeps versions of it: no later edit may show in them.
func TestTree(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 3))
		keys := 300 << (seed * 3)
		randomKey := func() string {
			n := r.IntN(keys)
			return fmt.Sprintf("%d%s", n, strings.Repeat("/k", n%50))
		}
		x, want := tree{}, map[string]string{}
		type version struct {
			tree
			want map[string]string
		}
		var old []version
		e := new(edit)
		steps := 2 * keys
		for step := range 4 * steps {
			key := randomKey()
			_, had := want[key]
			// A tide: the tree fills, then empties, and so again.
			if shrink := step / steps % 2; r.IntN(10) < 8-6*shrink {
				value := strings.Repeat("v", r.IntN(20))
				switch r.IntN(50) {
				case 0:
					value = strings.Repeat("w", r.IntN(8*maxPage))
				case 1:
					value = strings.Repeat("w", maxPage-len(key)-r.IntN(8))
				}
				if added := x.put(e, key, value); added == had {
					t.Fatalf("put(%q) = %v", key, added)
				}
				want[key] = value
			} else {
				if removed := x.remove(e, key); removed != had {
					t.Fatalf("remove(%q) = %v", key, removed)
				}
				delete(want, key)
			}
			value, has := want[key]
			if got, ok := x.get(key); got != value || ok != has {
				t.Fatalf("get(%q) = %q, %v, want %q, %v", key, got, ok, value, has)
			}
			if r.IntN(5) == 0 {
				e = new(edit)
			}
			if r.IntN(steps/2) == 0 {
				old = append(old, version{x, maps.Clone(want)})
				e = new(edit)
			}
			if step%(steps/10) == 0 {
				checkTree(t, &x, want)
			}
		}
		checkTree(t, &x, want)
		for _, v := range old {
			checkTree(t, &v.tree, v.want)
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			x.remove(e, key)
		}
		checkTree(t, &x, nil)
	}
}

// TestTreeShrinks: what was deleted leaves no trail of tiny pages and nodes.
func TestTreeShrinks(t *testing.T) {
	const entries = 50_000
	x, e := tree{}, new(edit)
	for i := range entries {
		x.put(e, fmt.Sprintf("key/%06d", i), "value")
	}
	pages := func() (n int) {
		var walk func(*node)
		walk = func(at *node) {
			n += len(at.pages)
			for _, child := range at.nodes {
				walk(child)
			}
		}
		walk(x.root)
		return n
	}
	before := pages()
	want := map[string]string{}
	for i := range entries {
		if key := fmt.Sprintf("key/%06d", i); i%20 == 0 {
			want[key] = "value"
		} else {
			x.remove(e, key)
		}
	}
	checkTree(t, &x, want)
	if after := pages(); after > before/5 {
		t.Errorf("a twentieth of the entries takes %d pages of %d", after, before)
	}
}

func TestCursorSeeks(t *testing.T) {
	x, e := tree{}, new(edit)
	var keys []string
	for i := range 3000 {
		keys = append(keys, fmt.Sprintf("%05d", 10*i))
		x.put(e, keys[i], "")
	}
	r := rand.New(rand.NewPCG(4, 4))
	for range 3000 {
		from := fmt.Sprintf("%05d", r.IntN(10*len(keys)+20))
		i, _ := slices.BinarySearch(keys, from)
		var c cursor
		for c.seek(&x, from); !c.atEnd && i < len(keys) && r.IntN(50) > 0; c.advance() {
			if c.key != keys[i] {
				t.Fatalf("behind %q the cursor is at %q, want %q", from, c.key, keys[i])
			}
			i++
		}
		if c.atEnd != (i == len(keys)) {
			t.Fatalf("behind %q the cursor ends at entry %d", from, i)
		}
	}
}
