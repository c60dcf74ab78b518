package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// model is the naive truth that the state is held against: sets of strings and
// scans over all of them. It shares no code with what it judges: it has its own
// idea of a URI, and forgets the dead at once.
type model struct {
	permissions map[ID]string             // name
	roles       map[ID]*modelRole         //
	grants      map[[2]string]map[ID]bool // principal and URI → permissions and roles
}

type modelRole struct {
	name        string
	permissions map[ID]bool
}

func newModel() *model {
	return &model{map[ID]string{}, map[ID]*modelRole{}, map[[2]string]map[ID]bool{}}
}

// segmentsOf returns nil for what is not a URI.
func segmentsOf(uri string, wildcards bool) []string {
	if uri == "/" {
		return []string{""}
	}
	parts := strings.Split(uri, "/")
	if parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	if len(parts) < 2 || parts[0] != "" || len(parts) > 65 || len(uri) > 2049 {
		return nil
	}
	for _, p := range parts[1:] {
		if p == "" || p == "." || p == ".." || strings.Contains(p, "*") && (p != "*" || !wildcards) {
			return nil
		}
	}
	return parts
}

func (m *model) check(principal, uri, permission string) bool {
	return m.holds(principal, segmentsOf(uri, false), permission)
}

// holds is check on the segments of a URI, in which "*" is a text like any other.
func (m *model) holds(principal string, asked []string, permission string) bool {
	for key, rights := range m.grants {
		granted := segmentsOf(key[1], true)
		if key[0] != principal || len(granted) > len(asked) {
			continue
		}
		reaches := true
		for i, s := range granted {
			if i > 0 && s != asked[i] && s != "*" {
				reaches = false
			}
		}
		for id := range rights {
			if !reaches {
				break
			}
			if name, ok := m.permissions[id]; ok && name == permission {
				return true
			}
			if role, ok := m.roles[id]; ok {
				for p := range role.permissions {
					if m.permissions[p] == permission {
						return true
					}
				}
			}
		}
	}
	return false
}

func (m *model) idOf(permission string) (ID, bool) {
	for id, name := range m.permissions {
		if name == permission {
			return id, true
		}
	}
	return ID{}, false
}

func (m *model) roleOf(role string) (ID, bool) {
	for id, r := range m.roles {
		if r.name == role {
			return id, true
		}
	}
	return ID{}, false
}

// forget takes a dead id out of everything.
func (m *model) forget(id ID) {
	delete(m.permissions, id)
	delete(m.roles, id)
	for _, r := range m.roles {
		delete(r.permissions, id)
	}
	for key, rights := range m.grants {
		delete(rights, id)
		if len(rights) == 0 {
			delete(m.grants, key)
		}
	}
}

// rows is all that is granted, as text.
func (m *model) rows() []string {
	var rows []string
	for key, rights := range m.grants {
		var names []string
		for id := range rights {
			if name, ok := m.permissions[id]; ok {
				names = append(names, name)
			} else {
				names = append(names, "role "+m.roles[id].name)
			}
		}
		slices.Sort(names)
		rows = append(rows, fmt.Sprintf("%s on %s: %s", key[0], key[1], strings.Join(names, ", ")))
	}
	slices.Sort(rows)
	return rows
}

// A step is one command with what the model makes of it.
type step struct {
	body  Body
	apply func(m *model) (code Code) // 0 if it succeeds
}

// A history draws random commands. Few names and short URIs make them meet.
type history struct {
	r     *rand.Rand
	scope Scope
	ids   []ID // ever given out: some are dead
}

var (
	modelPermissions = []string{"doc.read", "doc.write", "doc.share", "bill.pay"}
	modelRoles       = []string{"reader", "writer", "Ünïcode role"}
	modelPrincipals  = []string{"u", "u1", "user:default/guest"}
	modelSegments    = []string{"a", "ab", "a-b", "b", "*"}
)

func (h *history) id() (id ID) {
	for i := range id {
		id[i] = byte(h.r.UintN(256))
	}
	h.ids = append(h.ids, id)
	return id
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// uri returns a canonical URI, mostly one that grants of others are above.
func (h *history) uri(wildcards bool, depth int) string {
	var b strings.Builder
	for range h.r.IntN(depth + 1) {
		s := pick(h.r, modelSegments)
		if s == "*" && !wildcards {
			s = "a"
		}
		b.WriteString("/" + s)
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// question draws a check: half of them of a principal at or below something that
// it was granted, or nearly all would be denied.
func (h *history) question(m *model) (principal, uri, permission string) {
	principal, uri, permission = pick(h.r, modelPrincipals), h.uri(false, 4), pick(h.r, modelPermissions)
	if rows := m.rows(); len(rows) > 0 && h.r.IntN(2) == 0 {
		var granted string
		principal, granted, _ = strings.Cut(pick(h.r, rows), " on ")
		granted, _, _ = strings.Cut(granted, ": ")
		uri = strings.ReplaceAll(granted, "*", pick(h.r, modelSegments[:4]))
		if below := h.uri(false, 1); below != "/" {
			uri = strings.TrimSuffix(uri, "/") + below
		}
	}
	return principal, uri, permission
}

// some returns a few ids: of the living, seldom of the dead.
func (h *history) some(living []ID, most int) []ID {
	var ids []ID
	for range h.r.IntN(most + 1) {
		if len(living) > 0 && h.r.IntN(20) > 0 {
			ids = append(ids, pick(h.r, living))
		} else if len(h.ids) > 0 && h.r.IntN(4) == 0 {
			ids = append(ids, pick(h.r, h.ids))
		}
	}
	return ids
}

func living[V any](m map[ID]V) []ID {
	var ids []ID
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

func setOf(ids []ID) map[ID]bool {
	set := map[ID]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func allIn[V any](ids []ID, m map[ID]V) bool {
	return !slices.ContainsFunc(ids, func(id ID) bool { _, ok := m[id]; return !ok })
}

// step draws the next command. It looks at the model to aim at what exists.
func (h *history) step(m *model) step {
	permissions, roles := living(m.permissions), living(m.roles)
	target := func(living []ID) ID {
		if some := h.some(living, 1); len(some) > 0 {
			return some[0]
		}
		return h.id()
	}
	switch n := h.r.IntN(100); {
	case n < 12:
		c := &PutPermission{h.scope, h.id(), pick(h.r, modelPermissions), fmt.Sprint(n)}
		return step{c, func(m *model) Code {
			if _, ok := m.idOf(c.Name); !ok {
				m.permissions[c.ID] = c.Name
			}
			return 0
		}}
	case n < 16:
		c := &UpdatePermission{h.scope, target(permissions), pick(h.r, append(modelPermissions, "")), "new"}
		return step{c, func(m *model) Code { return m.updatePermission(c) }}
	case n < 20:
		c := &DeletePermission{h.scope, target(permissions)}
		return step{c, func(m *model) Code { return m.deletePermission(c) }}
	case n < 30:
		c := &PutRole{h.scope, h.id(), pick(h.r, modelRoles), "", h.some(permissions, 3)}
		return step{c, func(m *model) Code { return m.putRole(c) }}
	case n < 34:
		c := &UpdateRole{h.scope, target(roles), pick(h.r, append(modelRoles, "")), "new", h.some(permissions, 3)}
		return step{c, func(m *model) Code {
			role, ok := m.roles[c.ID]
			if !ok {
				return CodeNotFound
			}
			name := c.Name
			if name == "" {
				name = role.name
			}
			if other, ok := m.roleOf(name); ok && other != c.ID {
				return CodeAlreadyExists
			}
			if !allIn(c.Permissions, m.permissions) {
				return CodeNotFound
			}
			m.roles[c.ID] = &modelRole{name, setOf(c.Permissions)}
			return 0
		}}
	case n < 37:
		c := &DeleteRole{h.scope, target(roles)}
		return step{c, func(m *model) Code {
			if _, ok := m.roles[c.ID]; ok {
				m.forget(c.ID)
			}
			return 0
		}}
	case n < 74:
		c := &Grant{h.scope, pick(h.r, modelPrincipals), h.uri(true, 3), h.some(permissions, 2), h.some(roles, 2)}
		return step{c, func(m *model) Code { return m.grant(c) }}
	case n < 90:
		c := &Revoke{h.scope, pick(h.r, modelPrincipals), h.uri(true, 3), h.some(permissions, 2), h.some(roles, 2)}
		if keys := m.rows(); len(keys) > 0 && h.r.IntN(3) > 0 { // one that exists
			principal, rest, _ := strings.Cut(pick(h.r, keys), " on ")
			uri, _, _ := strings.Cut(rest, ": ")
			c.Principal, c.URI = principal, uri
		}
		return step{c, func(m *model) Code { return m.revoke(c) }}
	default:
		return step{&Sweep{h.scope, 1 + h.r.IntN(6)}, func(*model) Code { return 0 }}
	}
}

func (m *model) updatePermission(c *UpdatePermission) Code {
	if _, ok := m.permissions[c.ID]; !ok {
		return CodeNotFound
	}
	if other, ok := m.idOf(c.Name); ok && other != c.ID {
		return CodeAlreadyExists
	}
	if c.Name != "" {
		m.permissions[c.ID] = c.Name
	}
	return 0
}

func (m *model) deletePermission(c *DeletePermission) Code {
	if _, ok := m.permissions[c.ID]; ok {
		m.forget(c.ID)
	}
	return 0
}

func (m *model) putRole(c *PutRole) Code {
	if !allIn(c.Permissions, m.permissions) {
		return CodeNotFound
	}
	id, ok := m.roleOf(c.Name)
	if !ok {
		id = c.ID
	}
	m.roles[id] = &modelRole{c.Name, setOf(c.Permissions)}
	return 0
}

func (m *model) grant(c *Grant) Code {
	if code := m.refuses(c.Permissions, c.Roles); code != 0 {
		return code
	}
	key := [2]string{c.Principal, c.URI}
	if m.grants[key] == nil {
		m.grants[key] = map[ID]bool{}
	}
	for id := range setOf(append(slices.Clone(c.Permissions), c.Roles...)) {
		m.grants[key][id] = true
	}
	return 0
}

func (m *model) revoke(c *Revoke) Code {
	if code := m.refuses(c.Permissions, c.Roles); code != 0 {
		return code
	}
	key := [2]string{c.Principal, c.URI}
	for _, id := range append(slices.Clone(c.Permissions), c.Roles...) {
		delete(m.grants[key], id)
	}
	if len(m.grants[key]) == 0 {
		delete(m.grants, key)
	}
	return 0
}

func (m *model) refuses(permissions, roles []ID) Code {
	if len(permissions)+len(roles) == 0 {
		return CodeInvalidArgument
	}
	if !allIn(permissions, m.permissions) || !allIn(roles, m.roles) {
		return CodeNotFound
	}
	return 0
}
