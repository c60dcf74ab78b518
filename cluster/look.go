package cluster

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

const (
	// A node that misses others looks for them, at first soon, then less often.
	lookSoon  = 250 * time.Millisecond
	lookLater = 4 * time.Second
	// aloneFor is how long a node sees no other before it says so.
	aloneFor = 5 * time.Second
	// forgetAfter is how often the address book is compared with the members.
	forgetAfter = 30 * time.Second
)

// look goes on looking for nodes that should be there and are not.
func (g *gossip) look() {
	pause, looked, began, forget := lookSoon, false, time.Now(), time.Now().Add(forgetAfter)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-timer.C:
		}
		if missing := g.missing(); missing || !looked {
			g.lookAround()
			pause = min(2*pause, lookLater)
			if missing && len(g.node.cfg.Seeds) > 0 && g.alone() && time.Since(began) > aloneFor && g.quiet.now("alone") {
				g.log.Warn("no other node was found", "seeds", strings.Join(g.node.cfg.Seeds, ","))
			}
		} else {
			pause = lookSoon
		}
		if !looked {
			looked = true
			close(g.looked)
		}
		if time.Now().After(forget) {
			g.forget()
			forget = time.Now().Add(forgetAfter)
		}
		timer.Reset(pause)
	}
}

func (g *gossip) alone() bool {
	return len(g.seen()) == 0
}

// missing reports whether the node sees fewer others than it should.
func (g *gossip) missing() bool {
	n := g.node
	book := n.peers.all()
	if g.alone() {
		return len(n.cfg.Seeds) > 0 || len(book) > 0
	}
	if members := n.members(); len(members) > 0 {
		return slices.ContainsFunc(members, func(id uuid.UUID) bool {
			_, there := g.find(id)
			return id != n.id && !there
		})
	}
	if f := n.forming.Load(); f != nil {
		seen := g.seen()
		if len(seen)+1 < f.Expect {
			return true
		}
	}
	return slices.ContainsFunc(book, func(p peer) bool {
		_, there := g.find(p.ID)
		return !there
	})
}

// members are the ids in the node's latest configuration; none before it has one.
func (n *Node) members() []uuid.UUID {
	future := n.raft.GetConfiguration()
	if future.Error() != nil {
		return nil
	}
	return memberIDs(future.Configuration())
}

func memberIDs(c raft.Configuration) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(c.Servers))
	for _, server := range c.Servers {
		if id, err := uuid.Parse(string(server.ID)); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// lookAround calls the seeds, and the last known addresses of nodes that are not there.
func (g *gossip) lookAround() {
	addresses := slices.Clone(g.node.cfg.Seeds)
	for _, p := range g.node.peers.all() {
		if _, there := g.find(p.ID); !there && p.GossipAddr != "" {
			addresses = append(addresses, p.GossipAddr)
		}
	}
	slices.Sort(addresses)
	var calls sync.WaitGroup
	for _, address := range slices.Compact(addresses) {
		calls.Go(func() {
			if err := g.call(g.ctx, address); err != nil {
				g.log.Debug("no node was reached", "gossip_addr", address, "error", err)
				g.sayKeysDiffer(err.Error())
			}
		})
	}
	calls.Wait()
}

// call exchanges what is known with whoever gossips at the address, whose name is
// looked up anew.
func (g *gossip) call(ctx context.Context, address string) error {
	resolved, err := resolve(ctx, address)
	if err != nil {
		return err
	}
	resolved = slices.DeleteFunc(resolved, func(a string) bool { return a == g.address })
	if len(resolved) == 0 {
		return nil // the node itself
	}
	if _, err = g.list.Join(resolved); err == nil {
		return nil
	}
	err = errors.New(listless(err.Error()))
	// memberlist keeps the words of an error alone.
	if refusal := g.refusal.Load(); refusal != nil && strings.Contains(err.Error(), (*refusal).Error()) {
		return *refusal
	}
	return err
}

// listless is the text of an error that memberlist words as a list over several lines.
func listless(text string) string {
	var items []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasSuffix(line, "occurred:") {
			continue
		}
		items = append(items, strings.TrimPrefix(line, "* "))
	}
	return strings.Join(items, "; ")
}

// resolve returns the IP addresses of host:port.
func resolve(ctx context.Context, address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, gossipTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, errors.New("the name has no address")
	}
	resolved := make([]string, len(ips))
	for i, ip := range ips {
		resolved[i] = net.JoinHostPort(ip.String(), port)
	}
	return resolved, nil
}

// forget takes nodes out of the address book that are neither members nor there.
func (g *gossip) forget() {
	members := g.node.members()
	if len(members) == 0 {
		return
	}
	for _, p := range g.node.peers.all() {
		if _, there := g.find(p.ID); !there && !slices.Contains(members, p.ID) {
			g.node.peers.forget(p.ID)
		}
	}
}
