package server

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// public are the methods that need no key.
var public = map[string]bool{
	"Health/Check":                          true,
	"Health/List":                           true,
	"Health/Watch":                          true,
	"ServerReflection/ServerReflectionInfo": true,
}

const (
	// maxPublicReceives bounds the calls of strangers that have not sent their first
	// message whole: each may hold as much memory as a message may have.
	maxPublicReceives = 64
	// publicReceiveTimeout is how long they may take for that.
	publicReceiveTimeout = 10 * time.Second
	// maxPublicName bounds the names in their messages, which a stream keeps.
	maxPublicName = 256
)

type receiveKey struct{}

// receivePublic takes a place for a call without a key, which received gives back.
func (s *Server) receivePublic(ctx context.Context) (context.Context, error) {
	select {
	case s.publicReceives <- struct{}{}:
	default:
		return ctx, status.Errorf(codes.ResourceExhausted, "%d calls without a key are being received: retry", maxPublicReceives)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(publicReceiveTimeout, func() { cancel(context.DeadlineExceeded) })
	release := sync.OnceFunc(func() {
		late.Stop()
		<-s.publicReceives
	})
	context.AfterFunc(ctx, release) // however the call ends
	return context.WithValue(ctx, receiveKey{}, release), nil
}

// received says that a call's first message is there.
func received(ctx context.Context) {
	if release, ok := ctx.Value(receiveKey{}).(func()); ok {
		release()
	}
}

// A publicStream bounds what a stream without a key may ask.
type publicStream struct{ grpc.ServerStream }

// RecvMsg receives one message.
func (s publicStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	received(s.Context())
	if r, ok := m.(interface{ GetService() string }); ok && len(r.GetService()) > maxPublicName {
		return invalid("the service's name has %d bytes, %d at most", len(r.GetService()), maxPublicName)
	}
	return nil
}
