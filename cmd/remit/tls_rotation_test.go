package main_test

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"
)

// TestCertificatesAreReplaced replaces the certificates of a cluster that is written
// to, node after node: by others of the same authority, then by those of another
// authority, which all nodes trust beside the first one for as long as that takes. No
// leader is lost over it, and in the end the first authority is worth nothing.
func TestCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	old, next := newAuthority(t), newAuthority(t)
	f, _ := newSecureFleet(t, old, 3, "--log-level", "info")
	f.tls = trust(t, old, next)
	f.form(inOrder(3))
	leader := f.leader(f.nodes[0])
	follower := f.other(leader)
	third := f.other(leader, follower)
	before := term(t, leader)
	o := openOffice(t, 2, func(int) *fleetNode { return follower })

	for _, n := range f.nodes {
		old.node(n.name+"-renewed", "--id", n.kept("node-id"))
		n.certify(old, n.name+"-renewed")
		n.shows(old, n.name+"-renewed")
		o.moreFrom(t, 3)
	}
	both := append(old.read("ca.pem"), next.read("ca.pem")...)
	for _, n := range f.nodes {
		n.replace("ca", both)
	}
	for _, n := range f.nodes {
		next.node(n.name, "--id", n.kept("node-id"))
		n.replace("cert", next.read(n.name+".pem"))
		n.replace("key", next.read(n.name+"-key.pem"))
		n.shows(next, n.name)
		// Connections are opened anew between nodes of both authorities.
		third.kill()
		f.start(third).ready()
		o.moreFrom(t, 3)
	}
	for _, n := range f.nodes {
		n.replace("ca", next.read("ca.pem"))
	}
	f.authority = next.dir + "/ca.pem"
	members, err := leader.members()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		target := f.named(m.Name)
		caller := f.other(target)
		called := knock{
			addr: m.RaftAddress, cluster: target.kept("cluster-id"), epoch: target.kept("epoch"),
			caller: caller.kept("node-id"), target: m.ID,
		}
		eventually(t, "the first authority is worth nothing at "+m.Name, func() bool {
			return called.with(t, &tls.Config{Certificates: []tls.Certificate{old.pair(caller.name)}}) != nil
		})
		if err := called.with(t, &tls.Config{Certificates: []tls.Certificate{next.pair(caller.name)}}); err != nil {
			t.Errorf("a certificate of the next authority at %s: %v", m.Name, err)
		}
	}
	o.moreFrom(t, 3)
	o.close()
	o.sawNoError()
	if now := term(t, leader); now != before {
		t.Errorf("term %d, %d before: a leader was lost", now, before)
	}

	// Connections that are opened now have the new certificates.
	f.tls, f.authority = trust(t, next), next.dir+"/ca.pem"
	follower.kill()
	f.start(follower).ready()
	o.audit(follower.client())
}

// term is the Raft term that a node is in.
func term(t *testing.T, n *fleetNode) uint64 {
	t.Helper()
	members, err := n.members()
	if err != nil {
		t.Fatal(err)
	}
	return members[slices.IndexFunc(members, func(m listedMember) bool { return m.Name == n.name })].Term
}

// shows waits until a node shows its clients this certificate.
func (n *fleetNode) shows(a *authority, name string) {
	n.t.Helper()
	want := a.pair(name).Certificate[0]
	eventually(n.t, n.name+" shows its new certificate", func() bool {
		conn, err := tls.Dial("tcp", n.grpc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			n.t.Fatal(err)
		}
		defer conn.Close()
		return bytes.Equal(conn.ConnectionState().PeerCertificates[0].Raw, want)
	})
}
