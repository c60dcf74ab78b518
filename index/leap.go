package index

import "strings"

// leap moves a cursor from an entry whose pattern does not answer for the URI
// to the next entry whose pattern could, and reports whether there can be one.
// The prefix is what stands before the pattern in the tree's keys. With below,
// patterns that go on beyond the URI answer for it too.
//
// Up to some segment the pattern agrees with the URI. What could follow it, in
// key order, is another choice at that segment (the wildcard, or the URI's
// own), or else at an earlier one: the deepest such choice that lies behind the
// pattern is the nearest.
func leap(c *cursor, t *tree, prefix, pattern, uri string, below bool) bool {
	p, u := agreement(pattern, uri)
	for {
		if rest := uri[u:]; rest != "" && rest != "/" {
			segment, rest := cutSegment(rest)
			choices := [2]string{Wildcard, segment}
			if segment < Wildcard {
				choices = [2]string{segment, Wildcard}
			}
			for _, choice := range choices {
				if seekBehind(c, t, prefix, pattern, pattern[:p], choice, "") {
					return true
				}
				if (rest != "" || below) && seekBehind(c, t, prefix, pattern, pattern[:p], choice, "/") {
					return true
				}
			}
		}
		if p == 0 {
			return false
		}
		p, u = strings.LastIndexByte(pattern[:p], '/'), strings.LastIndexByte(uri[:u], '/')
	}
}

// agreement returns how far the first segments of the pattern match the URI's:
// the offsets, in each, of the slash before the first segment that does not.
func agreement(pattern, uri string) (p, u int) {
	for p < len(pattern) && u < len(uri) && pattern != "/" && uri != "/" {
		ps, pRest := cutSegment(pattern[p:])
		us, uRest := cutSegment(uri[u:])
		if ps != us && ps != Wildcard {
			break
		}
		p, u = len(pattern)-len(pRest), len(uri)-len(uRest)
	}
	return p, u
}

// seekBehind moves the cursor to parent/choice+tail, if that lies behind the
// pattern.
func seekBehind(c *cursor, t *tree, prefix, pattern, parent, choice, tail string) bool {
	var space [keySpace]byte
	to := key(space[:0], prefix, parent, "/", choice, tail)
	if to[len(prefix):] <= pattern {
		return false
	}
	c.seek(t, to)
	return true
}

// reachesBelow reports whether the pattern names something at or below the URI.
func reachesBelow(pattern, uri string) bool {
	if uri == "/" {
		return true
	}
	if pattern == "/" {
		return false
	}
	for uri != "" {
		if pattern == "" {
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
