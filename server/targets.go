package server

import (
	"strings"

	"github.com/remit-io/remit/fsm"
)

// What rights are needed on. The URIs are built from single segments, whatever
// text a request holds.
var (
	organisation = target{path: "/organisation/{org}", expand: func(c *call, req any) []place {
		return at(c.root(req))
	}}

	organisationInPath = target{path: "/organisation/{id}", expand: func(c *call, req any) []place {
		return at(c.rootOf(req.(interface{ GetId() string }).GetId()))
	}}

	projectInPath = target{path: "/organisation/{org}/project/{project}", expand: func(c *call, req any) []place {
		return at(c.root(req) + "/project/" + fsm.EscapeSegment(req.(interface{ GetProjectName() string }).GetProjectName()))
	}}

	permissionInPath = target{path: "/organisation/{org}/permission/{name}", expand: func(c *call, req any) []place {
		return c.each(req, "/permission", []string{req.(interface{ GetName() string }).GetName()}, permissionName)
	}}

	newPermissionName = target{path: "/organisation/{org}/permission/{new_name}", when: "when it is renamed", expand: func(c *call, req any) []place {
		r := req.(interface {
			GetName() string
			GetNewName() string
		})
		current := r.GetName()
		if p, ok := c.named(req); ok {
			current, _ = permissionName(p, current)
		}
		if name := r.GetNewName(); name != "" && name != current {
			return at(c.root(req) + "/permission/" + fsm.EscapeSegment(name))
		}
		return nil
	}}

	permissionsInBody = target{path: "/organisation/{org}/permission/{permission_name}", when: "for each permission", expand: func(c *call, req any) []place {
		return c.each(req, "/permission", req.(interface{ GetPermissions() []string }).GetPermissions(), permissionName)
	}}

	roleInPath = target{path: "/organisation/{org}/role/{id}", expand: func(c *call, req any) []place {
		return c.each(req, "/role", []string{req.(interface{ GetId() string }).GetId()}, roleID)
	}}

	newRoleName = target{path: "/organisation/{org}/role/{name}", when: "when it is renamed", expand: func(c *call, req any) []place {
		r := req.(interface {
			GetId() string
			GetName() string
		})
		current := ""
		if p, ok := c.named(req); ok {
			if role, ok := p.Role(r.GetId()); ok {
				current = role.Name
			}
		}
		if name := r.GetName(); name != "" && name != current {
			return at(c.root(req) + "/role/" + fsm.EscapeSegment(name))
		}
		return nil
	}}

	existingRole = target{path: "/organisation/{org}/role/{id}", when: "when a role of that name exists", expand: func(c *call, req any) []place {
		r := req.(interface {
			GetName() string
			GetDescription() string
		})
		// What is refused anyway must not tell whether there is such a role.
		if fsm.ValidateRoleName(r.GetName()) != nil || fsm.ValidateDescription(r.GetDescription()) != nil {
			return nil
		}
		if p, ok := c.named(req); ok {
			if role, ok := p.RoleNamed(r.GetName()); ok {
				root := c.root(req) + "/role/"
				return []place{{root + role.ID.String(), root + fsm.EscapeSegment(r.GetName())}}
			}
		}
		return nil
	}}

	rolesInBody = target{path: "/organisation/{org}/role/{role_id}", when: "for each role", expand: func(c *call, req any) []place {
		return c.each(req, "/role", req.(interface{ GetRoles() []string }).GetRoles(), roleID)
	}}

	user = target{path: "/organisation/{org}/principal/{user_id}", expand: func(c *call, req any) []place {
		return at(c.root(req) + "/principal/" + fsm.EscapeSegment(req.(interface{ GetUserId() string }).GetUserId()))
	}}

	principal = target{path: "/organisation/{org}/principal/{principal_id}", expand: func(c *call, req any) []place {
		return at(c.root(req) + "/principal/" + fsm.EscapeSegment(req.(interface{ GetPrincipalId() string }).GetPrincipalId()))
	}}

	resource = target{path: "/organisation/{org}/project/{project}/resource{resource_uri}", expand: func(c *call, req any) []place {
		r := req.(interface {
			GetProjectName() string
			GetResourceUri() string
		})
		uri := r.GetResourceUri()
		if !strings.HasPrefix(uri, "/") {
			uri = "/" + uri // is refused later; until then it must not end another segment
		}
		return at(c.root(req) + "/project/" + fsm.EscapeSegment(r.GetProjectName()) + "/resource" + strings.TrimSuffix(uri, "/"))
	}}
)

func at(uri string) []place { return []place{{uri, uri}} }

// root is the URI of the organisation that a request is about: the caller's own,
// unless it names another.
func (c *call) root(req any) string {
	if r, ok := req.(interface{ GetOrganisationId() string }); ok {
		return c.rootOf(r.GetOrganisationId())
	}
	return fsm.ManagementURI(c.organisation.ID)
}

func (c *call) rootOf(id string) string {
	if id == "" {
		return fsm.ManagementURI(c.organisation.ID)
	}
	return "/organisation/" + fsm.EscapeSegment(id)
}

// named returns the project that a request names.
func (c *call) named(req any) (*fsm.Project, bool) {
	return c.organisation.Project(req.(interface{ GetProjectName() string }).GetProjectName())
}

// each returns the kind's URI with each of the names, as the project resolves
// them. What a name that resolves to nothing would be on is not known, so it takes
// the right on all of the kind: one on the text itself would tell that there is
// no such thing. A call with more names than it may have is refused, so the rest
// do not matter.
func (c *call) each(req any, kind string, names []string, resolve func(*fsm.Project, string) (string, bool)) []place {
	p, ok := c.named(req)
	if !ok {
		p = new(fsm.Project)
	}
	root := c.root(req) + kind
	names = names[:min(len(names), fsm.MaxCallRights)]
	places := make([]place, 0, len(names))
	for _, name := range names {
		at := place{uri: root, sent: root + "/" + fsm.EscapeSegment(name)}
		if found, ok := resolve(p, name); ok {
			at.uri = root + "/" + fsm.EscapeSegment(found)
		}
		places = append(places, at)
	}
	return places
}

// permissionName and roleID return how a management URI names what a request
// names in either way. A permission's is its name, whether it exists or not.
func permissionName(p *fsm.Project, s string) (string, bool) {
	if permission, ok := p.Permission(s); ok {
		return permission.Name, true
	}
	_, isID := fsm.ParseID(s)
	return s, !isID
}

func roleID(p *fsm.Project, s string) (string, bool) {
	if role, ok := p.Role(s); ok {
		return role.ID.String(), true
	}
	_, isID := fsm.ParseID(s)
	return s, isID
}
