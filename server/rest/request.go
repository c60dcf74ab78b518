package rest

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxBody is how many bytes a request's body may have.
const maxBody = 4 << 20

// fill makes the request message: POST and PUT take the fields from the body, the
// other methods from the query, and all of them the path's variables.
func fill(m proto.Message, w http.ResponseWriter, r *http.Request, variables []variable) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "query: %v", err)
	}
	message := m.ProtoReflect()
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if len(query) > 0 {
			return status.Errorf(codes.InvalidArgument, "unknown query parameter %s: %s takes its fields from the body",
				names(slices.Sorted(maps.Keys(query))), r.Method)
		}
		if err := readBody(m, w, r); err != nil {
			return err
		}
		return setVariables(message, variables)
	}
	if err := noBody(r); err != nil {
		return err
	}
	if err := setQuery(message, query, variables); err != nil {
		return err
	}
	return setVariables(message, variables)
}

// setVariables sets what the path says. A body may repeat it, not contradict it.
func setVariables(m protoreflect.Message, variables []variable) error {
	for _, v := range variables {
		field := m.Descriptor().Fields().ByName(protoreflect.Name(v.name))
		if body := m.Get(field).String(); body != "" && body != v.value {
			return status.Errorf(codes.InvalidArgument, "%s is %s in the body and %s in the path", v.name, quote(body), quote(v.value))
		}
		m.Set(field, protoreflect.ValueOfString(v.value))
	}
	return nil
}

// setQuery sets the fields that query parameters name.
func setQuery(m protoreflect.Message, query url.Values, variables []variable) error {
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		inPath := slices.ContainsFunc(variables, func(v variable) bool { return v.name == name })
		target, field := parameter(m, name)
		if field == nil || inPath {
			unknown = append(unknown, name)
			continue
		}
		if n := len(query[name]); n > 1 {
			return status.Errorf(codes.InvalidArgument, "query parameter %s is given %d times", name, n)
		}
		value, err := parse(field, query.Get(name))
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "query parameter %s: %s %v", name, quote(query.Get(name)), err)
		}
		target.Set(field, value)
	}
	if len(unknown) > 0 {
		return status.Errorf(codes.InvalidArgument, "unknown query parameter %s", names(unknown))
	}
	return nil
}

// parameter answers the field that a query parameter sets and the message that
// holds it: the request or, for limit and cursor, its pagination.
func parameter(m protoreflect.Message, name string) (protoreflect.Message, protoreflect.FieldDescriptor) {
	fields := m.Descriptor().Fields()
	if field := fields.ByName(protoreflect.Name(name)); field != nil {
		if field.Message() != nil || field.IsList() {
			return nil, nil
		}
		return m, field
	}
	pagination := fields.ByName("pagination")
	if pagination == nil {
		return nil, nil
	}
	field := pagination.Message().Fields().ByName(protoreflect.Name(name))
	if field == nil {
		return nil, nil
	}
	return m.Mutable(pagination).Message(), field
}

// parse reads the text of a query parameter as a field's value. Its error goes on
// after the text.
func parse(field protoreflect.FieldDescriptor, text string) (protoreflect.Value, error) {
	switch field.Kind() {
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return protoreflect.Value{}, errors.New("is not valid UTF-8")
		}
		return protoreflect.ValueOfString(text), nil
	case protoreflect.Int32Kind:
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return protoreflect.Value{}, errors.New("is not a number of 32 bits")
		}
		return protoreflect.ValueOfInt32(int32(number)), nil
	case protoreflect.BoolKind:
		if text != "true" && text != "false" {
			return protoreflect.Value{}, errors.New("is neither true nor false")
		}
		return protoreflect.ValueOfBool(text == "true"), nil
	case protoreflect.EnumKind:
		value := field.Enum().Values().ByName(protoreflect.Name(strings.ToUpper(text)))
		if value == nil {
			return protoreflect.Value{}, errors.New("is not one of the values of " + string(field.Enum().Name()))
		}
		return protoreflect.ValueOfEnum(value.Number()), nil
	}
	return protoreflect.Value{}, errors.New("cannot be given in a query")
}

// noBody refuses a body on a method that takes none.
func noBody(r *http.Request) error {
	var first [1]byte
	switch n, err := io.ReadFull(r.Body, first[:]); {
	case n > 0:
		return status.Errorf(codes.InvalidArgument, "%s takes its fields from the query, not from a body", r.Method)
	case err != io.EOF:
		return status.Errorf(codes.InvalidArgument, "reading the body: %v", err)
	}
	return nil
}

// readBody reads a message from the body, which is one JSON object.
func readBody(m proto.Message, w http.ResponseWriter, r *http.Request) error {
	if contentType := strings.Join(r.Header.Values("Content-Type"), ", "); contentType != "" {
		if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
			return status.Errorf(codes.InvalidArgument, "Content-Type %s is not application/json: send the header 'Content-Type: application/json'", quote(contentType))
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if maxBytes := (*http.MaxBytesError)(nil); errors.As(err, &maxBytes) {
		// A client that writes all before it reads gets its answer only if what it
		// writes is read; one that goes on writing is cut off.
		_, _ = io.CopyN(io.Discard, r.Body, 4*maxBody)
		return refuse(http.StatusRequestEntityTooLarge, codes.InvalidArgument, "the body is over %d bytes", maxBody)
	}
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "reading the body: %v", err)
	}
	start := bytes.TrimLeft(body, " \t\r\n")
	if len(start) == 0 {
		return status.Error(codes.InvalidArgument, "the body is empty, not a JSON object")
	}
	if start[0] != '{' {
		return status.Errorf(codes.InvalidArgument, "the body is not a JSON object: %s", quote(string(start[:min(len(start), maxQuote+1)])))
	}
	if err := protojson.Unmarshal(body, m); err != nil {
		// The library begins its messages with its name and one of two kinds of space.
		message := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
		return status.Errorf(codes.InvalidArgument, "body: %s", shorten(message, 4*maxQuote))
	}
	return nil
}

// maxQuote is how many bytes of a caller's text a message repeats.
const maxQuote = 128

// quote answers a caller's text for a message.
func quote(text string) string {
	return strconv.Quote(shorten(text, maxQuote))
}

// names answers the first few of the names for a message.
func names(all []string) string {
	const most = 8
	var quoted []string
	for _, name := range all[:min(len(all), most)] {
		quoted = append(quoted, quote(name))
	}
	if len(all) > most {
		quoted = append(quoted, "…")
	}
	return strings.Join(quoted, ", ")
}

// shorten cuts a text to about size bytes, between characters.
func shorten(text string, size int) string {
	if len(text) <= size {
		return text
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size] + "…"
}
