package server

import (
	"context"
	"crypto/sha256"
	"strings"

	"github.com/remit-io/remit/fsm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"
)

// Metadata that a caller may send beside a request.
const (
	metadataAuthorization = "authorization"
	metadataConsistency   = "remit-consistency"
	metadataToken         = "remit-token"
	metadataRequestID     = "remit-request-id"
)

// Metadata of an answer, beside its token.
const (
	metadataNode     = "remit-node"     // id of the node that answered
	metadataRevision = "remit-revision" // of the state that it answered from
)

// KeyPrefix begins the secret of every key.
const KeyPrefix = "remit_"

// A call is what is known of a request before its handler runs: who asks for
// what, and which management rights that took, at which state.
type call struct {
	state        *fsm.State // the call is judged at it, and a read is answered from it
	key          *fsm.Key
	organisation *fsm.Organisation
	method       string
	request      any
	requires     []fsm.Requirement

	origin  *origin // of a call that the leader runs
	settled bool    // what it came to stands in the log
	token   string  // of the state that it led to; empty for that of state
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// An answer is what a call came to, and where.
type answer struct {
	resp   any
	call   *call       // as it was judged on this node; nil if it was not
	header metadata.MD // of the leader's answer, if that is whose it is
}

// settled reports whether what the call came to stands in the log.
func (a answer) settled() bool { return a.call != nil && a.call.settled }

// Interceptor stands before every handler: it authenticates the caller, and
// authorizes the call at the one point where that happens. What the leader has to
// do is passed on to it.
func (s *Server) Interceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	a, err := s.serve(ctx, req, info, handler)
	return a.resp, statusOf(err)
}

// LocalInterceptor is Interceptor for a Local: it says as metadata what state and
// node the answer came from, for translators to protocols with headers. gRPC
// clients read the answer's token.
func (s *Server) LocalInterceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	a, err := s.serve(ctx, req, info, handler)
	if headerErr := grpc.SetHeader(ctx, s.headerOf(a)); err == nil {
		err = headerErr
	}
	return a.resp, statusOf(err)
}

func (s *Server) serve(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer, error) {
	method := methodOf(info.FullMethod)
	if public[method] {
		received(ctx)
		resp, err := handler(ctx, req)
		return answer{resp: resp}, err
	}
	c, err := s.admit(ctx)
	received(ctx)
	if err != nil {
		return answer{}, err
	}
	c.method, c.request = info.FullMethod, req
	switch r, known := rules[method]; {
	case !known:
		return answer{call: c}, denied("method '%s' is not open to anyone", c.method)
	case r.runs != anyNode:
		return s.lead(ctx, c, r, handler)
	}
	state := s.store.State()
	if r, ok := req.(reader); ok {
		if state, err = s.readState(ctx, r); err != nil {
			return answer{call: c}, err
		}
	}
	// The state first and then the caller's authority at it: a right that was given
	// before counts, and one that has ended does not.
	if c, err = c.at(state); err != nil {
		return answer{}, err
	}
	resp, err := c.run(ctx, handler)
	return answer{resp: resp, call: c}, err
}

// run runs the call's handler, if the caller may make the call.
func (c *call) run(ctx context.Context, handler grpc.UnaryHandler) (resp any, err error) {
	if c.requires, err = c.authorize(); err != nil {
		return nil, err
	}
	return handler(context.WithValue(ctx, callKey{}, c), c.request)
}

// headerOf words what is known of where an answer came from.
func (s *Server) headerOf(a answer) metadata.MD {
	if a.header != nil {
		return a.header
	}
	md := metadata.MD{}
	if s.nodeID != "" {
		md.Set(metadataNode, s.nodeID)
	}
	text := ""
	if r, ok := a.resp.(interface{ GetToken() string }); ok {
		text = r.GetToken()
	}
	if text == "" && a.call != nil {
		if text = a.call.token; text == "" {
			text = s.tokenOf(a.call.state)
		}
	}
	if t, ok := parseToken(text); ok {
		md.Set(metadataToken, text)
		md.Set(metadataRevision, t.revisionText())
	}
	return md
}

// Tap refuses a gRPC call without a key by its headers alone, before the node reads
// a message of a stranger's. Of the methods that need no key it lets some at a time
// through, and some with a key that this node does not know, which may have been
// created a moment ago: those wait behind it, before their message is read,
// since Tap holds up its whole connection.
func (s *Server) Tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	method := methodOf(info.FullMethodName)
	if s.isPublic(method) {
		return s.receivePublic(ctx)
	}
	if err := s.answers(); err != nil {
		return ctx, err
	}
	hash, err := hashOf(metadata.NewIncomingContext(ctx, info.Header))
	if err != nil {
		return ctx, err
	}
	if _, err := callWith(hash, s.store.State()); err != nil {
		if held, ok := hold(ctx, s.strangers); ok {
			return held, nil
		}
		return ctx, unconfirmed(errStrangers)
	}
	return ctx, nil
}

// Admit is Tap for a Local: it takes the context of a call before its message is
// there.
func (s *Server) Admit(ctx context.Context) error {
	sent, _ := metadata.FromOutgoingContext(ctx)
	_, err := s.admit(metadata.NewIncomingContext(ctx, sent))
	return err
}

// answers fails on a node that has no state to judge calls by.
func (s *Server) answers() error {
	if s.cluster != nil && !s.cluster.HasCluster() {
		return unavailable("this node belongs to no cluster yet: %s", s.cluster.Waiting())
	}
	err := s.fresh.started()
	if err != nil && s.cluster != nil {
		if why := s.cluster.Waiting(); why != "" {
			return unavailable("this node is not ready: %s", why)
		}
	}
	return err
}

// admit finds out who calls. The interceptors ask anew after Tap: a key may end
// while a message is under way. UNAUTHENTICATED ends a client's attempts, so no key
// is called invalid by a state that may be older than the key.
func (s *Server) admit(ctx context.Context) (*call, error) {
	if err := s.answers(); err != nil {
		return nil, err
	}
	hash, err := hashOf(ctx)
	if err != nil {
		return nil, err
	}
	c, err := callWith(hash, s.store.State())
	if err == nil {
		return c, nil
	}
	// Another node may have created the key a moment ago.
	newest, err := s.newestForStranger(ctx)
	if err != nil {
		return nil, unconfirmed(err)
	}
	return callWith(hash, newest)
}

// StreamInterceptor is Interceptor for streams, which the node that is asked
// answers itself.
func (s *Server) StreamInterceptor(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	method := methodOf(info.FullMethod)
	if !s.isPublic(method) {
		authorized, err := s.authorized(stream, info)
		if err != nil {
			return err
		}
		return statusOf(handler(srv, authorized))
	}
	return statusOf(handler(srv, publicStream{stream}))
}

// single returns metadata that a caller sends once at most, empty if it was not
// sent: of two values, neither is meant more than the other.
func single(ctx context.Context, name string) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, name)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", invalid("%s is given %d times: send it once", name, len(values))
	}
	return values[0], nil
}

// hashOf reads the key that a call is made with. A key is found by its hash, so
// the time of a look-up says nothing about the secrets of others.
func hashOf(ctx context.Context) ([32]byte, error) {
	values := metadata.ValueFromIncomingContext(ctx, metadataAuthorization)
	if len(values) == 0 {
		return [32]byte{}, unauthenticated("no API key: send the header 'Authorization: Bearer <key>'")
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return [32]byte{}, unauthenticated("malformed credentials: send one header 'Authorization: Bearer <key>'")
	}
	return sha256.Sum256([]byte(secret)), nil
}

// actor is the principal that the caller is.
func (c *call) actor() string { return fsm.KeyPrincipal(c.key.ID) }

func callWith(hash [32]byte, state *fsm.State) (*call, error) {
	key, organisation, ok := state.Key(hash)
	if !ok {
		return nil, unauthenticated("the API key is not valid: check that it is complete, of this cluster, and not invalidated")
	}
	return &call{state: state, key: key, organisation: organisation}, nil
}

// at is the call at another state, yet to be authorized there.
func (c *call) at(state *fsm.State) (*call, error) {
	if state == c.state {
		return c, nil
	}
	again, err := callWith(c.key.Hash, state)
	if err != nil {
		return nil, err
	}
	again.method, again.request, again.origin = c.method, c.request, c.origin
	return again, nil
}

// allowedAt authorizes the call once more, at the state that its answer comes
// from: a right may have ended while the call waited for that.
func (c *call) allowedAt(state *fsm.State) error {
	again, err := c.at(state)
	if err == nil {
		_, err = again.authorize()
	}
	return err
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
