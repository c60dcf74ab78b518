package server

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Local is a gRPC connection that never leaves the process: a call to it runs
// the registered handler behind the interceptor, as one from the network would.
// Translators from other protocols call the API through it.
type Local struct {
	interceptor grpc.UnaryServerInterceptor
	methods     map[string]localMethod
}

type localMethod struct {
	service any
	handler grpc.MethodHandler
}

var (
	_ grpc.ClientConnInterface = (*Local)(nil)
	_ grpc.ServiceRegistrar    = (*Local)(nil)
)

// NewLocal returns a connection without services. Register them before its
// first use.
func NewLocal(interceptor grpc.UnaryServerInterceptor) *Local {
	return &Local{interceptor: interceptor, methods: map[string]localMethod{}}
}

// RegisterService adds a service, as to a gRPC server.
func (l *Local) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		l.methods["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{service, m.Handler}
	}
}

// Invoke makes a unary call. Of the options it knows grpc.Header and
// grpc.Trailer.
func (l *Local) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	m, ok := l.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	sent, _ := metadata.FromOutgoingContext(ctx)
	stream := &localStream{method: method}
	ctx = grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(ctx, sent), stream)
	// The handler gets a copy: it may keep or change what a caller still holds.
	decode := func(v any) error {
		proto.Merge(v.(proto.Message), args.(proto.Message))
		return nil
	}
	resp, err := m.handler(m.service, ctx, decode, l.interceptor)
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = stream.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = stream.trailer
		}
	}
	if err != nil {
		return status.Convert(err).Err()
	}
	proto.Merge(reply.(proto.Message), resp.(proto.Message))
	return nil
}

// NewStream fails: the API has no streams.
func (l *Local) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Errorf(codes.Unimplemented, "%s: there are no streams within the process", method)
}

// localStream collects the header and trailer that a handler sets.
type localStream struct {
	method          string
	mu              sync.Mutex
	header, trailer metadata.MD
}

// Method is the full name of the method called.
func (s *localStream) Method() string { return s.method }

// SetHeader adds to the answer's header.
func (s *localStream) SetHeader(md metadata.MD) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header = metadata.Join(s.header, md)
	return nil
}

// SendHeader is SetHeader: nothing is sent before the answer.
func (s *localStream) SendHeader(md metadata.MD) error { return s.SetHeader(md) }

// SetTrailer adds to the answer's trailer.
func (s *localStream) SetTrailer(md metadata.MD) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trailer = metadata.Join(s.trailer, md)
	return nil
}
