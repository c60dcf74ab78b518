package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

func TestSnapshotSave(t *testing.T) {
	f := startFake(t)
	f.cluster.snapshot = sampleSnapshot(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "backup")
	size := byteSize(uint64(len(f.cluster.snapshot)))
	saved := fmt.Sprintf("saved revision 40 in %s: %s, SHA-256 %x\n", path, size, sha256.Sum256(f.cluster.snapshot))
	expect(t, outcome{exitOK, saved, "received " + size + "\n"}, "snapshot", "save", path)
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(content, f.cluster.snapshot) {
		t.Errorf("the file is another: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	fails(t, "remit: "+path+" exists already: nothing was saved\nhint: --replace replaces it, when the new one is whole\n", "snapshot", "save", path)
	fails(t, "remit: "+folder+" is a folder\nhint: name a file in it\n", "snapshot", "save", folder, "--replace")

	// What is cut off or damaged takes nothing's place and stays nowhere.
	whole := f.cluster.snapshot
	for _, broken := range [][]byte{whole[:len(whole)-1], append(bytes.Clone(whole[:200]), whole[201:]...), nil} {
		f.cluster.snapshot = broken
		got := remit(t, "snapshot", "save", path, "--replace")
		if got.code != exitError || !strings.Contains(got.stderr, "is no snapshot that can be restored") {
			t.Errorf("%+v", got)
		}
	}
	f.cluster.snapshot, f.cluster.failAfter = whole, status.Error(codes.Unavailable, "this node ends")
	expect(t, outcome{exitError, "", "remit: this node ends\n"}, "snapshot", "save", path, "--replace")
	f.cluster.failAfter = nil
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(content, after) {
		t.Errorf("the file changed: %v", err)
	}
	if got := remit(t, "snapshot", "save", path, "--replace", "-o", "json"); got.code != exitOK || !strings.Contains(got.stdout, `"revision": 40,`) {
		t.Errorf("%+v", got)
	}
}

// A file that somebody else made while the snapshot came is his, unless it is to be
// replaced.
func TestSnapshotSaveMeanwhile(t *testing.T) {
	f := startFake(t)
	f.cluster.snapshot = sampleSnapshot(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "backup")
	f.cluster.saving = func() {
		if err := os.WriteFile(path, []byte("his"), 0o600); err != nil {
			t.Error(err)
		}
	}
	size := byteSize(uint64(len(f.cluster.snapshot)))
	expect(t, outcome{exitError, "", "received " + size + "\nremit: " + path + " exists already: nothing was saved\nhint: --replace replaces it, when the new one is whole\n"}, "snapshot", "save", path)
	if content, err := os.ReadFile(path); err != nil || string(content) != "his" {
		t.Errorf("his file holds %d bytes, %v", len(content), err)
	}
	if got := remit(t, "snapshot", "save", path, "--replace"); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, f.cluster.snapshot) {
		t.Errorf("it is not replaced: %d bytes, %v", len(content), err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What cannot be written is not received to its end.
func TestSnapshotSaveOnFullDisk(t *testing.T) {
	f := startFake(t)
	f.cluster.snapshot = bytes.Repeat(append(bytes.Repeat([]byte("x"), 64<<10), '\n'), 512)
	c := connection{addr: f.addr, key: testKey, patient: true}
	conn, err := c.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetErr(io.Discard)
	if err := receive(cmd, clusterv1.NewClusterServiceClient(conn), fullDisk{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it comes to %v", err)
	}
	if sent, all := f.cluster.saved.Load(), int64(len(f.cluster.snapshot)); sent == all {
		t.Errorf("all %d bytes came", all)
	}
}

func TestSnapshotInspect(t *testing.T) {
	clearEnv(t)
	path := filepath.Join(t.TempDir(), "backup")
	content := sampleSnapshot(t)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := fsm.ReadSnapshot(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	digest := state.Digest()
	prints(t, fmt.Sprintf(trim(`
File:           %s
Size:           %s (%d bytes)
SHA-256:        %x
Level:          %d
Cluster:        01000000-0000-0000-0000-000000000001
Epoch:          02000000-0000-0000-0000-000000000002
Revision:       40
Organisations:  1
Projects:       2
Keys:           1
Permissions:    %d
Roles:          3
Grants:         2
Digest:         %x
Operators:      root (06000000-0000-0000-0000-000000000006) of organisation default
`), path, byteSize(uint64(len(content))), len(content), sha256.Sum256(content), state.Level, 30+len(collect(fsm.ManagementPermissions())), digest), "snapshot", "inspect", path)
	if got := remit(t, "snapshot", "inspect", path, "-o", "json"); got.code != exitOK || !strings.Contains(got.stdout, `"grants": 2,`) {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(path, content[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := remit(t, "snapshot", "inspect", path); got.code != exitError || !strings.Contains(got.stderr, "hint: the file is damaged, cut off, or something else") {
		t.Errorf("%+v", got)
	}
	if got := remit(t, "snapshot", "inspect", path+"x"); got.code != exitError || !strings.Contains(got.stderr, "cannot read the snapshot") {
		t.Errorf("%+v", got)
	}
}

// A flipped bit is damage, wherever it is; what is whole and not understood, a later
// version wrote.
func TestSnapshotDamage(t *testing.T) {
	clearEnv(t)
	path := filepath.Join(t.TempDir(), "backup")
	content := sampleSnapshot(t)
	check := func(content []byte, want string) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := remit(t, "snapshot", "inspect", path); got.code != exitError || !strings.Contains(got.stderr, want) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	const level = len("remit-snapshot\n") + 1
	for at := range content {
		// Each command makes its flags anew, which takes a while: some bytes of the
		// records, and all of the header and the trailer.
		if at > 100 && at < len(content)-50 && at%97 != 0 {
			continue
		}
		damaged := bytes.Clone(content)
		damaged[at] ^= 0x40
		check(damaged, "hint: the file is damaged, cut off, or something else")
	}
	later := bytes.Clone(content)
	later[level] = 0x40
	sum := crc32.Checksum(later[:len(later)-trailerSize], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(later[len(later)-4:], sum) // the trailer ends with it
	check(later, "hint: a later version of remit wrote it: use that one")
	check(later[:len(later)-1], "hint: the file is damaged")
	check(later[:40], "hint: the file is damaged")
}

// trailerSize is how many bytes end a snapshot: the kind and length of the record,
// and the record.
const trailerSize = 2 + 1 + 8 + 9 + 9 + 5

func collect(all func(func(string, string) bool)) (names []string) {
	for name := range all {
		names = append(names, name)
	}
	return names
}

func TestSnapshotRestore(t *testing.T) {
	f := startFake(t)
	f.cluster.snapshot = sampleSnapshot(t)
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, f.cluster.snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, fmt.Sprintf(`remit: not confirmed, so nothing changed: this replaces the whole state of the cluster by what %s holds (revision 40 of cluster 01000000-0000-0000-0000-000000000001, 1 organisations, 1 keys)
hint: --yes restores without asking
`, path), "snapshot", "restore", path)
	if len(f.requests) > 0 {
		t.Errorf("sent %v", f.requests)
	}
	size := byteSize(uint64(len(f.cluster.snapshot)))
	const hold = `Keys and tokens from before have ended. The snapshot's keys hold, with their old secrets; these are operators:
  root (06000000-0000-0000-0000-000000000006) of organisation default
`
	expect(t, outcome{exitOK, "restored " + path + " at revision 77, in epoch new-epoch\n", "sent " + size + " of " + size + "\nthe nodes replace their state\n" + hold},
		"snapshot", "restore", path, "--yes")
	if !bytes.Equal(f.cluster.restored.Bytes(), f.cluster.snapshot) || f.cluster.sum != sha256.Sum256(f.cluster.snapshot) {
		t.Error("another snapshot was restored")
	}

	// An answer that is lost makes the command ask again, and nothing come twice.
	f.cluster.lose = 3
	got := remit(t, "snapshot", "restore", path, "--yes", "-o", "json")
	if got.code != exitOK || !strings.Contains(got.stdout, `"epoch": "new-epoch"`) || !strings.Contains(got.stderr, "waiting: the outcome of the write is unknown") {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(f.cluster.restored.Bytes(), f.cluster.snapshot) {
		t.Error("another snapshot was restored")
	}

	// What cannot be restored is not sent.
	sent := len(f.requests)
	if err := os.WriteFile(path, f.cluster.snapshot[:300], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := remit(t, "snapshot", "restore", path, "--yes"); got.code != exitError || len(f.requests) != sent {
		t.Errorf("%+v", got)
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB", 3 << 40: "3.0 TiB", 1 << 50: "1024.0 TiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
