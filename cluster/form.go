package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

const (
	// formPoll is how often a node that forms a cluster looks whether another did.
	formPoll = 50 * time.Millisecond
	// formRetry is the wait after a round of confirmations that failed.
	formRetry = 300 * time.Millisecond
	// formSettle is how long the coordinator's view stays the same before it binds
	// itself, so that a node which comes up just then is seen before and not after.
	formSettle = 300 * time.Millisecond
	// confirmTimeout bounds the answer to one request for confirmation.
	confirmTimeout = 3 * time.Second
)

// A Formation says how a node without state comes to belong to a cluster.
type Formation struct {
	// Expect is how many nodes form a new cluster. A node with 0 forms none and
	// waits until it is told to join one.
	Expect int
	// RootKeyProof is the same on nodes that were given the same root key.
	RootKeyProof []byte
}

// formStep is a step of forming a cluster.
type formStep int

const (
	stepBegun     formStep = iota // the coordinator is bound
	stepBound                     // another node is bound, its yes not yet sent
	stepConfirmed                 // the coordinator has every yes, and Raft no entry yet
)

func (n *Node) atStep(s formStep) error {
	if n.step == nil {
		return nil
	}
	return n.step(s)
}

// Form returns when the node belongs to a cluster: at once if it has state, else when
// it has bootstrapped one, which it then reports, or has the first of the log of one
// that another node bootstrapped, or that it was told to join.
//
// Among nodes that form a cluster the one with the lowest id coordinates. It binds
// itself to a new cluster id and the list of nodes, and asks every other node. A node
// says yes if it sees the same list, has no state and is not bound to another
// coordinator's cluster; it is bound, durably, before it answers. With every yes the
// coordinator gives Raft its first entry. So there are never two clusters: each needs
// all nodes of its list, a node is bound to one coordinator for ever, and a coordinator
// has one cluster id for ever and a first entry once.
func (n *Node) Form(ctx context.Context, f Formation) (bootstrapped bool, err error) {
	switch {
	case n.HasState():
		return false, nil
	case f.Expect < 0:
		return false, fmt.Errorf("form a cluster of %d nodes: give the number of nodes, at least 1", f.Expect)
	case f.Expect > 0 && n.cfg.Replica:
		return false, errors.New("form a cluster: this node is a replica, which never votes; let others form it and this one join")
	case f.Expect > 1 && n.gossip == nil:
		return false, fmt.Errorf("form a cluster of %d nodes: this node does not gossip, so it finds no other; give it a gossip address", f.Expect)
	case !n.forming.CompareAndSwap(nil, &f):
		return false, errors.New("form a cluster: this is under way already")
	}
	defer n.forming.Store(nil)

	var settling []uuid.UUID
	var since, retry time.Time
	tick := time.NewTicker(formPoll)
	defer tick.Stop()
	for !n.HasState() {
		view := n.formView()
		switch {
		case len(view.list) == 0 || view.list[0] != n.id:
			settling = nil
			n.waitsFor(view.reason)
		case !slices.Equal(view.list, settling):
			settling, since = view.list, time.Now()
		case (len(settling) == 1 || time.Since(since) >= formSettle) && time.Now().After(retry):
			done, err := n.coordinate(ctx, view.list, f)
			if done || err != nil {
				return done, err
			}
			retry = time.Now().Add(formRetry)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-n.ctx.Done():
			return false, n.Err()
		case <-view.changed:
		case <-tick.C:
		}
	}
	return false, nil
}

// formView is what a node that forms a cluster sees.
type formView struct {
	list    []uuid.UUID // the nodes of the new cluster, ascending; empty while they cannot form one
	reason  string      // what is missing, or whose turn it is
	changed <-chan struct{}
}

// formView looks at the nodes that are there. What it says is a hint until every
// node of the list has confirmed it.
func (n *Node) formView() formView {
	f, b, belongs := n.forming.Load(), n.bond.Load(), n.cluster.Load()
	seen, changed := n.gossip.everyone()
	wait := func(format string, args ...any) formView {
		return formView{reason: fmt.Sprintf(format, args...), changed: changed}
	}
	if belongs != nil && b == nil {
		return wait("it was told to join cluster %s and waits for that cluster's log: if this goes on, run remit join again", belongs)
	}
	if f == nil || f.Expect == 0 {
		return wait("it waits to be told which cluster to join: run remit join, or start it with --bootstrap-expect")
	}
	if n.gossip != nil {
		select {
		case <-n.gossip.looked:
		default:
			return wait("it looks for other nodes")
		}
	}
	list, names := []uuid.UUID{n.id}, []string{peer{ID: n.id, Name: n.cfg.NodeName}.called()}
	for _, s := range seen {
		switch {
		case n.gossip.ofAnother(s):
			return wait("node %s belongs to cluster %s, and this node is bound to cluster %s, which node %s was about to form: remove the data folder of the one that is not to be part of its cluster",
				s.called(), s.cluster, b.Cluster, b.Nodes[0])
		case s.hasState && b != nil && s.cluster == b.Cluster:
			return wait("cluster %s has started, and this node waits for its log: if this goes on, it is no member, so remove its data folder and join it", s.cluster)
		case s.hasState:
			return wait("node %s belongs to cluster %s already: run remit join %s to make this node part of it", s.called(), s.cluster, s.GossipAddr)
		case s.expect == 0:
		case s.expect != f.Expect:
			return wait("node %s expects %d nodes, and this node %d: start all with the same number", s.called(), s.expect, f.Expect)
		default:
			list, names = append(list, s.ID), append(names, s.called())
		}
	}
	slices.SortFunc(list, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	slices.Sort(names)
	switch {
	case len(list) < f.Expect:
		return wait("it expects %d nodes and sees %d: %s", f.Expect, len(list), strings.Join(names, ", "))
	case len(list) > f.Expect:
		return wait("it expects %d nodes and sees %d, which is too many: %s; stop those that are not to form the cluster and let them join it", f.Expect, len(list), strings.Join(names, ", "))
	case b != nil && b.Nodes[0] != list[0] && slices.Contains(list, b.Nodes[0]):
		return wait("node %s has begun to form cluster %s, and node %s, which is new, has a lower id, by which it would begin another: remove the data folder of node %s, which holds nothing yet, and start it again",
			b.Nodes[0], b.Cluster, list[0], list[0])
	case b != nil && b.Nodes[0] != list[0]:
		return wait("it is bound to cluster %s, which node %s was about to form with other nodes: start those, or remove the data folder of this node", b.Cluster, b.Nodes[0])
	}
	for _, s := range seen {
		if s.coordinator != uuid.Nil && s.coordinator != list[0] && slices.Contains(list, s.ID) {
			return wait("node %s is bound to cluster %s, which node %s was about to form with other nodes: start those, or remove the data folder of %s",
				s.called(), s.cluster, s.coordinator, s.called())
		}
	}
	return formView{list: list, changed: changed, reason: fmt.Sprintf("it waits for node %s to start the cluster of %s", list[0], strings.Join(names, ", "))}
}

// called is the name of a node, for people.
func (p peer) called() string {
	if p.Name != "" {
		return p.Name
	}
	return p.ID.String()
}

// coordinate tries to form the cluster of these nodes. It reports whether it has;
// an error ends the attempt for good.
func (n *Node) coordinate(ctx context.Context, list []uuid.UUID, f Formation) (bool, error) {
	b, err := n.begin(list)
	if b == nil || err != nil {
		return false, err
	}
	if refused := n.confirmAll(ctx, b, f); len(refused) > 0 {
		n.waitsFor("it would start the cluster, but " + strings.Join(refused, "; "))
		return false, nil
	}
	if err := n.atStep(stepConfirmed); err != nil {
		return false, err
	}
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	if n.HasState() || n.bond.Load() != b {
		return false, nil
	}
	if err := n.startLog(ctx, b); err != nil {
		return false, fmt.Errorf("bootstrap data folder %s: %w", n.cfg.DataDir, err)
	}
	return true, nil
}

// begin binds the coordinator. An earlier attempt's cluster id and epoch are kept,
// since nodes may be bound to them; the list may be another. It returns nil if the
// node has come to belong to another node's cluster meanwhile.
func (n *Node) begin(list []uuid.UUID) (*bond, error) {
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	b := n.bond.Load()
	switch {
	case n.HasState(), b == nil && n.cluster.Load() != nil, b != nil && b.Nodes[0] != n.id:
		return nil, nil
	case b != nil && slices.Equal(b.Nodes, list):
		return b, nil
	}
	cluster, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("draw a cluster id: %w", err)
	}
	next, err := newBond(cluster, list...)
	if err != nil {
		return nil, err
	}
	if b != nil {
		next.Cluster, next.Epoch = b.Cluster, b.Epoch
	}
	if err := n.bind(next); err != nil {
		return nil, fmt.Errorf("begin a cluster: %w", err)
	}
	return next, n.atStep(stepBegun)
}

// confirmAll asks every other node of the list, and returns what those say that do
// not say yes.
func (n *Node) confirmAll(ctx context.Context, b *bond, f Formation) []string {
	request := &nodev1.ConfirmBootstrapRequest{ClusterId: b.Cluster[:], Epoch: b.Epoch[:], RootKeyProof: f.RootKeyProof, Level: n.cfg.Level}
	for _, id := range b.Nodes {
		request.NodeIds = append(request.NodeIds, id.String())
	}
	refused := make([]string, len(b.Nodes))
	var asked sync.WaitGroup
	for i, id := range b.Nodes {
		if id == n.id {
			continue
		}
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
			defer cancel()
			if _, err := n.nodeClient(id).ConfirmBootstrap(ctx, request); err != nil {
				name := id.String()
				if s, ok := n.gossip.find(id); ok {
					name = s.called()
				}
				refused[i] = fmt.Sprintf("node %s says: %s", name, status.Convert(err).Message())
			}
		})
	}
	asked.Wait()
	return slices.DeleteFunc(refused, func(s string) bool { return s == "" })
}

// confirmBootstrap is the answer to a node that would bootstrap a cluster: nil is yes,
// and binds this node to that one's cluster for ever.
func (n *Node) confirmBootstrap(caller uuid.UUID, request *nodev1.ConfirmBootstrapRequest) error {
	refuse := func(format string, args ...any) error {
		return status.Errorf(codes.FailedPrecondition, format, args...)
	}
	asked, err := bondOf(request)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if caller != asked.Nodes[0] {
		return status.Errorf(codes.PermissionDenied, "node %s asks for a cluster that node %s forms", caller, asked.Nodes[0])
	}
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	f, b := n.forming.Load(), n.bond.Load()
	switch {
	case n.HasState():
		return refuse("it has state of cluster %s", n.cluster.Load())
	case f == nil || f.Expect == 0:
		return refuse("it is not there to form a cluster: it was started without --bootstrap-expect")
	case b == nil && n.cluster.Load() != nil:
		return refuse("it was told to join cluster %s", n.cluster.Load())
	case b != nil && (b.Nodes[0] != asked.Nodes[0] || b.Cluster != asked.Cluster || b.Epoch != asked.Epoch):
		return refuse("it is bound to cluster %s, which node %s forms", b.Cluster, b.Nodes[0])
	case !bytes.Equal(f.RootKeyProof, request.GetRootKeyProof()):
		return refuse("it was given another root key: give all nodes the same, or none")
	case n.cfg.Level < request.GetLevel():
		return refuse("it supports level %d at most, and the cluster would start at level %d: start the same release on all nodes", n.cfg.Level, request.GetLevel())
	case b != nil && slices.Equal(b.Nodes, asked.Nodes):
		return nil // the same yes again
	}
	if view := n.formView(); !slices.Equal(view.list, asked.Nodes) {
		return refuse("it sees other nodes: %s", view.reason)
	}
	if err := n.bind(asked); err != nil {
		return status.Errorf(codes.Internal, "it cannot write to its data folder: %s", err)
	}
	n.log.Info("bound to a new cluster", "cluster_id", asked.Cluster.String(), "coordinator", asked.Nodes[0].String())
	return n.atStep(stepBound)
}

// bondOf reads what a node is asked to be bound to.
func bondOf(request *nodev1.ConfirmBootstrapRequest) (*bond, error) {
	cluster, err := uuid.FromBytes(request.GetClusterId())
	if err != nil || cluster == uuid.Nil {
		return nil, errors.New("the cluster id is no UUID")
	}
	epoch, err := uuid.FromBytes(request.GetEpoch())
	if err != nil || epoch == uuid.Nil {
		return nil, errors.New("the epoch is no UUID")
	}
	b := &bond{Cluster: cluster, Epoch: epoch}
	for i, text := range request.GetNodeIds() {
		id, err := uuid.Parse(text)
		if err != nil || i > 0 && bytes.Compare(b.Nodes[i-1][:], id[:]) >= 0 {
			return nil, errors.New("the node ids are not UUIDs in ascending order")
		}
		b.Nodes = append(b.Nodes, id)
	}
	if len(b.Nodes) < 2 {
		return nil, errors.New("it takes two nodes to ask one")
	}
	return b, nil
}

// waitsFor notes what the node waits for, and logs it when it is something new.
func (n *Node) waitsFor(reason string) {
	if last := n.waiting.Swap(&reason); last == nil || *last != reason {
		n.log.Info("the node belongs to no cluster yet", "because", reason)
	}
}

// Waiting says what a node without a cluster's state waits for; empty if it has some.
func (n *Node) Waiting() string {
	if n.HasState() {
		return ""
	}
	if reason := n.waiting.Load(); reason != nil && n.forming.Load() != nil {
		return *reason
	}
	return n.formView().reason
}

// Estranged says what keeps a node from the others for good: it was removed, or a node
// that has another history of the same cluster is there. It is empty where neither is.
func (n *Node) Estranged() string {
	if n.removed.Load() {
		return wasRemoved
	}
	for _, s := range n.gossip.seen() {
		if own := n.cluster.Load(); own != nil && s.cluster == *own && s.hasState && s.epoch != n.logEpoch() {
			return fmt.Sprintf("node %s has another history of cluster %s: %s", s.called(), own, wrongEpoch)
		}
	}
	return ""
}

// AwaitsFirst returns the node that has to write the cluster's first command, if this
// node has the log from its beginning and there is none in it yet.
func (n *Node) AwaitsFirst() (coordinator string, awaits bool) {
	first, err := n.store.FirstIndex()
	if err != nil || first != 1 || n.snapshots.newest().index > 0 {
		return "", false
	}
	for i, last := first, n.raft.LastIndex(); i <= last; i++ {
		var entry raft.Log
		if err := n.store.GetLog(i, &entry); err != nil || entry.Type == raft.LogCommand {
			return "", false
		}
	}
	coordinator, err = n.Coordinator()
	return coordinator, err == nil
}

// Coordinator is the id of the node that bootstrapped the cluster, as long as its
// voters are those it began with.
func (n *Node) Coordinator() (string, error) {
	voters, err := n.voters()
	if err != nil {
		return "", err
	}
	if len(voters) == 0 {
		return "", errors.New("the node does not know yet who votes")
	}
	first := voters[0].ID
	for _, voter := range voters {
		first = min(first, voter.ID)
	}
	return string(first), nil
}
