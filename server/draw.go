package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/remit-io/remit/fsm"
)

// A seed is what everything is drawn from that a call draws: the first node
// chooses it at random, and it is the same in every attempt, on whichever node.
// So an attempt whose answer was lost and the next one create the same record,
// with the same secret.
//
// Each draw is the HMAC-SHA-256 of what it is for, with the seed as the key. Its
// outputs tell nothing of each other, nor of the seed, so that the ids, which
// everybody may see, do not give away the secret; and they do not depend on how
// many others were drawn before. The seed itself is as secret as what it makes:
// nodes tell it to each other and to nobody else.
type seed [32]byte

func newSeed() seed {
	var s seed
	rand.Read(s[:]) // never fails
	return s
}

func (s seed) draw(what string) (b [32]byte) {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte(what))
	mac.Sum(b[:0])
	return b
}

// id draws the id of a record.
func (s seed) id(record string) fsm.ID {
	b := s.draw("id of the " + record)
	return idOf(b[:])
}

// secret draws the secret of the key that the call creates, and its hash.
func (s seed) secret() (secret string, hash [32]byte) { return secretOf(s.draw("secret")) }

// NewID draws an id.
func NewID() fsm.ID {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return idOf(b[:])
}

// idOf makes a UUID of version 4.
func idOf(random []byte) fsm.ID {
	id := fsm.ID(random[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// NewSecret draws the secret of a key, 256 bits, and hashes it as keys are kept.
func NewSecret() (secret string, hash [32]byte) {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return secretOf(b)
}

func secretOf(random [32]byte) (secret string, hash [32]byte) {
	secret = KeyPrefix + encodeOpaque(random[:])
	return secret, sha256.Sum256([]byte(secret))
}
