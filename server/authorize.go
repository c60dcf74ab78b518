package server

import (
	"strings"

	"github.com/remit-io/remit/fsm"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A right is a management permission and the resource that a call needs it on.
type right struct {
	permission string
	on         target
}

// A target is where a right is needed, in the caller's organisation: the path
// as documentation writes it, and the paths that a request asks for.
type target struct {
	path   string
	expand func(c *call, req any) []string
}

// public are the methods that need no key.
var public = map[string]bool{
	"Health/Check":                          true,
	"Health/List":                           true,
	"Health/Watch":                          true,
	"ServerReflection/ServerReflectionInfo": true,
}

// rights is what each method needs. A method without a row is denied.
var rights = map[string][]right{
	"PermissionsService/CreatePermission": {{"permission.create", organisation}},
	"PermissionsService/GetPermission":    {{"permission.get", permissionInPath}},
	"PermissionsService/UpdatePermission": {{"permission.update", permissionInPath}},
	"PermissionsService/DeletePermission": {{"permission.delete", permissionInPath}},
	"PermissionsService/ListPermissions":  {{"permission.list", organisation}},
	"PermissionsService/CreateRole":       {{"role.create", organisation}, {"permission.get", permissionsInBody}},
	"PermissionsService/GetRole":          {{"role.get", roleInPath}},
	"PermissionsService/UpdateRole":       {{"role.update", roleInPath}},
	"PermissionsService/DeleteRole":       {{"role.delete", roleInPath}},
	"PermissionsService/ListRoles":        {{"role.list", organisation}},
	"PermissionsService/GrantUserPermissionsAndRolesOnResource": {
		{"permission.get", permissionsInBody}, {"role.get", rolesInBody}, {"principal.assignment.create", user},
	},
	"PermissionsService/RevokeUserPermissionsAndRolesOnResource": {{"principal.assignment.delete", resource}},
	"PermissionsService/GetUserPermissionsAndRolesOnResource":    {{"principal.assignment.get", resource}},
	"PermissionsService/ListPrincipals":                          {{"principal.list", organisation}},
	"PermissionsService/GetAllAssignmentsForPrincipal":           {{"principal.assignment.list", principal}},
	"PermissionsService/Check":                                   nil, // a valid key is enough
}

var (
	organisation = target{"/organisation/{org}", func(*call, any) []string { return []string{""} }}

	permissionInPath = target{"/organisation/{org}/permission/{name}", func(c *call, req any) []string {
		r := req.(interface {
			GetProjectName() string
			GetName() string
		})
		return c.each(r.GetProjectName(), "/permission/", []string{r.GetName()}, permissionName)
	}}

	permissionsInBody = target{"/organisation/{org}/permission/{permission_name}", func(c *call, req any) []string {
		r := req.(interface {
			GetProjectName() string
			GetPermissions() []string
		})
		return c.each(r.GetProjectName(), "/permission/", r.GetPermissions(), permissionName)
	}}

	roleInPath = target{"/organisation/{org}/role/{id}", func(c *call, req any) []string {
		r := req.(interface {
			GetProjectName() string
			GetId() string
		})
		return c.each(r.GetProjectName(), "/role/", []string{r.GetId()}, roleID)
	}}

	rolesInBody = target{"/organisation/{org}/role/{role_id}", func(c *call, req any) []string {
		r := req.(interface {
			GetProjectName() string
			GetRoles() []string
		})
		return c.each(r.GetProjectName(), "/role/", r.GetRoles(), roleID)
	}}

	user = target{"/organisation/{org}/principal/{user_id}", func(c *call, req any) []string {
		return []string{"/principal/" + escapeSegment(req.(interface{ GetUserId() string }).GetUserId())}
	}}

	principal = target{"/organisation/{org}/principal/{principal_id}", func(c *call, req any) []string {
		return []string{"/principal/" + escapeSegment(req.(interface{ GetPrincipalId() string }).GetPrincipalId())}
	}}

	resource = target{"/organisation/{org}/project/{project}/resource{resource_uri}", func(c *call, req any) []string {
		r := req.(interface {
			GetProjectName() string
			GetResourceUri() string
		})
		return []string{"/project/" + escapeSegment(r.GetProjectName()) + "/resource" + strings.TrimSuffix(r.GetResourceUri(), "/")}
	}}
)

// each returns the prefix with each of the names, as the project resolves them.
// A call with more names than it may have is refused, so the rest do not matter.
func (c *call) each(project, prefix string, names []string, resolve func(*fsm.Project, string) string) []string {
	p, ok := c.organisation.Project(project)
	names = names[:min(len(names), fsm.MaxCallRights)]
	paths := make([]string, 0, len(names))
	for _, name := range names {
		if ok {
			name = resolve(p, name)
		}
		paths = append(paths, prefix+escapeSegment(name))
	}
	return paths
}

// permissionName and roleID return how a management URI names what a request
// names in either way.
func permissionName(p *fsm.Project, s string) string {
	if permission, ok := p.Permission(s); ok {
		return permission.Name
	}
	return s
}

func roleID(p *fsm.Project, s string) string {
	if role, ok := p.Role(s); ok {
		return role.ID.String()
	}
	return s
}

// escapeSegment makes one segment of a management URI of any text.
func escapeSegment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return segmentEscapes.Replace(s)
}

var segmentEscapes = strings.NewReplacer("%", "%25", "/", "%2F", "*", "%2A")

// methodOf returns "Service/Method": a service may be registered under more than
// one package.
func methodOf(fullMethod string) string {
	service := fullMethod[:max(strings.LastIndexByte(fullMethod, '/'), 0)]
	return strings.TrimPrefix(fullMethod[strings.LastIndexByte(service, '.')+1:], "/")
}

// authorize is the one point where a call is allowed or denied. It returns the
// rights that the call needs, for the command to carry.
func authorize(c *call, fullMethod string, req any) ([]fsm.Requirement, error) {
	needed, ok := rights[methodOf(fullMethod)]
	if !ok {
		return nil, status.Errorf(codes.PermissionDenied, "Permission denied: method '%s' is not open to anyone", fullMethod)
	}
	if len(needed) == 0 {
		return nil, nil
	}
	prefix := "/organisation/" + c.organisation.ID.String()
	requires := make([]fsm.Requirement, 0, len(needed))
	for _, r := range needed {
		paths := r.on.expand(c, req)
		for _, p := range paths {
			if !holds(c.key, r.permission, prefix+p) {
				return nil, status.Errorf(codes.PermissionDenied,
					"Permission denied: missing required permission '%s' on resource '%s'", r.permission, prefix+p)
			}
		}
		if len(paths) > 0 {
			requires = append(requires, fsm.Requirement{Permission: r.permission, Prefix: prefix, Suffixes: paths})
		}
	}
	return requires, nil
}

// holds reports whether a key has a management right. The root key, the only
// one there is, owns the organisation that came with the cluster.
func holds(key *fsm.Key, _, _ string) bool { return key.Operator }
