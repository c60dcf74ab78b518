package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// model is the index without a thought: every question is a scan.
type model map[[2]string]string

func modelCovers(pattern, uri string) bool {
	if pattern == "/" {
		return true
	}
	ps, us := strings.Split(pattern[1:], "/"), strings.Split(uri[1:], "/")
	if uri == "/" || len(ps) > len(us) {
		return false
	}
	for i, p := range ps {
		if p != "*" && p != us[i] {
			return false
		}
	}
	return true
}

func modelBelow(pattern, uri string) bool {
	if uri == "/" {
		return true
	}
	ps, us := strings.Split(pattern[1:], "/"), strings.Split(uri[1:], "/")
	if len(ps) < len(us) {
		return false
	}
	for i, u := range us {
		if ps[i] != "*" && ps[i] != u {
			return false
		}
	}
	return true
}

func (m model) rows(keep func(principal, pattern string) bool) []string {
	var rows []string
	for k, v := range m {
		if keep(k[0], k[1]) {
			rows = append(rows, k[0]+" "+k[1]+" "+v)
		}
	}
	slices.Sort(rows)
	return rows
}

// segments has neighbours of '/' and '*' in byte order, which is where an order
// by bytes and an order by segments part.
var segments = []string{"a", "b", "a-b", "a.b", "a!", "!", "%2F", "ab", "ä", "(", "z"}

func randomPattern(r *rand.Rand, wildcards bool) string {
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteByte('/')
		if wildcards && r.IntN(4) == 0 {
			b.WriteByte('*')
		} else {
			b.WriteString(segments[r.IntN(len(segments))])
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

func TestIndexAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		principals := []string{"u", "user", "user:1", "user:12", "z"}
		if seed%2 == 0 {
			principals = principals[:2] // few who hold much: walks leap
		}
		m, x := model{}, Index{}
		type published struct {
			x Index
			m model
		}
		var old []published
		steps := 2000
		for step := range steps {
			b := x.Build()
			for range 1 + r.IntN(4) {
				principal, pattern := principals[r.IntN(len(principals))], randomPattern(r, true)
				if r.IntN(10) < 6 || step < steps/4 {
					value := strings.Repeat("v", r.IntN(40))
					if r.IntN(200) == 0 {
						value = strings.Repeat("w", 5000)
					}
					b.Put(principal, pattern, value)
					m[[2]string{principal, pattern}] = value
				} else {
					b.Delete(principal, pattern)
					delete(m, [2]string{principal, pattern})
				}
			}
			x = b.Index()
			if step%500 == 250 {
				kept := model{}
				for k, v := range m {
					kept[k] = v
				}
				old = append(old, published{x, kept})
			}
			if step%20 == 0 {
				compare(t, r, &x, m, principals)
			}
		}
		for _, p := range old {
			compare(t, r, &p.x, p.m, principals)
		}
		b := x.Build()
		for k := range m {
			b.Delete(k[0], k[1])
		}
		if x = b.Index(); x.Len() != 0 || x.records.bytes != 0 || x.large.root != nil || x.patterns.root != nil || x.principals.root != nil {
			t.Fatalf("seed %d: %d assignments are left after everything was deleted", seed, x.Len())
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func compare(t *testing.T, r *rand.Rand, x *Index, m model, principals []string) {
	t.Helper()
	principal, uri := principals[r.IntN(len(principals))], randomPattern(r, r.IntN(4) == 0)
	equal := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s for %q and %q:\n got %v\nwant %v", what, principal, uri, got, want)
		}
	}

	var got []string
	for pattern, value := range x.Covering(principal, uri) {
		got = append(got, principal+" "+pattern+" "+value)
	}
	equal("Covering", got, m.rows(func(p, pattern string) bool { return p == principal && modelCovers(pattern, uri) }))

	got = nil
	for pattern, p := range x.Below(uri) {
		got = append(got, p+" "+pattern+" "+m[[2]string{p, pattern}])
	}
	slices.Sort(got)
	equal("Below", got, m.rows(func(p, pattern string) bool { return modelBelow(pattern, uri) }))

	got = nil
	for pattern, p := range x.Within(uri) {
		got = append(got, p+" "+pattern+" "+m[[2]string{p, pattern}])
	}
	slices.Sort(got)
	equal("Within", got, m.rows(func(p, pattern string) bool {
		return pattern == uri || strings.HasPrefix(pattern, strings.TrimSuffix(uri, "/")+"/")
	}))

	got = nil
	for pattern, value := range x.Held(principal, uri) {
		got = append(got, principal+" "+pattern+" "+value)
	}
	equal("Held", got, m.rows(func(p, pattern string) bool { return p == principal && pattern > uri }))

	seen := map[string]bool{}
	for k := range m {
		if k[0] > principal {
			seen[k[0]] = true
		}
	}
	var want []string
	for p := range seen {
		want = append(want, p)
	}
	slices.Sort(want)
	equal("Principals", slices.Collect(x.Principals(principal)), want)

	got = nil
	for a := range x.Assignments(Assignment{Principal: principal, Pattern: uri}) {
		got = append(got, a.Principal+"\x00"+a.Pattern+" "+a.Value)
	}
	want = nil
	for _, row := range m.rows(func(p, pattern string) bool { return p+"\x00"+pattern > principal+"\x00"+uri }) {
		want = append(want, strings.Replace(row, " ", "\x00", 1))
	}
	slices.Sort(want)
	equal("Assignments", got, want)

	value, ok := x.Get(principal, uri)
	if w, k := m[[2]string{principal, uri}]; value != w || ok != k {
		t.Errorf("Get(%q, %q) = %q, %v; want %q, %v", principal, uri, value, ok, w, k)
	}
	if x.Len() != len(m) {
		t.Errorf("Len() = %d, want %d", x.Len(), len(m))
	}
}

// TestWithin reads patterns as text, which sets it apart from Below.
func TestWithin(t *testing.T) {
	b := Index{}.Build()
	for i, pattern := range []string{"/", "/a", "/a/b", "/a/b/c", "/a/*", "/a/*/c", "/a-b", "/a!", "/ab", "/a.b/c", "/*", "/*/b", "/b", "/ä", "/ä/b"} {
		b.Put("u", pattern, "")
		if i%2 == 0 {
			b.Put("t", pattern, "")
		}
	}
	x := b.Index()
	for uri, want := range map[string]string{
		"/a":   "u /a,t /a/*,u /a/*,u /a/*/c,t /a/b,u /a/b,u /a/b/c",
		"/a/b": "t /a/b,u /a/b,u /a/b/c",
		"/a/*": "t /a/*,u /a/*,u /a/*/c",
		"/*":   "t /*,u /*,u /*/b",
		"/a.b": "u /a.b/c",
		"/ä":   "u /ä,t /ä/b,u /ä/b",
		"/c":   "",
		"/b/a": "",
	} {
		var got []string
		for pattern, principal := range x.Within(uri) {
			got = append(got, principal+" "+pattern)
		}
		if strings.Join(got, ",") != want {
			t.Errorf("within %s there are %q, want %q", uri, got, want)
		}
	}
	n := 0
	for range x.Within("/") {
		n++
	}
	if n != x.Len() {
		t.Errorf("within / there are %d of %d", n, x.Len())
	}
	for range new(Index).Within("/") {
		t.Error("there is something in an empty index")
	}
}

// TestBuilderReads: what a builder reads is what it has built so far, of those
// who hold little and much, and what it handed out stays as it was.
func TestBuilderReads(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 7))
		m, b := model{}, Index{}.Build()
		for step := range 1500 {
			principal, pattern := []string{"u", "user"}[r.IntN(2)], randomPattern(r, true)
			if r.IntN(10) < 7-6*(step/500%2) {
				value := strings.Repeat("v", 1+r.IntN(30))
				b.Put(principal, pattern, value)
				m[[2]string{principal, pattern}] = value
			} else {
				b.Delete(principal, pattern)
				delete(m, [2]string{principal, pattern})
			}
			if step%40 == 0 {
				b.Index() // as whoever publishes in between
			}
			uri := randomPattern(r, r.IntN(4) == 0)
			var got []string
			for pattern, value := range b.Covering(principal, uri) {
				got = append(got, principal+" "+pattern+" "+value)
			}
			if want := m.rows(func(p, pattern string) bool { return p == principal && modelCovers(pattern, uri) }); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: what reaches %s for %s is\n%v\nwant\n%v", seed, step, uri, principal, got, want)
			}
			got = nil
			for pattern, value := range b.Held(principal) {
				got = append(got, principal+" "+pattern+" "+value)
			}
			if want := m.rows(func(p, _ string) bool { return p == principal }); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: %s holds\n%v\nwant\n%v", seed, step, principal, got, want)
			}
			got = nil
			for pattern, p := range b.Within(uri) {
				got = append(got, p+" "+pattern+" "+m[[2]string{p, pattern}])
			}
			slices.Sort(got)
			if want := m.rows(func(_, pattern string) bool {
				return pattern == uri || strings.HasPrefix(pattern, strings.TrimSuffix(uri, "/")+"/")
			}); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: within %s there are\n%v\nwant\n%v", seed, step, uri, got, want)
			}
		}
		x := b.Index()
		want := m.rows(func(string, string) bool { return true })
		for k := range m {
			b.Delete(k[0], k[1])
		}
		for range b.Covering("u", "/a/b") {
			t.Fatal("something is left in the builder")
		}
		if x.Len() != len(want) {
			t.Errorf("the index has %d assignments, want %d", x.Len(), len(want))
		}
	}
}

// TestStopEarly: a caller may leave any walk.
func TestStopEarly(t *testing.T) {
	b := Index{}.Build()
	for i := range 100 {
		b.Put("u", fmt.Sprintf("/a/%d", i), "")
	}
	x := b.Index()
	for range x.Covering("u", "/a/5/b") {
		break
	}
	for range x.Below("/a") {
		break
	}
	for range x.Within("/a") {
		break
	}
	for range x.Held("u", "") {
		break
	}
	for range x.Principals("") {
		break
	}
	for range x.Assignments(Assignment{}) {
		break
	}
}

func TestReadsDoNotAllocate(t *testing.T) {
	b := Index{}.Build()
	for i := range 5000 {
		b.Put(fmt.Sprintf("user:%d", i%100), fmt.Sprintf("/p/%d/*/r", i), "v")
	}
	x := b.Index()
	found := 0
	if n := testing.AllocsPerRun(100, func() {
		for range x.Covering("user:42", "/p/142/b/r/s") {
			found++
		}
		x.Get("user:42", "/p/142/*/r")
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if found == 0 {
		t.Error("the walk found nothing")
	}
}
