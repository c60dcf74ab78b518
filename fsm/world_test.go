package fsm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// A worldVariant is the state as a test asks it; broken ones are wrong on
// purpose.
type worldVariant struct {
	play  func(m *machine, commands ...*Command) []Result
	holds func(o *Organisation, principal, permission, uri string) bool
	key   func(s *State, hash [32]byte) (ID, bool)
}

func soundWorld() worldVariant {
	return worldVariant{
		play: func(m *machine, commands ...*Command) []Result { return m.play(commands...) },
		holds: func(o *Organisation, principal, permission, uri string) bool {
			return o.Holds(principal, permission, uri)
		},
		key: func(s *State, hash [32]byte) (ID, bool) {
			k, _, ok := s.Key(hash)
			if !ok {
				return ID{}, false
			}
			return k.ID, true
		},
	}
}

// worldCounts are what many histories came to.
type worldCounts struct {
	held, lacked int
	codes        map[Code]int // of the commands
}

// startWorld returns a machine and the world and history that belong to it.
func startWorld(t testing.TB, seed uint64) (*machine, *world, *worldHistory) {
	m := newMachineAt(t, MaxLevel-uint32(seed%4/3)) // one in four is raised on the way
	w := newWorld(m.store.State(), machineInit(m.scope))
	h := &worldHistory{history: history{r: rand.New(rand.NewPCG(seed, 77))}, bulk: seed%20 == 7}
	return m, w, h
}

// runWorld plays one random history against the world and returns the first
// difference.
func runWorld(t testing.TB, seed uint64, v worldVariant, total *worldCounts) error {
	m, w, h := startWorld(t, seed)
	var steps []worldStep
	for op := range 80 {
		h.current = len(steps) == 0
		if steps = append(steps, h.step(w)); len(h.queue) > 0 || h.r.IntN(3) == 0 && op < 79 {
			for len(h.queue) > 0 { // drawn one after the other, and few batches
				steps = append(steps, h.step(w))
			}
			continue // what comes later in a batch does not know what came before
		}
		var commands []*Command
		for _, s := range steps {
			commands = append(commands, s.Command)
		}
		for i, r := range v.play(m, commands...) {
			got := Code(0)
			if r.Err != nil {
				got = r.Err.Code
			}
			total.codes[got]++
			if want := steps[i].apply(w); got != want {
				c := commands[i]
				return fmt.Errorf("operation %d: %T%+v by %+v: code %d (%v), want %d", op, c.Body, c.Body, c.Envelope, got, r.Err, want)
			}
		}
		steps = steps[:0]
		if h.r.IntN(20) == 0 {
			m.restart()
		}
		if err := compareWorld(m.store.State(), w, h, v, total); err != nil {
			return fmt.Errorf("operation %d: %w", op, err)
		}
	}
	return nil
}

// compareWorld asks the state and the world the same.
func compareWorld(s *State, w *world, h *worldHistory, v worldVariant, total *worldCounts) error {
	for range 3 {
		o := pick(h.r, sorted(w.organisations))
		state, ok := s.Organisation(o.id)
		if !ok {
			return fmt.Errorf("organisation %s is gone", o.id)
		}
		principal, permission, uri := "key:"+pick(h.r, sorted(w.keys)).id.String(), pick(h.r, worldPermissions), h.managementURI(w, o)
		if w.keyOf(o, principal) == nil {
			principal = "u"
		}
		if o.isEnding(uri) {
			continue
		}
		want := w.holds(o, principal, permission, uri)
		if want {
			total.held++
		} else {
			total.lacked++
		}
		if got := v.holds(state, principal, permission, uri); got != want {
			return fmt.Errorf("%s holds %s on %s: %v, want %v", principal, permission, uri, got, want)
		}
	}
	for _, k := range sorted(w.keys) {
		id, got := v.key(s, k.hash)
		if want := w.living(k); want && (!got || id != k.id) || !want && got && id == k.id {
			return fmt.Errorf("key %s is found: %v, want %v", k.id, got, want)
		}
		if got := s.IsOperator(k.id); got != w.operators[k.id] {
			return fmt.Errorf("key %s is an operator: %v", k.id, got)
		}
	}
	for _, o := range sorted(w.organisations) {
		for _, p := range sorted(o.projects) {
			if p.name == "remit" {
				continue
			}
			principal, uri, permission := h.question(p.model)
			want := p.model.check(principal, uri, permission)
			d, err := s.Check(o.id, p.name, principal, []string{uri}, []string{permission})
			if err != nil || d.Passed != want {
				return fmt.Errorf("check %s %s on %s in %q is %v (%v), want %v", principal, permission, uri, p.name, d.Passed, err, want)
			}
		}
	}
	if h.r.IntN(6) > 0 {
		return nil
	}
	if got, want := worldRows(s, w), w.rows(); !slices.Equal(got, want) {
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				return fmt.Errorf("there is\n%s\nwant\n%s", strings.Join(got[min(i, len(got)):min(i+3, len(got))], "\n"), strings.Join(want[min(i, len(want)):min(i+3, len(want))], "\n"))
			}
		}
	}
	return nil
}

// worldRows is all that there is, as the world writes it.
func worldRows(s *State, w *world) []string {
	var all []string
	for o := range s.Organisations(ID{}) {
		all = append(all, fmt.Sprintf("%s is %s, of %d owners", o.ID, o.Name, o.owners))
		for p := range o.Projects("") {
			for k := range p.Keys("") {
				all = append(all, fmt.Sprintf("%s %s key %s invalidated %v operator %v", o.ID, p.Name, k.ID, k.Invalidated, s.IsOperator(k.ID)))
			}
			for _, row := range rows(p) {
				principal, _, _ := strings.Cut(row, " on ")
				if id, ok := ParseID(strings.TrimPrefix(principal, "key:")); ok && p.Name == "remit" {
					if _, _, ok := w.project(Scope{o.ID, w.keys[id].project}); !ok {
						continue
					}
				}
				if !strings.HasPrefix(principal, "bulk") {
					all = append(all, fmt.Sprintf("%s %s: %s", o.ID, p.Name, row))
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestWorlds plays histories of several organisations; more of them where
// REMIT_NIGHTLY is set.
func TestWorlds(t *testing.T) {
	histories := uint64(300)
	if os.Getenv("REMIT_NIGHTLY") != "" {
		histories = 40_000
	}
	total := worldCounts{codes: map[Code]int{}}
	for seed := range histories {
		if err := runWorld(t, seed, soundWorld(), &total); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
	}
	t.Logf("%d histories, %d rights held and %d lacked, commands by code: %v", histories, total.held, total.lacked, total.codes)
	commands := 0
	for _, n := range total.codes {
		commands += n
	}
	if total.codes[0]*100 < 35*commands || total.held*100 < 20*(total.held+total.lacked) {
		t.Errorf("too little succeeds for the histories to say much")
	}
	for _, code := range []Code{CodeInvalidArgument, CodeNotFound, CodeAlreadyExists, CodePermissionDenied, CodeUnavailable, CodeUnauthenticated, CodeResourceExhausted} {
		if total.codes[code] < 10 {
			t.Errorf("%d commands come to code %d", total.codes[code], code)
		}
	}
}
