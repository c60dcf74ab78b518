package server

import (
	"strings"
	"testing"

	"github.com/remit-io/remit/fsm"
)

// FuzzCursor reads any text as a cursor: only one that this cluster wrote for
// the same listing leads anywhere, and it leads where it was written.
func FuzzCursor(f *testing.F) {
	state := &fsm.State{Secret: [32]byte{1, 2, 3}}
	l := listing{"permissions", fsm.ID{1}, fsm.ID{2}, "doc"}
	good := l.cursor(state, "document.read")
	for _, seed := range []string{
		"", "a", good, good[:len(good)-1], good + "A", good + "\n", good[:9] + "\r\n" + good[9:], good + "=", good[:22],
		"abc123", "not base64!", strings.Repeat("A", 300), l.cursor(state, "document.write"), "production\n/a/*/b",
	} {
		f.Add(seed, "permissions", "doc")
		f.Add(seed, "permissionsdoc", "")
		f.Add(seed, "roles", seed)
	}
	f.Fuzz(func(t *testing.T, text, call, about string) {
		other := listing{call, l.organisation, l.project, about}
		for _, reader := range []listing{l, other} {
			behind, err := reader.behind(state, text)
			if err == nil && text != "" && reader.cursor(state, behind) != text {
				t.Fatalf("%+v takes %q as the cursor behind %q, which is %q", reader, text, behind, reader.cursor(state, behind))
			}
			if err == nil && text == "" && behind != "" {
				t.Fatalf("no cursor leads behind %q", behind)
			}
		}
		if text == "" {
			return // no record has an empty key
		}
		made := other.cursor(state, text)
		if behind, err := other.behind(state, made); err != nil || behind != text {
			t.Fatalf("the cursor behind %q leads behind %q: %v", text, behind, err)
		}
		if other != l {
			if behind, err := l.behind(state, made); err == nil {
				t.Fatalf("%+v takes the cursor of %+v, behind %q", l, other, behind)
			}
		}
		foreign := &fsm.State{Secret: [32]byte{3, 2, 1}}
		if _, err := other.behind(foreign, made); err == nil {
			t.Fatalf("another cluster takes %q", made)
		}
	})
}
