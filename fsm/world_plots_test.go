package fsm

// This file has commands that follow one another: what one at random seldom meets.

// newcomer queues a key of the built-in project, with permissions on a URI.
func (h *worldHistory) newcomer(scope Scope, operator bool, uri string, permissions []ID) Envelope {
	c := &CreateKey{scope, h.id(), "newcomer", h.hash(), ID{}, operator}
	h.queue = append(h.queue, byItself(c, func(w *world) Code { return w.createKey(new(Envelope), c) }))
	e := Envelope{Key: c.ID, Actor: "key:" + c.ID.String()}
	g := &Grant{scope, e.Actor, uri, permissions, nil}
	h.queue = append(h.queue, inProject(judgedBy(Envelope{}), step{g, nil}, scope))
	return e
}

// coup lets a key that holds each permission of today, and maybe is an operator's,
// turn on the owners, of whom there is one more.
func (h *worldHistory) coup(w *world, o *worldOrganisation, builtIn *worldProject) worldStep {
	scope, root := Scope{o.id, builtIn.id}, rootOf(o.id)
	owner := []ID{w.roleIDs["owner"]}
	rebel := h.newcomer(scope, h.r.IntN(3) == 0, root, living(builtIn.model.permissions))
	victim := &CreateKey{scope, h.id(), "victim", h.hash(), owner[0], h.r.IntN(2) == 0}
	h.queue = append(h.queue, byItself(victim, func(w *world) Code { return w.createKey(new(Envelope), victim) }))
	judged := judgedBy(rebel)
	switch h.r.IntN(4) {
	case 0:
		h.queue = append(h.queue, inProject(judged, step{&Grant{scope, "u", h.managementURI(w, o), nil, owner}, nil}, scope))
	case 1:
		c := &CreateKey{scope, h.id(), "heir", h.hash(), owner[0], false}
		h.queue = append(h.queue, judged(c, &scope, func(w *world, e *Envelope) Code { return w.createKey(e, c) }))
	case 2:
		h.queue = append(h.queue, inProject(judged, step{&Revoke{scope, "key:" + victim.ID.String(), root, nil, owner}, nil}, scope))
	default:
		c := &InvalidateKey{scope, victim.ID}
		h.queue = append(h.queue, judged(c, &scope, func(w *world, e *Envelope) Code { return w.invalidateKey(e, c) }))
	}
	return h.step(w)
}

// clerk lets a key that may do anything with one name of a permission try what it
// can with permissions that have that name, or get it.
func (h *worldHistory) clerk(w *world, o *worldOrganisation, builtIn, p *worldProject) worldStep {
	var all []ID
	for _, name := range []string{"permission.get", "permission.update", "permission.delete"} {
		all = append(all, w.permissionIDs[name])
	}
	clerk := h.newcomer(Scope{o.id, builtIn.id}, false, rootOf(o.id)+"/permission/"+pick(h.r, modelPermissions), all)
	judged, scope := judgedBy(clerk), h.scope
	some := append(living(p.model.permissions), h.id())
	for range 3 {
		var s step
		switch id := pick(h.r, some); h.r.IntN(4) {
		case 0:
			c := &UpdatePermission{scope, id, pick(h.r, append(modelPermissions, "")), "clerk's"}
			s = step{c, func(m *model) Code { return m.updatePermission(c) }}
		case 1:
			c := &DeletePermission{scope, id}
			s = step{c, func(m *model) Code { return m.deletePermission(c) }}
		case 2:
			c := &PutRole{scope, h.id(), "clerk " + id.String()[:6], "", h.some(some, 2)}
			s = step{c, func(m *model) Code { return m.putRole(c) }}
		default:
			s = step{&Grant{scope, "u", h.uri(true, 3), h.some(some, 2), nil}, nil}
		}
		h.queue = append(h.queue, inProject(judged, s, scope))
	}
	return h.step(w)
}
