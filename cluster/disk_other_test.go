//go:build !linux

package cluster

import (
	"errors"
	"os"
	"testing"
)

func dirtyPages(string) (uint64, error) { return 0, errors.ErrUnsupported }

func kernelTellsDirtyPages(*testing.T) bool { return false }

func syncData(f *os.File) error { return f.Sync() }
