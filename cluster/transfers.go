package cluster

import (
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// transferPatience is how long a follower may make no progress before the log is
	// no longer kept for it, and restorePatience how long it may take to load a
	// snapshot that it has received, of which nothing is seen here.
	transferPatience = time.Minute
	restorePatience  = 10 * time.Minute
	// catchUpRounds bounds how often a follower that has what it lacked is given the
	// time for what was written meanwhile.
	catchUpRounds = 10
)

// transfers are the snapshots that are being read, by Raft to send them to a
// follower, and the followers that catch up after one. While there are any, no
// snapshot is begun, and the log keeps everything from the oldest of theirs on:
// otherwise a follower that takes longer to load a snapshot than the log takes to
// be cut finds its next entry gone, is sent the next snapshot, and so on for ever.
type transfers struct {
	log      *slog.Logger
	trailing uint64 // how far behind a follower may be when it is left to itself
	patience time.Duration
	last     func() (uint64, error) // the log's last index

	catching atomic.Int32 // how many catch up, so that most requests need not look

	mu  sync.Mutex
	all map[*transfer]struct{}
	// useless is the index of the newest snapshot after which a follower could not go
	// on: nothing is kept for whoever is sent that.
	useless uint64
}

// transfer is one of them. Its fields belong to the lock of transfers.
type transfer struct {
	of       *transfers
	index    uint64        // of the snapshot; zero while it is opened
	progress time.Time     // when some was made last
	patience time.Duration // how long none may be made

	follower raft.ServerID // that catches up; empty before
	matched  uint64        // the follower's last entry
	until    uint64        // what it must have
	rounds   int
}

func newTransfers(log *slog.Logger, trailing uint64, patience time.Duration, last func() (uint64, error)) *transfers {
	if patience == 0 {
		patience = transferPatience
	}
	return &transfers{log: log, trailing: trailing, patience: patience, last: last, all: map[*transfer]struct{}{}}
}

// begin begins a transfer of a snapshot that is yet to be opened.
func (t *transfers) begin() *transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := &transfer{of: t, progress: time.Now(), patience: t.patience}
	t.all[one] = struct{}{}
	return one
}

// held reports whether some transfer is under way.
func (t *transfers) held() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.oldest() != math.MaxUint64
}

// keeping calls cut with the lowest index that must stay in the log. No transfer
// begins in the meantime.
func (t *transfers) keeping(cut func(lowest uint64) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cut(t.oldest())
}

// oldest returns the lowest index of a transfer, after forgetting those that make
// no progress.
func (t *transfers) oldest() uint64 {
	lowest := uint64(math.MaxUint64)
	for one := range t.all {
		if time.Since(one.progress) > one.patience {
			t.log.Warn("a follower makes no progress with its snapshot; the log is no longer kept for it",
				"snapshot_index", one.index, "for", one.patience.String())
			t.remove(one)
			continue
		}
		if one.index > 0 && one.index <= t.useless {
			continue
		}
		lowest = min(lowest, one.index)
	}
	return lowest
}

func (t *transfers) remove(one *transfer) {
	if _, ok := t.all[one]; ok && one.follower != "" {
		t.catching.Add(-1)
	}
	delete(t.all, one)
}

// opened notes which snapshot it is.
func (one *transfer) opened(index uint64) {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	one.index, one.progress = index, time.Now()
}

// read notes that some of the snapshot was read, or all of it.
func (one *transfer) read(all bool) {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	one.progress = time.Now()
	if all {
		one.patience = max(one.patience, restorePatience)
	}
}

// end ends a transfer, unless it goes on with catching up.
func (one *transfer) end() {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	if one.follower == "" {
		one.of.remove(one)
	}
}

// catchUp notes that a follower has the snapshot and now needs what follows.
func (one *transfer) catchUp(follower raft.ServerID) {
	t := one.of
	last, err := t.last()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.all[one]; !ok || err != nil {
		return
	}
	one.follower, one.matched, one.until = follower, one.index, last
	one.progress, one.patience = time.Now(), t.patience
	t.catching.Add(1)
	t.advance(one, one.index, last)
}

// matched notes how far a follower's log goes.
func (t *transfers) matched(follower raft.ServerID, index uint64) {
	if t.catching.Load() == 0 {
		return
	}
	last, err := t.last()
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for one := range t.all {
		if one.follower == follower {
			t.advance(one, index, last)
		}
	}
}

// rejected notes that a follower takes no entries. One that has loaded a snapshot does
// so where its log ends with an old leader's entry at the very index of the snapshot
// (Raft keeps that, v1.7.3): it is sent the same snapshot again and again, until there is
// a newer one, which must not wait for this follower.
func (t *transfers) rejected(follower raft.ServerID) {
	if t.catching.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for one := range t.all {
		if one.follower == follower && one.matched == one.index {
			if one.index > t.useless {
				t.log.Warn("a follower cannot go on after the snapshot that it was sent: it gets a newer one when there is one", "snapshot_index", one.index, "follower", string(follower))
			}
			t.useless = max(t.useless, one.index)
			t.remove(one)
		}
	}
}

// advance ends the transfer to a follower that has what it lacked when the last
// round began, and is near enough to the log's end to be left to itself.
func (t *transfers) advance(one *transfer, index, last uint64) {
	if index > one.matched {
		one.matched, one.progress = index, time.Now()
	}
	if one.matched < one.until {
		return
	}
	one.rounds++
	if one.until = last; last-min(one.matched, last) <= t.trailing/2 || one.rounds == catchUpRounds {
		t.remove(one)
	}
}

// transferReader reads a snapshot for someone.
type transferReader struct {
	io.ReadCloser
	transfer *transfer
}

func (r *transferReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.transfer.read(err == io.EOF)
	return n, err
}

func (r *transferReader) Close() error {
	r.transfer.end()
	return r.ReadCloser.Close()
}

// transferTransport is Raft's transport, from which transfers hears how far
// followers are. It must be all that the network transport is: Raft looks by
// itself for what a transport can do, pre-vote for one.
type transferTransport struct {
	*raft.NetworkTransport
	transfers *transfers
	requests  <-chan raft.RPC // that came in
}

// Consumer hands out what other nodes ask for.
func (t transferTransport) Consumer() <-chan raft.RPC { return t.requests }

var (
	_ raft.WithPreVote = transferTransport{}
	_ raft.WithClose   = transferTransport{}
)

// InstallSnapshot sends a snapshot and waits until the follower has loaded it.
func (t transferTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, request *raft.InstallSnapshotRequest,
	response *raft.InstallSnapshotResponse, data io.Reader) error {
	err := t.NetworkTransport.InstallSnapshot(id, target, request, response, data)
	if reader, ok := data.(*transferReader); ok && err == nil && response.Success {
		reader.transfer.catchUp(id)
	}
	return err
}

// AppendEntries sends entries.
func (t transferTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest,
	response *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, target, request, response)
	switch {
	case err != nil:
	case response.Success:
		t.transfers.matched(id, request.PrevLogEntry+uint64(len(request.Entries)))
	case response.Term == request.Term:
		t.transfers.rejected(id)
	}
	return err
}
