package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// world is the naive truth about who may do what: organisations with their
// projects and keys, and a model of each project. What ends is forgotten at once,
// and every question is a scan.
type world struct {
	organisations map[ID]*worldOrganisation
	operators     map[ID]bool
	keys          map[ID]*worldKey // all that ever were
	permissionIDs map[string]ID    // of the built-in project, by name
	roleIDs       map[string]ID
	level         uint32
}

type worldOrganisation struct {
	id       ID
	name     string
	projects map[ID]*worldProject
	ending   []worldEnding
}

type worldProject struct {
	id    ID
	name  string
	model *model
}

type worldKey struct {
	id, organisation, project ID
	hash                      [32]byte
	invalidated               bool
}

// A worldEnding is how many grants of a deleted project are yet to be removed.
type worldEnding struct {
	uri  string
	left int
}

// worldPermissions and worldRoles are written down here once more, as the
// documentation has them.
var (
	worldPermissions = strings.Fields(`
		permission.create permission.get permission.update permission.delete permission.list
		role.create role.get role.update role.delete role.list
		principal.assignment.create principal.assignment.delete principal.assignment.get principal.assignment.list principal.list
		organisation.get organisation.update project.create project.get project.delete
		apiKeys.create apiKeys.list apiKeys.invalidate usage.get audit.get`)
	worldRoles = map[string][]string{
		"owner": worldPermissions,
		"editor": strings.Fields(`
			permission.create permission.get permission.update permission.delete permission.list
			role.create role.get role.update role.delete role.list
			principal.assignment.create principal.assignment.delete principal.assignment.get principal.assignment.list principal.list
			organisation.get project.get apiKeys.list usage.get`),
		"viewer": strings.Fields(`
			permission.get permission.list role.get role.list principal.assignment.get principal.assignment.list principal.list
			organisation.get project.get apiKeys.list usage.get`),
	}
)

// newWorld starts as the cluster does. Only ids and the level are read from the
// state.
func newWorld(s *State, c *CreateOrganisation) *world {
	w := &world{map[ID]*worldOrganisation{}, map[ID]bool{c.Key: true}, map[ID]*worldKey{}, map[string]ID{}, map[string]ID{}, s.Level}
	o, _ := s.Organisation(c.Organisation)
	p, _ := o.Project("remit")
	for _, name := range worldPermissions {
		permission, _ := p.Permission(name)
		w.permissionIDs[name] = permission.ID
	}
	for name := range worldRoles {
		role, _ := p.Role(name)
		w.roleIDs[name] = role.ID
	}
	w.addOrganisation(c)
	return w
}

func (w *world) addOrganisation(c *CreateOrganisation) {
	builtIn := &worldProject{c.BuiltIn, "remit", newModel()}
	for name, id := range w.permissionIDs {
		builtIn.model.permissions[id] = name
	}
	for name, id := range w.roleIDs {
		role := &modelRole{name, map[ID]bool{}}
		for _, permission := range worldRoles[name] {
			role.permissions[w.permissionIDs[permission]] = true
		}
		builtIn.model.roles[id] = role
	}
	builtIn.model.grant(&Grant{Principal: "key:" + c.Key.String(), URI: rootOf(c.Organisation), Roles: []ID{w.roleIDs["owner"]}})
	w.organisations[c.Organisation] = &worldOrganisation{c.Organisation, c.Name, map[ID]*worldProject{
		c.BuiltIn: builtIn,
		c.Project: {c.Project, c.ProjectName, newModel()},
	}, nil}
	w.keys[c.Key] = &worldKey{c.Key, c.Organisation, c.BuiltIn, c.KeyHash, false}
}

func rootOf(organisation ID) string { return "/organisation/" + organisation.String() }

func (o *worldOrganisation) named(name string) *worldProject {
	for _, p := range o.projects {
		if p.name == name {
			return p
		}
	}
	return nil
}

// isEnding reports whether grants of a deleted project are left that would be
// those of the URI.
func (o *worldOrganisation) isEnding(uri string) bool {
	return slices.ContainsFunc(o.ending, func(e worldEnding) bool { return uri == e.uri || strings.HasPrefix(uri, e.uri+"/") })
}

// project finds where a command belongs.
func (w *world) project(s Scope) (*worldOrganisation, *worldProject, bool) {
	o := w.organisations[s.Organisation]
	if o == nil {
		return nil, nil, false
	}
	p := o.projects[s.Project]
	return o, p, p != nil
}

func (w *world) living(key *worldKey) bool {
	_, _, ok := w.project(Scope{key.organisation, key.project})
	return ok && !key.invalidated
}

// keyOf returns the living key of the organisation that a principal is.
func (w *world) keyOf(o *worldOrganisation, principal string) *worldKey {
	for _, k := range w.keys {
		if k.organisation == o.id && principal == "key:"+k.id.String() && w.living(k) {
			return k
		}
	}
	return nil
}

// holds reports whether a principal holds a management permission on a URI.
func (w *world) holds(o *worldOrganisation, principal, permission, uri string) bool {
	return o.named("remit").model.holds(principal, segmentsOf(uri, true), permission)
}

// may reports whether who sent a command holds a management permission; the
// cluster itself may do anything.
func (w *world) may(e *Envelope, permission, uri string) bool {
	key := w.keys[e.Key]
	return e.Key == (ID{}) || w.holds(w.organisations[key.organisation], "key:"+key.id.String(), permission, uri)
}

// judge is what every command with an actor goes through; within is where the
// command acts, nil for those that are no organisation's.
func (w *world) judge(e *Envelope, within *Scope) Code {
	if e.Key == (ID{}) {
		return 0
	}
	key := w.keys[e.Key]
	if key == nil || !w.living(key) {
		return CodeUnauthenticated
	}
	if within != nil {
		_, p, _ := w.project(Scope{key.organisation, key.project})
		if key.organisation != within.Organisation || p.name != "remit" && key.project != within.Project {
			return CodePermissionDenied
		}
	}
	for _, r := range e.Requires {
		for _, suffix := range r.Suffixes {
			if !w.may(e, r.Permission, r.Prefix+suffix) {
				return CodePermissionDenied
			}
		}
	}
	return 0
}

// owns reports whether who sent a command has the role of an owner on a URI; the
// cluster itself has.
func (w *world) owns(e *Envelope, o *worldOrganisation, uri string) bool {
	if e.Key == (ID{}) {
		return true
	}
	// A model in which the role is all that counts.
	m := &model{map[ID]string{w.roleIDs["owner"]: "owner"}, nil, o.named("remit").model.grants}
	return m.holds("key:"+e.Key.String(), segmentsOf(uri, true), "owner")
}

// mayEndOwner reports whether who sent a command may take the organisation from
// a key that owns it.
func (w *world) mayEndOwner(e *Envelope, o *worldOrganisation, k *worldKey) bool {
	if w.operators[k.id] {
		return w.isOperator(e)
	}
	return w.owns(e, o, rootOf(o.id))
}

// mayName reports whether who sent a command holds a management permission on
// each of some permissions of a project, by its name of now.
func (w *world) mayName(e *Envelope, o *worldOrganisation, p *worldProject, management string, ids ...ID) bool {
	for _, id := range ids {
		if name, ok := p.model.permissions[id]; ok && !w.may(e, management, rootOf(o.id)+"/permission/"+name) {
			return false
		}
	}
	return true
}

// mayGrant is the rule of the built-in project: within the organisation, nothing
// that the actor does not hold there himself, not on what is being deleted, and a
// thousand URIs for one principal.
func (w *world) mayGrant(e *Envelope, o *worldOrganisation, principal, uri string, permissions, roles []ID) Code {
	if root := rootOf(o.id); uri != root && !strings.HasPrefix(uri, root+"/") {
		return CodePermissionDenied
	}
	m := o.named("remit").model
	for _, id := range roles {
		for permission := range m.roles[id].permissions {
			permissions = append(permissions[:len(permissions):len(permissions)], permission)
		}
	}
	for _, id := range permissions {
		if !w.may(e, m.permissions[id], uri) {
			return CodePermissionDenied
		}
	}
	if slices.Contains(roles, w.roleIDs["owner"]) && !w.owns(e, o, uri) {
		return CodePermissionDenied
	}
	if o.isEnding(uri) {
		return CodeUnavailable
	}
	held := 0
	for key := range m.grants {
		if key[0] == principal {
			held++
		}
	}
	if m.grants[[2]string{principal, uri}] == nil && held >= 1000 {
		return CodeResourceExhausted
	}
	return 0
}

// owners are the keys that own an organisation: valid ones of its built-in
// project with the role on exactly its URI.
func (w *world) owners(o *worldOrganisation) (owners []ID) {
	builtIn := o.named("remit")
	if builtIn == nil {
		return nil
	}
	for id, k := range w.keys {
		if w.living(k) && k.project == builtIn.id && builtIn.model.grants[[2]string{"key:" + id.String(), rootOf(o.id)}][w.roleIDs["owner"]] {
			owners = append(owners, id)
		}
	}
	slices.SortFunc(owners, ID.compare)
	return owners
}

// forgetPrincipal takes away all that a principal holds in the built-in project.
func (o *worldOrganisation) forgetPrincipal(principal string) {
	m := o.named("remit").model
	for key := range m.grants {
		if key[0] == principal {
			delete(m.grants, key)
		}
	}
}

// sweep goes on with what is ending, at most limit grants.
func (o *worldOrganisation) sweep(limit int) {
	for len(o.ending) > 0 && limit > 0 {
		n := min(o.ending[0].left, limit)
		limit -= n
		if o.ending[0].left -= n; o.ending[0].left == 0 {
			o.ending = o.ending[1:]
		}
	}
}

// rows is all that there is, as text. What the keys of deleted projects were
// granted is left out, as well as who was granted many things at once: the state
// removes both by and by.
func (w *world) rows() []string {
	var rows []string
	for _, o := range w.organisations {
		rows = append(rows, fmt.Sprintf("%s is %s, of %d owners", o.id, o.name, len(w.owners(o))))
		for _, p := range o.projects {
			for _, k := range w.keys {
				if k.project == p.id {
					rows = append(rows, fmt.Sprintf("%s %s key %s invalidated %v operator %v", o.id, p.name, k.id, k.invalidated, w.operators[k.id]))
				}
			}
			for _, row := range p.model.rows() {
				rows = append(rows, fmt.Sprintf("%s %s: %s", o.id, p.name, row))
			}
		}
	}
	slices.Sort(rows)
	return slices.DeleteFunc(rows, func(row string) bool { return strings.Contains(row, ": bulk") })
}
