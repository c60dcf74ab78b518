// Package cluster runs one node of a Raft cluster. It replicates commands as
// bytes and says which revision a read has to wait for; what a command means is
// the state machine's business.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
)

const (
	// closeTimeout bounds Close.
	closeTimeout = 5 * time.Second

	heartbeatTimeout   = time.Second
	electionTimeout    = time.Second
	leaderLeaseTimeout = 500 * time.Millisecond
	commitTimeout      = 5 * time.Millisecond
	maxAppendEntries   = 256

	transportTimeout = 10 * time.Second
	transportPool    = 3
	// With one request under way at a time Raft does not pipeline, which can starve a slow follower.
	transportRequestsInFlight = 1
)

var errClosed = errors.New("the node is closed")

// FSM is the state machine the node replicates commands to.
type FSM interface {
	raft.FSM
	// Revision is the log index of the newest command applied, zero before the
	// first. It is called at any time, from any goroutine.
	Revision() uint64
}

// Config says how to open a node. DataDir, RaftAddr and FSM are required.
type Config struct {
	// DataDir is the folder that holds everything durable. It is made where it is missing.
	DataDir string
	// NodeName names the node to people, in log lines. Nothing depends on it.
	NodeName string
	// RaftAddr is the host:port to listen on for other nodes. Port 0 takes a free one.
	RaftAddr string
	// AdvertiseAddr is the host under which other nodes reach this one, where it is
	// not that of the addresses listened on.
	AdvertiseAddr string
	// GossipAddr is the host:port to gossip on, over UDP and TCP; empty for a node
	// that stays alone.
	GossipAddr string
	// GossipKey encrypts gossip: 16, 24 or 32 bytes, the same on all nodes; nil
	// leaves it open.
	GossipKey []byte
	// Seeds are gossip addresses of other nodes, to find the cluster by.
	Seeds []string
	// HTTPAddr and GRPCAddr are where clients reach the node; members are told.
	HTTPAddr, GRPCAddr string
	// TLS is the node's certificate and the authority it trusts; nil leaves
	// connections between nodes unencrypted.
	TLS *TLS
	// Insecure allows unencrypted connections to other machines.
	Insecure bool
	// Replica makes the node one that will never vote.
	Replica bool
	// Version is the release the node runs, and Level the newest level of formats
	// and semantics it supports; members are told.
	Version string
	Level   uint32
	// Describe returns what the state machine's side knows of itself; nil for nothing.
	Describe func() Description
	// Digest returns the digest of the state at a checkpoint, as soon as there is
	// one; nil where there are no checkpoints.
	Digest func(ctx context.Context, revision uint64) ([]byte, error)
	// OnLeave is told true when the node begins to leave its cluster, so that no new
	// clients come, and false if it then stays.
	OnLeave func(leaving bool)
	// FSM receives the commands. It may also be a raft.BatchingFSM.
	FSM FSM
	// Logger receives the node's log lines; nil discards them.
	Logger *slog.Logger

	// SnapshotThreshold is how many log entries make the next snapshot due (default 8192).
	SnapshotThreshold uint64
	// SnapshotInterval is how often that is looked at, to twice as long (default 30 s).
	SnapshotInterval time.Duration
	// SnapshotBytes is how many bytes of new log entries make a snapshot due at once
	// (default 64 MiB), unless the newest snapshot is larger: then it is as many as that.
	SnapshotBytes uint64
	// TrailingLogs is how many log entries stay behind a snapshot (default 10240), or
	// as many as take SnapshotBytes if those are fewer.
	TrailingLogs uint64
	// HungStoreTimeout is how long a write to the log may take (default 10 s). After
	// that the disk counts as hung, and the node fails as if the write had.
	HungStoreTimeout time.Duration
	// MinFreeDisk is the number of free bytes below which the disk of the data folder
	// is low (default 256 MiB), until a quarter more is free. A leader whose disk is
	// low hands leadership over, or refuses commands where no other voter can lead.
	MinFreeDisk uint64
}

// Description is what is above the log: the part of a node's status that this
// room does not know.
type Description struct {
	// Level is that of the state.
	Level uint32
	// NotReady says why the node does not answer default reads; empty if it does.
	NotReady string
	// Age is how old the state may be; negative before the first word of a leader.
	Age time.Duration
}

// Node is one node of a cluster. Its methods may be called from any goroutine.
type Node struct {
	cfg Config
	log *slog.Logger
	id  uuid.UUID

	dir       *dataDir
	store     *store
	snapshots *snapshots
	transfers *transfers
	disk      *disk
	peers     *peers
	listener  *listener
	transport *raft.NetworkTransport
	raft      *raft.Raft
	conns     *nodeConns
	grpc      *grpc.Server // of the node service
	gossip    *gossip      // nil for a node that stays alone

	leaders     leaderWatch
	barriers    termBarrier
	confirmer   voterConfirmer
	leaderReads *readRounds   // of the leader, for itself and all others
	reads       *readRounds   // of a node that does not lead
	rounds      atomic.Uint64 // run as the leader

	joining     atomic.Bool               // asked a cluster to take it in, which has not said yes
	asking      atomic.Bool               // Join runs
	cluster     atomic.Pointer[uuid.UUID] // nil before the cluster is known
	epoch       atomic.Pointer[uuid.UUID] // of the cluster's log; stored before cluster
	bond        atomic.Pointer[bond]      // nil, or to the cluster that is being formed
	forming     atomic.Pointer[Formation] // while Form runs
	waiting     atomic.Pointer[string]    // what a node without a cluster waits for
	step        func(formStep) error      // of options
	bootstrapMu sync.Mutex                // held while the node comes to belong to a cluster
	membersMu   chan struct{}             // full during one look at the members, and the change it leads to
	leaving     atomic.Bool
	removed     atomic.Bool // from the cluster, as others say

	ctx     context.Context // ends when the node fails or closes, with the reason as its cause
	cancel  context.CancelCauseFunc
	started chan struct{} // closed when the fields above are set
	left    chan struct{} // closed when the node has left its cluster
	failed  chan struct{} // closed after the first failed write
	stopped chan struct{} // closed when Raft has ended

	closeOnce sync.Once
	closeErr  error
}

// Open opens the node of a data folder and starts it. A folder without state
// belongs to no cluster yet: Bootstrap starts one.
func Open(cfg Config) (*Node, error) { return open(cfg, options{}) }

// options are what tests change about a node.
type options struct {
	store         storeOptions
	afterSnapshot func(id string)
	voters        voterConfirmer
	// freeDisk measures the room on a disk, every diskInterval.
	freeDisk     func(path string) (uint64, error)
	diskInterval time.Duration
	// transferPatience is how long a follower may make no progress with a snapshot.
	transferPatience time.Duration
	// address changes the address by which a node reaches another.
	address func(from, to uuid.UUID, address string) (string, error)
	// blind keeps a node from seeing another that it gossips with.
	blind func(self, other uuid.UUID) bool
	// vanish keeps a node that closes from telling others, as if it were killed.
	vanish bool
	// step is called at each step of forming a cluster; its error ends it there, as
	// if the node were killed.
	step func(formStep) error
}

func open(cfg Config, opts options) (_ *Node, err error) {
	switch {
	case cfg.DataDir == "":
		return nil, errors.New("cluster: no data folder given")
	case cfg.RaftAddr == "":
		return nil, errors.New("cluster: no address given to listen on for other nodes")
	case cfg.FSM == nil:
		return nil, errors.New("cluster: no state machine given")
	}
	if err := cfg.checkAddresses(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.setStorageDefaults()

	n := &Node{
		cfg: cfg, step: opts.step, started: make(chan struct{}),
		membersMu: make(chan struct{}, 1), left: make(chan struct{}), failed: make(chan struct{}), stopped: make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			n.cancel(err)
			if n.raft != nil {
				err = errors.Join(err, n.Close())
			} else {
				err = errors.Join(err, n.release())
			}
		}
	}()

	if n.dir, err = openDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	if err = errors.Join(n.dir.requireNotLeft(), n.dir.requireRecovered()); err != nil {
		return nil, err
	}
	if err = n.dir.requireLog(); err != nil {
		return nil, err
	}
	if n.id, err = n.dir.nodeID(cfg.TLS); err != nil {
		return nil, err
	}
	n.log = cfg.Logger.With("node", cfg.NodeName, "node_id", n.id.String())
	raftLog := newRaftLogger(n.log)

	if err = n.openStorage(opts, raftLog); err != nil {
		return nil, err
	}

	n.peers = openPeers(n.dir.file(peersFile), n.log)
	n.gossip = newGossip(n, opts)
	tcp, err := net.Listen("tcp", cfg.RaftAddr)
	if err != nil {
		return nil, fmt.Errorf("listen for other nodes: %w", err)
	}
	address := n.addressOf
	if opts.address != nil {
		address = func(id uuid.UUID) (string, error) {
			real, err := n.addressOf(id)
			if err != nil {
				return "", err
			}
			return opts.address(n.id, id, real)
		}
	}
	n.listener = newListener(tcp, n.log, identity{
		self:    n.id,
		cluster: n.cluster.Load,
		epoch:   n.logEpoch,
		joining: n.joining.Load,
		address: address,
		tls:     cfg.TLS,

		insecure: cfg.Insecure,
	})
	n.conns = newNodeConns(n.listener.dial, redial)
	n.serveNodes()
	n.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: addressByID{},
		Logger:                raftLog.Named("transport"),
		Stream:                raftStream{n.listener.kinds[kindRaft], n.ctx},
		MaxPool:               transportPool,
		MaxRPCsInFlight:       transportRequestsInFlight,
		Timeout:               transportTimeout,
	})
	transport := transferTransport{n.transport, n.transfers, n.requests(n.transport.Consumer())}
	err = n.read(func() (err error) {
		if n.raft, err = raft.NewRaft(n.raftConfig(raftLog), cfg.FSM, n.store, n.store, n.snapshots, transport); err != nil {
			err = damagedFolder(cfg.DataDir, err) // the settings are right, so it is what Raft read
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start Raft: %w", err)
	}
	if opts.voters == nil {
		opts.voters = termConfirmer{n}
	}
	n.confirmer = opts.voters
	n.leaderReads = newReadRounds(n.ctx, n.leaderRound)
	n.reads = newReadRounds(n.ctx, n.askedRound)
	n.watchLeader()
	go n.stopRaft()
	if n.HasState() { // the bond has done its part
		if err = removeFile(n.dir.file(bondFile)); err != nil {
			return nil, fmt.Errorf("data folder %s: %w", cfg.DataDir, err)
		}
	}
	if err = n.gossip.start(); err != nil {
		return nil, err
	}
	close(n.started)

	go n.takeSnapshots()
	go n.watchMembers()
	go n.watchDisk(cmp.Or(opts.diskInterval, diskInterval))
	if n.IsSoleVoter() {
		n.campaign()
	}
	n.log.Info("node opened", "data_dir", cfg.DataDir, "raft_addr", n.RaftAddr(), "has_state", n.HasState())
	return n, nil
}

// read runs a step of open that reads the data folder, and says of a panic in it
// that the folder is damaged, unless the cause was a failed write.
func (n *Node) read(step func() error) error {
	err := guard(step)
	if err == nil {
		return nil
	}
	if failure := n.Err(); failure != nil {
		return failure
	}
	var panicked *panicError
	if errors.As(err, &panicked) {
		return damagedFolder(n.cfg.DataDir, err)
	}
	return err
}

func (n *Node) raftConfig(log hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.ProtocolVersion = raft.ProtocolVersionMax
	c.HeartbeatTimeout = heartbeatTimeout
	c.ElectionTimeout = electionTimeout
	c.LeaderLeaseTimeout = leaderLeaseTimeout
	c.CommitTimeout = commitTimeout
	c.MaxAppendEntries = maxAppendEntries
	c.BatchApplyCh = true
	// Only Close and a failed write end Raft, so that waiting calls always hear of it.
	c.ShutdownOnRemove = false
	c.SnapshotThreshold, c.SnapshotInterval = never, time.Hour
	c.TrailingLogs = n.cfg.TrailingLogs
	c.LocalID = n.serverID()
	c.Logger = log
	return c
}

// ID is the node's identity: a UUID drawn when its data folder was first opened.
func (n *Node) ID() string { return n.id.String() }

// RaftAddr is the address the node listens on for other nodes.
func (n *Node) RaftAddr() string { return n.listener.Addr().String() }

// Failed is closed when a write to the disk has failed. The node then takes part
// in nothing more; the process should end, saying Err.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err says why the node ended; nil while it runs.
func (n *Node) Err() error { return context.Cause(n.ctx) }

// Close ends the node. What was acknowledged is durable already, so Close writes
// nothing; it returns an error if Raft has not ended within five seconds, and then
// keeps the data folder locked, since something may still write to it.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.cancel(errClosed)
		told := make(chan struct{})
		go func() {
			defer close(told)
			n.gossip.close()
		}()
		late := time.After(closeTimeout)
		select {
		case <-n.stopped:
			select {
			case <-told: // nothing writes to the data folder any more
			case <-late:
			}
			n.closeErr = n.release()
		case <-late:
			n.closeErr = fmt.Errorf("cluster: Raft did not end within %s; data folder %s stays locked until the process ends", closeTimeout, n.cfg.DataDir)
			if cause := n.Err(); cause != errClosed {
				n.closeErr = fmt.Errorf("%w; the node had failed: %w", n.closeErr, cause)
			}
		}
	})
	return n.closeErr
}

// fail ends the node after a failed write. It logs last: the log may go to the
// disk that hangs.
func (n *Node) fail(err error) {
	n.cancel(err)
	close(n.failed)
	n.log.Error("a write to the disk failed; the node stops", "error", err)
}

// stopRaft ends Raft when the node fails or closes.
func (n *Node) stopRaft() {
	<-n.ctx.Done()
	raftEnd := n.raft.Shutdown()
	// Before waiting: a goroutine of Raft's may be waiting for another node's answer, for
	// minutes where it sends a snapshot. And if a write has failed, Raft's main goroutine
	// may hang in it, and its heartbeats go on until it returns: without connections
	// they reach nobody.
	if err := n.listener.Close(); err != nil {
		n.log.Error("close the connections to other nodes", "error", err)
	}
	n.transport.CloseStreams()
	if err := errors.Join(n.transport.Close(), raftEnd.Error()); err != nil {
		n.log.Error("end Raft", "error", err)
	}
	close(n.stopped)
}

// release closes what is open. Raft must have ended.
func (n *Node) release() error {
	var errs []error
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
	}
	if n.listener != nil {
		n.conns.close()
		n.grpc.Stop()
		errs = append(errs, n.listener.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	return errors.Join(errs...)
}

func (n *Node) serverID() raft.ServerID { return raft.ServerID(n.id.String()) }

// voters are the voters of the latest configuration.
func (n *Node) voters() ([]raft.Server, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var voters []raft.Server
	for _, server := range future.Configuration().Servers {
		if server.Suffrage == raft.Voter {
			voters = append(voters, server)
		}
	}
	return voters, nil
}

// IsSoleVoter reports whether the node is the whole of its cluster.
func (n *Node) IsSoleVoter() bool {
	voters, err := n.voters()
	return err == nil && len(voters) == 1 && voters[0].ID == n.serverID()
}

// campaign makes a follower that hears of no leader start its election now
// instead of after a heartbeat timeout: Raft looks at its timer at once when the
// timeout becomes shorter. A node that does hear of a leader does nothing.
func (n *Node) campaign() {
	c := n.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = heartbeatTimeout+time.Millisecond, electionTimeout+time.Millisecond
	err := n.raft.ReloadConfig(c)
	c.HeartbeatTimeout, c.ElectionTimeout = heartbeatTimeout, electionTimeout
	if err = errors.Join(err, n.raft.ReloadConfig(c)); err != nil {
		n.log.Warn("cannot start the election early; it starts by itself", "error", err)
	}
}

// await runs f, which blocks on Raft, and returns its error; or, when ctx or the
// node ends first, the reason for that. f may then still be running: Raft answers
// some of what it was asked for never once it has ended.
func (n *Node) await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	case <-n.ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return n.Err()
}
