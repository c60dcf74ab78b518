package fsm

import (
	"math"
	"slices"

	"github.com/remit-io/remit/index"
)

// A Result is what a command came to, on every node the same.
type Result struct {
	Err        *Error // the command changed nothing
	Permission *Permission
	Role       *Role
	Granted    []*Permission // the permissions of Role, by name
}

func failed(err *Error) Result { return Result{Err: err} }

// A batch makes the next state from one, for any number of commands. What the
// commands touch is copied once.
type batch struct {
	state    State
	projects map[Scope]*draft
}

// A draft is a project that the batch may change.
type draft struct {
	Project
	builder *index.Builder
}

func newBatch(s *State) *batch {
	return &batch{state: *s, projects: map[Scope]*draft{}}
}

// finish returns the state after the command at this revision.
func (b *batch) finish(revision uint64) *State {
	if len(b.projects) > 0 {
		b.state.organisations = b.state.organisations.copy()
	}
	for scope, d := range b.projects {
		d.assignments = d.builder.Index()
		organisation := *must(b.state.Organisation(scope.Organisation))
		organisation.projects = organisation.projects.copy()
		project := d.Project
		organisation.projects.tree.Set(project.Name, &project)
		b.state.organisations.tree.Set(organisation.ID.key(), &organisation)
	}
	b.state.Revision = revision
	next := b.state
	return &next
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("fsm: a record that was found before is gone")
	}
	return v
}

// project returns the draft of a project.
func (b *batch) project(scope Scope) (*draft, *Error) {
	if d, ok := b.projects[scope]; ok {
		return d, nil
	}
	if o, ok := b.state.Organisation(scope.Organisation); ok {
		for p := range o.Projects() {
			if p.ID != scope.Project {
				continue
			}
			d := &draft{Project: *p, builder: p.assignments.Build()}
			d.permissions, d.roles = p.permissions.copy(), p.roles.copy()
			b.projects[scope] = d
			return d, nil
		}
	}
	return nil, errorf(CodeNotFound, "project %s does not exist", scope.Project)
}

// newNumber gives out the next number, for a record that goes into the catalogue
// under the id.
func newNumber[T named](d *draft, c catalogue[T], id ID, isRole bool) (number, *Error) {
	if taken, ok := c.byID(id); ok {
		_, name, _ := taken.keys()
		return 0, errorf(CodeAlreadyExists, "the id %s is that of %q: repeat the call with another", id, name)
	}
	if d.numbers > math.MaxUint32/2 {
		return 0, errorf(CodeResourceExhausted, "project %q has had %d permissions and roles and can have no more: go on in a new project", d.Name, d.numbers)
	}
	n := d.numbers * 2
	if isRole {
		n++
	}
	d.numbers++
	return n, nil
}

func (c *Init) apply(b *batch) Result {
	if b.state.Cluster != (ID{}) {
		return failed(errorf(CodeAlreadyExists, "the cluster was initialised before"))
	}
	b.state.Cluster, b.state.Epoch, b.state.Secret, b.state.Level = c.Cluster, c.Epoch, c.Secret, MaxLevel
	o := &Organisation{ID: c.Organisation, Name: c.OrganisationName, projects: table[*Project]{}.copy()}
	o.projects.tree.Set(c.ProjectName, &Project{ID: c.Project, Name: c.ProjectName})
	b.state.organisations = b.state.organisations.copy()
	b.state.organisations.tree.Set(o.ID.key(), o)
	b.state.keys = b.state.keys.copy()
	b.state.keys.tree.Set(string(c.RootKeyHash[:]), &Key{
		ID: c.RootKey, Hash: c.RootKeyHash, Organisation: c.Organisation, Project: BuiltInProject, Operator: true,
	})
	return Result{}
}

func (c *PutPermission) apply(b *batch) Result {
	p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	if err := firstOf(ValidatePermissionName(c.Name), ValidateDescription(c.Description)); err != nil {
		return failed(err)
	}
	permission := &Permission{ID: c.ID, Name: c.Name, Description: c.Description}
	if old, ok := p.permissions.names.get(c.Name); ok {
		permission.ID, permission.number = old.ID, old.number
	} else if permission.number, err = newNumber(p, p.permissions, c.ID, false); err != nil {
		return failed(err)
	}
	p.permissions.put(permission)
	return Result{Permission: permission}
}

func (c *UpdatePermission) apply(b *batch) Result {
	p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	old, ok := p.permissions.byID(c.ID)
	if !ok {
		return failed(errorf(CodeNotFound, "permission %s does not exist", c.ID))
	}
	permission := *old
	permission.Description = c.Description
	if c.Name != "" {
		permission.Name = c.Name
	}
	if err := firstOf(ValidatePermissionName(permission.Name), ValidateDescription(c.Description)); err != nil {
		return failed(err)
	}
	if other, ok := p.permissions.names.get(permission.Name); ok && other.ID != c.ID {
		return failed(errorf(CodeAlreadyExists, "permission %q exists already: choose another name, or delete it first", permission.Name))
	}
	p.permissions.put(&permission)
	return Result{Permission: &permission}
}

func (c *DeletePermission) apply(b *batch) Result {
	p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	if permission, ok := p.permissions.byID(c.ID); ok {
		p.permissions.remove(permission)
		p.sweep.start()
	}
	return Result{}
}

func (c *PutRole) apply(b *batch) Result {
	p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	role := &Role{ID: c.ID, Name: c.Name, Description: c.Description}
	old, exists := p.roles.names.get(c.Name)
	if exists {
		role.ID, role.number = old.ID, old.number
	}
	if err := p.fill(role, c.Permissions); err != nil {
		return failed(err)
	}
	if !exists {
		if role.number, err = newNumber(p, p.roles, c.ID, true); err != nil {
			return failed(err)
		}
	}
	p.roles.put(role)
	return Result{Role: role, Granted: p.RolePermissions(role)}
}

func (c *UpdateRole) apply(b *batch) Result {
	p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	old, ok := p.roles.byID(c.ID)
	if !ok {
		return failed(errorf(CodeNotFound, "role %s does not exist", c.ID))
	}
	role := &Role{ID: old.ID, Name: old.Name, Description: c.Description, number: old.number}
	if c.Name != "" {
		role.Name = c.Name
	}
	if other, ok := p.roles.names.get(role.Name); ok && other.ID != c.ID {
		return failed(errorf(CodeAlreadyExists, "role %q exists already: choose another name, or delete it first", role.Name))
	}
	if err := p.fill(role, c.Permissions); err != nil {
		return failed(err)
	}
	p.roles.put(role)
	return Result{Role: role, Granted: p.RolePermissions(role)}
}

// fill validates a role and sets its permissions.
func (d *draft) fill(role *Role, permissions []ID) *Error {
	if err := firstOf(ValidateRoleName(role.Name), ValidateDescription(role.Description)); err != nil {
		return err
	}
	if len(permissions) > MaxRolePermissions {
		return errorf(CodeInvalidArgument, "role %q would have %d permissions, %d at most", role.Name, len(permissions), MaxRolePermissions)
	}
	numbers, err := numbersOf(d.permissions, "permission", permissions)
	if err != nil {
		return err
	}
	slices.Sort(numbers)
	role.permissions = slices.Compact(numbers)
	return nil
}

func (c *DeleteRole) apply(b *batch) Result {
	p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	if role, ok := p.roles.byID(c.ID); ok {
		p.roles.remove(role)
		p.sweep.start()
	}
	return Result{}
}

// numbersOf returns the numbers behind ids, all of which must exist.
func numbersOf[T named](c catalogue[T], what string, ids []ID) ([]number, *Error) {
	numbers := make([]number, 0, len(ids))
	for _, id := range ids {
		t, ok := c.byID(id)
		if !ok {
			return nil, errorf(CodeNotFound, "%s %s does not exist", what, id)
		}
		_, _, n := t.keys()
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func firstOf(errs ...*Error) *Error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Refuses returns the error that the command would come to in this state, nil
// if it would succeed. It changes nothing.
func (s *State) Refuses(body Body) error {
	if err := body.apply(newBatch(s)).Err; err != nil {
		return err
	}
	return nil
}
