package fsm

import (
	"fmt"
	"maps"
	"slices"
)

// A worldStep is one command with what the world makes of it.
type worldStep struct {
	*Command
	apply func(w *world) Code // 0 if it succeeds
}

// A worldHistory draws random commands of several organisations, most of them
// sent by somebody.
type worldHistory struct {
	history
	bulk    bool        // grants more than one deletion removes
	current bool        // no step was drawn that the world has not seen
	queue   []worldStep // to come before another is drawn
	sent    []*worldRequest
}

// byItself is a step of the cluster, which nobody judges.
func byItself(body Body, apply func(w *world) Code) worldStep {
	return worldStep{byCluster(body), apply}
}

var worldProjects = []string{"production", "staging", "beta-2"}

// sorted returns a map's values in order of id, so that a draw is repeatable.
func sorted[V any](m map[ID]V) []V {
	var all []V
	for _, id := range slices.SortedFunc(maps.Keys(m), ID.compare) {
		all = append(all, m[id])
	}
	return all
}

// organisation draws one of those there are, seldom another.
func (h *worldHistory) organisation(w *world) *worldOrganisation {
	if h.r.IntN(60) == 0 {
		return &worldOrganisation{id: pick(h.r, append(h.ids, h.id()))}
	}
	return pick(h.r, sorted(w.organisations))
}

// project draws one that is not built in, seldom another.
func (h *worldHistory) project(o *worldOrganisation) *worldProject {
	all := slices.DeleteFunc(sorted(o.projects), func(p *worldProject) bool { return p.name == "remit" && h.r.IntN(30) > 0 })
	if len(all) == 0 || h.r.IntN(60) == 0 {
		return &worldProject{pick(h.r, append(h.ids, h.id())), "gone", newModel()}
	}
	return pick(h.r, all)
}

func (h *worldHistory) hash() [32]byte { return [32]byte(h.bytes(32)) }

// uri draws a management URI of an organisation, seldom one that is none.
func (h *worldHistory) managementURI(w *world, o *worldOrganisation) string {
	if h.r.IntN(30) == 0 {
		return pick(h.r, []string{"/", "/organisation", "/organisation/*", rootOf(pick(h.r, sorted(w.organisations)).id)})
	}
	return rootOf(o.id) + pick(h.r, []string{
		"", "", "", "/role/reader", "/permission/doc.read", "/permission/*", "/principal/u", "/*", "/*/production",
		"/project/*", "/project/production", "/project/staging", "/project/beta-2", "/project/staging/resource/a", "/project/*/resource",
		"/project/production/resource/*", "/project/staging-2",
	})
}

// envelope draws who sends a command for the organisation, and what the call
// requires: mostly what he holds, or most would be denied.
func (h *worldHistory) envelope(w *world, o *worldOrganisation) Envelope {
	e := Envelope{Time: int64(h.r.IntN(1000))}
	if h.r.IntN(4) == 0 {
		return e
	}
	var own, all []*worldKey
	for _, k := range sorted(w.keys) {
		if all = append(all, k); k.organisation == o.id && w.living(k) {
			own = append(own, k)
		}
	}
	switch n := h.r.IntN(20); {
	case n == 0:
		e.Key = h.id()
	case n < 4 || len(own) == 0:
		e.Key = pick(h.r, all).id
	default:
		e.Key = pick(h.r, own).id
	}
	e.Actor = "key:" + e.Key.String()
	key := w.keys[e.Key]
	for range h.r.IntN(3) {
		permission, uri := pick(h.r, worldPermissions), h.managementURI(w, o)
		for range 8 {
			if key == nil || !w.living(key) || w.holds(w.organisations[key.organisation], e.Actor, permission, uri) {
				break
			}
			permission, uri = pick(h.r, worldPermissions), h.managementURI(w, o)
		}
		if h.r.IntN(40) == 0 {
			permission = "no.such"
		}
		cut := h.r.IntN(len(uri) + 1)
		e.Requires = append(e.Requires, Requirement{permission, uri[:cut], []string{uri[cut:]}})
	}
	return e
}

// draw draws a command that was not sent before.
func (h *worldHistory) draw(w *world) worldStep {
	if len(h.queue) > 0 {
		next := h.queue[0]
		h.queue = h.queue[1:]
		return next
	}
	o := h.organisation(w)
	e := h.envelope(w, o)
	judged := judgedBy(e)
	switch n := h.r.IntN(100); {
	case n < 40:
		p := h.project(o)
		h.scope = Scope{o.id, p.id}
		if builtIn := o.named("remit"); builtIn != nil && p.name != "remit" && h.r.IntN(12) == 0 {
			return h.clerk(w, o, builtIn, p)
		}
		return inProject(judged, h.history.step(p.model), h.scope)
	case n < 66:
		return h.builtInStep(w, o, judged)
	case n < 90:
		return h.projectStep(w, o, judged)
	default:
		return h.organisationStep(w, o, judged)
	}
}

// A judging makes a step whose actor is judged first.
type judging = func(body Body, within *Scope, apply func(w *world, e *Envelope) Code) worldStep

func judgedBy(e Envelope) judging {
	return func(body Body, within *Scope, apply func(w *world, e *Envelope) Code) worldStep {
		return worldStep{&Command{e, body}, func(w *world) Code {
			if code := w.judge(&e, within); code != 0 {
				return code
			}
			return apply(w, &e)
		}}
	}
}

// inProject is a step of one project, with what its organisation adds to it.
func inProject(judged judging, s step, scope Scope) worldStep {
	return judged(s.body, &scope, func(w *world, e *Envelope) Code {
		o, p, ok := w.project(scope)
		if !ok {
			return CodeNotFound
		}
		root := rootOf(scope.Organisation)
		switch c := s.body.(type) {
		case *Grant:
			return w.grant(e, o, p, c)
		case *Revoke:
			return w.revoke(e, o, p, c)
		case *Sweep:
			if p.name == "remit" {
				o.sweep(c.Limit)
			}
			return 0
		case *UpdatePermission:
			if !w.mayName(e, o, p, "permission.update", c.ID) {
				return CodePermissionDenied
			}
			if old, ok := p.model.permissions[c.ID]; ok && p.name != "remit" && c.Name != "" && c.Name != old && !w.may(e, "permission.update", root+"/permission/"+c.Name) {
				return CodePermissionDenied
			}
		case *DeletePermission:
			if !w.mayName(e, o, p, "permission.delete", c.ID) {
				return CodePermissionDenied
			}
		case *PutRole:
			if !w.mayName(e, o, p, "permission.get", c.Permissions...) {
				return CodePermissionDenied
			}
			if id, ok := p.model.roleOf(c.Name); ok && p.name != "remit" && !w.may(e, "role.update", root+"/role/"+id.String()) {
				return CodePermissionDenied
			}
		case *UpdateRole:
			if old, ok := p.model.roles[c.ID]; ok && p.name != "remit" && c.Name != "" && c.Name != old.name && !w.may(e, "role.update", root+"/role/"+c.Name) {
				return CodePermissionDenied
			}
		}
		if p.name == "remit" {
			return CodePermissionDenied
		}
		return s.apply(p.model)
	})
}

// builtInStep draws a command of the built-in project.
func (h *worldHistory) builtInStep(w *world, o *worldOrganisation, judged judging) worldStep {
	builtIn := o.named("remit")
	if builtIn == nil {
		builtIn = &worldProject{h.id(), "remit", newModel()}
	}
	scope := Scope{o.id, builtIn.id}
	uri := h.managementURI(w, o)
	principal := "u"
	if keys := sorted(w.keys); h.r.IntN(4) > 0 {
		k := pick(h.r, keys)
		for range 4 {
			if k.organisation != o.id || !w.living(k) {
				k = pick(h.r, keys)
			}
		}
		principal = "key:" + k.id.String()
	} else if h.r.IntN(8) == 0 {
		principal = "key:nonsense"
	}
	permissions, roles := h.some(living(builtIn.model.permissions), 2), h.some(living(builtIn.model.roles), 1)
	switch n := h.r.IntN(20); {
	case n < 11:
		if h.r.IntN(6) == 0 {
			return h.coup(w, o, builtIn)
		}
		return inProject(judged, step{&Grant{scope, principal, uri, permissions, roles}, nil}, scope)
	case n < 17:
		c := &Revoke{scope, principal, uri, permissions, roles}
		if owners := w.owners(o); len(owners) > 0 && h.r.IntN(4) == 0 {
			c.Principal, c.URI, c.Roles = "key:"+pick(h.r, owners).String(), rootOf(o.id), []ID{w.roleIDs["owner"]}
		}
		return inProject(judged, step{c, nil}, scope)
	case n < 19:
		return inProject(judged, step{&Sweep{scope, 1 + h.r.IntN(40)}, nil}, scope)
	default:
		h.scope = scope
		return inProject(judged, h.history.step(builtIn.model), scope)
	}
}

// projectStep draws a command about projects and keys.
func (h *worldHistory) projectStep(w *world, o *worldOrganisation, judged judging) worldStep {
	p := h.project(o)
	if builtIn := o.named("remit"); builtIn != nil && h.r.IntN(3) == 0 {
		p = builtIn
	}
	scope := Scope{o.id, p.id}
	switch n := h.r.IntN(24); {
	case n < 6:
		c := &CreateProject{Scope{o.id, h.id()}, pick(h.r, append(worldProjects, "remit", "Beta"))}
		if h.current && o.projects[p.id] != nil && h.r.IntN(20) == 0 { // no id comes back once its project is gone
			c.Project = p.id
		}
		return judged(c, &c.Scope, func(w *world, e *Envelope) Code { return w.createProject(c) })
	case n < 10:
		if !h.bulk {
			return judged(&DeleteProject{scope}, &scope, func(w *world, e *Envelope) Code { return w.deleteProject(scope) })
		}
		deletion := byItself(&DeleteProject{scope}, func(w *world) Code { return w.deleteProject(scope) })
		if h.r.IntN(2) == 0 {
			h.grantInBulk(w, o, p)
		}
		again := &CreateProject{Scope{o.id, h.id()}, p.name} // too early, where many grants are left
		h.queue = append(h.queue, deletion, byItself(again, func(w *world) Code { return w.createProject(again) }))
		if builtIn := o.named("remit"); builtIn != nil {
			for range 6 { // nor may anybody grant on it, and only who could is told why
				e := h.envelope(w, o)
				e.Requires = nil
				late := &Grant{Scope{o.id, builtIn.id}, "u", rootOf(o.id) + "/project/" + p.name, []ID{w.permissionIDs["audit.get"]}, nil}
				h.queue = append(h.queue, inProject(judgedBy(e), step{late, nil}, late.Scope))
			}
		}
		// What the keys of this project were granted would else be counted, or
		// not, when the next one is deleted.
		for range 2 {
			h.queue = append(h.queue, byItself(&SweepKeys{10_000}, func(*world) Code { return 0 }))
		}
		return h.step(w)
	case n < 17:
		c := &CreateKey{scope, h.id(), pick(h.r, []string{"ci", "app", "größe", "\x00"}), h.hash(), ID{}, h.r.IntN(6) == 0}
		switch k := pick(h.r, sorted(w.keys)); h.r.IntN(12) {
		case 0:
			if h.current && (w.living(k) || k.invalidated) { // else it depends on sweeps
				c.Hash = k.hash
			}
		case 1:
			if h.current && w.living(k) {
				c.ID = k.id
			}
		case 2, 3, 4, 5, 6:
			c.Role = w.roleIDs[pick(h.r, []string{"owner", "editor", "viewer", "viewer"})]
		case 7:
			c.Role = w.permissionIDs["role.get"]
		}
		return judged(c, &scope, func(w *world, e *Envelope) Code { return w.createKey(e, c) })
	default:
		c := &InvalidateKey{scope, pick(h.r, sorted(w.keys)).id}
		if k := w.keys[c.ID]; h.r.IntN(4) > 0 {
			c.Scope = Scope{k.organisation, k.project}
		}
		return judged(c, &c.Scope, func(w *world, e *Envelope) Code { return w.invalidateKey(e, c) })
	}
}

// grantInBulk queues more grants on a project than its deletion removes at once.
// They come last in order, so that they are what is left. Half of the times they
// would be one principal's, who may not have as many.
func (h *worldHistory) grantInBulk(w *world, o *worldOrganisation, p *worldProject) {
	builtIn := o.named("remit")
	if builtIn == nil || p.name == "remit" {
		return
	}
	principals, id := 1+h.r.IntN(2), h.id()
	for i := range 1000 + h.r.IntN(100) {
		scope, principal := Scope{o.id, builtIn.id}, fmt.Sprintf("bulk %d of %s", i%principals, id)
		c := &Grant{scope, principal, fmt.Sprintf("%s/project/%s/~/%d", rootOf(o.id), p.name, i), []ID{w.permissionIDs["role.get"]}, nil}
		h.queue = append(h.queue, byItself(c, func(w *world) Code {
			o, p, ok := w.project(scope)
			if !ok {
				return CodeNotFound
			}
			return w.grant(new(Envelope), o, p, c)
		}))
	}
}

// organisationStep draws a command about organisations, or sweeps keys.
func (h *worldHistory) organisationStep(w *world, o *worldOrganisation, judged judging) worldStep {
	if len(w.operators) > 0 && h.r.IntN(3) == 0 {
		judged = judgedBy(Envelope{Key: pick(h.r, slices.SortedFunc(maps.Keys(w.operators), ID.compare))})
	}
	name := pick(h.r, []string{"acme", "Bücher", "acme", ""})
	switch n := h.r.IntN(10); {
	case n < 4:
		return judged(&SweepKeys{1 + h.r.IntN(4)}, nil, func(*world, *Envelope) Code { return 0 })
	case n < 7 && len(w.organisations) < 4:
		c := &CreateOrganisation{h.id(), name, h.id(), h.id(), pick(h.r, worldProjects), h.id(), "first", h.hash()}
		if h.r.IntN(10) == 0 {
			c.Organisation = o.id
		}
		if h.r.IntN(20) == 0 {
			c.ProjectName = "remit"
		}
		return judged(c, nil, func(w *world, e *Envelope) Code { return w.createOrganisation(e, c) })
	case n < 9:
		c := &UpdateOrganisation{o.id, name}
		return judged(c, &Scope{Organisation: o.id}, func(w *world, e *Envelope) Code {
			o := w.organisations[c.Organisation]
			switch {
			case o == nil:
				return CodeNotFound
			case c.Name == "":
				return CodeInvalidArgument
			}
			o.name = c.Name
			return 0
		})
	default:
		c := &DeleteOrganisation{o.id}
		return judged(c, nil, func(w *world, e *Envelope) Code { return w.deleteOrganisation(e, c.Organisation) })
	}
}
