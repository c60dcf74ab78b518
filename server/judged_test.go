package server

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

// Rights and keys end while calls are under way. Whatever a call was allowed when
// it came, what counts is the place of its command in the log, or the state that
// its answer comes from.

// An ending ends what a call of the key's lives on, behind the server's back.
type callEnding struct {
	name string
	end  func(t testing.TB, w *world, k caller)
	code codes.Code
}

// builtIn is the built-in project of the root key's organisation.
func (n *node) builtIn() view {
	state := n.store.State()
	o, _ := state.Organisation(n.init.Organisation)
	p, _ := o.Project(fsm.BuiltInProject)
	return view{state, o.ID, p}
}

// revoked takes a management permission from a key.
func (w *world) revoked(k caller, n need) fsm.Body {
	p, ok := w.builtIn().Permission(n.permission)
	if !ok {
		w.t.Fatalf("there is no permission %s", n.permission)
	}
	return &fsm.Revoke{Scope: w.builtIn().scope(), Principal: k.principal, URI: w.fill.Replace(n.on), Permissions: []fsm.ID{p.ID}}
}

// keyEndings are the ways in which a key of the project ends.
func keyEndings(of string) []callEnding {
	invalidated := callEnding{"its key is invalidated", func(t testing.TB, w *world, k caller) {
		scope := w.builtIn().scope()
		if of == project {
			scope = w.scope()
		}
		w.log.put(t, &fsm.InvalidateKey{Scope: scope, ID: k.id})
	}, codes.Unauthenticated}
	if of != project {
		return []callEnding{invalidated}
	}
	return []callEnding{invalidated,
		{"its project is deleted", func(t testing.TB, w *world, k caller) {
			w.log.put(t, &fsm.DeleteProject{Scope: w.scope()})
		}, codes.Unauthenticated},
		{"its project is another of the name", func(t testing.TB, w *world, k caller) {
			w.log.put(t, &fsm.DeleteProject{Scope: w.scope()})
			w.log.put(t, &fsm.CreateProject{Scope: fsm.Scope{Organisation: w.init.Organisation, Project: NewID()}, Name: project})
		}, codes.Unauthenticated}}
}

// eachEnding runs a test for every sample and everything that may end before it
// is done, of the reads or the writes: each of its rights, and the key. The test makes the call and lets end
// happen once on the way, where the call comes that far.
func eachEnding(t *testing.T, reads bool, services []string, test func(t *testing.T, w *world, k caller, req proto.Message, end func()) (reached bool, err error)) {
	for _, service := range services {
		for method, all := range samples {
			for _, s := range all {
				if has(s.request, "consistency") != reads {
					continue
				}
				for _, of := range keysFor(method, s) {
					endings := keyEndings(of)
					for _, n := range s.needs {
						endings = append(endings, callEnding{"no " + n.permission, func(t testing.TB, w *world, k caller) {
							w.log.put(t, w.revoked(k, n))
						}, codes.PermissionDenied})
					}
					for i, ending := range endings {
						w := newWorld(newNode(t).ready().door(service))
						k := w.caller(do(w.door, w.CreateAPIKey, keyRequest(w.org(), of)).ApiKey)
						for _, n := range s.needs {
							w.give(k, w.fill.Replace(n.on), n.permission)
						}
						var digest [32]byte
						reached, err := test(t, w, k, w.filled(s.request), func() {
							ending.end(t, w, k)
							digest = digestOf(w.store.State())
						})
						where := strings.Join([]string{service, method, s.name, of, ending.name}, ", ")
						if !reached {
							continue
						}
						got := status.Convert(err)
						if got.Code() != ending.code {
							t.Errorf("%s: got %v %q, want %v", where, got.Code(), got.Message(), ending.code)
						}
						if ending.code == codes.PermissionDenied {
							n := s.needs[i-len(keyEndings(of))]
							as := []string{missing(n.permission, w.fill.Replace(n.on)), missing(n.permission, w.fill.Replace(n.sent))}
							if got.Message() != as[0] && got.Message() != as[1] {
								t.Errorf("%s: %q", where, got.Message())
							}
						}
						if digestOf(w.store.State()) != digest {
							t.Errorf("%s: refused, and the state changed", where)
						}
					}
				}
			}
		}
	}
}

func keyRequest(organisation, of string) *organisationv1.CreateAPIKeyRequest {
	req := &organisationv1.CreateAPIKeyRequest{OrganisationId: organisation, ProjectName: of, Name: "of the test"}
	if of == "operator" {
		req.ProjectName, req.Operator = fsm.BuiltInProject, true
	}
	return req
}

// A write whose right or key ends between the server's judgement and the place of
// its command in the log is refused there.
func TestApplyJudges(t *testing.T) {
	reached := 0
	eachEnding(t, false, []string{serviceName, "REST"}, func(t *testing.T, w *world, k caller, req proto.Message, end func()) (bool, error) {
		came := false
		w.log.hook(func(l *memoryLog) {
			l.before = func(context.Context, fsm.Kind) error {
				came = true
				end()
				return nil
			}
		})
		_, err := w.call(k.ctx, req)
		if came {
			reached++
		}
		return came, err
	})
	if reached < 300 {
		t.Errorf("%d writes came to the log", reached)
	}
}

// A read that waits for a newer state is answered only if it is still allowed
// there.
func TestReadsAreJudgedWhereTheyAreAnswered(t *testing.T) {
	for _, test := range []struct {
		name     string
		services []string
		wait     func(w *world, k caller, req proto.Message, end func()) (context.Context, proto.Message)
	}{
		{"fully consistent", []string{serviceName, "REST"}, func(w *world, k caller, req proto.Message, end func()) (context.Context, proto.Message) {
			w.whenRead(end)
			return withSecret(w.t.Context(), k.secret, metadataConsistency, "fully_consistent"), req
		}},
		{"with a token", []string{"local"}, func(w *world, k caller, req proto.Message, end func()) (context.Context, proto.Message) {
			w.whenRead(end)
			return k.ctx, with(req, "token", w.next())
		}},
		{"at once", []string{"local"}, func(w *world, k caller, req proto.Message, end func()) (context.Context, proto.Message) {
			w.server.store = &hookedStore{w.store, 1, end}
			return k.ctx, req
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			reached := 0
			eachEnding(t, true, test.services, func(t *testing.T, w *world, k caller, req proto.Message, end func()) (bool, error) {
				came := false
				ctx, req := test.wait(w, k, req, func() {
					came = true
					end()
				})
				answer, err := w.call(ctx, req)
				if err == nil {
					t.Errorf("answered %v", answer)
				}
				if came {
					reached++
				}
				return came, err
			})
			if reached < 90 {
				t.Errorf("%d reads met the end of what they live on", reached)
			}
		})
	}
}

// whenRead lets something happen at the leader before it confirms a read.
func (w *world) whenRead(then func()) {
	w.log.hook(func(l *memoryLog) {
		l.onRead = func(context.Context) (uint64, error) {
			then()
			return w.store.State().Revision, nil
		}
	})
}
