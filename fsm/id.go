// Package fsm is the replicated state: organisations, projects, permissions,
// roles and assignments, the commands that change them and the check that all
// of it is for. It knows no network, clock or randomness: the same log gives
// the same state on every node.
package fsm

import "encoding/hex"

// An ID names a cluster, an epoch or a record, for ever. Its text is a
// lower-case UUID. The proposer of a command draws it at random.
type ID [16]byte

// ParseID reads the text form, and only the one that String writes.
func ParseID(s string) (id ID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, false
	}
	digits := make([]byte, 0, 32)
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
			digits = append(digits, c)
		default:
			return ID{}, false
		}
	}
	if _, err := hex.Decode(id[:], digits); err != nil {
		return ID{}, false
	}
	return id, true
}

func (id ID) String() string {
	text := hex.AppendEncode(make([]byte, 0, 36), id[:])
	return string(text[:8]) + "-" + string(text[8:12]) + "-" + string(text[12:16]) + "-" + string(text[16:20]) + "-" + string(text[20:])
}

// key is the form in which maps hold an ID.
func (id ID) key() string { return string(id[:]) }
