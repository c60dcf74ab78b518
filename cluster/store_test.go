package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// Behind a snapshot the log is cut in steps, between which others may write; at
// its end at once.
func TestDeleteRangeInSteps(t *testing.T) {
	const entries = 10*deleteStep + 7
	for _, test := range []struct {
		name        string
		first, last uint64
		commits     int
	}{
		{"the first", 1, 1, 1},
		{"one step", 1, deleteStep, 1},
		{"a step and one more", 1, deleteStep + 1, 2},
		{"nearly all", 1, entries - 1, 11},
		{"all", 1, entries, 1},
		{"the end", 3, entries, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			commits := 0
			var s *store
			s, err := openStore(filepath.Join(t.TempDir(), logFile), storeOptions{
				noSync: true,
				afterCommit: func() {
					commits++
					first, err := s.FirstIndex()
					if err != nil {
						t.Fatal(err)
					}
					last, err := s.LastIndex()
					if err != nil {
						t.Fatal(err)
					}
					// After any commit, and so after any crash, there is no gap.
					for i := first; first > 0 && i <= last; i++ {
						var entry raft.Log
						if err := s.GetLog(i, &entry); err != nil || entry.Index != i {
							t.Fatalf("after commit %d, entry %d: %+v, %v", commits, i, entry, err)
						}
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			all := make([]*raft.Log, entries)
			for i := range all {
				all[i] = &raft.Log{Index: uint64(i) + 1, Term: 1, Data: fmt.Append(nil, i)}
			}
			if err := s.StoreLogs(all); err != nil {
				t.Fatal(err)
			}
			commits = 0
			if err := s.DeleteRange(test.first, test.last); err != nil {
				t.Fatal(err)
			}
			if commits != test.commits {
				t.Errorf("%d commits, want %d", commits, test.commits)
			}
			var left []uint64
			for i := range uint64(entries + 1) {
				var entry raft.Log
				if s.GetLog(i, &entry) == nil {
					left = append(left, i)
				}
			}
			if want := entries - int(test.last-test.first) - 1; len(left) != want {
				t.Errorf("%d entries are left, want %d", len(left), want)
			}
		})
	}
}

// A term is never taken back, and a vote is what it is.
func TestTermsGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), logFile)
	vote := []byte("LastVoteTerm")
	for _, opened := range []struct{ term, stored, want uint64 }{{5, 5, 5}, {3, 3, 5}, {6, 6, 6}, {0, 0, 0}, {1, 1, 1}} {
		s, err := openStore(path, storeOptions{noSync: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.GetUint64(keyCurrentTerm)
		if err != nil && err.Error() != raft.ErrLogNotFound.Error() && err.Error() != "not found" {
			t.Fatal(err)
		}
		if err := errors.Join(s.SetUint64(keyCurrentTerm, opened.term), s.SetUint64(vote, opened.stored)); err != nil {
			t.Fatal(err)
		}
		term, err := s.GetUint64(keyCurrentTerm)
		if err != nil || term != opened.want || s.term.Load() != opened.want {
			t.Errorf("stored %d: term %d and %d, %v, want %d", opened.term, term, s.term.Load(), err, opened.want)
		}
		if got, err := s.GetUint64(vote); err != nil || got != opened.stored {
			t.Errorf("stored vote %d: %d, %v", opened.stored, got, err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}
