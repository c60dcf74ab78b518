package index

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// crossroads are all patterns of n segments that are "a" or a wildcard, in order,
// each with the tail.
func crossroads(n int, tail string) []string {
	all := []string{""}
	for range n {
		var longer []string
		for _, pattern := range all {
			longer = append(longer, pattern+"/*", pattern+"/a")
		}
		all = longer
	}
	for i := range all {
		all[i] += tail
	}
	return all
}

// TestCoveringGivesUp: a walk looks at so many places of one principal, says so
// where there are more, and never else.
func TestCoveringGivesUp(t *testing.T) {
	deep := strings.Repeat("/a", 13)
	for _, c := range []struct {
		name     string
		patterns []string
		uri      string
		found    int
		gaveUp   bool
	}{
		{"8,192 that reach it", crossroads(13, ""), deep, MaxCovering, true},
		{"8,192 that reach what is above it", crossroads(13, ""), deep + "/b/c", MaxCovering, true},
		{"4,096 that reach it", crossroads(12, ""), deep, MaxCovering, false},
		{"4,096 and one", append(crossroads(12, ""), "/a/a/a/a/a/a/a/a/a/a/a/a/a"), deep, MaxCovering, true},
		{"4,096 and one that does not, which is looked at too", append(crossroads(12, ""), "/b"), deep, MaxCovering, true},
		{"8,192 that end elsewhere", crossroads(13, "/zzz"), deep + "/a", 0, true},
		{"8,192 that end elsewhere, before it", crossroads(13, "/!"), deep + "/a", 0, true},
		{"8,192 that are deeper", crossroads(13, "/zzz"), deep, 0, true},
		{"4,096 that end elsewhere", crossroads(12, "/zzz"), deep, 0, false},
		{"8,192 of which half reach it", crossroads(13, ""), "/b" + deep, MaxCovering, true},
		{"8,192 that are all below", crossroads(13, ""), "/a", 0, false},
		{"8,192 for the root", crossroads(13, ""), "/", 0, false},
	} {
		b := Index{}.Build()
		for _, neighbour := range []string{"t", "u\x01", "u1"} { // before and behind, who count for nothing
			for i := range 500 {
				b.Put(neighbour, fmt.Sprint("/", i), "v")
			}
			b.Put(neighbour, deep, "v")
		}
		for _, pattern := range c.patterns {
			b.Put("u", pattern, "v")
		}
		slices.Sort(c.patterns)
		want := slices.DeleteFunc(slices.Clone(c.patterns), func(pattern string) bool { return !modelCovers(pattern, c.uri) })
		want = want[:min(len(want), c.found)]
		if c.gaveUp {
			want = append(want, "")
		}
		x := b.Index()
		for _, walk := range []func(func(string, string) bool){x.Covering("u", c.uri), b.Covering("u", c.uri)} {
			var got []string
			for pattern, value := range walk {
				if (pattern == "") != (value == "") {
					t.Errorf("%s: %q with %q", c.name, pattern, value)
				}
				got = append(got, pattern)
			}
			if len(want) < c.found || !slices.Equal(got, want) {
				t.Errorf("%s: %d patterns, at last %q; want %d", c.name, len(got), got[max(0, len(got)-1):], len(want))
			}
		}
		for range x.Covering("u", c.uri) { // whoever leaves at the first is not called again
			break
		}
		var others []string
		for pattern := range x.Covering("u1", deep) {
			others = append(others, pattern)
		}
		if !slices.Equal(others, []string{deep}) {
			t.Errorf("%s: another's walk finds %q", c.name, others)
		}
	}
}

// TestCoveringWithoutWildcards: no number of grants makes a walk give up that has
// no wildcards to follow.
func TestCoveringWithoutWildcards(t *testing.T) {
	b := Index{}.Build()
	uri, want := "", []string{}
	for depth := range 64 {
		for i := range 300 { // neighbours at every depth, before and behind
			b.Put("u", fmt.Sprintf("%s/%d", uri, i), "v")
			b.Put("u", fmt.Sprintf("%s/z%d/x", uri, i), "v")
		}
		uri += fmt.Sprint("/s", depth)
		b.Put("u", uri, "v")
		want = append(want, uri)
	}
	b.Put("u", "/s0/*", "v")
	want = append(want, "/s0/*")
	slices.Sort(want)
	x := b.Index()
	for _, uri := range []string{uri, uri + "/below"} {
		var got []string
		for pattern := range x.Covering("u", uri) {
			got = append(got, pattern)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d patterns reach it, want %d", len(got), len(want))
		}
	}
	for pattern := range x.Covering("u", "/s0/nowhere/at/all") {
		if pattern != "/s0" && pattern != "/s0/*" {
			t.Errorf("%q reaches it", pattern)
		}
	}
}
