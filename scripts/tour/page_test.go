package main

import (
	"errors"
	"strings"
	"testing"
)

const sample = "Text.\n" +
	"```sh\nnot run\n```\n" +
	"```console\n" +
	"$ first\n" +
	"one\n" +
	"    two\n" +
	"$ second \\\n" +
	"    -d 'a\n" +
	"       b'\n" +
	"$ third\n" +
	"```\n"

func TestSteps(t *testing.T) {
	steps, err := stepsOf(blocksOf(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{line: 6, command: "first", output: "one\n    two\n"},
		{line: 9, command: "second \\\n    -d 'a\n       b'"},
		{line: 12, command: "third"},
	}
	if len(steps) != len(want) {
		t.Fatalf("got %d steps, want %d: %+v", len(steps), len(want), steps)
	}
	for i := range want {
		if steps[i] != want[i] {
			t.Errorf("step %d: got %+v, want %+v", i, steps[i], want[i])
		}
	}
	for _, text := range []string{"no blocks", "```console\noutput first\n```\n"} {
		if steps, err := stepsOf(blocksOf(text)); err == nil {
			t.Errorf("%q: got %+v, want an error", text, steps)
		}
	}
}

func TestDifference(t *testing.T) {
	for _, test := range []struct{ want, got, diff string }{
		{"allowed\n", "allowed\n", ""},
		{"allowed\n", "denied\n", "    - allowed\n    + denied\n"},
		{"allowed\n", "", "    - allowed\n"},
		{"", "allowed\n", "    + allowed\n"},
		{"a\nb\n", "a\nc\nd\n", "      a\n    - b\n    + c\n    + d\n"},
		{"ID: 5410fa52-e05f-40bf-a13d-86c642933024\n", "ID: e0c1cae6-dbe0-4fb6-9feb-a142dbf0eae7\n", ""},
		{"ID: 5410fa52-e05f-40bf-a13d-86c642933024\n", "ID: 5410fa52\n", "    - ID: <id>\n    + ID: 5410fa52\n"},
		{`{"passed":true,"token":"Ae5v"}`, `{"passed":true,"token":"BBBB"}`, ""},
		{"3 nodes formed a cluster in 0.91 s: node 2 leads\n", "3 nodes formed a cluster in 1.20 s: node 1 leads\n", ""},
		{"3 nodes formed a cluster in 0.91 s: node 2 leads\n", "2 nodes formed a cluster in 0.91 s: node 2 leads\n",
			"    - 3 nodes formed a cluster in <time>: node <n> leads\n    + 2 nodes formed a cluster in <time>: node <n> leads\n"},
		{`{"passed":true,"token":"Ae5v"}`, `{"passed":true,"token":""}`, "    - {\"passed\":true,\"token\":\"<token>\"}\n    + {\"passed\":true,\"token\":\"\"}\n"},
	} {
		if diff := difference(test.want, test.got); diff != test.diff {
			t.Errorf("%q and %q: got\n%s\nwant\n%s", test.want, test.got, diff, test.diff)
		}
	}
}

func TestCompareFlags(t *testing.T) {
	have := map[string]string{"http-addr": "127.0.0.1:7600", "dev": "", "replica": ""}
	wrong, named := compareFlags("PAGE", "| `--http-addr` | `127.0.0.1:7601` | REST |\n| `--dev` | | one node |\n| `--nope` | | |\n", have)
	if got := errors.Join(wrong...); len(wrong) != 2 || !strings.Contains(got.Error(), `--http-addr the default "127.0.0.1:7601"; it is "127.0.0.1:7600"`) ||
		!strings.Contains(got.Error(), "names --nope") {
		t.Errorf("got %v", got)
	}
	if !named["dev"] || named["replica"] {
		t.Errorf("named: %v", named)
	}
}

func TestFlagPatterns(t *testing.T) {
	for line, want := range map[string]string{
		"| `--http-addr` | `127.0.0.1:7600` | REST |": "http-addr 127.0.0.1:7600",
		"| `--dev` | | a node |":                      "dev ",
	} {
		match := flagRow.FindStringSubmatch(line)
		if match == nil || match[1]+" "+strings.Trim(match[2], " `") != want {
			t.Errorf("%s: got %q", line, match)
		}
	}
	for line, want := range map[string]string{
		`      --dev                 one node (env REMIT_DEV)`:                                        "dev ",
		`      --http-addr address   address to (env REMIT_HTTP_ADDR) (default "127.0.0.1:7600")`:     "http-addr 127.0.0.1:7600",
		`      --snapshot-threshold number   number of (env REMIT_SNAPSHOT_THRESHOLD) (default 8192)`: "snapshot-threshold 8192",
		`  -h, --help                help for serve`:                                                  "help ",
	} {
		match := flagHelp.FindStringSubmatch(line)
		if match == nil || match[1]+" "+match[2] != want {
			t.Errorf("%s: got %q", line, match)
		}
	}
}
