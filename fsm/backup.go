package fsm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// MaxBackupBytes bounds a backup that is restored: until the commit every node
	// holds it in memory.
	MaxBackupBytes = 4 << 30
	// MaxChunkBytes bounds the part of it in one command.
	MaxChunkBytes = 512 << 10
)

// BeginRestore announces a backup, in place of any that was announced before.
type BeginRestore struct {
	ID   ID     `msgpack:"id"`
	Size uint64 `msgpack:"size"`
}

// RestoreChunk brings the backup's next bytes. A chunk that is there already
// changes nothing.
type RestoreChunk struct {
	ID     ID     `msgpack:"id"`
	Offset uint64 `msgpack:"offset"` // how many bytes came before
	Data   []byte `msgpack:"data"`
}

// CommitRestore replaces the content of the state by the backup's, and begins a
// new epoch. One that is not whole, or cannot become right, it ends the restore of.
type CommitRestore struct {
	ID     ID       `msgpack:"id"`
	SHA256 [32]byte `msgpack:"sha256"` // of the whole backup
	Epoch  ID       `msgpack:"epoch"`
}

// A staging is a backup that arrives. Like all of a state it never changes: a
// chunk makes a new one, which shares the chunks before.
type staging struct {
	id             ID
	size, received uint64
	last           *chunk
	parse          *parsing // once all is there
}

type chunk struct {
	before *chunk
	data   []byte
}

// Restoring returns the backup that is being restored, if any: how many bytes it
// has and how many of them have arrived.
func (s *State) Restoring() (id ID, size, received uint64, ok bool) {
	if s.restore == nil {
		return ID{}, 0, 0, false
	}
	return s.restore.id, s.restore.size, s.restore.received, true
}

// Parsed returns what is closed once the backup of this id has been parsed, for which
// its commit waits; nil while some of it is missing.
func (s *State) Parsed(id ID) <-chan struct{} {
	if s.restore == nil || s.restore.id != id || s.restore.parse == nil {
		return nil
	}
	return s.restore.parse.done
}

// Backup returns the state without what a restore ignores: the memory of requests
// and the backup that is being restored.
func (s *State) Backup() *State {
	backup := *s
	backup.requests, backup.restore = memory{}, nil
	return &backup
}

func (g *staging) bytes() uint64 {
	if g == nil {
		return 0
	}
	return g.received
}

// with returns the staging with a chunk more.
func (g *staging) with(data []byte) *staging {
	next := &staging{g.id, g.size, g.received + uint64(len(data)), &chunk{g.last, data}, nil}
	if next.received == next.size {
		next.parse = &parsing{done: make(chan struct{}), chunks: next.chunks}
	}
	return next
}

// chunks returns what has arrived, in order.
func (g *staging) chunks() [][]byte {
	var all [][]byte
	for c := g.last; c != nil; c = c.before {
		all = append(all, c.data)
	}
	slices.Reverse(all)
	return all
}

// follow starts to parse a backup that is whole, as soon as a state with it is
// published: that takes seconds, which apply should not have to wait for. What
// was published before and is not needed any more is given up.
func (g *staging) follow(before *staging) {
	if before != nil && before.parse != nil && (g == nil || g.parse != before.parse) {
		before.parse.abandoned.Store(true)
	}
	if g != nil && g.parse != nil {
		g.parse.start()
	}
}

// A parsing reads a backup beside apply, once for all states that hold it. What
// comes of it depends on the bytes alone.
type parsing struct {
	once      sync.Once
	done      chan struct{}
	abandoned atomic.Bool // nobody will ask
	chunks    func() [][]byte

	// Once done:
	sum   [32]byte
	level uint32
	state *State
	err   error
}

func (p *parsing) start() {
	p.once.Do(func() {
		go func() {
			defer close(p.done)
			p.run()
		}()
	})
}

func (p *parsing) wait() {
	p.start()
	<-p.done
}

var errAbandoned = errors.New("the backup is not needed any more")

func (p *parsing) run() {
	chunks := p.chunks()
	hash := sha256.New()
	for _, c := range chunks {
		hash.Write(c)
		if p.abandoned.Load() {
			p.err = errAbandoned
			return
		}
	}
	p.sum = [32]byte(hash.Sum(nil))
	p.level = snapshotLevel(&chunkReader{p, slices.Clone(chunks)})
	p.state, p.err = ReadSnapshot(&chunkReader{p, chunks})
}

type chunkReader struct {
	p    *parsing
	left [][]byte
}

// Read is for ReadSnapshot.
func (r *chunkReader) Read(to []byte) (int, error) {
	switch {
	case r.p.abandoned.Load():
		return 0, errAbandoned
	case len(r.left) == 0:
		return 0, io.EOF
	}
	n := copy(to, r.left[0])
	if r.left[0] = r.left[0][n:]; len(r.left[0]) == 0 {
		r.left = r.left[1:]
	}
	return n, nil
}

func (c *BeginRestore) apply(b *batch) Result {
	if err := firstOf(b.requireOperator(), b.requireLevel(levelOfClusters)); err != nil {
		return failed(err)
	}
	switch {
	case c.ID == (ID{}):
		return failed(errorf(CodeInvalidArgument, "the backup needs an id"))
	case c.Size == 0 || c.Size > MaxBackupBytes:
		return failed(errorf(CodeInvalidArgument, "the backup has %d bytes, and should have 1 to %d", c.Size, uint64(MaxBackupBytes)))
	}
	b.state.restore = &staging{id: c.ID, size: c.Size}
	return Result{}
}

// staged returns the backup that is being restored, if it is this one.
func (b *batch) staged(id ID) (*staging, *Error) {
	if err := firstOf(b.requireOperator(), b.requireLevel(levelOfClusters)); err != nil {
		return nil, err
	}
	if g := b.state.restore; g != nil && g.id == id {
		return g, nil
	}
	return nil, errorf(CodeFailedPrecondition, "backup %s is not being restored: another was begun, or its restore has ended: begin again", id)
}

func (c *RestoreChunk) apply(b *batch) Result {
	g, err := b.staged(c.ID)
	if err != nil {
		return failed(err)
	}
	n := uint64(len(c.Data))
	switch {
	case n == 0 || n > MaxChunkBytes:
		return failed(errorf(CodeInvalidArgument, "a chunk has %d bytes, and should have 1 to %d", n, MaxChunkBytes))
	case c.Offset > g.size || n > g.size-c.Offset:
		return failed(errorf(CodeInvalidArgument, "a chunk of %d bytes at %d is beyond the backup's %d bytes", n, c.Offset, g.size))
	case c.Offset+n <= g.received:
		return Result{Received: g.received} // the backup's sum tells if it was another
	case c.Offset != g.received:
		return failed(errorf(CodeFailedPrecondition, "a chunk at %d came where that at %d is next", c.Offset, g.received))
	}
	b.state.restore = g.with(c.Data)
	return Result{Received: b.state.restore.received}
}

// apply waits until the backup is parsed. Its errors say nothing that only the
// parser knows: another version may word it otherwise, and results are the same
// on every node.
func (c *CommitRestore) apply(b *batch) Result {
	g, err := b.staged(c.ID)
	if err != nil {
		return failed(err)
	}
	switch {
	case c.Epoch == (ID{}) || c.Epoch == b.state.Epoch:
		return failed(errorf(CodeInvalidArgument, "a restore begins a new epoch: draw one"))
	case g.received < g.size:
		// Refuses keeps those out of the log who commit too early. What gets here is the
		// cluster's own, to end a restore that nobody goes on with.
		b.state.restore = nil
		return failed(errorf(CodeFailedPrecondition, "%d of the backup's %d bytes have arrived: send the rest", g.received, g.size))
	}
	g.parse.wait()
	backup := g.parse.state
	b.state.restore, b.changed = nil, true // it cannot become right any more
	switch {
	case g.parse.sum != c.SHA256:
		return failed(errorf(CodeInvalidArgument, "the backup arrived with SHA-256 %x, and should have %x: begin again", g.parse.sum, c.SHA256))
	case g.parse.level > b.state.Level:
		return failed(errorf(CodeFailedPrecondition, "the backup is of level %d, and the cluster is at level %d: upgrade every node", g.parse.level, b.state.Level))
	case g.parse.err != nil:
		return failed(errorf(CodeInvalidArgument, "the backup is damaged, or no snapshot of remit: remit snapshot inspect says more"))
	case !backup.hasLivingOperator():
		return failed(errorf(CodeInvalidArgument, "the backup has no operator's key: nobody could run the cluster"))
	}
	b.replace(backup, c.Epoch)
	return Result{}
}

// replace makes a backup's content that of the state. What belongs to the cluster
// rather than to what it decided stays: its id, its level, what it remembers.
func (b *batch) replace(backup *State, epoch Epoch) {
	state := *backup
	state.Cluster, state.Level, state.Epoch = b.state.Cluster, b.state.Level, epoch
	state.requests, state.restore = b.state.requests, nil
	b.state = state
	b.tenants = map[ID]*tenant{}
	b.ownsOrganisations, b.ownsKeys, b.ownsSweeps = false, false, false
}

// hasLivingOperator reports whether a valid key can run the cluster.
func (s *State) hasLivingOperator() bool {
	b := newBatch(s)
	return slices.ContainsFunc(s.operators, func(id ID) bool {
		_, ok := b.livingKey(id)
		return ok
	})
}

type restoreRecord struct {
	ID   ID     `msgpack:"id"`
	Size uint64 `msgpack:"size"`
}

// chunkRecord is of the restore before it.
type chunkRecord struct {
	Data []byte `msgpack:"data"`
}

func (w *snapshotWriter) restore(g *staging) {
	if g == nil {
		return
	}
	w.record(recordRestore, &restoreRecord{g.id, g.size})
	for _, data := range g.chunks() {
		w.record(recordChunk, &chunkRecord{data})
	}
}

func (b *restore) addRestore(r *restoreRecord) error {
	switch {
	case b.state.Level < levelOfClusters:
		return fmt.Errorf("level %d has no restores", b.state.Level)
	case b.state.restore != nil:
		return fmt.Errorf("the restore stands twice")
	case r.ID == (ID{}) || r.Size == 0 || r.Size > MaxBackupBytes:
		return fmt.Errorf("no backup %s can have %d bytes", r.ID, r.Size)
	}
	b.state.restore = &staging{id: r.ID, size: r.Size}
	return nil
}

func (b *restore) addChunk(r *chunkRecord) error {
	g := b.state.restore
	if g == nil {
		return fmt.Errorf("a chunk stands before its restore")
	}
	if n := uint64(len(r.Data)); n == 0 || n > MaxChunkBytes || n > g.size-g.received {
		return fmt.Errorf("a chunk of %d bytes at %d of %d", n, g.received, g.size)
	}
	b.state.restore = g.with(r.Data)
	return nil
}
