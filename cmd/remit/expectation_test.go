package main_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An expectation is everything that one writer of the load has made, as the API
// shows it. Things refer to each other by id. Its slices are never changed.
type expectation struct {
	permissions map[string]permission // by name
	roles       map[string]role       // by name
	grants      map[place]holding
}

// A permission or role whose id is empty was asked for, and the answer is not known.
type permission struct{ id, description string }

type role struct {
	id, description string
	permissions     []string // ids, sorted
}

type place struct{ principal, uri string }

type holding struct{ permissions, roles []string } // ids, sorted

func newExpectation() *expectation {
	return &expectation{map[string]permission{}, map[string]role{}, map[place]holding{}}
}

func (e *expectation) clone() *expectation {
	return &expectation{maps.Clone(e.permissions), maps.Clone(e.roles), maps.Clone(e.grants)}
}

// put sets what is held at a place, nothing at all included.
func (e *expectation) put(at place, h holding) {
	if len(h.permissions)+len(h.roles) == 0 {
		delete(e.grants, at)
		return
	}
	e.grants[at] = h
}

func (e *expectation) deletePermission(name string) {
	id := e.permissions[name].id
	delete(e.permissions, name)
	for name, r := range e.roles {
		r.permissions = without(r.permissions, id)
		e.roles[name] = r
	}
	for at, h := range e.grants {
		e.put(at, holding{without(h.permissions, id), h.roles})
	}
}

func (e *expectation) deleteRole(name string) {
	id := e.roles[name].id
	delete(e.roles, name)
	for at, h := range e.grants {
		e.put(at, holding{h.permissions, without(h.roles, id)})
	}
}

// settle gives what has no id yet the one that it turned out to have.
func (e *expectation) settle(actual *expectation) {
	for name, p := range e.permissions {
		if p.id == "" {
			p.id = actual.permissions[name].id
			e.permissions[name] = p
		}
	}
	for name, r := range e.roles {
		if r.id == "" {
			r.id = actual.roles[name].id
			e.roles[name] = r
		}
	}
}

// principals are those who hold something, sorted.
func (e *expectation) principals() []string {
	seen := map[string]bool{}
	for at := range e.grants {
		seen[at.principal] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// allowed are the ids of the permissions that a principal has on a resource, by
// grants there and above, found in the plainest way.
func (e *expectation) allowed(principal, uri string) map[string]bool {
	allowed := map[string]bool{}
	for at, h := range e.grants {
		if at.principal != principal || !covers(at.uri, uri) {
			continue
		}
		for _, id := range h.permissions {
			allowed[id] = true
		}
		for _, r := range e.roles {
			if slices.Contains(h.roles, r.id) {
				for _, id := range r.permissions {
					allowed[id] = true
				}
			}
		}
	}
	return allowed
}

func covers(granted, uri string) bool {
	above, below := strings.Split(granted, "/"), strings.Split(uri, "/")
	if len(above) > len(below) {
		return false
	}
	for i, segment := range above {
		if segment != "*" && segment != below[i] {
			return false
		}
	}
	return true
}

// lines is the expectation as sorted text, one fact a line.
func (e *expectation) lines() []string {
	var lines []string
	for name, p := range e.permissions {
		lines = append(lines, fmt.Sprintf("permission %s %q %s", name, p.description, p.id))
	}
	for name, r := range e.roles {
		lines = append(lines, fmt.Sprintf("role %s %q %s: %d permissions %s", name, r.description, r.id, len(r.permissions), strings.Join(r.permissions, " ")))
	}
	for at, h := range e.grants {
		lines = append(lines, fmt.Sprintf("grant %s on %s: %d permissions %s, %d roles %s", at.principal, at.uri,
			len(h.permissions), strings.Join(h.permissions, " "), len(h.roles), strings.Join(h.roles, " ")))
	}
	slices.Sort(lines)
	return lines
}

func (e *expectation) equal(other *expectation) bool { return slices.Equal(e.lines(), other.lines()) }

// difference says what is expected and not there, and what is there unexpected.
func (e *expectation) difference(actual *expectation) string {
	var text strings.Builder
	want, got := e.lines(), actual.lines()
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			fmt.Fprintln(&text, "  missing:", line)
		}
	}
	for _, line := range got {
		if _, found := slices.BinarySearch(want, line); !found {
			fmt.Fprintln(&text, "  not expected:", line)
		}
	}
	return text.String()
}

func without(ids []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return s == id })
}

// union and minus keep sets sorted.
func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// sortedKeys makes a choice by a seeded generator repeatable.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
