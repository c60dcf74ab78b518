package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/remit-io/remit/server"
)

func TestServeRefuses(t *testing.T) {
	clearEnv(t)
	const hint = "\nhint: remit serve --help shows how\n"
	dataDir := t.TempDir()
	for _, test := range []struct{ args, want string }{
		{"", "remit: --data-dir is missing: give a folder that lasts, or --dev to try remit in a temporary one" + hint},
		{"--data-dir D --bootstrap-expect 3", "remit: --bootstrap-expect 3 needs --join with the gossip address of one or more of the others" + hint},
		{"--data-dir D --bootstrap-expect 3 --join 127.0.0.1", "remit: --join \"127.0.0.1\" is not HOST:PORT, the gossip address of another node" + hint},
		{"--data-dir D --bootstrap-expect 3 --join 127.0.0.1:7603 --replica", "remit: --replica never votes, and --bootstrap-expect starts a cluster of voters: start without it, then remit join" + hint},
		{"--dev --bootstrap-expect 3", "remit: --dev starts a cluster of one node, --bootstrap-expect 3 one of more: leave one of them out" + hint},
		{"--dev --tls-cert a.pem --tls-key b.pem", "remit: --tls-cert, --tls-key and --tls-ca belong together: give all three" + hint},
		{"--dev --gossip-key short", "remit: --gossip-key is not 32 bytes in base64: openssl rand -base64 32 makes one" + hint},
		{"--dev --staleness-bound 1s", "remit: --staleness-bound 1s: must be at least 2s" + hint},
		{"--dev --hung-store-timeout 1ms", "remit: --hung-store-timeout 1ms: must be at least 1s" + hint},
		{"--dev --min-free-disk 0", "remit: --min-free-disk 0: must be at least 1" + hint},
		{"--dev --snapshot-size 0", "remit: --snapshot-size 0: must be at least 1" + hint},
		{"--data-dir D --bootstrap-expect -1", "remit: --bootstrap-expect -1: a new cluster has 1 to 9 voters, best 3 or 5; more nodes join as replicas" + hint},
		{"--data-dir D --bootstrap-expect one", "remit: --bootstrap-expect \"one\": must be a whole number" + hint},
		{"--dev --bootstrap-project Production", "remit: --bootstrap-project: invalid project name \"Production\": it has 1 to 63 lower-case letters, digits and hyphens, and no hyphen in front (such as production)" + hint},
		{"--dev --bootstrap-project -x", "remit: --bootstrap-project: invalid project name \"-x\": it has 1 to 63 lower-case letters, digits and hyphens, and no hyphen in front (such as production)" + hint},
		{"--dev --bootstrap-project remit", "remit: --bootstrap-project: the project name \"remit\" is reserved: choose another" + hint},
		{"--dev --bootstrap-project=", "remit: --bootstrap-project: invalid project name \"\": it has 1 to 63 lower-case letters, digits and hyphens, and no hyphen in front (such as production)" + hint},
		{"--dev --root-key short", "remit: the root key has 5 characters: it needs at least 32, chosen at random (openssl rand -hex 32)" + hint},
		{"--dev --root-key 0123456789012345678901234567890ü", "remit: the root key may have only printable ASCII characters without spaces, since it travels in a header" + hint},
		{"--dev --http-addr 0.0.0.0:0", "remit: --http-addr \"0.0.0.0:0\" can be reached from other machines, and nothing is encrypted: --tls-cert, --tls-key and --tls-ca encrypt it, or listen on 127.0.0.1, or accept that with --insecure" + hint},
		{"--dev --grpc-addr :7601", "remit: --grpc-addr \":7601\" can be reached from other machines, and nothing is encrypted: --tls-cert, --tls-key and --tls-ca encrypt it, or listen on 127.0.0.1, or accept that with --insecure" + hint},
		{"--dev --raft-addr 192.0.2.1:0", "remit: --raft-addr \"192.0.2.1:0\" can be reached from other machines, and nothing is encrypted: --tls-cert, --tls-key and --tls-ca encrypt it, or listen on 127.0.0.1, or accept that with --insecure" + hint},
		{"--dev --gossip-addr node.example.com:0", "remit: --gossip-addr \"node.example.com:0\" can be reached from other machines, and nothing is encrypted: --gossip-key encrypts it, or listen on 127.0.0.1, or accept that with --insecure" + hint},
		{"--dev --http-addr nowhere --grpc-addr nowhere", "remit: --http-addr \"nowhere\" is not HOST:PORT" + hint},
		{"--dev --http-addr 127.0.0.1:7601", "remit: --http-addr and --grpc-addr are both 127.0.0.1:7601: give each a port of its own" + hint},
		{"--dev --raft-addr 127.0.0.1:7600", "remit: --http-addr and --raft-addr are both 127.0.0.1:7600: give each a port of its own" + hint},
		{"--dev --log-level loud", "remit: --log-level \"loud\" is not debug, info, warn or error" + hint},
		{"--dev --snapshot-threshold 0", "remit: --snapshot-threshold 0: must be at least 1" + hint},
		{"--dev --trailing-logs -1", "remit: --trailing-logs \"-1\": must be a whole number, 0 or more" + hint},
		{"--dev --trailing-logs 0", "remit: --trailing-logs 0: must be at least 1" + hint},
		{"--dev --snapshot-interval 1ms", "remit: --snapshot-interval 1ms: must be at least 5ms" + hint},
		{"--dev more", "remit: unexpected argument \"more\"" + hint},
	} {
		fails(t, test.want, append([]string{"serve"}, strings.Fields(strings.ReplaceAll(test.args, "D", dataDir))...)...)
	}
	if made, err := os.ReadDir(dataDir); err != nil || len(made) > 0 {
		t.Errorf("the data folder holds %v, %v", made, err)
	}
}

// The root key comes by the environment, as every flag can.
func TestServeRefusesShortRootKeyFromEnvironment(t *testing.T) {
	clearEnv(t)
	t.Setenv("REMIT_ROOT_KEY", "0123456789012345678901234567890")
	fails(t, "remit: the root key has 31 characters: it needs at least 32, chosen at random (openssl rand -hex 32)\nhint: remit serve --help shows how\n", "serve", "--dev")
}

func TestServePortInUse(t *testing.T) {
	clearEnv(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, flag := range []string{"http-addr", "grpc-addr", "raft-addr", "gossip-addr"} {
		addrs := map[string]string{"http-addr": "127.0.0.1:0", "grpc-addr": "127.0.0.1:0", "raft-addr": "127.0.0.1:0", "gossip-addr": "127.0.0.1:0", flag: addr}
		temp := t.TempDir()
		t.Setenv("TMPDIR", temp)
		got := remit(t, "serve", "--dev", "--log-level", "error", "--http-addr", addrs["http-addr"], "--grpc-addr", addrs["grpc-addr"], "--raft-addr", addrs["raft-addr"], "--gossip-addr", addrs["gossip-addr"])
		if got.code != exitError || got.stdout != "" || strings.Count(got.stderr, "\n") != 2 ||
			!strings.Contains(got.stderr, addr+": bind: address already in use\n") ||
			!strings.Contains(got.stderr, "\nhint: another process has this port: end it, or give another one with --http-addr, --grpc-addr, --raft-addr or --gossip-addr\n") {
			t.Errorf("--%s: %+v", flag, got)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("--%s: the temporary folder still holds %v, %v", flag, left, err)
		}
	}
}

// brokenPipe takes nothing, and tells when somebody tried.
type brokenPipe struct{ tried func() }

func (p brokenPipe) Write([]byte) (int, error) {
	p.tried()
	return 0, syscall.EPIPE
}

// lockedBuffer is written to by a node's log and its command.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// A root key that was drawn is shown, even where stdout takes nothing.
func TestServeKeepsTheRootKey(t *testing.T) {
	clearEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stderr lockedBuffer
	code := Main(ctx, []string{"serve", "--bootstrap-expect", "1", "--data-dir", t.TempDir(), "--log-level", "error",
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"},
		strings.NewReader(""), brokenPipe{cancel}, &stderr)
	_, key, shown := strings.Cut(stderr.String(), "remit: cannot write to stdout: broken pipe\nRoot key, shown this once: "+server.KeyPrefix)
	if code != exitOK || !shown || len(strings.TrimSpace(key)) < minRootKey {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// The banner tells which key to use, and that is none that was ignored.
func TestServeBannerNamesTheKeyInUse(t *testing.T) {
	clearEnv(t)
	const first, second = "first-key-0123456789012345678901", "second-key-012345678901234567890"
	dataDir := t.TempDir()
	banner := func(rootKey string) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		t.Setenv("REMIT_ROOT_KEY", rootKey)
		var stdout bytes.Buffer
		var stderr lockedBuffer
		args := []string{"serve", "--dev", "--data-dir", dataDir, "--log-level", "error",
			"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"}
		if code := Main(ctx, args, strings.NewReader(""), io.MultiWriter(&stdout, brokenPipe{cancel}), &stderr); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		return stdout.String()
	}
	for _, test := range []struct{ rootKey, want string }{
		{first, "export REMIT_KEY=$REMIT_ROOT_KEY REMIT_ADDR=127.0.0.1:"},
		{first, "export REMIT_KEY=$REMIT_ROOT_KEY REMIT_ADDR=127.0.0.1:"},
		{second, "export REMIT_KEY=<the root key this folder was started with> REMIT_ADDR=127.0.0.1:"},
		{"", "export REMIT_KEY=<the root key this folder was started with> REMIT_ADDR=127.0.0.1:"},
	} {
		if got := banner(test.rootKey); !strings.Contains(got, test.want) {
			t.Errorf("with the root key %q: %s", test.rootKey, got)
		}
	}
}

// The first project has the name that was chosen, and the banner says so.
func TestServeBootstrapProject(t *testing.T) {
	clearEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	t.Setenv("REMIT_ROOT_KEY", "root-key-0123456789012345678901234")
	t.Setenv("REMIT_BOOTSTRAP_PROJECT", "staging")
	var listed outcome
	var stdout bytes.Buffer
	asks := brokenPipe{func() {
		_, addr, _ := strings.Cut(stdout.String(), ", gRPC ")
		addr, _, _ = strings.Cut(addr, ",")
		listed = remitContext(ctx, "project", "list", "--addr", addr, "--key", os.Getenv("REMIT_ROOT_KEY"), "-o", "json")
		cancel()
	}}
	var stderr lockedBuffer
	args := []string{"serve", "--dev", "--log-level", "error", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"}
	if code := Main(ctx, args, strings.NewReader(""), io.MultiWriter(&stdout, asks), &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if !strings.Contains(listed.stdout, `"name": "staging"`) || strings.Contains(listed.stdout, `"name": "production"`) {
		t.Errorf("projects: %+v", listed)
	}
	if !strings.Contains(stdout.String(), " REMIT_PROJECT=staging\n") {
		t.Errorf("banner: %s", stdout.String())
	}
}

func TestServeUnusableDataFolder(t *testing.T) {
	clearEnv(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	readOnly := filepath.Join(t.TempDir(), "read-only")
	if err := os.Mkdir(readOnly, 0o500); err != nil {
		t.Fatal(err)
	}
	for dataDir, want := range map[string]string{
		file:                             "remit: make data folder: " + file + " is not a folder\n",
		filepath.Join(file, "below"):     "not a directory\n",
		readOnly:                         "permission denied\n",
		"/proc/remit":                    "remit: make data folder: mkdir /proc/remit: no such file or directory\n",
		filepath.Join(readOnly, "below"): "permission denied\n",
	} {
		if strings.HasPrefix(dataDir, readOnly) && os.Geteuid() == 0 {
			continue // root may write there
		}
		got := remit(t, "serve", "--data-dir", dataDir, "--bootstrap-expect", "1", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0")
		if got.code != exitError || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", dataDir, got)
		}
	}
}
