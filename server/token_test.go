package server

import (
	"net/url"
	"strings"
	"testing"

	"github.com/remit-io/remit/fsm"
)

func TestToken(t *testing.T) {
	good := token{fsm.ID{1, 2, 3}, fsm.Epoch{4, 5, 6}, 1<<63 + 7}
	text := good.String()
	if got, ok := parseToken(text); !ok || got != good {
		t.Fatalf("%q reads as %v, want %v", text, got, good)
	}
	if escaped := url.QueryEscape(text); escaped != text {
		t.Errorf("%q has to be escaped in a query: %q", text, escaped)
	}
	for i := range text {
		for c := byte(0); c < 0x80; c++ {
			if c == text[i] {
				continue
			}
			if got, ok := parseToken(text[:i] + string(c) + text[i+1:]); ok {
				t.Errorf("with %q at byte %d it reads as %v", c, i, got)
			}
		}
		if _, ok := parseToken(text[:i]); ok {
			t.Errorf("cut off at byte %d it is taken", i)
		}
		for _, more := range []string{"\n", "\r", "=", " ", "A"} {
			if _, ok := parseToken(text[:i] + more + text[i:]); ok {
				t.Errorf("with %q put in at byte %d it is taken", more, i)
			}
		}
	}
	for _, more := range []string{"\n", "\r\n", "=", "==", "A", text} {
		if _, ok := parseToken(text + more); ok {
			t.Errorf("with %q behind it is taken", more)
		}
	}
}

// FuzzToken reads any text as a token: only what String wrote is one.
func FuzzToken(f *testing.F) {
	good := token{fsm.ID{1}, fsm.Epoch{2}, 3}.String()
	for _, seed := range []string{
		"", "a", good, good[:len(good)-1], good + "A", good + "\n", good[:9] + "\r\n" + good[9:], good + "=",
		strings.Repeat("A", len(good)), strings.Repeat("_", len(good)), "abc123", "not base64!", token{}.String(),
	} {
		f.Add(seed, uint64(7))
	}
	f.Fuzz(func(t *testing.T, text string, revision uint64) {
		if got, ok := parseToken(text); ok && got.String() != text {
			t.Fatalf("%q reads as %v, which writes as %q", text, got, got.String())
		}
		made := token{fsm.ID([]byte(text + strings.Repeat("\x00", 16))[:16]), fsm.Epoch{9}, revision}
		if got, ok := parseToken(made.String()); !ok || got != made {
			t.Fatalf("%v writes as %q, which reads as %v", made, made.String(), got)
		}
	})
}
