package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

func newMembersCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the nodes of the cluster",
		Long: `Lists the nodes of the cluster, voters first: what each does, where clients reach
it, the newest revision it has and how many it lags behind the newest of all, how
old its state may be, and what it has to complain of. Only operators may.`,
		Example: `  remit members
  remit members -o json`,
		Args: exactly(),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, _ []string) error {
			answer, err := client.ListMembers(cmd.Context(), &clusterv1.ListMembersRequest{})
			if err != nil {
				return err
			}
			if c.output == asJSON {
				return writeMembers(cmd.OutOrStdout(), answer.GetMembers())
			}
			rows := make([][]string, 0, len(answer.GetMembers()))
			for _, m := range answer.GetMembers() {
				rows = append(rows, memberRow(m))
			}
			return writeTable(cmd.OutOrStdout(), []string{"NAME", "ID", "ROLE", "HTTP", "GRPC", "VERSION", "REVISION", "LAG", "AGE", "HEALTH"}, rows)
		}),
	}
	c.addNodeFlags(cmd)
	return cmd
}

// member is a node of the cluster in JSON. What only the node itself knows is null
// where it was not reached.
type member struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	Leader          bool     `json:"leader"`
	Suffrage        string   `json:"suffrage"`
	RaftAddress     string   `json:"raft_address"`
	GossipAddress   string   `json:"gossip_address"`
	HTTPAddress     *string  `json:"http_address"`
	GRPCAddress     *string  `json:"grpc_address"`
	Version         *string  `json:"version"`
	SupportedLevel  *uint32  `json:"supported_level"`
	Level           *uint32  `json:"level"`
	AppliedRevision *uint64  `json:"applied_revision"`
	Lag             *uint64  `json:"lag"`
	FreshnessMs     *int64   `json:"freshness_ms"` // null also before it has heard from a leader
	Healthy         bool     `json:"healthy"`
	Problems        []string `json:"problems"`
	Term            *uint64  `json:"term"`
	LastIndex       *uint64  `json:"last_index"`
	SnapshotIndex   *uint64  `json:"snapshot_index"`
	LogBytes        *uint64  `json:"log_bytes"`
	FreeDiskBytes   *uint64  `json:"free_disk_bytes"`
	ReadIndexRounds *uint64  `json:"read_index_rounds"`
}

func memberJSON(m *clusterv1.Member) member {
	shown := member{
		ID: m.GetId(), Name: m.GetName(), Leader: m.GetLeader(), Suffrage: m.GetSuffrage(),
		RaftAddress: m.GetRaftAddress(), GossipAddress: m.GetGossipAddress(),
		Healthy: m.GetHealthy(), Problems: append([]string{}, m.GetProblems()...),
	}
	if !reached(m) {
		return shown
	}
	shown.HTTPAddress, shown.GRPCAddress, shown.Version = &m.HttpAddress, &m.GrpcAddress, &m.Version
	shown.SupportedLevel, shown.Level, shown.AppliedRevision, shown.Lag = &m.SupportedLevel, &m.Level, &m.AppliedRevision, &m.Lag
	shown.Term, shown.LastIndex, shown.SnapshotIndex = &m.Term, &m.LastIndex, &m.SnapshotIndex
	shown.LogBytes, shown.FreeDiskBytes, shown.ReadIndexRounds = &m.LogBytes, &m.FreeDiskBytes, &m.ReadIndexRounds
	if m.GetAgeMs() >= 0 {
		shown.FreshnessMs = &m.AgeMs
	}
	return shown
}

// reached reports whether the member described itself.
func reached(m *clusterv1.Member) bool { return m.GetVersion() != "" }

// writeMembers prints the members as a plain list.
func writeMembers(w io.Writer, members []*clusterv1.Member) error {
	list := make([]member, 0, len(members))
	for _, m := range members {
		list = append(list, memberJSON(m))
	}
	return writeIndented(w, list)
}

// writeIndented prints what is no answer of the API as JSON.
func writeIndented(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// memberRow is a member in the table. Of one that was not reached there is little
// to say.
func memberRow(m *clusterv1.Member) []string {
	row := []string{m.GetName(), m.GetId(), role(m), m.GetHttpAddress(), m.GetGrpcAddress(), m.GetVersion(), "", "", "", health(m)}
	if reached(m) {
		row[6], row[7], row[8] = strconv.FormatUint(m.GetAppliedRevision(), 10), strconv.FormatUint(m.GetLag(), 10), age(m)
	}
	return row
}

// role is what a member does.
func role(m *clusterv1.Member) string {
	switch {
	case m.GetLeader():
		return "leader"
	case m.GetSuffrage() == "voter":
		return "voter"
	}
	return "replica"
}

func health(m *clusterv1.Member) string {
	if m.GetHealthy() {
		return "healthy"
	}
	return strings.Join(m.GetProblems(), "; ")
}

// revision is how far a member is. What the newest is, one that is ill need not know.
func revision(m *clusterv1.Member) string {
	if !m.GetHealthy() {
		return strconv.FormatUint(m.GetAppliedRevision(), 10)
	}
	return fmt.Sprintf("%d, %d behind the newest", m.GetAppliedRevision(), m.GetLag())
}

// age is how old a member's state may be; nothing before it has heard from a leader.
func age(m *clusterv1.Member) string {
	if m.GetAgeMs() < 0 {
		return ""
	}
	return (time.Duration(m.GetAgeMs()) * time.Millisecond).String()
}

func newStatusCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the node that is asked, and its cluster",
		Long: `Shows what the node at --addr knows of itself and of its cluster: who leads, how
far the node is, and what it has to complain of. Only operators may.`,
		Example: `  remit status
  remit status --addr 127.0.0.1:7611 -o json`,
		Args: exactly(),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, _ []string) error {
			answer, err := client.GetStatus(cmd.Context(), &clusterv1.GetStatusRequest{})
			if err != nil {
				return err
			}
			m := answer.GetNode()
			if c.output == asJSON {
				return writeIndented(cmd.OutOrStdout(), struct {
					Node      member `json:"node"`
					ClusterID string `json:"cluster_id"`
					Epoch     string `json:"epoch"`
					LeaderID  string `json:"leader_id"`
					Voters    int32  `json:"voters"`
					Nonvoters int32  `json:"nonvoters"`
				}{memberJSON(m), answer.GetClusterId(), answer.GetEpoch(), answer.GetLeaderId(), answer.GetVoters(), answer.GetNonvoters()})
			}
			leader := answer.GetLeaderId()
			switch leader {
			case "":
				leader = "none that this node knows"
			case m.GetId():
				leader = "this node"
			}
			return writeFields(cmd.OutOrStdout(),
				field{"Node", []string{fmt.Sprintf("%s (%s)", m.GetName(), m.GetId())}},
				field{"Health", append([]string{}, strings.Split(health(m), "; ")...)},
				field{"Role", []string{role(m)}},
				field{"Version", []string{m.GetVersion()}},
				field{"Level", []string{fmt.Sprintf("%d of %d that it supports", m.GetLevel(), m.GetSupportedLevel())}},
				field{"Revision", []string{revision(m)}},
				field{"Age", []string{age(m)}},
				field{"HTTP", []string{m.GetHttpAddress()}},
				field{"gRPC", []string{m.GetGrpcAddress()}},
				field{"Raft", []string{m.GetRaftAddress()}},
				field{"Gossip", []string{m.GetGossipAddress()}},
				field{"Log", []string{fmt.Sprintf("%s to index %d, snapshot at %d", byteSize(m.GetLogBytes()), m.GetLastIndex(), m.GetSnapshotIndex())}},
				field{"Disk free", []string{byteSize(m.GetFreeDiskBytes())}},
				field{"Leader", []string{leader}},
				field{"Members", []string{fmt.Sprintf("%d with a vote, %d without", answer.GetVoters(), answer.GetNonvoters())}},
				field{"Cluster", []string{answer.GetClusterId()}},
				field{"Epoch", []string{answer.GetEpoch()}})
		}),
	}
	c.addNodeFlags(cmd)
	return cmd
}
