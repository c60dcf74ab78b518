package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A plainMap is the yardstick for checks: the fastest that comes to mind, with
// no wildcards, no roles (each set has what its role holds), no order and no
// older versions, and with one look-up for the URI and each of its ancestors.
type plainMap map[plainKey]map[string]struct{}

type plainKey struct{ principal, uri string }

func (m plainMap) check(principal, uri, permission string) bool {
	_, ok := m[plainKey{principal, "/"}][permission]
	for i := 1; i < len(uri); i++ {
		if uri[i] == '/' {
			_, here := m[plainKey{principal, uri[:i]}][permission]
			ok = ok || here
		}
	}
	_, here := m[plainKey{principal, uri}][permission]
	return ok || here
}

// A population is a state of many grants, each of one role of ten permissions.
type population struct {
	grants        int
	grant         grantPattern
	state         *State
	scope         Scope
	bytesPerGrant float64 // heap that the state takes

	once    sync.Once // for the rest, which only checks need
	plain   plainMap  // the same grants
	allowed []question
	denied  []question // of principals who hold as much elsewhere
}

type question struct{ principal, uri, permission string }

// A pattern of grants: grant i of n.
type grantPattern func(r *rand.Rand, i, n int) (principal, uri string)

// tenEach gives a principal ten grants, on URIs of four segments.
func tenEach(r *rand.Rand, i, n int) (principal, uri string) {
	return fmt.Sprintf("user:%06d", i/10), fmt.Sprintf("/project/%d/documents/%d", r.IntN(n/100), r.IntN(100_000))
}

// tenEachWild has a wildcard in half of them.
func tenEachWild(r *rand.Rand, i, n int) (principal, uri string) {
	if i%2 == 0 {
		return fmt.Sprintf("user:%06d", i/10), fmt.Sprintf("/project/*/documents/%d", r.IntN(100_000))
	}
	return tenEach(r, i, n)
}

// one gives all of them to one principal.
func one(r *rand.Rand, i, n int) (principal, uri string) {
	return "service:everything", fmt.Sprintf("/project/%d/documents/%d", i/100, r.IntN(100_000))
}

// oneWild has a wildcard in half of them.
func oneWild(r *rand.Rand, i, n int) (principal, uri string) {
	if i%2 == 0 {
		return "service:everything", fmt.Sprintf("/project/*/documents/%d", i)
	}
	return one(r, i, n)
}

const benchRoles = 8

func populate(n int, grant grantPattern) *population {
	p := &population{grants: n, grant: grant, scope: Scope{ID{1}, ID{2}}}
	apply := func(b *batch, body Body) {
		if r := b.apply(&Command{Body: body}, 0); r.Err != nil {
			panic(r.Err)
		}
	}
	before := heapBytes()
	b := newBatch(&State{})
	apply(b, &Init{Cluster: ID{9}, CreateOrganisation: CreateOrganisation{
		Organisation: p.scope.Organisation, Name: BootstrapOrganisation, BuiltIn: remitID, Project: p.scope.Project, ProjectName: "production", Key: rootID, KeyName: "root",
	}})
	for role := range benchRoles {
		var ids []ID
		for i := range 10 {
			ids = append(ids, ID{1, byte(role), byte(i)})
			apply(b, &PutPermission{p.scope, ids[i], benchPermission(role, i), ""})
		}
		apply(b, &PutRole{p.scope, ID{2, byte(role)}, fmt.Sprint("role ", role), "", ids})
	}
	p.each(func(i int, principal, uri string) {
		apply(b, &Grant{p.scope, principal, uri, nil, []ID{{2, byte(i % benchRoles)}}})
		if i%1000 == 999 { // as a log would: with many states on the way
			b = newBatch(b.finish(uint64(i)))
		}
	})
	p.state = b.finish(uint64(n))
	p.bytesPerGrant = float64(heapBytes()-before) / float64(n)
	return p
}

func benchPermission(role, i int) string { return fmt.Sprintf("resource%d.action%d", role, i) }

// each yields the grants, the same every time.
func (p *population) each(yield func(i int, principal, uri string)) {
	r := rand.New(rand.NewPCG(7, 7))
	for i := range p.grants {
		principal, uri := p.grant(r, i, p.grants)
		yield(i, principal, uri)
	}
}

// prepare makes the plain map and draws the questions: strings of their own, in
// the order in which they will be asked, as they come out of requests.
func (p *population) prepare() {
	p.plain = plainMap{}
	sets := make([]map[string]struct{}, benchRoles)
	for role := range sets {
		sets[role] = map[string]struct{}{}
		for i := range 10 {
			sets[role][benchPermission(role, i)] = struct{}{}
		}
	}
	keys := make([]plainKey, p.grants)
	p.each(func(i int, principal, uri string) {
		keys[i] = plainKey{principal, uri}
		set := sets[i%benchRoles]
		if held, ok := p.plain[keys[i]]; ok { // seldom: a second role
			set = maps.Clone(set)
			maps.Copy(set, held)
		}
		p.plain[keys[i]] = set
	})
	r := rand.New(rand.NewPCG(8, 8))
	for range min(p.grants, 200_000) {
		i := r.IntN(p.grants)
		below := strings.ReplaceAll(keys[i].uri, "*", "4711") + "/comments"
		p.allowed = append(p.allowed, question{strings.Clone(keys[i].principal), below, benchPermission(i%benchRoles, r.IntN(10))})
		elsewhere := fmt.Sprintf("/project/%d/documents/%d/comments", r.IntN(p.grants/100), 100_000+r.IntN(100_000))
		p.denied = append(p.denied, question{strings.Clone(keys[i].principal), elsewhere, benchPermission(i%benchRoles, r.IntN(10))})
	}
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Populations are built once, when a benchmark first asks for them. Those that
// write come before those that check: a collector that marks the plain map too
// would take half of their time.
var (
	tenThousand  = sync.OnceValue(func() *population { return populate(10_000, tenEach) })
	million      = sync.OnceValue(func() *population { return populate(1_000_000, tenEach) })
	wild         = sync.OnceValue(func() *population { return populate(100_000, tenEachWild) })
	bigPrincipal = sync.OnceValue(func() *population { return populate(100_000, one) })
	bigWild      = sync.OnceValue(func() *population { return populate(100_000, oneWild) })
)

// BenchmarkApply applies grants to a state of a million, one batch of raft's
// after the other. An operation is one grant, its decoding and the publishing
// of the state included. At level 2 it is remembered, by a memory that is full.
func BenchmarkApply(b *testing.B) {
	for _, level := range []uint32{1, 2} {
		for _, size := range []int{1, 64} {
			b.Run(fmt.Sprintf("level=%d/batch=%d", level, size), func(b *testing.B) {
				p := million()
				m := &machine{t: b, store: newStore(b), scope: p.scope, index: p.state.Revision}
				r := rand.New(rand.NewPCG(uint64(size), uint64(b.N)))
				state := *p.state
				if state.Level = level; level >= levelOfClusters {
					state.requests = fullMemory(r)
				}
				m.store.publish(&state)
				logs := make([]*raft.Log, b.N)
				for i := range logs {
					principal, uri := tenEach(r, r.IntN(1_000_000), 1_000_000)
					c := by(rootID, &Grant{p.scope, principal, uri, nil, []ID{{2, byte(i % benchRoles)}}})
					c.Envelope.Request = randomID(r)
					logs[i] = m.log(c)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for batch := range slices.Chunk(logs, size) {
					m.store.ApplyBatch(batch)
				}
			})
		}
	}
}

func randomID(r *rand.Rand) (id ID) {
	binary.BigEndian.PutUint64(id[:], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	return id
}

// fullMemory remembers all that it can, as the log of a few keys would leave it.
func fullMemory(r *rand.Rand) memory {
	b := newBatch(&State{Level: levelOfClusters})
	for i := range 2 * generationSize {
		b.revision = uint64(i)
		b.remember(&Envelope{Key: ID{byte(r.IntN(8)) + 1}, Request: randomID(r), Content: r.Uint64()}, &Result{})
		if i%64 == 0 {
			b = newBatch(b.finish(b.revision))
		}
	}
	return b.state.requests
}

// BenchmarkMemory measures the memory of requests alone.
func BenchmarkMemory(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 3))
	before := heapBytes()
	m := fullMemory(r)
	perRequest := float64(heapBytes()-before) / float64(m.young.len()+m.old.len())
	state := &State{Level: levelOfClusters, requests: m}
	b.Run("remember", func(b *testing.B) { // in a batch of its own
		envelopes := make([]Envelope, b.N)
		for i := range envelopes {
			envelopes[i] = Envelope{Key: ID{1}, Request: randomID(r)}
		}
		b.ReportAllocs()
		b.ResetTimer()
		s := state
		for i := range envelopes {
			batch := newBatch(s)
			batch.recall(&envelopes[i])
			batch.remember(&envelopes[i], &Result{})
			s = batch.finish(uint64(i))
		}
		b.ReportMetric(perRequest, "B/request")
	})
	b.Run("snapshot", func(b *testing.B) {
		var data bytes.Buffer
		state := &State{Level: levelOfClusters, Revision: 1 << 20, requests: m}
		for b.Loop() {
			data.Reset()
			if err := state.WriteSnapshot(&data); err != nil {
				b.Fatal(err)
			}
			if _, err := ReadSnapshot(bytes.NewReader(data.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(data.Len()))
	})
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			state.Digest()
		}
	})
}

// BenchmarkSnapshot writes and reads the snapshot of a million grants.
func BenchmarkSnapshot(b *testing.B) {
	b.Run("write", func(b *testing.B) {
		p := million()
		var size countingWriter
		if err := p.state.WriteSnapshot(&size); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(size))
		b.ReportAllocs()
		for b.Loop() {
			if err := p.state.WriteSnapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		var data bytes.Buffer
		if err := million().state.WriteSnapshot(&data); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(data.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ReadSnapshot(bytes.NewReader(data.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type countingWriter int64

func (n *countingWriter) Write(p []byte) (int, error) {
	*n += countingWriter(len(p))
	return len(p), nil
}

// BenchmarkLists takes pages of ten from a state of a million grants.
func BenchmarkLists(b *testing.B) {
	p := million()
	o, _ := p.state.Organisation(p.scope.Organisation)
	project, _ := o.Project("production")
	run := func(name, about string, of int, list func(about string, yield func() bool)) {
		b.Run(name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(9, 9))
			questions := make([]string, min(b.N, 10_000))
			for i := range questions {
				questions[i] = fmt.Sprintf(about, r.IntN(of))
			}
			b.ReportAllocs()
			b.ResetTimer()
			found := 0
			for i := range b.N {
				n := 0
				list(questions[i%len(questions)], func() bool { n++; return n < 10 })
				found += n
			}
			b.ReportMetric(float64(found)/float64(b.N), "entries/op")
		})
	}
	run("holders-of-a-project", "/project/%d", p.grants/100, func(uri string, yield func() bool) {
		for range project.Holders(uri) {
			if !yield() {
				return
			}
		}
	})
	run("assignments-of-a-principal", "user:%06d", p.grants/10, func(principal string, yield func() bool) {
		for range project.Assignments(principal, "") {
			if !yield() {
				return
			}
		}
	})
	run("principals", "user:%06d", p.grants/10, func(after string, yield func() bool) {
		for range project.Principals(after) {
			if !yield() {
				return
			}
		}
	})
}

// BenchmarkCheck asks State.Check, from strings to decision, for one permission
// on a URI of five segments, and the plain map for the same, in turns: the
// median of their ratios is x-plain-map. The plain map knows no wildcards.
func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		name     string
		p        func() *population
		allowed  bool
		hasPlain bool
	}{
		{"grants=10k/allowed", tenThousand, true, true},
		{"grants=10k/denied", tenThousand, false, true},
		{"grants=1M/allowed", million, true, true},
		{"grants=1M/denied", million, false, true},
		{"grants=100k-wildcards/allowed", wild, true, false},
		{"grants=100k-wildcards/denied", wild, false, false},
		{"grants=100k-of-one/allowed", bigPrincipal, true, true},
		{"grants=100k-of-one/denied", bigPrincipal, false, true},
		{"grants=100k-of-one-wildcards/allowed", bigWild, true, false},
		{"grants=100k-of-one-wildcards/denied", bigWild, false, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := c.p()
			p.once.Do(p.prepare)
			questions := p.allowed
			if !c.allowed {
				questions = p.denied
			}
			b.ReportAllocs()
			p.race(b, questions, c.allowed, c.hasPlain)
			b.ReportMetric(p.bytesPerGrant, "bytes/grant")
		})
	}
}

// race answers b.N questions in both ways, in short turns: state, map, map,
// state, so that neither has the warmer caches or the quieter machine.
func (p *population) race(b *testing.B, questions []question, allowed, hasPlain bool) {
	const turn = 250
	var ours, theirs time.Duration
	ratios := make([]float64, 0, b.N/turn+1)
	check := func(questions []question) time.Duration {
		start := time.Now()
		for i := range questions {
			q := &questions[i]
			uris, permissions := [1]string{q.uri}, [1]string{q.permission}
			d, err := p.state.Check(p.scope.Organisation, "production", q.principal, uris[:], permissions[:])
			if err != nil || d.Passed != allowed {
				b.Fatalf("%+v: %+v, %v", *q, d, err)
			}
		}
		return time.Since(start)
	}
	plain := func(questions []question) time.Duration {
		if !hasPlain {
			return 0
		}
		start := time.Now()
		for i := range questions {
			if q := &questions[i]; p.plain.check(q.principal, q.uri, q.permission) != allowed {
				b.Fatalf("the plain map answers %+v otherwise", *q)
			}
		}
		return time.Since(start)
	}
	at := 0
	b.ResetTimer()
	next := func(n int) []question {
		if at+n > len(questions) {
			at = 0
		}
		at += n
		return questions[at-n : at]
	}
	for left := b.N; left > 0; {
		first := next(min(left, turn))
		a, z := check(first), plain(first)
		left -= len(first)
		if second := next(min(left, turn)); len(second) > 0 {
			z += plain(second)
			a += check(second)
			left -= len(second)
		}
		ours, theirs, ratios = ours+a, theirs+z, append(ratios, float64(a)/float64(max(z, 1)))
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/op")
	if hasPlain {
		slices.Sort(ratios)
		b.ReportMetric(float64(theirs.Nanoseconds())/float64(b.N), "plain-map-ns/op")
		b.ReportMetric(ratios[len(ratios)/2], "x-plain-map")
	}
}
