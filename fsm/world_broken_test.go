package fsm

import (
	"strings"
	"testing"
)

// TestBrokenWorldsAreCaught: a test that cannot fail proves nothing, so the
// histories must find each of these.
func TestBrokenWorldsAreCaught(t *testing.T) {
	// oneByOne applies commands that a variant changes, and looks at each result.
	oneByOne := func(change func(m *machine, c *Command) *Command, after func(m *machine, c *Command, r Result) Result) worldVariant {
		v := soundWorld()
		v.play = func(m *machine, commands ...*Command) (results []Result) {
			for _, c := range commands {
				sent := c
				if change != nil {
					sent = change(m, c)
				}
				r := m.play(sent)[0]
				if after != nil {
					r = after(m, c, r)
				}
				results = append(results, r)
			}
			return results
		}
		return v
	}
	refusedWith := func(r Result, message string) bool { return r.Err != nil && strings.Contains(r.Err.Message, message) }
	isBuiltIn := func(m *machine, s Scope) bool {
		o, ok := m.store.State().Organisation(s.Organisation)
		return ok && must(o.Project(BuiltInProject)).ID == s.Project
	}
	ownsAll := func(m *machine, key ID) bool {
		b := newBatch(m.store.State())
		k, ok := b.livingKey(key)
		return ok && b.heldBy(k, ManagementURI(k.Organisation))&ownership != 0
	}
	owners := func(m *machine) (n int) {
		for o := range m.store.State().Organisations(ID{}) {
			n += o.owners
		}
		return n
	}
	asksNothing := func(c *Command) bool { return len(c.Envelope.Requires) == 0 }
	// allowed does what was refused with the message after all.
	allowed := func(these func(m *machine, c *Command) bool, message string) func(m *machine, c *Command, r Result) Result {
		return func(m *machine, c *Command, r Result) Result {
			if refusedWith(r, message) && these(m, c) {
				return m.play(byCluster(c.Body))[0]
			}
			return r
		}
	}
	variants := map[string]func() worldVariant{
		"requires not judged": func() worldVariant {
			return oneByOne(func(m *machine, c *Command) *Command {
				changed := *c
				changed.Envelope.Requires = nil
				return &changed
			}, nil)
		},
		"the right over an existing name not judged": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				switch c.Body.(type) {
				case *PutRole, *UpdateRole:
					if refusedWith(r, "'role.update'") && len(c.Envelope.Requires) == 0 {
						return m.play(byCluster(c.Body))[0]
					}
				}
				return r
			})
		},
		"a permission granted that the actor may not see": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool {
				g, ok := c.Body.(*Grant)
				return ok && !isBuiltIn(m, g.Scope) && asksNothing(c)
			}, "'permission.get'"))
		},
		"a role of permissions that its maker may not see": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool { _, ok := c.Body.(*PutRole); return ok && asksNothing(c) }, "'permission.get'"))
		},
		"a permission changed under a name that is not the actor's": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool {
				u, ok := c.Body.(*UpdatePermission)
				return ok && u.Name == "" && asksNothing(c)
			}, "'permission.update'"))
		},
		"a permission's new name not judged": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if u, ok := c.Body.(*UpdatePermission); ok && asksNothing(c) && refusedWith(r, "/permission/"+u.Name+"'") {
					return m.play(byCluster(c.Body))[0]
				}
				return r
			})
		},
		"a permission deleted under a name that is not the actor's": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool { _, ok := c.Body.(*DeletePermission); return ok && asksNothing(c) }, "'permission.delete'"))
		},
		"the cluster itself asked for rights on permissions": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if d, ok := c.Body.(*DeletePermission); ok && c.Envelope.Key == (ID{}) && r.Err == nil {
					return failed(Denied("permission.delete", ManagementURI(d.Organisation)))
				}
				return r
			})
		},
		"an owner made by who holds each permission of today": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool {
				uri := ""
				switch c := c.Body.(type) {
				case *Grant:
					uri = c.URI
				case *CreateKey:
					uri = ManagementURI(c.Organisation)
				}
				key, _ := m.store.State().keys.ids.get(c.Envelope.Key.key())
				o, _ := m.store.State().Organisation(key.Organisation)
				for name := range ManagementPermissions() {
					if uri == "" || !o.Holds(c.Envelope.Actor, name, uri) {
						return false
					}
				}
				return true
			}, "missing required role 'owner'"))
		},
		"an owner's end by who is none": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool {
				switch c.Body.(type) {
				case *Revoke, *InvalidateKey:
					return true
				}
				return false
			}, "missing required role 'owner'"))
		},
		"an operator's ownership taken by an owner who is no operator": func() worldVariant {
			return oneByOne(nil, allowed(func(m *machine, c *Command) bool { _, ok := c.Body.(*Revoke); return ok }, "only operators"))
		},
		"an operator's ownership not taken by an operator who is no owner": func() worldVariant {
			v := soundWorld()
			v.play = func(m *machine, commands ...*Command) (results []Result) {
				for _, c := range commands {
					before, k := owners(m), c.Envelope.Key
					stranger := m.store.State().IsOperator(k) && !ownsAll(m, k)
					r := m.play(c)[0]
					if _, ok := c.Body.(*Revoke); ok && stranger && owners(m) < before {
						r = failed(ownership.denied(ManagementURI(ID{})))
					}
					results = append(results, r)
				}
				return results
			}
			return v
		},
		"told of a deletion before it is asked who he is": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if g, ok := c.Body.(*Grant); ok && len(c.Envelope.Requires) == 0 && refusedWith(r, "missing required permission") {
					o, _ := m.store.State().Organisation(g.Organisation)
					for _, uri := range o.ending {
						if uri == g.URI {
							return failed(errorf(CodeUnavailable, "retry"))
						}
					}
				}
				return r
			})
		},
		"a principal who holds more than he may": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if refusedWith(r, "and can have no more: grant on what is above") {
					r.Err = nil
				}
				return r
			})
		},
		"a key that acts on other projects": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if refusedWith(r, "of another project") {
					return m.play(byCluster(c.Body))[0]
				}
				return r
			})
		},
		"a grant of what the actor does not hold": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if g, ok := c.Body.(*Grant); ok && isBuiltIn(m, g.Scope) && len(c.Envelope.Requires) == 0 && refusedWith(r, "missing required permission") {
					return m.play(byCluster(c.Body))[0]
				}
				return r
			})
		},
		"a key with a role that its maker does not hold": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if k, ok := c.Body.(*CreateKey); ok && k.Role != (ID{}) && len(c.Envelope.Requires) == 0 && refusedWith(r, "missing required ") {
					return m.play(byCluster(c.Body))[0]
				}
				return r
			})
		},
		"grants outside the organisation": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if refusedWith(r, "and below, not on") {
					r.Err = nil
				}
				return r
			})
		},
		"the last owner not kept": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if !refusedWith(r, "last owner key") {
					return r
				}
				b := newBatch(m.store.State())
				tenant, _ := b.tenant(c.Body.(interface{ within() Scope }).within().Organisation)
				tenant.owners++ // so that one more can go
				m.store.publish(b.finish(m.index))
				return m.play(byCluster(c.Body))[0]
			})
		},
		"a repetition carried out": func() worldVariant {
			return oneByOne(func(m *machine, c *Command) *Command {
				changed := *c
				changed.Envelope.Request = ID{}
				return &changed
			}, nil)
		},
		"a repetition not told from another request": func() worldVariant {
			return oneByOne(func(m *machine, c *Command) *Command {
				changed := *c
				changed.Envelope.Content = 0
				return &changed
			}, nil)
		},
		"a request remembered before the level": func() worldVariant {
			v := soundWorld()
			v.play = func(m *machine, commands ...*Command) []Result {
				raised := *m.store.State()
				raised.Level = MaxLevel
				m.store.publish(&raised)
				return m.play(commands...)
			}
			return v
		},
		"the answer to retry remembered": func() worldVariant {
			unavailable := map[ID]bool{}
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if r.Err != nil && r.Err.Code == CodeUnavailable {
					unavailable[c.Envelope.Request] = true
				} else if unavailable[c.Envelope.Request] && c.Envelope.Key != (ID{}) {
					r.Err = errorf(CodeUnavailable, "once more")
				}
				return r
			})
		},
		"the last operator not kept": func() worldVariant {
			return oneByOne(nil, func(m *machine, c *Command, r Result) Result {
				if refusedWith(r, "last operator key") {
					r.Err = nil
				}
				return r
			})
		},
		"an old key revives with a project of its name": func() worldVariant {
			v := soundWorld()
			v.key = func(s *State, hash [32]byte) (ID, bool) {
				k, ok := s.keys.hashes.get(string(hash[:]))
				if !ok {
					return ID{}, false
				}
				o, ok := s.Organisation(k.Organisation)
				if !ok {
					return ID{}, false
				}
				_, ok = o.Project(k.Project)
				return k.ID, ok
			}
			return v
		},
		"a key outlives its project": func() worldVariant {
			v := soundWorld()
			v.key = func(s *State, hash [32]byte) (ID, bool) {
				k, ok := s.keys.hashes.get(string(hash[:]))
				if !ok {
					return ID{}, false
				}
				return k.ID, true
			}
			return v
		},
		"grants revive with a project of its name": func() worldVariant {
			kept := map[string][]Assignment{} // by the deleted project's URI
			put := func(m *machine, organisation ID, uri string) {
				b := newBatch(m.store.State())
				tenant, _ := b.tenant(organisation)
				d := b.draft(tenant, must(tenant.Project(BuiltInProject)))
				for _, a := range kept[uri] {
					var numbers []number
					for _, p := range a.Permissions {
						numbers = append(numbers, p.number)
					}
					for _, r := range a.Roles {
						numbers = append(numbers, r.number)
					}
					d.builder.Put(a.Principal, a.URI, string(makeRights(numbers)))
				}
				m.store.publish(b.finish(m.index))
			}
			return oneByOne(func(m *machine, c *Command) *Command {
				if d, ok := c.Body.(*DeleteProject); ok {
					if o, ok := m.store.State().Organisation(d.Organisation); ok {
						if name, ok := o.names.get(d.Project.key()); ok {
							uri, builtIn := ManagementURI(o.ID, "project", name), must(o.Project(BuiltInProject))
							kept[uri] = nil
							for pattern, principal := range builtIn.assignments.Within(uri) {
								kept[uri] = append(kept[uri], builtIn.Assignment(principal, pattern))
							}
						}
					}
				}
				return c
			}, func(m *machine, c *Command, r Result) Result {
				if p, ok := c.Body.(*CreateProject); ok && r.Err == nil {
					put(m, p.Organisation, ManagementURI(p.Organisation, "project", p.Name))
				}
				return r
			})
		},
		"a wildcard in a management URI that is more than a literal": func() worldVariant {
			v := soundWorld()
			v.holds = func(o *Organisation, principal, permission, uri string) bool {
				if o.Holds(principal, permission, uri) {
					return true
				}
				return strings.Contains(uri, "*") && o.Holds(principal, permission, strings.ReplaceAll(uri, "*", "production"))
			}
			return v
		},
		"a role that is not expanded": func() worldVariant {
			v := soundWorld()
			v.holds = func(o *Organisation, principal, permission, uri string) bool {
				p, _ := o.Project(BuiltInProject)
				for a := range p.Reaching(principal, uri) {
					for _, x := range a.Permissions {
						if x.Name == permission {
							return true
						}
					}
				}
				return false
			}
			return v
		},
	}
	sound := oneByOne(func(m *machine, c *Command) *Command { return c }, func(m *machine, c *Command, r Result) Result { return r })
	for seed := range uint64(50) {
		if err := runWorld(t, seed, sound, &worldCounts{codes: map[Code]int{}}); err != nil {
			t.Fatalf("history %d: what is not broken is caught: %v", seed, err)
		}
	}
	for name, variant := range variants {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				if err := runWorld(t, seed, variant(), &worldCounts{codes: map[Code]int{}}); err != nil {
					return
				}
			}
			t.Error("300 histories did not notice")
		})
	}
}
