package fsm

import (
	"slices"
	"strings"

	"github.com/remit-io/remit/index"
)

// keyPrincipalPrefix is reserved: nobody but a key is a principal that begins so.
const keyPrincipalPrefix = "key:"

// KeyPrincipal is the principal that a key acts as.
func KeyPrincipal(id ID) string { return keyPrincipalPrefix + id.String() }

// keyOfPrincipal is the opposite of KeyPrincipal.
func keyOfPrincipal(principal string) (ID, bool) {
	text, ok := strings.CutPrefix(principal, keyPrincipalPrefix)
	if !ok {
		return ID{}, false
	}
	return ParseID(text)
}

// ManagementURI returns the URI of an organisation, or of what the segments name
// in it. Each of them may be any text and becomes one segment.
func ManagementURI(organisation ID, segments ...string) string {
	uri := "/organisation/" + organisation.String()
	for _, s := range segments {
		uri += "/" + EscapeSegment(s)
	}
	return uri
}

// EscapeSegment makes one segment of a management URI of any text, so that no
// name reaches another one's URI.
func EscapeSegment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return segmentEscapes.Replace(s)
}

var segmentEscapes = strings.NewReplacer("%", "%25", "/", "%2F", "*", "%2A")

// maxDenialBytes bounds the resource in a denial: what a caller sent may be
// megabytes, and gRPC clients take 8 KiB of headers, in which a byte may take
// three.
const maxDenialBytes = 2400

// Denied is the error of a call whose caller lacks a management permission on a
// resource.
func Denied(permission, resource string) *Error {
	if len(resource) > maxDenialBytes {
		resource = strings.ToValidUTF8(resource[:maxDenialBytes], "") + "…"
	}
	return errorf(CodePermissionDenied, "Permission denied: missing required permission '%s' on resource '%s'", permission, resource)
}

// Holds reports whether a principal holds a management permission on a
// management URI, directly, by a role, or from above. It does not allocate.
func (o *Organisation) Holds(principal, permission, uri string) bool {
	want, ok := builtInProject.named[permission]
	return ok && o.held(principal, uri)&want != 0
}

func (o *Organisation) held(principal, uri string) permissionSet {
	p, ok := o.Project(BuiltInProject)
	if !ok {
		return 0
	}
	return builtInProject.setOf(p.assignments.Covering(principal, uri))
}

// IsOperator reports whether the key may run the cluster.
func (s *State) IsOperator(key ID) bool {
	_, ok := slices.BinarySearchFunc(s.operators, key, ID.compare)
	return ok
}

// judge decides whether whoever asked for a command may still have it: his key is
// valid, and he holds what the call requires. The cluster's own commands have no
// actor.
func (b *batch) judge(c *Command) *Error {
	e := &c.Envelope
	b.actor, b.time = nil, e.Time
	if e.Key == (ID{}) {
		return nil
	}
	key, ok := b.livingKey(e.Key)
	if !ok {
		return errorf(CodeUnauthenticated, "the API key is not valid any more")
	}
	b.actor = key
	if body, ok := c.Body.(interface{ within() Scope }); ok && !key.actsOn(body.within()) {
		return errorf(CodePermissionDenied, "Permission denied: the API key is of another project")
	}
	for _, r := range e.Requires {
		for _, suffix := range r.Suffixes {
			if err := b.require(r.Permission, r.Prefix+suffix); err != nil {
				return err
			}
		}
	}
	return nil
}

// require fails unless the actor holds a management permission on a URI of his
// own organisation.
func (b *batch) require(permission, uri string) *Error {
	if b.actor == nil || b.heldBy(b.actor, uri)&builtInProject.named[permission] != 0 {
		return nil
	}
	return Denied(permission, uri)
}

// requireOperator fails unless the actor is an operator.
func (b *batch) requireOperator() *Error {
	if b.actor == nil || b.state.IsOperator(b.actor.ID) {
		return nil
	}
	return errorf(CodePermissionDenied, "Permission denied: only operators of the cluster may do this")
}

// heldBy returns the management permissions that a key holds on a URI, as built
// so far.
func (b *batch) heldBy(key *Key, uri string) permissionSet {
	principal := KeyPrincipal(key.ID)
	if t, ok := b.tenants[key.Organisation]; ok {
		if d, ok := t.drafts[must(t.Project(BuiltInProject)).ID]; ok {
			return builtInProject.setOf(d.builder.Covering(principal, uri))
		}
	}
	o, ok := b.organisation(key.Organisation)
	if !ok {
		return 0
	}
	return o.held(principal, uri)
}

// MaxBuiltInAssignments bounds what one principal holds in a built-in project, in
// assignments: every write of that principal walks over them, in every node's
// apply.
const MaxBuiltInAssignments = 1000

// mayGrant decides about a grant in the built-in project: it stays within the
// organisation, and nobody grants what he does not hold himself there.
func (b *batch) mayGrant(t *tenant, principal, pattern string, numbers []number) *Error {
	if root := ManagementURI(t.ID); !index.Covers(root, pattern) {
		return errorf(CodePermissionDenied, "Permission denied: grants in project %q are on '%s' and below, not on '%s'",
			BuiltInProject, root, excerpt(pattern))
	}
	var granted permissionSet
	for _, n := range numbers {
		granted |= builtInProject.granted[n]
	}
	if err := b.requireAll(pattern, granted); err != nil {
		return err
	}
	for _, uri := range t.ending {
		if index.Covers(uri, pattern) {
			return errorf(CodeUnavailable, "'%s' belongs to a project that is still being deleted: retry in a moment", excerpt(pattern))
		}
	}
	d := b.draft(t, must(t.Project(BuiltInProject)))
	if _, ok := d.builder.Get(principal, pattern); ok {
		return nil
	}
	held := 0
	for range d.builder.Held(principal) {
		if held++; held == MaxBuiltInAssignments {
			return errorf(CodeResourceExhausted, "%q holds %d assignments in project %q and can have no more: grant on what is above them",
				excerpt(principal), held, BuiltInProject)
		}
	}
	return nil
}

// requireAll fails unless the actor holds all of a set on a URI.
func (b *batch) requireAll(uri string, set permissionSet) *Error {
	if b.actor == nil {
		return nil
	}
	if missing := set &^ b.heldBy(b.actor, uri); missing != 0 {
		return missing.denied(uri)
	}
	return nil
}

// requireNamed fails unless the actor holds a management permission on each of
// the project's permissions, under the names that they have now: one may have
// been renamed since the caller looked.
func (b *batch) requireNamed(management string, scope Scope, p *draft, ids []ID) *Error {
	if b.actor == nil {
		return nil
	}
	for _, id := range ids {
		if permission, ok := p.permissions.byID(id); ok {
			if err := b.require(management, ManagementURI(scope.Organisation, "permission", permission.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// livingKeyPrincipal returns the key that a principal is, nil if the principal is
// none. A principal with the prefix of keys has to be a living one of the
// organisation.
func (b *batch) livingKeyPrincipal(organisation ID, principal string) (*Key, *Error) {
	if !strings.HasPrefix(principal, keyPrincipalPrefix) {
		return nil, nil
	}
	if id, ok := keyOfPrincipal(principal); ok {
		if key, ok := b.livingKey(id); ok && key.Organisation == organisation {
			return key, nil
		}
	}
	return nil, errorf(CodeNotFound, "principal %q is no key of the organisation: principals that begin with %q are its API keys",
		excerpt(principal), keyPrincipalPrefix)
}

// isOwner reports whether a grant to the principal on the pattern makes it an
// owner who can act: with a key that reaches the whole organisation.
func (b *batch) isOwner(t *tenant, principal, pattern string) bool {
	key, err := b.livingKeyPrincipal(t.ID, principal)
	return err == nil && key != nil && key.Project == BuiltInProject && pattern == ManagementURI(t.ID)
}

// mayEndOwner decides who may take an organisation from one of its owner keys:
// another owner, and of an operator's key an operator, so that neither an editor
// nor an owner reaches those above him.
func (b *batch) mayEndOwner(t *tenant, key *Key) *Error {
	if b.state.IsOperator(key.ID) {
		return b.requireOperator()
	}
	return b.requireAll(ManagementURI(t.ID), ownership)
}

// lastOwner is the error of what would leave an organisation to nobody.
func lastOwner() *Error {
	return errorf(CodePermissionDenied, "Permission denied: this is the organisation's last owner key: make another key of project %q an owner first", BuiltInProject)
}
