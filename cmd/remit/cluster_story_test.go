package main_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// TestClusterStory takes a cluster through what operators do to it and what happens
// to it, while clerks work: nothing that was acknowledged may be missing, and
// nothing may be there twice.
func TestClusterStory(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info", "--snapshot-threshold", "200", "--snapshot-interval", "200ms", "--trailing-logs", "100")
	f.form(rand.Perm(3))

	// The clerks work at a node to which nothing happens; two of them are sent elsewhere
	// for a while.
	leader := f.leader(f.nodes[0])
	witness := f.other(leader)
	var places [4]atomic.Pointer[fleetNode]
	send := func(to *fleetNode, clerks ...int) {
		for _, clerk := range clerks {
			places[clerk].Store(to)
		}
	}
	send(witness, 0, 1, 2, 3)
	o := openOffice(t, len(places), func(clerk int) *fleetNode { return places[clerk].Load() })

	for range 2 {
		replica := f.start(f.add("--replica"))
		replica.serves()
		replica.must("join", leader.gossip)
		replica.ready()
		replica.must("join", leader.gossip) // as after one that was cut short
	}
	expectMembers(t, leader, 3, 2)
	expectReads(t, witness, f.nodes[3])

	leader.kill()
	newLeader := f.leader(witness)
	o.moreFrom(t, 50)
	f.start(leader).ready()

	// A follower leaves for good, with clerks at it until it has ended, and comes back as a
	// new node on an empty folder.
	leaving := f.other(newLeader, witness, f.nodes[3], f.nodes[4])
	send(leaving, 2, 3)
	o.moreFrom(t, 10)
	leaving.must("leave")
	if code := leaving.exits(); code != 0 {
		t.Errorf("a node that left ended with %d", code)
	}
	for _, c := range o.clerks[2:] {
		eventually(t, "the clerks find that the node has ended", func() bool { return c.refused.Load() > 0 })
	}
	send(witness, 2, 3)
	o.moreFrom(t, 2)
	expectMembers(t, newLeader, 2, 2)
	refused := f.start(leaving)
	if message := refused.refuses(); !strings.Contains(message, "left") {
		t.Errorf("a node that has left starts again: %s", message)
	}
	if err := os.RemoveAll(leaving.data); err != nil {
		t.Fatal(err)
	}
	leaving.flags = nil
	f.start(leaving).serves()
	leaving.must("join", newLeader.gossip)
	leaving.ready()
	expectMembers(t, newLeader, 3, 2)

	newLeader.must("transfer-leadership", leaving.name)
	if now := f.leader(witness); now != leaving {
		t.Errorf("%s leads after a transfer to %s", now.name, leaving.name)
	}
	o.moreFrom(t, 50)

	backups := t.TempDir()
	underLoad, final := filepath.Join(backups, "under-load"), filepath.Join(backups, "final")
	least := o.acknowledged()
	witness.must("snapshot", "save", underLoad)
	most := o.begun()
	t.Logf("a backup was taken between %v and %v changes of the clerks", least, most)
	o.moreFrom(t, 10)
	o.close()
	for _, c := range o.clerks {
		if c.disconnected > 0 {
			t.Errorf("clerk %d saw %d errors of the connection that do not say what became of its change", c.number, c.disconnected)
		}
	}
	for _, n := range f.nodes {
		o.audit(n.client())
	}
	if report := f.nodes[4].must("verify"); !strings.Contains(report, "agree") {
		t.Errorf("verify says %s", report)
	}

	// Backups become the data of a new cluster, all nodes of which agree: first the one
	// that was taken while the clerks worked, then one of all that they did.
	witness.must("snapshot", "save", final)
	other := newFleet(t, 3)
	other.form(inOrder(3))
	old, err := other.nodes[0].client().CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "only.before"})
	if err != nil {
		t.Fatal(err)
	}
	other.nodes[1].must("snapshot", "restore", underLoad, "--yes")
	for _, n := range other.nodes {
		o.auditCut(n.client(), least, most)
	}
	other.nodes[1].must("snapshot", "restore", final, "--yes")
	for _, n := range other.nodes {
		o.audit(n.client())
		_, err := n.client().GetPermission(t.Context(), &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "only.before", Consistency: permissionsv1.Consistency_FULLY_CONSISTENT})
		if status.Code(err) != codes.NotFound {
			t.Errorf("what was there before the restore: %v", err)
		}
		_, err = n.client().Check(t.Context(), &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: "clerk:0", ResourceUris: []string{"/"}, Permissions: []string{clerkPermission}, Token: old.Token,
		})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("a token from before the restore: %v", err)
		}
	}
	if report := other.nodes[2].must("verify"); !strings.Contains(report, "agree") {
		t.Errorf("verify after the restore says %s", report)
	}
	f.end()
	other.end()
}

// expectReads makes changes at one node and asks another about each at once, in every
// mode: with the change's token, or with full consistency, the answer has the
// change. By default it may be older, for a while.
func expectReads(t *testing.T, writer, reader *fleetNode) {
	t.Helper()
	for _, mode := range []permissionsv1.Consistency{
		permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED, permissionsv1.Consistency_AT_LEAST_AS_FRESH, permissionsv1.Consistency_FULLY_CONSISTENT,
	} {
		expect := func(want bool, token string) {
			t.Helper()
			request := &permissionsv1.CheckPermissionRequest{
				ProjectName: project, PrincipalId: "reader", ResourceUris: []string{"/reads"}, Permissions: []string{clerkPermission}, Consistency: mode,
			}
			if mode == permissionsv1.Consistency_AT_LEAST_AS_FRESH {
				request.Token = token
			}
			passes := func() bool {
				answer, err := reader.client().Check(t.Context(), request)
				if err != nil {
					t.Fatalf("%s at %s: %v", mode, reader.name, err)
				}
				return answer.Passed
			}
			if mode == permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED {
				eventually(t, "a read by default sees a change", func() bool { return passes() == want })
			} else if passes() != want {
				t.Errorf("%s at %s: passed %t, want %t", mode, reader.name, !want, want)
			}
		}
		for range 10 {
			granted, err := writer.client().GrantUserPermissionsAndRolesOnResource(t.Context(), &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: "reader", ResourceUri: "/reads", Permissions: []string{clerkPermission},
			})
			if err != nil {
				t.Fatal(err)
			}
			expect(true, granted.Token)
			revoked, err := writer.client().RevokeUserPermissionsAndRolesOnResource(t.Context(), &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
				ProjectName: project, UserId: "reader", ResourceUri: "/reads", Permissions: []string{clerkPermission},
			})
			if err != nil {
				t.Fatal(err)
			}
			expect(false, revoked.Token)
		}
	}
}

// expectMembers waits until a node lists so many healthy members of each kind.
func expectMembers(t *testing.T, n *fleetNode, voters, nonvoters int) {
	t.Helper()
	var last []listedMember
	eventually(t, "the members are there", func() bool {
		counts := map[string]int{}
		last, _ = n.members()
		for _, m := range last {
			if m.Healthy {
				counts[m.Suffrage]++
			}
		}
		return counts["voter"] == voters && counts["nonvoter"] == nonvoters && len(last) == voters+nonvoters
	})
}
