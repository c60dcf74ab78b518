package server

import (
	"crypto/sha256"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/index"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A callersPart is a caller's text that becomes a segment of a management URI: the call
// with another text there, and the right that it takes on the URI.
type callersPart struct {
	name       string
	call       func(text string) proto.Message
	permission string
	uri        string // with %s for the segment
	beside     []string
}

// callersParts are all of them.
func callersParts(org string) []callersPart {
	const root = "/organisation/{org}"
	return []callersPart{
		{"permission in the path", func(s string) proto.Message {
			return &permissionsv1.GetPermissionRequest{ProjectName: project, Name: s}
		}, "permission.get", root + "/permission/%s", nil},
		{"permission to update", func(s string) proto.Message {
			return &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: s}
		}, "permission.update", root + "/permission/%s", nil},
		{"permission's new name", func(s string) proto.Message {
			return &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: s}
		}, "permission.update", root + "/permission/%s", []string{"permission.update " + root + "/permission/read"}},
		{"permission to delete", func(s string) proto.Message {
			return &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: s}
		}, "permission.delete", root + "/permission/%s", nil},
		{"permission of a role", func(s string) proto.Message {
			return &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "new", Permissions: []string{s}}
		}, "permission.get", root + "/permission/%s", []string{"role.create " + root}},
		{"permission granted", func(s string) proto.Message { return grantRequest(project, "anna", "/a", []string{s}) },
			"permission.get", root + "/permission/%s", []string{"principal.assignment.create " + root}},
		{"role granted", func(s string) proto.Message { return grantRequest(project, "anna", "/a", nil, s) },
			"role.get", root + "/role/%s", []string{"principal.assignment.create " + root}},
		{"principal granted to", func(s string) proto.Message { return grantRequest(project, s, "/a", []string{"read"}) },
			"principal.assignment.create", root + "/principal/%s", []string{"permission.get " + root}},
		{"role", func(s string) proto.Message { return &permissionsv1.GetRoleRequest{ProjectName: project, Id: s} },
			"role.get", root + "/role/%s", nil},
		{"role to update", func(s string) proto.Message { return &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: s} },
			"role.update", root + "/role/%s", nil},
		{"role's new name", func(s string) proto.Message {
			return &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Name: s}
		}, "role.update", root + "/role/%s", []string{"role.update " + root + "/role/{viewer}"}},
		{"role to delete", func(s string) proto.Message { return &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: s} },
			"role.delete", root + "/role/%s", nil},
		{"principal", func(s string) proto.Message {
			return &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: s}
		}, "principal.assignment.list", root + "/principal/%s", nil},
		{"project of a resource", func(s string) proto.Message { return revokeRequest(s, "anna", "/", []string{"read"}) },
			"principal.assignment.delete", root + "/project/%s/resource", nil},
		{"project of a resource read", func(s string) proto.Message {
			return &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: s, UserId: "anna", ResourceUri: "/"}
		}, "principal.assignment.get", root + "/project/%s/resource", nil},
		{"project", func(s string) proto.Message {
			return &organisationv1.GetProjectRequest{OrganisationId: org, ProjectName: s}
		}, "project.get", root + "/project/%s", nil},
		{"project to delete", func(s string) proto.Message {
			return &organisationv1.DeleteProjectRequest{OrganisationId: org, ProjectName: s}
		}, "project.delete", root + "/project/%s", nil},
		{"project of a new key", func(s string) proto.Message {
			return &organisationv1.CreateAPIKeyRequest{OrganisationId: org, ProjectName: s, Name: "new"}
		}, "apiKeys.create", root + "/project/%s", nil},
		{"project of keys", func(s string) proto.Message {
			return &organisationv1.ListAPIKeysRequest{OrganisationId: org, ProjectName: s}
		}, "apiKeys.list", root + "/project/%s", nil},
		{"project of an ended key", func(s string) proto.Message { return invalidateRequest(org, s, someID) },
			"apiKeys.invalidate", root + "/project/%s", nil},
		{"organisation", func(s string) proto.Message { return &organisationv1.GetOrganisationRequest{Id: s} },
			"organisation.get", "/organisation/%s", nil},
		{"organisation to rename", func(s string) proto.Message {
			return &organisationv1.UpdateOrganisationRequest{Id: s, Name: "new"}
		}, "organisation.update", "/organisation/%s", nil},
		{"organisation of a new project", func(s string) proto.Message {
			return &organisationv1.CreateProjectRequest{OrganisationId: s, Name: "new"}
		}, "project.create", "/organisation/%s", nil},
		{"organisation of projects", func(s string) proto.Message {
			return &organisationv1.GetProjectsForOrganisationRequest{OrganisationId: s}
		},
			"project.get", "/organisation/%s", nil},
	}
}

// victim is the segment that the key of the part may reach.
func (p callersPart) victim(org string) string {
	if strings.HasPrefix(p.uri, "/organisation/%s") {
		return org
	}
	if strings.HasSuffix(p.uri, "/role/%s") {
		return someID // a right on a role is one on its id
	}
	return "victim"
}

// texts reach for the victim's URI from another name.
func texts(victim string) []string {
	return []string{
		"x", ".", "..", "/", "//", "*", "**", "%", "%2F", "%252F", "%2f", "%2A", "%2E%2E", "%00", "\x00", "\n", "\u202e", "\u200b", "\ufeff",
		victim + "\x00", victim + "\u200b", victim + "\u202e", "\u200e" + victim, victim + " ", " " + victim, victim + "\ufe0f", victim + "\x7f",
		victim + "/", "/" + victim, victim + "/..", "../" + victim, "./" + victim, victim + "/.", "x/../" + victim, victim + "/x", "x/" + victim, victim + "%00",
		victim + "%2F", "%2F" + victim, "%2E%2E%2F" + victim, "..%2F" + victim, "..%252F" + victim, victim + "%2F..", victim + "*", "*" + victim,
		"../permission/" + victim, "../../" + victim, "../../../organisation/" + victim, strings.ToUpper(victim), victim + victim, victim[1:],
		"%76ictim", "%2576ictim", "\\" + victim, victim + "?", victim + "#", victim + ";", "ｖictim", victim + "\u0301",
		strings.Repeat("a", 300), strings.Repeat("/"+victim, 200), strings.Repeat("../", 200) + victim, strings.Repeat("\u202e", 1000) + victim, strings.Repeat("%2F", 5000),
	}
}

// refusedText fails unless a text gets nowhere.
func (w *world) refusedText(t *testing.T, part callersPart, c caller, text string) {
	t.Helper()
	before := digestOf(w.store.State())
	_, err := w.call(c.ctx, part.call(text))
	if got := status.Code(err); got != codes.PermissionDenied {
		t.Errorf("%s %q: %v", part.name, excerptOf(text), err)
	}
	if digestOf(w.store.State()) != before {
		t.Errorf("%s %q changed the state", part.name, excerptOf(text))
	}
}

func excerptOf(s string) string { return s[:min(len(s), 60)] }

// No text that a caller sends reaches the management URI of another.
func TestTextsReachNothingElse(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		for _, part := range callersParts(w.org()) {
			victim := part.victim(w.org())
			k := w.key(fsm.BuiltInProject, "")
			w.give(k, w.fill.Replace(strings.Replace(part.uri, "%s", victim, 1)), part.permission)
			for _, n := range on(part.beside...) {
				w.give(k, w.fill.Replace(n.on), n.permission)
			}
			for _, text := range texts(victim) {
				if text == victim {
					continue
				}
				w.refusedText(t, part, k, text)
			}
			if _, err := w.authorizeAs(k, w.store.State(), part.call(victim)); err != nil {
				t.Errorf("%s: the victim itself: %v", part.name, err)
			}
		}
	})
}

// The same for random texts, judged without a round trip: none is authorized by a
// grant on another's URI, and each has one URI of its own.
func TestRandomTextsReachNothingElse(t *testing.T) {
	w := newWorld(newNode(t).run().localDoor())
	pieces := []string{"victim", "v", "/", "%", "%2F", "%25", "2F", "*", ".", "..", "\x00", "\u202e", "\u200b", "é", " ", "x", "organisation", "permission", "resource", w.org()}
	r := rand.New(rand.NewPCG(3, 7))
	random := func() string {
		var b strings.Builder
		for range 1 + r.IntN(6) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	}
	for _, part := range callersParts(w.org()) {
		victim := part.victim(w.org())
		k := w.key(fsm.BuiltInProject, "")
		w.give(k, w.fill.Replace(strings.Replace(part.uri, "%s", victim, 1)), part.permission)
		for _, n := range on(part.beside...) {
			w.give(k, w.fill.Replace(n.on), n.permission)
		}
		state := w.store.State()
		for range 2000 {
			text := random()
			if text == victim {
				continue
			}
			if _, err := w.authorizeAs(k, state, part.call(text)); err == nil {
				t.Fatalf("%s %q was authorized by a grant on %q", part.name, text, victim)
			}
		}
	}
	seen := map[string]string{}
	for range 20_000 {
		text := random()
		segment := fsm.EscapeSegment(text)
		if other, ok := seen[segment]; ok && other != text {
			t.Fatalf("%q and %q are the same segment %q", text, other, segment)
		}
		seen[segment] = text
		if strings.Contains(segment, "/") || segment == index.Wildcard || segment == "." || segment == ".." {
			t.Fatalf("%q is the segment %q", text, segment)
		}
	}
}

// authorizeAs judges a call with a key at a state.
func (n *node) authorizeAs(k caller, state *fsm.State, req proto.Message) ([]fsm.Requirement, error) {
	c, err := callWith(sha256.Sum256([]byte(k.secret)), state)
	if err != nil {
		n.t.Fatal(err)
	}
	m := methodFor(req)
	c.method, c.request = "/"+string(m.Parent().FullName())+"/"+string(m.Name()), req
	return c.authorize()
}

// A resource URI is authorized only at or below what was granted, and what is no
// URI never.
func TestResourcesReachNothingElse(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		const prefix = "/project/production/resource"
		exact, wild := w.key(fsm.BuiltInProject, ""), w.key(project, "")
		w.give(exact, w.uri(prefix+"/a/b"), "principal.assignment.delete", "principal.assignment.get")
		w.give(wild, w.uri(prefix+"/a/*"), "principal.assignment.delete", "principal.assignment.get")
		calls := []func(uri string) proto.Message{
			func(uri string) proto.Message { return revokeRequest(project, "anna", uri, []string{"read"}) },
			func(uri string) proto.Message {
				return &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: uri}
			},
			func(uri string) proto.Message {
				return &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: uri, IncludeInherited: true}
			},
		}
		permissions := []string{"principal.assignment.delete", "principal.assignment.get", "principal.assignment.get"}
		// A text that is no URI does not go on in the segment before it.
		glued := w.key(project, "")
		w.give(glued, w.uri(prefix+"x"), "principal.assignment.delete", "principal.assignment.get")
		for i, call := range calls {
			for _, uri := range []string{"x", "x/y", ""} {
				if _, err := w.authorizeAs(glued, w.store.State(), call(uri)); err == nil {
					t.Errorf("%q is authorized by a grant on %q: %s", uri, prefix+"x", permissions[i])
				}
			}
		}
		w.grant("anna", "/a/*", []string{"read"}, nil)
		w.grant("anna", "/*/b", []string{"read"}, nil)
		w.grant("anna", "/", []string{"read"}, nil)
		for i, call := range calls {
			for _, uri := range []string{"/a/*", "/*", "/*/*", "/*/b", "/a/*/c", "/a/bb", "/a", "/a/%62", "/A/b", "/a/B", "/a/c", "/b"} {
				w.refuseMissing(t, exact.ctx, call(uri), permissions[i], w.uri(prefix+uri))
			}
			for _, uri := range []string{"/*", "/*/*", "/*/b", "/a", "/b/*"} {
				w.refuseMissing(t, wild.ctx, call(uri), permissions[i], w.uri(prefix+uri))
			}
			for _, c := range []caller{exact, wild} {
				w.refuseMissing(t, c.ctx, call("/"), permissions[i], w.uri(prefix))
				for _, uri := range []string{"/a/b/../c", "/a/b/..", "/a/b/../../x", "/a/b//", "/a/b/./c", "/a/b/\x00", "/a/b/x*", "/a/b\u0085", "//a/b", "/a//b", "/./a/b", "/x/../a/b", "a/b",
					"/a/b" + strings.Repeat("/x", 80), "/a/b/" + strings.Repeat("x", 4000)} {
					before := digestOf(w.store.State())
					_, err := w.call(c.ctx, call(uri))
					if code := status.Code(err); code != codes.PermissionDenied && code != codes.InvalidArgument &&
						// In a path, a slash in front of the URI or none is the same.
						!(w.isREST && i > 0 && (uri == "//a/b" || uri == "a/b")) {
						t.Errorf("%q: %v", uri, err)
					}
					if digestOf(w.store.State()) != before {
						t.Errorf("%q changed the state", uri)
					}
				}
				for _, uri := range []string{"/a/b", "/a/b/", "/a/b/c", "/a/b/*"} {
					if _, err := w.call(c.ctx, call(uri)); err != nil {
						t.Errorf("%q: %v", uri, err)
					}
				}
			}
			for _, uri := range []string{"/a/*", "/a/x", "/a/*/*"} {
				if _, err := w.call(wild.ctx, call(uri)); err != nil {
					t.Errorf("%q: %v", uri, err)
				}
			}
		}
	})
}
