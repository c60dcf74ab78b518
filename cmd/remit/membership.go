package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// optional takes one argument of this name, or none.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return exactly(name)(cmd, args)
	}
}

// argument is the first argument, or nothing.
func argument(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// follow calls the function with every answer of a stream, and returns the last.
func follow[M any](stream grpc.ServerStreamingClient[M], err error, each func(*M)) (last *M, _ error) {
	for err == nil {
		var answer *M
		if answer, err = stream.Recv(); err == nil {
			last = answer
			each(answer)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return last, err
}

func newJoinCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join ADDR",
		Short: "Make a node join a cluster",
		Long: `Tells the node at --addr, which must belong to no cluster yet, to join the one
that gossips at ADDR (HOST:PORT, the --gossip-addr of any of its nodes). The key
must be an operator's of that cluster.

The node comes in without a vote, catches up, and then votes; one that was started
with --replica never does. What happens is told on stderr, line by line.`,
		Example: `  remit join 10.0.0.1:7603 --addr 127.0.0.1:7601
  remit join node1.example.com:7603`,
		Args: exactly("ADDR"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			tell := newProgress(cmd)
			stream, err := client.Join(cmd.Context(), &clusterv1.JoinRequest{Address: args[0]})
			last, err := follow(stream, err, func(step *clusterv1.JoinResponse) {
				if step.GetTargetRevision() > 0 {
					tell.step("%s (revision %d of %d)", step.GetStep(), step.GetAppliedRevision(), step.GetTargetRevision())
					return
				}
				tell.step("%s", step.GetStep())
			})
			if err != nil {
				return adviseJoin(err, args[0])
			}
			return c.print(cmd, last, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "the node at %s has joined the cluster at %s\n", c.addr, printable(args[0]))
				return err
			})
		}),
	}
	c.addNodeFlags(cmd)
	return cmd
}

// adviseJoin says whose the key has to be.
func adviseJoin(err error, addr string) error {
	var failed *failure
	if code := status.Code(err); errors.As(err, &failed) && (code == codes.Unauthenticated || code == codes.PermissionDenied) {
		failed.hint = fmt.Sprintf("REMIT_KEY (or --key) has to be an operator's key of the cluster at %s", printable(addr))
	}
	return err
}

func newLeaveCommand(c *connection) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "leave [NODE]",
		Short: "Make a node leave the cluster, for good",
		Long: `Makes a node leave the cluster: the one of this name or id, or else the one at
--addr. It stops taking new calls, lets those under way end, hands leadership over
if it leads, is removed, and its process ends. One that cannot be reached is
removed without it. Its data folder has to be wiped before it can join again.

A leave after which the cluster would have no quorum is refused, unless forced.
Only operators may. What happens is told on stderr, line by line.`,
		Example: `  remit leave
  remit leave node3 --addr 127.0.0.1:7601
  remit leave 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11 --force`,
		Args: optional("NODE"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			tell := newProgress(cmd)
			node := argument(args)
			stream, err := client.Leave(cmd.Context(), &clusterv1.LeaveRequest{Node: node, Force: force})
			last, err := follow(stream, err, func(step *clusterv1.LeaveResponse) { tell.step("%s", step.GetStep()) })
			if err != nil {
				return adviseForce(err, force)
			}
			return c.print(cmd, last, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s has left the cluster\n", printable(cmp.Or(node, "the node at "+c.addr)))
				return err
			})
		}),
	}
	c.addNodeFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "even if the cluster then has no quorum, so that it takes no writes any more")
	return cmd
}

// adviseForce says how to do what was refused for the quorum's sake, and what there
// is to do where it is lost.
func adviseForce(err error, forced bool) error {
	var failed *failure
	switch {
	case !errors.As(err, &failed):
	case strings.Contains(failed.message, "force it") && !forced:
		failed.hint = "remit members shows who is there; --force does it all the same"
	case status.Code(err) == codes.Unavailable && strings.Contains(failed.message, "no leader"):
		failed.hint = "remit members shows who is there: bring back a majority of the voters; if they are lost for good, see remit recover --help"
	}
	return err
}

func newTransferCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transfer-leadership [NODE]",
		Short: "Make another node the leader",
		Long: `Makes another voter the leader: the one of this name or id, or else the one that
has caught up most. Callers notice nothing but a short wait. Only operators may.`,
		Example: `  remit transfer-leadership
  remit transfer-leadership node2`,
		Args: optional("NODE"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			moved, err := client.TransferLeadership(cmd.Context(), &clusterv1.TransferLeadershipRequest{Node: argument(args)})
			if err != nil {
				return err
			}
			return c.print(cmd, moved, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s leads (%s)\n", printable(cmp.Or(moved.GetLeaderName(), moved.GetLeaderId())), moved.GetLeaderId())
				return err
			})
		}),
	}
	c.addNodeFlags(cmd)
	return cmd
}

func newPromoteCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote NODE",
		Short: "Give a replica a vote",
		Long: `Makes a member without a vote, named by its name or id, a voter. Votes make a
cluster survive more failures and its writes wait for more nodes. Only operators may.`,
		Example: `  remit promote node4
  remit promote 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11`,
		Args: exactly("NODE"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			promoted, err := client.Promote(cmd.Context(), &clusterv1.PromoteRequest{Node: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd, promoted, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is a voter\n", printable(args[0]))
				return err
			})
		}),
	}
	c.addNodeFlags(cmd)
	return cmd
}

func newDemoteCommand(c *connection) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "demote NODE",
		Short: "Take a node's vote",
		Long: `Takes the vote of a member, named by its name or id. It goes on as a replica. What
would leave the cluster without a quorum is refused, unless forced. Only operators
may.`,
		Example: `  remit demote node4
  remit demote 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11 --force`,
		Args: exactly("NODE"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			demoted, err := client.Demote(cmd.Context(), &clusterv1.DemoteRequest{Node: args[0], Force: force})
			if err != nil {
				return adviseForce(err, force)
			}
			return c.print(cmd, demoted, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is a replica\n", printable(args[0]))
				return err
			})
		}),
	}
	c.addNodeFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "even if the cluster then has no quorum, so that it takes no writes any more")
	return cmd
}
