package rest

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A router holds the routes; the first one that matches a path has it.
type router struct {
	admit  func(context.Context) error
	node   string
	routes []route
}

// A route is one path with the calls on it.
type route struct {
	parts   []part
	methods methods
	allow   string
}

// A part matches one segment of a path or, as the last one, all that remain.
type part struct {
	literal  string // matches this segment only, unless variable is set
	variable string // the field of the request that takes the segment
	rest     bool   // takes all that remain, as a resource URI
}

// A variable is a field of the request and its value in the path.
type variable struct{ name, value string }

// A base is what the paths of one service begin with.
type base string

// at makes a route of a path below the base, in which {name} is one segment and
// {name...} a resource URI.
func (b base) at(path string, m methods) route {
	rt := route{methods: m, allow: strings.Join(slices.Sorted(maps.Keys(m)), ", ")}
	for segment := range strings.SplitSeq((string(b) + path)[1:], "/") {
		p := part{literal: segment}
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			p.variable, p.rest = strings.CutSuffix(strings.TrimSuffix(name, "}"), "...")
		}
		rt.parts = append(rt.parts, p)
	}
	return rt
}

// find answers the call that the request's path and method stand for.
func (rt router) find(w http.ResponseWriter, r *http.Request) (method, []variable, error) {
	path := originalPath(r.URL)
	segments, err := split(path)
	if err != nil {
		return nil, nil, err
	}
	for _, route := range rt.routes {
		variables, ok := route.match(segments)
		if !ok {
			continue
		}
		call, ok := route.methods[r.Method]
		if !ok {
			w.Header().Set("Allow", route.allow)
			return nil, nil, refuse(http.StatusMethodNotAllowed, codes.Unimplemented,
				"method %s is not allowed on %s, only %s", quote(r.Method), quote(path), route.allow)
		}
		return call, variables, nil
	}
	return nil, nil, status.Errorf(codes.NotFound, "unknown path %s", quote(path))
}

// originalPath is the path as it came. RawPath is preferred to EscapedPath, which
// escapes the decoded path anew, with escaped slashes lost, as soon as one
// character of the original was not escaped that should have been.
func originalPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// split answers the segments of an escaped path, each decoded once.
func split(path string) ([]string, error) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "path segment %s: %v", quote(segment), err)
		}
		if !utf8.ValidString(decoded) {
			return nil, status.Errorf(codes.InvalidArgument, "path segment %s is not valid UTF-8", quote(decoded))
		}
		segments[i] = decoded
	}
	return segments, nil
}

// match answers the variables of a path, if the route is the path's. A variable
// that is one segment cannot be empty.
func (rt route) match(segments []string) ([]variable, bool) {
	var variables []variable
	for i, p := range rt.parts {
		switch {
		case i >= len(segments):
			return nil, false
		case p.rest:
			// The template's own slash may be the URI's first one or stand before it.
			uri := "/" + strings.TrimPrefix(strings.Join(segments[i:], "/"), "/")
			return append(variables, variable{p.variable, uri}), true
		case p.variable == "":
			if segments[i] != p.literal {
				return nil, false
			}
		case segments[i] == "":
			return nil, false
		default:
			variables = append(variables, variable{p.variable, segments[i]})
		}
	}
	return variables, len(segments) == len(rt.parts)
}
