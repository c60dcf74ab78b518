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

// KeyPrefix begins the secret of every key.
const KeyPrefix = "remit_"

// A call is what is known of a request before its handler runs: who asks for
// what, and which management rights that took, at which state.
type call struct {
	state        *fsm.State
	key          *fsm.Key
	organisation *fsm.Organisation
	method       string
	request      any
	requires     []fsm.Requirement
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// Interceptor stands before every handler: it authenticates the caller, and
// authorizes the call at the one point where that happens.
func (s *Server) Interceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if public[methodOf(info.FullMethod)] {
		received(ctx)
		return handler(ctx, req)
	}
	c, err := s.admit(ctx)
	if err != nil {
		return nil, err
	}
	c.method, c.request = info.FullMethod, req
	if c.requires, err = c.authorize(); err != nil {
		return nil, statusOf(err)
	}
	resp, err := handler(context.WithValue(ctx, callKey{}, c), req)
	if err != nil {
		return nil, statusOf(err)
	}
	return resp, nil
}

// Tap refuses a gRPC call without a valid key by its headers alone, before the
// node reads and decodes a message of a stranger's; of the methods that need no
// key it lets some at a time through.
func (s *Server) Tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	method := methodOf(info.FullMethodName)
	if method == joinMethod && s.cluster != nil {
		if err := s.mayJoin(); err != nil {
			return ctx, err
		}
		return s.receivePublic(ctx)
	}
	if public[method] {
		return s.receivePublic(ctx)
	}
	_, err := s.admit(metadata.NewIncomingContext(ctx, info.Header))
	return ctx, err
}

// Admit is Tap for a Local: it takes the context of a call before its message is
// there.
func (s *Server) Admit(ctx context.Context) error {
	sent, _ := metadata.FromOutgoingContext(ctx)
	_, err := s.admit(metadata.NewIncomingContext(ctx, sent))
	return err
}

// admit finds out who calls. Interceptor asks anew after Tap: a key may end while
// a message is under way.
func (s *Server) admit(ctx context.Context) (*call, error) {
	if s.cluster != nil && !s.cluster.HasCluster() {
		return nil, unavailable("this node belongs to no cluster yet: remit join makes it join one")
	}
	if err := s.fresh.started(); err != nil {
		return nil, err
	}
	return authenticate(ctx, s.store.State())
}

// LocalInterceptor is Interceptor for a Local: it repeats the answer's token as
// metadata, for translators to protocols with headers. gRPC clients read the
// field.
func (s *Server) LocalInterceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := s.Interceptor(ctx, req, info, handler)
	if r, ok := resp.(interface{ GetToken() string }); ok && err == nil {
		err = grpc.SetHeader(ctx, metadata.Pairs(metadataToken, r.GetToken()))
	}
	return resp, err
}

// StreamInterceptor is Interceptor for streams, which the node that is asked
// answers itself.
func (s *Server) StreamInterceptor(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	method := methodOf(info.FullMethod)
	if method == joinMethod && s.cluster != nil {
		if err := s.mayJoin(); err != nil {
			return err
		}
	} else if !public[method] {
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

func authenticate(ctx context.Context, state *fsm.State) (*call, error) {
	values := metadata.ValueFromIncomingContext(ctx, metadataAuthorization)
	if len(values) == 0 {
		return nil, unauthenticated("no API key: send the header 'Authorization: Bearer <key>'")
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return nil, unauthenticated("malformed credentials: send one header 'Authorization: Bearer <key>'")
	}
	return callWith(sha256.Sum256([]byte(secret)), state)
}

// actor is the principal that the caller is.
func (c *call) actor() string { return fsm.KeyPrincipal(c.key.ID) }

// callWith finds a key by its hash, so the time of a look-up says nothing about the
// secrets of others.
func callWith(hash [32]byte, state *fsm.State) (*call, error) {
	key, organisation, ok := state.Key(hash)
	if !ok {
		return nil, unauthenticated("the API key is not valid: check that it is complete, of this cluster, and not invalidated")
	}
	return &call{state: state, key: key, organisation: organisation}, nil
}

// allowedAt authorizes the call once more, at the state that its answer comes
// from: a right may have ended while the call waited for that.
func (c *call) allowedAt(state *fsm.State) error {
	if state == c.state {
		return nil
	}
	again, err := callWith(c.key.Hash, state)
	if err != nil {
		return err
	}
	again.method, again.request = c.method, c.request
	_, err = again.authorize()
	return err
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
