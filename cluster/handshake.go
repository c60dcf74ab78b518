package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// Every connection between nodes begins with a handshake. The caller sends
//
//	magic (4 bytes) | version (1) | kind (1) | cluster id (16) | log epoch (16) | caller's node id (16) | called node's id (16)
//
// and the called node answers
//
//	magic (4 bytes) | version (1) | verdict (1)
//
// or, to something that is not a node, nothing. It keeps nodes of two clusters, nodes
// of one cluster from before and after it was recovered, and a node that took over
// another's address from speaking to each other by mistake; it proves nothing about
// who is calling: TLS does, below it, and the caller's id must be that in its
// certificate.
const (
	handshakeMagic   = "RMIT"
	handshakeVersion = 2

	helloHead = len(handshakeMagic) + 2
	helloSize = helloHead + 4*16
	replySize = len(handshakeMagic) + 2
)

// connKind says what a connection is for.
type connKind byte

const (
	kindRaft connKind = iota + 1 // Raft's own
	kindNode                     // gRPC of the node service
	kindAPI                      // gRPC of the API, for calls passed on
)

// verdict is the called node's answer.
type verdict byte

const (
	accepted verdict = iota
	wrongVersion
	wrongKind
	noCluster
	wrongCluster
	wrongEpoch
	wrongTarget
	sameNode
	needsTLS
	wrongCertificate
	notTakenIn
)

func (v verdict) String() string {
	switch v {
	case accepted:
		return "accepted"
	case wrongVersion:
		return "it speaks another version of the node protocol: run the same release on both nodes"
	case wrongKind:
		return "it does not know this kind of connection: run the same release on both nodes"
	case noCluster:
		return "it belongs to no cluster yet"
	case wrongCluster:
		return "it belongs to another cluster"
	case wrongEpoch:
		return "the cluster was recovered after it had lost its majority, and one of the two nodes is from before that: remove the data folder of the one that is, and join it again"
	case notTakenIn:
		return "it has asked to join the cluster, and has not heard yet that it is taken in"
	case wrongTarget:
		return "it is not the node that was called: another node has taken over the address"
	case sameNode:
		return "both nodes have the same id: one data folder is a copy of the other"
	case needsTLS:
		return "it takes no connection without TLS: start both nodes with a node certificate (--tls-cert, --tls-key, --tls-ca)"
	case wrongCertificate:
		return "the caller's certificate is that of another node"
	}
	return fmt.Sprintf("verdict %d", byte(v))
}

// Error makes a verdict the error of the connection that it refuses.
func (v verdict) Error() string { return v.String() }

// tlsHandshake is how a connection with TLS begins.
var tlsHandshake = []byte{0x16, 0x03}

// hello is the caller's part of the handshake.
type hello struct {
	kind    connKind
	cluster uuid.UUID
	epoch   uuid.UUID
	caller  uuid.UUID
	target  uuid.UUID
}

var (
	errNotANode     = errors.New("the other side is not a node")
	errSpeaksTLS    = fmt.Errorf("%w without TLS, as this node is: start both with a node certificate (--tls-cert, --tls-key, --tls-ca)", errNotANode)
	errWrongVersion = errors.New(wrongVersion.String())
)

func (h hello) write(w io.Writer) error {
	b := make([]byte, 0, helloSize)
	b = append(b, handshakeMagic...)
	b = append(b, handshakeVersion, byte(h.kind))
	b = append(b, h.cluster[:]...)
	b = append(b, h.epoch[:]...)
	b = append(b, h.caller[:]...)
	b = append(b, h.target[:]...)
	_, err := w.Write(b)
	return err
}

// readHello reads no byte beyond the hello. It stops early at what cannot become one.
func readHello(r io.Reader) (hello, error) {
	var b [helloSize]byte
	if _, err := io.ReadFull(r, b[:helloHead]); err != nil {
		return hello{}, fmt.Errorf("%w: %w", errNotANode, err)
	}
	if bytes.HasPrefix(b[:], tlsHandshake) {
		return hello{}, errSpeaksTLS
	}
	if string(b[:len(handshakeMagic)]) != handshakeMagic {
		return hello{}, errNotANode
	}
	if b[len(handshakeMagic)] != handshakeVersion {
		return hello{}, errWrongVersion
	}
	if _, err := io.ReadFull(r, b[helloHead:]); err != nil {
		return hello{}, fmt.Errorf("%w: %w", errNotANode, err)
	}
	h := hello{kind: connKind(b[helloHead-1])}
	ids := b[helloHead:]
	copy(h.cluster[:], ids)
	copy(h.epoch[:], ids[16:])
	copy(h.caller[:], ids[32:])
	copy(h.target[:], ids[48:])
	return h, nil
}

func writeReply(w io.Writer, v verdict) error {
	_, err := w.Write(append([]byte(handshakeMagic), handshakeVersion, byte(v)))
	return err
}

func readReply(r io.Reader) (verdict, error) {
	var b [replySize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", errNotANode, err)
	}
	if string(b[:len(handshakeMagic)]) != handshakeMagic {
		return 0, errNotANode
	}
	return verdict(b[replySize-1]), nil
}
