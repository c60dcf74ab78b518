package fsm

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// benchKeys is how many keys there are, of a hundred organisations.
const benchKeys = 100_000

// keyed is a state of many keys, with the same in plain maps: by hash, and which
// permissions a principal holds on which URI.
func keyed(b *testing.B) (s *State, hashes [][32]byte, byHash map[[32]byte]ID, held map[plainKey]map[string]struct{}) {
	byHash, held = map[[32]byte]ID{}, map[plainKey]map[string]struct{}{}
	owns := map[string]struct{}{}
	for name := range ManagementPermissions() {
		owns[name] = struct{}{}
	}
	batch := newBatch(&State{})
	apply := func(body Body) {
		if r := batch.apply(byCluster(body), 0); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	note := func(organisation ID, k ID, hash [32]byte) {
		hashes, byHash[hash] = append(hashes, hash), k
		held[plainKey{KeyPrincipal(k), ManagementURI(organisation)}] = owns
	}
	for i := range 100 {
		c := CreateOrganisation{benchID(1, i), fmt.Sprint("o", i), benchID(2, i), benchID(3, i), "default", benchID(4, i), "first", benchHash(4, i)}
		if i == 0 {
			apply(&Init{Cluster: ID{9}, CreateOrganisation: c})
		} else {
			apply(&c)
		}
		note(c.Organisation, c.Key, c.KeyHash)
		for j := range benchKeys/100 - 1 {
			k := &CreateKey{Scope{c.Organisation, c.BuiltIn}, benchID(5+byte(i), j), "k", benchHash(5+byte(i), j), roleOwner, false}
			apply(k)
			note(c.Organisation, k.ID, k.Hash)
		}
	}
	return batch.finish(1), hashes, byHash, held
}

func benchID(kind byte, i int) ID { return ID{byte(i), byte(i >> 8), kind, 0xbe} }

// benchHash looks as random as a hash does.
func benchHash(kind byte, i int) (hash [32]byte) {
	x := uint64(kind)<<32 | uint64(i)
	for j := range hash {
		x = x*6364136223846793005 + 1442695040888963407
		hash[j] = byte(x >> 56)
	}
	return hash
}

// inTurns runs ours and theirs b.N times each, in short turns, and reports both
// and the median of their ratios.
func inTurns(b *testing.B, ours, theirs func(i int)) {
	const turn = 250
	var sums [2]time.Duration
	var ratios []float64
	timed := func(f func(i int), from, to int) time.Duration {
		start := time.Now()
		for i := from; i < to; i++ {
			f(i)
		}
		return time.Since(start)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for from := 0; from < b.N; from += turn {
		to := min(from+turn, b.N)
		x, y := timed(ours, from, to), timed(theirs, from, to)
		sums[0], sums[1], ratios = sums[0]+x, sums[1]+y, append(ratios, float64(x)/float64(max(y, 1)))
	}
	slices.Sort(ratios)
	b.ReportMetric(float64(sums[0].Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(sums[1].Nanoseconds())/float64(b.N), "plain-map-ns/op")
	b.ReportMetric(ratios[len(ratios)/2], "x-plain-map")
}

// BenchmarkAuthority asks what every call asks, among 100,000 keys of 100
// organisations: whose key this is, and whether he holds a right; and plain maps
// for the same.
func BenchmarkAuthority(b *testing.B) {
	s, hashes, byHash, held := keyed(b)
	at := func(i int) [32]byte { return hashes[i*7919%len(hashes)] }
	b.Run("key", func(b *testing.B) {
		inTurns(b, func(i int) {
			if k, _, ok := s.Key(at(i)); !ok || k.Hash != at(i) {
				b.Fatal("a key is not found")
			}
		}, func(i int) {
			if _, ok := byHash[at(i)]; !ok {
				b.Fatal("a key is not in the map")
			}
		})
	})
	type question struct {
		o              *Organisation
		principal, uri string
	}
	var questions []question
	for i := range 20_000 {
		k, o, _ := s.Key(at(i))
		questions = append(questions, question{o, KeyPrincipal(k.ID), ManagementURI(o.ID, "project", "default", "resource", "a", "b")})
	}
	b.Run("holds", func(b *testing.B) {
		inTurns(b, func(i int) {
			if q := &questions[i%len(questions)]; !q.o.Holds(q.principal, "principal.assignment.delete", q.uri) {
				b.Fatal("a right is not held")
			}
		}, func(i int) {
			if q := &questions[i%len(questions)]; !plainMap(held).check(q.principal, q.uri, "principal.assignment.delete") {
				b.Fatal("a right is not in the map")
			}
		})
	})
	// A grant's decoding, and the publishing of the state, are part of it.
	scope := Scope{benchID(1, 0), benchID(3, 0)}
	m := &machine{t: b, store: newStore(b), scope: scope, index: 1}
	m.store.publish(s)
	m.must(&PutPermission{scope, readID, "doc.read", ""})
	for _, pairs := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("apply/requires=%d", pairs), func(b *testing.B) {
			requires := Requirement{"permission.get", ManagementURI(scope.Organisation) + "/permission/", nil}
			for i := range pairs {
				requires.Suffixes = append(requires.Suffixes, fmt.Sprint("document.action", i))
			}
			logs := make([]*raft.Log, b.N)
			for i := range logs {
				c := by(benchID(4, 0), &Grant{scope, fmt.Sprint("u", i%10_000), "/a", []ID{readID}, nil})
				c.Envelope.Requires = []Requirement{requires}
				logs[i] = m.log(c)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for batch := range slices.Chunk(logs, 64) {
				for _, r := range m.store.ApplyBatch(batch) {
					if r := r.(Result); r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
		})
	}
}
