// Package rest serves the permissions service and the organisation service as
// JSON over HTTP: it finds the gRPC method that a method and path stand for, makes
// the request message from path, query and body, and writes the answer. It
// decides nothing else.
//
// The routes are matched here and not by grpc-gateway, whose mux would need
// bending at every turn to be as strict as the service promises to be: no
// unescaping mode of its suits both a principal with an escaped slash and a
// resource URI, and it ignores unknown query parameters, empty bodies and what
// follows a body's JSON value. What is left of its work is a table of routes
// for each service and one call of protojson each way.
package rest

import (
	"context"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Handler serves /permissions-service/v1 and /organisation-service/v1 by calls of
// the two services on conn. Every other path is answered as an unknown one.
//
// admit judges a call by its headers, as the context carries them for conn: one
// that it fails is answered before its body is read. nil admits every call.
//
// node is this node's id: each answer names it, unless conn's answer names another
// one. It may be empty.
//
// It must be given paths as they came: an http.ServeMux in front of it would
// redirect resource URIs whose leading slash is doubled.
func Handler(conn grpc.ClientConnInterface, admit func(context.Context) error, node string) http.Handler {
	return router{admit, node, append(permissionsRoutes(conn), organisationRoutes(conn)...)}
}

// methods are the calls of one path by HTTP method.
type methods map[string]method

// A method fills a request message, calls one gRPC method with it and answers
// the response message.
type method func(ctx context.Context, fill func(proto.Message) error, opts ...grpc.CallOption) (proto.Message, error)

// unary makes a method of a generated client's function.
func unary[Q, A proto.Message](call func(context.Context, Q, ...grpc.CallOption) (A, error)) method {
	return func(ctx context.Context, fill func(proto.Message) error, opts ...grpc.CallOption) (proto.Message, error) {
		var none Q
		request := none.ProtoReflect().New().Interface().(Q)
		if err := fill(request); err != nil {
			return nil, err
		}
		return call(ctx, request, opts...)
	}
}

// ServeHTTP answers one request.
func (rt router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rt.node != "" {
		w.Header().Set("Remit-Node", rt.node)
	}
	call, variables, err := rt.find(w, r)
	if err != nil {
		writeError(w, err)
		return
	}
	ctx, err := callContext(r)
	if err != nil {
		writeError(w, err)
		return
	}
	if rt.admit != nil {
		if err := rt.admit(ctx); err != nil {
			writeError(w, err)
			return
		}
	}
	var header metadata.MD
	answer, err := call(ctx, func(m proto.Message) error { return fill(m, w, r, variables) }, grpc.Header(&header))
	writeMetadata(w, header)
	if err != nil {
		writeError(w, err)
		return
	}
	writeMessage(w, answer)
}
