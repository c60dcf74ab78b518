package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/server"
)

const (
	minRootKey   = 32 // characters
	pollInterval = 10 * time.Millisecond
	// againInterval is the wait before a first command that failed is tried again.
	againInterval = 200 * time.Millisecond
	// initialiseTimeout is how long a node that is told to end goes on with the first
	// command of its cluster.
	initialiseTimeout = 5 * time.Second
)

// Form waits until the node belongs to a cluster that has its first command, and
// starts one where the node is told to. If an earlier process was killed in
// between, the log has no Init yet: this one writes it. A node that is not to start
// a cluster waits until it has been told to join one.
func (n *Node) Form(ctx context.Context) error {
	if n.cluster.HasState() {
		if n.cfg.RootKey != "" {
			n.logger.Warn("the root key given is ignored: it is for bootstrap, and the cluster has state already")
		}
	} else if _, err := n.cluster.Form(ctx, cluster.Formation{Expect: n.cfg.Expect, RootKeyProof: rootKeyProof(n.cfg.RootKey)}); err != nil {
		return fmt.Errorf("bootstrap the cluster: %w", err)
	}
	for told := ctx; n.store.State().Cluster == (fsm.ID{}); {
		if err := n.initialiseAsLeader(ctx); err != nil {
			return fmt.Errorf("bootstrap the cluster: %w", err)
		}
		if n.first != nil && ctx == told {
			// From here on a root key may be in the log that has to be shown, even if the node
			// is told to end.
			var stop context.CancelFunc
			ctx, stop = outlive(told, initialiseTimeout)
			defer stop()
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("wait until the cluster is initialised: %w", err)
		}
	}
	if n.drawn != "" && isKey(n, n.drawn) {
		n.rootKey = n.drawn
	}
	for n.server.Ready() != nil {
		if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("wait until the node is ready: %w", err)
		}
	}
	return nil
}

// outlive returns a context that ends a while after its parent.
func outlive(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		select {
		case <-time.After(by):
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}

// rootKeyProof tells other nodes whether they were given the same root key.
func rootKeyProof(key string) []byte {
	if key == "" {
		return nil
	}
	proof := sha256.Sum256([]byte("remit bootstrap\x00" + key))
	return proof[:]
}

// initialiseAsLeader writes the first command if the node leads. It is for the
// coordinator to do so, since it alone knows a root key that was drawn; another
// leader hands over to it.
func (n *Node) initialiseAsLeader(ctx context.Context) error {
	if _, self, err := n.cluster.Leader(ctx); err != nil || !self || n.store.State().Cluster != (fsm.ID{}) {
		return nil // another node's business, or done
	}
	coordinator, err := n.cluster.Coordinator()
	if err != nil {
		return err
	}
	if coordinator != n.cluster.ID() {
		if _, err := n.cluster.Transfer(ctx, coordinator); err != nil {
			return n.again(ctx, fmt.Sprintf("node %s, which starts the cluster, has to lead: %v; if it is lost for good, nothing has begun yet: "+
				"remove the data folders of all nodes and start them again", coordinator, err))
		}
		return nil
	}
	return n.initialise(context.WithoutCancel(ctx))
}

// initialise writes the first command, the same one at every attempt: of one whose
// outcome is unknown, the root key may hold already.
func (n *Node) initialise(ctx context.Context) error {
	if n.first == nil {
		if err := n.drawFirst(); err != nil {
			return err
		}
	}
	result, _, err := n.cluster.Apply(ctx, n.first)
	if failure := n.cluster.Err(); failure != nil {
		return failure
	}
	if err != nil {
		return n.again(ctx, err.Error())
	}
	if failed := result.(fsm.Result).Err; failed != nil {
		return failed
	}
	return nil
}

// again waits before the next attempt, and logs why there is one when that is new.
func (n *Node) again(ctx context.Context, reason string) error {
	if reason != n.waitsFor {
		n.waitsFor = reason
		n.logger.Warn("the cluster is not initialised yet; it is tried again", "reason", reason)
	}
	return sleep(ctx, againInterval)
}

// drawFirst makes the first command, and the root key if none was given.
func (n *Node) drawFirst() error {
	id, ok := n.cluster.ClusterID()
	if !ok {
		return errors.New("the cluster has no id")
	}
	hash := sha256.Sum256([]byte(n.cfg.RootKey))
	if n.cfg.RootKey == "" {
		n.drawn, hash = server.NewSecret()
	}
	body := &fsm.Init{
		Cluster: id, Epoch: server.NewID(), Level: cmp.Or(n.cfg.Level, fsm.MaxLevel),
		CreateOrganisation: fsm.CreateOrganisation{
			Organisation: server.NewID(), Name: fsm.BootstrapOrganisation,
			BuiltIn: server.NewID(), Project: server.NewID(), ProjectName: cmp.Or(n.cfg.BootstrapProject, defaultProject),
			Key: server.NewID(), KeyName: "root", KeyHash: hash,
		},
	}
	rand.Read(body.Secret[:])
	command := fsm.Command{Envelope: fsm.Envelope{Request: server.NewID(), Time: time.Now().UnixMilli()}, Body: body}
	var err error
	n.first, err = command.Encode()
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// validateRootKey reports why a text cannot be the root key.
func validateRootKey(key string) error {
	if len(key) < minRootKey {
		return usagef("the root key has %d characters: it needs at least %d, chosen at random (openssl rand -hex 32)", len(key), minRootKey)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return usagef("the root key may have only printable ASCII characters without spaces, since it travels in a header")
		}
	}
	return nil
}
