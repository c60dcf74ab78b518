// Package index answers who holds what on which resource: it parses resource
// URIs and keeps assignments in a URI trie that is immutable once published.
package index

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a resource URI.
const (
	MaxURIBytes    = 2048
	MaxURISegments = 64
)

// Wildcard is the segment that stands for exactly one whole segment in the
// URI of a grant.
const Wildcard = "*"

// A URIError says why a text is not a resource URI.
type URIError struct {
	URI    string // as given
	Reason string // what is wrong, and what to do about it
}

func (e *URIError) Error() string {
	return fmt.Sprintf("invalid resource URI %q: %s", excerpt(e.URI, 256), e.Reason)
}

// excerpt bounds what a message quotes.
func excerpt(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// ParseURI checks the URI of one resource, such as "/project/456", and returns
// it in canonical form: without the one trailing slash it may have. The error
// is a *URIError. It does not allocate unless it fails.
func ParseURI(s string) (string, error) { return parse(s, false) }

// ParsePattern is ParseURI for the URI of a grant, in which a segment may be
// the Wildcard: "/project/*/documents".
func ParsePattern(s string) (string, error) { return parse(s, true) }

func parse(s string, pattern bool) (string, error) {
	if s == "" || s[0] != '/' {
		return "", &URIError{s, "it must start with '/'"}
	}
	if s == "/" {
		return s, nil
	}
	uri := strings.TrimSuffix(s, "/")
	if isPlain(uri) {
		return uri, nil
	}
	if len(uri) > MaxURIBytes {
		return "", &URIError{s, fmt.Sprintf("it has %d bytes, %d at most", len(uri), MaxURIBytes)}
	}
	if !utf8.ValidString(uri) {
		return "", &URIError{s, "it is not valid UTF-8"}
	}
	if i := strings.IndexFunc(uri, unicode.IsControl); i >= 0 {
		r, _ := utf8.DecodeRuneInString(uri[i:])
		return "", &URIError{s, fmt.Sprintf("it contains the control character %U", r)}
	}
	if n := strings.Count(uri, "/"); n > MaxURISegments {
		return "", &URIError{s, fmt.Sprintf("it has %d segments, %d at most", n, MaxURISegments)}
	}
	for rest := uri; rest != ""; {
		var segment string
		segment, rest = cutSegment(rest)
		switch {
		case segment == "":
			return "", &URIError{s, "it has an empty segment ('//')"}
		case segment == "." || segment == "..":
			return "", &URIError{s, fmt.Sprintf("the segment %q is not allowed: name the resource itself", segment)}
		case segment == Wildcard && !pattern:
			return "", &URIError{s, "the wildcard '*' is for grants: name one resource here"}
		case segment != Wildcard && strings.Contains(segment, Wildcard):
			return "", &URIError{s, fmt.Sprintf("in the segment %q the wildcard '*' is not alone: it stands for exactly one whole segment (write %%2A for a literal asterisk)", excerpt(segment, 64))}
		}
	}
	return uri, nil
}

// isPlain reports, in one pass, that a text which starts with '/' is canonical.
// It knows only what nearly all checks ask for: ASCII, no segment with a dot in
// front, no wildcard. Of anything else it reports false, and parse looks closer.
func isPlain(uri string) bool {
	if len(uri) > MaxURIBytes {
		return false
	}
	segments, previous := 0, byte(0)
	for i := range len(uri) {
		c := uri[i]
		switch {
		case c == '/':
			if segments++; previous == '/' {
				return false
			}
		case c < 0x20 || c >= 0x7f || c == '*' || c == '.' && previous == '/':
			return false
		}
		previous = c
	}
	return previous != '/' && segments <= MaxURISegments
}

// cutSegment splits "/a/b/c" into "a" and "/b/c". The text must start with '/'.
func cutSegment(s string) (segment, rest string) {
	if i := strings.IndexByte(s[1:], '/'); i >= 0 {
		return s[1 : i+1], s[i+1:]
	}
	return s[1:], ""
}

// Covers reports whether a grant on the canonical pattern reaches the canonical
// URI: the same resource, or an ancestor of it, by whole segments. A wildcard
// segment in the URI is a literal, which only a wildcard of the pattern matches.
func Covers(pattern, uri string) bool {
	if strings.HasPrefix(uri, pattern) && (len(uri) == len(pattern) || uri[len(pattern)] == '/') {
		return true
	}
	if pattern == "/" {
		return true
	}
	if strings.IndexByte(pattern, '*') < 0 {
		return false
	}
	return coversBySegment(pattern, uri)
}

func coversBySegment(pattern, uri string) bool {
	for pattern != "" {
		if uri == "" || uri == "/" {
			return false
		}
		var p, u string
		p, pattern = cutSegment(pattern)
		u, uri = cutSegment(uri)
		if p != u && p != Wildcard {
			return false
		}
	}
	return true
}
