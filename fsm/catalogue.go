package fsm

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tidwall/btree"
)

// A table is an ordered map by text: a copy-on-write B-tree. Whoever changes
// one works on its copy; what was published stays as it was.
type table[V any] struct{ tree *btree.Map[string, V] }

func (t table[V]) copy() table[V] { return table[V]{copyTree(t.tree)} }

// copyTree returns a tree to change beside one that never changes again, and
// that others may be reading or copying too: the library's Copy writes to the
// tree that it copies, so it gets one of its own.
func copyTree[K cmp.Ordered, V any](t *btree.Map[K, V]) *btree.Map[K, V] {
	if t == nil {
		return new(btree.Map[K, V])
	}
	own := *t
	return own.Copy()
}

func (t table[V]) get(key string) (v V, ok bool) {
	if t.tree == nil {
		return v, false
	}
	return t.tree.Get(key)
}

// from yields the values whose keys are not below the given one.
func (t table[V]) from(key string) iter.Seq[V] {
	return func(yield func(V) bool) {
		if t.tree != nil {
			t.tree.Ascend(key, func(_ string, v V) bool { return yield(v) })
		}
	}
}

// named is what a catalogue can hold.
type named interface {
	comparable
	keys() (ID, string, number)
}

// A catalogue holds the permissions or the roles of a project under each of
// their three keys.
type catalogue[T named] struct {
	names   table[T]
	ids     table[T]
	numbers *btree.Map[number, T]
	// quick has the names once more, as soon as somebody looks for one, until
	// they change: comparing texts down a tree takes a fifth of a check.
	quick *atomic.Pointer[map[string]T]
}

// maxQuick bounds what the first look after a change has to do.
const maxQuick = 4096

func (c catalogue[T]) copy() catalogue[T] {
	return catalogue[T]{c.names.copy(), c.ids.copy(), copyTree(c.numbers), c.quick}
}

// find looks a text up as an id if it has that form, else as a name: names
// never have it.
func (c catalogue[T]) find(s string) (T, bool) {
	if id, isID := ParseID(s); isID {
		return c.ids.get(id.key())
	}
	return c.byName(s)
}

func (c catalogue[T]) byName(name string) (T, bool) {
	if c.quick == nil || c.names.tree.Len() > maxQuick {
		return c.names.get(name)
	}
	names := c.quick.Load()
	if names == nil {
		names = &map[string]T{}
		c.names.tree.Scan(func(name string, t T) bool { (*names)[name] = t; return true })
		c.quick.Store(names) // others may have done so; it is the same
	}
	t, ok := (*names)[name]
	return t, ok
}

func (c catalogue[T]) byID(id ID) (T, bool) { return c.ids.get(id.key()) }

func (c catalogue[T]) byNumber(n number) (t T, ok bool) {
	if c.numbers == nil {
		return t, false
	}
	return c.numbers.Get(n)
}

func (c catalogue[T]) behind(name string) iter.Seq[T] {
	return func(yield func(T) bool) {
		for t := range c.names.from(name) {
			if _, n, _ := t.keys(); n != name && !yield(t) {
				return
			}
		}
	}
}

// live returns those of the numbers that are in the catalogue, by name.
func (c catalogue[T]) live(numbers []number) []T {
	var all []T
	for _, n := range numbers {
		if t, ok := c.byNumber(n); ok {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b T) int {
		_, x, _ := a.keys()
		_, y, _ := b.keys()
		return strings.Compare(x, y)
	})
	return all
}

// put adds a record, or replaces the one with its id.
func (c *catalogue[T]) put(t T) {
	id, name, n := t.keys()
	if old, ok := c.byID(id); ok {
		c.remove(old)
	}
	c.quick = new(atomic.Pointer[map[string]T])
	c.names.tree.Set(name, t)
	c.ids.tree.Set(id.key(), t)
	c.numbers.Set(n, t)
}

func (c *catalogue[T]) remove(t T) {
	c.quick = new(atomic.Pointer[map[string]T])
	id, name, n := t.keys()
	c.names.tree.Delete(name)
	c.ids.tree.Delete(id.key())
	c.numbers.Delete(n)
}
