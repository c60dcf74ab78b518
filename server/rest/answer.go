package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// statuses are the HTTP statuses of the gRPC codes that callers may meet. Every
// other code is a fault of ours and is answered as INTERNAL.
var statuses = map[codes.Code]int{
	codes.Canceled:          499, // nobody reads it; nginx's number for logs
	codes.InvalidArgument:   http.StatusBadRequest,
	codes.DeadlineExceeded:  http.StatusGatewayTimeout,
	codes.NotFound:          http.StatusNotFound,
	codes.AlreadyExists:     http.StatusConflict,
	codes.PermissionDenied:  http.StatusForbidden,
	codes.ResourceExhausted: http.StatusTooManyRequests,
	codes.Unimplemented:     http.StatusNotImplemented,
	codes.Internal:          http.StatusInternalServerError,
	codes.Unavailable:       http.StatusServiceUnavailable,
	codes.Unauthenticated:   http.StatusUnauthorized,
}

// A refusal is an error whose HTTP status does not follow from its code.
type refusal struct {
	status  int
	code    codes.Code
	message string
}

func (e *refusal) Error() string { return e.message }

func refuse(status int, code codes.Code, format string, args ...any) error {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// refusalOf gives any error its status and code.
func refusalOf(err error) *refusal {
	if e := (*refusal)(nil); errors.As(err, &e) {
		return e
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	if httpStatus, ok := statuses[s.Code()]; ok {
		return &refusal{httpStatus, s.Code(), s.Message()}
	}
	return &refusal{http.StatusInternalServerError, codes.Internal, s.Message()}
}

// writeError answers {"error":{"code":…,"message":…}} with the gRPC code.
func writeError(w http.ResponseWriter, err error) {
	e := refusalOf(err)
	type detail struct {
		Code    codes.Code `json:"code"`
		Message string     `json:"message"`
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(map[string]detail{"error": {e.code, e.message}}) // a number and a string cannot fail
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	write(w, e.status, body.Bytes())
}

// writeMessage answers a message with its unset fields.
func writeMessage(w http.ResponseWriter, m proto.Message) {
	// Unset, it would be null, which callers cannot ask for a next_cursor.
	message := m.ProtoReflect()
	if field := message.Descriptor().Fields().ByName("pagination"); field != nil && !message.Has(field) {
		message.Mutable(field)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	var body bytes.Buffer
	if err == nil {
		// protojson's spaces differ from build to build.
		err = json.Compact(&body, text)
	}
	if err != nil {
		writeError(w, status.Errorf(codes.Internal, "writing the answer: %v", err))
		return
	}
	body.WriteByte('\n')
	write(w, http.StatusOK, body.Bytes())
}

// write sends an answer. When it fails the caller has gone.
func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
