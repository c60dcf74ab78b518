package fsm

import (
	"fmt"
	"slices"

	"github.com/remit-io/remit/index"
)

// A restore builds a state from records. Each kind belongs to the record of the
// level above that came before it.
type restore struct {
	state        State
	keys         map[ID][]*Key // by the project's id
	organisation *Organisation
	project      *Project
	assignments  *index.Loader    // of the project
	last         index.Assignment // of them
}

func (b *restore) add(kind recordKind, data []byte) error {
	switch kind {
	case recordCluster:
		return withRecord(data, b.addCluster)
	case recordKey:
		return withRecord(data, b.addKey)
	case recordOrganisation:
		return withRecord(data, b.addOrganisation)
	case recordProject:
		return withRecord(data, b.addProject)
	case recordRequests:
		return withRecord(data, b.addRequests)
	case recordRestore:
		return withRecord(data, b.addRestore)
	case recordChunk:
		return withRecord(data, b.addChunk)
	case recordPermission, recordRole, recordAssignment:
		if b.project == nil {
			return fmt.Errorf("kind %d stands before any project", kind)
		}
		switch kind {
		case recordPermission:
			return withRecord(data, b.addPermission)
		case recordRole:
			return withRecord(data, b.addRole)
		default:
			return withRecord(data, b.addAssignment)
		}
	}
	return fmt.Errorf("kind %d is not known: %w", kind, ErrUpgrade)
}

func withRecord[T any](data []byte, add func(*T) error) error {
	var r T
	if err := decode(data, &r); err != nil {
		return err
	}
	return add(&r)
}

func (b *restore) addCluster(r *clusterRecord) error {
	if b.state.organisations.tree != nil {
		return fmt.Errorf("the cluster stands twice")
	}
	b.state.Cluster, b.state.Secret, b.state.operators, b.state.keySweep = r.Cluster, r.Secret, r.Operators, r.KeySweep
	b.state.organisations = b.state.organisations.copy()
	b.state.sweeps = b.state.sweeps.copy()
	b.state.keys = b.state.keys.copy()
	b.keys = map[ID][]*Key{}
	return nil
}

func (b *restore) addKey(r *keyRecord) error {
	if b.keys == nil || b.organisation != nil {
		return fmt.Errorf("a key does not stand between the cluster and the organisations")
	}
	if err := ValidateKeyName(r.Name); err != nil {
		return err
	}
	if _, ok := b.state.keys.ids.get(r.ID.key()); ok {
		return fmt.Errorf("key %s stands twice", r.ID)
	}
	if _, ok := b.state.keys.hashes.get(string(r.Hash[:])); ok && !r.Invalidated {
		return fmt.Errorf("key %s has the secret of another", r.ID)
	}
	k := &Key{r.ID, r.Name, r.Hash, r.Organisation, r.Project, r.ProjectID, r.Created, r.Invalidated}
	b.state.keys.add(k)
	b.keys[k.ProjectID] = append(b.keys[k.ProjectID], k)
	return nil
}

func (b *restore) addOrganisation(r *organisationRecord) error {
	if b.state.organisations.tree == nil {
		return fmt.Errorf("an organisation stands before the cluster")
	}
	if _, ok := b.state.Organisation(r.ID); ok {
		return fmt.Errorf("organisation %s stands twice", r.ID)
	}
	if err := ValidateOrganisationName(r.Name); err != nil {
		return err
	}
	if err := b.finishOrganisation(); err != nil {
		return err
	}
	b.organisation = &Organisation{ID: r.ID, Name: r.Name, Created: r.Created, Updated: r.Updated, ending: r.Ending}
	b.organisation.projects, b.organisation.names = b.organisation.projects.copy(), b.organisation.names.copy()
	b.state.organisations.tree.Set(r.ID.key(), b.organisation)
	return nil
}

func (b *restore) addProject(r *projectRecord) error {
	if b.organisation == nil {
		return fmt.Errorf("project %q stands before any organisation", r.Name)
	}
	b.finishProject()
	if _, ok := b.organisation.Project(r.Name); ok {
		return fmt.Errorf("project %q stands twice", excerpt(r.Name))
	}
	if _, ok := b.organisation.names.get(r.ID.key()); ok {
		return fmt.Errorf("project %q has the id of another", excerpt(r.Name))
	}
	p := *newBuiltInProject(r.ID, r.Created)
	if r.Name != BuiltInProject {
		if err := ValidateProjectName(r.Name); err != nil {
			return err
		}
		p = Project{ID: r.ID, Name: r.Name, Created: r.Created, numbers: r.Numbers, sweep: r.Sweep}
		p.permissions, p.roles = p.permissions.copy(), p.roles.copy()
	}
	p.keys = p.keys.copy()
	for _, k := range b.keys[p.ID] {
		if k.Organisation == b.organisation.ID && k.Project == p.Name {
			p.keys.tree.Set(k.place(), k)
		}
	}
	b.project, b.assignments, b.last = &p, new(index.Loader), index.Assignment{}
	return nil
}

// given reports whether the number was given out: what holds one that was not
// would hold whatever gets it later.
func (b *restore) given(n number) bool { return n/2 < b.project.numbers }

func (b *restore) addPermission(r *permissionRecord) error {
	if b.project.IsBuiltIn() {
		return fmt.Errorf("the built-in project cannot have the permission %q", r.Name)
	}
	if err := firstOf(ValidatePermissionName(r.Name), ValidateDescription(r.Description)); err != nil {
		return err
	}
	if r.Number.isRole() || !b.given(r.Number) {
		return fmt.Errorf("permission %q cannot have number %d", r.Name, r.Number)
	}
	return addTo(&b.project.permissions, &Permission{r.ID, r.Name, r.Description, r.Number})
}

func (b *restore) addRole(r *roleRecord) error {
	if b.project.IsBuiltIn() {
		return fmt.Errorf("the built-in project cannot have the role %q", r.Name)
	}
	if err := firstOf(ValidateRoleName(r.Name), ValidateDescription(r.Description)); err != nil {
		return err
	}
	if !r.Number.isRole() || !b.given(r.Number) {
		return fmt.Errorf("role %q cannot have number %d", r.Name, r.Number)
	}
	for i, n := range r.Permissions {
		if i > 0 && n <= r.Permissions[i-1] {
			return fmt.Errorf("the permissions of role %q are not in order", r.Name)
		}
		if n.isRole() || !b.given(n) {
			return fmt.Errorf("role %q cannot hold number %d", r.Name, n)
		}
	}
	return addTo(&b.project.roles, &Role{r.ID, r.Name, r.Description, r.Number, r.Permissions})
}

// addTo refuses what would take another record's place.
func addTo[T named](c *catalogue[T], t T) error {
	id, name, n := t.keys()
	_, sameID := c.byID(id)
	_, sameName := c.names.get(name)
	_, sameNumber := c.byNumber(n)
	if sameID || sameName || sameNumber {
		return fmt.Errorf("%q has an id, name or number that is taken", name)
	}
	c.put(t)
	return nil
}

func (b *restore) addAssignment(r *assignmentRecord) error {
	if err := ValidatePrincipal(r.Principal); err != nil {
		return err
	}
	uri, err := index.ParsePattern(r.URI)
	if err != nil {
		return err
	}
	if uri != r.URI {
		return fmt.Errorf("the URI %q is not canonical", excerpt(r.URI))
	}
	if r.Principal < b.last.Principal || r.Principal == b.last.Principal && uri <= b.last.Pattern {
		return fmt.Errorf("the assignments are not in order: %q on %q", r.Principal, excerpt(uri))
	}
	b.last = index.Assignment{Principal: r.Principal, Pattern: uri}
	value, highest, err := parseRights(string(r.Rights))
	if err != nil {
		return err
	}
	if !b.given(highest) {
		return fmt.Errorf("%q on %q cannot hold number %d", r.Principal, excerpt(uri), highest)
	}
	b.assignments.Add(r.Principal, uri, string(value))
	return nil
}

func (b *restore) finishProject() {
	if b.project == nil {
		return
	}
	p := b.project
	p.assignments = b.assignments.Index()
	b.organisation.projects.tree.Set(p.Name, p)
	b.organisation.names.tree.Set(p.ID.key(), p.Name)
	if p.sweep.Active || p.IsBuiltIn() && len(b.organisation.ending) > 0 {
		scope := Scope{b.organisation.ID, p.ID}
		b.state.sweeps.tree.Set(scope.key(), scope)
	}
	b.project = nil
}

func (b *restore) finishOrganisation() error {
	b.finishProject()
	if b.organisation == nil {
		return nil
	}
	p, ok := b.organisation.Project(BuiltInProject)
	if !ok {
		return fmt.Errorf("organisation %s lacks the built-in project", b.organisation.ID)
	}
	root := ManagementURI(b.organisation.ID)
	for pattern, principal := range p.assignments.Within(root) {
		if pattern != root {
			break
		}
		value, _ := p.assignments.Get(principal, pattern)
		if slices.Contains(rights(value).numbers(), builtInProject.owner.number) && b.isKeyOf(p, principal) {
			b.organisation.owners++
		}
	}
	return nil
}

// isKeyOf reports whether a principal is a valid key of the project.
func (b *restore) isKeyOf(p *Project, principal string) bool {
	id, isKey := keyOfPrincipal(principal)
	k, ok := b.state.keys.ids.get(id.key())
	return isKey && ok && !k.Invalidated && k.ProjectID == p.ID
}

func (b *restore) finish() (*State, error) {
	if err := b.finishOrganisation(); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if b.state.organisations.tree == nil {
		return nil, fmt.Errorf("read snapshot: the record of the cluster is missing")
	}
	return &b.state, nil
}
