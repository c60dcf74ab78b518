package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const testKey = "remit_test"

// noProject is how a command fails that is about the project nowhere.
const noProject = "remit: project \"nowhere\" does not exist\nhint: remit project list shows what there is\n"

// fakeNode answers the API from maps, just well enough for the commands, and
// remembers the requests.
type fakeNode struct {
	permissionsv1.UnimplementedPermissionsServiceServer
	fakeOrganisations
	cluster fakeCluster
	addr    string

	mu          sync.Mutex
	key         string
	fail        error         // answered by every call, if set
	blind       bool          // whether the key may see nothing of what is there
	hang        chan struct{} // awaited by every call, if set
	requests    []any
	permissions map[string]*permissionsv1.Permission // by name
	roles       map[string]*permissionsv1.Role       // by name
	// By principal and URI.
	assignments map[string]map[string]*permissionsv1.Assignment
	ids         int
}

// startFake starts a fake node that the commands of this test use.
func startFake(t *testing.T, options ...grpc.ServerOption) *fakeNode {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{
		addr:        listener.Addr().String(),
		key:         testKey,
		permissions: map[string]*permissionsv1.Permission{},
		roles:       map[string]*permissionsv1.Role{},
		assignments: map[string]map[string]*permissionsv1.Assignment{},
	}
	f.fakeOrganisations.nextID = f.nextID
	f.projects = map[string]bool{"production": true, "remit": true}
	server := grpc.NewServer(append(options, grpc.UnaryInterceptor(f.intercept), grpc.StreamInterceptor(f.interceptStream))...)
	permissionsv1.RegisterPermissionsServiceServer(server, f)
	organisationv1.RegisterOrganisationServiceServer(server, f)
	clusterv1.RegisterClusterServiceServer(server, &f.cluster)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	clearEnv(t)
	t.Setenv("REMIT_ADDR", f.addr)
	t.Setenv("REMIT_KEY", testKey)
	return f
}

func (f *fakeNode) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request)
	if f.hang != nil {
		select {
		case f.hang <- struct{}{}:
		case <-ctx.Done():
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+f.key {
		return nil, status.Error(codes.Unauthenticated, "a valid key is needed: authorization: Bearer <key>")
	}
	if f.fail != nil {
		return nil, f.fail
	}
	if r, ok := request.(interface{ GetProjectName() string }); ok && r.GetProjectName() != "" && !f.projects[r.GetProjectName()] {
		return nil, status.Errorf(codes.NotFound, "project %q does not exist", r.GetProjectName())
	}
	if f.blind && strings.HasPrefix(path.Base(info.FullMethod), "Get") {
		return nil, status.Error(codes.PermissionDenied, "Permission denied: missing required permission 'get' on resource '/organisation/org'")
	}
	return handler(ctx, request)
}

// interceptStream is intercept for a call with many answers.
func (f *fakeNode) interceptStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(service, &fakeStream{stream, f, info})
}

type fakeStream struct {
	grpc.ServerStream
	node *fakeNode
	info *grpc.StreamServerInfo
}

func (s *fakeStream) RecvMsg(request any) error {
	if err := s.ServerStream.RecvMsg(request); err != nil {
		return err
	}
	_, err := s.node.intercept(s.Context(), request, &grpc.UnaryServerInfo{FullMethod: s.info.FullMethod}, func(context.Context, any) (any, error) { return nil, nil })
	return err
}

// last returns the newest request, which must be of type T.
func last[T any](t *testing.T, f *fakeNode) T {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		t.Fatal("no request came")
	}
	request, ok := f.requests[len(f.requests)-1].(T)
	if !ok {
		t.Fatalf("the last request is a %T", f.requests[len(f.requests)-1])
	}
	return request
}

// nextID returns ids in the order of creation: id-1, id-2, …
func (f *fakeNode) nextID() string {
	f.ids++
	return fmt.Sprintf("id-%d", f.ids)
}

func (f *fakeNode) CreatePermission(_ context.Context, r *permissionsv1.CreatePermissionRequest) (*permissionsv1.CreatePermissionResponse, error) {
	p := f.permissions[r.GetName()]
	if p == nil {
		p = &permissionsv1.Permission{Id: f.nextID(), OrganisationId: "org", Name: r.GetName(), ProjectName: r.GetProjectName()}
		f.permissions[p.GetName()] = p
	}
	p.Description = r.GetDescription()
	return &permissionsv1.CreatePermissionResponse{Id: p.GetId(), OrganisationId: "org", Name: p.GetName(), Description: p.GetDescription(), ProjectName: p.GetProjectName(), Token: "t1"}, nil
}

func (f *fakeNode) permission(nameOrID string) (*permissionsv1.Permission, error) {
	for _, p := range f.permissions {
		if p.GetName() == nameOrID || p.GetId() == nameOrID {
			return p, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "permission %q does not exist", nameOrID)
}

func (f *fakeNode) GetPermission(_ context.Context, r *permissionsv1.GetPermissionRequest) (*permissionsv1.GetPermissionResponse, error) {
	p, err := f.permission(r.GetName())
	return &permissionsv1.GetPermissionResponse{Id: p.GetId(), OrganisationId: "org", Name: p.GetName(), Description: p.GetDescription(), ProjectName: p.GetProjectName()}, err
}

func (f *fakeNode) UpdatePermission(_ context.Context, r *permissionsv1.UpdatePermissionRequest) (*permissionsv1.UpdatePermissionResponse, error) {
	p, err := f.permission(r.GetName())
	if err != nil {
		return nil, err
	}
	delete(f.permissions, p.GetName())
	p.Name, p.Description = cmp.Or(r.GetNewName(), p.GetName()), r.GetDescription()
	f.permissions[p.GetName()] = p
	return &permissionsv1.UpdatePermissionResponse{Id: p.GetId(), OrganisationId: "org", Name: p.GetName(), Description: p.GetDescription(), ProjectName: p.GetProjectName()}, nil
}

func (f *fakeNode) DeletePermission(_ context.Context, r *permissionsv1.DeletePermissionRequest) (*permissionsv1.DeletePermissionResponse, error) {
	delete(f.permissions, r.GetName())
	return &permissionsv1.DeletePermissionResponse{Token: "t2"}, nil
}

// page cuts a page out of sorted names; the cursor is the offset.
func page(all []string, search string, p *paginationv1.PaginationRequest) ([]string, *paginationv1.PaginationResponse, error) {
	all = slices.DeleteFunc(all, func(name string) bool {
		return !strings.Contains(strings.ToLower(name), strings.ToLower(search))
	})
	limit := int(p.GetLimit())
	if limit < 1 || limit > 100 {
		return nil, nil, status.Errorf(codes.InvalidArgument, "limit %d: must be 1 to 100", limit)
	}
	from := 0
	if p.Cursor != nil {
		var err error
		if from, err = strconv.Atoi(p.GetCursor()); err != nil || from > len(all) {
			return nil, nil, status.Errorf(codes.InvalidArgument, "cursor %q is not valid here", p.GetCursor())
		}
	}
	to := min(from+limit, len(all))
	next := &paginationv1.PaginationResponse{}
	if to < len(all) {
		next.NextCursor = strconv.Itoa(to)
	}
	return all[from:to], next, nil
}

func (f *fakeNode) ListPermissions(_ context.Context, r *permissionsv1.ListPermissionsRequest) (*permissionsv1.ListPermissionsResponse, error) {
	found, next, err := page(slices.Sorted(maps.Keys(f.permissions)), r.GetSearch(), r.GetPagination())
	answer := &permissionsv1.ListPermissionsResponse{Pagination: next, Token: "t3"}
	for _, name := range found {
		answer.Permissions = append(answer.Permissions, f.permissions[name])
	}
	return answer, err
}

func (f *fakeNode) role(nameOrID string) (*permissionsv1.Role, error) {
	for _, r := range f.roles {
		if r.GetName() == nameOrID || r.GetId() == nameOrID {
			return r, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "role %q does not exist", nameOrID)
}

func (f *fakeNode) setRole(role *permissionsv1.Role, description string, permissions []string) error {
	role.Description, role.Permissions = description, nil
	for _, name := range permissions {
		p, err := f.permission(name)
		if err != nil {
			return err
		}
		role.Permissions = append(role.Permissions, p)
	}
	slices.SortFunc(role.Permissions, func(a, b *permissionsv1.Permission) int { return cmp.Compare(a.GetName(), b.GetName()) })
	f.roles[role.GetName()] = role
	return nil
}

func (f *fakeNode) CreateRole(_ context.Context, r *permissionsv1.CreateRoleRequest) (*permissionsv1.CreateRoleResponse, error) {
	role := f.roles[r.GetName()]
	if role == nil {
		role = &permissionsv1.Role{Id: f.nextID(), OrganisationId: "org", Name: r.GetName(), ProjectName: r.GetProjectName()}
	}
	if err := f.setRole(role, r.GetDescription(), r.GetPermissions()); err != nil {
		return nil, err
	}
	return &permissionsv1.CreateRoleResponse{Id: role.GetId(), OrganisationId: "org", Name: role.GetName(), Description: role.GetDescription(), Permissions: role.GetPermissions(), ProjectName: role.GetProjectName()}, nil
}

func (f *fakeNode) GetRole(_ context.Context, r *permissionsv1.GetRoleRequest) (*permissionsv1.GetRoleResponse, error) {
	role, err := f.role(r.GetId())
	return &permissionsv1.GetRoleResponse{Id: role.GetId(), OrganisationId: "org", Name: role.GetName(), Description: role.GetDescription(), Permissions: role.GetPermissions(), ProjectName: role.GetProjectName()}, err
}

func (f *fakeNode) UpdateRole(_ context.Context, r *permissionsv1.UpdateRoleRequest) (*permissionsv1.UpdateRoleResponse, error) {
	role, err := f.role(r.GetId())
	if err != nil {
		return nil, err
	}
	delete(f.roles, role.GetName())
	role.Name = cmp.Or(r.GetName(), role.GetName())
	if err := f.setRole(role, r.GetDescription(), r.GetPermissions()); err != nil {
		return nil, err
	}
	return &permissionsv1.UpdateRoleResponse{Id: role.GetId(), OrganisationId: "org", Name: role.GetName(), Description: role.GetDescription(), Permissions: role.GetPermissions(), ProjectName: role.GetProjectName()}, nil
}

func (f *fakeNode) DeleteRole(_ context.Context, r *permissionsv1.DeleteRoleRequest) (*permissionsv1.DeleteRoleResponse, error) {
	if role, err := f.role(r.GetId()); err == nil {
		delete(f.roles, role.GetName())
	}
	return &permissionsv1.DeleteRoleResponse{}, nil
}

func (f *fakeNode) ListRoles(_ context.Context, r *permissionsv1.ListRolesRequest) (*permissionsv1.ListRolesResponse, error) {
	found, next, err := page(slices.Sorted(maps.Keys(f.roles)), r.GetSearch(), r.GetPagination())
	answer := &permissionsv1.ListRolesResponse{Pagination: next}
	for _, name := range found {
		answer.Roles = append(answer.Roles, f.roles[name])
	}
	return answer, err
}

func (f *fakeNode) GrantUserPermissionsAndRolesOnResource(_ context.Context, r *permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse, error) {
	granted := &permissionsv1.Assignment{ResourceUri: r.GetResourceUri(), ProjectName: "production"}
	for _, name := range r.GetPermissions() {
		p, err := f.permission(name)
		if err != nil {
			return nil, err
		}
		granted.Permissions = append(granted.Permissions, p)
	}
	for _, name := range r.GetRoles() {
		role, err := f.role(name)
		if err != nil {
			return nil, err
		}
		granted.Roles = append(granted.Roles, role)
	}
	if f.assignments[r.GetUserId()] == nil {
		f.assignments[r.GetUserId()] = map[string]*permissionsv1.Assignment{}
	}
	f.assignments[r.GetUserId()][r.GetResourceUri()] = granted
	return &permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse{Token: "t4"}, nil
}

func (f *fakeNode) RevokeUserPermissionsAndRolesOnResource(_ context.Context, r *permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.RevokeUserPermissionsAndRolesOnResourceResponse, error) {
	delete(f.assignments[r.GetUserId()], r.GetResourceUri())
	return &permissionsv1.RevokeUserPermissionsAndRolesOnResourceResponse{Token: "t5"}, nil
}

func (f *fakeNode) GetUserPermissionsAndRolesOnResource(_ context.Context, r *permissionsv1.GetUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.GetUserPermissionsAndRolesOnResourceResponse, error) {
	answer := &permissionsv1.GetUserPermissionsAndRolesOnResourceResponse{
		ProjectName: r.GetProjectName(), UserId: r.GetUserId(), ResourceUri: r.GetResourceUri(), Token: "t6",
	}
	held := f.assignments[r.GetUserId()]
	for _, p := range held[r.GetResourceUri()].GetPermissions() {
		answer.Permissions = append(answer.Permissions, p.GetName())
	}
	for _, role := range held[r.GetResourceUri()].GetRoles() {
		answer.Roles = append(answer.Roles, role.GetId())
	}
	for _, uri := range slices.Sorted(maps.Keys(held)) {
		if !r.GetIncludeInherited() || !strings.HasPrefix(r.GetResourceUri(), uri+"/") {
			continue
		}
		for _, p := range held[uri].GetPermissions() {
			answer.InheritedPermissions = append(answer.InheritedPermissions, &permissionsv1.InheritedPermission{Permission: p, InheritedFrom: uri})
		}
		for _, role := range held[uri].GetRoles() {
			answer.InheritedRoles = append(answer.InheritedRoles, &permissionsv1.InheritedRole{Role: role, InheritedFrom: uri})
		}
	}
	return answer, nil
}

func (f *fakeNode) ListPrincipals(_ context.Context, r *permissionsv1.ListPrincipalsRequest) (*permissionsv1.ListPrincipalsResponse, error) {
	found, next, err := page(slices.Sorted(maps.Keys(f.assignments)), r.GetSearch(), r.GetPagination())
	return &permissionsv1.ListPrincipalsResponse{Principals: found, Pagination: next}, err
}

func (f *fakeNode) GetAllAssignmentsForPrincipal(_ context.Context, r *permissionsv1.GetAllAssignmentsForPrincipalRequest) (*permissionsv1.GetAllAssignmentsForPrincipalResponse, error) {
	held := f.assignments[r.GetPrincipalId()]
	found, next, err := page(slices.Sorted(maps.Keys(held)), "", r.GetPagination())
	answer := &permissionsv1.GetAllAssignmentsForPrincipalResponse{Pagination: next}
	for _, uri := range found {
		answer.Assignments = append(answer.Assignments, held[uri])
	}
	return answer, err
}

func (f *fakeNode) Check(_ context.Context, r *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
	answer := &permissionsv1.CheckPermissionResponse{Passed: true}
	for _, uri := range r.GetResourceUris() {
		holds := map[string]bool{}
		for on, a := range f.assignments[r.GetPrincipalId()] {
			if on != uri && !strings.HasPrefix(uri, on+"/") {
				continue
			}
			for _, p := range a.GetPermissions() {
				holds[p.GetName()] = true
			}
			for _, role := range a.GetRoles() {
				for _, p := range role.GetPermissions() {
					holds[p.GetName()] = true
				}
			}
		}
		missing := slices.DeleteFunc(slices.Clone(r.GetPermissions()), func(name string) bool { return holds[name] })
		if len(missing) > 0 {
			answer.Passed = false
			answer.MissingPermissions = append(answer.MissingPermissions, &permissionsv1.MissingPermission{ResourceUri: uri, MissingPermissions: missing})
		}
	}
	return answer, nil
}
