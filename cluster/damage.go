package cluster

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// damageAdvice ends the errors about damaged files.
const damageAdvice = "restore the whole data folder from a backup, or, if the cluster has other nodes, remove the folder and let the node join again"

// panicError is a panic that guard caught.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprint(e.value) }

// guard runs f and returns a panic in it as an error: bbolt and Raft panic on much
// of what they cannot read, and a page that a truncated file no longer has is a
// memory fault, since bbolt maps the file. What happens on goroutines that f
// starts is out of reach.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value}
		}
	}()
	return f()
}

// damagedLog says what an error of opening the log means. Errors that are not the
// operating system's are bbolt's about the content.
func damagedLog(path string, err error) error {
	var errno syscall.Errno
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("the log %s is locked by another process: stop that process or choose another data folder", path)
	}
	if errors.As(err, &errno) {
		return fmt.Errorf("open the log %s: %w", path, err)
	}
	return fmt.Errorf("open the log %s: the file is damaged (%w): %s", path, err, damageAdvice)
}

// damagedFolder says what an error of reading what the data folder holds means.
func damagedFolder(path string, err error) error {
	return fmt.Errorf("data folder %s: the log (%s) or the snapshots (%s) are damaged (%w): %s", path, logFile, snapshotDir, err, damageAdvice)
}

// requireWhole refuses a log file that is shorter than its own meta page says.
// bbolt opens it if no page in use is missing, and faults later, when it reaches
// for a free one.
func requireWhole(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // a new log
	}
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("it is cut short: %d bytes of at least %d", info.Size(), tx.Size())
		}
		return nil
	})
}
