package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/remit-io/remit/fsm"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// sample makes the state that the samples fit.
func (d *door) sample() {
	d.permission("read")
	d.permission("write")
	d.role("viewer", "read")
	d.grant("anna", "/a", []string{"read"}, nil)
}

// writes and reads are one good request of every call.
func writes() []proto.Message {
	return []proto.Message{
		&permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "read"},
		&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read"},
		&permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "write"},
		&permissionsv1.CreateRoleRequest{ProjectName: project, Name: "viewer", Permissions: []string{"read"}},
		&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Permissions: []string{"read"}},
		&permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "viewer"},
		&permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: "/a", Permissions: []string{"read"}},
		&permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: "/a", Permissions: []string{"read"}},
	}
}

func reads() []proto.Message {
	return []proto.Message{
		&permissionsv1.GetPermissionRequest{ProjectName: project, Name: "read"},
		&permissionsv1.ListPermissionsRequest{ProjectName: project},
		&permissionsv1.GetRoleRequest{ProjectName: project, Id: "viewer"},
		&permissionsv1.ListRolesRequest{ProjectName: project},
		&permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: "/a"},
		&permissionsv1.ListPrincipalsRequest{ProjectName: project},
		&permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: "anna"},
		&permissionsv1.CheckPermissionRequest{ProjectName: project, PrincipalId: "anna", ResourceUris: []string{"/a"}, Permissions: []string{"read"}},
	}
}

func everyRequest() []proto.Message { return append(writes(), reads()...) }

// with returns the request with another value in a field.
func with(req proto.Message, field string, value any) proto.Message {
	changed := proto.Clone(req)
	m := changed.ProtoReflect()
	f := m.Descriptor().Fields().ByName(protoreflect.Name(field))
	switch value := value.(type) {
	case []string:
		list := m.NewField(f).List()
		for _, s := range value {
			list.Append(protoreflect.ValueOfString(s))
		}
		m.Set(f, protoreflect.ValueOfList(list))
	case permissionsv1.Consistency:
		m.Set(f, protoreflect.ValueOfEnum(value.Number()))
	default:
		m.Set(f, protoreflect.ValueOf(value))
	}
	return changed
}

func has(req proto.Message, field string) bool {
	return req.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field)) != nil
}

// A badValue is refused with a message that says so.
type badValue struct {
	value string
	says  string // empty for the value itself, quoted
}

func (b badValue) names() string {
	if b.says != "" {
		return b.says
	}
	return quote(b.value)
}

var (
	someID = "0f8fad5b-d9cb-469f-a165-70867728950e"

	badPermissionNames = []badValue{
		{"", "needs a name"}, {".read", ""}, {"-read", ""}, {"_read", ""}, {":read", ""}, {"docu ment", ""}, {"a/b", ""}, {"a*", ""}, {"*", ""},
		{"..", ""}, {"a\x00", ""}, {"a\n", ""}, {"é", ""}, {"a\u200b", ""}, {"a%2Fb", ""}, {"a,b", ""}, {"ａ", ""},
		{strings.Repeat("a", 257), "257 bytes, 256 at most"}, {someID, someID},
		{"assign", ""}, {"assignments", ""}, {"check", ""}, {"principals", ""}, {"revoke", ""}, {"user", ""},
	}
	invisible = []badValue{
		{"a\x00b", ""}, {"a\tb", ""}, {"a\nb", ""}, {"a\x7f", ""}, {"a\u0085", ""}, {"a\u200bb", ""}, {"a\u200db", ""}, {"\ufeffa", ""},
		{"a\u202eb", ""}, {"a\u2066b", ""}, {"a\u061cb", ""}, {"a\u00adb", ""}, {"a\u2028b", ""}, {"a\ufe0f", ""},
		{strings.Repeat("é", 129), "258 bytes, 256 at most"},
	}
	badRoleNames  = append([]badValue{{"", "role name is empty"}, {someID, someID}}, invisible...)
	badPrincipals = append([]badValue{{"", "principal is empty"}}, invisible...)
	badURIs       = []badValue{
		{"", `""`}, {"a", ""}, {"a/b", ""}, {"//", ""}, {"//a", ""}, {"/a//b", ""}, {"/a//", ""}, {"/.", ""}, {"/..", ""}, {"/a/./b", ""}, {"/a/../b", ""},
		{"/a/..", ""}, {"/a\x00", ""}, {"/a\nb", ""}, {"/a\x7f", ""}, {"/a\u0085b", ""}, {"/a*", ""}, {"/**", ""}, {"/a/*b/c", ""},
		{strings.Repeat("/a", 65), "65 segments, 64 at most"}, {"/" + strings.Repeat("a", 2048), "2049 bytes, 2048 at most"},
	}
)

// TestBadInput sends what is malformed. Each is refused with its code and a
// message that names it, and changes nothing.
func TestBadInput(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		refuse := func(req proto.Message, code codes.Code, names ...string) {
			t.Helper()
			d.refuse(t, d.ctx, req, code, names...)
		}
		for _, bad := range badPermissionNames {
			refuse(&permissionsv1.CreatePermissionRequest{ProjectName: project, Name: bad.value}, codes.InvalidArgument, bad.names())
			if bad.value != "" {
				refuse(&permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: bad.value}, codes.InvalidArgument, bad.names())
			}
		}
		for _, bad := range badRoleNames {
			refuse(&permissionsv1.CreateRoleRequest{ProjectName: project, Name: bad.value}, codes.InvalidArgument, bad.names())
			if bad.value != "" {
				refuse(&permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Name: bad.value}, codes.InvalidArgument, bad.names())
			}
		}
		for _, req := range everyRequest() {
			if has(req, "description") {
				refuse(with(req, "description", strings.Repeat("é", 513)), codes.InvalidArgument, "1026 bytes, 1024 at most")
			}
			for _, field := range []string{"user_id", "principal_id"} {
				for _, bad := range badPrincipals {
					switch inPath := d.isREST && strings.Contains(routes[string(methodFor(req).Name())].path, field); {
					case !has(req, field):
					case inPath && bad.value == "":
						refuse(with(req, field, ""), codes.NotFound, "unknown path")
					default:
						refuse(with(req, field, bad.value), codes.InvalidArgument, bad.names())
					}
				}
			}
			for _, bad := range badURIs {
				inPath := d.isREST && strings.Contains(routes[string(methodFor(req).Name())].path, "resource_uri")
				if has(req, "resource_uri") && !(inPath && !strings.HasPrefix(bad.value, "/")) && !(inPath && bad.value == "//a") {
					refuse(with(req, "resource_uri", bad.value), codes.InvalidArgument, bad.names(), "resource URI")
				}
				if has(req, "resource_uris") {
					refuse(with(req, "resource_uris", []string{"/a", bad.value}), codes.InvalidArgument, bad.names(), "resource URI")
				}
			}
		}
		check := reads()[7]
		for _, pattern := range []string{"/*", "/a/*", "/*/b"} {
			refuse(with(check, "resource_uris", []string{pattern}), codes.InvalidArgument, quote(pattern), "for grants")
		}
		refuse(with(check, "resource_uris", []string{}), codes.InvalidArgument, "at least one")
		refuse(with(check, "permissions", []string{}), codes.InvalidArgument, "at least one")
		refuse(with(with(check, "resource_uris", slices.Repeat([]string{"/a"}, 73)), "permissions", slices.Repeat([]string{"read"}, 137)),
			codes.InvalidArgument, "73 resources", "137 permissions", "10000")
		if _, err := d.call(d.ctx, with(check, "resource_uris", slices.Repeat([]string{"/a"}, 10_000))); err != nil {
			t.Errorf("10,000 pairs: %v", err)
		}
	})
}

func TestUnknown(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		for _, req := range everyRequest() {
			for _, name := range []string{"nope", "Production", project + " ", someID, d.init.Project.String(), "a\nb", "..", strings.Repeat("x", 1000)} {
				d.refuse(t, d.ctx, with(req, "project_name", name), codes.NotFound, "project "+quote(name))
			}
			if _, over := req.(*permissionsv1.GetAllAssignmentsForPrincipalRequest); !over {
				d.refuse(t, d.ctx, with(req, "project_name", ""), codes.InvalidArgument, "project_name is missing")
			}
		}
		for _, name := range []string{"nope", "READ", someID, "a b", "a\x00", strings.Repeat("x", 1000)} {
			d.refuse(t, d.ctx, &permissionsv1.GetPermissionRequest{ProjectName: project, Name: name}, codes.NotFound, "permission "+quote(name))
			d.refuse(t, d.ctx, &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: name}, codes.NotFound, "permission "+quote(name))
			d.refuse(t, d.ctx, &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "new", Permissions: []string{"read", name}},
				codes.NotFound, "permission "+quote(name))
			d.refuse(t, d.ctx, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Permissions: []string{name}},
				codes.NotFound, "permission "+quote(name))
			d.refuse(t, d.ctx, &permissionsv1.GetRoleRequest{ProjectName: project, Id: name}, codes.NotFound, "role "+quote(name))
			d.refuse(t, d.ctx, &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: name}, codes.NotFound, "role "+quote(name))
		}
	})
}

func TestTooMany(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		var names []string
		for i := range 1001 {
			names = append(names, fmt.Sprintf("p%04d", i))
			d.log.put(t, &fsm.PutPermission{Scope: d.scope(), ID: NewID(), Name: names[i]})
			d.log.put(t, &fsm.PutRole{Scope: d.scope(), ID: NewID(), Name: names[i]})
		}
		for _, req := range writes() {
			for _, field := range []string{"permissions", "roles"} {
				if !has(req, field) {
					continue
				}
				if has(req, "id") {
					req = with(req, "id", names[0])
				}
				req = with(req, "permissions", []string{})
				d.refuse(t, d.ctx, with(req, field, names), codes.InvalidArgument, "1001 "+field, "1000 at most")
				if _, err := d.call(d.ctx, with(req, field, names[1:])); err != nil {
					t.Errorf("%T with 1,000 %s: %v", req, field, err)
				}
			}
		}
	})
}

func TestBadConsistency(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		state := d.store.State()
		ahead := token{state.Cluster, state.Epoch, state.Revision + 1}.String()
		foreign := token{NewID(), state.Epoch, state.Revision}.String()
		restored := token{state.Cluster, NewID(), state.Revision}.String()
		good := token{state.Cluster, state.Epoch, state.Revision}.String()
		for _, req := range reads() {
			for _, bad := range []struct{ text, says string }{
				{"abc123", "malformed"}, {" " + good, "malformed"}, {good[1:], "malformed"}, {good + good, "malformed"},
				{strings.Repeat("A", 5000), "malformed"}, {foreign, "another cluster"}, {ahead, "ahead of the cluster"},
			} {
				d.refuse(t, d.ctx, with(req, "token", bad.text), codes.InvalidArgument, quote(bad.text), bad.says)
				d.refuse(t, d.ctx, with(with(req, "token", bad.text), "consistency", permissionsv1.Consistency_AT_LEAST_AS_FRESH),
					codes.InvalidArgument, quote(bad.text), bad.says)
				if bad.text[0] != ' ' { // a header's value has no space around it
					d.refuse(t, withKey(t.Context(), metadataToken, bad.text), req, codes.InvalidArgument, quote(bad.text), bad.says)
				}
			}
			d.refuse(t, d.ctx, with(req, "token", restored), codes.InvalidArgument, "before the cluster's data was restored")
			d.refuse(t, d.ctx, with(req, "consistency", permissionsv1.Consistency_AT_LEAST_AS_FRESH), codes.InvalidArgument, "needs a token")
			d.refuse(t, withKey(t.Context(), metadataConsistency, "at_least_as_fresh"), req, codes.InvalidArgument, "needs a token")
			d.refuse(t, d.ctx, with(req, "consistency", permissionsv1.Consistency(77)), codes.InvalidArgument, "77")
			d.refuse(t, d.ctx, with(req, "consistency", permissionsv1.Consistency(-1)), codes.InvalidArgument, "-1")
			for _, mode := range []string{"77", "strong", "fully consistent", "1", strings.Repeat("x", 2000)} {
				d.refuse(t, withKey(t.Context(), metadataConsistency, mode), req, codes.InvalidArgument, quote(mode))
			}
			// Of two, neither is meant more than the other.
			d.refuse(t, withKey(t.Context(), metadataConsistency, "minimize_latency", metadataConsistency, "fully_consistent"), req,
				codes.InvalidArgument, "given 2 times")
			d.refuse(t, withKey(t.Context(), metadataToken, good, metadataToken, ahead), req, codes.InvalidArgument, "given 2 times")
		}
	})
}

func TestBadRequestID(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		good := strings.Repeat("0123456789abcdef", 2)
		for _, req := range writes() {
			for _, id := range []string{"xyz", good[1:], good + "0", good + good, "g" + good[1:], someID, strings.Repeat("z", 3000)} {
				d.refuse(t, withKey(t.Context(), metadataRequestID, id), req, codes.InvalidArgument, "remit-request-id", quote(id))
			}
			d.refuse(t, withKey(t.Context(), metadataRequestID, good, metadataRequestID, good), req, codes.InvalidArgument, "given 2 times")
		}
	})
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string                    { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (d *door) raw(method protoreflect.MethodDescriptor, b []byte) error {
	return d.conn.Invoke(d.ctx, d.fullName(method), b, &permissionsv1.CheckPermissionResponse{}, grpc.ForceCodec(rawCodec{}))
}

// What is no message of the method's never reaches the server: gRPC itself
// refuses it, with the code that its documentation gives to that.
func TestBadMessages(t *testing.T) {
	for _, service := range []string{serviceName, publishedName} {
		d := newNode(t).run().door(service)
		before := digestOf(d.store.State())
		for method := range methods() {
			for what, b := range map[string]string{
				"invalid UTF-8": "\x0a\x04a\xff\xfeb", "cut off": "\x0a\x05ab", "wrong type": "\x08\x05\x0a", "garbage": "\xff\xff\xff\xff", "zeros": "\x00\x00",
			} {
				if err := d.raw(method, []byte(b)); err == nil {
					t.Errorf("%s with %s: taken", method.FullName(), what)
				} else {
					wantCode(t, err, codes.Internal, "unmarshal")
				}
			}
			empty := dynamicpb.NewMessage(method.Input())
			if err := d.raw(method, nil); has(empty, "project_name") && method.Name() != "GetAllAssignmentsForPrincipal" {
				wantCode(t, err, codes.InvalidArgument, "project_name")
			}
		}
		err := d.raw(methodFor(&permissionsv1.CheckPermissionRequest{}), make([]byte, MaxRequestBytes+1))
		wantCode(t, err, codes.ResourceExhausted, "4194305", "4194304")
		if digestOf(d.store.State()) != before {
			t.Error("the state changed")
		}
	}
}

// A check's answer repeats names for every resource, so their length is bounded:
// one request must not ask for gigabytes.
func TestCheckAnswerIsBounded(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		long := strings.Repeat("x", fsm.MaxNameBytes+1)
		check := &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: "anna", ResourceUris: slices.Repeat([]string{"/"}, 1000), Permissions: []string{"read", long},
		}
		d.refuse(t, d.ctx, check, codes.InvalidArgument, "257 bytes, 256 at most")
		check.Permissions[1] = long[1:]
		if answer := do(d, d.Check, check); len(answer.MissingPermissions) != 1000 || answer.Passed {
			t.Errorf("%d resources lack something, want 1000", len(answer.MissingPermissions))
		}
	})
}

// A delete of nothing is no error, but a delete of what cannot be is a mistake.
func TestDeleteMalformed(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		d.sample()
		for _, bad := range badPermissionNames {
			req := &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: bad.value}
			switch {
			case bad.value == someID: // may have been one
				do(d, d.DeletePermission, req)
			case d.isREST && (bad.value == "" || slices.Contains([]string{"assign", "check", "principals", "revoke", "user", "assignments"}, bad.value)):
			default:
				d.refuse(t, d.ctx, req, codes.InvalidArgument, bad.names())
			}
		}
		for _, bad := range badRoleNames {
			req := &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: bad.value}
			switch {
			case bad.value == someID:
				do(d, d.DeleteRole, req)
			case d.isREST && bad.value == "":
			default:
				d.refuse(t, d.ctx, req, codes.InvalidArgument, bad.names())
			}
		}
	})
}
