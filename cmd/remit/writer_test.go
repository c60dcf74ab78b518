package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	project = "production"
	// What each writer has of each kind of thing.
	writerPermissions, writerRoles, writerPrincipals = 70, 8, 4
	// fullRole is how many permissions a changed role has.
	fullRole = 50
)

// A writer makes one change after the other, on names of its own, and knows what
// must be there: what was acknowledged, and of the last change, which was not,
// all or nothing.
type writer struct {
	number  int
	rng     *rand.Rand
	known   *expectation
	pending *change         // sent, not acknowledged
	ids     map[string]bool // every id that was drawn
	token   string          // of the newest acknowledged change
}

// A change is one call.
type change struct {
	name string
	next *expectation // what there is once it is applied
	call func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error)
	// id is that of what is changed; created is told the one of what is new.
	id      string
	created func(id string)
}

// answer is what answers have in common.
type answer interface{ GetToken() string }

func newWriter(number int, seed uint64) *writer {
	return &writer{number: number, rng: rand.New(rand.NewPCG(seed, uint64(number))), known: newExpectation(), ids: map[string]bool{}}
}

// The prefixes end in characters that keep one writer's names out of another's search.
func (w *writer) permissionName(i int) string { return fmt.Sprintf("w%d.p%02d", w.number, i) }
func (w *writer) roleName(i int) string       { return fmt.Sprintf("w%d: role %02d", w.number, i) }
func (w *writer) principal(i int) string      { return fmt.Sprintf("w%d:usr_%d", w.number, i) }

// places are where a writer grants, and resources what it asks about.
func (w *writer) places() []string {
	return w.uris("", "/docs", "/docs/1", "/docs/1/page/2", "/docsets", "/*/1")
}

func (w *writer) resources() []string {
	return w.uris("/docs", "/docs/1", "/docs/1/page/2/line", "/docs/2", "/docsets/1", "/doc")
}

func (w *writer) uris(paths ...string) []string {
	for i, path := range paths {
		paths[i] = fmt.Sprintf("/w%d%s", w.number, path)
	}
	return paths
}

// run makes changes until one is not acknowledged, which is the end if ending
// says that the node is on its way down.
func (w *writer) run(t *testing.T, client permissionsv1.PermissionsServiceClient, ending *atomic.Bool, acknowledged func()) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for {
		c := w.draw()
		got, err := c.call(ctx, client)
		if err != nil {
			if !ending.Load() || status.Code(err) != codes.Unavailable {
				t.Errorf("writer %d: %s: %v", w.number, c.name, err)
			}
			w.pending = c
			return
		}
		if made, ok := got.(interface{ GetId() string }); ok {
			switch id := made.GetId(); {
			case c.created == nil && id != c.id:
				t.Errorf("writer %d: %s: the id became %s, it was %s", w.number, c.name, id, c.id)
			case c.created != nil:
				w.draws(t, id)
				c.created(id)
			}
		}
		w.known, w.token = c.next, got.GetToken()
		acknowledged()
	}
}

// draws notes an id that must be new.
func (w *writer) draws(t *testing.T, id string) {
	if id == "" || w.ids[id] {
		t.Errorf("writer %d: id %q was drawn before", w.number, id)
	}
	w.ids[id] = true
}

// settle compares what is there with what must be, and goes on from there. It
// reports what became of the pending change.
func (w *writer) settle(t *testing.T, actual *expectation) (applied, pending bool) {
	t.Helper()
	if w.pending == nil {
		if !w.known.equal(actual) {
			t.Errorf("writer %d, no change pending:\n%s", w.number, w.known.difference(actual))
		}
		return false, false
	}
	c := w.pending
	w.pending = nil
	c.next.settle(actual)
	switch {
	case w.known.equal(actual):
		return false, true
	case c.next.equal(actual):
		for _, id := range w.known.newIDs(c.next) {
			w.draws(t, id)
		}
		w.known = c.next
		return true, true
	}
	t.Errorf("writer %d: pending was %s. Without it:\n%swith it:\n%s", w.number, c.name, w.known.difference(actual), c.next.difference(actual))
	w.known = actual
	return false, true
}

// newIDs are the ids in next that are in no name here.
func (e *expectation) newIDs(next *expectation) (ids []string) {
	old := map[string]bool{}
	for _, p := range e.permissions {
		old[p.id] = true
	}
	for _, r := range e.roles {
		old[r.id] = true
	}
	for _, p := range next.permissions {
		if !old[p.id] {
			ids = append(ids, p.id)
		}
	}
	for _, r := range next.roles {
		if !old[r.id] {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// draw picks the next change.
func (w *writer) draw() *change {
	if len(w.known.permissions) < fullRole {
		return w.createPermission()
	}
	for {
		var c *change
		switch w.rng.IntN(11) {
		case 0:
			c = w.createPermission()
		case 1, 2:
			c = w.updatePermission()
		case 3:
			c = w.deletePermission()
		case 4:
			c = w.createRole()
		case 5, 6:
			c = w.updateRole()
		case 7:
			c = w.deleteRole()
		case 8, 9:
			c = w.grant()
		case 10:
			c = w.revoke()
		}
		if c != nil {
			return c
		}
	}
}

// some picks at most n of the values.
func some[T any](rng *rand.Rand, values []T, n int) []T {
	values = slices.Clone(values)
	rng.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return values[:min(n, len(values))]
}

// one picks one of the values; the zero value if there is none.
func one[T any](rng *rand.Rand, values []T) (value T) {
	if len(values) > 0 {
		value = values[rng.IntN(len(values))]
	}
	return value
}

func (w *writer) description() string { return fmt.Sprintf("description %d", w.rng.IntN(1000)) }

// createPermission creates one, or what is as good: it updates the description.
func (w *writer) createPermission() *change {
	name, description := w.permissionName(w.rng.IntN(writerPermissions)), w.description()
	c := &change{name: "create permission " + name, next: w.known.clone(), id: w.known.permissions[name].id}
	c.next.permissions[name] = permission{c.id, description}
	if c.id == "" {
		c.created = func(id string) { c.next.permissions[name] = permission{id, description} }
	}
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.CreatePermission(ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: name, Description: description})
	}
	return c
}

// updatePermission renames one, or only changes its description.
func (w *writer) updatePermission() *change {
	name, to := one(w.rng, sortedKeys(w.known.permissions)), w.permissionName(w.rng.IntN(writerPermissions))
	if _, taken := w.known.permissions[to]; taken {
		to = name
	}
	c := &change{name: fmt.Sprintf("update permission %s to %s", name, to), next: w.known.clone(), id: w.known.permissions[name].id}
	description := w.description()
	delete(c.next.permissions, name)
	c.next.permissions[to] = permission{c.id, description}
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.UpdatePermission(ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: name, NewName: to, Description: description})
	}
	return c
}

func (w *writer) deletePermission() *change {
	name := one(w.rng, sortedKeys(w.known.permissions))
	c := &change{name: "delete permission " + name, next: w.known.clone()}
	c.next.deletePermission(name)
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.DeletePermission(ctx, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: name})
	}
	return c
}

// rights picks names of permissions, with their ids.
func (w *writer) rights(n int) (names, ids []string) {
	names = some(w.rng, sortedKeys(w.known.permissions), n)
	for _, name := range names {
		ids = append(ids, w.known.permissions[name].id)
	}
	slices.Sort(ids)
	return names, ids
}

// createRole creates one, or replaces the one of that name.
func (w *writer) createRole() *change {
	name, description := w.roleName(w.rng.IntN(writerRoles)), w.description()
	names, ids := w.rights(1 + w.rng.IntN(fullRole))
	c := &change{name: "create " + name, next: w.known.clone(), id: w.known.roles[name].id}
	c.next.roles[name] = role{c.id, description, ids}
	if c.id == "" {
		c.created = func(id string) { c.next.roles[name] = role{id, description, ids} }
	}
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.CreateRole(ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: name, Description: description, Permissions: names})
	}
	return c
}

// updateRole replaces all the permissions of a role, and may rename it.
func (w *writer) updateRole() *change {
	name, to := one(w.rng, sortedKeys(w.known.roles)), w.roleName(w.rng.IntN(writerRoles))
	if name == "" {
		return nil
	}
	if _, taken := w.known.roles[to]; taken {
		to = name
	}
	description := w.description()
	names, ids := w.rights(fullRole)
	c := &change{name: fmt.Sprintf("update %s to %s with %d permissions", name, to, len(names)), next: w.known.clone(), id: w.known.roles[name].id}
	delete(c.next.roles, name)
	c.next.roles[to] = role{c.id, description, ids}
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.UpdateRole(ctx, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: c.id, Name: to, Description: description, Permissions: names})
	}
	return c
}

func (w *writer) deleteRole() *change {
	name := one(w.rng, sortedKeys(w.known.roles))
	if name == "" {
		return nil
	}
	c := &change{name: "delete " + name, next: w.known.clone()}
	id := w.known.roles[name].id
	c.next.deleteRole(name)
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.DeleteRole(ctx, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: id})
	}
	return c
}

// grant grants five permissions and up to three roles at once.
func (w *writer) grant() *change {
	at := place{w.principal(w.rng.IntN(writerPrincipals)), one(w.rng, w.places())}
	names, ids := w.rights(5)
	var roles, roleIDs []string
	for _, name := range some(w.rng, sortedKeys(w.known.roles), 3) {
		id := w.known.roles[name].id
		roles, roleIDs = append(roles, one(w.rng, []string{name, id})), append(roleIDs, id)
	}
	c := &change{name: fmt.Sprintf("grant %d permissions and %d roles to %s on %s", len(names), len(roles), at.principal, at.uri), next: w.known.clone()}
	held := w.known.grants[at]
	c.next.put(at, holding{union(held.permissions, ids), union(held.roles, roleIDs)})
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.GrantUserPermissionsAndRolesOnResource(ctx, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: at.principal, ResourceUri: at.uri, Permissions: names, Roles: roles})
	}
	return c
}

// revoke takes half of what is held somewhere, and more that is not held there.
func (w *writer) revoke() *change {
	var held []place
	for at := range w.known.grants {
		held = append(held, at)
	}
	slices.SortFunc(held, func(a, b place) int {
		return slices.Compare([]string{a.principal, a.uri}, []string{b.principal, b.uri})
	})
	at := one(w.rng, held)
	if at.uri == "" {
		return nil
	}
	h := w.known.grants[at]
	_, others := w.rights(2)
	ids := union(some(w.rng, h.permissions, len(h.permissions)/2+1), others)
	roleIDs := some(w.rng, h.roles, len(h.roles)/2+1)
	c := &change{name: fmt.Sprintf("revoke %d permissions and %d roles from %s on %s", len(ids), len(roleIDs), at.principal, at.uri), next: w.known.clone()}
	c.next.put(at, holding{minus(h.permissions, ids), minus(h.roles, roleIDs)})
	c.call = func(ctx context.Context, client permissionsv1.PermissionsServiceClient) (answer, error) {
		return client.RevokeUserPermissionsAndRolesOnResource(ctx, &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: at.principal, ResourceUri: at.uri, Permissions: ids, Roles: roleIDs})
	}
	return c
}
