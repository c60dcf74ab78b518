package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

// fakeOrganisations is the organisation service of a fakeNode, whose key is of the
// organisation own.
type fakeOrganisations struct {
	organisationv1.UnimplementedOrganisationServiceServer
	nextID        func() string
	organisations map[string]*organisationv1.Organisation // by name
	projects      map[string]bool
	keys          []*organisationv1.APIKey
	me            *organisationv1.WhoAmIResponse
}

var fakeTime = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC))

func own() *organisationv1.Organisation {
	return &organisationv1.Organisation{Id: "org", Name: "own", CreatedAt: fakeTime}
}

func (f *fakeOrganisations) CreateOrganisation(_ context.Context, r *organisationv1.CreateOrganisationRequest) (*organisationv1.CreateOrganisationResponse, error) {
	o := &organisationv1.Organisation{Id: f.nextID(), Name: r.GetName(), CreatedAt: fakeTime, UpdatedAt: fakeTime}
	if f.organisations == nil {
		f.organisations = map[string]*organisationv1.Organisation{}
	}
	f.organisations[o.GetName()] = o
	return &organisationv1.CreateOrganisationResponse{
		Organisation: o,
		ApiKey:       &organisationv1.APIKey{Id: f.nextID(), Name: "owner", Key: "remit_secret", CreatedAt: fakeTime, ProjectName: "remit"},
		Token:        "o1",
	}, nil
}

func (f *fakeOrganisations) GetOrganisation(_ context.Context, r *organisationv1.GetOrganisationRequest) (*organisationv1.GetOrganisationResponse, error) {
	if r.GetId() != "" && r.GetId() != "org" {
		return nil, status.Error(codes.PermissionDenied, "Permission denied: missing required permission 'organisation.get' on resource '/organisation/other'")
	}
	return &organisationv1.GetOrganisationResponse{Organisation: own(), Token: "o2"}, nil
}

func (f *fakeOrganisations) ListOrganisations(_ context.Context, r *organisationv1.ListOrganisationsRequest) (*organisationv1.ListOrganisationsResponse, error) {
	found, next, err := page(slices.Sorted(maps.Keys(f.organisations)), r.GetSearch(), r.GetPagination())
	answer := &organisationv1.ListOrganisationsResponse{Pagination: next, Token: "o3"}
	for _, name := range found {
		answer.Organisations = append(answer.Organisations, f.organisations[name])
	}
	return answer, err
}

func (f *fakeOrganisations) UpdateOrganisation(_ context.Context, r *organisationv1.UpdateOrganisationRequest) (*organisationv1.UpdateOrganisationResponse, error) {
	o := own()
	o.Name, o.UpdatedAt = r.GetName(), fakeTime
	return &organisationv1.UpdateOrganisationResponse{Organisation: o}, nil
}

func (f *fakeOrganisations) DeleteOrganisation(_ context.Context, r *organisationv1.DeleteOrganisationRequest) (*organisationv1.DeleteOrganisationResponse, error) {
	for name, o := range f.organisations {
		if o.GetId() == r.GetId() {
			delete(f.organisations, name)
			return &organisationv1.DeleteOrganisationResponse{Token: "o4"}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "organisation %s does not exist", r.GetId())
}

func fakeProject(name string) *organisationv1.Project {
	return &organisationv1.Project{OrganisationId: "org", Name: name, CreatedAt: fakeTime}
}

func (f *fakeOrganisations) CreateProject(_ context.Context, r *organisationv1.CreateProjectRequest) (*organisationv1.CreateProjectResponse, error) {
	if f.projects[r.GetName()] {
		return nil, status.Errorf(codes.AlreadyExists, "project %q exists already", r.GetName())
	}
	f.projects[r.GetName()] = true
	return &organisationv1.CreateProjectResponse{Project: fakeProject(r.GetName()), Token: "o5"}, nil
}

func (f *fakeOrganisations) GetProject(_ context.Context, r *organisationv1.GetProjectRequest) (*organisationv1.GetProjectResponse, error) {
	return &organisationv1.GetProjectResponse{Project: fakeProject(r.GetProjectName())}, nil
}

func (f *fakeOrganisations) GetProjectsForOrganisation(_ context.Context, r *organisationv1.GetProjectsForOrganisationRequest) (*organisationv1.GetProjectsForOrganisationResponse, error) {
	found, next, err := page(slices.Sorted(maps.Keys(f.projects)), r.GetSearch(), r.GetPagination())
	answer := &organisationv1.GetProjectsForOrganisationResponse{Pagination: next}
	for _, name := range found {
		answer.Projects = append(answer.Projects, fakeProject(name))
	}
	return answer, err
}

func (f *fakeOrganisations) DeleteProject(_ context.Context, r *organisationv1.DeleteProjectRequest) (*organisationv1.DeleteProjectResponse, error) {
	delete(f.projects, r.GetProjectName())
	return &organisationv1.DeleteProjectResponse{Token: "o6"}, nil
}

func (f *fakeOrganisations) CreateAPIKey(_ context.Context, r *organisationv1.CreateAPIKeyRequest) (*organisationv1.CreateAPIKeyResponse, error) {
	if role := r.GetRole(); role != "" && !slices.Contains([]string{"owner", "editor", "viewer"}, role) {
		return nil, status.Errorf(codes.NotFound, "role %q does not exist in project \"remit\", which has owner, editor and viewer", role)
	}
	key := &organisationv1.APIKey{Id: f.nextID(), Name: r.GetName(), CreatedAt: fakeTime, ProjectName: r.GetProjectName(), Operator: r.GetOperator()}
	f.keys = append(f.keys, key)
	shown := proto.CloneOf(key)
	shown.Key = "remit_secret"
	return &organisationv1.CreateAPIKeyResponse{ApiKey: shown, Token: "o7"}, nil
}

func (f *fakeOrganisations) ListAPIKeys(_ context.Context, r *organisationv1.ListAPIKeysRequest) (*organisationv1.ListAPIKeysResponse, error) {
	keys := map[string]*organisationv1.APIKey{}
	for _, key := range f.keys {
		if key.GetProjectName() == r.GetProjectName() {
			keys[key.GetName()] = key
		}
	}
	found, next, err := page(slices.Sorted(maps.Keys(keys)), r.GetSearch(), r.GetPagination())
	answer := &organisationv1.ListAPIKeysResponse{Pagination: next}
	for _, name := range found {
		answer.ApiKeys = append(answer.ApiKeys, keys[name])
	}
	return answer, err
}

func (f *fakeOrganisations) InvalidateAPIKey(_ context.Context, r *organisationv1.InvalidateAPIKeyRequest) (*organisationv1.InvalidateAPIKeyResponse, error) {
	for _, key := range f.keys {
		if key.GetId() == r.GetId() && key.GetProjectName() == r.GetProjectName() {
			key.Invalidated = true
			return &organisationv1.InvalidateAPIKeyResponse{Token: "o8"}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "key %s does not exist in project %q", r.GetId(), r.GetProjectName())
}

func (f *fakeOrganisations) WhoAmI(_ context.Context, r *organisationv1.WhoAmIRequest) (*organisationv1.WhoAmIResponse, error) {
	byURI := map[string]*organisationv1.Assignment{}
	for _, a := range f.me.GetAssignments() {
		byURI[a.GetResourceUri()] = a
	}
	found, next, err := page(slices.Sorted(maps.Keys(byURI)), "", r.GetPagination())
	answer := proto.CloneOf(cmp.Or(f.me, &organisationv1.WhoAmIResponse{}))
	answer.Assignments, answer.Pagination = nil, next
	for _, uri := range found {
		answer.Assignments = append(answer.Assignments, byURI[uri])
	}
	return answer, err
}
