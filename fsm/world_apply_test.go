package fsm

import (
	"slices"
	"strings"
)

// This file is what the world makes of commands.

func (w *world) grant(e *Envelope, o *worldOrganisation, p *worldProject, c *Grant) Code {
	if code := p.model.refuses(c.Permissions, c.Roles); code != 0 {
		return code
	}
	if strings.HasPrefix(c.Principal, "key:") && w.keyOf(o, c.Principal) == nil {
		return CodeNotFound
	}
	if p.name == "remit" {
		if code := w.mayGrant(e, o, c.Principal, c.URI, c.Permissions, c.Roles); code != 0 {
			return code
		}
	} else if !w.mayName(e, o, p, "permission.get", c.Permissions...) {
		return CodePermissionDenied
	}
	return p.model.grant(c)
}

func (w *world) revoke(e *Envelope, o *worldOrganisation, p *worldProject, c *Revoke) Code {
	if code := p.model.refuses(c.Permissions, c.Roles); code != 0 {
		return code
	}
	if p.name == "remit" && slices.Contains(c.Roles, w.roleIDs["owner"]) && c.URI == rootOf(o.id) {
		if k, owners := w.keyOf(o, c.Principal), w.owners(o); k != nil && slices.Contains(owners, k.id) && (!w.mayEndOwner(e, o, k) || len(owners) == 1) {
			return CodePermissionDenied
		}
	}
	return p.model.revoke(c)
}

func (w *world) isOperator(e *Envelope) bool { return e.Key == (ID{}) || w.operators[e.Key] }

func (w *world) createOrganisation(e *Envelope, c *CreateOrganisation) Code {
	switch {
	case !w.isOperator(e):
		return CodePermissionDenied
	case c.Name == "" || c.ProjectName == "remit":
		return CodeInvalidArgument
	case w.organisations[c.Organisation] != nil:
		return CodeAlreadyExists
	}
	w.addOrganisation(c)
	return 0
}

func (w *world) deleteOrganisation(e *Envelope, id ID) Code {
	switch {
	case !w.isOperator(e):
		return CodePermissionDenied
	case w.organisations[id] == nil:
		return CodeNotFound
	}
	for operator := range w.operators {
		if w.keys[operator].organisation == id {
			return CodePermissionDenied
		}
	}
	delete(w.organisations, id)
	return 0
}

func (w *world) createProject(c *CreateProject) Code {
	o := w.organisations[c.Organisation]
	switch {
	case o == nil:
		return CodeNotFound
	case c.Name == "remit" || c.Name != strings.ToLower(c.Name):
		return CodeInvalidArgument
	case o.named(c.Name) != nil || o.projects[c.Project] != nil:
		return CodeAlreadyExists
	case o.isEnding(rootOf(o.id) + "/project/" + c.Name):
		return CodeUnavailable
	}
	o.projects[c.Project] = &worldProject{c.Project, c.Name, newModel()}
	return 0
}

// deleteProject forgets a project, its keys' grants and the grants on it. Those
// beyond a thousand are counted until sweeps have removed them.
func (w *world) deleteProject(s Scope) Code {
	o, p, ok := w.project(s)
	switch {
	case !ok:
		return CodeNotFound
	case p.name == "remit":
		return CodePermissionDenied
	}
	uri, m, n := rootOf(o.id)+"/project/"+p.name, o.named("remit").model, 0
	for key := range m.grants {
		if key[1] == uri || strings.HasPrefix(key[1], uri+"/") {
			delete(m.grants, key)
			n++
		}
	}
	if n > 1000 {
		o.ending = append(o.ending, worldEnding{uri, n - 1000})
	}
	for id, k := range w.keys {
		if k.organisation == o.id && k.project == p.id {
			o.forgetPrincipal("key:" + id.String())
		}
	}
	delete(o.projects, p.id)
	return 0
}

func (w *world) createKey(e *Envelope, c *CreateKey) Code {
	o, p, ok := w.project(c.Scope)
	if !ok {
		return CodeNotFound
	}
	root := rootOf(o.id)
	if c.Role != (ID{}) {
		if o.named("remit").model.roles[c.Role] == nil {
			return CodeNotFound
		}
		if code := w.mayGrant(e, o, "key:"+c.ID.String(), root, nil, []ID{c.Role}); code != 0 {
			return code
		}
	}
	switch {
	case c.Operator && !w.isOperator(e):
		return CodePermissionDenied
	case c.Operator && p.name != "remit", c.Name == "\x00":
		return CodeInvalidArgument
	case w.keys[c.ID] != nil:
		return CodeAlreadyExists
	}
	for _, k := range w.keys {
		if k.hash == c.Hash && w.living(k) {
			return CodeAlreadyExists
		}
	}
	w.keys[c.ID] = &worldKey{c.ID, o.id, p.id, c.Hash, false}
	if c.Role != (ID{}) {
		o.named("remit").model.grant(&Grant{Principal: "key:" + c.ID.String(), URI: root, Roles: []ID{c.Role}})
	}
	if c.Operator {
		w.operators[c.ID] = true
	}
	return 0
}

func (w *world) invalidateKey(e *Envelope, c *InvalidateKey) Code {
	o, p, ok := w.project(c.Scope)
	k := w.keys[c.ID]
	switch {
	case !ok || k == nil || k.organisation != o.id || k.project != p.id:
		return CodeNotFound
	case k.invalidated:
		return 0
	case w.operators[k.id] && (!w.isOperator(e) || len(w.operators) == 1):
		return CodePermissionDenied
	}
	if owners := w.owners(o); slices.Contains(owners, k.id) && (!w.mayEndOwner(e, o, k) || len(owners) == 1) {
		return CodePermissionDenied
	}
	k.invalidated = true
	delete(w.operators, k.id)
	o.forgetPrincipal("key:" + k.id.String())
	return 0
}
