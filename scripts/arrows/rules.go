package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	raft     = "github.com/hashicorp/raft"
	raftBolt = "github.com/hashicorp/raft-boltdb"
	btree    = "github.com/tidwall/btree"
	msgpack  = "github.com/vmihailenco/msgpack"
	grpc     = "google.golang.org/grpc"
	protobuf = "google.golang.org/protobuf"
	rpcTypes = "google.golang.org/genproto/googleapis/rpc"
	uuid     = "github.com/google/uuid"
	xsync    = "golang.org/x/sync"
)

// A room is a folder with everything below it that is no room of its own.
type room struct {
	folder string
	// rooms of the module that it may import, beside itself.
	rooms []string
	// testRooms is what its tests may import beyond that.
	testRooms []string
	// modules is what it may import from outside, by path prefix.
	modules []string
	// testModules is what its tests may import from outside beyond that.
	testModules []string
	// everything lifts these lists.
	everything bool
	// refused lists packages of the standard library that its code may not
	// import; its tests may.
	refused []string
	// onlyIn lists modules that, tests aside, one file alone may import.
	onlyIn map[string]string
}

// rooms is the house. A folder that is not below one of these is refused.
var rooms = []room{
	// The benchmarks measure the index against other people's trees.
	{folder: "index", testModules: []string{btree, "github.com/hashicorp/go-immutable-radix"}},
	{
		folder:  "fsm",
		rooms:   []string{"index"},
		modules: []string{msgpack, btree, raft},
		onlyIn:  map[string]string{raft: "fsm/raft.go"},
		// Apply must come to the same state on every node and on every replay.
		refused: []string{"time", "math/rand", "crypto/rand", "net", "os", "syscall"},
	},
	{
		folder: "cluster",
		rooms:  []string{"proto"},
		modules: []string{raft, raftBolt, "go.etcd.io/bbolt", "github.com/hashicorp/go-hclog",
			"github.com/hashicorp/go-metrics", "github.com/hashicorp/memberlist", grpc, protobuf, uuid, xsync},
	},
	{
		folder:  "server",
		rooms:   []string{"fsm", "index", "proto"},
		modules: []string{grpc, protobuf, rpcTypes, uuid, xsync},
		// Its tests call it over REST too, and feed the state as raft would.
		testRooms:   []string{"server/rest"},
		testModules: []string{raft},
	},
	{folder: "server/rest", rooms: []string{"proto"}, modules: []string{grpc, protobuf}},
	{folder: "proto", modules: []string{grpc, protobuf}},
	{folder: "cmd", everything: true},
	{folder: "scripts", everything: true},
	{folder: "clients", rooms: []string{"proto"}, modules: []string{grpc, protobuf}},
}

// closed rooms are ends: only they import themselves.
var closed = []string{"cmd", "scripts", "clients"}

// vague names say nothing of what a package is for.
var vague = []string{"util", "utils", "common", "shared", "internal", "pkg", "helper", "helpers", "misc"}

// A sourceFile is one Go file: its path from the root, its package's name, its
// imports. Imports of the module itself begin with "./".
type sourceFile struct {
	path, name string
	imports    []importSpec
}

type importSpec struct {
	path string
	line int
}

// check returns what the file breaks, one line for each.
func (f sourceFile) check() []string {
	var findings []string
	add := func(line int, format string, args ...any) {
		findings = append(findings, fmt.Sprintf("%s:%d: ", f.path, line)+fmt.Sprintf(format, args...))
	}
	for _, name := range append(strings.Split(path.Dir(f.path), "/"), strings.TrimSuffix(f.name, "_test")) {
		if slices.Contains(vague, name) {
			add(1, "package or folder %q: name it for what it does", name)
			break
		}
	}
	here, found := roomOf(path.Dir(f.path))
	if !found {
		add(1, "folder %s belongs to no room", path.Dir(f.path))
		return findings
	}
	for _, spec := range f.imports {
		if reason := here.refuses(f.path, spec.path); reason != "" {
			add(spec.line, "%s", reason)
		}
	}
	return findings
}

// refuses says why a file of the room may not import a package, or nothing.
func (r room) refuses(file, imported string) string {
	test := strings.HasSuffix(file, "_test.go")
	if own, ok := strings.CutPrefix(imported, "./"); ok {
		there, found := roomOf(own)
		switch {
		case found && there.folder == r.folder:
			return ""
		case !found:
			return fmt.Sprintf("%s imports %q, which belongs to no room", r.folder, own)
		case slices.Contains(closed, there.folder):
			return fmt.Sprintf("%s imports %s: nothing imports %s", r.folder, own, there.folder)
		case !r.everything && !slices.Contains(r.rooms, there.folder) && !(test && slices.Contains(r.testRooms, there.folder)):
			return fmt.Sprintf("%s must not know %s (imports %s)", r.folder, there.folder, own)
		}
		return ""
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		if !test && slices.ContainsFunc(r.refused, below(imported)) {
			return fmt.Sprintf("%s must not use %s", r.folder, imported)
		}
		return ""
	}
	if !r.everything && !slices.ContainsFunc(r.modules, below(imported)) &&
		!(test && slices.ContainsFunc(r.testModules, below(imported))) {
		return fmt.Sprintf("%s must not import %s", r.folder, imported)
	}
	for module, only := range r.onlyIn {
		if below(imported)(module) && file != only && !test {
			return fmt.Sprintf("%s imports %s in %s alone", r.folder, imported, only)
		}
	}
	return ""
}

// roomOf returns the innermost room that a folder belongs to.
func roomOf(folder string) (innermost room, found bool) {
	for _, r := range rooms {
		if below(folder)(r.folder) && len(r.folder) > len(innermost.folder) {
			innermost, found = r, true
		}
	}
	return innermost, found
}

// below returns whether the path is one of its arguments or lies below it.
func below(path string) func(prefix string) bool {
	return func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	}
}
