package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// freePorts returns the first of the ports that scripts/cluster uses for some nodes,
// all of them free now. They are below those that the system gives out by itself.
func freePorts(nodes int) (int, error) {
	for range 100 {
		first := 12000 + 10*rand.IntN(1900)
		if allFree(first, nodes) {
			return first, nil
		}
	}
	return 0, errors.New("no ports are free for a cluster")
}

func allFree(first, nodes int) bool {
	for node := range nodes {
		for offset := range 4 {
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+10*node+offset))
			l, err := net.Listen("tcp", address)
			if err != nil {
				return false
			}
			defer l.Close()
		}
	}
	return true
}

// clusterEnvironment makes scripts/cluster use a folder and ports of its own.
func clusterEnvironment(dir string, port int) []string {
	return []string{"REMIT_CLUSTER_DIR=" + dir, fmt.Sprintf("REMIT_CLUSTER_PORT=%d", port)}
}
