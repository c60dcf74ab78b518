package main_test

import (
	"context"
	"syscall"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// TestNewEnemy shows what tokens are for. A right ends, then something is made that
// must not be seen with it, and a node that was held up for that while is asked. It
// is held up by SIGSTOP: what happened meanwhile waits in its sockets, and the question
// with it.
func TestNewEnemy(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "warn")
	f.form(inOrder(3))
	leader := f.leader(f.nodes[0])
	follower := f.other(leader)
	alice, bob := leader.client(), follower.client()
	if _, err := alice.CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "document.read"}); err != nil {
		t.Fatal(err)
	}

	// ask lets bob ask a node that slept through the end of his right.
	ask := func(withToken bool) bool {
		granted, err := alice.GrantUserPermissionsAndRolesOnResource(t.Context(), &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: "bob", ResourceUri: "/folder", Permissions: []string{"document.read"},
		})
		if err != nil {
			t.Fatal(err)
		}
		// He may until now, and his connection stands.
		if !bobMay(t, bob, granted.Token) {
			t.Fatal("the grant is not there")
		}
		follower.signal(syscall.SIGSTOP)
		revoked, err := alice.RevokeUserPermissionsAndRolesOnResource(t.Context(), &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: "bob", ResourceUri: "/folder", Permissions: []string{"document.read"},
		})
		if err != nil {
			t.Fatal(err)
		}
		token := ""
		if withToken {
			token = revoked.Token // as it would be stored with the new document
		}
		answer := make(chan bool, 1)
		go func() { answer <- bobMay(t, bob, token) }()
		follower.signal(syscall.SIGCONT)
		return <-answer
	}

	for range 10 {
		if ask(true) {
			t.Fatal("a check with the token of the revocation was answered from before it")
		}
	}
	eventually(t, "without the token the mistake is seen", func() bool { return ask(false) })
}

// bobMay asks a node whether bob may read the new document.
func bobMay(t *testing.T, node permissionsv1.PermissionsServiceClient, token string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := node.Check(ctx, &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: "bob", ResourceUris: []string{"/folder/new"}, Permissions: []string{"document.read"}, Token: token,
	})
	if err != nil {
		t.Error(err)
	}
	return answer.GetPassed()
}
