package server

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/remit-io/remit/fsm"
)

// A token says which state an answer came from: cluster, epoch and revision. To
// clients it is opaque text. It grants nothing, so it is not signed; a checksum
// tells a damaged one from a foreign one.
type token struct {
	cluster  fsm.ID
	epoch    fsm.Epoch
	revision uint64
}

const (
	tokenVersion = 1
	tokenBytes   = 1 + 16 + 16 + 8 + 4
)

func (t token) String() string {
	b := append(make([]byte, 0, tokenBytes), tokenVersion)
	b = append(b, t.cluster[:]...)
	b = append(b, t.epoch[:]...)
	b = binary.BigEndian.AppendUint64(b, t.revision)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return encodeOpaque(b)
}

// revisionText is the revision as a header says it.
func (t token) revisionText() string { return strconv.FormatUint(t.revision, 10) }

func parseToken(s string) (t token, ok bool) {
	b, ok := decodeOpaque(s)
	if !ok || len(b) != tokenBytes || b[0] != tokenVersion {
		return token{}, false
	}
	body, sum := b[:tokenBytes-4], binary.BigEndian.Uint32(b[tokenBytes-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return token{}, false
	}
	return token{fsm.ID(b[1:17]), fsm.Epoch(b[17:33]), binary.BigEndian.Uint64(b[33:41])}, true
}

// encodeOpaque makes text that clients carry from call to call.
func encodeOpaque(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeOpaque reads what encodeOpaque made, and nothing else: the decoder
// skips ends of lines, however strict it is.
func decodeOpaque(s string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil && !strings.ContainsAny(s, "\r\n")
}

// stateToken is the token of a state that many answers come from.
type stateToken struct {
	state *fsm.State
	text  string
}

// tokenOf returns the state's token. It costs an encoding once for each state,
// as long as answers come from the newest.
func (s *Server) tokenOf(state *fsm.State) string {
	if t := s.token.Load(); t != nil && t.state == state {
		return t.text
	}
	t := &stateToken{state, token{state.Cluster, state.Epoch, state.Revision}.String()}
	s.token.Store(t)
	return t.text
}
