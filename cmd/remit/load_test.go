package main_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"google.golang.org/protobuf/proto"
)

// A load is some writers at once. It outlives the processes it is put on.
type load struct {
	writers []*writer
	// What was acknowledged in all, and what became of the changes that were not.
	acknowledged, applied, lost int
}

func newLoad(writers int, seed uint64) *load {
	l := &load{}
	for i := range writers {
		l.writers = append(l.writers, newWriter(i, seed))
	}
	return l
}

// A burst is a load on one process.
type burst struct {
	t       *testing.T
	load    *load
	ending  atomic.Bool
	running sync.WaitGroup

	mu      sync.Mutex
	count   int
	target  int
	reached chan struct{}
}

// on starts the writers on a process. They run until the process does not answer.
func (l *load) on(t *testing.T, p *process) *burst {
	b := &burst{t: t, load: l}
	client := p.client(rootKey)
	for _, w := range l.writers {
		b.running.Go(func() { w.run(t, client, &b.ending, b.acknowledged) })
	}
	return b
}

func (b *burst) acknowledged() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	if b.count == b.target {
		close(b.reached)
	}
}

// until waits for a number of acknowledged changes.
func (b *burst) until(n int) {
	b.t.Helper()
	reached := make(chan struct{})
	b.mu.Lock()
	b.target, b.reached = n, reached
	if b.count >= n {
		close(reached)
	}
	b.mu.Unlock()
	select {
	case <-reached:
	case <-time.After(patience):
		b.t.Fatalf("no %d changes acknowledged within %s", n, patience)
	}
}

// end says that errors are expected from now on; wait waits for the writers.
func (b *burst) end() { b.ending.Store(true) }

func (b *burst) wait() {
	b.running.Wait()
	b.load.acknowledged += b.count
}

// verify compares everything there is with what must be there.
func (l *load) verify(t *testing.T, p *process) {
	t.Helper()
	client := p.client(rootKey)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	for _, w := range l.writers {
		actual := w.read(ctx, t, client)
		switch applied, pending := w.settle(t, actual); {
		case applied:
			l.applied++
		case pending:
			l.lost++
		}
		w.check(ctx, t, client)
	}
}

// pages calls ask for one page after the other.
func pages(t *testing.T, ask func(page *paginationv1.PaginationRequest) (*paginationv1.PaginationResponse, error)) {
	t.Helper()
	page := &paginationv1.PaginationRequest{Limit: proto.Int32(100)}
	for {
		next, err := ask(page)
		if err != nil {
			t.Fatal(err)
		}
		if next.GetNextCursor() == "" {
			return
		}
		page.Cursor = proto.String(next.GetNextCursor())
	}
}

// read reads everything of a writer. Each list must be as new as the newest
// acknowledged change.
func (w *writer) read(ctx context.Context, t *testing.T, client permissionsv1.PermissionsServiceClient) *expectation {
	t.Helper()
	e := newExpectation()
	search := proto.String(w.permissionName(0)[:len("w0.")])
	pages(t, func(page *paginationv1.PaginationRequest) (*paginationv1.PaginationResponse, error) {
		resp, err := client.ListPermissions(ctx, &permissionsv1.ListPermissionsRequest{ProjectName: project, Pagination: page, Search: search, Token: w.token})
		for _, p := range resp.GetPermissions() {
			e.permissions[p.Name] = permission{p.Id, p.Description}
		}
		return resp.GetPagination(), err
	})
	search = proto.String(w.roleName(0)[:len("w0:")])
	pages(t, func(page *paginationv1.PaginationRequest) (*paginationv1.PaginationResponse, error) {
		resp, err := client.ListRoles(ctx, &permissionsv1.ListRolesRequest{ProjectName: project, Pagination: page, Search: search, Token: w.token})
		for _, r := range resp.GetRoles() {
			e.roles[r.Name] = role{r.Id, r.Description, ids(r.Permissions)}
		}
		return resp.GetPagination(), err
	})
	var principals []string
	pages(t, func(page *paginationv1.PaginationRequest) (*paginationv1.PaginationResponse, error) {
		resp, err := client.ListPrincipals(ctx, &permissionsv1.ListPrincipalsRequest{ProjectName: project, Pagination: page, Search: search, Token: w.token})
		principals = append(principals, resp.GetPrincipals()...)
		return resp.GetPagination(), err
	})
	for i := range writerPrincipals {
		principal := w.principal(i)
		pages(t, func(page *paginationv1.PaginationRequest) (*paginationv1.PaginationResponse, error) {
			resp, err := client.GetAllAssignmentsForPrincipal(ctx, &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: principal, Pagination: page, Token: w.token})
			for _, a := range resp.GetAssignments() {
				e.grants[place{principal, a.ResourceUri}] = holding{ids(a.Permissions), ids(a.Roles)}
			}
			return resp.GetPagination(), err
		})
	}
	if want := e.principals(); !slices.Equal(principals, want) {
		t.Errorf("writer %d: principals %q, those with an assignment are %q", w.number, principals, want)
	}
	return e
}

func ids[T interface{ GetId() string }](things []T) []string {
	var ids []string
	for _, thing := range things {
		ids = append(ids, thing.GetId())
	}
	slices.Sort(ids)
	return ids
}

// check asks for every permission of the writer on each of its resources.
func (w *writer) check(ctx context.Context, t *testing.T, client permissionsv1.PermissionsServiceClient) {
	t.Helper()
	names := sortedKeys(w.known.permissions)
	if len(names) == 0 {
		return
	}
	for i := range writerPrincipals {
		principal := w.principal(i)
		var want []*permissionsv1.MissingPermission
		for _, uri := range w.resources() {
			var missing []string
			allowed := w.known.allowed(principal, uri)
			for _, name := range names {
				if !allowed[w.known.permissions[name].id] {
					missing = append(missing, name)
				}
			}
			if len(missing) > 0 {
				want = append(want, &permissionsv1.MissingPermission{ResourceUri: uri, MissingPermissions: missing})
			}
		}
		resp, err := client.Check(ctx, &permissionsv1.CheckPermissionRequest{ProjectName: project, PrincipalId: principal, ResourceUris: w.resources(), Permissions: names, Token: w.token})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(resp.MissingPermissions, want, func(a, b *permissionsv1.MissingPermission) bool { return proto.Equal(a, b) }) {
			t.Errorf("writer %d: %s misses\n%v\nwant\n%v", w.number, principal, resp.MissingPermissions, want)
		}
	}
}
