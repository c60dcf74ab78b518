package fsm

import (
	"iter"
	"slices"

	"github.com/remit-io/remit/index"
)

// Names of the first organisation, which exists after bootstrap, and the
// project of every organisation in which remit keeps its own rights.
const (
	BootstrapOrganisation = "default"
	BuiltInProject        = "remit"
)

// A State is all that a cluster has decided, at one revision. It is immutable:
// any number of goroutines read it without a lock, for as long as they like.
// The state of a node that has applied nothing is empty, with revision 0.
type State struct {
	Cluster  ID     // chosen at bootstrap
	Epoch    ID     // changes when history is replaced, so that old tokens are refused
	Level    uint32 // of the formats and semantics that every server supports
	Revision uint64 // Raft index of the newest command applied
	// Secret signs what clients carry from call to call, such as cursors.
	Secret [32]byte

	organisations table[*Organisation] // by id
	keys          keyring
	// operators are the ids of the keys that may run the cluster, ascending,
	// whatever their organisation grants them.
	operators []ID
	sweeps    table[Scope] // the projects that Sweep commands should go over
	keySweep  keySweep
	requests  memory   // what commands came to, for those who repeat them
	restore   *staging // the backup that is being restored; nil if none
}

// An Organisation is a tenant: nothing of it is visible from another.
type Organisation struct {
	ID       ID
	Name     string
	Created  int64           // Unix milliseconds
	Updated  int64           // Unix milliseconds
	projects table[*Project] // by name
	names    table[string]   // of the projects, by id
	owners   int             // living keys that own it
	ending   []string        // URIs of deleted projects, on which grants are still to be removed
}

// A Project holds permissions, roles, and who has them on which resource.
type Project struct {
	ID          ID
	Name        string
	Created     int64       // Unix milliseconds
	keys        table[*Key] // by KeyPlace
	permissions catalogue[*Permission]
	roles       catalogue[*Role]
	assignments index.Index
	numbers     number // given out so far
	sweep       sweep
}

// A Permission is one thing that can be done.
type Permission struct {
	ID          ID
	Name        string
	Description string
	number      number
}

// A Role is a set of permissions under a name.
type Role struct {
	ID          ID
	Name        string
	Description string
	number      number
	permissions []number // ascending; some may be dead
}

// An Assignment is what one principal was granted on one resource.
type Assignment struct {
	Principal   string
	URI         string // canonical; may have wildcards
	Permissions []*Permission
	Roles       []*Role
}

// Organisation returns the organisation with this id.
func (s *State) Organisation(id ID) (*Organisation, bool) { return s.organisations.get(id.key()) }

// Project returns the organisation's project of this name.
func (o *Organisation) Project(name string) (*Project, bool) { return o.projects.get(name) }

// Organisations yields the organisations in order of id, beginning behind the
// given one.
func (s *State) Organisations(after ID) iter.Seq[*Organisation] {
	return func(yield func(*Organisation) bool) {
		for o := range s.organisations.from(after.key()) {
			if o.ID != after && !yield(o) {
				return
			}
		}
	}
}

// Projects yields the organisation's projects in order of name, beginning behind
// the given name.
func (o *Organisation) Projects(after string) iter.Seq[*Project] {
	return func(yield func(*Project) bool) {
		for p := range o.projects.from(after) {
			if p.Name != after && !yield(p) {
				return
			}
		}
	}
}

// Keys yields the project's keys, the invalidated ones too, in order of
// KeyPlace, beginning behind the given place.
func (p *Project) Keys(after string) iter.Seq[*Key] {
	return func(yield func(*Key) bool) {
		for k := range p.keys.from(after) {
			if k.place() != after && !yield(k) {
				return
			}
		}
	}
}

// Permission returns the permission with this name, or else this id.
func (p *Project) Permission(nameOrID string) (*Permission, bool) {
	return p.permissions.find(nameOrID)
}

// RoleNamed returns the role with this name.
func (p *Project) RoleNamed(name string) (*Role, bool) { return p.roles.byName(name) }

// Role returns the role with this id, or else this name.
func (p *Project) Role(idOrName string) (*Role, bool) { return p.roles.find(idOrName) }

// Permissions yields the permissions in order of name, beginning behind the
// given name.
func (p *Project) Permissions(after string) iter.Seq[*Permission] {
	return p.permissions.behind(after)
}

// Roles yields the roles in order of name, beginning behind the given name.
func (p *Project) Roles(after string) iter.Seq[*Role] { return p.roles.behind(after) }

// RolePermissions returns the permissions of a role in order of name.
func (p *Project) RolePermissions(r *Role) []*Permission {
	return p.permissions.live(r.permissions)
}

// Assignment returns what was granted to the principal on exactly this
// canonical URI; nothing is an assignment without permissions and roles.
func (p *Project) Assignment(principal, uri string) Assignment {
	value, _ := p.assignments.Get(principal, uri)
	return p.assignment(principal, uri, rights(value))
}

// Assignments yields what the principal was granted, in order of URI, beginning
// behind the given canonical URI.
func (p *Project) Assignments(principal, after string) iter.Seq[Assignment] {
	return p.assignmentsOf(principal, p.assignments.Held(principal, after))
}

// Reaching yields the principal's assignments that reach the canonical URI:
// those on it and on what is above it, wildcards included. One without a URI
// ends them where there was too much to look at.
func (p *Project) Reaching(principal, uri string) iter.Seq[Assignment] {
	return p.assignmentsOf(principal, p.assignments.Covering(principal, uri))
}

func (p *Project) assignmentsOf(principal string, entries iter.Seq2[string, string]) iter.Seq[Assignment] {
	return func(yield func(Assignment) bool) {
		for uri, value := range entries {
			a := p.assignment(principal, uri, rights(value))
			if (uri == "" || len(a.Permissions)+len(a.Roles) > 0) && !yield(a) {
				return
			}
		}
	}
}

// Holders yields the assignments at or below the canonical URI, in order of
// URI: who holds anything there.
func (p *Project) Holders(uri string) iter.Seq[Assignment] {
	return func(yield func(Assignment) bool) {
		for pattern, principal := range p.assignments.Below(uri) {
			a := p.Assignment(principal, pattern)
			if len(a.Permissions)+len(a.Roles) > 0 && !yield(a) {
				return
			}
		}
	}
}

// Principals yields who has an assignment, in order, beginning behind the given
// principal.
func (p *Project) Principals(after string) iter.Seq[string] {
	if !p.sweep.Active {
		return p.assignments.Principals(after)
	}
	return func(yield func(string) bool) {
		for principal := range p.assignments.Principals(after) {
			if p.holdsAnything(principal) && !yield(principal) {
				return
			}
		}
	}
}

// holdsAnything reports whether something that the principal was granted is not
// dead.
func (p *Project) holdsAnything(principal string) bool {
	for _, value := range p.assignments.Held(principal, "") {
		n := number(0)
		for r := rights(value); r != ""; {
			if n, r = r.next(n); !p.dead(n) {
				return true
			}
		}
	}
	return false
}

func (p *Project) assignment(principal, uri string, r rights) Assignment {
	a := Assignment{Principal: principal, URI: uri}
	all := r.numbers()
	a.Permissions = p.permissions.live(all)
	a.Roles = p.roles.live(all)
	return a
}

// has reports whether the role holds the permission with this number.
func (r *Role) has(n number) bool {
	_, ok := slices.BinarySearch(r.permissions, n)
	return ok
}

func (p *Permission) keys() (ID, string, number) { return p.ID, p.Name, p.number }
func (r *Role) keys() (ID, string, number)       { return r.ID, r.Name, r.number }
