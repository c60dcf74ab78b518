package fsm

import (
	"iter"
	"slices"

	"github.com/remit-io/remit/index"
)

func (c *Grant) apply(b *batch) Result {
	t, p, pattern, numbers, err := b.assignment(c.Scope, c.Principal, c.URI, c.Permissions, c.Roles)
	if err != nil {
		return failed(err)
	}
	if _, err := b.livingKeyPrincipal(t.ID, c.Principal); err != nil {
		return failed(err)
	}
	if p.IsBuiltIn() {
		if err := b.mayGrant(t, c.Principal, pattern, numbers); err != nil {
			return failed(err)
		}
		b.grantBuiltIn(t, c.Principal, pattern, numbers)
		return Result{}
	}
	if err := b.requireNamed("permission.get", c.Scope, p, c.Permissions); err != nil {
		return failed(err)
	}
	value, _ := p.builder.Get(c.Principal, pattern)
	union := append(p.living(rights(value)), numbers...)
	r := makeRights(union)
	if n := len(r.numbers()); n > MaxAssignmentRights {
		return failed(errorf(CodeInvalidArgument, "%q would hold %d permissions and roles on %q, %d at most: put them into a role",
			c.Principal, n, excerpt(pattern), MaxAssignmentRights))
	}
	p.builder.Put(c.Principal, pattern, string(r))
	return Result{}
}

func (c *Revoke) apply(b *batch) Result {
	t, p, pattern, numbers, err := b.assignment(c.Scope, c.Principal, c.URI, c.Permissions, c.Roles)
	if err != nil {
		return failed(err)
	}
	value, ok := p.builder.Get(c.Principal, pattern)
	if !ok {
		return Result{}
	}
	held := p.living(rights(value))
	owner := builtInProject.owner.number
	if p.IsBuiltIn() && slices.Contains(numbers, owner) && slices.Contains(held, owner) && b.isOwner(t, c.Principal, pattern) {
		key, _ := b.livingKeyPrincipal(t.ID, c.Principal)
		if err := b.mayEndOwner(t, key); err != nil {
			return failed(err)
		}
		if t.owners == 1 {
			return failed(lastOwner())
		}
		t.owners--
	}
	slices.Sort(numbers)
	p.keep(c.Principal, pattern, slices.DeleteFunc(held, func(n number) bool {
		_, revoked := slices.BinarySearch(numbers, n)
		return revoked
	}))
	return Result{}
}

// assignment validates what grants and revokes have in common.
func (b *batch) assignment(scope Scope, principal, uri string, permissions, roles []ID) (*tenant, *draft, string, []number, *Error) {
	t, p, err := b.project(scope)
	if err != nil {
		return nil, nil, "", nil, err
	}
	pattern, err := validatePattern(uri)
	if err := firstOf(ValidatePrincipal(principal), err); err != nil {
		return nil, nil, "", nil, err
	}
	if len(permissions)+len(roles) == 0 {
		return nil, nil, "", nil, errorf(CodeInvalidArgument, "name at least one permission or role")
	}
	numbers, err := numbersOf(p.permissions, "permission", permissions)
	if err != nil {
		return nil, nil, "", nil, err
	}
	more, err := numbersOf(p.roles, "role", roles)
	if err != nil {
		return nil, nil, "", nil, err
	}
	return t, p, pattern, append(numbers, more...), nil
}

// living returns the numbers that are not dead.
func (d *draft) living(r rights) []number {
	return slices.DeleteFunc(r.numbers(), d.dead)
}

// dead reports whether the number finds nothing any more.
func (p *Project) dead(n number) bool {
	if n.isRole() {
		_, ok := p.roles.byNumber(n)
		return !ok
	}
	_, ok := p.permissions.byNumber(n)
	return !ok
}

// keep sets what an assignment holds, or ends it.
func (d *draft) keep(principal, pattern string, left []number) {
	if len(left) == 0 {
		d.builder.Delete(principal, pattern)
	} else {
		d.builder.Put(principal, pattern, string(makeRights(left)))
	}
}

// A sweep removes dead numbers from roles and assignments, after a permission
// or role was deleted. It is replicated in bounded steps, so that no delete
// stops the others' writes, however much it touches. Reads do not wait for it.
type sweep struct {
	Active bool   `msgpack:"active"`
	Again  bool   `msgpack:"again"` // something was deleted behind the place
	Roles  bool   `msgpack:"roles"` // the roles are done
	Role   number `msgpack:"role"`  // from which on they are not
	// The last assignment swept.
	Principal string `msgpack:"principal"`
	URI       string `msgpack:"uri"`
}

func (s *sweep) start() {
	if s.Active {
		s.Again = true
	}
	s.Active = true
}

func (c *Sweep) apply(b *batch) Result {
	t, p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	budget := boundSweep(c.Limit)
	if p.IsBuiltIn() {
		b.sweepEnding(t, budget)
		return Result{}
	}
	if !p.sweep.Active {
		return Result{}
	}
	if !p.sweep.Roles {
		budget = p.sweepRoles(budget)
	}
	if p.sweep.Roles && budget > 0 {
		p.sweepAssignments(budget)
	}
	return Result{}
}

// boundSweep bounds how much one command looks at, whoever proposed it.
func boundSweep(limit int) int { return min(max(limit, 1), 10_000) }

// sweepRoles returns what is left of the budget.
func (d *draft) sweepRoles(budget int) int {
	var found []*Role
	d.roles.numbers.Ascend(d.sweep.Role, func(n number, r *Role) bool {
		found = append(found, r)
		budget -= 1 + len(r.permissions)
		return budget > 0
	})
	for _, role := range found {
		d.sweep.Role = role.number + 1
		if slices.ContainsFunc(role.permissions, d.dead) {
			swept := *role
			swept.permissions = slices.DeleteFunc(slices.Clone(role.permissions), d.dead)
			d.roles.put(&swept)
		}
	}
	d.sweep.Roles = budget > 0
	return budget
}

func (d *draft) sweepAssignments(budget int) {
	type change struct {
		principal, pattern string
		left               []number
	}
	var changes []change
	x := d.builder.Index()
	for a := range x.Assignments(index.Assignment{Principal: d.sweep.Principal, Pattern: d.sweep.URI}) {
		all := rights(a.Value).numbers()
		if slices.ContainsFunc(all, d.dead) {
			changes = append(changes, change{a.Principal, a.Pattern, slices.DeleteFunc(slices.Clone(all), d.dead)})
		}
		d.sweep.Principal, d.sweep.URI = a.Principal, a.Pattern
		if budget -= 1 + len(all); budget <= 0 {
			break
		}
	}
	for _, c := range changes {
		d.keep(c.principal, c.pattern, c.left)
	}
	if budget > 0 {
		d.sweep = sweep{Active: d.sweep.Again}
	}
}

// Sweeping yields the projects that Sweep commands should go over.
func (s *State) Sweeping() iter.Seq[Scope] { return s.sweeps.from("") }

// sweepingIn is Sweeping within one organisation.
func (s *State) sweepingIn(organisation ID) iter.Seq[Scope] {
	return func(yield func(Scope) bool) {
		for scope := range s.sweeps.from(organisation.key()) {
			if scope.Organisation != organisation || !yield(scope) {
				return
			}
		}
	}
}

// IsSweeping reports whether the project is one of them.
func (s *State) IsSweeping(scope Scope) bool {
	_, ok := s.sweeps.get(scope.key())
	return ok
}

func (s Scope) key() string { return s.Organisation.key() + s.Project.key() }
