package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// outcome is what one run of Main did.
type outcome struct {
	code           int
	stdout, stderr string
}

// remit runs a command line.
func remit(t *testing.T, args ...string) outcome {
	t.Helper()
	return remitContext(t.Context(), args...)
}

func remitContext(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := Main(ctx, args, strings.NewReader(""), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// prints runs a command line that has to succeed with exactly this output.
func prints(t *testing.T, want string, args ...string) {
	t.Helper()
	expect(t, outcome{exitOK, trim(want), ""}, args...)
}

// fails runs a command line that has to end with exit code 2 and exactly this on
// stderr.
func fails(t *testing.T, want string, args ...string) {
	t.Helper()
	expect(t, outcome{exitError, "", trim(want)}, args...)
}

func expect(t *testing.T, want outcome, args ...string) {
	t.Helper()
	got := remit(t, args...)
	if got.code != want.code {
		t.Errorf("remit %q: exit code %d, want %d", args, got.code, want.code)
	}
	if got.stdout != want.stdout {
		t.Errorf("remit %q: stdout\n%s\nwant\n%s", args, got.stdout, want.stdout)
	}
	if got.stderr != want.stderr {
		t.Errorf("remit %q: stderr\n%s\nwant\n%s", args, got.stderr, want.stderr)
	}
}

// trim takes off the line break that a raw string begins with.
func trim(text string) string { return strings.TrimPrefix(text, "\n") }

// stage runs commands that set the stage.
func stage(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if got := remit(t, strings.Fields(command)...); got.code != exitOK {
			t.Fatalf("remit %s: exit code %d: %s", command, got.code, got.stderr)
		}
	}
}

// clearEnv keeps the variables that the tests were started with from the commands.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "REMIT_") {
			t.Setenv(name, "")
		}
	}
}
