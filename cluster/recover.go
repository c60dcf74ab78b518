package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

// RecoverConfig says which node recovers its cluster. DataDir and FSM are required.
type RecoverConfig struct {
	// DataDir is the data folder of the survivor, which must not run.
	DataDir string
	// FSM is given all that the folder holds, and then asked for the snapshot that the
	// cluster goes on with.
	FSM raft.FSM
	// Logger receives log lines; nil discards them.
	Logger *slog.Logger
}

// recoverStep is a point of Recover at which a crash leaves the folder different.
type recoverStep string

const (
	stepMarked     recoverStep = "marked"
	stepNewEpoch   recoverStep = "new epoch"
	stepNewHistory recoverStep = "new history"
)

// A Survivor is what a data folder holds of its cluster.
type Survivor struct {
	NodeID, ClusterID uuid.UUID
	// LastTerm and LastIndex are of the newest entry. Of two survivors the one with
	// the higher term has more, and at the same term the one with the higher index.
	LastTerm, LastIndex uint64
	SnapshotIndex       uint64
}

// Look returns what the data folder of a node that does not run would bring into a
// recovery. It opens the folder as a node does, and changes nothing of what it holds.
func Look(dataDir string) (s Survivor, err error) {
	n, closeNode, err := openSurvivor(RecoverConfig{DataDir: dataDir})
	defer func() { err = closeNode(err) }()
	if err != nil {
		return Survivor{}, err
	}
	s.NodeID, s.SnapshotIndex = n.id, n.snapshots.newest().index
	if id := n.cluster.Load(); id != nil {
		s.ClusterID = *id
	}
	taken, err := n.snapshots.List()
	if err != nil {
		return Survivor{}, fmt.Errorf("list the snapshots: %w", err)
	}
	if len(taken) > 0 {
		s.LastTerm, s.LastIndex = taken[0].Term, taken[0].Index
	}
	last, err := n.store.LastIndex()
	if err != nil || last <= s.LastIndex {
		return s, err
	}
	var entry raft.Log
	if err := n.store.GetLog(last, &entry); err != nil {
		return Survivor{}, fmt.Errorf("read log entry %d: %w", last, err)
	}
	s.LastTerm, s.LastIndex = entry.Term, entry.Index
	return s, nil
}

// Recover makes a cluster that has lost its majority for good one of this node alone,
// with all that the node's log and snapshots hold, and without what only the lost
// nodes held. It works on the data folder of a node that does not run. The other nodes
// of the old cluster are refused from then on, since the log has a new epoch; their
// data folders are to be removed before they join again.
//
// A crash in between leaves a folder that does not open until Recover has been run
// again: the marker goes first and is taken away last. The new epoch comes before
// Raft's new configuration, so no folder lets its node lead alone and still speak to the
// others.
func Recover(cfg RecoverConfig) error {
	return recoverFolder(cfg, func(recoverStep) error { return nil })
}

// openSurvivor opens a node that takes part in nothing. closeNode is to be called in any
// case, with the error so far, and returns how it all ended.
func openSurvivor(cfg RecoverConfig) (n *Node, closeNode func(error) error, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n = &Node{cfg: Config{DataDir: cfg.DataDir}, failed: make(chan struct{})}
	n.cfg.setStorageDefaults()
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	closeNode = func(err error) error {
		n.cancel(errClosed)
		if err = errors.Join(err, n.release()); err != nil {
			err = fmt.Errorf("recover: %w", err)
		}
		return err
	}
	if cfg.DataDir == "" {
		return n, closeNode, errors.New("no data folder given")
	}
	return n, closeNode, n.openToRecover(cfg.Logger)
}

func recoverFolder(cfg RecoverConfig, step func(recoverStep) error) (err error) {
	if cfg.FSM == nil {
		return errors.New("recover: no state machine given")
	}
	n, closeNode, err := openSurvivor(cfg)
	defer func() { err = closeNode(err) }()
	if err != nil {
		return err
	}
	if err := n.dir.markRecovering(n.id); err != nil {
		return err
	}
	if err := step(stepMarked); err != nil {
		return err
	}
	epoch, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw the log's epoch: %w", err)
	}
	if err := writeID(n.dir.file(epochFile), epoch); err != nil {
		return err
	}
	if err := step(stepNewEpoch); err != nil {
		return err
	}
	if err := n.read(func() error { return n.startHistory(cfg.FSM) }); err != nil {
		return err
	}
	if err := step(stepNewHistory); err != nil {
		return err
	}
	// Where the others were says nothing of where those will be that join again.
	if err := errors.Join(removeFile(n.dir.file(peersFile)), removeFile(n.dir.file(bondFile))); err != nil {
		return err
	}
	if err := removeFile(n.dir.file(recoverFile)); err != nil {
		return err
	}
	n.log.Info("cluster recovered: this node is its only member", "cluster_id", n.cluster.Load().String(), "last_index", n.snapshots.newest().index)
	return nil
}

// openToRecover opens what the folder holds and refuses a folder that holds nothing.
func (n *Node) openToRecover(log *slog.Logger) (err error) {
	path := n.cfg.DataDir
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("data folder %s: %w", path, err)
	}
	if n.dir, err = openDataDir(path); err != nil {
		return err
	}
	if err := errors.Join(n.dir.requireNotLeft(), n.dir.requireLog()); err != nil {
		return err
	}
	if n.id, err = readID(n.dir.file(nodeIDFile)); err != nil {
		return fmt.Errorf("data folder %s holds no node to recover from: %w", path, err)
	}
	n.log = log.With("node_id", n.id.String())
	if err := n.openStorage(options{}, newRaftLogger(n.log)); err != nil {
		return err
	}
	hasState, err := raft.HasExistingState(n.store, n.store, n.snapshots)
	if err == nil && !hasState {
		err = errors.New("it holds no log of a cluster: there is nothing to recover from")
	}
	if err != nil {
		return fmt.Errorf("data folder %s: %w", path, err)
	}
	return nil
}

// startHistory makes what the folder holds a snapshot whose configuration names this
// node alone, and drops the log. What the log holds beyond the last entry known to be
// committed counts as committed: it may have been acknowledged.
func (n *Node) startHistory(fsm raft.FSM) error {
	config := n.raftConfig(newRaftLogger(n.log))
	address := raft.ServerAddress(n.serverID()) // addresses are no part of the configuration
	_, transport := raft.NewInmemTransport(address)
	return raft.RecoverCluster(config, fsm, n.store, n.store, n.snapshots, transport, raft.Configuration{
		Servers: []raft.Server{{Suffrage: raft.Voter, ID: n.serverID(), Address: address}},
	})
}
