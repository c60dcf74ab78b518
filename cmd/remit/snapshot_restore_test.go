package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/remit-io/remit/server"
)

// A restore that is broken off says what becomes of what has arrived; one that the
// cluster has refused has left nothing.
func TestRestoreBrokenOff(t *testing.T) {
	f := startFake(t)
	f.cluster.snapshot = sampleSnapshot(t)
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, f.cluster.snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		dropped = "what has arrived of the snapshot is dropped once no more has come for 10 minutes, and another restore takes its place\n"
		unsent  = "hint: nothing changed; " + dropped
		open    = "hint: remit status shows a new epoch if the state was replaced all the same\nhint: if it was not, " + dropped
	)
	var interrupt context.CancelFunc
	comes := func(err error) func(context.Context) error {
		return func(context.Context) error { return err }
	}
	interrupted := func(ctx context.Context) error {
		interrupt()
		<-ctx.Done()
		return ctx.Err()
	}
	full := status.Error(codes.ResourceExhausted, "the write was not applied: the disk is low")
	for name, test := range map[string]struct {
		chunk, commit func(context.Context) error
		want          string
	}{
		"a chunk, interrupted":    {interrupted, nil, "remit: interrupted\n" + unsent},
		"a chunk, not taken":      {comes(full), nil, "remit: the write was not applied: the disk is low\n" + unsent},
		"a chunk, of no restore":  {comes(status.Error(codes.FailedPrecondition, "another was begun")), nil, "remit: another was begun\n"},
		"the commit, interrupted": {nil, interrupted, "remit: interrupted\n" + open},
		"the commit, not taken":   {nil, comes(full), "remit: the write was not applied: the disk is low\n" + open},
		"the commit, refused":     {nil, comes(status.Error(codes.InvalidArgument, "the backup is damaged")), "remit: the backup is damaged\n"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		interrupt = cancel
		f.cluster.chunk, f.cluster.commit = test.chunk, test.commit
		got := remitContext(ctx, "snapshot", "restore", path, "--yes")
		cancel()
		_, told, _ := strings.Cut("\n"+got.stderr, "\nremit: ")
		if got.code != exitError || "remit: "+told != test.want {
			t.Errorf("%s: %+v, want %q", name, got, test.want)
		}
	}
}

// A call of a restore is repeated for two minutes while nobody takes it, and for
// longer while the cluster is at work.
func TestRestorePatience(t *testing.T) {
	away := status.Error(codes.Unavailable, "the write was not applied: there is no leader; retry")
	reading := status.Error(codes.Unavailable, "the write was not applied: "+server.StillReading+"; retry")
	ended := status.Error(codes.Unauthenticated, "the API key is not valid")
	for name, test := range map[string]struct {
		answer  func(since time.Duration) error
		want    error
		unknown bool
		took    time.Duration
	}{
		"nobody is there": {func(time.Duration) error { return away }, away, true, restorePatience},
		"it is read for long": {func(since time.Duration) error {
			if since < 14*time.Minute {
				return reading
			}
			return nil
		}, nil, false, 14 * time.Minute},
		"it is read for ever": {func(time.Duration) error { return reading }, reading, false, readingPatience},
		"it is read, and nobody is there any more": {func(since time.Duration) error {
			if since < 5*time.Minute {
				return reading
			}
			return away
		}, away, true, 5*time.Minute + restorePatience},
		"the key ends while it is read": {func(since time.Duration) error {
			if since < 5*time.Minute {
				return reading
			}
			return ended
		}, ended, false, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, unknown, err := repeated(t.Context(), &progress{w: io.Discard}, func(context.Context) (struct{}, error) {
					time.Sleep(5 * time.Second)
					return struct{}{}, test.answer(time.Since(start))
				})
				if took := time.Since(start); err != test.want || unknown != test.unknown || took < test.took || took > test.took+20*time.Second {
					t.Errorf("it came to %v after %v, unknown: %t; want %v after %v", err, took, unknown, test.want, test.took)
				}
			})
		})
	}
}
