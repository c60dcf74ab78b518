package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// A checker answers one question of a history.
type checker func(s *State, scope Scope, principal, uri, permission string) bool

func stateCheck(s *State, scope Scope, principal, uri, permission string) bool {
	d, err := s.Check(scope.Organisation, "production", principal, []string{uri}, []string{permission})
	return err == nil && d.Passed
}

// counts are the checks of many histories.
type counts struct{ allowed, denied int }

// runHistory plays one random history against the model and returns the first
// difference.
func runHistory(t testing.TB, seed uint64, check checker, total *counts) error {
	h := &history{r: rand.New(rand.NewPCG(seed, 99))}
	m := newMachine(t)
	h.scope = m.scope
	truth := newModel()
	var steps []step
	flush := func() error {
		var bodies []Body
		for _, s := range steps {
			bodies = append(bodies, s.body)
		}
		for i, r := range m.apply(bodies...) {
			got := Code(0)
			if r.Err != nil {
				got = r.Err.Code
			}
			if want := steps[i].apply(truth); got != want {
				return fmt.Errorf("%T%+v: code %d (%v), want %d", bodies[i], bodies[i], got, r.Err, want)
			}
		}
		steps = steps[:0]
		return nil
	}
	for _, name := range modelPermissions[:3] { // otherwise most of a history denies
		steps = append(steps, permissionStep(h, name))
	}
	for op := range 60 {
		steps = append(steps, h.step(truth))
		// A batch of several: its later commands were drawn without knowing
		// what the earlier ones did.
		if h.r.IntN(3) == 0 && op < 59 {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if h.r.IntN(25) == 0 {
			m.restart()
		}
		for range 3 {
			principal, uri, permission := h.question(truth)
			want := truth.check(principal, uri, permission)
			if want {
				total.allowed++
			} else {
				total.denied++
			}
			if got := check(m.store.State(), m.scope, principal, uri, permission); got != want {
				return fmt.Errorf("operation %d: check %s %s on %s is %v, want %v; granted:\n%s",
					op, principal, permission, uri, got, want, strings.Join(truth.rows(), "\n"))
			}
		}
		if h.r.IntN(10) == 0 {
			if got, want := rows(m.project()), truth.rows(); !slices.Equal(got, want) {
				return fmt.Errorf("operation %d: assignments are\n%s\nwant\n%s", op, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if err := checkIndex(m.project(), truth, h.uri(false, 2)); err != nil {
				return fmt.Errorf("operation %d: %w", op, err)
			}
		}
	}
	return nil
}

func permissionStep(h *history, name string) step {
	c := &PutPermission{h.scope, h.id(), name, ""}
	return step{c, func(m *model) Code { m.permissions[c.ID] = name; return 0 }}
}

// rows is all that is granted, as the model writes it.
func rows(p *Project) []string {
	var rows []string
	for principal := range p.Principals("") {
		for a := range p.Assignments(principal, "") {
			var names []string
			for _, x := range a.Permissions {
				names = append(names, x.Name)
			}
			for _, r := range a.Roles {
				names = append(names, "role "+r.Name)
			}
			slices.Sort(names)
			rows = append(rows, fmt.Sprintf("%s on %s: %s", a.Principal, a.URI, strings.Join(names, ", ")))
		}
	}
	slices.Sort(rows)
	return rows
}

// checkIndex holds "who holds anything at or below" and "who is there at all"
// against the model.
func checkIndex(p *Project, truth *model, uri string) error {
	asked := segmentsOf(uri, false)
	var want []string
	people := map[string]bool{}
	for key := range truth.grants {
		people[key[0]] = true
		granted := segmentsOf(key[1], true)
		below := len(granted) >= len(asked)
		for i := 1; below && i < len(asked); i++ {
			below = granted[i] == asked[i] || granted[i] == "*"
		}
		if below || uri == "/" {
			want = append(want, key[0]+" on "+key[1])
		}
	}
	slices.Sort(want)
	var got []string
	for a := range p.Holders(uri) {
		got = append(got, a.Principal+" on "+a.URI)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("holders at or below %s are %v, want %v", uri, got, want)
	}
	for principal := range p.Principals("") {
		if !people[principal] {
			return fmt.Errorf("principal %q has nothing", principal)
		}
		delete(people, principal)
	}
	if len(people) > 0 {
		return fmt.Errorf("principals %v are not listed", people)
	}
	return nil
}

// TestHistories plays 100,000 histories where REMIT_NIGHTLY is set, else a
// share of them.
func TestHistories(t *testing.T) {
	histories := uint64(1500)
	if os.Getenv("REMIT_NIGHTLY") != "" {
		histories = 100_000
	}
	var total counts
	for seed := range histories {
		if err := runHistory(t, seed, stateCheck, &total); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
	}
	checks := total.allowed + total.denied
	t.Logf("%d histories, %d checks, %d%% allowed", histories, checks, 100*total.allowed/checks)
	if total.allowed*100 < 30*checks || total.denied*100 < 30*checks {
		t.Errorf("%d checks allowed and %d denied: each should be 30%% at least, or the histories say little", total.allowed, total.denied)
	}
}

// TestBrokenVariantsAreCaught: a test that cannot fail proves nothing, so the
// histories must find each of these.
func TestBrokenVariantsAreCaught(t *testing.T) {
	project := func(s *State, scope Scope) *Project {
		o, _ := s.Organisation(scope.Organisation)
		p, _ := o.Project("production")
		return p
	}
	holds := func(a Assignment, p *Project, permission string) bool {
		named := func(x *Permission) bool { return x.Name == permission }
		return slices.ContainsFunc(a.Permissions, named) ||
			slices.ContainsFunc(a.Roles, func(r *Role) bool { return slices.ContainsFunc(p.RolePermissions(r), named) })
	}
	variants := map[string]func() checker{
		"string prefix instead of segments": func() checker {
			return func(s *State, scope Scope, principal, uri, permission string) bool {
				p := project(s, scope)
				for a := range p.Assignments(principal, "") {
					reaches := strings.HasPrefix(uri, a.URI)
					if strings.Contains(a.URI, "*") {
						reaches = slices.ContainsFunc(slices.Collect(p.Reaching(principal, uri)), func(b Assignment) bool { return b.URI == a.URI })
					}
					if reaches && holds(a, p, permission) {
						return true
					}
				}
				return false
			}
		},
		"a role not expanded": func() checker {
			return func(s *State, scope Scope, principal, uri, permission string) bool {
				p := project(s, scope)
				for a := range p.Reaching(principal, uri) {
					a.Roles = nil
					if holds(a, p, permission) {
						return true
					}
				}
				return false
			}
		},
		"a stale id": func() checker {
			first := map[string]ID{} // of each name, as first seen
			return func(s *State, scope Scope, principal, uri, permission string) bool {
				p := project(s, scope)
				if now, ok := p.Permission(permission); ok {
					if _, seen := first[permission]; !seen {
						first[permission] = now.ID
					}
				}
				id, ok := first[permission]
				return ok && stateCheck(s, scope, principal, uri, id.String())
			}
		},
		"a wildcard that is a literal": func() checker {
			return func(s *State, scope Scope, principal, uri, permission string) bool {
				p := project(s, scope)
				for a := range p.Reaching(principal, uri) {
					if !strings.Contains(a.URI, "*") && holds(a, p, permission) {
						return true
					}
				}
				return false
			}
		},
		"no inheritance": func() checker {
			return func(s *State, scope Scope, principal, uri, permission string) bool {
				p := project(s, scope)
				return holds(p.Assignment(principal, uri), p, permission)
			}
		},
	}
	for name, variant := range variants {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(200) {
				if err := runHistory(t, seed, variant(), new(counts)); err != nil {
					return
				}
			}
			t.Error("200 histories did not notice")
		})
	}
}

// commandsOfProject draws those of one project.
func commandsOfProject(t testing.TB, seed uint64) (*machine, func() *Command) {
	m, truth := newMachine(t), newModel()
	h := &history{r: rand.New(rand.NewPCG(seed, 5)), scope: m.scope}
	return m, func() *Command {
		s := h.step(truth)
		s.apply(truth)
		return byCluster(s.body)
	}
}

// commandsOfWorld draws those of several organisations.
func commandsOfWorld(t testing.TB, seed uint64) (*machine, func() *Command) {
	m, w, h := startWorld(t, seed)
	h.current = true
	return m, func() *Command {
		s := h.step(w)
		s.apply(w)
		return s.Command
	}
}

// TestSameLogSameState applies one log in batches of several sizes, and through
// snapshots in the middle.
func TestSameLogSameState(t *testing.T) {
	for seed := range uint64(20) {
		source, draw := commandsOfWorld(t, seed)
		if seed%3 == 0 {
			source, draw = commandsOfProject(t, seed)
		}
		logs := []*raft.Log{}
		entries, between := 400, uint64(5) // commands, and restarts
		if seed%20 == 7 {
			entries, between = 4000, 97 // some delete what has many grants
		}
		for i := range entries {
			if i%17 == 3 { // entries of raft's own never reach a result
				source.index++
				logs = append(logs, &raft.Log{Index: source.index, Type: raft.LogConfiguration})
				continue
			}
			logs = append(logs, source.log(draw()))
		}
		play := func(batch int, snapshots bool) (*State, []byte) {
			m := newMachineAt(t, source.store.State().Level)
			for chunk := range slices.Chunk(logs, batch) {
				for i, r := range m.store.ApplyBatch(chunk) {
					if (r == nil) != (chunk[i].Type != raft.LogCommand) {
						t.Fatalf("entry %d of type %v has the result %v", chunk[i].Index, chunk[i].Type, r)
					}
				}
				if snapshots && chunk[0].Index%between == 0 {
					m.restart()
				}
			}
			var b bytes.Buffer
			if err := m.store.State().WriteSnapshot(&b); err != nil {
				t.Fatal(err)
			}
			return m.store.State(), b.Bytes()
		}
		want, wantBytes := play(1, false)
		for _, batch := range []int{1, 2, 7, 64, len(logs)} {
			got, gotBytes := play(batch, batch < 64)
			if got.Digest() != want.Digest() || !bytes.Equal(gotBytes, wantBytes) {
				t.Fatalf("seed %d: batches of %d give another state", seed, batch)
			}
			if !slices.Equal(slices.Collect(got.Sweeping()), slices.Collect(want.Sweeping())) || got.SweepingKeys() != want.SweepingKeys() {
				t.Fatalf("seed %d: after batches of %d something else is to be swept", seed, batch)
			}
		}
	}
}

// TestDigestIgnoresTheDead: sweeping is no change.
func TestDigestIgnoresTheDead(t *testing.T) {
	m := newMachine(t)
	m.must(&PutPermission{m.scope, ID{10}, "a", ""})
	m.must(&PutPermission{m.scope, ID{11}, "b", ""})
	m.must(&PutRole{m.scope, ID{12}, "r", "", []ID{{10}, {11}}})
	for i := range 50 {
		m.must(&Grant{m.scope, fmt.Sprint("u", i), "/a", []ID{{10}}, nil})
		m.must(&Grant{m.scope, fmt.Sprint("u", i), "/b", []ID{{10}, {11}}, []ID{{12}}})
	}
	before := m.store.State().Digest()
	m.must(&DeletePermission{m.scope, ID{10}})
	deleted := m.store.State().Digest()
	if before == deleted {
		t.Error("the digest does not show a delete")
	}
	steps := 0
	for ; m.store.State().IsSweeping(m.scope); steps++ {
		if m.store.State().Digest() != deleted {
			t.Fatalf("sweep step %d changed the digest", steps)
		}
		m.must(&Sweep{m.scope, 20})
	}
	if steps < 5 {
		t.Errorf("the sweep took %d steps: they are not bounded", steps)
	}
	if n := m.project().assignments.Len(); n != 50 {
		t.Errorf("%d assignments are left, want 50", n)
	}
	if m.store.State().Digest() != deleted {
		t.Error("the sweep changed the digest")
	}
}

// TestPublishedStatesStay: readers keep what they took.
func TestPublishedStatesStay(t *testing.T) {
	m := newMachine(t)
	h, truth := &history{r: rand.New(rand.NewPCG(3, 3)), scope: m.scope}, newModel()
	type kept struct {
		state  *State
		digest [32]byte
	}
	var all []kept
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // for the race detector
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				s := m.store.State()
				s.Digest()
				stateCheck(s, m.scope, "u", "/a/b", "doc.read")
			}
		}
	}()
	for range 300 {
		s := h.step(truth)
		s.apply(truth)
		m.apply(s.body)
		all = append(all, kept{m.store.State(), m.store.State().Digest()})
	}
	close(stop)
	<-done
	for _, k := range all {
		if k.state.Digest() != k.digest {
			t.Fatalf("the state of revision %d has changed since", k.state.Revision)
		}
	}
}
