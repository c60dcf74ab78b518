package server

import (
	"context"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

func keyMessage(k *fsm.Key) *organisationv1.APIKey {
	return &organisationv1.APIKey{
		Id: k.ID.String(), Name: k.Name, CreatedAt: timestamp(k.Created), Invalidated: k.Invalidated, ProjectName: k.Project,
	}
}

// CreateAPIKey creates a key of a project. Its secret is in this answer and
// nowhere else.
func (s *Server) CreateAPIKey(ctx context.Context, req *organisationv1.CreateAPIKeyRequest) (*organisationv1.CreateAPIKeyResponse, error) {
	c := callOf(ctx)
	v, err := c.project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	secret, hash := c.origin.seed.secret()
	command := &fsm.CreateKey{Scope: v.scope(), ID: c.origin.seed.id("key"), Name: req.Name, Hash: hash, Operator: req.Operator}
	if req.Role != "" {
		builtIn, err := c.project(fsm.BuiltInProject)
		if err != nil {
			return nil, err
		}
		role, err := builtIn.role(req.Role)
		if err != nil {
			return nil, err
		}
		command.Role = role.ID
	}
	result, token, err := s.write(ctx, command)
	if err != nil {
		return nil, err
	}
	key := keyMessage(result.Key)
	key.Key, key.Operator = secret, req.Operator
	return &organisationv1.CreateAPIKeyResponse{ApiKey: key, Token: token}, nil
}

// ListAPIKeys returns a page of a project's keys, by name, the invalidated ones
// too.
func (s *Server) ListAPIKeys(ctx context.Context, req *organisationv1.ListAPIKeysRequest) (*organisationv1.ListAPIKeysResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	list := v.listing("keys", req.GetSearch())
	limit, behind, err := list.page(v.state, req.Pagination)
	if err != nil {
		return nil, err
	}
	match := matches(req.GetSearch())
	taken, more := page(v.Keys(behind), limit,
		func(k *fsm.Key) bool { return match(k.Name) },
		func(k *fsm.Key) int { return fieldBytes + len(k.Name) })
	resp := &organisationv1.ListAPIKeysResponse{Pagination: &paginationv1.PaginationResponse{}, Token: s.tokenOf(v.state)}
	for _, k := range taken {
		key := keyMessage(k)
		key.Operator = v.state.IsOperator(k.ID)
		resp.ApiKeys = append(resp.ApiKeys, key)
	}
	if more {
		last := taken[len(taken)-1]
		resp.Pagination.NextCursor = list.cursor(v.state, fsm.KeyPlace(last.Name, last.ID))
	}
	return resp, nil
}

// InvalidateAPIKey ends a key at once. One that was invalidated before is no
// error.
func (s *Server) InvalidateAPIKey(ctx context.Context, req *organisationv1.InvalidateAPIKeyRequest) (*organisationv1.InvalidateAPIKeyResponse, error) {
	v, err := callOf(ctx).project(req.ProjectName)
	if err != nil {
		return nil, err
	}
	id, ok := fsm.ParseID(req.Id)
	if !ok {
		return nil, invalid("invalid key id %s: the list of keys has the ids", quote(req.Id))
	}
	_, token, err := s.write(ctx, &fsm.InvalidateKey{Scope: v.scope(), ID: id})
	if err != nil {
		return nil, err
	}
	s.wakeSweeper()
	return &organisationv1.InvalidateAPIKeyResponse{Token: token}, nil
}

// WhoAmI tells a caller about its own key and a page of what it was granted.
func (s *Server) WhoAmI(ctx context.Context, req *organisationv1.WhoAmIRequest) (*organisationv1.WhoAmIResponse, error) {
	c := callOf(ctx)
	state := c.state
	builtIn, err := c.project(fsm.BuiltInProject)
	if err != nil {
		return nil, err
	}
	list := builtIn.listing("whoami", c.actor())
	limit, behind, err := list.page(state, req.Pagination)
	if err != nil {
		return nil, err
	}
	taken, more := page(builtIn.Assignments(c.actor(), behind), limit,
		func(fsm.Assignment) bool { return true },
		func(a fsm.Assignment) int { return fieldBytes + len(a.URI) + weighPermissions(a.Permissions) })
	key := keyMessage(c.key)
	key.Operator = state.IsOperator(c.key.ID)
	resp := &organisationv1.WhoAmIResponse{
		ApiKey: key, Principal: c.actor(), Organisation: organisationMessage(c.organisation), ProjectName: c.key.Project, Operator: key.Operator,
		Pagination: &paginationv1.PaginationResponse{}, Token: s.tokenOf(state),
	}
	for _, a := range taken {
		granted := &organisationv1.Assignment{ResourceUri: a.URI}
		for _, p := range a.Permissions {
			granted.Permissions = append(granted.Permissions, p.Name)
		}
		for _, r := range a.Roles {
			granted.Roles = append(granted.Roles, r.Name)
		}
		resp.Assignments = append(resp.Assignments, granted)
	}
	if more {
		resp.Pagination.NextCursor = list.cursor(state, taken[len(taken)-1].URI)
	}
	return resp, nil
}
