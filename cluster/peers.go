package cluster

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// peersFile keeps the addresses of other nodes over a restart.
const peersFile = "peers.json"

// peer is what is known of another node. It is a hint, from gossip or from an
// earlier life: the handshake of a connection decides who is really there.
type peer struct {
	ID         uuid.UUID `json:"id"`
	Name       string    `json:"name"`
	RaftAddr   string    `json:"raft_addr"`
	GossipAddr string    `json:"gossip_addr"`
}

// peers is the address book of a node: where other nodes of its cluster were
// reached last. It is written at every change and need not be durable, since
// gossip fills it again from any one address that still holds.
type peers struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	known map[uuid.UUID]peer
}

// openPeers reads the address book. One that cannot be read is an empty one.
func openPeers(path string, log *slog.Logger) *peers {
	p := &peers{path: path, log: log, known: map[uuid.UUID]peer{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return p
	}
	var all []peer
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		log.Warn("the addresses of other nodes cannot be read; gossip has to find them", "file", path, "error", err)
	}
	for _, one := range all {
		p.known[one.ID] = one
	}
	return p
}

// get returns what is known of a node.
func (p *peers) get(id uuid.UUID) (peer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.known[id]
	return one, ok
}

// all returns what is known of every node, by id.
func (p *peers) all() []peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sorted()
}

func (p *peers) sorted() []peer {
	all := make([]peer, 0, len(p.known))
	for _, one := range p.known {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b peer) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return all
}

// put notes where a node is.
func (p *peers) put(one peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[one.ID] == one {
		return
	}
	p.known[one.ID] = one
	p.save()
}

// forget removes a node that is no member any more.
func (p *peers) forget(id uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[id]; ok {
		delete(p.known, id)
		p.save()
	}
}

func (p *peers) save() {
	b, err := json.MarshalIndent(p.sorted(), "", "  ")
	if err == nil {
		err = os.WriteFile(p.path+".tmp", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(p.path+".tmp", p.path)
	}
	if err != nil {
		p.log.Warn("the addresses of other nodes are not kept", "error", err)
	}
}

// addressOf returns where a node listens for other nodes. The Raft configuration
// does not say: there a node's address is its id, so that a node may move without
// a change of the configuration.
func (n *Node) addressOf(id uuid.UUID) (string, error) {
	if s, ok := n.gossip.find(id); ok {
		return s.RaftAddr, nil
	}
	if one, ok := n.peers.get(id); ok {
		return one.RaftAddr, nil
	}
	return "", errors.New("its address is not known yet: gossip has not found it")
}
