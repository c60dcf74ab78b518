package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/remit-io/remit/fsm"
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
	// maxStrangers bounds the calls under way with a key that this node does not know,
	// and strangerTimeout how long each waits for news of it.
	maxStrangers    = 64
	strangerTimeout = time.Second
	// maxPublicName bounds the names in their messages, which a stream keeps.
	maxPublicName = 256
)

// errStrangers is why one stranger more does not wait.
var errStrangers = fmt.Errorf("%d calls with keys that this node does not know are under way", maxStrangers)

type receiveKey struct{}

// receivePublic takes a place for a call without a key, which received gives back.
func (s *Server) receivePublic(ctx context.Context) (context.Context, error) {
	held, ok := hold(ctx, s.publicReceives)
	if !ok {
		return ctx, status.Errorf(codes.ResourceExhausted, "%d calls without a key are being received: retry", maxPublicReceives)
	}
	return held, nil
}

// hold takes one of the places for a call of a stranger's, if there is one left.
// received gives it back. The call ends if its message does not come.
func hold(ctx context.Context, places chan struct{}) (context.Context, bool) {
	select {
	case places <- struct{}{}:
	default:
		return ctx, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(publicReceiveTimeout, func() { cancel(context.DeadlineExceeded) })
	release := sync.OnceFunc(func() {
		late.Stop()
		<-places
	})
	context.AfterFunc(ctx, release) // however the call ends
	return context.WithValue(ctx, receiveKey{}, release), true
}

// newestForStranger returns a state with all that was acknowledged before. Some
// strangers at a time may ask for it, and wait for a while.
func (s *Server) newestForStranger(ctx context.Context) (*fsm.State, error) {
	if ctx.Value(receiveKey{}) == nil { // Tap has taken none
		select {
		case s.strangers <- struct{}{}:
			defer func() { <-s.strangers }()
		default:
			return nil, errStrangers
		}
	}
	ctx, cancel := context.WithTimeout(ctx, strangerTimeout)
	defer cancel()
	return s.newest(ctx)
}

// unconfirmed words why it is not known whether a key is valid that this node does
// not know.
func unconfirmed(err error) error {
	return unavailable("it cannot be confirmed now whether the API key is valid: %s; retry", strings.TrimSuffix(reason(err), "; retry"))
}

// guarded registers services whose handlers do not read the message of a stranger
// that Tap let through before it is known whose it is.
type guarded struct {
	grpc.ServiceRegistrar
	server *Server
}

// RegisterService adds a service.
func (g guarded) RegisterService(desc *grpc.ServiceDesc, service any) {
	own := *desc
	own.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		own.Methods[i].Handler = func(service any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			if ctx.Value(receiveKey{}) != nil {
				if _, err := g.server.admit(ctx); err != nil {
					return nil, statusOf(err)
				}
			}
			return m.Handler(service, ctx, decode, interceptor)
		}
	}
	g.ServiceRegistrar.RegisterService(&own, service)
}

// received says that a stranger's first message is there, and that it is known
// whose it is.
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
