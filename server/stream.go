package server

import (
	"context"
	"sync"

	"google.golang.org/grpc"
)

// steps tells a caller over a stream what is under way.
type steps[M any] struct {
	word func(step string) *M

	mu     sync.Mutex
	stream grpc.ServerStreamingServer[M]
	failed error
}

func newSteps[M any](stream grpc.ServerStreamingServer[M], word func(step string) *M) *steps[M] {
	return &steps[M]{stream: stream, word: word}
}

// step tells in words. Whoever went away is told nothing: what was begun goes on by
// its context.
func (s *steps[M]) step(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = s.stream.Send(s.word(text))
	}
}

func (s *steps[M]) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// An authorizedStream is a call with one request and many answers. Its request
// comes after the interceptor, so it is judged as it comes.
type authorizedStream struct {
	grpc.ServerStream
	call *call
	ctx  context.Context
}

// authorized is StreamInterceptor for a method that needs a key.
func (s *Server) authorized(stream grpc.ServerStream, info *grpc.StreamServerInfo) (*authorizedStream, error) {
	c, err := s.admit(stream.Context())
	received(stream.Context())
	if err != nil {
		return nil, err
	}
	c.method = info.FullMethod
	// A handler that receives many requests may do something before the first.
	if _, ok := rules[methodOf(c.method)]; !ok || info.IsClientStream {
		return nil, denied("method '%s' is not open to anyone", c.method)
	}
	return &authorizedStream{stream, c, context.WithValue(stream.Context(), callKey{}, c)}, nil
}

// Context carries the call.
func (s *authorizedStream) Context() context.Context { return s.ctx }

// RecvMsg receives the request, or an error that says why the caller may not make it.
func (s *authorizedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.call.request = m
	requires, err := s.call.authorize()
	s.call.requires = requires
	return statusOf(err)
}
