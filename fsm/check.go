package fsm

import (
	"slices"

	"github.com/remit-io/remit/index"
)

// A Decision answers a check: passed, or what is missing.
type Decision struct {
	Passed  bool
	Missing []Missing // in the order of the request; nil if passed
}

// Missing says which permissions are not held on one resource.
type Missing struct {
	URI         string // as asked
	Permissions []string
}

// Check decides whether the principal holds every one of the permissions, given
// by name or id, on every one of the resources. It fails with an *Error for an
// unknown organisation or project and for malformed input; an unknown
// permission is simply missing.
//
// A check of a few permissions that passes does not allocate.
func (s *State) Check(organisation ID, project, principal string, uris, permissions []string) (Decision, error) {
	o, ok := s.Organisation(organisation)
	if !ok {
		return Decision{}, errorf(CodeNotFound, "organisation %s does not exist", organisation)
	}
	p, ok := o.Project(project)
	if !ok {
		return Decision{}, errorf(CodeNotFound, "project %q does not exist", excerpt(project))
	}
	return p.Check(principal, uris, permissions)
}

// ValidateCheckSize reports why one check cannot be about so many resources and
// permissions.
func ValidateCheckSize(uris, permissions int) *Error {
	if uris == 0 || permissions == 0 {
		return errorf(CodeInvalidArgument, "a check needs at least one resource URI and one permission")
	}
	if uris*permissions > MaxCheckPairs {
		return errorf(CodeInvalidArgument, "%d resources times %d permissions are too many pairs, %d at most: split the check",
			uris, permissions, MaxCheckPairs)
	}
	return nil
}

// Check is State.Check within the project.
func (p *Project) Check(principal string, uris, permissions []string) (Decision, error) {
	if err := ValidateCheckSize(len(uris), len(permissions)); err != nil {
		return Decision{}, err
	}
	if err := ValidatePrincipal(principal); err != nil {
		return Decision{}, err
	}

	var space [16]wanted // most checks ask for a few: no allocation
	want := space[:0]
	for i, name := range permissions {
		if permission, ok := p.Permission(name); ok {
			want = append(want, wanted{permission.number, i})
		}
	}
	if len(want) > 1 {
		slices.SortFunc(want, func(a, b wanted) int { return int(a.number) - int(b.number) })
	}

	decision := Decision{Passed: true}
	var heldSpace [16]bool
	held := heldSpace[:0]
	for _, uri := range uris {
		canonical, err := index.ParseURI(uri)
		if err != nil {
			return Decision{}, errorf(CodeInvalidArgument, "%v", err)
		}
		held = append(held[:0], make([]bool, len(permissions))...)
		count, ok := p.hold(principal, canonical, want, held)
		if !ok {
			return Decision{}, errorf(CodeResourceExhausted, "%q holds too many grants with wildcards around %q to look at (%d at most): grant them on fewer resources",
				principal, excerpt(uri), index.MaxCovering)
		}
		if count == len(permissions) {
			continue
		}
		decision.Passed = false
		missing := Missing{URI: uri}
		for i, ok := range held {
			if !ok {
				missing.Permissions = append(missing.Permissions, permissions[i])
			}
		}
		decision.Missing = append(decision.Missing, missing)
	}
	return decision, nil
}

// wanted is a permission of a check, with its place in the request.
type wanted struct {
	number number
	place  int
}

// hold marks in held, by place, which of the wanted permissions (in order of
// number) the principal holds on the URI, and returns how many; not ok if there
// was too much to look at. What grants one is at hand here: the assignment's URI,
// and the permission itself or the role.
func (p *Project) hold(principal, uri string, want []wanted, held []bool) (count int, ok bool) {
	for pattern, value := range p.assignments.Covering(principal, uri) {
		if pattern == "" {
			return count, false
		}
		n := number(0)
		for r := rights(value); r != ""; {
			n, r = r.next(n)
			if !n.isRole() {
				count += mark(want, held, n)
				continue
			}
			role, ok := p.roles.byNumber(n)
			if !ok {
				continue
			}
			if len(role.permissions) < len(want) {
				for _, permission := range role.permissions {
					count += mark(want, held, permission)
				}
				continue
			}
			for _, w := range want {
				if !held[w.place] && role.has(w.number) {
					held[w.place] = true
					count++
				}
			}
		}
		if count == len(held) {
			break
		}
	}
	return count, true
}

// mark marks the places of one permission, which a request may name twice, and
// returns how many were not marked before.
func mark(want []wanted, held []bool, n number) (count int) {
	i, _ := slices.BinarySearchFunc(want, n, func(w wanted, n number) int { return int(w.number) - int(n) })
	for ; i < len(want) && want[i].number == n; i++ {
		if !held[want[i].place] {
			held[want[i].place] = true
			count++
		}
	}
	return count
}
