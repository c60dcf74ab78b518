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
)

// bootstrap makes a new cluster of a node without state, and waits until the
// node is ready. If an earlier process was killed in between, the log has no
// Init yet: this one writes it.
func (n *Node) bootstrap(ctx context.Context) error {
	fresh := !n.cluster.HasState()
	if fresh {
		if err := n.cluster.Bootstrap(ctx, server.NewID()); err != nil {
			return fmt.Errorf("bootstrap the cluster: %w", err)
		}
	}
	for {
		if _, err := n.cluster.ReadIndex(ctx); err == nil {
			break
		} else if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("wait for a leader: %w", err)
		}
	}
	if n.store.State().Cluster == (fsm.ID{}) {
		// From here on the node opens whole, even if it is told to end: a root key
		// that may be in the log must be shown.
		ctx = context.WithoutCancel(ctx)
		if err := n.initialise(ctx); err != nil {
			return fmt.Errorf("bootstrap the cluster: %w", err)
		}
	} else if n.cfg.RootKey != "" && !fresh {
		n.logger.Warn("the root key given is ignored: it is for bootstrap, and the cluster has state already")
	}
	for n.server.Ready() != nil {
		if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("wait until the node is ready: %w", err)
		}
	}
	return nil
}

// initialise writes the first command. A key that it draws is known from then
// on, and not before.
func (n *Node) initialise(ctx context.Context) error {
	id, ok := n.cluster.ClusterID()
	if !ok {
		return errors.New("the cluster has no id")
	}
	key, hash := n.cfg.RootKey, sha256.Sum256([]byte(n.cfg.RootKey))
	if key == "" {
		key, hash = server.NewSecret()
	}
	body := &fsm.Init{
		Cluster: id, Epoch: server.NewID(),
		CreateOrganisation: fsm.CreateOrganisation{
			Organisation: server.NewID(), Name: fsm.BootstrapOrganisation,
			BuiltIn: server.NewID(), Project: server.NewID(), ProjectName: cmp.Or(n.cfg.BootstrapProject, defaultProject),
			Key: server.NewID(), KeyName: "root", KeyHash: hash,
		},
	}
	rand.Read(body.Secret[:])
	command := fsm.Command{Envelope: fsm.Envelope{Request: server.NewID(), Time: time.Now().UnixMilli()}, Body: body}
	data, err := command.Encode()
	if err != nil {
		return err
	}
	for {
		result, _, err := n.cluster.Apply(ctx, data)
		switch {
		case err == nil && result.(fsm.Result).Err != nil:
			return result.(fsm.Result).Err
		case err == nil:
			if n.cfg.RootKey == "" {
				n.rootKey = key
			}
			return nil
		case !errors.Is(err, cluster.ErrNotLeader) && !errors.Is(err, cluster.ErrNotApplied):
			return err
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return err
		}
	}
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
