package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

func TestReopenKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	n := startTest(t, testConfig(dir, &listFSM{}), options{})
	id := n.ID()
	clusterID, ok := n.ClusterID()
	if !ok {
		t.Fatal("a bootstrapped node has no cluster id")
	}
	var want []string
	var last uint64
	for i := range 20 {
		command := fmt.Sprintf("command %d", i)
		revision := mustApply(t, n, command)
		if revision <= last {
			t.Fatalf("revision %d after %d", revision, last)
		}
		last = revision
		want = append(want, command)
	}
	closeTest(t, n)

	fsm := &listFSM{}
	began := time.Now()
	n = startTest(t, testConfig(dir, fsm), options{})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a sole voter took %s to lead", took)
	}
	if n.ID() != id {
		t.Errorf("the node id changed from %s to %s", id, n.ID())
	}
	if got, _ := n.ClusterID(); got != clusterID {
		t.Errorf("the cluster id changed from %x to %x", clusterID, got)
	}
	if got := fsm.list(); !reflect.DeepEqual(got, want) {
		t.Errorf("after reopening: %q, want %q", got, want)
	}
	if fsm.Revision() != last {
		t.Errorf("revision %d, want %d", fsm.Revision(), last)
	}
	if self, err := leads(n); err != nil || !self {
		t.Errorf("Leader = %v, %v on the leader", self, err)
	}
}

func leads(n *Node) (bool, error) {
	_, self, err := n.Leader(context.Background())
	return self, err
}

func TestSnapshotAndReopen(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir, &listFSM{})
	cfg.TrailingLogs = 1
	n := startTest(t, cfg, options{})
	var want []string
	for round := range 4 {
		for i := range 10 {
			want = append(want, fmt.Sprintf("command %d.%d", round, i))
			mustApply(t, n, want[len(want)-1])
		}
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	if first, err := n.store.FirstIndex(); err != nil || first < 20 {
		t.Errorf("the log begins at %d (%v): it was not compacted", first, err)
	}
	taken, err := os.ReadDir(filepath.Join(dir, snapshotDir))
	if err != nil || len(taken) != retainedSnapshots {
		t.Errorf("%d snapshots retained (%v), want %d", len(taken), err, retainedSnapshots)
	}
	want = append(want, "after the snapshot")
	last := mustApply(t, n, want[len(want)-1])
	closeTest(t, n)

	unfinished := filepath.Join(dir, snapshotDir, "3-99-1"+unfinishedSuffix)
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	fsm := &listFSM{}
	n = startTest(t, testConfig(dir, fsm), options{})
	if got := fsm.list(); !reflect.DeepEqual(got, want) {
		t.Errorf("after reopening: %q, want %q", got, want)
	}
	if got := mustReadIndex(t, n); got != last {
		t.Errorf("read index %d, want %d", got, last)
	}
	if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished snapshot is still there: %v", err)
	}
}

// TestCloseCutsSnapshotShort closes a node in the middle of a snapshot whose
// writer takes no notice of errors.
func TestCloseCutsSnapshotShort(t *testing.T) {
	dir := t.TempDir()
	fsm := &listFSM{}
	n := startTest(t, testConfig(dir, fsm), options{})
	mustApply(t, n, "kept")
	begun := make(chan struct{})
	var writeErr error
	fsm.persist = func(sink raft.SnapshotSink) error {
		close(begun)
		<-n.ctx.Done()
		_, writeErr = sink.Write([]byte("half a snapsh"))
		return sink.Close()
	}
	taken := make(chan error, 1)
	go func() { taken <- n.raft.Snapshot().Error() }()
	<-begun
	closeTest(t, n)
	if !errors.Is(writeErr, errClosed) {
		t.Errorf("a write after the end of the node: %v", writeErr)
	}
	if err := <-taken; err == nil {
		t.Error("the snapshot succeeded")
	}
	if left, err := os.ReadDir(filepath.Join(dir, snapshotDir)); err != nil || len(left) != 0 {
		t.Errorf("left in the snapshot folder: %v, %v", left, err)
	}
	after := &listFSM{}
	startTest(t, testConfig(dir, after), options{})
	if got := after.list(); !reflect.DeepEqual(got, []string{"kept"}) {
		t.Errorf("after reopening: %q", got)
	}
}

func TestConcurrentApply(t *testing.T) {
	fsm := &listFSM{}
	n := startTest(t, testConfig(t.TempDir(), fsm), options{})
	var mu sync.Mutex
	acknowledged := map[string]int{}
	err := applyAll(t.Context(), n, "c", 32, 20, func(command string) {
		mu.Lock()
		acknowledged[command]++
		mu.Unlock()
	})
	if err != nil {
		t.Fatal(err)
	}
	applied := map[string]int{}
	for _, command := range fsm.list() {
		applied[command]++
	}
	if len(applied) != 32*20 || !reflect.DeepEqual(applied, acknowledged) {
		t.Errorf("%d commands applied, %d acknowledged, want %d of each, once", len(applied), len(acknowledged), 32*20)
	}
}

// TestOtherProcess is the other process of TestSecondProcess.
func TestOtherProcess(t *testing.T) {
	dir := os.Getenv("CLUSTER_TEST_DATA_DIR")
	if dir == "" {
		t.Skip("only run by TestSecondProcess")
	}
	n, err := Open(testConfig(dir, &listFSM{}))
	if err == nil {
		_ = n.Close()
		t.Fatal("opened a data folder that is in use")
	}
	fmt.Println(err)
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	n := openTest(t, testConfig(dir, &listFSM{}), options{})

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOtherProcess$")
	cmd.Env = append(os.Environ(), "CLUSTER_TEST_DATA_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pid := fmt.Sprintf("process id %d", os.Getpid())
	for _, want := range []string{dir, "in use", "choose another data folder", pid} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the error does not say %q: %s", want, out)
		}
	}

	began := time.Now()
	if _, err := Open(testConfig(dir, &listFSM{})); err == nil {
		t.Error("a second node opened the same data folder")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the second node took %s to notice", took)
	}
	closeTest(t, n)
	closeTest(t, openTest(t, testConfig(dir, &listFSM{}), options{}))
}

func TestLogLockedByAnotherProgram(t *testing.T) {
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, logFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := writeID(filepath.Join(dir, nodeIDFile), uuid.New()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = Open(testConfig(dir, &listFSM{}))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s to notice", took)
	}
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "locked by another process") {
		t.Errorf("error %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	full := testConfig(t.TempDir(), &listFSM{})
	for name, change := range map[string]func(*Config){
		"no data folder":        func(c *Config) { c.DataDir = "" },
		"no address":            func(c *Config) { c.RaftAddr = "" },
		"no state machine":      func(c *Config) { c.FSM = nil },
		"a bad address":         func(c *Config) { c.RaftAddr = "127.0.0.1:notaport" },
		"a file as data folder": func(c *Config) { c.DataDir = os.Args[0] },
	} {
		cfg := full
		change(&cfg)
		if n, err := Open(cfg); err == nil {
			_ = n.Close()
			t.Errorf("%s: opened", name)
		}
	}
	// Each refusal gave back what it had opened.
	closeTest(t, openTest(t, full, options{}))
}

func TestApplyErrors(t *testing.T) {
	fsm := &listFSM{}
	n := openTest(t, testConfig(t.TempDir(), fsm), options{})
	if _, _, err := n.Apply(t.Context(), []byte("x")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("without a cluster: %v", err)
	}
	if _, err := n.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("read index without a cluster: %v", err)
	}
	if _, err := leads(n); !errors.Is(err, ErrNotLeader) {
		t.Errorf("leader without a cluster: %v", err)
	}
	if err := n.Bootstrap(t.Context(), uuid.New()); err != nil {
		t.Fatal(err)
	}
	waitLeader(t, n)

	if _, _, err := n.Apply(t.Context(), make([]byte, MaxCommandSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a command that is too large: %v", err)
	}
	if _, _, err := n.Apply(t.Context(), make([]byte, MaxCommandSize)); err != nil {
		t.Errorf("a command of the largest size: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := n.Apply(ended, []byte("x")); !errors.Is(err, ErrNotApplied) || !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	closeTest(t, n)
	if _, _, err := n.Apply(t.Context(), []byte("x")); !errors.Is(err, ErrNotApplied) {
		t.Errorf("a closed node: %v", err)
	}
	if len(fsm.list()) != 1 {
		t.Errorf("%d commands applied, want 1", len(fsm.list()))
	}
	for from, want := range map[error]error{
		raft.ErrNotLeader:                    ErrNotLeader,
		raft.ErrEnqueueTimeout:               ErrNotApplied,
		raft.ErrLeadershipTransferInProgress: ErrNotApplied,
		raft.ErrLeadershipLost:               ErrUnknown,
		raft.ErrRaftShutdown:                 ErrUnknown,
		raft.ErrAbortedByRestore:             ErrUnknown,
		context.DeadlineExceeded:             ErrUnknown,
		errors.New("disk"):                   ErrUnknown,
	} {
		if got := applyError(from); !errors.Is(got, want) {
			t.Errorf("%v became %v, want %v", from, got, want)
		}
	}
}

func TestWaitingApplyHearsOfTheEnd(t *testing.T) {
	fsm := &listFSM{gate: make(chan struct{})}
	dir := t.TempDir()
	n := startTest(t, testConfig(dir, fsm), options{})

	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error, 1)
	go func() {
		_, _, err := n.Apply(ctx, []byte("first"))
		canceled <- err
	}()
	waitFor(t, "the command is committed", func() bool { return mustReadIndex(t, n) > 0 })
	cancel()
	if err := <-canceled; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled while waiting: %v", err)
	}

	closed := make(chan error, 1)
	go func() {
		_, _, err := n.Apply(t.Context(), []byte("second"))
		closed <- err
	}()
	first := mustReadIndex(t, n)
	waitFor(t, "the second command is committed", func() bool { return mustReadIndex(t, n) > first })
	end := make(chan error, 1)
	go func() { end <- n.Close() }()
	if err := <-closed; !errors.Is(err, ErrUnknown) {
		t.Errorf("closed while waiting: %v", err)
	}
	close(fsm.gate)
	if err := <-end; err != nil {
		t.Error(err)
	}

	// What was unknown had in fact been committed.
	after := &listFSM{}
	startTest(t, testConfig(dir, after), options{})
	if got := after.list(); !reflect.DeepEqual(got, []string{"first", "second"}) {
		t.Errorf("after reopening: %q", got)
	}
}

func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	fsm := &listFSM{gate: make(chan struct{})}
	dir := t.TempDir()
	n := startTest(t, testConfig(dir, fsm), options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go n.Apply(ctx, []byte("stuck"))
	waitFor(t, "the command is committed", func() bool { return mustReadIndex(t, n) > 0 })

	began := time.Now()
	if err := n.Close(); err == nil || !strings.Contains(err.Error(), "stays locked") {
		t.Errorf("closing with a state machine that hangs: %v", err)
	}
	if took := time.Since(began); took > closeTimeout+2*time.Second {
		t.Errorf("close took %s", took)
	}
	if _, err := Open(testConfig(dir, &listFSM{})); err == nil {
		t.Error("the data folder was given back while Raft still runs")
	}
	close(fsm.gate)
	<-n.stopped
	if err := n.release(); err != nil {
		t.Error(err)
	}
}

func TestRaftLogLines(t *testing.T) {
	var out bytes.Buffer
	log := newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))).Named("part").With("with", 1)
	log.Error("broken", "error", errors.New("why"))
	log.Warn("odd", "servers", raft.Server{ID: "a"})
	log.Info("chatter")
	log.Debug("noise")
	log.Warn("heartbeat timeout reached, starting election", "last-leader-id", raft.ServerID(""))
	log.Warn("heartbeat timeout reached, starting election", "last-leader-id", raft.ServerID("b"))
	got := out.String()
	for i, want := range []string{
		`level=ERROR msg=broken component=raft.part with=1 error=why`,
		`level=WARN msg=odd component=raft.part with=1 servers="{Voter a }"`,
		`level=DEBUG msg=chatter`,
		`level=DEBUG msg="heartbeat timeout reached, starting election" component=raft.part with=1 last-leader-id=""`,
		`level=WARN msg="heartbeat timeout reached, starting election" component=raft.part with=1 last-leader-id=b`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("line %d: %s is missing in\n%s", i, want, got)
		}
	}
	if strings.Contains(got, "noise") {
		t.Errorf("debug lines of Raft are shown at debug level:\n%s", got)
	}
}

// TestRaftRepeats has Raft say the same again and again.
func TestRaftRepeats(t *testing.T) {
	var out bytes.Buffer
	quiet := &occasionally{every: time.Hour}
	raftLog := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off})
	raftLog.RegisterSink(slogSink{slog.New(slog.NewTextHandler(&out, nil)), quiet})
	say := func() {
		for i := range 50 {
			for _, id := range []raft.ServerID{"a", "b"} {
				raftLog.Error("failed to heartbeat to", "peer", raft.ServerAddress(id), "backoff time", time.Duration(i), "error", fmt.Errorf("try %d", i))
				raftLog.Error("failed to appendEntries to", "peer", raft.Server{ID: id}, "error", fmt.Errorf("try %d", i))
				raftLog.Warn("failed to contact", "server-id", id, "time", time.Duration(i))
				raftLog.Warn("rejecting pre-vote request since node is not in configuration", "from", raft.ServerAddress(id))
				raftLog.Warn("rejecting pre-vote request since our last index is greater", "candidate", raft.ServerAddress(id), "last-index", i)
				raftLog.Error("failed to make requestVote RPC", "target", raft.Server{ID: id}, "error", fmt.Errorf("try %d", i))
				raftLog.Warn("heartbeat timeout reached, starting election", "last-leader-addr", id, "last-leader-id", id)
			}
		}
	}
	say()
	if got := strings.Count(out.String(), "\n"); got != 14 || strings.Contains(out.String(), "left_out") {
		t.Errorf("%d lines, want one for each of 7 messages about each of 2 nodes:\n%s", got, &out)
	}
	out.Reset()
	for _, e := range quiet.events {
		e.due = time.Time{}
	}
	say()
	if got, told := strings.Count(out.String(), "\n"), strings.Count(out.String(), "left_out=49"); got != 14 || told != 14 {
		t.Errorf("%d lines, of which %d say what was left out, want 14:\n%s", got, told, &out)
	}
}
