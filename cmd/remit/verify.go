package main

import (
	"fmt"

	"github.com/spf13/cobra"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

func newVerifyCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the state of all nodes",
		Long: `Makes a checkpoint in the log and compares what all nodes have at exactly that
point. The exit code is 0 if all are the same, 1 if one is another or was not
reached, and 2 if there was no answer. Only operators may.`,
		Example: `  remit verify
  remit verify -o json`,
		Args: exactly(),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, _ []string) error {
			compared, err := client.Verify(cmd.Context(), &clusterv1.VerifyRequest{})
			if err != nil {
				return err
			}
			err = c.print(cmd, compared, func() error {
				rows := make([][]string, 0, len(compared.GetMembers()))
				for _, m := range compared.GetMembers() {
					rows = append(rows, []string{m.GetName(), m.GetId(), m.GetDigest(), m.GetProblem()})
				}
				if err := writeTable(cmd.OutOrStdout(), []string{"NAME", "ID", "DIGEST", "PROBLEM"}, rows); err != nil {
					return err
				}
				verdict := "all nodes agree"
				if !compared.GetAgree() {
					verdict = "the nodes do not agree, or not all were reached,"
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s at revision %d\n", verdict, compared.GetRevision())
				return err
			})
			if err == nil && !compared.GetAgree() {
				return errDisagree
			}
			return err
		}),
	}
	c.addNodeFlags(cmd)
	return cmd
}
