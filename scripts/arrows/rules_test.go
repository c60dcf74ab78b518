package main

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		file, name, imported string
		want                 string // part of the finding, empty for none
	}{
		{"index/index.go", "index", "strings", ""},
		{"index/index.go", "index", "github.com/tidwall/btree", "index must not import github.com/tidwall/btree"},
		{"index/bench_test.go", "index", "github.com/tidwall/btree", ""},
		{"index/index.go", "index", "./fsm", "index must not know fsm"},
		{"fsm/apply.go", "fsm", "./index", ""},
		{"fsm/apply.go", "fsm", "github.com/vmihailenco/msgpack/v5", ""},
		{"fsm/apply.go", "fsm", "./server", "fsm must not know server"},
		{"fsm/apply.go", "fsm", "google.golang.org/grpc/codes", "fsm must not import google.golang.org/grpc/codes"},
		{"fsm/apply.go", "fsm", "time", "fsm must not use time"},
		{"fsm/apply.go", "fsm", "math/rand/v2", "fsm must not use math/rand/v2"},
		{"fsm/apply.go", "fsm", "net/http", "fsm must not use net/http"},
		{"fsm/apply_test.go", "fsm_test", "time", ""},
		{"fsm/raft.go", "fsm", "github.com/hashicorp/raft", ""},
		{"fsm/raft_test.go", "fsm", "github.com/hashicorp/raft", ""},
		{"fsm/apply.go", "fsm", "github.com/hashicorp/raft", "in fsm/raft.go alone"},
		{"fsm/raft.go", "fsm", "github.com/hashicorp/raft-boltdb/v2", "fsm must not import"},
		{"cluster/node.go", "cluster", "github.com/hashicorp/raft-boltdb/v2", ""},
		{"cluster/node.go", "cluster", "./proto/permissions/v1", ""},
		{"cluster/node.go", "cluster", "./fsm", "cluster must not know fsm"},
		{"cluster/node_test.go", "cluster_test", "./server", "cluster must not know server"},
		{"server/check.go", "server", "./fsm", ""},
		{"server/check.go", "server", "./cluster", "server must not know cluster"},
		{"server/check.go", "server", "./server/rest", "server must not know server/rest"},
		{"server/check_test.go", "server", "./server/rest", ""},
		{"server/check_test.go", "server", "./cluster", "server must not know cluster"},
		{"server/check.go", "server", "github.com/hashicorp/raft", "server must not import"},
		{"server/check_test.go", "server", "github.com/hashicorp/raft", ""},
		{"server/check_test.go", "server", "github.com/hashicorp/raft-boltdb/v2", "server must not import"},
		{"server/rest/route.go", "rest", "google.golang.org/protobuf/encoding/protojson", ""},
		{"server/rest/route.go", "rest", "github.com/grpc-ecosystem/grpc-gateway/v2/runtime", "server/rest must not import"},
		{"server/rest/route.go", "rest", "./server", "server/rest must not know server"},
		{"proto/permissions/v1/a.pb.go", "permissionsv1", "./proto/pagination/v1", ""},
		{"proto/permissions/v1/a.pb.go", "permissionsv1", "./server", "proto must not know server"},
		{"cmd/remit/main.go", "main", "./cluster", ""},
		{"cmd/remit/main.go", "main", "github.com/spf13/cobra", ""},
		{"cmd/remit/main.go", "main", "./scripts/bench", "nothing imports scripts"},
		{"server/util/x.go", "util", "", "name it for what it does"},
		{"server/clock/x.go", "helpers", "", "name it for what it does"},
		{"pkg/x.go", "x", "", "name it for what it does"},
		{"store/x.go", "store", "", "folder store belongs to no room"},
		{"cmd/remit/main.go", "main", "./store", "belongs to no room"},
		{"main.go", "main", "", "belongs to no room"},
	} {
		file := sourceFile{path: test.file, name: test.name}
		if test.imported != "" {
			file.imports = []importSpec{{path: test.imported, line: 7}}
		}
		got := strings.Join(file.check(), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s importing %q: got %q, want %q", test.file, test.imported, got, test.want)
		}
	}
}
