package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/server"
)

// replicatedLog words the cluster's errors as the server knows them.
type replicatedLog struct{ *cluster.Node }

// Apply replicates a command.
func (l replicatedLog) Apply(ctx context.Context, command []byte) (any, uint64, error) {
	result, revision, err := l.Node.Apply(ctx, command)
	switch {
	case errors.Is(err, cluster.ErrLowDisk):
		err = fmt.Errorf("%w: %w", server.ErrExhausted, err)
	case errors.Is(err, cluster.ErrNotLeader), errors.Is(err, cluster.ErrNotApplied):
		err = fmt.Errorf("%w: %w", server.ErrNotApplied, err)
	}
	return result, revision, err
}

// Leader finds the leader.
func (l replicatedLog) Leader(ctx context.Context) (grpc.ClientConnInterface, bool, error) {
	conn, self, err := l.Node.Leader(ctx)
	if err != nil {
		err = fmt.Errorf("%w: %w", server.ErrNotApplied, err)
	}
	return conn, self, err
}

// nodes is the cluster as the server knows it.
type nodes struct{ *cluster.Node }

var _ server.Cluster = nodes{}

// Members returns all nodes, each as it describes itself now.
func (n nodes) Members(ctx context.Context) ([]server.Member, error) {
	found, err := n.Node.Members(ctx)
	if err != nil {
		return nil, wordCluster(err)
	}
	members := make([]server.Member, len(found))
	for i, m := range found {
		members[i] = server.Member(m)
	}
	return members, nil
}

// Add takes a node in.
func (n nodes) Add(ctx context.Context, node server.NewMember) (server.Member, error) {
	member, err := n.Node.Add(ctx, cluster.NewMember(node))
	return server.Member(member), wordCluster(err)
}

// Remove takes a node out.
func (n nodes) Remove(ctx context.Context, id string, force bool) error {
	return wordCluster(n.Node.Remove(ctx, id, force))
}

// Promote gives a member a vote.
func (n nodes) Promote(ctx context.Context, id string) error {
	return wordCluster(n.Node.Promote(ctx, id))
}

// Demote takes a member's vote.
func (n nodes) Demote(ctx context.Context, id string, force bool) error {
	return wordCluster(n.Node.Demote(ctx, id, force))
}

// Transfer makes another voter the leader.
func (n nodes) Transfer(ctx context.Context, id string) (string, error) {
	leader, err := n.Node.Transfer(ctx, id)
	return leader, wordCluster(err)
}

// Join makes this node part of a cluster.
func (n nodes) Join(ctx context.Context, address string, add func(context.Context, grpc.ClientConnInterface, server.NewMember) (bool, error), step func(string)) error {
	return wordCluster(n.Node.Join(ctx, address, func(ctx context.Context, conn grpc.ClientConnInterface, node cluster.NewMember) (bool, error) {
		return add(ctx, conn, server.NewMember(node))
	}, step))
}

// Leave makes a node leave.
func (n nodes) Leave(ctx context.Context, id string, force bool, step func(string)) error {
	return wordCluster(n.Node.Leave(ctx, id, force, step))
}

// Digest returns a member's digest at a checkpoint.
func (n nodes) Digest(ctx context.Context, id string, revision uint64) ([]byte, error) {
	digest, err := n.Node.Digest(ctx, id, revision)
	return digest, wordCluster(err)
}

// wordCluster gives the cluster's errors the codes of the API.
func wordCluster(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, cluster.ErrUnreachable):
		return fmt.Errorf("%w: %w", server.ErrUnreachable, err)
	case errors.Is(err, cluster.ErrRefused):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, cluster.ErrMayBeMade):
		return fmt.Errorf("%w: %w", server.ErrMayBeMade, err)
	case errors.Is(err, cluster.ErrNotLeader):
		return fmt.Errorf("%w: %w", server.ErrNotApplied, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

// Waiting says why this node takes no part in a cluster.
func (n nodes) Waiting() string { return cmp.Or(n.Node.Waiting(), n.Estranged()) }

// HasCluster reports whether this node belongs to a cluster.
func (n nodes) HasCluster() bool { return n.HasState() }
