package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

var (
	missingRight   = regexp.MustCompile(`missing required (permission|role) '([^']*)' on resource '(.*)'$`)
	otherProject   = regexp.MustCompile(`the API key is of project "([a-z0-9-]+)"`)
	namedResource  = regexp.MustCompile(`^(/organisation/[^/]+)/(role|permission)/([^/]+)$`)
	identifier     = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	plainShellWord = regexp.MustCompile(`^[A-Za-z0-9/:._@%+,=-]+$`)
)

// adviseDenied says what to do about the denial of a request.
func (c *connection) adviseDenied(message string, request any) string {
	if match := missingRight.FindStringSubmatch(message); match != nil {
		return c.adviseMissing("--"+match[1]+" "+match[2], match[3], request)
	}
	if match := otherProject.FindStringSubmatch(message); match != nil && c.takesProject() {
		return fmt.Sprintf("--project %s (REMIT_PROJECT) names the key's own project; remit whoami shows which key this is", match[1])
	}
	switch {
	case strings.Contains(message, "the API key is of "):
		return "remit whoami shows which key this is"
	case strings.Contains(message, "only operators "):
		return "remit whoami shows which key this is, and whether it is an operator"
	}
	return ""
}

// adviseMissing says how the key may get a right that it lacks, in the flag that
// grants it.
func (c *connection) adviseMissing(right, resource string, request any) string {
	const who = "remit whoami shows what the key holds"
	if printable(resource) != resource || strings.HasSuffix(resource, "…") {
		return who // and not what can be granted: the resource is shortened or cannot be shown
	}
	resource, explanation := c.asGranted(resource, request)
	return fmt.Sprintf("%s; an owner can grant it: remit grant key:ID --project %s %s --on %s%s",
		who, builtInProject, right, shellWord(resource), explanation)
}

// asGranted is the resource of a denial as a right is granted on it, with a hint
// of its own where that is not as the request named it: a right on a role is
// granted on its id, one on a permission on its name.
func (c *connection) asGranted(resource string, request any) (granted, hint string) {
	match := namedResource.FindStringSubmatch(resource)
	if match == nil {
		return resource, ""
	}
	kind, sent := match[2], match[3]
	name, err := url.PathUnescape(sent)
	isID := identifier.MatchString(sent)
	renamed, ok := request.(*permissionsv1.UpdateRoleRequest)
	switch {
	case err != nil || isID == (kind == "role"):
		return resource, ""
	case ok && renamed.GetName() == name:
		return resource, "" // what a role shall be called is no role's id
	}
	by := "id"
	if isID {
		by = "name"
	}
	return fmt.Sprintf("%s/%s/%s", match[1], kind, strings.ToUpper(by)),
		fmt.Sprintf("\na right on a %s is granted on the %s's %s: %s shows it", kind, kind, by, c.inProject(fmt.Sprintf("remit %s get %s -o json", kind, shellWord(name))))
}

// adviseLook adds to the advice about a look that was denied what the command
// looks for, and how to do without.
func adviseLook(err error, why string) error {
	var failed *failure
	if isDenied(err) && errors.As(err, &failed) {
		failed.hint = strings.TrimPrefix(failed.hint+"\n"+why, "\n")
	}
	return err
}

// shellWord is a text as a shell takes it for one word.
func shellWord(text string) string {
	if plainShellWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// isDenied reports whether a call failed because the key may not make it.
func isDenied(err error) bool { return status.Code(err) == codes.PermissionDenied }
