package index

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// checkForm holds the parts of an index to each other.
func checkForm(t *testing.T, x *Index) {
	t.Helper()
	entries, inLarge, people := 0, 0, 0
	for principal := range x.Principals("") {
		people++
		record, ok := x.records.get(principal)
		if !ok {
			t.Fatalf("%q has no record", principal)
		}
		if len(record) > maxRecord {
			t.Fatalf("the record of %q has %d bytes", principal, len(record))
		}
		patterns, _ := entriesOf(t, record)
		if record == large {
			for pattern := range x.Held(principal, "") {
				patterns = append(patterns, pattern)
			}
			inLarge += len(patterns)
		}
		if len(patterns) == 0 {
			t.Fatalf("%q holds nothing", principal)
		}
		for _, pattern := range patterns {
			if _, ok := x.patterns.get(pattern + separator + principal); !ok {
				t.Fatalf("%q on %q is not among the patterns", principal, pattern)
			}
		}
		entries += len(patterns)
	}
	records := 0
	for _, chunk := range x.records.chunks {
		for _, p := range chunk {
			keys, _ := entriesOf(t, p)
			records += len(keys)
		}
	}
	if records != people || x.principals.len != people {
		t.Fatalf("%d records and %d names of %d principals", records, x.principals.len, people)
	}
	if entries != x.Len() || inLarge != x.large.len {
		t.Fatalf("%d assignments, %d of them of those who hold much; the index says %d and %d", entries, inLarge, x.Len(), x.large.len)
	}
}

func TestIndexForm(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	x := Index{}
	var old []Index
	for step := range 400 {
		b := x.Build()
		for range 50 {
			// The first principals hold much, the last a thing or two.
			principal := fmt.Sprint("u", r.IntN(1+r.IntN(60)))
			pattern := fmt.Sprint("/", r.IntN(20), "/", r.IntN(20))
			if shrink := step / 100 % 2; r.IntN(10) < 8-6*shrink {
				b.Put(principal, pattern, strings.Repeat("v", r.IntN(1+r.IntN(100))))
			} else {
				b.Delete(principal, pattern)
			}
		}
		x = b.Index()
		checkForm(t, &x)
		if step%80 == 0 {
			old = append(old, x)
		}
	}
	for _, x := range old {
		checkForm(t, &x)
	}
}

// TestIndexAtTheLimit: a principal at the size where its record moves does not
// go to and fro with every edit.
func TestIndexAtTheLimit(t *testing.T) {
	b := Index{}.Build()
	n := 0
	for isLarge := false; !isLarge; n++ {
		b.Put("u", fmt.Sprintf("/resource/%04d", n), "v")
		record, _ := b.records.get("u")
		isLarge = record == large
	}
	for n--; ; n-- {
		b.Delete("u", fmt.Sprintf("/resource/%04d", n))
		if record, _ := b.records.get("u"); record != large {
			if len(record) > maxRecord/2 {
				t.Errorf("a record of %d bytes came back", len(record))
			}
			break
		}
		if n == 0 {
			t.Fatal("the record never came back")
		}
	}
	x := b.Index()
	checkForm(t, &x)
	if x.Len() != n {
		t.Errorf("%d assignments are left, want %d", x.Len(), n)
	}
}

// TestBuilderGoesOn: what a builder has handed out stays as it was.
func TestBuilderGoesOn(t *testing.T) {
	b := Index{}.Build()
	var all []Index
	for i := range 300 {
		b.Put(fmt.Sprint("u", i%7), fmt.Sprintf("/a/%d", i), strings.Repeat("v", 50))
		all = append(all, b.Index())
	}
	for i := range 300 {
		b.Delete(fmt.Sprint("u", i%7), fmt.Sprintf("/a/%d", i))
	}
	for i := range all {
		checkForm(t, &all[i])
		if all[i].Len() != i+1 {
			t.Fatalf("index %d has %d assignments", i, all[i].Len())
		}
		if _, ok := all[i].Get(fmt.Sprint("u", i%7), fmt.Sprintf("/a/%d", i)); !ok {
			t.Fatalf("index %d lost its newest assignment", i)
		}
	}
}
