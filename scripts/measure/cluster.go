package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	rnd "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// A fleet says how many nodes of each kind a cluster has.
type fleet struct {
	voters, replicas int
	// aside gives replicas the processors only when nobody else wants them, and a disk
	// in memory: nearly as if each had a machine of its own.
	aside bool
}

func (f fleet) String() string {
	if f.voters == 1 && f.replicas == 0 {
		return "a single node"
	}
	text := fmt.Sprintf("%d voters, %d replicas", f.voters, f.replicas)
	if f.aside {
		text += " out of the way"
	}
	return text
}

// A cluster is nodes that know of each other.
type cluster struct {
	fleet
	dir   string
	away  string // folder of replicas that are aside
	key   string
	nodes []*node // the voters first
}

// memoryDisk is a file system in memory, on Linux.
const memoryDisk = "/dev/shm"

// formCluster starts the voters together and then adds the replicas. It returns
// how long it took until all voters were ready. The caller ends the cluster, which
// is nil where there is an error.
func formCluster(ctx context.Context, s settings, f fleet, flags ...string) (_ *cluster, took time.Duration, err error) {
	dir, err := os.MkdirTemp(s.dir, "cluster-")
	if err != nil {
		return nil, 0, err
	}
	c := &cluster{fleet: f, dir: dir, key: "remit_" + rand.Text() + rand.Text()}
	defer func() {
		if err != nil {
			c.end()
		}
	}()
	gossip, err := freeAddrs(f.voters + f.replicas)
	if err != nil {
		return nil, 0, err
	}
	if f.aside {
		if c.away, err = os.MkdirTemp(memoryDisk, "remit-measure-"); err != nil {
			return nil, 0, err
		}
	}
	for i, addr := range gossip {
		name := fmt.Sprintf("node%d", i+1)
		n := &node{binary: s.remit, name: name, data: filepath.Join(dir, name), gossip: addr, key: c.key}
		n.flags = append([]string{"--join", strings.Join(gossip[:f.voters], ",")}, flags...)
		if i < f.voters {
			n.flags = append(n.flags, "--bootstrap-expect", fmt.Sprint(f.voters))
		} else {
			n.flags = append(n.flags, "--replica")
			n.nice = f.aside
			if c.away != "" {
				n.data = filepath.Join(c.away, name)
			}
		}
		c.nodes = append(c.nodes, n)
	}
	started := time.Now()
	err = parallel(ctx, f.voters, func(waiting context.Context, i int) error {
		// The process lives on when this function has ended.
		if err := c.nodes[i].start(ctx); err != nil {
			return err
		}
		return c.nodes[i].awaitReady(waiting)
	})
	if err != nil {
		return nil, 0, err
	}
	took = time.Since(started)
	for _, n := range c.nodes[f.voters:] {
		if err := c.join(ctx, n); err != nil {
			return nil, 0, err
		}
	}
	return c, took, nil
}

// join starts a node without state and makes it a member.
func (c *cluster) join(ctx context.Context, n *node) error {
	if err := n.start(ctx); err != nil {
		return err
	}
	err := func() error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		stream, err := n.cluster().Join(n.auth(ctx), &clusterv1.JoinRequest{Address: c.nodes[0].gossip})
		for err == nil {
			_, err = stream.Recv()
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	}()
	if err != nil {
		return fmt.Errorf("%s joins: %w", n.name, err)
	}
	return n.awaitReady(ctx)
}

// end ends all processes; their data is not needed any more.
func (c *cluster) end() {
	for _, n := range c.nodes {
		n.kill()
	}
	_ = os.RemoveAll(c.dir)
	if c.away != "" {
		_ = os.RemoveAll(c.away)
	}
}

// members asks a node for the members of its cluster.
func (c *cluster) members(ctx context.Context, n *node) ([]*clusterv1.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := n.cluster().ListMembers(n.auth(ctx), &clusterv1.ListMembersRequest{})
	return answer.GetMembers(), err
}

// leader returns the node that leads, as a node says that runs, once there is one
// and every member is healthy.
func (c *cluster) leader(ctx context.Context, asked *node) (*node, error) {
	var (
		leader *node
		last   string
	)
	err := until(ctx, patience, 20*time.Millisecond, "the cluster is not whole", func() (bool, error) {
		members, err := c.members(ctx, asked)
		if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
			last = err.Error()
			return false, nil
		}
		healthy := 0
		for _, m := range members {
			if m.GetHealthy() {
				healthy++
			} else {
				last = m.GetName() + ": " + strings.Join(m.GetProblems(), "; ")
			}
			for _, n := range c.nodes {
				if m.GetLeader() && n.name == m.GetName() {
					leader = n
				}
			}
		}
		return leader != nil && healthy == len(c.nodes), err
	})
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, last)
	}
	return leader, nil
}

// others returns the voters but one.
func (c *cluster) others(than *node) []*node {
	var others []*node
	for _, n := range c.nodes[:c.voters] {
		if n != than {
			others = append(others, n)
		}
	}
	return others
}

// freeAddrs returns addresses on which nobody listens, over TCP and UDP. Their ports
// are below those that the kernel gives to whoever asks for any, as the nodes do for
// all else, so that they stay free until their nodes start.
func freeAddrs(count int) (addrs []string, err error) {
	for tries := 0; len(addrs) < count; tries++ {
		if tries > 100+count {
			return nil, errors.New("no ports are free for both TCP and UDP")
		}
		tcp, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rnd.IntN(20_000)))
		if err != nil {
			continue
		}
		defer tcp.Close() // when all are found, so that they differ
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			continue
		}
		defer udp.Close()
		addrs = append(addrs, tcp.Addr().String())
	}
	return addrs, nil
}
