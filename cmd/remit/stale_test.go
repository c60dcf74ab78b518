package main_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// hopeless is the context of a call that a node without a majority has to refuse by
// itself: the call has no deadline, and is given up long after.
func hopeless(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(patience, cancel)
	t.Cleanup(func() { stop.Stop(); cancel() })
	return ctx
}

// unconfirmed is in the answer to a fully consistent read without a majority.
const unconfirmed = "the leader did not confirm a read: "

// TestStaleNode cuts a follower off from all others: it says so everywhere, and
// comes back by itself.
func TestStaleNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "warn", "--staleness-bound", "2s")
	f.form(inOrder(3))
	leader := f.leader(f.nodes[0])
	alone := f.other(leader)
	other := f.other(leader, alone)
	client, health := alone.client(), healthpb.NewHealthClient(alone.dial(""))
	_, err := client.CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "document.read"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(mode permissionsv1.Consistency) error {
		_, err := client.Check(hopeless(t), &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: "bob", ResourceUris: []string{"/folder"}, Permissions: []string{"document.read"}, Consistency: mode,
		})
		return err
	}
	serving := func() bool {
		answer, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err == nil && answer.Status == healthpb.HealthCheckResponse_SERVING
	}
	// self is what the node lists of itself.
	self := func() (self listedMember) {
		members, err := alone.members()
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(members, func(m listedMember) bool { return m.Name == alone.name })
		if at < 0 {
			t.Fatalf("%s does not list itself: %+v", alone.name, members)
		}
		return members[at]
	}

	eventually(t, "the health service knows that the node is ready", serving)
	leader.signal(syscall.SIGSTOP)
	other.signal(syscall.SIGSTOP)
	const tooOld = "2s at most are allowed"
	var refusal error
	eventually(t, "default reads are refused", func() bool {
		refusal = check(permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED)
		return refusal != nil
	})
	if status.Code(refusal) != codes.Unavailable || !strings.Contains(refusal.Error(), tooOld) {
		t.Errorf("a default read: %v", refusal)
	}
	if code, body := alone.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, tooOld) {
		t.Errorf("/readyz %d %s", code, body)
	}
	if code, body := alone.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez %d %s", code, body)
	}
	eventually(t, "the health service knows that the node is not ready", func() bool { return !serving() })
	if m := self(); m.Healthy || !strings.Contains(strings.Join(m.Problems, "\n"), tooOld) {
		t.Errorf("remit members: %+v", m)
	}
	err = check(permissionsv1.Consistency_FULLY_CONSISTENT)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), unconfirmed) {
		t.Errorf("a fully consistent read: %v", err)
	}
	_, err = client.CreatePermission(hopeless(t), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "document.write"})
	if status.Code(err) != codes.Unavailable || !saysOutcome(err) {
		t.Errorf("a write: %v", err)
	}

	leader.signal(syscall.SIGCONT)
	other.signal(syscall.SIGCONT)
	alone.ready()
	eventually(t, "the health service knows that the node is ready again", serving)
	eventually(t, "the node lists itself as healthy", func() bool { return self().Healthy })
	for _, mode := range []permissionsv1.Consistency{permissionsv1.Consistency_MINIMIZE_LATENCY, permissionsv1.Consistency_FULLY_CONSISTENT} {
		if err := check(mode); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// TestMinorityLeader stops both followers: their leader takes no writes and answers
// no fully consistent read.
func TestMinorityLeader(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "warn", "--staleness-bound", "2s")
	f.form(inOrder(3))
	leader := f.leader(f.nodes[0])
	client := leader.client()
	for _, n := range f.nodes {
		if n != leader {
			n.signal(syscall.SIGSTOP)
		}
	}
	_, err := client.CreatePermission(hopeless(t), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "document.write"})
	if status.Code(err) != codes.Unavailable || !saysOutcome(err) {
		t.Errorf("a write: %v", err)
	}
	_, err = client.GetPermission(hopeless(t), &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "document.read", Consistency: permissionsv1.Consistency_FULLY_CONSISTENT})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), unconfirmed) {
		t.Errorf("a fully consistent read: %v", err)
	}
	eventually(t, "the leader of nobody is not ready", func() bool {
		code, _ := leader.get("/readyz")
		return code == http.StatusServiceUnavailable
	})
}
