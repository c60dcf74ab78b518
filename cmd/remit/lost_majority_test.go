package main_test

import (
	"os"
	"strings"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// TestLostMajority loses two of three nodes for good. The third goes on as the whole
// cluster, with all that it had; new nodes join it, and one of the lost two that comes
// back as it was is refused.
func TestLostMajority(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info")
	f.form(inOrder(3))
	survivor, wiped, old := f.nodes[0], f.nodes[1], f.nodes[2]
	if err := create(t.Context(), survivor.process, rootKey, "before.loss"); err != nil {
		t.Fatal(err)
	}
	token := checkAt(t, survivor, permissionsv1.Consistency_FULLY_CONSISTENT, "") // everything is there
	for _, n := range f.nodes {
		n.kill()
	}

	if _, err := runRemit(t, nil, "recover", "--data-dir", survivor.data, "--yes"); err != nil {
		t.Fatal(err)
	}
	f.start(survivor).ready()
	expectMembers(t, survivor, 1, 0)
	if _, err := survivor.client().GetPermission(t.Context(), &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "before.loss"}); err != nil {
		t.Errorf("what was written before: %v", err)
	}
	if _, err := survivor.client().Check(t.Context(), checkRequest(permissionsv1.Consistency_AT_LEAST_AS_FRESH, token)); err == nil || !strings.Contains(err.Error(), "restored") {
		t.Errorf("a token from before: %v", err)
	}
	if err := create(t.Context(), survivor.process, rootKey, "after.loss"); err != nil {
		t.Error(err)
	}

	// A node that was lost has the old history.
	f.start(old).waits("recovered", "remove the data folder")
	if _, err := old.remit("join", survivor.gossip); err == nil || !strings.Contains(err.Error(), "remove the data folder") {
		t.Errorf("an old node joins: %v", err)
	}
	expectMembers(t, survivor, 1, 0)
	old.kill()
	for _, n := range []*fleetNode{wiped, old} {
		if err := os.RemoveAll(n.data); err != nil {
			t.Fatal(err)
		}
		n.flags = nil
		f.start(n).serves()
		n.must("join", survivor.gossip)
		n.ready()
	}
	expectMembers(t, survivor, 3, 0)
	for _, n := range f.nodes {
		for _, name := range []string{"before.loss", "after.loss"} {
			_, err := n.client().GetPermission(t.Context(), &permissionsv1.GetPermissionRequest{ProjectName: project, Name: name, Consistency: permissionsv1.Consistency_FULLY_CONSISTENT})
			if err != nil {
				t.Errorf("%s at %s: %v", name, n.name, err)
			}
		}
	}
	if report := old.must("verify"); !strings.Contains(report, "agree") {
		t.Errorf("verify says %s", report)
	}
}

// checkAt makes a check at a node and returns the token of its answer.
func checkAt(t *testing.T, n *fleetNode, mode permissionsv1.Consistency, token string) string {
	t.Helper()
	answer, err := n.client().Check(t.Context(), checkRequest(mode, token))
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetToken()
}

func checkRequest(mode permissionsv1.Consistency, token string) *permissionsv1.CheckPermissionRequest {
	return &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: "bob", ResourceUris: []string{"/folder"}, Permissions: []string{"before.loss"},
		Consistency: mode, Token: token,
	}
}
