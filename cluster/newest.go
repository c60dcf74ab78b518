package cluster

import (
	"net"
	"slices"
	"sync"
)

// newestConns are connections that came in and that their callers have yet to show who
// they are on: so many at a time, of which the oldest ends for a new one. A node has
// shown it long before, so whoever holds connections open keeps no node out.
type newestConns struct {
	most int

	mu    sync.Mutex
	conns []net.Conn // the oldest first
}

// begin notes a connection.
func (c *newestConns) begin(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.conns) >= c.most {
		_ = c.conns[0].Close()
		c.conns = slices.Delete(c.conns, 0, 1)
	}
	c.conns = append(c.conns, conn)
}

// finish notes that a connection is done with; false if it was ended for a new one.
func (c *newestConns) finish(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.conns, conn)
	if i >= 0 {
		c.conns = slices.Delete(c.conns, i, i+1)
	}
	return i >= 0
}
