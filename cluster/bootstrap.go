package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// keyCurrentTerm is Raft's own name of the value.
var keyCurrentTerm = []byte("CurrentTerm")

// ErrHasState is what Bootstrap answers on a node that belongs to a cluster.
var ErrHasState = errors.New("the node has Raft state already")

// HasState reports whether the node has Raft state: it was bootstrapped, or a
// cluster's leader has spoken to it.
func (n *Node) HasState() bool {
	return n.raft.LastIndex() > 0 || n.raft.CurrentTerm() > 0
}

// ClusterID is the id the cluster was given at Bootstrap; false before that.
func (n *Node) ClusterID() ([16]byte, bool) {
	if id := n.cluster.Load(); id != nil {
		return *id, true
	}
	return [16]byte{}, false
}

// logEpoch is drawn at Bootstrap and replaced when the cluster is recovered, so
// that nodes from before a recovery are known. It is zero before Bootstrap, and in
// a cluster from before there were epochs.
func (n *Node) logEpoch() uuid.UUID {
	if epoch := n.epoch.Load(); epoch != nil {
		return *epoch
	}
	return uuid.Nil
}

// Bootstrap starts a new cluster with this node as its one voter. It happens once
// in the life of a data folder; the node becomes leader soon after.
//
// The order makes a crash between the steps harmless: first epoch and cluster id, which
// mean nothing without Raft state and are overwritten by the next Bootstrap; then
// Raft's term and first entry, two commits, of which the first alone is taken back
// by the next Open.
func (n *Node) Bootstrap(ctx context.Context, clusterID [16]byte) error {
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	if n.HasState() {
		return fmt.Errorf("bootstrap data folder %s: %w", n.cfg.DataDir, ErrHasState)
	}
	id := uuid.UUID(clusterID)
	if id == uuid.Nil {
		return errors.New("bootstrap: the cluster id must not be zero")
	}
	epoch, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("bootstrap: draw the log's epoch: %w", err)
	}
	if err := writeID(n.dir.file(epochFile), epoch); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := writeID(n.dir.file(clusterIDFile), id); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	n.epoch.Store(&epoch)
	n.cluster.Store(&id)
	err = n.await(ctx, func() error {
		return n.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter,
			ID:       n.serverID(),
			Address:  raft.ServerAddress(n.serverID()), // addresses are no part of the configuration
		}}}).Error()
	})
	if err != nil {
		return fmt.Errorf("bootstrap data folder %s: %w", n.cfg.DataDir, err)
	}
	n.log.Info("cluster bootstrapped", "cluster_id", id.String())
	n.campaign()
	return nil
}

// loadCluster takes back a bootstrap that a crash interrupted and otherwise reads
// the cluster id and the epoch that belong to the state.
func (n *Node) loadCluster(snaps raft.SnapshotStore) error {
	if err := n.requireEntries(snaps); err != nil {
		return err
	}
	if err := n.undoHalfBootstrap(snaps); err != nil {
		return err
	}
	hasState, err := raft.HasExistingState(n.store, n.store, snaps)
	if err != nil {
		return fmt.Errorf("read data folder %s: %w", n.dir.path, err)
	}
	if !hasState {
		return nil
	}
	id, err := readID(n.dir.file(clusterIDFile))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data folder %s has Raft state but no %s: restore that file from the backup the folder came from", n.dir.path, clusterIDFile)
	}
	if err != nil {
		return err
	}
	epoch, err := readID(n.dir.file(epochFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n.epoch.Store(&epoch)
	n.cluster.Store(&id)
	return nil
}

// requireEntries refuses a folder whose log and snapshots do not belong together:
// the log is another, empty one, or nothing holds the entries before its first.
func (n *Node) requireEntries(snaps raft.SnapshotStore) error {
	folders, err := n.dir.snapshotFolders()
	if err != nil {
		return err
	}
	taken, err := snaps.List()
	if err != nil {
		return fmt.Errorf("read data folder %s: %w", n.dir.path, err)
	}
	first, err := n.store.FirstIndex()
	if err != nil {
		return fmt.Errorf("read data folder %s: %w", n.dir.path, err)
	}
	term, err := n.store.GetUint64(keyCurrentTerm)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("read data folder %s: %w", n.dir.path, err)
	}
	// Raft stores its term before it takes or receives a snapshot.
	if term == 0 && len(folders) > 0 {
		return fmt.Errorf("data folder %s has snapshots, but its log %s has no state, so it is not the one they were taken from: %s",
			n.dir.path, logFile, restoreAdvice)
	}
	var newest uint64
	for _, snapshot := range taken {
		newest = max(newest, snapshot.Index)
	}
	switch {
	case first > newest+1:
		return fmt.Errorf("the log %s in data folder %s begins with entry %d and no readable snapshot in %s holds those before it: %s",
			logFile, n.dir.path, first, snapshotDir, restoreAdvice)
	case first == 0 && newest == 0 && len(folders) > 0:
		return fmt.Errorf("data folder %s has snapshots in %s of which none can be read, and no log entries: %s",
			n.dir.path, snapshotDir, restoreAdvice)
	}
	return nil
}

// undoHalfBootstrap resets the term where a bootstrap got no further than to set
// it to 1. Nothing else leaves term 1 and an empty log: the first election of a
// cluster is for term 2, so no vote and no leader of term 1 exists anywhere.
func (n *Node) undoHalfBootstrap(snaps raft.SnapshotStore) error {
	term, err := n.store.GetUint64(keyCurrentTerm)
	if err != nil || term != 1 {
		return nil // no term yet, or a term from an election; a real error comes up again in HasExistingState
	}
	last, err := n.store.LastIndex()
	if err != nil {
		return fmt.Errorf("read data folder %s: %w", n.dir.path, err)
	}
	taken, err := snaps.List()
	if err != nil {
		return fmt.Errorf("read data folder %s: %w", n.dir.path, err)
	}
	if last > 0 || len(taken) > 0 {
		return nil
	}
	n.log.Warn("an earlier bootstrap was interrupted; it is taken back")
	return n.store.SetUint64(keyCurrentTerm, 0)
}
