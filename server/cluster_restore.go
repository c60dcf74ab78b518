package server

import (
	"context"
	"errors"
	"time"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

const (
	// RestoreIdle is how long a restore may stand still before the leader ends it.
	RestoreIdle     = 10 * time.Minute
	restoreInterval = 10 * time.Second
	// answerTime is what a commit that waits leaves of its time for the way back of the
	// answer: to a node that passed it on, none would leave open what became of it.
	answerTime = 250 * time.Millisecond
)

// StillReading is in the answer to a commit whose backup has not been read to its end,
// which may take minutes. The commit is to be sent again.
const StillReading = "the backup is still being read"

// BeginRestore starts to replace the whole state by a snapshot.
func (s *Server) BeginRestore(ctx context.Context, req *clusterv1.BeginRestoreRequest) (*clusterv1.BeginRestoreResponse, error) {
	// The restore is called by its request, so that a repetition names the same one.
	id := callOf(ctx).origin.request
	if _, _, err := s.write(ctx, &fsm.BeginRestore{ID: id, Size: req.Size}); err != nil {
		return nil, err
	}
	s.logger.Info("a restore was begun", "id", id, "bytes", req.Size)
	return &clusterv1.BeginRestoreResponse{RestoreId: id.String(), ChunkBytes: fsm.MaxChunkBytes}, nil
}

// RestoreChunk brings the next piece of the snapshot into the log.
func (s *Server) RestoreChunk(ctx context.Context, req *clusterv1.RestoreChunkRequest) (*clusterv1.RestoreChunkResponse, error) {
	id, err := restoreID(req.RestoreId)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.write(ctx, &fsm.RestoreChunk{ID: id, Offset: req.Offset, Data: req.Data}); err != nil {
		return nil, err
	}
	return &clusterv1.RestoreChunkResponse{Received: req.Offset + uint64(len(req.Data))}, nil
}

// CommitRestore replaces the state by the snapshot on all nodes. The new epoch
// ends all tokens from before.
func (s *Server) CommitRestore(ctx context.Context, req *clusterv1.CommitRestoreRequest) (*clusterv1.CommitRestoreResponse, error) {
	id, err := restoreID(req.RestoreId)
	if err != nil {
		return nil, err
	}
	if len(req.Sha256) != 32 {
		return nil, invalid("a SHA-256 of %d bytes: send the 32 of the whole snapshot", len(req.Sha256))
	}
	if err := awaitParsed(ctx, callOf(ctx).state, id); err != nil {
		return nil, err
	}
	revision, err := s.writeAt(ctx, &fsm.CommitRestore{ID: id, SHA256: [32]byte(req.Sha256), Epoch: callOf(ctx).origin.seed.id("epoch")})
	if err != nil {
		return nil, err
	}
	// A repetition began no epoch of its own, so the state says which it is.
	epoch := s.store.State().Epoch
	s.logger.Info("the state was replaced by a backup", "id", id, "revision", revision, "epoch", epoch)
	return &clusterv1.CommitRestoreResponse{Revision: revision, Epoch: epoch.String()}, nil
}

// awaitParsed waits until the backup has been parsed. To try its commit on a state
// waits for that too, but longer than the caller, or a node that ends, may want to.
func awaitParsed(ctx context.Context, state *fsm.State, id fsm.ID) error {
	parsed := state.Parsed(id)
	if parsed == nil || closed(parsed) {
		return nil // the command says what is wrong
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-answerTime))
		defer cancel()
	}
	select {
	case <-parsed:
		return nil
	case <-ctx.Done():
		return certainly(StillReading)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func restoreID(text string) (fsm.ID, error) {
	id, ok := fsm.ParseID(text)
	if !ok {
		return fsm.ID{}, invalid("invalid restore id %s: BeginRestore answers one", quote(text))
	}
	return id, nil
}

// writeAt is write for what needs the command's revision, and the first one's if it
// was a repetition.
func (s *Server) writeAt(ctx context.Context, body fsm.Body) (revision uint64, err error) {
	result, text, err := s.write(ctx, body)
	if err != nil {
		return 0, err
	}
	if result.Repeated {
		return result.Memory.Revision, nil
	}
	t, _ := parseToken(text)
	return t.revision, nil
}

// A standing is how far a restore is.
type standing struct {
	id             fsm.ID
	size, received uint64
	parsed         bool
}

// endRestores ends restores that nobody goes on with, until the context ends: what has
// come of a backup takes memory on every node, and room in every snapshot. Only the
// leader does, and it counts from what it has seen itself.
func (s *Server) endRestores(ctx context.Context) {
	var last standing
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(restoreInterval):
		}
		now, ok := s.standing(ctx)
		switch reading := now.received == now.size && !now.parsed; {
		case !ok:
			last = standing{}
		case now != last || reading:
			last, since = now, time.Now()
		case time.Since(since) >= RestoreIdle:
			s.endRestore(ctx, now)
		}
	}
}

// standing returns how far the restore is that is under way, if there is one and this
// node leads.
func (s *Server) standing(ctx context.Context) (standing, bool) {
	state := s.store.State()
	id, size, received, ok := state.Restoring()
	if !ok {
		return standing{}, false
	}
	_, self, err := s.log.Leader(ctx)
	return standing{id, size, received, closed(state.Parsed(id))}, self && err == nil
}

// endRestore commits what cannot be committed, which ends it.
func (s *Server) endRestore(ctx context.Context, r standing) {
	epoch := s.store.State().Epoch
	err := s.propose(ctx, &fsm.CommitRestore{ID: r.id, Epoch: NewID()}) // no backup has the sum 0
	if refused := (*fsm.Error)(nil); !errors.As(err, &refused) {
		s.logger.Debug("a restore that makes no progress is not ended yet", "reason", err)
		return
	}
	if s.store.State().Epoch == epoch { // or it was committed just before
		s.logger.Warn("a restore made no progress and was ended: what had come of the backup is dropped",
			"id", r.id, "received", r.received, "bytes", r.size, "idle", RestoreIdle)
	}
}
