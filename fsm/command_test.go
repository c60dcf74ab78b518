package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func encode(t testing.TB, body Body) []byte {
	t.Helper()
	c := Command{Envelope{Request: ID{1}, Key: ID{2}, Actor: "key:2", Peer: "10.0.0.1:5", Time: 3}, body}
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCommandSize: a command of 1 MiB is the largest.
func TestCommandSize(t *testing.T) {
	overhead := len(encode(t, &PutPermission{Description: strings.Repeat("x", 1<<17)})) - 1<<17
	fits := &PutPermission{Description: strings.Repeat("x", MaxCommandBytes-overhead)}
	if n := len(encode(t, fits)); n != MaxCommandBytes {
		t.Fatalf("the command has %d bytes", n)
	}
	c := Command{Envelope{Request: ID{1}, Key: ID{2}, Actor: "key:2", Peer: "10.0.0.1:5", Time: 3}, &PutPermission{Description: fits.Description + "x"}}
	_, err := c.Encode()
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeInvalidArgument || !strings.Contains(refused.Message, "1048577 bytes, 1048576 at most") {
		t.Errorf("a command of a byte more: %v", err)
	}
	c.Body = &Grant{Permissions: make([]ID, 100_000)}
	if _, err := c.Encode(); !errors.As(err, &refused) {
		t.Errorf("a grant of 100,000 permissions: %v", err)
	}
}

// hostile is msgpack that no encoder of ours writes. A decoder that trusts the
// lengths in it allocates gigabytes, one that recurses exhausts the stack.
func hostile() map[string]string {
	field := func(name, value string) string { return "\x81" + string([]byte{0xa0 + byte(len(name))}) + name + value }
	body := func(name, value string) string { return field("body", field(name, value)) }
	return map[string]string{
		"nothing":                     "",
		"nil":                         "\xc0",
		"a number":                    "\x01",
		"a text":                      "\xa1x",
		"an array":                    "\x91\x01",
		"a nil body":                  field("body", "\xc0"),
		"a body that is a number":     field("body", "\x01"),
		"a body that is an array":     field("body", "\x90"),
		"4 billion ids":               body("permissions", "\xdd\xff\xff\xff\xff"),
		"65,535 ids":                  body("permissions", "\xdc\xff\xff"),
		"4 GB of an id":               body("id", "\xc6\xff\xff\xff\xff"),
		"4 GB of a name":              body("name", "\xdb\xff\xff\xff\xff"),
		"4 billion fields":            field("body", "\xdf\xff\xff\xff\xff"),
		"4 billion requirements":      field("envelope", field("requires", "\xdd\xff\xff\xff\xff")),
		"4 billion suffixes":          field("envelope", field("requires", "\x91"+field("suffixes", "\xdd\xff\xff\xff\xff"))),
		"a deep nest":                 body("permissions", strings.Repeat("\x91", 500_000)+"\x01"),
		"a deep nest of maps":         strings.Repeat("\x81\xa1x", 200_000) + "\x01",
		"a float":                     body("id", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00"),
		"an extension":                body("id", "\xd8\x01"+strings.Repeat("x", 16)),
		"a length that is cut off":    body("id", "\xc6\xff\xff"),
		"a byte that is never used":   body("id", "\xc1"),
		"an id of 17 bytes":           body("id", "\xc4\x11"+strings.Repeat("x", 17)),
		"a field that is not a text":  "\x81\x01\x01",
		"a field of a field too many": field("envelope", field("requires", "\x91"+field("colour", "\x01"))),
	}
}

func TestHostileCommands(t *testing.T) {
	kinds := []Kind{KindPutPermission, KindPutRole, KindGrant, KindSweep, KindInit, KindCreateOrganisation, KindCreateProject, KindCreateKey, KindSweepKeys}
	for name, data := range hostile() {
		for _, kind := range kinds {
			command := seal([]byte(string([]byte{commandFormat, byte(kind)}) + data))
			var c *Command
			var err error
			if n := allocated(func() { c, err = DecodeCommand(command) }); n > 32<<20 {
				t.Errorf("%s as a command of kind %d: %d bytes allocated for %d", name, kind, n, len(command))
			}
			if err == nil {
				t.Errorf("%s as a command of kind %d decodes to %+v", name, kind, c.Body)
			}
		}
	}
}

// allocated returns how many bytes of memory f asked for.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLaterVersions: what a later version wrote stops this one, with an advice;
// damage is no reason for it.
func TestLaterVersions(t *testing.T) {
	good := encode(t, &Grant{Scope{ID{1}, ID{2}}, "u", "/a", []ID{{3}}, nil})
	with := func(change func(data []byte) []byte) []byte {
		return seal(change(bytes.Clone(good[:len(good)-checksumBytes])))
	}
	type later struct {
		Envelope map[string]any `msgpack:"envelope"`
		Body     map[string]any `msgpack:"body"`
	}
	field, err := msgpack.Marshal(&later{nil, map[string]any{"expires": 1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data    []byte
		upgrade bool
	}{
		"a later format": {with(func(d []byte) []byte { d[0] = commandFormat + 1; return d }), true},
		"a later kind":   {with(func(d []byte) []byte { d[1] = byte(KindSweepKeys) + 1; return d }), true},
		"kind 0":         {with(func(d []byte) []byte { d[1] = 0; return d }), true},
		"a later field":  {seal(append([]byte{commandFormat, byte(KindGrant)}, field...)), true},
		"nothing":        {nil, false},
		"one byte":       {good[:1], false},
		"cut off":        {good[:len(good)-1], false},
		"a byte more":    {append(bytes.Clone(good), 0xc0), false},
		"a value more":   {with(func(d []byte) []byte { return append(d, 0xc0) }), false},
	} {
		_, err := DecodeCommand(c.data)
		if err == nil {
			t.Errorf("%s is decoded", name)
		} else if errors.Is(err, ErrUpgrade) != c.upgrade {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedCommands: no flipped bit makes another command.
func TestDamagedCommands(t *testing.T) {
	good := encode(t, &Grant{Scope{ID{1}, ID{2}}, "usr_alice", "/a", []ID{{3}}, nil})
	for i := range good {
		for bit := range 8 {
			data := bytes.Clone(good)
			data[i] ^= 1 << bit
			if c, err := DecodeCommand(data); err == nil {
				t.Errorf("bit %d of byte %d: %+v", bit, i, c.Body)
			}
		}
	}
}

// TestEnvelopeComesBack: so does everything that apply will judge by.
func TestEnvelopeComesBack(t *testing.T) {
	want := Command{
		Envelope{
			Request: ID{1}, Key: ID{2}, Actor: "key:2", Peer: "[::1]:7601", Time: 1 << 41,
			Requires: []Requirement{{"role.create", "/organisation/o", nil}, {"permission.get", "/organisation/o/permission/", []string{"a", "b"}}},
		},
		&PutRole{Scope{ID{3}, ID{4}}, ID{5}, "r", "d", []ID{{6}, {7}}},
	}
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCommand(data)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("decoded %+v, %v", got, err)
	}
}
