package index

// maxHeight bounds a tree's levels: every split of the root needs at least 32
// times the entries of the one before.
const maxHeight = 12

// A cursor walks a tree in key order. It stays valid for ever, since the tree
// never changes, and costs nothing on the heap.
type cursor struct {
	path  [maxHeight]step
	depth int
	page  page
	next  int // offset of the entry after the current one
	key   string
	value string
	atEnd bool
}

type step struct {
	node *node
	at   int
}

// seek moves to the first entry whose key is not below the given one.
func (c *cursor) seek(t *tree, key string) {
	c.depth, c.atEnd = 0, t.root == nil
	if c.atEnd {
		return
	}
	n := t.root
	for {
		i := n.child(key)
		c.path[c.depth] = step{n, i}
		c.depth++
		if len(n.nodes) == 0 {
			c.page, c.next = n.pages[i], 0
			break
		}
		n = n.nodes[i]
	}
	for {
		c.advance()
		if c.atEnd || c.key >= key {
			return
		}
	}
}

// advance moves to the next entry.
func (c *cursor) advance() {
	for c.next >= len(c.page) {
		if !c.nextPage() {
			c.atEnd = true
			return
		}
	}
	c.key, c.value, c.next = entryAt(c.page, c.next)
}

func (c *cursor) nextPage() bool {
	for c.depth > 0 {
		top := &c.path[c.depth-1]
		top.at++
		if top.at < top.node.size() {
			break
		}
		c.depth--
	}
	if c.depth == 0 {
		return false
	}
	for {
		top := c.path[c.depth-1]
		if len(top.node.nodes) == 0 {
			c.page, c.next = top.node.pages[top.at], 0
			return true
		}
		c.path[c.depth] = step{node: top.node.nodes[top.at]}
		c.depth++
	}
}
