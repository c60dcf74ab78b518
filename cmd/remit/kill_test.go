package main_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// killSeed makes the load and the moments of the kills repeatable, as far as the
// machine allows.
const killSeed = 1

// TestKill kills a node again and again under concurrent writers. Whatever was
// acknowledged must be there when the node is back, on the same folder, and of a
// change that was not acknowledged all or nothing. REMIT_NIGHTLY kills it 200
// times.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 20
	if os.Getenv("REMIT_NIGHTLY") != "" {
		kills = 200
	}
	t.Logf("seed %d, %d kills", killSeed, kills)
	rng := rand.New(rand.NewPCG(killSeed, 0))
	dataDir := filepath.Join(t.TempDir(), "data")
	node := serve(dataDir, "--snapshot-threshold", "50", "--snapshot-interval", "10ms", "--trailing-logs", "10")
	l := newLoad(8, killSeed)
	var seen evidence
	starting := 100 * time.Millisecond // how long a start takes
	for kill := range kills {
		if kill%3 == 2 {
			// Killed while it recovers, too.
			p := node.start(t)
			<-time.After(time.Duration(rng.Int64N(int64(starting))))
			p.kill()
		}
		began := time.Now()
		p := node.start(t).ready()
		starting = time.Since(began)
		l.verify(t, p)
		b := l.on(t, p)
		b.until(20 + rng.IntN(180))
		busy(time.Duration(rng.Int64N(int64(5 * time.Millisecond))))
		b.end()
		p.kill()
		b.wait()
		seen.look(t, dataDir)
		if t.Failed() {
			t.Fatalf("after kill %d", kill+1)
		}
	}
	p := node.start(t).ready()
	l.verify(t, p)
	p.signal(syscall.SIGTERM)
	if code := p.exits(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}

	t.Logf("%d changes acknowledged; of those under way at a kill %d were applied and %d were not", l.acknowledged, l.applied, l.lost)
	t.Logf("%d snapshots seen, %d unfinished at a kill; %d recoveries from snapshot and log", len(seen.snapshots), seen.unfinished, seen.both)
	if len(seen.snapshots) < kills/2 || seen.both < kills/2 {
		t.Errorf("too few snapshots for this test to say something about them")
	}
	if l.applied+l.lost < kills {
		t.Errorf("the kills met only %d changes under way", l.applied+l.lost)
	}
}

// TestKillWhileBootstrapping kills a node while it starts a cluster. The next one
// starts it, or goes on with what there is.
func TestKillWhileBootstrapping(t *testing.T) {
	t.Parallel()
	folders := 5
	if os.Getenv("REMIT_NIGHTLY") != "" {
		folders = 50
	}
	rng := rand.New(rand.NewPCG(killSeed, 1))
	took := 50 * time.Millisecond // by a whole start
	for range folders {
		node := serve(filepath.Join(t.TempDir(), "data"))
		for range 2 {
			p := node.start(t)
			<-time.After(time.Duration(rng.Int64N(int64(took))))
			p.kill()
		}
		began := time.Now()
		p := node.start(t).ready()
		took = time.Since(began)
		if err := create(t.Context(), p, rootKey, "document.read"); err != nil {
			t.Error(err)
		}
		p.kill()
	}
}

// busy keeps a processor busy for a random moment before a kill.
func busy(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

// evidence is what killed nodes left in their folder.
type evidence struct {
	snapshots  map[string]bool
	unfinished int // snapshots that were being written at a kill
	// both counts the recoveries that need a snapshot, since the log's beginning
	// is cut off, and entries of the log behind it.
	both int
}

func (e *evidence) look(t *testing.T, dataDir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dataDir, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	newest := uint64(0)
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".tmp") {
			e.unfinished++
			continue
		}
		if e.snapshots == nil {
			e.snapshots = map[string]bool{}
		}
		e.snapshots[entry.Name()] = true
		// A snapshot is named by term, index and time.
		index, err := strconv.ParseUint(strings.Split(entry.Name(), "-")[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		newest = max(newest, index)
	}
	log, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dataDir, "raft.db"), BoltOptions: &bbolt.Options{ReadOnly: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	first, err := log.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if first > 1 && last > newest {
		e.both++
	}
}
