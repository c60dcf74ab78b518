package rest

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// forwarded are the headers that go on as metadata. Everything else stays here:
// metadata may carry what only nodes may say to each other.
var forwarded = []string{"Authorization", "Remit-Consistency", "Remit-Token", "Remit-Request-Id"}

// callContext makes the context of the call: the request's own, with the forwarded
// headers as metadata and the address the request came from.
func callContext(r *http.Request) (context.Context, error) {
	md := metadata.MD{}
	for _, name := range forwarded {
		values := r.Header.Values(name)
		switch {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
			continue
		case len(values) > 1:
			return nil, status.Errorf(codes.InvalidArgument, "header %s is given %d times", name, len(values))
		case !printable(values[0]):
			code := codes.InvalidArgument
			if name == "Authorization" {
				code = codes.Unauthenticated
			}
			// The value may be a secret.
			return nil, status.Errorf(code, "header %s has characters that are not printable ASCII", name)
		}
		md.Set(name, values[0])
	}
	ctx := metadata.NewOutgoingContext(r.Context(), md)
	return peer.NewContext(ctx, &peer.Peer{Addr: address(r.RemoteAddr)}), nil
}

// printable says whether text may be a metadata value.
func printable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// writeMetadata sets the headers of the answer that the call set.
func writeMetadata(w http.ResponseWriter, md metadata.MD) {
	for name, values := range md {
		if strings.HasPrefix(name, "remit-") {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
	}
}

// An address is where a request came from, as net/http writes it.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
