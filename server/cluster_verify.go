package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// verifyTimeout bounds how long the members may take to reach a checkpoint and to
// digest their state.
const verifyTimeout = 30 * time.Second

// Verify compares the state of all members at one checkpoint, on the leader.
func (s *Server) Verify(ctx context.Context, _ *clusterv1.VerifyRequest) (*clusterv1.VerifyResponse, error) {
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(members, before)
	revision, err := s.writeAt(ctx, &fsm.Checkpoint{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	digests, errs := make([][]byte, len(members)), make([]error, len(members))
	var asked sync.WaitGroup
	for i, m := range members {
		asked.Go(func() {
			if m.ID == s.cluster.ID() {
				digests[i], errs[i] = s.Digest(ctx, revision)
			} else {
				digests[i], errs[i] = s.cluster.Digest(ctx, m.ID, revision)
			}
		})
	}
	asked.Wait()
	resp := &clusterv1.VerifyResponse{Revision: revision, Agree: true}
	for i, m := range members {
		line := &clusterv1.MemberDigest{Id: m.ID, Name: m.Name, Digest: hex.EncodeToString(digests[i])}
		if errs[i] != nil {
			line.Digest, line.Problem = "", status.Convert(statusOf(errs[i])).Message()
		}
		resp.Agree = resp.Agree && errs[i] == nil && len(digests[i]) > 0 && bytes.Equal(digests[i], digests[0])
		resp.Members = append(resp.Members, line)
	}
	return resp, nil
}

// Digest returns the digest of this node's state at a checkpoint, as soon as the
// node has reached that.
func (s *Server) Digest(ctx context.Context, revision uint64) ([]byte, error) {
	state, err := s.store.Checkpoint(ctx, revision)
	if err != nil {
		return nil, statusOf(err)
	}
	digest := state.Digest()
	return digest[:], nil
}
