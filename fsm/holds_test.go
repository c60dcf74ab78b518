package fsm

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/remit-io/remit/index"
)

// TestRevokedBefore: what was revoked before a command's place in the log does
// not help, in one batch or in several.
func TestRevokedBefore(t *testing.T) {
	admin := ID{47}
	revoke := &Revoke{builtInScope, KeyPrincipal(admin), own(), nil, []ID{roleOwner}}
	grant := by(admin, &Grant{builtInScope, "friend", own(), nil, []ID{roleOwner}}, [2]string{"principal.assignment.create", own("principal", "friend")})
	write := by(admin, &PutPermission{Scope{ID{1}, ID{2}}, newID, "doc.print", ""}, [2]string{"permission.create", own()})
	key := by(admin, newKey(builtInScope, newID, roleOwner))
	for name, c := range map[string]struct {
		ends   *Command
		denied Code // of what the admin sends after it
	}{
		"his role is revoked":          {by(rootID, revoke, [2]string{"principal.assignment.delete", own()}), CodePermissionDenied},
		"his key is invalidated":       {by(rootID, &InvalidateKey{builtInScope, admin}), CodeUnauthenticated},
		"he gives it up":               {by(admin, revoke), CodePermissionDenied},
		"he invalidates his own key":   {by(admin, &InvalidateKey{builtInScope, admin}), CodeUnauthenticated},
		"the cluster revokes his role": {byCluster(revoke), CodePermissionDenied},
	} {
		for _, late := range []*Command{grant, write, key} {
			for _, batched := range []bool{true, false} {
				play := func(m *machine, commands ...*Command) (results []Result) {
					if batched {
						return m.play(commands...)
					}
					for _, c := range commands {
						results = append(results, m.play(c)...)
					}
					return results
				}
				m := newTenancy(t)
				m.must(newKey(builtInScope, admin, roleOwner))
				results := play(m, c.ends, late)
				if results[0].Err != nil || results[1].Err == nil || results[1].Err.Code != c.denied {
					t.Errorf("%s, then %T: %v, %v", name, late.Body, results[0].Err, results[1].Err)
				}
				if o, _ := m.store.State().Organisation(m.scope.Organisation); o.Holds("friend", "audit.get", own()) {
					t.Errorf("%s: his friend is an owner", name)
				}
				m = newTenancy(t)
				m.must(newKey(builtInScope, admin, roleOwner))
				if results := play(m, late, c.ends); results[0].Err != nil || results[1].Err != nil {
					t.Errorf("%T, then %s: %v, %v", late.Body, name, results[0].Err, results[1].Err)
				}
			}
		}
	}
}

// TestHolds: rights go down whole segments, through roles and wildcards of
// grants; a wildcard in what is asked is a literal.
func TestHolds(t *testing.T) {
	m := newTenancy(t)
	get := []ID{permissionID("role.get")}
	m.must(&Grant{builtInScope, "a", own("role", "1"), get, nil})
	m.must(&Grant{builtInScope, "b", own("project") + "/*/resource", get, nil})
	m.must(&Grant{builtInScope, "c", own("project", "p", "resource") + "/*", nil, []ID{roleViewer}})
	m.must(&Grant{builtInScope, "d", own("role", EscapeSegment("*")), get, nil}) // escaped twice: another name
	m.must(&Grant{builtInScope, "e", own("role") + "/" + EscapeSegment("*"), get, nil})
	o, _ := m.store.State().Organisation(m.scope.Organisation)
	for _, c := range []struct {
		principal, permission, uri string
		holds                      bool
	}{
		{"a", "role.get", own("role", "1"), true},
		{"a", "role.get", own("role", "1", "x"), true},
		{"a", "role.get", own("role", "12"), false},
		{"a", "role.get", own("role"), false},
		{"a", "role.get", own("role", "1/x"), false},
		{"a", "role.list", own("role", "1"), false},
		{"a", "role.get", own("role") + "/*", false},
		{"a", "owner", own("role", "1"), false},
		{"b", "role.get", own("project", "p", "resource", "x"), true},
		{"b", "role.get", own("project") + "/*/resource", true},
		{"b", "role.get", own("project", "p"), false},
		{"b", "role.get", own("project", "p/resource"), false},
		{"c", "role.get", own("project", "p", "resource", "x"), true},
		{"c", "role.get", own("project", "p", "resource") + "/*", true},
		{"c", "role.get", own("project", "p", "resource") + "/*/deep", true},
		{"c", "role.create", own("project", "p", "resource", "x"), false},
		{"c", "role.get", own("project", "p", "resource"), false},
		{"c", "role.get", own("project") + "/*/resource/x", false},
		{"d", "role.get", own("role", "*"), false},
		{"d", "role.get", own("role", "%2A"), true},
		{"e", "role.get", own("role", "*"), true},
		{"e", "role.get", own("role") + "/*", false},
		{"e", "role.get", own("role", "1"), false},
		{"nobody", "role.get", own(), false},
		{"", "role.get", own(), false},
		{KeyPrincipal(rootID), "role.get", own(), true},
		{KeyPrincipal(rootID), "role.get", own("a", "..", "b"), true},
		{KeyPrincipal(rootID), "role.get", "/", false},
		{KeyPrincipal(rootID), "role.get", "", false},
		{KeyPrincipal(rootID), "role.get", own() + "0", false},
		{KeyPrincipal(rootID), "role.get", ManagementURI(acmeScope.Organisation), false},
		{KeyPrincipal(acmeKey), "role.get", own(), false},
		{KeyPrincipal(acmeKey), "role.get", ManagementURI(acmeScope.Organisation), false},
	} {
		if got := o.Holds(c.principal, c.permission, c.uri); got != c.holds {
			t.Errorf("%q holds %s on %s: %v", c.principal, c.permission, c.uri, got)
		}
	}
	if new(Organisation).Holds("a", "role.get", own()) {
		t.Error("something is held in no organisation")
	}
}

// TestAuthorityDoesNotAllocate is about what every call asks.
func TestAuthorityDoesNotAllocate(t *testing.T) {
	m := newTenancy(t)
	for i := range MaxBuiltInAssignments - 1 { // more than fits into a record
		m.must(&Grant{builtInScope, KeyPrincipal(editorKey), own("role", fmt.Sprint(i)), []ID{permissionID("role.get")}, nil})
	}
	s := m.store.State()
	o, _ := s.Organisation(m.scope.Organisation)
	hash, unknown := hashOf(editorKey), hashOf(newID)
	deep := own("project", "production") + "/resource/a/b/c/*"
	for name, f := range map[string]func() bool{
		"an owner":           func() bool { return o.Holds("key:03000000-0000-0000-0000-000000000000", "audit.get", deep) },
		"one of many grants": func() bool { return o.Holds("key:29000000-0000-0000-0000-000000000000", "role.get", deep) },
		"one who does not":   func() bool { return !o.Holds("key:29000000-0000-0000-0000-000000000000", "audit.get", deep) },
		"nobody":             func() bool { return !o.Holds("nobody", "audit.get", deep) },
		"no permission":      func() bool { return !o.Holds("nobody", "no.such", deep) },
		"an operator":        func() bool { return s.IsOperator(rootID) && !s.IsOperator(editorKey) },
	} {
		ok := true
		if n := testing.AllocsPerRun(100, func() { ok = ok && f() }); n != 0 || !ok {
			t.Errorf("%s: %v allocations, right %v", name, n, ok)
		}
	}
	// A key is looked up once a call.
	if n := testing.AllocsPerRun(100, func() { s.Key(hash); s.Key(unknown) }); n > 0 {
		t.Errorf("looking up keys: %v allocations", n)
	}
}

// TestDenied: a denial says what the documentation says, within bounds.
func TestDenied(t *testing.T) {
	err := Denied("permission.create", "/organisation/org_123")
	if want := "Permission denied: missing required permission 'permission.create' on resource '/organisation/org_123'"; err.Message != want || err.Code != CodePermissionDenied {
		t.Errorf("%d: %s", err.Code, err.Message)
	}
	for n, cut := range map[int]bool{2399: false, 2400: false, 2401: true, 1 << 20: true} {
		resource := strings.Repeat("x", n)
		want := "on resource '" + resource[:min(n, 2400)] + "'"
		if cut {
			want = strings.TrimSuffix(want, "'") + "…'"
		}
		if m := Denied("role.get", resource).Message; !strings.HasSuffix(m, want) {
			t.Errorf("of %d bytes there are %d in the message", n, len(m))
		}
	}
	for shift := range 4 {
		long := "/" + strings.Repeat("x", shift) + strings.Repeat("文", 1<<16)
		if m := Denied("role.get", long).Message; len(m) > 2400+150 || !utf8.ValidString(m) || !strings.HasSuffix(m, "…'") {
			t.Errorf("of %d bytes it has %d, ends with %q, and is valid UTF-8: %v", len(long), len(m), m[len(m)-8:], utf8.ValidString(m))
		}
		m := newTenancy(t)
		uri := "/" + strings.Repeat("x", shift) + strings.Repeat("文", 200)
		m.refuses(by(rootID, &Grant{builtInScope, "u", uri, nil, []ID{roleOwner}}), CodePermissionDenied, "and below, not on")
		if err := m.store.State().Refuses(by(rootID, &Grant{builtInScope, "u", uri, nil, []ID{roleOwner}})); !utf8.ValidString(err.Error()) {
			t.Errorf("not valid UTF-8: %q", err)
		}
	}
}

// FuzzEscapeSegment: any text becomes one segment of a URI, and no two the same.
func FuzzEscapeSegment(f *testing.F) {
	seeds := []string{"", ".", "..", "...", "*", "%2A", "%", "%25", "%252A", "a/b", "a%2Fb", "a%2fb", "/", "//", "%2E", "%2E%2E", ".%2E", "a.b", "..a", "\x00", "ü*/%", "\xff"}
	for _, a := range seeds {
		for _, b := range seeds {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := EscapeSegment(a), EscapeSegment(b)
		if (a == b) != (x == y) {
			t.Fatalf("%q and %q become %q and %q", a, b, x, y)
		}
		if strings.ContainsAny(x, "/*") || x == "." || x == ".." {
			t.Fatalf("%q becomes %q", a, x)
		}
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r < 0x20 || r >= 0x7f }) || len(x) > 1000 {
			return
		}
		// A grant can name it, and reaches just that.
		uri := own("role", a)
		if pattern, err := index.ParsePattern(uri); err != nil || pattern != uri || strings.Count(uri, "/") != 4 {
			t.Fatalf("%q becomes %q: %v", a, uri, err)
		}
		if index.Covers(uri, own("role", b)) != (a == b) && b != "" {
			t.Fatalf("%q reaches %q", uri, own("role", b))
		}
	})
}

// TestManagementURI: a URI has as many segments as it was given.
func TestManagementURI(t *testing.T) {
	for _, c := range []struct {
		segments []string
		want     string
	}{
		{nil, ""},
		{[]string{"principal", "user:default/guest"}, "/principal/user:default%2Fguest"},
		{[]string{"principal", ".."}, "/principal/%2E%2E"},
		{[]string{"principal", "."}, "/principal/%2E"},
		{[]string{"principal", "*"}, "/principal/%2A"},
		{[]string{"principal", "100%"}, "/principal/100%25"},
		{[]string{"principal", "%2F"}, "/principal/%252F"},
		{[]string{"a", "b", "c"}, "/a/b/c"},
	} {
		if got := own(c.segments...); got != "/organisation/01000000-0000-0000-0000-000000000000"+c.want {
			t.Errorf("%q makes %s", c.segments, got)
		}
	}
}
