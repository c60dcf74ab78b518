package fsm

import (
	"slices"

	"github.com/remit-io/remit/index"
)

func (c *Init) apply(b *batch) Result {
	if b.state.Cluster != (ID{}) {
		return failed(errorf(CodeAlreadyExists, "the cluster was initialised before"))
	}
	if c.Cluster == (ID{}) {
		return failed(errorf(CodeInvalidArgument, "the cluster needs an id"))
	}
	result := c.CreateOrganisation.apply(b)
	if result.Err == nil {
		b.state.Cluster, b.state.Epoch, b.state.Secret, b.state.Level = c.Cluster, c.Epoch, c.Secret, max(c.Level, 1)
		b.state.operators = []ID{c.Key}
	}
	return result
}

func (c *CreateOrganisation) apply(b *batch) Result {
	if err := firstOf(b.requireOperator(), ValidateOrganisationName(c.Name), ValidateProjectName(c.ProjectName)); err != nil {
		return failed(err)
	}
	if c.BuiltIn == c.Project {
		return failed(errorf(CodeInvalidArgument, "two projects cannot have the id %s", c.Project))
	}
	if _, err := b.tenant(c.Organisation); err == nil {
		return failed(errorf(CodeAlreadyExists, "the id %s is that of another organisation: repeat the call with another", c.Organisation))
	}
	t := &tenant{Organisation{ID: c.Organisation, Name: c.Name, Created: b.time, Updated: b.time}, map[ID]*draft{}}
	t.projects, t.names = t.projects.copy(), t.names.copy()
	t.add(newBuiltInProject(c.BuiltIn, b.time))
	t.add(&Project{ID: c.Project, Name: c.ProjectName, Created: b.time})
	b.tenants[t.ID] = t
	key := &Key{ID: c.Key, Name: c.KeyName, Hash: c.KeyHash}
	if err := b.addKey(t, b.draft(t, must(t.Project(BuiltInProject))), key); err != nil {
		delete(b.tenants, t.ID)
		return failed(err)
	}
	b.grantBuiltIn(t, KeyPrincipal(key.ID), ManagementURI(t.ID), []number{builtInProject.owner.number})
	return Result{Organisation: &Organisation{ID: t.ID, Name: t.Name, Created: t.Created, Updated: t.Updated}, Key: key}
}

// add puts a project into the organisation's tables.
func (t *tenant) add(p *Project) {
	t.projects.tree.Set(p.Name, p)
	t.names.tree.Set(p.ID.key(), p.Name)
}

func (c *UpdateOrganisation) apply(b *batch) Result {
	t, err := b.tenant(c.Organisation)
	if err := firstOf(err, ValidateOrganisationName(c.Name)); err != nil {
		return failed(err)
	}
	t.Name, t.Updated = c.Name, b.time
	return Result{Organisation: &Organisation{ID: t.ID, Name: t.Name, Created: t.Created, Updated: t.Updated}}
}

func (c *DeleteOrganisation) apply(b *batch) Result {
	if err := b.requireOperator(); err != nil {
		return failed(err)
	}
	if _, err := b.tenant(c.Organisation); err != nil {
		return failed(err)
	}
	for _, id := range b.state.operators {
		if key, ok := b.livingKey(id); ok && key.Organisation == c.Organisation {
			return failed(errorf(CodePermissionDenied, "Permission denied: organisation %s has the operator key %q (%s): invalidate it first, with another operator's",
				c.Organisation, key.Name, key.ID))
		}
	}
	delete(b.tenants, c.Organisation)
	b.organisations().tree.Delete(c.Organisation.key())
	for _, scope := range slices.Collect(b.state.sweepingIn(c.Organisation)) {
		b.setSweeping(scope, false)
	}
	b.state.keySweep.start()
	return Result{}
}

func (c *CreateProject) apply(b *batch) Result {
	t, err := b.tenant(c.Organisation)
	if err := firstOf(err, ValidateProjectName(c.Name)); err != nil {
		return failed(err)
	}
	if _, ok := t.Project(c.Name); ok {
		return failed(errorf(CodeAlreadyExists, "project %q exists already", c.Name))
	}
	if _, ok := t.names.get(c.Project.key()); ok {
		return failed(errorf(CodeAlreadyExists, "the id %s is that of another project: repeat the call with another", c.Project))
	}
	// Its grants would be the new project's.
	if slices.Contains(t.ending, ManagementURI(t.ID, "project", c.Name)) {
		return failed(errorf(CodeUnavailable, "project %q is still being deleted: retry in a moment", c.Name))
	}
	p := &Project{ID: c.Project, Name: c.Name, Created: b.time}
	t.names = t.names.copy()
	t.add(p)
	return Result{Project: p}
}

func (c *DeleteProject) apply(b *batch) Result {
	t, p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	if p.IsBuiltIn() {
		return failed(errorf(CodePermissionDenied, "Permission denied: project %q is built in and stays", BuiltInProject))
	}
	delete(t.drafts, p.ID)
	t.projects.tree.Delete(p.Name)
	t.names = t.names.copy()
	t.names.tree.Delete(p.ID.key())
	b.setSweeping(c.Scope, false)
	b.state.keySweep.start()
	b.end(t, ManagementURI(t.ID, "project", p.Name))
	return Result{}
}

// endAtOnce is how many grants one command removes itself; Sweep commands do the
// rest, so that no deletion stops the others' writes.
const endAtOnce = 1000

// end removes the grants of management permissions on a URI and below it.
func (b *batch) end(t *tenant, uri string) {
	if _, done := b.draft(t, must(t.Project(BuiltInProject))).removeWithin(uri, endAtOnce); !done {
		t.ending = append(slices.Clip(t.ending), uri)
	}
}

// sweepEnding goes on where end stopped.
func (b *batch) sweepEnding(t *tenant, budget int) {
	d := b.draft(t, must(t.Project(BuiltInProject)))
	for len(t.ending) > 0 && budget > 0 {
		removed, done := d.removeWithin(t.ending[0], budget)
		budget -= removed
		if done {
			t.ending = append([]string(nil), t.ending[1:]...)
		}
	}
}

// removeWithin removes assignments on a URI and below it, up to a limit, and
// reports whether those were all.
func (d *draft) removeWithin(uri string, limit int) (removed int, done bool) {
	x := d.builder.Index()
	var found []index.Assignment
	for pattern, principal := range x.Within(uri) {
		if len(found) == limit {
			break
		}
		found = append(found, index.Assignment{Principal: principal, Pattern: pattern})
		removed++
	}
	for _, a := range found {
		d.builder.Delete(a.Principal, a.Pattern)
	}
	for range d.builder.Within(uri) {
		return removed, false
	}
	return removed, true
}

// endPrincipal removes what a principal holds in the built-in project, and
// returns how many assignments that were: MaxBuiltInAssignments at most.
func (b *batch) endPrincipal(t *tenant, principal string) int {
	d := b.draft(t, must(t.Project(BuiltInProject)))
	var patterns []string
	for pattern := range d.builder.Held(principal) {
		patterns = append(patterns, pattern)
	}
	for _, pattern := range patterns {
		d.builder.Delete(principal, pattern)
	}
	return len(patterns)
}
