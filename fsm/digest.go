package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
)

// Digest is a SHA-256 over what is alive in the state, in one order: two nodes
// that answer alike have the same, whatever batches or snapshots they went
// through and however far the sweeps of permissions and roles are. Grants that a
// deletion left in the built-in project count until they are swept, since lists
// show them. The memory of requests counts, since it answers repetitions, and so
// does how far a backup has arrived; its bytes do not, since its own sum judges
// them. It costs a walk over everything.
func (s *State) Digest() [32]byte {
	d := digest{sha256.New()}
	d.add("cluster", s.Cluster[:], s.Epoch[:], s.Secret[:], binary.BigEndian.AppendUint32(nil, s.Level))
	for _, id := range s.operators {
		d.add("operator", id[:])
	}
	for o := range s.organisations.from("") {
		d.add("organisation", o.ID[:], []byte(o.Name), number64(o.Created), number64(o.Updated))
		for p := range o.Projects("") {
			d.project(p)
		}
	}
	d.requests("old", s.requests.old)
	d.requests("young", s.requests.young)
	if g := s.restore; g != nil {
		d.add("restore", g.id[:], number64(int64(g.size)), number64(int64(g.received)))
	}
	return [32]byte(d.h.Sum(nil))
}

func number64(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

type digest struct{ h hash.Hash }

func (d digest) project(p *Project) {
	d.add("project", p.ID[:], []byte(p.Name), number64(p.Created))
	for k := range p.Keys("") {
		invalidated := int64(0)
		if k.Invalidated {
			invalidated = 1
		}
		d.add("key", k.ID[:], k.Hash[:], []byte(k.Name), number64(k.Created), number64(invalidated))
	}
	for x := range p.Permissions("") {
		d.add("permission", x.ID[:], []byte(x.Name), []byte(x.Description))
	}
	for r := range p.Roles("") {
		parts := [][]byte{r.ID[:], []byte(r.Name), []byte(r.Description)}
		d.add("role", append(parts, ids(p.RolePermissions(r))...)...)
	}
	for principal := range p.Principals("") {
		for a := range p.Assignments(principal, "") {
			parts := [][]byte{[]byte(a.Principal), []byte(a.URI)}
			d.add("assignment", append(append(parts, ids(a.Permissions)...), ids(a.Roles)...)...)
		}
	}
}

func (d digest) requests(generation string, g generation) {
	if g.len() == 0 {
		return
	}
	d.add(generation)
	g.requests.Scan(func(q request) bool {
		parts := [][]byte{q.key[:], q.id[:], number64(int64(q.content)), number64(int64(q.revision))}
		if err, ok := g.errors.get(string(q.key[:])); ok {
			parts = append(parts, []byte{byte(err.Code)}, []byte(err.Message))
		}
		d.add("request", parts...)
		return true
	})
}

// ids returns the ids in ascending order, behind their number.
func ids[T named](records []T) [][]byte {
	all := make([][]byte, 0, len(records)+1)
	for _, r := range records {
		id, _, _ := r.keys()
		all = append(all, id[:])
	}
	slices.SortFunc(all, slices.Compare)
	return append(all, binary.BigEndian.AppendUint64(nil, uint64(len(all))))
}

// add hashes a record so that no two sequences of parts look alike.
func (d digest) add(kind string, parts ...[]byte) {
	d.part([]byte(kind))
	d.part(binary.BigEndian.AppendUint64(nil, uint64(len(parts))))
	for _, p := range parts {
		d.part(p)
	}
}

func (d digest) part(p []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(p)))
	d.h.Write(n[:])
	d.h.Write(p)
}
