package fsm

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/remit-io/remit/index"
)

// Limits of names and of what one call or one record may hold.
const (
	MaxNameBytes        = 256
	MaxDescriptionBytes = 1024
	MaxRolePermissions  = 1000
	MaxCallRights       = 1000    // permissions, and roles, in one call
	MaxAssignmentRights = 10_000  // permissions and roles of one assignment
	MaxCheckPairs       = 10_000  // resources times permissions
	MaxCommandBytes     = 1 << 20 // of an encoded command
)

// reservedNames are the literal routes beside /permissions/{name}.
var reservedNames = []string{"assign", "assignments", "check", "principals", "revoke", "user"}

// ValidatePermissionName reports why a text cannot be a permission's name.
func ValidatePermissionName(name string) *Error {
	if name == "" {
		return errorf(CodeInvalidArgument, "a permission needs a name, such as document.read")
	}
	if len(name) > MaxNameBytes {
		return errorf(CodeInvalidArgument, "the permission name %q has %d bytes, %d at most", excerpt(name), len(name), MaxNameBytes)
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && (i == 0 || !strings.ContainsRune("._:-", rune(c))) {
			return errorf(CodeInvalidArgument,
				"invalid permission name %q: it must start with a letter or digit and have only letters, digits and '.', '_', ':', '-' (such as document.read)", excerpt(name))
		}
	}
	if _, isID := ParseID(name); isID {
		return errorf(CodeInvalidArgument, "the permission name %q has the form of an id: choose another", name)
	}
	if slices.Contains(reservedNames, name) {
		return errorf(CodeInvalidArgument, "the permission name %q is reserved: it is a path of the API", name)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// ValidateRoleName reports why a text cannot be a role's name.
func ValidateRoleName(name string) *Error {
	if err := validateText("role name", name); err != nil {
		return err
	}
	if _, isID := ParseID(name); isID {
		return errorf(CodeInvalidArgument, "the role name %q has the form of an id: choose another", name)
	}
	return nil
}

// ValidatePrincipal reports why a text cannot be a principal's id.
func ValidatePrincipal(principal string) *Error {
	return validateText("principal", principal)
}

// ValidateDescription reports why a text cannot be a description. Lines and tabs
// are fine; other control characters would only make answers larger.
func ValidateDescription(description string) *Error {
	if len(description) > MaxDescriptionBytes {
		return errorf(CodeInvalidArgument, "the description has %d bytes, %d at most", len(description), MaxDescriptionBytes)
	}
	if !utf8.ValidString(description) {
		return errorf(CodeInvalidArgument, "the description is not valid UTF-8")
	}
	for _, r := range description {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return errorf(CodeInvalidArgument, "the description contains the control character %U: leave it out", r)
		}
	}
	return nil
}

func validateText(what, s string) *Error {
	if s == "" {
		return errorf(CodeInvalidArgument, "the %s is empty", what)
	}
	if len(s) > MaxNameBytes {
		return errorf(CodeInvalidArgument, "the %s %q has %d bytes, %d at most", what, excerpt(s), len(s), MaxNameBytes)
	}
	if isPlainASCII(s) {
		return nil
	}
	if !utf8.ValidString(s) {
		return errorf(CodeInvalidArgument, "the %s %q is not valid UTF-8", what, s)
	}
	for _, r := range s {
		if isInvisible(r) {
			return errorf(CodeInvalidArgument, "the %s %q contains the character %U, which cannot be seen: leave it out", what, s, r)
		}
	}
	return nil
}

func isPlainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isInvisible reports characters that let two different names look alike: those
// that control, that set a direction, and that take no room.
func isInvisible(r rune) bool {
	return unicode.IsControl(r) || r == '\u2800' || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp,
		unicode.Bidi_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

func validatePattern(uri string) (string, *Error) {
	pattern, err := index.ParsePattern(uri)
	if err != nil {
		return "", errorf(CodeInvalidArgument, "%v", err)
	}
	return pattern, nil
}

// ValidateOrganisationName reports why a text cannot be an organisation's name.
func ValidateOrganisationName(name string) *Error { return validateText("organisation name", name) }

// ValidateKeyName reports why a text cannot be a key's name.
func ValidateKeyName(name string) *Error { return validateText("key name", name) }

// MaxProjectNameBytes is the length of the longest project name.
const MaxProjectNameBytes = 63

// ValidateProjectName reports why a text cannot be the name of a new project.
func ValidateProjectName(name string) *Error {
	if name == BuiltInProject {
		return errorf(CodeInvalidArgument, "the project name %q is reserved: choose another", name)
	}
	valid := name != "" && len(name) <= MaxProjectNameBytes && name[0] != '-'
	for i := range len(name) {
		c := name[i]
		valid = valid && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	}
	if !valid {
		return errorf(CodeInvalidArgument, "invalid project name %q: it has 1 to %d lower-case letters, digits and hyphens, and no hyphen in front (such as production)",
			excerpt(name), MaxProjectNameBytes)
	}
	return nil
}
