package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tidwall/btree"
)

const (
	// generationSize is how many requests are remembered at least, the newest;
	// twice as many at most.
	generationSize = 131_072
	// maxRememberedMessage bounds the message of a remembered error, in bytes.
	maxRememberedMessage = 512
	// requestDegree keeps nodes small: each command copies the path to one of them.
	requestDegree = 8
)

// A Memory is what a command came to.
type Memory struct {
	Err      *Error // it changed nothing
	ID       ID     // of the record that it created or changed; zero if none
	Content  uint64 // Envelope.Content of the request
	Revision uint64 // of the command
}

// Remembered returns what the key's command with this request id came to, if it is
// among the newest. Errors that say to retry are not remembered, nor is what the
// cluster itself asked for.
func (s *State) Remembered(key, request ID) (Memory, bool) { return s.requests.find(key, request) }

// RemembersRequests reports whether the cluster is at a level at which what
// commands came to is remembered, and their envelopes have Content.
func (s *State) RemembersRequests() bool { return s.Level >= levelOfClusters }

// A memory has two generations: when the young one is full, it becomes the old
// one, and what was the old one is forgotten. So nothing is ever removed one by
// one, and what is remembered depends on the log alone.
type memory struct{ young, old generation }

// A generation holds what commands came to. Few fail once they are in the log, so
// errors are kept aside, and the requests have no pointers for the garbage
// collector to follow.
type generation struct {
	requests *btree.BTreeG[request]
	errors   table[*Error] // by request.key
}

type request struct {
	key      [32]byte // id of the key, id of the request
	id       ID
	content  uint64
	revision uint64
}

func (a request) before(b request) bool { return bytes.Compare(a.key[:], b.key[:]) < 0 }

func requestKey(key, id ID) (k [32]byte) {
	copy(k[:16], key[:])
	copy(k[16:], id[:])
	return k
}

func (g generation) copy() generation {
	if g.requests == nil {
		return newGeneration()
	}
	own := *g.requests // as copyTree does
	return generation{own.Copy(), g.errors.copy()}
}

func newGeneration() generation {
	return generation{
		btree.NewBTreeGOptions(request.before, btree.Options{Degree: requestDegree, NoLocks: true}),
		table[*Error]{}.copy(),
	}
}

func (g generation) len() int {
	if g.requests == nil {
		return 0
	}
	return g.requests.Len()
}

func (g generation) find(key [32]byte) (Memory, bool) {
	if g.requests == nil {
		return Memory{}, false
	}
	r, ok := g.requests.Get(request{key: key})
	if !ok {
		return Memory{}, false
	}
	err, _ := g.errors.get(string(key[:]))
	return Memory{err, r.id, r.content, r.revision}, true
}

// put adds to a generation that was copied.
func (g generation) put(r request, err *Error) {
	g.requests.Set(r)
	if err != nil {
		g.errors.tree.Set(string(r.key[:]), err)
	}
}

func (m *memory) find(key, id ID) (Memory, bool) {
	k := requestKey(key, id)
	if found, ok := m.young.find(k); ok {
		return found, true
	}
	return m.old.find(k)
}

// recall answers a command that was applied before.
func (b *batch) recall(e *Envelope) (Result, bool) {
	if e.Key == (ID{}) {
		return Result{}, false
	}
	m, ok := b.state.requests.find(e.Key, e.Request)
	switch {
	case !ok:
		return Result{}, false
	case m.Content != 0 && m.Content != e.Content: // 0 of a command from before the level had it
		return failed(errorf(CodeInvalidArgument, "remit-request-id %x was used for another request: draw a new one", e.Request[:])), true
	}
	return Result{Err: m.Err, Repeated: true, Memory: &m, Received: b.state.restore.bytes()}, true
}

// remember keeps what a command came to. Not so where the answer was to retry:
// the same request may well succeed later.
func (b *batch) remember(e *Envelope, r *Result) {
	if e.Key == (ID{}) || !b.state.RemembersRequests() || r.Err != nil && r.Err.Code == CodeUnavailable {
		return
	}
	m := &b.state.requests
	if m.young.len() >= generationSize {
		m.old, m.young, b.ownsRequests = m.young, newGeneration(), true
	}
	if !b.ownsRequests {
		m.young, b.ownsRequests = m.young.copy(), true
	}
	m.young.put(request{requestKey(e.Key, e.Request), r.id(), e.Content, b.revision}, r.Err.short())
}

// id is that of the record that the command created or changed.
func (r *Result) id() ID {
	switch {
	case r.Permission != nil:
		return r.Permission.ID
	case r.Role != nil:
		return r.Role.ID
	case r.Organisation != nil:
		return r.Organisation.ID
	case r.Project != nil:
		return r.Project.ID
	case r.Key != nil:
		return r.Key.ID
	}
	return ID{}
}

// short bounds what an error takes in memory: its message may have the caller's
// own words in it.
func (e *Error) short() *Error {
	if e == nil || len(e.Message) <= maxRememberedMessage {
		return e
	}
	return &Error{e.Code, cut(e.Message, maxRememberedMessage)}
}

// requestsRecord is a part of a generation: the old one before the young one, each
// in order of key and request.
type requestsRecord struct {
	Old bool `msgpack:"old"`
	// Requests are of requestBytes each: key, request, id of the record, content and
	// revision, big-endian.
	Requests []byte         `msgpack:"requests"`
	Failures []failedRecord `msgpack:"failures"` // of them, in their order
}

type failedRecord struct {
	Request int    `msgpack:"request"` // which of the record's
	Code    Code   `msgpack:"code"`
	Message string `msgpack:"message"`
}

const (
	requestBytes     = 16 + 16 + 16 + 8 + 8
	requestsInRecord = 1024
)

func (w *snapshotWriter) requests(m *memory) {
	w.generation(m.old, true)
	w.generation(m.young, false)
}

func (w *snapshotWriter) generation(g generation, old bool) {
	if g.len() == 0 {
		return
	}
	r, n := requestsRecord{Old: old}, 0
	flush := func() {
		w.record(recordRequests, &r)
		r, n = requestsRecord{Old: old, Requests: r.Requests[:0]}, 0
	}
	g.requests.Scan(func(q request) bool {
		r.Requests = append(append(r.Requests, q.key[:]...), q.id[:]...)
		r.Requests = binary.BigEndian.AppendUint64(r.Requests, q.content)
		r.Requests = binary.BigEndian.AppendUint64(r.Requests, q.revision)
		if err, ok := g.errors.get(string(q.key[:])); ok {
			r.Failures = append(r.Failures, failedRecord{n, err.Code, err.Message})
		}
		if n++; n == requestsInRecord {
			flush()
		}
		return w.err == nil
	})
	if n > 0 {
		flush()
	}
}

func (b *restore) addRequests(r *requestsRecord) error {
	m := &b.state.requests
	switch {
	case b.state.Level < levelOfClusters:
		return fmt.Errorf("level %d remembers no requests", b.state.Level)
	case b.state.organisations.tree == nil:
		return fmt.Errorf("requests stand before the cluster")
	case r.Old && m.young.requests != nil:
		return fmt.Errorf("the old requests stand behind the young ones")
	case len(r.Requests) == 0 || len(r.Requests)%requestBytes != 0:
		return fmt.Errorf("%d bytes are no requests of %d each", len(r.Requests), requestBytes)
	}
	g := &m.young
	if r.Old {
		g = &m.old
	}
	if g.requests == nil {
		*g = newGeneration()
	}
	failures := r.Failures
	for i, data := 0, r.Requests; len(data) > 0; i, data = i+1, data[requestBytes:] {
		q := request{
			key: [32]byte(data), id: ID(data[32:]),
			content: binary.BigEndian.Uint64(data[48:]), revision: binary.BigEndian.Uint64(data[56:]),
		}
		var err *Error
		if len(failures) > 0 && failures[0].Request == i {
			err, failures = &Error{failures[0].Code, failures[0].Message}, failures[1:]
		}
		if err := b.addRequest(g, q, err); err != nil {
			return err
		}
	}
	if len(failures) > 0 {
		return fmt.Errorf("no request %d can have failed there", failures[0].Request)
	}
	return nil
}

// addRequest refuses what commands would not have led to.
func (b *restore) addRequest(g *generation, q request, failure *Error) error {
	if newest, ok := g.requests.Max(); ok && !newest.before(q) {
		return fmt.Errorf("the requests are not in order: %x", q.key)
	}
	_, again := b.state.requests.old.find(q.key)
	switch {
	case ID(q.key[:]) == ID{} || q.revision > b.state.Revision || again && g == &b.state.requests.young:
		return fmt.Errorf("request %x cannot be of revision %d", q.key, q.revision)
	case failure != nil && (failure.Code == 0 || failure.Code == CodeUnavailable || len(failure.Message) > maxRememberedMessage+len("…")):
		return fmt.Errorf("request %x cannot have failed so", q.key)
	case g.len() == generationSize:
		return fmt.Errorf("a generation has more than %d requests", generationSize)
	}
	g.requests.Load(q)
	if failure != nil {
		g.errors.tree.Set(string(q.key[:]), failure)
	}
	return nil
}
