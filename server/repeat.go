package server

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// content is a fingerprint of what the call asks for, whichever of its names the
// method was called by.
func (c *call) content() uint64 {
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.request.(proto.Message))
	if err != nil { // a request that was received can be sent
		request = []byte(err.Error())
	}
	sum := sha256.Sum256(append([]byte(methodOf(c.method)+"\n"), request...))
	return binary.BigEndian.Uint64(sum[:8])
}

// repeated is the error of a write that the log had applied before.
type repeated struct{ memory fsm.Memory }

func (e *repeated) Error() string {
	return fmt.Sprintf("the request was applied before, at revision %d", e.memory.Revision)
}

// recall answers a write that was applied before, whatever its names and rights
// have come to mean since: by what it came to, and by the request, which is the
// same. How things are now it tells only whoever might make the call now. Not every request can be answered so; the others go to their handler,
// and the log recognises the repetition.
func (c *call) recall(m fsm.Memory) (resp any, ok bool, err error) {
	t := token{c.state.Cluster, c.state.Epoch, m.Revision}.String()
	resp, ok, err = c.answerAgain(m.ID, t)
	if !ok {
		return nil, false, nil
	}
	c.settled = true
	if m.Content != 0 && m.Content != c.content() { // 0 of a command from before the level had it
		return nil, true, invalid("%s %x was used for another request: draw a new one", metadataRequestID, c.origin.request[:])
	}
	c.token = t
	if m.Err != nil {
		return nil, true, m.Err
	}
	return resp, true, err
}

// answerAgain answers a request that created or changed the record of this id.
func (c *call) answerAgain(id fsm.ID, token string) (resp any, ok bool, err error) {
	organisation := c.organisation.ID.String()
	switch req := c.request.(type) {
	case *permissionsv1.CreatePermissionRequest:
		resp = &permissionsv1.CreatePermissionResponse{
			Id: id.String(), OrganisationId: organisation, Name: req.Name, Description: req.Description, ProjectName: req.ProjectName, Token: token,
		}
	case *permissionsv1.UpdatePermissionRequest:
		resp = &permissionsv1.UpdatePermissionResponse{
			Id: id.String(), OrganisationId: organisation, Name: c.permissionNameOf(req, id), Description: req.Description,
			ProjectName: req.ProjectName, Token: token,
		}
	case *permissionsv1.DeletePermissionRequest:
		resp = &permissionsv1.DeletePermissionResponse{Token: token}
	case *permissionsv1.CreateRoleRequest:
		resp = &permissionsv1.CreateRoleResponse{
			Id: id.String(), OrganisationId: organisation, Name: req.Name, Description: req.Description,
			Permissions: c.permissionsOf(req), ProjectName: req.ProjectName, Token: token,
		}
	case *permissionsv1.UpdateRoleRequest:
		resp = &permissionsv1.UpdateRoleResponse{
			Id: id.String(), OrganisationId: organisation, Name: c.roleNameOf(req, id), Description: req.Description,
			Permissions: c.permissionsOf(req), ProjectName: req.ProjectName, Token: token,
		}
	case *permissionsv1.DeleteRoleRequest:
		resp = &permissionsv1.DeleteRoleResponse{Token: token}
	case *permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest:
		resp = &permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse{Token: token}
	case *permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest:
		resp = &permissionsv1.RevokeUserPermissionsAndRolesOnResourceResponse{Token: token}
	case *organisationv1.CreateOrganisationRequest:
		resp, err = c.createdOrganisation(id, token)
	case *organisationv1.UpdateOrganisationRequest:
		o := organisationMessage(c.organisation)
		o.Name = req.Name
		resp = &organisationv1.UpdateOrganisationResponse{Organisation: o, Token: token}
	case *organisationv1.DeleteOrganisationRequest:
		resp = &organisationv1.DeleteOrganisationResponse{Token: token}
	case *organisationv1.CreateProjectRequest:
		p := &organisationv1.Project{OrganisationId: organisation, Name: req.Name}
		if found, ok := c.organisation.Project(req.Name); ok && found.ID == id && c.mayLook() {
			p = projectMessage(c.organisation.ID, found)
		}
		resp = &organisationv1.CreateProjectResponse{Project: p, Token: token}
	case *organisationv1.DeleteProjectRequest:
		resp = &organisationv1.DeleteProjectResponse{Token: token}
	case *organisationv1.CreateAPIKeyRequest:
		resp, err = c.createdKey(req, id, token)
	case *organisationv1.InvalidateAPIKeyRequest:
		resp = &organisationv1.InvalidateAPIKeyResponse{Token: token}
	default:
		return nil, false, nil
	}
	return resp, true, err
}

// mayLook reports whether the caller might make the call now, at the call's state.
func (c *call) mayLook() bool {
	_, err := c.authorize()
	return err == nil
}

// lookAt is the project for whoever might make the call now.
func (c *call) lookAt(project string) (view, bool) {
	if !c.mayLook() {
		return view{}, false
	}
	v, err := c.project(project)
	return v, err == nil
}

// permissionNameOf is the name that an update led to: its own, or the one that the
// permission has, if it is still there.
func (c *call) permissionNameOf(req *permissionsv1.UpdatePermissionRequest, id fsm.ID) string {
	if req.NewName != "" {
		return req.NewName
	}
	if v, ok := c.lookAt(req.ProjectName); ok {
		if p, ok := v.Permission(id.String()); ok {
			return p.Name
		}
	}
	return req.Name
}

func (c *call) roleNameOf(req *permissionsv1.UpdateRoleRequest, id fsm.ID) string {
	if req.Name != "" {
		return req.Name
	}
	if v, ok := c.lookAt(req.ProjectName); ok {
		if r, ok := v.Role(id.String()); ok {
			return r.Name
		}
	}
	return req.Id
}

// permissionsOf are the permissions that a role was given: as they are now, or by
// name alone.
func (c *call) permissionsOf(req interface {
	GetProjectName() string
	GetPermissions() []string
}) (all []*permissionsv1.Permission) {
	v, look := c.lookAt(req.GetProjectName())
	for _, name := range req.GetPermissions() {
		message := &permissionsv1.Permission{Name: name, OrganisationId: c.organisation.ID.String(), ProjectName: req.GetProjectName()}
		if look {
			if p, ok := v.Permission(name); ok {
				message = v.permissionMessage(p)
			}
		}
		all = append(all, message)
	}
	byName := func(a, b *permissionsv1.Permission) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(all, byName)
	return slices.CompactFunc(all, func(a, b *permissionsv1.Permission) bool { return byName(a, b) == 0 })
}

// createdKey tells the secret of a key only to the call that created it, in
// whichever attempt: the same seed drew it.
func (c *call) createdKey(req *organisationv1.CreateAPIKeyRequest, id fsm.ID, token string) (any, error) {
	secret, hash := c.origin.seed.secret()
	k, _, ok := c.state.Key(hash)
	if !ok || k.ID != id {
		return nil, status.Errorf(codes.AlreadyExists, "this request created key %s before, and its secret was in the answer then: "+
			"if that is lost, invalidate the key and create another with a new %s", id, metadataRequestID)
	}
	key := keyMessage(k)
	key.Key, key.Operator = secret, req.Operator
	return &organisationv1.CreateAPIKeyResponse{ApiKey: key, Token: token}, nil
}

func (c *call) createdOrganisation(id fsm.ID, token string) (any, error) {
	secret, hash := c.origin.seed.secret()
	k, o, ok := c.state.Key(hash)
	if !ok || o.ID != id {
		return nil, status.Errorf(codes.AlreadyExists, "this request created organisation %s before, and the secret of its key was in the answer then: "+
			"if that is lost, delete the organisation and create another with a new %s", id, metadataRequestID)
	}
	key := keyMessage(k)
	key.Key = secret
	return &organisationv1.CreateOrganisationResponse{Organisation: organisationMessage(o), ApiKey: key, Token: token}, nil
}
