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

// readOrganisation is read with the caller's organisation.
func (s *Server) readOrganisation(ctx context.Context, r reader) (*fsm.State, *fsm.Organisation, error) {
	state, err := s.read(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	o, err := callOf(ctx).own(state)
	return state, o, err
}

// own returns the caller's organisation.
func (c *call) own(state *fsm.State) (*fsm.Organisation, error) {
	o, ok := state.Organisation(c.organisation.ID)
	if !ok {
		return nil, notFound("organisation %s does not exist", c.organisation.ID)
	}
	return o, nil
}

// CreateOrganisation creates an organisation and its first owner key.
func (s *Server) CreateOrganisation(ctx context.Context, req *organisationv1.CreateOrganisationRequest) (*organisationv1.CreateOrganisationResponse, error) {
	secret, hash := NewSecret()
	result, token, err := s.write(ctx, &fsm.CreateOrganisation{
		Organisation: NewID(), Name: req.Name, BuiltIn: NewID(), Project: NewID(), ProjectName: defaultProject,
		Key: NewID(), KeyName: ownerKeyName, KeyHash: hash,
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
	state, o, err := s.readOrganisation(ctx, req)
	if err != nil {
		return nil, err
	}
	return &organisationv1.GetOrganisationResponse{Organisation: organisationMessage(o), Token: s.tokenOf(state)}, nil
}

// ListOrganisations returns a page of all organisations, by id.
func (s *Server) ListOrganisations(ctx context.Context, req *organisationv1.ListOrganisationsRequest) (*organisationv1.ListOrganisationsResponse, error) {
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
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
