package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

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

// bond is what binds a node without state to a cluster that is being formed: it
// will be part of that one and of no other.
type bond struct {
	Cluster uuid.UUID   `json:"cluster_id"`
	Epoch   uuid.UUID   `json:"epoch"`
	Nodes   []uuid.UUID `json:"node_ids"` // all of its voters, ascending; the first bootstraps it
}

// newBond begins a cluster of these nodes.
func newBond(cluster uuid.UUID, nodes ...uuid.UUID) (*bond, error) {
	epoch, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("draw the log's epoch: %w", err)
	}
	return &bond{Cluster: cluster, Epoch: epoch, Nodes: nodes}, nil
}

// bind makes a bond durable. bootstrapMu is held.
func (n *Node) bind(b *bond) error {
	content, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(n.dir.file(bondFile), append(content, '\n')); err != nil {
		return err
	}
	n.bond.Store(b)
	return n.belong(b.Cluster, b.Epoch)
}

// belong makes the node part of a cluster, durably. Raft's state comes after it,
// and a folder that has state must have the cluster's id.
func (n *Node) belong(cluster, epoch uuid.UUID) error {
	var err error
	if epoch == uuid.Nil {
		err = removeFile(n.dir.file(epochFile))
	} else {
		err = writeID(n.dir.file(epochFile), epoch)
	}
	if err == nil {
		err = writeID(n.dir.file(clusterIDFile), cluster)
	}
	if err != nil {
		return err
	}
	n.epoch.Store(&epoch)
	n.cluster.Store(&cluster)
	return nil
}

// Bootstrap starts a new cluster with this node as its one voter. It happens once
// in the life of a data folder; the node becomes leader soon after.
//
// The order makes a crash between the steps harmless: first the bond, epoch and
// cluster id, which the next Bootstrap overwrites while there is no Raft state; then
// Raft's term and first entry, two commits, of which the first alone is taken back
// by the next Open.
func (n *Node) Bootstrap(ctx context.Context, clusterID [16]byte) error {
	n.bootstrapMu.Lock()
	defer n.bootstrapMu.Unlock()
	bound, belongs := n.bond.Load(), n.cluster.Load()
	switch {
	case n.HasState():
		return fmt.Errorf("bootstrap data folder %s: %w", n.cfg.DataDir, ErrHasState)
	case uuid.UUID(clusterID) == uuid.Nil:
		return errors.New("bootstrap: the cluster id must not be zero")
	case belongs != nil && (bound == nil || !slices.Equal(bound.Nodes, []uuid.UUID{n.id})):
		return fmt.Errorf("bootstrap data folder %s: the node is bound to be part of cluster %s", n.cfg.DataDir, belongs)
	}
	b, err := newBond(clusterID, n.id)
	if err == nil {
		err = n.bind(b)
	}
	if err == nil {
		err = n.startLog(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("bootstrap data folder %s: %w", n.cfg.DataDir, err)
	}
	return nil
}

// startLog gives Raft its first entry, which says who votes. bootstrapMu is held.
func (n *Node) startLog(ctx context.Context, b *bond) error {
	var voters raft.Configuration
	for _, id := range b.Nodes {
		voters.Servers = append(voters.Servers, raft.Server{
			Suffrage: raft.Voter,
			ID:       raft.ServerID(id.String()),
			Address:  raft.ServerAddress(id.String()), // addresses are no part of the configuration
		})
	}
	if err := n.await(ctx, func() error { return n.raft.BootstrapCluster(voters).Error() }); err != nil {
		return err
	}
	n.log.Info("cluster bootstrapped", "cluster_id", b.Cluster.String(), "voters", len(b.Nodes))
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
		return n.loadBond()
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

// loadBond reads what binds a node without state to a cluster, one that is being
// formed or one that it was told to join. A crash may have come between the files:
// the bond comes first, the cluster id last.
func (n *Node) loadBond() error {
	content, err := os.ReadFile(n.dir.file(bondFile))
	switch {
	case err == nil:
		var b bond
		if err := json.Unmarshal(content, &b); err != nil || b.Cluster == uuid.Nil || len(b.Nodes) == 0 {
			return fmt.Errorf("%s does not say which nodes form the cluster: this node has no data yet, so remove the folder %s", n.dir.file(bondFile), n.dir.path)
		}
		n.bond.Store(&b)
		return n.belong(b.Cluster, b.Epoch)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if _, err := os.Stat(n.dir.file(joiningFile)); !errors.Is(err, os.ErrNotExist) {
		if err != nil {
			return err
		}
		n.joining.Store(true)
	}
	cluster, err := readID(n.dir.file(clusterIDFile))
	if errors.Is(err, os.ErrNotExist) {
		n.joining.Store(false) // a crash came before it belonged to the cluster, or after
		return removeFile(n.dir.file(joiningFile))
	}
	if err != nil {
		return err
	}
	epoch, err := readID(n.dir.file(epochFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n.epoch.Store(&epoch)
	n.cluster.Store(&cluster)
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
