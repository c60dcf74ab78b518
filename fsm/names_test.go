package fsm

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// A textCase is a text with what is wrong with it: a part of the message, ""
// where nothing is.
type textCase struct{ text, wrong string }

func testTexts(t *testing.T, validate func(string) *Error, cases []textCase) {
	t.Helper()
	for _, c := range cases {
		err := validate(c.text)
		if c.wrong == "" {
			if err != nil {
				t.Errorf("%q is refused: %v", c.text, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%q is accepted, want %q", c.text, c.wrong)
			continue
		}
		if err.Code != CodeInvalidArgument || !strings.Contains(err.Message, c.wrong) {
			t.Errorf("%q is refused with code %d: %s; want %q", c.text, err.Code, err.Message, c.wrong)
		}
		checkMessage(t, err)
	}
}

// checkMessage wants a message that can be printed and logged.
func checkMessage(t *testing.T, err *Error) {
	t.Helper()
	if m := err.Message; m == "" || len(m) > 2000 || !utf8.ValidString(m) || strings.ContainsFunc(m, func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("the message %q is not fit to print", m)
	}
}

const idText = "0123abcd-0000-4000-8000-00000000ffff"

func TestValidatePermissionName(t *testing.T) {
	const form = "must start with a letter or digit"
	testTexts(t, ValidatePermissionName, []textCase{
		{"a", ""},
		{"7", ""},
		{"document.read", ""},
		{"Document_read:v2-beta", ""},
		{"a._:-", ""},
		{"users", ""}, // only the very routes are reserved
		{"check.it", ""},
		{strings.Repeat("x", MaxNameBytes), ""},
		{strings.ToUpper(idText), ""}, // an id has lower case

		{"", "needs a name"},
		{strings.Repeat("x", MaxNameBytes+1), "257 bytes, 256 at most"},
		{strings.Repeat("ü", 10_000), "20000 bytes, 256 at most"},
		{".read", form},
		{"_a", form},
		{":a", form},
		{"-a", form},
		{"a b", form},
		{"a/b", form},
		{"a*", form},
		{"*", form},
		{"a\x00", form},
		{"a\n", form},
		{"größe", form},
		{"a\xff", form},
		{"ａ", form}, // full width
		{"a\u200b", form},
		{idText, "form of an id"},
		{"assign", "reserved"},
		{"assignments", "reserved"},
		{"check", "reserved"},
		{"principals", "reserved"},
		{"revoke", "reserved"},
		{"user", "reserved"},
	})
}

// invisible are texts that validateText refuses, with the character it names.
var invisible = []textCase{
	{"a\x00b", "U+0000"},
	{"a\tb", "U+0009"},
	{"\n", "U+000A"},
	{"\x1b[31m", "U+001B"},
	{"a\x7f", "U+007F"},
	{"a\u0080", "U+0080"},
	{"a\u0085b", "U+0085"},
	{"\u009f", "U+009F"},
	{"a\u00adb", "U+00AD"}, // soft hyphen
	{"a\u034fb", "U+034F"}, // combining grapheme joiner
	{"a\u061cb", "U+061C"}, // Arabic letter mark
	{"\u115f", "U+115F"},   // Hangul fillers
	{"\u1160", "U+1160"},
	{"\u3164", "U+3164"},
	{"\uffa0", "U+FFA0"},
	{"a\u180eb", "U+180E"}, // Mongolian vowel separator
	{"a\u200bb", "U+200B"}, // zero-width space, non-joiner, joiner
	{"a\u200cb", "U+200C"},
	{"a\u200db", "U+200D"},
	{"a\u200eb", "U+200E"}, // direction marks
	{"a\u200fb", "U+200F"},
	{"a\u2028b", "U+2028"}, // line and paragraph separator
	{"a\u2029b", "U+2029"},
	{"a\u202ab", "U+202A"}, // embeddings and overrides
	{"a\u202eb", "U+202E"},
	{"a\u2060b", "U+2060"}, // word joiner
	{"a\u2066b", "U+2066"}, // isolates
	{"a\u2069b", "U+2069"},
	{"\u2800", "U+2800"}, // Braille blank
	{"a\ufe0f", "U+FE0F"},
	{"a\ufeffb", "U+FEFF"}, // byte order mark
	{"a\U000e0001", "U+E0001"},
	{"a\U000e0100", "U+E0100"},
	{"a\x80", "not valid UTF-8"},
	{"a\xc0\xaf", "not valid UTF-8"},
	{"\xed\xa0\x80", "not valid UTF-8"},
	{"caf\xe9", "not valid UTF-8"},
}

func TestValidateRoleName(t *testing.T) {
	testTexts(t, ValidateRoleName, append([]textCase{
		{"document_editor", ""},
		{"Document Editor (EU)", ""},
		{"Prüfer/役割 😀", ""},
		{"e\u0301", ""},
		{"*", ""},
		{"check", ""},
		{strings.Repeat("x", MaxNameBytes), ""},
		{strings.Repeat("ü", MaxNameBytes/2), ""},
		{"", "the role name is empty"},
		{strings.Repeat("x", MaxNameBytes+1), "257 bytes, 256 at most"},
		{strings.Repeat("ü", MaxNameBytes/2) + "x", "257 bytes, 256 at most"},
		{strings.Repeat("文", 1<<18), "256 at most"},
		{idText, "form of an id"},
	}, invisible...))
}

func TestValidatePrincipal(t *testing.T) {
	testTexts(t, ValidatePrincipal, append([]textCase{
		{"usr_123", ""},
		{"service:ci", ""},
		{"user:default/guest", ""},
		{"Zoë", ""},
		{" ", ""},
		{idText, ""},
		{strings.Repeat("x", MaxNameBytes), ""},
		{"", "the principal is empty"},
		{strings.Repeat("x", MaxNameBytes+1), "257 bytes, 256 at most"},
	}, invisible...))
}

func TestValidateDescription(t *testing.T) {
	testTexts(t, ValidateDescription, []textCase{
		{"", ""},
		{"May read\nand\twrite \u200d …", ""},
		{strings.Repeat("x", MaxDescriptionBytes), ""},
		{strings.Repeat("x", MaxDescriptionBytes+1), "1025 bytes, 1024 at most"},
		{"caf\xe9", "not valid UTF-8"},
		{"a\x01b", "U+0001"},
		{"a\rb", "U+000D"},
	})
}

// TestLookAlikes: no character that takes no room is in a name.
func TestLookAlikes(t *testing.T) {
	for _, r := range "\u00ad\u17b4\u2065\u200b\u2060\u3164\ufe0f\ufeff\ufff0\U000e0080\U000e0100" {
		if err := ValidatePrincipal("usr" + string(r) + "_1"); err == nil {
			t.Errorf("%U is in a principal", r)
		}
	}
}

func TestID(t *testing.T) {
	id, ok := ParseID(idText)
	if !ok || id != (ID{0x01, 0x23, 0xab, 0xcd, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff}) {
		t.Errorf("ParseID(%q) = %v, %v", idText, id, ok)
	}
	if got := id.String(); got != idText {
		t.Errorf("String() = %q, want %q", got, idText)
	}
	if got := (ID{}).String(); got != "00000000-0000-0000-0000-000000000000" {
		t.Errorf("the zero ID is %q", got)
	}
	for _, bad := range []string{
		"", "a", idText[:35], idText + "0", " " + idText[1:],
		strings.ToUpper(idText), strings.ReplaceAll(idText, "-", ""), "{" + idText + "}",
		strings.Replace(idText, "-", "0", 1), strings.ReplaceAll(idText, "-", "_"),
		"0123abcg" + idText[8:], "0123abc\u00e9" + idText[9:], "-123abcd" + idText[8:],
		"0123abc-d0000-4000-8000-00000000ffff"[:36], "urn:uuid:" + idText,
	} {
		if id, ok := ParseID(bad); ok || id != (ID{}) {
			t.Errorf("ParseID(%q) = %v, %v", bad, id, ok)
		}
	}
	for i := range idText {
		if _, ok := ParseID(idText[:i] + "x" + idText[i+1:]); ok {
			t.Errorf("an id with an x at %d is accepted", i)
		}
	}
}

func TestRights(t *testing.T) {
	for _, c := range []struct {
		in   []number
		want []number
	}{
		{nil, nil},
		{[]number{0}, []number{0}},
		{[]number{5, 3, 5, 0, 3}, []number{0, 3, 5}},
		{[]number{0, 127, 128, 255, 16511, 1 << 31, 1<<32 - 1}, []number{0, 127, 128, 255, 16511, 1 << 31, 1<<32 - 1}},
		{[]number{1<<32 - 1}, []number{1<<32 - 1}},
	} {
		r := makeRights(append([]number(nil), c.in...))
		got := r.numbers()
		if len(got) != len(c.want) {
			t.Errorf("makeRights(%v) is %v, want %v", c.in, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("makeRights(%v) is %v, want %v", c.in, got, c.want)
			}
		}
		if len(got) > 0 {
			if parsed, highest, err := parseRights(string(r)); parsed != r || highest != got[len(got)-1] || err != nil {
				t.Errorf("parseRights of %v: %x, %d, %v", c.in, string(parsed), highest, err)
			}
		}
	}
	for _, bad := range []string{
		"",                                  // an assignment of nothing
		"\x80",                              // cut off
		"\x01\x80",                          // cut off
		"\x01\x00",                          // twice the same
		"\x80\x00",                          // longer than it must be
		"\xff\xff\xff\xff\x1f",              // above 32 bits
		"\xff\xff\xff\xff\x0f\x01",          // in sum
		strings.Repeat("\xff", 10) + "\x01", // above 64 bits
	} {
		if r, _, err := parseRights(bad); err == nil {
			t.Errorf("parseRights(%x) = %v", bad, r.numbers())
		}
	}
}
