package server

import (
	"context"
	"time"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Names of what a new organisation has.
const (
	defaultProject = "default"
	ownerKeyName   = "owner"
)

func timestamp(unixMilli int64) *timestamppb.Timestamp {
	return timestamppb.New(time.UnixMilli(unixMilli))
}

func organisationMessage(o *fsm.Organisation) *organisationv1.Organisation {
	return &organisationv1.Organisation{Id: o.ID.String(), Name: o.Name, CreatedAt: timestamp(o.Created), UpdatedAt: timestamp(o.Updated)}
}

// CreateOrganisation creates an organisation and its first owner key.
func (s *Server) CreateOrganisation(ctx context.Context, req *organisationv1.CreateOrganisationRequest) (*organisationv1.CreateOrganisationResponse, error) {
	drawn := callOf(ctx).origin.seed
	secret, hash := drawn.secret()
	result, token, err := s.write(ctx, &fsm.CreateOrganisation{
		Organisation: drawn.id("organisation"), Name: req.Name,
		BuiltIn: drawn.id("built-in project"), Project: drawn.id("project"), ProjectName: defaultProject,
		Key: drawn.id("key"), KeyName: ownerKeyName, KeyHash: hash,
	})
	if err != nil {
		return nil, err
	}
	key := keyMessage(result.Key)
	key.Key = secret
	return &organisationv1.CreateOrganisationResponse{Organisation: organisationMessage(result.Organisation), ApiKey: key, Token: token}, nil
}

// GetOrganisation returns the caller's organisation.
func (s *Server) GetOrganisation(ctx context.Context, req *organisationv1.GetOrganisationRequest) (*organisationv1.GetOrganisationResponse, error) {
	c := callOf(ctx)
	return &organisationv1.GetOrganisationResponse{Organisation: organisationMessage(c.organisation), Token: s.tokenOf(c.state)}, nil
}

// ListOrganisations returns a page of all organisations, by id.
func (s *Server) ListOrganisations(ctx context.Context, req *organisationv1.ListOrganisationsRequest) (*organisationv1.ListOrganisationsResponse, error) {
	state := callOf(ctx).state
	list := listing{call: "organisations", about: req.GetSearch()}
	limit, behind, err := list.page(state, req.Pagination)
	if err != nil {
		return nil, err
	}
	after, _ := fsm.ParseID(behind)
	match := matches(req.GetSearch())
	taken, more := page(state.Organisations(after), limit,
		func(o *fsm.Organisation) bool { return match(o.Name) },
		func(o *fsm.Organisation) int { return fieldBytes + len(o.Name) })
	resp := &organisationv1.ListOrganisationsResponse{Pagination: &paginationv1.PaginationResponse{}, Token: s.tokenOf(state)}
	for _, o := range taken {
		resp.Organisations = append(resp.Organisations, organisationMessage(o))
	}
	if more {
		resp.Pagination.NextCursor = list.cursor(state, taken[len(taken)-1].ID.String())
	}
	return resp, nil
}

// UpdateOrganisation renames the caller's organisation.
func (s *Server) UpdateOrganisation(ctx context.Context, req *organisationv1.UpdateOrganisationRequest) (*organisationv1.UpdateOrganisationResponse, error) {
	result, token, err := s.write(ctx, &fsm.UpdateOrganisation{Organisation: callOf(ctx).organisation.ID, Name: req.Name})
	if err != nil {
		return nil, err
	}
	return &organisationv1.UpdateOrganisationResponse{Organisation: organisationMessage(result.Organisation), Token: token}, nil
}

// DeleteOrganisation ends an organisation with its projects, keys and grants.
func (s *Server) DeleteOrganisation(ctx context.Context, req *organisationv1.DeleteOrganisationRequest) (*organisationv1.DeleteOrganisationResponse, error) {
	id, ok := fsm.ParseID(req.Id)
	if !ok {
		return nil, invalid("invalid organisation id %s: the list of organisations has the ids", quote(req.Id))
	}
	_, token, err := s.write(ctx, &fsm.DeleteOrganisation{Organisation: id})
	if err != nil {
		return nil, err
	}
	s.wakeSweeper()
	return &organisationv1.DeleteOrganisationResponse{Token: token}, nil
}
