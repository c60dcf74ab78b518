package fsm

import (
	"crypto/sha256"
	"iter"
	"math/bits"
	"strings"
)

// Roles of the built-in project.
const (
	RoleOwner  = "owner"
	RoleEditor = "editor"
	RoleViewer = "viewer"
)

// A builtIn is a permission or role of the built-in project.
type builtIn struct {
	name        string
	description string
	grants      []string // of a role; nil of a permission
}

// builtIns are the permissions and roles of every organisation's built-in
// project. Their place here is their number, which logs and snapshots keep: the
// list is append-only, and what it gains needs a new level.
var builtIns = []builtIn{
	{name: "permission.create", description: "Create permissions"},
	{name: "permission.get", description: "See a permission, and put it into roles and grants"},
	{name: "permission.update", description: "Describe a permission anew, and rename it"},
	{name: "permission.delete", description: "Delete permissions"},
	{name: "permission.list", description: "List permissions"},
	{name: "role.create", description: "Create roles"},
	{name: "role.get", description: "See a role, and grant it"},
	{name: "role.update", description: "Change what a role holds, and rename it"},
	{name: "role.delete", description: "Delete roles"},
	{name: "role.list", description: "List roles"},
	{name: "principal.assignment.create", description: "Grant to a principal"},
	{name: "principal.assignment.delete", description: "Revoke on a resource"},
	{name: "principal.assignment.get", description: "See what was granted on a resource"},
	{name: "principal.assignment.list", description: "List what was granted to a principal"},
	{name: "principal.list", description: "List principals"},
	{name: "organisation.get", description: "See the organisation"},
	{name: "organisation.update", description: "Rename the organisation"},
	{name: "project.create", description: "Create projects"},
	{name: "project.get", description: "See and list projects"},
	{name: "project.delete", description: "Delete projects"},
	{name: "apiKeys.create", description: "Create API keys"},
	{name: "apiKeys.list", description: "List API keys"},
	{name: "apiKeys.invalidate", description: "Invalidate API keys"},
	{name: "usage.get", description: "See the organisation's usage"},
	{name: "audit.get", description: "Read the organisation's audit trail"},
	{name: RoleOwner, description: "Everything, later permissions included", grants: []string{"*"}},
	{name: RoleEditor, description: "Change permissions, roles and grants, and see everything but the audit trail", grants: []string{
		"permission.*", "role.*", "principal.*", "organisation.get", "project.get", "apiKeys.list", "usage.get",
	}},
	{name: RoleViewer, description: "See everything but the audit trail", grants: []string{
		"permission.get", "permission.list", "role.get", "role.list", "principal.list", "principal.assignment.get",
		"principal.assignment.list", "organisation.get", "project.get", "apiKeys.list", "usage.get",
	}},
}

// builtInCatalogue is what all organisations share.
type builtInCatalogue struct {
	permissions catalogue[*Permission]
	roles       catalogue[*Role]
	numbers     number                   // given out
	named       map[string]permissionSet // one permission by name
	granted     map[number]permissionSet // by a number of a permission or role
	owner       *Role
}

// A permissionSet holds built-in permissions, one bit for each place in
// builtIns, and ownership.
type permissionSet uint64

// ownership is what an owner holds beside the permissions that there are today:
// those to come. So nobody becomes one by holding each of today's.
const ownership permissionSet = 1 << 63

// builtInProject is never changed.
var builtInProject = newBuiltInCatalogue()

func newBuiltInCatalogue() *builtInCatalogue {
	c := &builtInCatalogue{named: map[string]permissionSet{}, granted: map[number]permissionSet{}, numbers: number(len(builtIns))}
	c.permissions, c.roles = c.permissions.copy(), c.roles.copy()
	for place, b := range builtIns {
		if b.grants == nil {
			n := number(2 * place)
			c.permissions.put(&Permission{builtInID("permission", b.name), b.name, b.description, n})
			c.named[b.name], c.granted[n] = 1<<place, 1<<place
		}
	}
	for place, b := range builtIns {
		if b.grants == nil {
			continue
		}
		role := &Role{ID: builtInID("role", b.name), Name: b.name, Description: b.description, number: number(2*place + 1)}
		for p := range c.permissions.behind("") {
			if b.includes(p.Name) {
				role.permissions = append(role.permissions, p.number)
				c.granted[role.number] |= c.granted[p.number]
			}
		}
		role.permissions = makeRights(role.permissions).numbers() // in order
		c.roles.put(role)
	}
	c.owner, _ = c.roles.byName(RoleOwner)
	c.granted[c.owner.number] |= ownership
	return c
}

func (b builtIn) includes(permission string) bool {
	for _, g := range b.grants {
		if g == permission || strings.HasSuffix(g, "*") && strings.HasPrefix(permission, strings.TrimSuffix(g, "*")) {
			return true
		}
	}
	return false
}

// builtInID is the same in every organisation and every cluster: it is no
// secret, and nothing is ever created under it.
func builtInID(kind, name string) ID {
	sum := sha256.Sum256([]byte("remit built-in " + kind + " " + name))
	id := ID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // a UUID of version 8: of our own making
	return id
}

// setOf is what assignments in the built-in project grant together.
func (c *builtInCatalogue) setOf(assignments iter.Seq2[string, string]) (set permissionSet) {
	for _, value := range assignments {
		n := number(0)
		for r := rights(value); r != ""; {
			n, r = r.next(n)
			set |= c.granted[n]
		}
	}
	return set
}

// denied is the error of who lacks the set, which must not be empty, on a resource.
func (s permissionSet) denied(resource string) *Error {
	if s&ownership != 0 {
		return errorf(CodePermissionDenied, "Permission denied: missing required role '%s' on resource '%s'", RoleOwner, excerpt(resource))
	}
	return Denied(builtIns[bits.TrailingZeros64(uint64(s))].name, resource)
}

// newBuiltInProject returns the project in which an organisation keeps the
// rights to itself.
func newBuiltInProject(id ID, created int64) *Project {
	return &Project{
		ID: id, Name: BuiltInProject, Created: created,
		permissions: builtInProject.permissions, roles: builtInProject.roles, numbers: builtInProject.numbers,
	}
}

// IsBuiltIn reports whether this is the project in which the organisation keeps
// the rights to itself: its permissions and roles cannot be changed.
func (p *Project) IsBuiltIn() bool { return p.Name == BuiltInProject }

// ManagementPermissions yields the permissions of the built-in project with
// their descriptions, in the order in which documentation lists them.
func ManagementPermissions() iter.Seq2[string, string] {
	return func(yield func(name, description string) bool) {
		for _, b := range builtIns {
			if b.grants == nil && !yield(b.name, b.description) {
				return
			}
		}
	}
}

// BuiltInRole returns the permissions of a built-in role, by name.
func BuiltInRole(name string) (permissions []*Permission, ok bool) {
	role, ok := builtInProject.roles.byName(name)
	if !ok {
		return nil, false
	}
	return builtInProject.permissions.live(role.permissions), true
}
