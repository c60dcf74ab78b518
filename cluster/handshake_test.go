package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

func validHello() hello {
	return hello{kind: kindRaft, cluster: uuid.New(), epoch: uuid.New(), caller: uuid.New(), target: uuid.New()}
}

func encodeHello(t testing.TB, h hello) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := h.write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadHello(t *testing.T) {
	want := validHello()
	good := encodeHello(t, want)
	if len(good) != helloSize {
		t.Fatalf("a hello of %d bytes", len(good))
	}
	r := bytes.NewReader(append(good, "Raft's own bytes"...))
	if got, err := readHello(r); err != nil || got != want {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "Raft's own bytes" {
		t.Errorf("what follows the hello was touched: %q left", rest)
	}
	for n := range good {
		if _, err := readHello(bytes.NewReader(good[:n])); !errors.Is(err, errNotANode) {
			t.Errorf("the first %d bytes of a hello: %v", n, err)
		}
	}
	newer := bytes.Clone(good)
	newer[len(handshakeMagic)] = handshakeVersion + 1
	if _, err := readHello(bytes.NewReader(newer)); !errors.Is(err, errWrongVersion) {
		t.Errorf("a newer version: %v", err)
	}
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", strings.Repeat("\x00", 100), strings.Repeat("\xff", 100)} {
		if _, err := readHello(strings.NewReader(garbage)); !errors.Is(err, errNotANode) {
			t.Errorf("%q: %v", garbage, err)
		}
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add(encodeHello(f, validHello()))
	f.Add([]byte(handshakeMagic))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, encodeHello(t, h)) {
			t.Errorf("%x was read as %+v", b, h)
		}
	})
}

// testListener is one side of a pair of listeners.
func testListener(t *testing.T, self uuid.UUID, cluster *uuid.UUID, epoch uuid.UUID, peers map[uuid.UUID]string) *listener {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(tcp, slog.New(slog.DiscardHandler), identity{
		joining: func() bool { return false },
		self:    self,
		cluster: func() *uuid.UUID { return cluster },
		epoch:   func() uuid.UUID { return epoch },
		address: func(id uuid.UUID) (string, error) {
			if address, ok := peers[id]; ok {
				return address, nil
			}
			return "", errors.New("not known")
		},
	})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func raftOf(l *listener) raftStream { return raftStream{l.kinds[kindRaft], context.Background()} }

func TestHandshake(t *testing.T) {
	cluster, other := uuid.New(), uuid.New()
	epoch, recovered := uuid.New(), uuid.New()
	called, caller := uuid.New(), uuid.New()
	peers := map[uuid.UUID]string{}
	server := testListener(t, called, &cluster, epoch, peers)
	stateless := testListener(t, called, nil, uuid.Nil, peers)
	address := server.Addr().String()
	unknown, moved := uuid.New(), uuid.New()
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	peers[called], peers[moved] = address, address
	mute := uuid.New()
	peers[mute] = deaf.Addr().String()
	without := uuid.New()
	peers[without] = stateless.Addr().String()

	for _, test := range []struct {
		name    string
		caller  uuid.UUID
		cluster *uuid.UUID
		epoch   uuid.UUID
		target  string
		wait    time.Duration
		want    string // in the error; none if empty
	}{
		{name: "same cluster", caller: caller, cluster: &cluster, epoch: epoch, target: called.String()},
		{name: "another cluster", caller: caller, cluster: &other, target: called.String(), want: "another cluster"},
		{name: "recovered cluster", caller: caller, cluster: &cluster, epoch: recovered, target: called.String(), want: "was recovered"},
		{name: "from before epochs", caller: caller, cluster: &cluster, target: called.String(), want: "was recovered"},
		{name: "no cluster", caller: caller, target: called.String(), want: "no cluster yet"},
		{name: "called node without cluster", caller: caller, cluster: &cluster, target: without.String(), want: "no cluster yet"},
		{name: "another node at the address", caller: caller, cluster: &cluster, epoch: epoch, target: moved.String(), want: "taken over the address"},
		{name: "copied data folder", caller: called, cluster: &cluster, epoch: epoch, target: called.String(), want: "same id"},
		{name: "unknown node", caller: caller, cluster: &cluster, target: unknown.String(), want: "not known"},
		{name: "an address instead of an id", caller: caller, cluster: &cluster, target: address, want: "no UUID"},
		{name: "a node that says nothing", caller: caller, cluster: &cluster, target: mute.String(), wait: 50 * time.Millisecond, want: "not a node"},
	} {
		if test.wait == 0 {
			test.wait = patience
		}
		conn, err := raftOf(testListener(t, test.caller, test.cluster, test.epoch, peers)).Dial(raft.ServerAddress(test.target), test.wait)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		in, err := raftOf(server).Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Error(err)
		}
		var got [4]byte
		if _, err := io.ReadFull(in, got[:]); err != nil || string(got[:]) != "ping" {
			t.Errorf("%s: received %q, %v", test.name, got, err)
		}
		// The end of a listener ends what it handed out.
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := conn.Read(got[:]); err == nil {
			t.Errorf("%s: the connection outlives its listener", test.name)
		}
		server = testListener(t, called, &cluster, epoch, peers)
		peers[called], peers[moved] = server.Addr().String(), server.Addr().String()
	}
}

func TestGarbageOnTheNodePort(t *testing.T) {
	n := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	cluster, _ := n.ClusterID()
	strange := encodeHello(t, hello{kind: 77, cluster: cluster, epoch: n.logEpoch(), caller: uuid.New(), target: n.id})
	newer := bytes.Clone(strange)
	newer[len(handshakeMagic)]++
	for name, test := range map[string]struct {
		send []byte
		want verdict // the answer; none if zero
	}{
		"HTTP":          {send: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
		"zeros":         {send: make([]byte, 1000)},
		"half a hello":  {send: strange[:20]},
		"wrong kind":    {send: strange, want: wrongKind},
		"newer version": {send: newer, want: wrongVersion},
	} {
		conn, err := net.Dial("tcp", n.RaftAddr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(test.send); err != nil {
			t.Error(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite() // the node may have closed already
		_ = conn.SetDeadline(time.Now().Add(patience))
		got, err := readReply(conn)
		if test.want == accepted {
			if !errors.Is(err, errNotANode) {
				t.Errorf("%s: answered %v, %v", name, got, err)
			}
		} else if got != test.want || err != nil {
			t.Errorf("%s: answered %v, %v", name, got, err)
		}
		_ = conn.Close()
	}
	mustApply(t, n, "still works")
}

// TestReplication sends the log to a second node through handshake and transport.
func TestReplication(t *testing.T) {
	leader := startTest(t, testConfig(t.TempDir(), &listFSM{}), options{})
	mustApply(t, leader, "before")
	fsm := &listFSM{}
	other := openTest(t, testConfig(t.TempDir(), fsm), options{})
	// What joining will do: the new node is told its cluster.
	cluster, _ := leader.ClusterID()
	id := uuid.UUID(cluster)
	other.epoch.Store(leader.epoch.Load())
	other.cluster.Store(&id)
	leader.peers.put(peer{ID: other.id, RaftAddr: other.RaftAddr()})
	other.peers.put(peer{ID: leader.id, RaftAddr: leader.RaftAddr()})

	if err := leader.raft.AddNonvoter(other.serverID(), raft.ServerAddress(other.serverID()), 0, patience).Error(); err != nil {
		t.Fatal(err)
	}
	last := mustApply(t, leader, "after")
	waitFor(t, "the second node has both commands", func() bool { return fsm.Revision() == last })
	if got := mustReadIndex(t, leader); got != last {
		t.Errorf("read index %d with a non-voter, want %d", got, last)
	}
	if !other.HasState() {
		t.Error("a node with a log has no state")
	}
	if err := other.Bootstrap(t.Context(), uuid.New()); !errors.Is(err, ErrHasState) {
		t.Errorf("bootstrap of a member: %v", err)
	}
	if self, err := leads(other); err != nil || self {
		t.Errorf("the second node leads: %v, %v", self, err)
	}

	if err := leader.raft.AddVoter(other.serverID(), raft.ServerAddress(other.serverID()), 0, patience).Error(); err != nil {
		t.Fatal(err)
	}
	if got := mustReadIndex(t, leader); got != last {
		t.Errorf("read index %d with two voters, want %d", got, last)
	}
	last = mustApply(t, leader, "by two voters")
	waitFor(t, "the second node has the command", func() bool { return fsm.Revision() == last })
	if vote, err := other.store.Get([]byte("LastVoteCand")); err == nil && string(vote) != leader.ID() {
		t.Errorf("a vote was stored for %q, want a node id", vote)
	}
}
