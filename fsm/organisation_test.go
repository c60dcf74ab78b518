package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCreateOrganisation(t *testing.T) {
	m := newTenancy(t)
	c := &CreateOrganisation{ID{80}, "Bücher & Söhne", ID{81}, ID{82}, "default", ID{83}, "first key", [32]byte{83}}
	command := by(rootID, c)
	command.Envelope.Time = 77
	r := m.mustBy(command)
	if r.Organisation == nil || r.Organisation.ID != c.Organisation || r.Organisation.Name != c.Name || r.Organisation.Created != 77 || r.Organisation.Updated != 77 {
		t.Errorf("it answers %+v", r.Organisation)
	}
	if want := (Key{c.Key, "first key", c.KeyHash, c.Organisation, BuiltInProject, c.BuiltIn, 77, false}); r.Key == nil || *r.Key != want {
		t.Errorf("it answers %+v", r.Key)
	}
	for range 2 {
		o, ok := m.store.State().Organisation(c.Organisation)
		if !ok || o.Name != c.Name || o.owners != 1 {
			t.Fatalf("there is %+v", o)
		}
		var projects []string
		for p := range o.Projects("") {
			projects = append(projects, fmt.Sprint(p.Name, p.ID[0], " ", p.Created))
		}
		if want := []string{"default82 77", "remit81 77"}; !slices.Equal(projects, want) {
			t.Errorf("its projects are %q", projects)
		}
		root := ManagementURI(o.ID)
		if !o.Holds(KeyPrincipal(c.Key), "organisation.update", root) || m.store.State().IsOperator(c.Key) {
			t.Error("the first key is no owner, or an operator")
		}
		m.restart()
	}
	// The new owner works in it, and nowhere else; the operator who made it does not.
	scope := Scope{c.Organisation, c.Project}
	m.mustBy(by(c.Key, &PutPermission{scope, ID{84}, "doc.read", ""}, [2]string{"permission.create", ManagementURI(c.Organisation)}))
	m.refuses(by(c.Key, &PutPermission{m.scope, newID, "doc.print", ""}), CodePermissionDenied, "of another project")
	m.refuses(by(rootID, &PutPermission{scope, newID, "doc.print", ""}), CodePermissionDenied, "of another project")
}

func TestOrganisationRefusals(t *testing.T) {
	m := newTenancy(t)
	with := func(change func(c *CreateOrganisation)) *CreateOrganisation {
		c := &CreateOrganisation{ID{80}, "new", ID{81}, ID{82}, "default", ID{83}, "first key", [32]byte{83}}
		change(c)
		return c
	}
	operator := newKey(builtInScope, ID{96}, ID{})
	operator.Operator = true
	m.must(operator)
	for _, c := range []struct {
		body Body
		code Code
		part string
	}{
		{with(func(c *CreateOrganisation) { c.Name = "" }), CodeInvalidArgument, "organisation name is empty"},
		{with(func(c *CreateOrganisation) { c.Name = strings.Repeat("x", 257) }), CodeInvalidArgument, "257 bytes"},
		{with(func(c *CreateOrganisation) { c.Name = "a\u202eb" }), CodeInvalidArgument, "U+202E"},
		{with(func(c *CreateOrganisation) { c.ProjectName = "remit" }), CodeInvalidArgument, "reserved"},
		{with(func(c *CreateOrganisation) { c.ProjectName = "Default" }), CodeInvalidArgument, `"Default"`},
		{with(func(c *CreateOrganisation) { c.ProjectName = "" }), CodeInvalidArgument, `""`},
		{with(func(c *CreateOrganisation) { c.BuiltIn = c.Project }), CodeInvalidArgument, "two projects"},
		{with(func(c *CreateOrganisation) { c.Organisation = m.scope.Organisation }), CodeAlreadyExists, m.scope.Organisation.String()},
		{with(func(c *CreateOrganisation) { c.Key = acmeKey }), CodeAlreadyExists, acmeKey.String()},
		{with(func(c *CreateOrganisation) { c.KeyHash = hashOf(acmeKey) }), CodeAlreadyExists, "draw another"},
		{with(func(c *CreateOrganisation) { c.KeyName = "" }), CodeInvalidArgument, "key name is empty"},
		{&UpdateOrganisation{ID{77}, "new"}, CodeNotFound, ID{77}.String()},
		{&UpdateOrganisation{m.scope.Organisation, ""}, CodeInvalidArgument, "organisation name is empty"},
		{&UpdateOrganisation{m.scope.Organisation, "a\tb"}, CodeInvalidArgument, "U+0009"},
		{&DeleteOrganisation{ID{77}}, CodeNotFound, ID{77}.String()},
		{&DeleteOrganisation{m.scope.Organisation}, CodePermissionDenied, "has the operator key"},
		{&CreateProject{Scope{ID{77}, newID}, "new"}, CodeNotFound, "organisation"},
		{&CreateProject{Scope{m.scope.Organisation, newID}, "remit"}, CodeInvalidArgument, `"remit" is reserved`},
		{&CreateProject{Scope{m.scope.Organisation, newID}, "production"}, CodeAlreadyExists, `"production"`},
		{&CreateProject{Scope{m.scope.Organisation, m.scope.Project}, "new"}, CodeAlreadyExists, m.scope.Project.String()},
		{&CreateProject{Scope{m.scope.Organisation, remitID}, "new"}, CodeAlreadyExists, remitID.String()},
		{&DeleteProject{Scope{m.scope.Organisation, newID}}, CodeNotFound, newID.String()},
		{&DeleteProject{Scope{ID{77}, m.scope.Project}}, CodeNotFound, "organisation"},
		{&DeleteProject{Scope{m.scope.Organisation, acmeScope.Project}}, CodeNotFound, "project"},
		{&DeleteProject{builtInScope}, CodePermissionDenied, `"remit" is built in and stays`},
	} {
		m.refuses(byCluster(c.body), c.code, c.part)
	}
	m.refuses(by(ID{96}, &DeleteProject{builtInScope}), CodePermissionDenied, "built in and stays")
	m.refuses(byCluster(&Init{Cluster: ID{7}, CreateOrganisation: *with(func(*CreateOrganisation) {})}), CodeAlreadyExists, "initialised before")
	// A cluster's first command may be refused, and leaves nothing.
	empty := &machine{t: t, store: newStore(t)}
	empty.refuses(byCluster(&Init{CreateOrganisation: *with(func(*CreateOrganisation) {})}), CodeInvalidArgument, "the cluster needs an id")
	empty.refuses(byCluster(&Init{Cluster: ID{7}, CreateOrganisation: *with(func(c *CreateOrganisation) { c.Name = "" })}), CodeInvalidArgument, "organisation name")
	empty.refuses(byCluster(&Init{Cluster: ID{7}, CreateOrganisation: *with(func(c *CreateOrganisation) { c.KeyName = "" })}), CodeInvalidArgument, "key name")
	empty.refuses(by(ID{83}, &Init{Cluster: ID{7}, CreateOrganisation: *with(func(*CreateOrganisation) {})}), CodeUnauthenticated, "not valid")
}

// TestProjectNames: a name can stand in a path, and there is one way to write it.
func TestProjectNames(t *testing.T) {
	testTexts(t, ValidateProjectName, []textCase{
		{"a", ""},
		{"0", ""},
		{"staging-2", ""},
		{"a-", ""},
		{"remit2", ""},
		{strings.Repeat("a", 63), ""},
		{strings.Repeat("a", 64), "1 to 63"},
		{strings.Repeat("ü", 5000), "1 to 63"},
		{"", "1 to 63"},
		{"-a", "1 to 63"},
		{"A", "1 to 63"},
		{"a_b", "1 to 63"},
		{"a.b", "1 to 63"},
		{"..", "1 to 63"},
		{"a/b", "1 to 63"},
		{"a%2Fb", "1 to 63"},
		{"*", "1 to 63"},
		{"a\x00", "1 to 63"},
		{"a\u200b", "1 to 63"},
		{"remit", "reserved"},
	})
	testTexts(t, ValidateOrganisationName, append([]textCase{{"acme", ""}, {"Bücher & Söhne", ""}, {"", "empty"}, {strings.Repeat("x", 257), "256 at most"}}, invisible...))
	testTexts(t, ValidateKeyName, append([]textCase{{"ci", ""}, {"a/b", ""}, {"", "empty"}, {strings.Repeat("x", 257), "256 at most"}}, invisible...))
}

func TestUpdateOrganisation(t *testing.T) {
	m := newTenancy(t)
	c := by(rootID, &UpdateOrganisation{m.scope.Organisation, "renamed"}, [2]string{"organisation.update", own()})
	c.Envelope.Time = 99
	r := m.mustBy(c)
	for range 2 {
		o := m.organisation()
		if o.Name != "renamed" || o.Created != 1 || o.Updated != 99 || r.Organisation.Name != o.Name || r.Organisation.Updated != 99 || r.Organisation.Created != 1 {
			t.Errorf("there is %+v, answered %+v", o, r.Organisation)
		}
		m.restart()
	}
	if !m.allows("usr_1", "/project/456", "doc.read") {
		t.Error("what is in it is gone")
	}
}

// TestDeleteOrganisation: all of it is gone at once, and nothing else.
func TestDeleteOrganisation(t *testing.T) {
	for _, batched := range []bool{false, true} {
		m := newTenancy(t)
		other := newKey(acmeScope, ID{54}, roleViewer)
		acme := []Body{
			other,
			&PutPermission{acmeScope, ID{55}, "doc.read", ""},
			&Grant{acmeScope, "u", "/", []ID{{55}}, nil},
			&DeletePermission{acmeScope, ID{55}}, // it is being swept
		}
		deletion := &DeleteOrganisation{acmeScope.Organisation}
		if batched { // made, filled and deleted in one
			m.apply(append(acme, deletion)...)
		} else {
			for _, body := range append(acme, deletion) {
				m.must(body)
			}
		}
		for range 2 {
			s := m.store.State()
			if _, ok := s.Organisation(acmeScope.Organisation); ok || m.finds(acmeKey) || m.finds(other.ID) {
				t.Error("it is still there")
			}
			if n := len(slices.Collect(s.Organisations(ID{}))); n != 1 {
				t.Errorf("%d organisations are listed", n)
			}
			if n := len(slices.Collect(s.Sweeping())); n != 0 || !s.SweepingKeys() {
				t.Errorf("%d of its projects are to be swept; its keys: %v", n, s.SweepingKeys())
			}
			m.refuses(by(acmeKey, &UpdateOrganisation{acmeScope.Organisation, "back"}), CodeUnauthenticated, "not valid")
			m.refuses(byCluster(&PutPermission{acmeScope, newID, "doc.read", ""}), CodeNotFound, "organisation")
			m.refuses(byCluster(deletion), CodeNotFound, "organisation")
			m.restart()
		}
		if !m.allows("usr_1", "/project/456", "doc.read") || !m.finds(editorKey) {
			t.Error("something of another organisation is gone")
		}
		// Created again with the same id it is new.
		m.must(&CreateOrganisation{acmeScope.Organisation, "acme", ID{56}, ID{57}, "default", ID{58}, "first", hashOf(ID{58})})
		m.sweepKeys(1)
		for range 2 {
			o, _ := m.store.State().Organisation(acmeScope.Organisation)
			if m.finds(acmeKey) || m.finds(other.ID) || !m.finds(ID{58}) || o.Holds(KeyPrincipal(acmeKey), "role.get", ManagementURI(o.ID)) {
				t.Error("a key has come back")
			}
			if n := len(slices.Collect(must(o.Project("default")).Permissions(""))); n != 0 {
				t.Errorf("%d permissions have come back", n)
			}
			m.restart()
		}
	}
}

// TestOrganisations lists them by id.
func TestOrganisations(t *testing.T) {
	m := newTenancy(t)
	for i := range 5 {
		id := ID{byte(100 - 10*i)}
		m.must(&CreateOrganisation{id, fmt.Sprint("o", i), ID{id[0], 1}, ID{id[0], 2}, "p", ID{id[0], 3}, "k", [32]byte{id[0]}})
	}
	list := func(after ID) (all []byte) {
		for o := range m.store.State().Organisations(after) {
			all = append(all, o.ID[0])
		}
		return all
	}
	for after, want := range map[ID][]byte{{}: {1, 50, 60, 70, 80, 90, 100}, {60}: {70, 80, 90, 100}, {61}: {70, 80, 90, 100}, {100}: nil} {
		if got := list(after); !slices.Equal(got, want) {
			t.Errorf("behind %v there are %v, want %v", after[0], got, want)
		}
	}
	for range m.store.State().Organisations(ID{}) {
		break
	}
	var names []string
	for p := range m.organisation().Projects("production") {
		names = append(names, p.Name)
	}
	for range m.organisation().Projects("") {
		break
	}
	if !slices.Equal(names, []string{"remit"}) {
		t.Errorf("behind production there are %v", names)
	}
}

// TestDeleteWhatIsSwept: what is gone is not to be swept, and what is to be swept
// is there.
func TestDeleteWhatIsSwept(t *testing.T) {
	m := newTenancy(t)
	m.must(&DeletePermission{m.scope, readID})
	if !m.store.State().IsSweeping(m.scope) {
		t.Fatal("the project is not being swept")
	}
	m.must(&DeleteProject{m.scope})
	if m.store.State().IsSweeping(m.scope) || len(slices.Collect(m.store.State().Sweeping())) > 0 {
		t.Error("a project that is gone is to be swept")
	}
	m.refuses(byCluster(&Sweep{m.scope, 1}), CodeNotFound, "project")
}

// TestNothingRevivesWithAProject: what was of a deleted project is not of another
// with its name, swept or not, in one batch or in several, restored or not.
func TestNothingRevivesWithAProject(t *testing.T) {
	for _, how := range []string{"one batch", "several", "restored", "swept before", "swept after"} {
		t.Run(how, func(t *testing.T) {
			m := newTenancy(t)
			uri := own("project", "production")
			for _, body := range []Body{
				&Grant{builtInScope, "u", uri, nil, []ID{roleOwner}},
				&Grant{builtInScope, KeyPrincipal(emptyKey), uri + "/resource/*/x", nil, []ID{roleOwner}},
				&Grant{builtInScope, "u", own("project", "production-2"), nil, []ID{roleOwner}}, // of others
				&Grant{builtInScope, "u", own("project"), nil, []ID{roleViewer}},
				newKey(m.scope, ID{70}, roleViewer),
			} {
				m.must(body)
			}
			again := Scope{m.scope.Organisation, newID}
			deletion, creation := &DeleteProject{m.scope}, &CreateProject{again, "production"}
			sweep := func() { m.sweepKeys(3) }
			switch how {
			case "one batch":
				for _, r := range m.apply(deletion, creation) {
					if r.Err != nil {
						t.Fatal(r.Err)
					}
				}
			case "restored":
				m.must(deletion)
				m.restart()
				m.must(creation)
				m.restart()
			case "swept before":
				m.must(deletion)
				sweep()
				m.must(creation)
			default:
				m.must(deletion)
				m.must(creation)
			}
			if how == "swept after" {
				sweep()
			}
			o := m.organisation()
			p := must(o.Project("production"))
			if p.ID != newID || len(slices.Collect(p.Permissions("")))+len(slices.Collect(p.Roles("")))+len(slices.Collect(p.Principals("")))+len(slices.Collect(p.Keys(""))) > 0 {
				t.Error("the new project is not empty")
			}
			if m.finds(appKey) || m.finds(ID{70}) {
				t.Error("a key has come back")
			}
			m.refuses(by(appKey, &PutPermission{again, readID, "doc.read", ""}), CodeUnauthenticated, "not valid")
			m.refuses(byCluster(&Grant{builtInScope, KeyPrincipal(ID{70}), own(), nil, []ID{roleViewer}}), CodeNotFound, "no key")
			for _, principal := range []string{"u", KeyPrincipal(appKey), KeyPrincipal(emptyKey)} {
				if o.Holds(principal, "project.delete", uri+"/resource/a/x") {
					t.Errorf("%s has a grant back", principal)
				}
			}
			if !o.Holds("u", "project.delete", own("project", "production-2")) || !o.Holds("u", "role.get", uri) {
				t.Error("the grant on something else is gone")
			}
			// It works like any other.
			m.must(&PutPermission{again, readID, "doc.read", ""})
			m.must(newKey(again, ID{71}, ID{}))
			m.must(&Grant{builtInScope, KeyPrincipal(ID{71}), uri, nil, []ID{roleOwner}})
			m.must(&Grant{builtInScope, KeyPrincipal(ID{71}), own("permission"), []ID{permissionID("permission.get")}, nil})
			m.mustBy(by(ID{71}, &Grant{again, "u", "/a", []ID{readID}, nil}, [2]string{"principal.assignment.delete", uri + "/resource/a"}))
			sweep()
			if !m.allows("u", "/a", "doc.read") || !m.finds(ID{71}) {
				t.Error("the sweep took what is alive")
			}
			// An organisation's management stays as it was, whatever was created.
			if _, ok := m.store.State().keys.ids.get(appKey.key()); ok {
				t.Error("the deleted project's key was not swept")
			}
		})
	}
}
