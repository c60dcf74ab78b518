package main

import (
	"encoding/base64"
	"net"
	"time"

	"github.com/remit-io/remit/fsm"
)

// maxExpect bounds a mistyped --bootstrap-expect: every voter more makes writes
// wait for more nodes.
const maxExpect = 9

const (
	// minSnapshotInterval is the shortest that Raft takes.
	minSnapshotInterval = 5 * time.Millisecond
	// minStalenessBound is above what a node that is well can be behind: it asks the
	// leader once a second.
	minStalenessBound = 2 * time.Second
	// minHungStoreTimeout is above what a disk takes that is only slow.
	minHungStoreTimeout = time.Second
)

// validate refuses what cannot be meant and completes the node's settings.
func (o *serveOptions) validate() error {
	if o.node.DataDir == "" && !o.dev {
		return usagef("--data-dir is missing: give a folder that lasts, or --dev to try remit in a temporary one")
	}
	if err := o.validateForming(); err != nil {
		return err
	}
	if err := fsm.ValidateProjectName(o.node.BootstrapProject); err != nil {
		return usagef("--bootstrap-project: %s", err.Message)
	}
	if o.node.RootKey != "" {
		if err := validateRootKey(o.node.RootKey); err != nil {
			return err
		}
	}
	for _, count := range []struct {
		flag  string
		value uint64
	}{
		{"snapshot-threshold", o.node.SnapshotThreshold}, {"snapshot-size", o.snapshotSize},
		{"trailing-logs", o.node.TrailingLogs}, {"min-free-disk", o.minFreeDisk},
	} {
		if count.value == 0 {
			return usagef("--%s 0: must be at least 1", count.flag)
		}
	}
	o.node.SnapshotBytes, o.node.MinFreeDisk = o.snapshotSize<<20, o.minFreeDisk<<20
	for _, atLeast := range []struct {
		flag         string
		value, least time.Duration
	}{
		{"snapshot-interval", o.node.SnapshotInterval, minSnapshotInterval},
		{"staleness-bound", o.node.StalenessBound, minStalenessBound},
		{"hung-store-timeout", o.node.HungStoreTimeout, minHungStoreTimeout},
	} {
		if atLeast.value < atLeast.least {
			return usagef("--%s %s: must be at least %s", atLeast.flag, atLeast.value, atLeast.least)
		}
	}
	if err := o.validateSecurity(); err != nil {
		return err
	}
	return o.validateAddresses()
}

// validateForming is about what makes nodes a cluster.
func (o *serveOptions) validateForming() error {
	switch expect := o.node.Expect; {
	case expect < 0 || expect > maxExpect:
		return usagef("--bootstrap-expect %d: a new cluster has 1 to %d voters, best 3 or 5; more nodes join as replicas", expect, maxExpect)
	case o.dev && expect > 1:
		return usagef("--dev starts a cluster of one node, --bootstrap-expect %d one of more: leave one of them out", expect)
	case o.dev:
		o.node.Expect = 1
	case expect > 1 && len(o.node.Seeds) == 0:
		return usagef("--bootstrap-expect %d needs --join with the gossip address of one or more of the others", expect)
	case expect > 0 && o.node.Replica:
		return usagef("--replica never votes, and --bootstrap-expect starts a cluster of voters: start without it, then remit join")
	}
	for _, seed := range o.node.Seeds {
		if host, port, err := net.SplitHostPort(seed); err != nil || host == "" || port == "" || port == "0" {
			return usagef("--join %q is not HOST:PORT, the gossip address of another node", seed)
		}
	}
	return nil
}

// validateSecurity is about certificates and the key of gossip.
func (o *serveOptions) validateSecurity() error {
	switch given := o.tls.CertFile != ""; {
	case given != (o.tls.KeyFile != ""), given && o.tls.CAFile == "":
		return usagef("--tls-cert, --tls-key and --tls-ca belong together: give all three")
	case given: // an authority alone is that of the user commands, in the same environment
		o.node.TLS = &o.tls
	}
	if o.gossipKey != "" {
		key, err := base64.StdEncoding.DecodeString(o.gossipKey)
		if err != nil || len(key) != 32 {
			return usagef("--gossip-key is not 32 bytes in base64: openssl rand -base64 32 makes one")
		}
		o.node.GossipKey = key
	}
	return nil
}

// validateAddresses is about where the node listens.
func (o *serveOptions) validateAddresses() error {
	taken := map[string]string{} // the flag that has an address
	for _, listen := range []struct {
		flag, addr string
		encrypted  bool
		with       string
	}{
		{"http-addr", o.node.HTTPAddr, o.node.TLS != nil, "--tls-cert, --tls-key and --tls-ca encrypt it"},
		{"grpc-addr", o.node.GRPCAddr, o.node.TLS != nil, "--tls-cert, --tls-key and --tls-ca encrypt it"},
		{"raft-addr", o.node.RaftAddr, o.node.TLS != nil, "--tls-cert, --tls-key and --tls-ca encrypt it"},
		{"gossip-addr", o.node.GossipAddr, o.node.GossipKey != nil, "--gossip-key encrypts it"},
	} {
		host, port, err := net.SplitHostPort(listen.addr)
		if err != nil {
			return usagef("--%s %q is not HOST:PORT", listen.flag, listen.addr)
		}
		if !o.node.Insecure && !listen.encrypted && !isLoopback(host) {
			return usagef("--%s %q can be reached from other machines, and nothing is encrypted: %s, or listen on 127.0.0.1, or accept that with --insecure",
				listen.flag, listen.addr, listen.with)
		}
		if other, ok := taken[listen.addr]; ok && port != "0" {
			return usagef("--%s and --%s are both %s: give each a port of its own", other, listen.flag, listen.addr)
		}
		taken[listen.addr] = listen.flag
	}
	return nil
}
