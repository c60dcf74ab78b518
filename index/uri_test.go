package index

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	deep := strings.Repeat("/s", MaxURISegments)
	long := "/" + strings.Repeat("x", MaxURIBytes-1)
	longUTF8 := "/" + strings.Repeat("ü", (MaxURIBytes-2)/2) + "x"
	for _, c := range []struct {
		name, in string
		want     string // canonical; "" if refused
		reason   string // a part of the error
	}{
		{"one segment", "/a", "/a", ""},
		{"several segments", "/project/456/documents/789", "/project/456/documents/789", ""},
		{"root", "/", "/", ""},
		{"trailing slash", "/a/b/", "/a/b", ""},
		{"other scripts", "/prójekt/文書/😀", "/prójekt/文書/😀", ""},
		{"no normalisation", "/e\u0301/é", "/e\u0301/é", ""},
		{"percent stays", "/a%2Fb/%00", "/a%2Fb/%00", ""},
		{"case stays", "/A/a", "/A/a", ""},
		{"space and punctuation", "/a b/~!@#$&()+,;=:?[]{}|\\^`'\"<>", "/a b/~!@#$&()+,;=:?[]{}|\\^`'\"<>", ""},
		{"zero-width is not control", "/a\u200bb", "/a\u200bb", ""},
		{"dots in a segment", "/.a/a./..a/a../.../a.b", "/.a/a./..a/a../.../a.b", ""},
		{"64 segments", deep, deep, ""},
		{"64 segments and a slash", deep + "/", deep, ""},
		{"2048 bytes", long, long, ""},
		{"2048 bytes and a slash", long + "/", long, ""},
		{"2048 bytes, not ASCII", longUTF8, longUTF8, ""},

		{"empty", "", "", "must start with '/'"},
		{"no leading slash", "a/b", "", "must start with '/'"},
		{"leading space", " /a", "", "must start with '/'"},
		{"leading letter beyond ASCII", "ü/a", "", "must start with '/'"},
		{"two slashes", "//", "", "empty segment"},
		{"three slashes", "///", "", "empty segment"},
		{"leading empty segment", "//a", "", "empty segment"},
		{"inner empty segment", "/a//b", "", "empty segment"},
		{"two trailing slashes", "/a//", "", "empty segment"},
		{"empty segment beyond ASCII", "/ü//b", "", "empty segment"},
		{"dot", "/.", "", `"."`},
		{"dot and slash", "/./", "", `"."`},
		{"inner dot", "/a/./b", "", `"."`},
		{"last dot", "/a/.", "", `"."`},
		{"dot-dot", "/..", "", `".."`},
		{"inner dot-dot", "/a/../b", "", `".."`},
		{"last dot-dot", "/a/..", "", `".."`},
		{"last dot-dot and slash", "/ü/../", "", `".."`},
		{"NUL", "/a\x00", "", "control character U+0000"},
		{"tab", "/a\tb", "", "control character U+0009"},
		{"newline", "/a\n", "", "control character U+000A"},
		{"escape", "/\x1b[0m", "", "control character U+001B"},
		{"unit separator", "/\x1f", "", "control character U+001F"},
		{"DEL", "/a\x7fb", "", "control character U+007F"},
		{"first C1", "/a\u0080", "", "control character U+0080"},
		{"NEL", "/a\u0085b", "", "control character U+0085"},
		{"last C1", "/\u009f", "", "control character U+009F"},
		{"lone continuation byte", "/a\x80", "", "not valid UTF-8"},
		{"cut-off rune", "/a\xe6\x96", "", "not valid UTF-8"},
		{"overlong slash", "/a\xc0\xafb", "", "not valid UTF-8"},
		{"surrogate", "/\xed\xa0\x80", "", "not valid UTF-8"},
		{"Latin-1", "/caf\xe9", "", "not valid UTF-8"},
		{"65 segments", deep + "/s", "", "65 segments, 64 at most"},
		{"65 segments and a slash", deep + "/s/", "", "65 segments, 64 at most"},
		{"65 segments beyond ASCII", deep + "/ü", "", "65 segments, 64 at most"},
		{"2049 bytes", long + "x", "", "2049 bytes, 2048 at most"},
		{"2049 bytes and a slash", long + "x/", "", "2049 bytes, 2048 at most"},
		{"2049 bytes, not ASCII", longUTF8 + "x", "", "2049 bytes, 2048 at most"},
		{"a star beside a letter", "/a*", "", "is not alone"},
		{"a star before a letter", "/*a/b", "", "is not alone"},
		{"two stars", "/a/**", "", "is not alone"},
		{"a star beyond ASCII", "/ü*", "", "is not alone"},
		{"a star in a long segment", "/" + strings.Repeat("x\"", 1000) + "*", "", "is not alone"},
	} {
		for kind, parse := range map[string]func(string) (string, error){"ParseURI": ParseURI, "ParsePattern": ParsePattern} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				got, err := parse(c.in)
				if got != c.want || (err == nil) != (c.want != "") {
					t.Fatalf("%s(%q) = %q, %v; want %q", kind, c.in, got, err, c.want)
				}
				checkURIError(t, err, c.in, c.reason)
			})
		}
	}
}

func TestParseWildcards(t *testing.T) {
	for _, pattern := range []string{"/*", "/*/", "/a/*", "/*/a", "/project/*/documents", "/*/*/*", "/ü/*", "/*/ü"} {
		if got, err := ParsePattern(pattern); err != nil || got != strings.TrimSuffix(pattern, "/") {
			t.Errorf("ParsePattern(%q) = %q, %v", pattern, got, err)
		}
		_, err := ParseURI(pattern)
		checkURIError(t, err, pattern, "the wildcard '*' is for grants")
	}
}

// checkURIError wants an error that names the URI and gives the reason; no
// error if there is no reason.
func checkURIError(t *testing.T, err error, uri, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Errorf("%q is refused: %v", uri, err)
		}
		return
	}
	var e *URIError
	if !errors.As(err, &e) {
		t.Fatalf("%q gives the error %v, want a *URIError", uri, err)
	}
	if e.URI != uri {
		t.Errorf("the error names %q, want %q", e.URI, uri)
	}
	message := e.Error()
	if !strings.Contains(message, reason) {
		t.Errorf("%q is refused with %q, want %q in it", uri, message, reason)
	}
	if len(message) > 1500 || !utf8.ValidString(message) || strings.ContainsFunc(message, isControl) {
		t.Errorf("the message %q is not fit to print", message)
	}
}

func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f }

func TestParseDoesNotAllocate(t *testing.T) {
	for _, uri := range []string{"/project/456/documents/789/comments/", "/prójekt/456"} {
		if n := testing.AllocsPerRun(100, func() { ParseURI(uri) }); n != 0 {
			t.Errorf("ParseURI(%q): %v allocations, want none", uri, n)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		pattern, uri string
		want         bool
	}{
		{"/", "/", true},
		{"/", "/a", true},
		{"/", "/a/b", true},
		{"/a", "/", false},
		{"/*", "/", false},
		{"/a", "/a", true},
		{"/a", "/a/b/c", true},
		{"/a/b", "/a", false},
		{"/a/b", "/a/b/c", true},
		{"/project/45", "/project/456", false},
		{"/project/456", "/project/45", false},
		{"/project/45", "/project/45-6/x", false},
		{"/a", "/A", false},
		{"/é", "/e\u0301", false},
		{"/*", "/a", true},
		{"/*", "/a/b", true},
		{"/*/b", "/a", false},
		{"/*/b", "/a/b/c", true},
		{"/*/b", "/a/c", false},
		{"/*/b", "/a/bc", false},
		{"/project/*/documents", "/project/456/documents/789", true},
		{"/project/*/documents", "/project/456/78/documents", false},
		{"/project/*/documents", "/project/documents", false},
		{"/a/*", "/a", false},
		{"/a/*/*", "/a/b", false},
		{"/a/*/*", "/a/b/c/d", true},
		// A wildcard in the URI is a literal.
		{"/a", "/*", false},
		{"/*", "/*", true},
		{"/a/b", "/a/*", false},
		{"/a", "/a/*", true},
		{"/*/b", "/*/b", true},
	} {
		if got := Covers(c.pattern, c.uri); got != c.want {
			t.Errorf("Covers(%q, %q) = %v, want %v", c.pattern, c.uri, got, c.want)
		}
	}
}

func TestAncestors(t *testing.T) {
	for uri, want := range map[string][]string{
		"/":       {"/"},
		"/a":      {"/", "/a"},
		"/a/bc/d": {"/", "/a", "/a/bc", "/a/bc/d"},
		"/ä/*/ü":  {"/", "/ä", "/ä/*", "/ä/*/ü"},
	} {
		var got []string
		ancestors(uri, func(a string) bool { got = append(got, a); return true })
		if !slices.Equal(got, want) {
			t.Errorf("ancestors(%q) = %q, want %q", uri, got, want)
		}
		for stop := range want {
			n := 0
			ancestors(uri, func(string) bool { n++; return n <= stop })
			if n != stop+1 {
				t.Errorf("ancestors(%q) goes on to %d after it was stopped at %d", uri, n, stop+1)
			}
		}
	}
}

// naiveParse is the rule as the documentation has it, one thing after the other.
func naiveParse(s string, wildcards bool) (string, bool) {
	if s == "/" {
		return s, true
	}
	if n := len(s); n > 1 && s[n-1] == '/' {
		s = s[:n-1]
	}
	if len(s) > 2048 || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return "", false
	}
	segments := strings.Split(s, "/")
	if len(segments) < 2 || len(segments) > 65 || segments[0] != "" {
		return "", false
	}
	for _, segment := range segments[1:] {
		if segment == "" || segment == "." || segment == ".." {
			return "", false
		}
		if strings.Contains(segment, "*") && (segment != "*" || !wildcards) {
			return "", false
		}
	}
	return s, true
}

func FuzzURI(f *testing.F) {
	for _, seed := range [][2]string{
		{"/project/*/documents", "/project/456/documents/789"},
		{"/project/45/", "/project/456"},
		{"/", "/a"}, {"//", "/a//b"}, {"/a/./b", "/.."}, {"", "a"},
		{"/prójekt/文書", "/e\u0301/é"}, {"/a\x80", "/\u0085"}, {"/a\x00", "/a\x7f"},
		{"/a*", "/**"}, {"/*/*", "/*/b"},
		{strings.Repeat("/s", 64), strings.Repeat("/s", 65)},
		{"/" + strings.Repeat("x", 2047), "/" + strings.Repeat("x", 2048)},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var patterns []string
		for _, s := range []string{a, b} {
			uri, isURI := fuzzParse(t, s, ParseURI, false)
			pattern, isPattern := fuzzParse(t, s, ParsePattern, true)
			if isURI && (!isPattern || uri != pattern) {
				t.Errorf("%q is the URI %q and the pattern %q", s, uri, pattern)
			}
			if isPattern {
				patterns = append(patterns, pattern)
			}
		}
		for _, p := range patterns {
			for _, u := range patterns {
				if got, want := Covers(p, u), modelCovers(p, u); got != want {
					t.Errorf("Covers(%q, %q) = %v, want %v", p, u, got, want)
				}
			}
			var above []string
			ancestors(p, func(a string) bool { above = append(above, a); return true })
			if got, want := strings.Join(above, "\n"), naiveAncestors(p); got != want {
				t.Errorf("ancestors(%q) =\n%s\nwant\n%s", p, got, want)
			}
			for _, a := range above {
				if !Covers(a, p) {
					t.Errorf("%q does not cover %q", a, p)
				}
			}
		}
	})
}

func fuzzParse(t *testing.T, s string, parse func(string) (string, error), wildcards bool) (string, bool) {
	got, err := parse(s)
	want, ok := naiveParse(s, wildcards)
	if got != want || (err == nil) != ok {
		t.Fatalf("parse(%q), wildcards %v: %q, %v; want %q, %v", s, wildcards, got, err, want, ok)
	}
	if err != nil {
		checkURIError(t, err, s, "invalid resource URI")
		return "", false
	}
	if again, err := parse(got); again != got || err != nil {
		t.Errorf("the canonical %q parses to %q, %v", got, again, err)
	}
	return got, true
}

func naiveAncestors(uri string) string {
	if uri == "/" {
		return "/"
	}
	all := []string{"/"}
	segments := strings.Split(uri, "/")
	for i := 2; i <= len(segments); i++ {
		all = append(all, strings.Join(segments[:i], "/"))
	}
	return strings.Join(all, "\n")
}

func BenchmarkParseURI(b *testing.B) {
	for name, uri := range map[string]string{
		"ascii": "/project/1234/documents/567890/comments",
		"utf-8": "/project/1234/dokumente/größe/comments",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseURI(uri); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
