package fsm

import (
	"bytes"
	"slices"
)

// A Key is a bearer key: whoever shows its secret acts as the principal
// "key:{id}" on its project, and with a key of the built-in one on every project
// of the organisation. Only the secret's SHA-256 is kept.
type Key struct {
	ID           ID
	Name         string
	Hash         [32]byte
	Organisation ID
	Project      string // its name
	ProjectID    ID     // a project of the same name that came later is another
	Created      int64  // Unix milliseconds
	Invalidated  bool
}

// actsOn reports whether the key may do anything there.
func (k *Key) actsOn(s Scope) bool {
	return k.Organisation == s.Organisation && (k.Project == BuiltInProject || k.ProjectID == s.Project)
}

// place is where a key stands in its project's list: by name.
func (k *Key) place() string { return KeyPlace(k.Name, k.ID) }

// KeyPlace is what Project.Keys orders by.
func KeyPlace(name string, id ID) string { return name + "\x00" + id.key() }

// A keyring holds all keys, those of deleted projects too until they are swept.
type keyring struct {
	ids    table[*Key]
	hashes table[*Key] // by SHA-256 of the secret; without the invalidated ones
}

func (r keyring) copy() keyring { return keyring{r.ids.copy(), r.hashes.copy()} }

func (r keyring) add(k *Key) {
	r.ids.tree.Set(k.ID.key(), k)
	if !k.Invalidated {
		r.hashes.tree.Set(string(k.Hash[:]), k)
	}
}

func (r keyring) remove(k *Key) {
	r.ids.tree.Delete(k.ID.key())
	if valid, ok := r.hashes.get(string(k.Hash[:])); ok && valid.ID == k.ID { // not another's, if k was invalidated
		r.hashes.tree.Delete(string(k.Hash[:]))
	}
}

// Key returns the valid key with this SHA-256 of its secret, and its
// organisation.
func (s *State) Key(hash [32]byte) (*Key, *Organisation, bool) {
	k, ok := s.keys.hashes.get(string(hash[:]))
	if !ok {
		return nil, nil, false
	}
	o, ok := s.Organisation(k.Organisation)
	return k, o, ok && o.has(k)
}

// has reports whether the key's project is still there.
func (o *Organisation) has(k *Key) bool {
	p, ok := o.Project(k.Project)
	return ok && p.ID == k.ProjectID
}

func (id ID) compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// livingKey returns a key that is valid as built so far.
func (b *batch) livingKey(id ID) (*Key, bool) {
	k, ok := b.state.keys.ids.get(id.key())
	return k, ok && !k.Invalidated && b.isLiving(k)
}

// isLiving reports whether the key's organisation and project are still there.
func (b *batch) isLiving(k *Key) bool {
	o, ok := b.organisation(k.Organisation)
	return ok && o.has(k)
}

// keyring returns the keys to change.
func (b *batch) keyring() keyring {
	if !b.ownsKeys {
		b.state.keys, b.ownsKeys = b.state.keys.copy(), true
	}
	return b.state.keys
}

// addKey adds a new key to its project, which is the tenant's.
func (b *batch) addKey(t *tenant, p *draft, k *Key) *Error {
	if err := ValidateKeyName(k.Name); err != nil {
		return err
	}
	if k.ID == (ID{}) {
		return errorf(CodeInvalidArgument, "the key needs an id") // with the zero one it would act as the cluster itself
	}
	if _, ok := b.state.keys.ids.get(k.ID.key()); ok {
		return errorf(CodeAlreadyExists, "the id %s is that of another key: repeat the call with another", k.ID)
	}
	if _, ok := b.state.keys.hashes.get(string(k.Hash[:])); ok {
		return errorf(CodeAlreadyExists, "another key has this secret: draw another")
	}
	if err := b.makeRoom(p); err != nil {
		return err
	}
	k.Organisation, k.Project, k.ProjectID, k.Created = t.ID, p.Name, p.ID, b.time
	b.keyring().add(k)
	p.keys = p.keys.copy()
	p.keys.tree.Set(k.place(), k)
	return nil
}

// MaxProjectKeys bounds the keys of one project, the invalidated ones included.
const MaxProjectKeys = 10_000

// makeRoom forgets the oldest invalidated key of a project that has all the keys
// that it can have.
func (b *batch) makeRoom(p *draft) *Error {
	if p.keys.tree == nil || p.keys.tree.Len() < MaxProjectKeys {
		return nil
	}
	var oldest *Key
	for k := range p.keys.from("") {
		if k.Invalidated && (oldest == nil || k.Created < oldest.Created) {
			oldest = k
		}
	}
	if oldest == nil {
		return errorf(CodeResourceExhausted, "project %q has %d keys and can have no more: invalidate those that are not used", p.Name, MaxProjectKeys)
	}
	b.keyring().remove(oldest)
	p.keys = p.keys.copy()
	p.keys.tree.Delete(oldest.place())
	return nil
}

func (c *CreateKey) apply(b *batch) Result {
	t, p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	var granted []number
	if c.Role != (ID{}) {
		if granted, err = numbersOf(builtInProject.roles, "role", []ID{c.Role}); err != nil {
			return failed(err)
		}
		if err := b.mayGrant(t, KeyPrincipal(c.ID), ManagementURI(t.ID), granted); err != nil {
			return failed(err)
		}
	}
	if c.Operator {
		if err := b.requireOperator(); err != nil {
			return failed(err)
		}
		if !p.IsBuiltIn() {
			return failed(errorf(CodeInvalidArgument, "an operator's key is of project %q, not of %q", BuiltInProject, p.Name))
		}
	}
	key := &Key{ID: c.ID, Name: c.Name, Hash: c.Hash}
	if err := b.addKey(t, p, key); err != nil {
		return failed(err)
	}
	if granted != nil {
		b.grantBuiltIn(t, KeyPrincipal(key.ID), ManagementURI(t.ID), granted)
	}
	if c.Operator {
		b.state.operators = append(slices.Clone(b.state.operators), key.ID)
		slices.SortFunc(b.state.operators, ID.compare)
	}
	return Result{Key: key}
}

// grantBuiltIn adds to what a principal holds in the built-in project.
func (b *batch) grantBuiltIn(t *tenant, principal, pattern string, numbers []number) {
	d := b.draft(t, must(t.Project(BuiltInProject)))
	value, _ := d.builder.Get(principal, pattern)
	had := rights(value).numbers()
	if owner := builtInProject.owner.number; slices.Contains(numbers, owner) && !slices.Contains(had, owner) && b.isOwner(t, principal, pattern) {
		t.owners++
	}
	d.builder.Put(principal, pattern, string(makeRights(append(had, numbers...))))
}

func (c *InvalidateKey) apply(b *batch) Result {
	t, p, err := b.project(c.Scope)
	if err != nil {
		return failed(err)
	}
	key, ok := b.state.keys.ids.get(c.ID.key())
	if !ok || key.ProjectID != p.ID || key.Organisation != t.ID {
		return failed(errorf(CodeNotFound, "key %s does not exist in project %q", c.ID, p.Name))
	}
	if key.Invalidated {
		return Result{Key: key}
	}
	owns := b.ownsOrganisation(t, key)
	if owns {
		if err := b.mayEndOwner(t, key); err != nil {
			return failed(err)
		}
	}
	if b.state.IsOperator(key.ID) {
		if err := b.requireOperator(); err != nil {
			return failed(err)
		}
		if len(b.state.operators) == 1 {
			return failed(errorf(CodePermissionDenied, "Permission denied: this is the cluster's last operator key: create another first"))
		}
	}
	if owns {
		if t.owners == 1 {
			return failed(lastOwner())
		}
		t.owners--
	}
	b.state.operators = slices.DeleteFunc(slices.Clone(b.state.operators), func(id ID) bool { return id == key.ID })
	ended := *key
	ended.Invalidated = true
	b.keyring().remove(key)
	b.keyring().add(&ended)
	p.keys = p.keys.copy()
	p.keys.tree.Set(ended.place(), &ended)
	b.endPrincipal(t, KeyPrincipal(key.ID))
	return Result{Key: &ended}
}

// ownsOrganisation reports whether the key is one of those that t.owners counts.
func (b *batch) ownsOrganisation(t *tenant, key *Key) bool {
	principal, root := KeyPrincipal(key.ID), ManagementURI(t.ID)
	if !b.isOwner(t, principal, root) {
		return false
	}
	d := b.draft(t, must(t.Project(BuiltInProject)))
	value, _ := d.builder.Get(principal, root)
	return slices.Contains(rights(value).numbers(), builtInProject.owner.number)
}

// SweepingKeys reports whether SweepKeys commands have keys of deleted projects
// to remove.
func (s *State) SweepingKeys() bool { return s.keySweep.Active }

// A keySweep removes what nobody can use any more of deleted projects and
// organisations: their keys, which are invalid from the deletion on.
type keySweep struct {
	Active bool `msgpack:"active"`
	Again  bool `msgpack:"again"` // something was deleted behind the place
	After  ID   `msgpack:"after"` // the last key looked at
}

func (s *keySweep) start() {
	if s.Active {
		s.Again = true
	}
	s.Active = true
}

func (c *SweepKeys) apply(b *batch) Result {
	sweep := &b.state.keySweep
	if !sweep.Active {
		return Result{}
	}
	budget := boundSweep(c.Limit)
	var found []*Key
	for k := range b.state.keys.ids.from(sweep.After.key()) {
		if len(found) == budget {
			break
		}
		if k.ID != sweep.After {
			found = append(found, k)
		}
	}
	done := len(found) < budget
	for i, k := range found {
		sweep.After = k.ID
		if budget--; !b.isLiving(k) {
			b.keyring().remove(k)
			if t, err := b.tenant(k.Organisation); err == nil {
				budget -= b.endPrincipal(t, KeyPrincipal(k.ID))
			}
		}
		if budget <= 0 && i < len(found)-1 {
			done = false
			break
		}
	}
	if done {
		*sweep = keySweep{Active: sweep.Again}
	}
	return Result{}
}
