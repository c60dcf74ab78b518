package cluster

import (
	"io"

	"github.com/hashicorp/raft"
)

// requests hands Raft what other nodes ask of it, one after the other, but for
// snapshots of what this node has already: Raft would install those (v1.7.3), and its
// state and configuration would go back to them. One may come from the leader's last
// attempt to reach a node of the same id that was removed a moment ago.
func (n *Node) requests(from <-chan raft.RPC) <-chan raft.RPC {
	to := make(chan raft.RPC)
	go func() {
		for {
			select {
			case request := <-from:
				n.pass(request, to)
			case <-n.ctx.Done():
				return
			}
		}
	}()
	return to
}

// pass hands on a request and waits for the answer: what has been done when the next
// one is looked at is then all that Raft will have done when it gets that.
func (n *Node) pass(request raft.RPC, to chan<- raft.RPC) {
	if install, ok := request.Command.(*raft.InstallSnapshotRequest); ok && n.hasAllOf(install) {
		_, err := io.Copy(io.Discard, request.Reader) // the connection goes on behind it
		request.Respond(&raft.InstallSnapshotResponse{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.serverID()), Addr: []byte(n.serverID())},
			Term:      install.Term, Success: true,
		}, err)
		n.log.Debug("a snapshot of what this node has already was not loaded", "snapshot_index", install.LastLogIndex)
		return
	}
	answers := make(chan raft.RPCResponse, 1)
	select {
	case to <- raft.RPC{Command: request.Command, Reader: request.Reader, RespChan: answers}:
	case <-n.ctx.Done():
		return
	}
	select {
	case answer := <-answers:
		if response, ok := answer.Response.(*raft.InstallSnapshotResponse); ok && response.Success {
			answer.Error = n.settle(request.Command.(*raft.InstallSnapshotRequest))
		}
		request.RespChan <- answer
	case <-n.ctx.Done():
	}
}

// settle makes the log say at a snapshot's index what the snapshot does. Raft keeps the
// entries of an old leader that reach beyond a snapshot (v1.7.3), and takes nothing that
// follows it where they contradict it: the leader would send it again and again. With
// the right entry at its index Raft takes what follows, in place of theirs.
func (n *Node) settle(snapshot *raft.InstallSnapshotRequest) error {
	last, err := n.store.LastIndex()
	if err != nil || last <= snapshot.LastLogIndex {
		return err
	}
	var entry raft.Log
	if err := n.store.GetLog(snapshot.LastLogIndex, &entry); err == nil && entry.Term == snapshot.LastLogTerm {
		return nil
	}
	// It is applied, so nobody reads more of it than its term.
	return n.store.StoreLog(&raft.Log{Index: snapshot.LastLogIndex, Term: snapshot.LastLogTerm, Type: raft.LogNoop})
}

// hasAllOf reports whether the node has all that a snapshot holds: it has applied that
// much, or its log has the snapshot's last entry, and so all before it.
func (n *Node) hasAllOf(snapshot *raft.InstallSnapshotRequest) bool {
	select {
	case <-n.started:
	case <-n.ctx.Done():
		return false
	}
	if snapshot.Term < n.raft.CurrentTerm() {
		return false // Raft says so
	}
	var entry raft.Log
	return snapshot.LastLogIndex <= n.raft.AppliedIndex() ||
		n.store.GetLog(snapshot.LastLogIndex, &entry) == nil && entry.Term == snapshot.LastLogTerm
}
