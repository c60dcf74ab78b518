package fsm

import (
	"math"
	"slices"

	"github.com/remit-io/remit/index"
)

// A Result is what a command came to, on every node the same.
type Result struct {
	Err          *Error // the command changed nothing
	Permission   *Permission
	Role         *Role
	Granted      []*Permission // the permissions of Role, by name
	Organisation *Organisation
	Project      *Project
	Key          *Key
	Received     uint64 // bytes of the backup under way, of RestoreChunk
	// Repeated says that the command was a repetition: it changed nothing, and
	// Memory is what it came to the first time.
	Repeated bool
	Memory   *Memory
}

func failed(err *Error) Result { return Result{Err: err} }

// A batch makes the next state from one, for any number of commands. What the
// commands touch is copied once.
type batch struct {
	state   State
	tenants map[ID]*tenant
	actor   *Key  // who asked for the command at hand; nil for the cluster itself
	time    int64 // of that command
	// revision is that of the command at hand, where it comes from the log.
	revision uint64
	// what the batch has copied of the state, to change it
	ownsOrganisations, ownsKeys, ownsSweeps, ownsRequests bool
	// checkpoint says that the state is to be published as it is, and kept.
	checkpoint bool
	// changed says that the command at hand has to fail in the log, since it changes
	// something though it fails.
	changed bool
}

// A tenant is an organisation that the batch may change.
type tenant struct {
	Organisation
	drafts map[ID]*draft
}

// A draft is a project that the batch may change.
type draft struct {
	Project
	builder *index.Builder
}

func newBatch(s *State) *batch {
	return &batch{state: *s, tenants: map[ID]*tenant{}}
}

// apply applies the command at a revision of the log. A repetition is answered
// from memory, before anything is judged: what it came to is history.
func (b *batch) apply(c *Command, revision uint64) Result {
	b.revision = revision
	if r, ok := b.recall(&c.Envelope); ok {
		return r
	}
	r := b.decide(c)
	b.remember(&c.Envelope, &r)
	return r
}

// decide judges and carries out a command that is no repetition.
func (b *batch) decide(c *Command) Result {
	if err := b.judge(c); err != nil {
		return failed(err)
	}
	return c.Body.apply(b)
}

// finish returns the state after the command at this revision.
func (b *batch) finish(revision uint64) *State {
	for _, t := range b.tenants {
		for _, d := range t.drafts {
			d.assignments = d.builder.Index()
			project := d.Project
			t.projects.tree.Set(project.Name, &project)
			b.setSweeping(Scope{t.ID, project.ID}, project.sweep.Active || project.IsBuiltIn() && len(t.ending) > 0)
		}
		organisation := t.Organisation
		b.organisations().tree.Set(t.ID.key(), &organisation)
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

// organisations returns the organisations to change.
func (b *batch) organisations() table[*Organisation] {
	if !b.ownsOrganisations {
		b.state.organisations, b.ownsOrganisations = b.state.organisations.copy(), true
	}
	return b.state.organisations
}

// setSweeping notes whether Sweep commands should go over a project.
func (b *batch) setSweeping(scope Scope, sweeping bool) {
	if _, ok := b.state.sweeps.get(scope.key()); ok == sweeping {
		return
	}
	if !b.ownsSweeps {
		b.state.sweeps, b.ownsSweeps = b.state.sweeps.copy(), true
	}
	if sweeping {
		b.state.sweeps.tree.Set(scope.key(), scope)
	} else {
		b.state.sweeps.tree.Delete(scope.key())
	}
}

// organisation returns an organisation as built so far, not to be changed.
func (b *batch) organisation(id ID) (*Organisation, bool) {
	if t, ok := b.tenants[id]; ok {
		return &t.Organisation, true
	}
	return b.state.Organisation(id)
}

// tenant returns the draft of an organisation.
func (b *batch) tenant(id ID) (*tenant, *Error) {
	if t, ok := b.tenants[id]; ok {
		return t, nil
	}
	o, ok := b.state.Organisation(id)
	if !ok {
		return nil, errorf(CodeNotFound, "organisation %s does not exist", id)
	}
	t := &tenant{*o, map[ID]*draft{}}
	t.projects = t.projects.copy()
	b.tenants[id] = t
	return t, nil
}

// project returns the draft of a project and that of its organisation.
func (b *batch) project(scope Scope) (*tenant, *draft, *Error) {
	t, err := b.tenant(scope.Organisation)
	if err != nil {
		return nil, nil, err
	}
	name, ok := t.names.get(scope.Project.key())
	if !ok {
		return nil, nil, errorf(CodeNotFound, "project %s does not exist", scope.Project)
	}
	return t, b.draft(t, must(t.Project(name))), nil
}

// draft returns the draft of one of the tenant's projects.
func (b *batch) draft(t *tenant, p *Project) *draft {
	d, ok := t.drafts[p.ID]
	if !ok {
		d = &draft{Project: *p, builder: p.assignments.Build()}
		if !p.IsBuiltIn() {
			d.permissions, d.roles = p.permissions.copy(), p.roles.copy()
		}
		t.drafts[p.ID] = d
	}
	return d
}

// catalogue returns the draft of a project whose permissions and roles can be
// changed.
func (b *batch) catalogue(scope Scope) (*draft, *Error) {
	_, p, err := b.project(scope)
	if err == nil && p.IsBuiltIn() {
		return nil, errorf(CodePermissionDenied, "Permission denied: the permissions and roles of project %q are built in", BuiltInProject)
	}
	return p, err
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

func (c *PutPermission) apply(b *batch) Result {
	p, err := b.catalogue(c.Scope)
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
	p, err := b.catalogue(c.Scope)
	if err != nil {
		return failed(err)
	}
	old, ok := p.permissions.byID(c.ID)
	if !ok {
		return failed(errorf(CodeNotFound, "permission %s does not exist", c.ID))
	}
	if err := b.requireNamed("permission.update", c.Scope, p, []ID{c.ID}); err != nil {
		return failed(err)
	}
	permission := *old
	permission.Description = c.Description
	if c.Name != "" && c.Name != old.Name {
		if err := b.require("permission.update", ManagementURI(c.Organisation, "permission", c.Name)); err != nil {
			return failed(err)
		}
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
	p, err := b.catalogue(c.Scope)
	if err != nil {
		return failed(err)
	}
	if err := b.requireNamed("permission.delete", c.Scope, p, []ID{c.ID}); err != nil {
		return failed(err)
	}
	if permission, ok := p.permissions.byID(c.ID); ok {
		p.permissions.remove(permission)
		p.sweep.start()
	}
	return Result{}
}

func (c *PutRole) apply(b *batch) Result {
	p, err := b.catalogue(c.Scope)
	if err != nil {
		return failed(err)
	}
	if err := b.requireNamed("permission.get", c.Scope, p, c.Permissions); err != nil {
		return failed(err)
	}
	role := &Role{ID: c.ID, Name: c.Name, Description: c.Description}
	if err := role.validate(); err != nil {
		return failed(err) // before it is told whether there is such a role
	}
	old, exists := p.roles.names.get(c.Name)
	if exists {
		// It may have come, or become stronger, since the caller looked.
		if err := b.require("role.update", ManagementURI(c.Organisation, "role", old.ID.String())); err != nil {
			return failed(err)
		}
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
	p, err := b.catalogue(c.Scope)
	if err != nil {
		return failed(err)
	}
	old, ok := p.roles.byID(c.ID)
	if !ok {
		return failed(errorf(CodeNotFound, "role %s does not exist", c.ID))
	}
	role := &Role{ID: old.ID, Name: old.Name, Description: c.Description, number: old.number}
	if c.Name != "" && c.Name != old.Name {
		if err := b.require("role.update", ManagementURI(c.Organisation, "role", c.Name)); err != nil {
			return failed(err)
		}
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

func (r *Role) validate() *Error {
	return firstOf(ValidateRoleName(r.Name), ValidateDescription(r.Description))
}

// fill validates a role and sets its permissions.
func (d *draft) fill(role *Role, permissions []ID) *Error {
	if err := role.validate(); err != nil {
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
	p, err := b.catalogue(c.Scope)
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
// if it would succeed, repeats what succeeded, or has to fail in the log. It
// changes nothing.
func (s *State) Refuses(c *Command) error {
	b := newBatch(s)
	r, repeated := b.recall(&c.Envelope)
	if !repeated {
		r = b.decide(c)
	}
	if r.Err != nil && !b.changed {
		return r.Err
	}
	return nil
}
