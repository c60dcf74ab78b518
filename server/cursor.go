package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/remit-io/remit/fsm"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
)

// Limits of one page of a list. One that would be larger than gRPC clients
// accept by default (4 MiB) ends early.
const (
	defaultPage  = 10
	maxPage      = 100
	maxPageBytes = 3 << 20
)

// A listing names one list: its call, where it looks and what for. A cursor is
// good for the listing that it came from, and no other.
type listing struct {
	call         string
	organisation fsm.ID
	project      fsm.ID // zero if it runs over all of them
	about        string // principal, or what is searched
}

const macBytes = 16

// cursor returns where a page ended as opaque text: behind a record's key,
// rather than at a count, so that concurrent writes neither repeat nor skip
// what stays. It is authenticated, so that it says nothing that the cluster
// did not write.
func (l listing) cursor(state *fsm.State, behind string) string {
	return encodeOpaque(append(l.mac(state, behind), behind...))
}

// behind reads a cursor.
func (l listing) behind(state *fsm.State, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	if b, ok := decodeOpaque(cursor); ok && len(b) > macBytes {
		if behind := string(b[macBytes:]); hmac.Equal(b[:macBytes], l.mac(state, behind)) {
			return behind, nil
		}
	}
	return "", invalid("invalid cursor %s: send next_cursor of the last answer unchanged, with the same project and search, or none to start over", quote(cursor))
}

func (l listing) mac(state *fsm.State, behind string) []byte {
	h := hmac.New(sha256.New, state.Secret[:])
	for _, part := range []string{"cursor", l.call, string(l.organisation[:]), string(l.project[:]), l.about, behind} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return h.Sum(nil)[:macBytes]
}

// limitOf returns how many records a page has.
func limitOf(p *paginationv1.PaginationRequest) (int, error) {
	if p == nil || p.Limit == nil {
		return defaultPage, nil
	}
	if n := int(*p.Limit); n >= 1 && n <= maxPage {
		return n, nil
	}
	return 0, invalid("limit %d is out of range: it is from 1 to %d", *p.Limit, maxPage)
}

// page reads which page of the listing a request asks for.
func (l listing) page(state *fsm.State, p *paginationv1.PaginationRequest) (limit int, behind string, err error) {
	if limit, err = limitOf(p); err != nil {
		return 0, "", err
	}
	behind, err = l.behind(state, p.GetCursor())
	return limit, behind, err
}
