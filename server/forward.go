package server

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Metadata that nodes say to each other. It is honoured on connections between
// nodes alone; elsewhere it is not even read.
const (
	metadataForwarded = "remit-forwarded" // the call was passed on: do not pass it on again
	metadataPeer      = "remit-peer"      // the caller's address, as the first node saw it
	metadataSeed      = "remit-seed"      // what the call draws from
	metadataOutcome   = "remit-outcome"   // trailer of each answer: what became of the call
)

// What the leader says of a call that was passed on to it. Where it says nothing,
// the answer is not its own but the connection's.
const (
	outcomeAnswered   = "answered"
	outcomeRefused    = "refused" // by the state, as it is now: nothing of it is in the log
	outcomeNotApplied = "not-applied"
	outcomeUnknown    = "unknown"
	outcomeExhausted  = "exhausted"
)

// maxForwardedAnswer bounds what another node answers, in bytes.
const maxForwardedAnswer = 16 << 20

// forward passes a call on to the leader, with the credential it came with.
func (s *Server) forward(ctx context.Context, conn grpc.ClientConnInterface, c *call) (answer, error) {
	reply, err := newReply(c.method)
	if err != nil {
		return answer{call: c}, err
	}
	// Nothing of the caller's own metadata goes on, but what is named here.
	md := metadata.Pairs(
		metadataForwarded, "1",
		metadataPeer, c.origin.peer,
		metadataSeed, hex.EncodeToString(c.origin.seed[:]),
		metadataRequestID, hex.EncodeToString(c.origin.request[:]),
	)
	for _, name := range []string{metadataAuthorization, metadataConsistency, metadataToken} {
		md.Append(name, metadata.ValueFromIncomingContext(ctx, name)...)
	}
	var (
		header, trailer metadata.MD
		reached         peer.Peer
	)
	err = conn.Invoke(metadata.NewOutgoingContext(ctx, md), c.method, c.request, reply,
		grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&reached), grpc.MaxCallRecvMsgSize(maxForwardedAnswer))
	a := answer{call: c, header: answerHeader(header)}
	outcome := ""
	if said := trailer.Get(metadataOutcome); len(said) == 1 {
		outcome = said[0]
	}
	switch {
	case err == nil:
		a.resp = reply
		return a, nil
	case outcome == outcomeAnswered:
		c.settled = true
		return a, err
	case outcome == outcomeRefused:
		return a, err
	case outcome == outcomeExhausted:
		return a, &undecided{certain: true, exhausted: true, cause: err}
	case outcome == outcomeNotApplied, outcome == "" && reached.Addr == nil: // no connection was there to send it over
		return a, &undecided{certain: true, cause: err}
	default:
		return a, &undecided{cause: err}
	}
}

// answerHeader is what the caller is told of another node's header; nil if there
// is nothing.
func answerHeader(header metadata.MD) metadata.MD {
	var told metadata.MD
	for _, name := range []string{metadataNode, metadataToken, metadataRevision} {
		if values := header.Get(name); len(values) > 0 {
			if told == nil {
				told = metadata.MD{}
			}
			told.Set(name, values...)
		}
	}
	return told
}

// newReply returns an empty message of the kind that the method answers.
func newReply(method string) (proto.Message, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(found.(protoreflect.MethodDescriptor).Output().FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// NodeInterceptor is Interceptor for connections between nodes. A call that
// another node has passed on is authenticated and authorized as if it came here
// first, and it is not passed on again: if this node does not lead, the answer says
// that the call certainly did nothing. What another node asks of its own accord
// goes the way of every call.
func (s *Server) NodeInterceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if len(metadata.ValueFromIncomingContext(ctx, metadataForwarded)) == 0 {
		return s.Interceptor(ctx, req, info, handler)
	}
	a, err := s.serveForwarded(ctx, req, info, handler)
	outcome := outcomeAnswered
	if err != nil && !a.settled() {
		outcome = outcomeRefused
	}
	if u := (*undecided)(nil); errors.As(err, &u) {
		outcome = outcomeUnknown
		switch {
		case u.exhausted:
			outcome = outcomeExhausted
		case u.certain:
			outcome = outcomeNotApplied
		}
		err = unavailable("%s", reason(u.cause))
	}
	err = statusOf(err)
	if headerErr := errors.Join(grpc.SetHeader(ctx, s.headerOf(a)), grpc.SetTrailer(ctx, metadata.Pairs(metadataOutcome, outcome))); err == nil {
		err = headerErr
	}
	return a.resp, err
}

// NodeTap is Tap for connections between nodes. It leaves calls that were passed on
// to NodeInterceptor, which says of each what became of it.
func (s *Server) NodeTap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if len(info.Header.Get(metadataForwarded)) > 0 {
		return ctx, nil
	}
	return s.Tap(ctx, info)
}

func (s *Server) serveForwarded(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer, error) {
	if r, known := rules[methodOf(info.FullMethod)]; !known || r.runs == anyNode {
		return answer{}, denied("method '%s' is none that nodes pass on", info.FullMethod)
	}
	o, err := forwardedOrigin(ctx)
	if err != nil {
		return answer{}, err
	}
	hash, err := hashOf(ctx)
	if err != nil {
		return answer{}, err
	}
	_, self, err := s.log.Leader(ctx)
	if err != nil {
		return answer{}, &undecided{certain: true, cause: err}
	}
	if !self {
		return answer{}, certainly("node %s does not lead any more", s.nodeID)
	}
	c, err := callWith(hash, s.store.State())
	if err != nil {
		newest, confirmErr := s.newest(ctx)
		if confirmErr != nil {
			return answer{}, &undecided{certain: true, cause: confirmErr}
		}
		if c, err = callWith(hash, newest); err != nil {
			return answer{}, err
		}
	}
	c.method, c.request, c.origin = info.FullMethod, req, o
	return s.runAsLeader(ctx, c, handler)
}

// forwardedOrigin reads what the first node fixed.
func forwardedOrigin(ctx context.Context) (*origin, error) {
	request, err := requestID(ctx)
	if err != nil {
		return nil, err
	}
	text, err := single(ctx, metadataSeed)
	if err != nil {
		return nil, err
	}
	drawn, err := hex.DecodeString(text)
	if err != nil || len(drawn) != len(seed{}) {
		return nil, invalid("malformed %s: run the same release on all nodes", metadataSeed)
	}
	from, err := single(ctx, metadataPeer)
	return &origin{request, seed(drawn), from}, err
}
