package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// callAsNode connects to the API that a node has for other nodes, as one of them
// would: behind the handshake.
func callAsNode(t *testing.T, n *Node) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.cluster.RaftAddr())
			if err != nil {
				return nil, err
			}
			const kindAPI = 3
			hello := append([]byte("RMIT\x02"), kindAPI)
			cluster, _ := n.cluster.ClusterID()
			for _, id := range []uuid.UUID{cluster, readUUID(t, n, "epoch"), uuid.New(), readUUID(t, n, "node-id")} {
				hello = append(hello, id[:]...)
			}
			if _, err := conn.Write(hello); err != nil {
				return nil, err
			}
			var reply [6]byte
			if _, err := io.ReadFull(conn, reply[:]); err != nil {
				return nil, err
			}
			if reply[5] != 0 {
				t.Errorf("the handshake is refused with %d", reply[5])
			}
			return conn, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// readUUID reads an id from the node's data folder.
func readUUID(t *testing.T, n *Node, file string) uuid.UUID {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.cfg.DataDir, file))
	if err != nil {
		t.Fatal(err)
	}
	return uuid.MustParse(strings.TrimSpace(string(text)))
}

// Whoever speaks the protocol of nodes still needs a key, for every method and
// stream.
func TestNodeAPINeedsKeys(t *testing.T) {
	n := openNode(t, nodeConfig(t, t.TempDir()))
	conn := callAsNode(t, n)
	_, err := permissionsv1.NewPermissionsServiceClient(conn).ListPermissions(t.Context(), &permissionsv1.ListPermissionsRequest{ProjectName: defaultProject})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("ListPermissions: %v", err)
	}
	operator := clusterv1.NewClusterServiceClient(conn)
	saved, err := operator.SaveSnapshot(t.Context(), &clusterv1.SaveSnapshotRequest{})
	if err == nil {
		_, err = saved.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("SaveSnapshot: %v", err)
	}
	left, err := operator.Leave(t.Context(), &clusterv1.LeaveRequest{})
	if err == nil {
		_, err = left.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("Leave: %v", err)
	}
}
