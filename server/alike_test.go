package server

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

// answer is all that a caller gets: over gRPC code, message, details, header and
// trailer; over REST status, header and body.
func (d *door) answer(ctx context.Context, req proto.Message) string {
	var all bytes.Buffer
	write := func(what string, values map[string][]string) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&all, "%s %s: %q\n", what, name, values[name])
		}
	}
	if d.isREST {
		r, err := requestFor(ctx, d.path(req), req)
		if err != nil {
			d.t.Fatal(err)
		}
		w := httptest.NewRecorder()
		d.conn.(*restConn).handler.ServeHTTP(w, r)
		fmt.Fprintln(&all, w.Code)
		write("header", w.Header())
		write("trailer", w.Result().Trailer)
		all.Write(w.Body.Bytes())
		return all.String()
	}
	var header, trailer metadata.MD
	reply, err := d.call(ctx, req, grpc.Header(&header), grpc.Trailer(&trailer))
	s := status.Convert(err)
	fmt.Fprintf(&all, "%d %s %v\n", s.Code(), s.Message(), s.Details())
	if err == nil {
		fmt.Fprintln(&all, reply)
	}
	write("header", header)
	write("trailer", trailer)
	return all.String()
}

// A likeness is a call about something that is there, and the same call about
// something that is not.
type likeness struct {
	field           string
	there, absent   proto.Message
	existing, other string // the texts that make the difference
}

// likenesses are those of a request, one for each text in it.
func likenesses(req proto.Message) (all []likeness) {
	other := func(text string) string {
		if _, isID := fsm.ParseID(text); isID {
			return someID
		}
		if id, ok := strings.CutPrefix(text, "key:"); ok {
			if _, isID := fsm.ParseID(id); isID {
				return "key:" + someID
			}
		}
		if strings.HasPrefix(text, "/") {
			return "/" + strings.Repeat("z", len(text)-1)
		}
		return strings.Repeat("z", len(text))
	}
	req.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() != protoreflect.StringKind {
			return true
		}
		if !f.IsList() {
			text := v.String()
			all = append(all, likeness{string(f.Name()), req, with(req, string(f.Name()), other(text)), text, other(text)})
			return true
		}
		for i := range v.List().Len() {
			text := v.List().Get(i).String()
			absent := proto.Clone(req)
			absent.ProtoReflect().Get(f).List().Set(i, protoreflect.ValueOfString(other(text)))
			all = append(all, likeness{string(f.Name()), req, absent, text, other(text)})
		}
		return true
	})
	return all
}

// renamed puts the absent text in the place of the existing one in an answer,
// which has it in a management URI.
func (l likeness) renamed(answer string) string {
	if l.field == "resource_uri" {
		return strings.ReplaceAll(answer, "/resource"+l.existing+"'", "/resource"+l.other+"'")
	}
	return strings.ReplaceAll(answer, "/"+fsm.EscapeSegment(l.existing), "/"+fsm.EscapeSegment(l.other))
}

// nobodies are keys that lack the right to a sample's call.
func (w *world) nobodies() map[string]caller {
	elsewhere := w.key(fsm.BuiltInProject, "")
	for _, below := range []string{"/permission/other", "/role/other", "/principal/other", "/project/other", "/x"} {
		do(w.door, w.GrantUserPermissionsAndRolesOnResource, grantRequest(fsm.BuiltInProject, elsewhere.principal, w.uri(below), nil, fsm.RoleOwner))
	}
	return map[string]caller{
		"of the project":       w.key(project, ""),
		"of the built-in one":  w.key(fsm.BuiltInProject, ""),
		"with rights on other": elsewhere,
		"a sibling's":          w.key(sibling, fsm.RoleOwner),
		"a stranger's":         w.stranger,
	}
}

// asked reports whether the call is a matter of rights for this key: a stranger
// asks about his own organisation unless he names another, and then about rights.
func asked(method string, s sample, name string, l likeness) bool {
	reach, _, _ := strings.Cut(documented[method], ";")
	req := l.there
	switch {
	case reach == "any", name == "of the project" && l.field == "project_name": // it knows its own
		return false
	case reach == "operator":
		return true
	case name == "a stranger's":
		return has(req, organisationField(method))
	case name == "a sibling's":
		return reach == "organisation" || projectNameOf(req) != ""
	}
	return len(s.needs) > 0
}

// TestNotFoundAndNotAllowedLookAlike asks, without the right, about what exists
// and about what does not: but for the name, which the caller sent, the answers
// are the same bytes.
func TestNotFoundAndNotAllowedLookAlike(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		compared := 0
		for name, c := range w.nobodies() {
			for method, all := range samples {
				for _, s := range all {
					for _, l := range likenesses(w.filled(s.request)) {
						if !asked(method, s, name, l) {
							continue
						}
						there, absent := w.answer(c.ctx, l.there), w.answer(c.ctx, l.absent)
						if absent != there && absent != l.renamed(there) {
							t.Errorf("%s, %s, a key %s, %s %q and %q:\n%s\nbut\n%s", method, s.name, name, l.field, l.existing, l.other, there, absent)
						}
						if !strings.Contains(there, "Permission denied: ") {
							t.Errorf("%s, %s, a key %s: %s", method, s.name, name, there)
						}
						compared++
					}
				}
			}
		}
		if compared < 300 {
			t.Errorf("%d answers were compared", compared)
		}
	})
}

// A countingStore counts how often a state is asked for.
type countingStore struct {
	Store
	states, waits atomic.Int64
}

func (s *countingStore) State() *fsm.State {
	s.states.Add(1)
	return s.Store.State()
}

func (s *countingStore) Wait(ctx context.Context, revision uint64) (*fsm.State, error) {
	s.waits.Add(1)
	return s.Store.Wait(ctx, revision)
}

// effort is the work of a call that can be counted: states asked for, rounds with
// the leader, commands, and allocations, the fewest of some runs: pools lose what is
// put into them now and then, which costs more.
func (w *world) effort(c caller, req proto.Message, runs int) (steps [4]int64, allocations float64) {
	count := &countingStore{Store: w.store}
	w.server.store = count
	defer func() { w.server.store = w.store }()
	commands := len(w.log.commands(w.t))
	rounds := w.roundsOf(func() { _, _ = w.call(c.ctx, req) }) // the error is the other test's
	steps = [4]int64{count.states.Load(), count.waits.Load(), int64(rounds), int64(len(w.log.commands(w.t)) - commands)}
	allocations = math.Inf(1)
	for range runs {
		allocations = min(allocations, testing.AllocsPerRun(1, func() { _, _ = w.call(c.ctx, req) }))
	}
	return steps, allocations
}

// What exists and what does not take the same work to refuse, so that time tells
// them apart no more than words.
func TestNotFoundAndNotAllowedTakeTheSameWork(t *testing.T) {
	w := newWorld(newNode(t).ready().localDoor())
	for name, c := range w.nobodies() {
		for method, all := range samples {
			for _, s := range all {
				for _, l := range likenesses(w.filled(s.request)) {
					if !asked(method, s, name, l) {
						continue
					}
					var there, absent [4]int64
					var some, more float64
					for _, runs := range []int{5, 50, 500} {
						there, some = w.effort(c, l.there, runs)
						absent, more = w.effort(c, l.absent, runs)
						if math.Abs(some-more) <= 2 {
							break
						}
					}
					if there != absent || math.Abs(some-more) > 2 {
						t.Errorf("%s, %s, a key %s, %s %q: %v, %v allocations; %q: %v, %v allocations",
							method, s.name, name, l.field, l.existing, there, some, l.other, absent, more)
					}
				}
			}
		}
	}
}

// A key that is known, one that ended and one that never was are looked up alike:
// by the SHA-256 of what was sent, which is all that the state has.
func TestKeysAreLookedUpByDigest(t *testing.T) {
	w := newWorld(newNode(t).ready().localDoor())
	ended := w.key(project, fsm.RoleOwner)
	w.invalidate(project, ended)
	deleted := w.key(sibling, "")
	w.deleteProject(sibling)
	random, _ := NewSecret()
	near := w.stranger.secret[:len(w.stranger.secret)-1] + "x"
	who := &organisationv1.WhoAmIRequest{}
	refused, _ := w.effort(caller{ctx: withSecret(t.Context(), random)}, who, 1)
	want := w.answer(withSecret(t.Context(), random), who)
	var least, most float64
	for name, secret := range map[string]string{
		"invalidated": ended.secret, "of a deleted project": deleted.secret, "random": random, "nearly another's": near, "another's prefix": w.stranger.secret[:20],
		"longer": w.stranger.secret + "x", "the prefix alone": KeyPrefix, "long": strings.Repeat("x", 10_000),
	} {
		ctx := withSecret(t.Context(), secret)
		if got := w.answer(ctx, who); got != want {
			t.Errorf("a key %s: %s\nwant %s", name, got, want)
		}
		steps, allocations := w.effort(caller{ctx: ctx}, who, 1000)
		if steps != refused {
			t.Errorf("a key %s takes %v, another %v", name, steps, refused)
		}
		if least == 0 || allocations < least {
			least = allocations
		}
		most = max(most, allocations)
	}
	if most-least > 3 {
		t.Errorf("from %v to %v allocations", least, most)
	}
}
