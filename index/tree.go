package index

import "slices"

// maxFanout is the number of children at which a node is split.
const maxFanout = 64

// A tree is an immutable ordered map from byte strings to byte strings: a
// B+tree whose leaves are pages. An edit copies the path to the page it
// rewrites; nodes that the same edit made before are changed in place.
type tree struct {
	root *node // nil when empty
	len  int
}

// A node has pages at the lowest level and nodes above it, never both.
// keys[i] is above every key of child i and not above any key of child i+1.
type node struct {
	edit  *edit
	keys  []string
	nodes []*node
	pages []page
}

// An edit is the identity of one series of changes: a node that carries it has
// not been published and may be changed in place.
type edit struct{ _ byte }

func (n *node) size() int { return len(n.nodes) + len(n.pages) }

// child returns the position of the child whose range holds the key.
func (n *node) child(key string) int {
	low, high := 0, len(n.keys)
	for low < high {
		mid := int(uint(low+high) / 2)
		if key < n.keys[mid] {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

func (n *node) owned(e *edit) *node {
	if n.edit == e {
		return n
	}
	return &node{edit: e, keys: slices.Clone(n.keys), nodes: slices.Clone(n.nodes), pages: slices.Clone(n.pages)}
}

func (t *tree) get(key string) (value string, ok bool) {
	n := t.root
	if n == nil {
		return "", false
	}
	for len(n.nodes) > 0 {
		n = n.nodes[n.child(key)]
	}
	p := n.pages[n.child(key)]
	start, _, ok := search(p, key)
	if !ok {
		return "", false
	}
	_, value, _ = entryAt(p, start)
	return value, true
}

// put sets the key's value and reports whether the key is new.
func (t *tree) put(e *edit, key, value string) (added bool) {
	if t.root == nil {
		t.root = &node{edit: e, pages: []page{""}}
	}
	t.root = t.root.owned(e)
	added = t.root.put(e, key, value)
	if t.root.size() > maxFanout {
		right, separator := t.root.split(e)
		t.root = &node{edit: e, keys: []string{separator}, nodes: []*node{t.root, right}}
	}
	if added {
		t.len++
	}
	return added
}

// put needs a node that the edit owns. It may leave the node above the fan-out,
// by two at most, for the caller to split.
func (n *node) put(e *edit, key, value string) (added bool) {
	i := n.child(key)
	if len(n.nodes) > 0 {
		child := n.nodes[i].owned(e)
		n.nodes[i] = child
		added = child.put(e, key, value)
		if child.size() > maxFanout {
			right, separator := child.split(e)
			n.keys = slices.Insert(n.keys, i, separator)
			n.nodes = slices.Insert(n.nodes, i+1, right)
		}
		return added
	}
	start, end, found := search(n.pages[i], key)
	n.pages[i] = replace(n.pages[i], start, end, key, value)
	n.splitPage(i)
	return !found
}

// splitPage splits page i until no part is too large: around a large entry that
// takes two cuts.
func (n *node) splitPage(i int) {
	for len(n.pages[i]) > maxPage {
		left, right, separator := split(n.pages[i])
		if right == "" {
			return
		}
		n.pages[i] = left
		n.keys = slices.Insert(n.keys, i, separator)
		n.pages = slices.Insert(n.pages, i+1, right)
		n.splitPage(i + 1)
	}
}

func (n *node) split(e *edit) (right *node, separator string) {
	half := n.size() / 2
	right = &node{edit: e, keys: slices.Clone(n.keys[half:])}
	if len(n.nodes) > 0 {
		right.nodes, n.nodes = slices.Clone(n.nodes[half:]), slices.Delete(n.nodes, half, len(n.nodes))
	} else {
		right.pages, n.pages = slices.Clone(n.pages[half:]), slices.Delete(n.pages, half, len(n.pages))
	}
	separator = n.keys[half-1]
	n.keys = slices.Delete(n.keys, half-1, len(n.keys))
	return right, separator
}

// remove deletes the key and reports whether it was there.
func (t *tree) remove(e *edit, key string) bool {
	if _, ok := t.get(key); !ok {
		return false
	}
	t.root = t.root.owned(e)
	t.root.remove(e, key)
	for len(t.root.nodes) == 1 {
		t.root = t.root.nodes[0]
	}
	if t.root.size() == 0 {
		t.root = nil
	}
	t.len--
	return true
}

// remove needs a node that the edit owns and a key that is there. It may leave
// the node empty, for the caller to drop.
func (n *node) remove(e *edit, key string) {
	i := n.child(key)
	if len(n.nodes) > 0 {
		child := n.nodes[i].owned(e)
		n.nodes[i] = child
		child.remove(e, key)
		n.mergeNodes(e, i)
		return
	}
	p := n.pages[i]
	start, end, _ := search(p, key)
	n.pages[i] = p[:start] + p[end:]
	n.mergePages(i)
}

// mergePages drops page i if it is empty, or joins it with a neighbour if the
// two are small: otherwise deletes would leave a trail of tiny pages.
func (n *node) mergePages(i int) {
	if n.pages[i] == "" {
		n.pages = slices.Delete(n.pages, i, i+1)
		n.dropKey(i)
		return
	}
	for _, left := range [2]int{i - 1, i} {
		if left < 0 || left+1 >= len(n.pages) || len(n.pages[left])+len(n.pages[left+1]) > maxPage/2 {
			continue
		}
		n.pages[left] += n.pages[left+1]
		n.pages = slices.Delete(n.pages, left+1, left+2)
		n.keys = slices.Delete(n.keys, left, left+1)
		return
	}
}

func (n *node) mergeNodes(e *edit, i int) {
	if n.nodes[i].size() == 0 {
		n.nodes = slices.Delete(n.nodes, i, i+1)
		n.dropKey(i)
		return
	}
	for _, left := range [2]int{i - 1, i} {
		if left < 0 || left+1 >= len(n.nodes) || n.nodes[left].size()+n.nodes[left+1].size() > maxFanout/2 {
			continue
		}
		a, b := n.nodes[left].owned(e), n.nodes[left+1]
		a.keys = append(append(a.keys, n.keys[left]), b.keys...)
		a.nodes = append(a.nodes, b.nodes...)
		a.pages = append(a.pages, b.pages...)
		n.nodes[left] = a
		n.nodes = slices.Delete(n.nodes, left+1, left+2)
		n.keys = slices.Delete(n.keys, left, left+1)
		return
	}
}

// dropKey removes the separator beside a child that was dropped.
func (n *node) dropKey(child int) {
	if len(n.keys) == 0 {
		return
	}
	i := max(child-1, 0)
	n.keys = slices.Delete(n.keys, i, i+1)
}
