package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

const (
	lockFile      = "LOCK"
	nodeIDFile    = "node-id"
	clusterIDFile = "cluster-id"
	epochFile     = "epoch"
	bondFile      = "bootstrap.json"
	leftFile      = "left"
	joiningFile   = "joining"
	recoverFile   = "recovering"
	logFile       = "raft.db"
	snapshotDir   = "snapshots"
)

// restoreAdvice ends the errors about a folder that lacks part of its data.
const restoreAdvice = "restore the whole folder from a backup, or remove it to start an empty cluster and lose the data"

// dataDir is a data folder held by this process.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the folder where it is missing and locks it. The lock ends
// with the process, however it ends.
func openDataDir(path string) (*dataDir, error) {
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of data folder %s: %w", path, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data folder %s is in use by another process%s: stop that process or choose another data folder", path, holder(lock))
		}
		return nil, fmt.Errorf("lock data folder %s: %w", path, err)
	}
	// The process id is only there to be named in the error of the next process.
	if err := lock.Truncate(0); err == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &dataDir{path: path, lock: lock}, nil
}

// holder names the process that wrote its id into the lock file, if it can be read.
func holder(lock *os.File) string {
	b, err := io.ReadAll(io.LimitReader(lock, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process id %d)", pid)
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// close gives the folder back. The lock file stays: removing it would let two
// processes lock two different files of the same name.
func (d *dataDir) close() error { return d.lock.Close() }

// nodeID reads the identity of the folder, which must be that of the certificate if
// there is one. A folder that has never held a log is given it, or one drawn at
// random. A folder with a log but without its identity is not given a new one: no
// cluster would know it.
func (d *dataDir) nodeID(certificate *TLS) (uuid.UUID, error) {
	var certified uuid.UUID
	if certificate != nil {
		var err error
		if certified, err = certificate.NodeID(); err != nil {
			return uuid.Nil, fmt.Errorf("TLS between nodes: %w", err)
		}
	}
	id, err := readID(d.file(nodeIDFile))
	switch {
	case err == nil && certificate != nil && id != certified:
		return uuid.Nil, fmt.Errorf("%s in data folder %s says that it is node %s, and the certificate %s is that of node %s: make one for this folder with remit cert node --id %[3]s, or start the node with its own data folder",
			nodeIDFile, d.path, id, certificate.CertFile, certified)
	case !errors.Is(err, os.ErrNotExist):
		return id, err
	}
	if _, err := os.Stat(d.file(logFile)); !errors.Is(err, os.ErrNotExist) {
		return uuid.Nil, fmt.Errorf("data folder %s has a log (%s) but no %s: restore that file from the backup the folder came from", d.path, logFile, nodeIDFile)
	}
	if id = certified; id == uuid.Nil {
		if id, err = uuid.NewRandom(); err != nil {
			return uuid.Nil, fmt.Errorf("draw a node id: %w", err)
		}
	}
	return id, writeID(d.file(nodeIDFile), id)
}

// requireLog refuses a folder that had a log and has it no longer: started over, it
// would be an empty cluster, or the one of an old snapshot, under the old name. The
// log is made and its entry synced before any of what is looked for here.
func (d *dataDir) requireLog() error {
	info, err := os.Stat(d.file(logFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	state := "is missing"
	if err == nil {
		if info.Size() > 0 {
			return nil
		}
		state = "is empty"
	}
	witness := clusterIDFile
	if _, err := os.Stat(d.file(clusterIDFile)); errors.Is(err, os.ErrNotExist) {
		taken, err := d.snapshotFolders()
		if err != nil {
			return err
		}
		if len(taken) == 0 {
			return nil
		}
		witness = filepath.Join(snapshotDir, taken[0])
	} else if err != nil {
		return err
	}
	return fmt.Errorf("data folder %s has %s, but its log %s %s: %s", d.path, witness, logFile, state, restoreAdvice)
}

// snapshotFolders names the complete snapshots, readable or not.
func (d *dataDir) snapshotFolders() ([]string, error) {
	entries, err := os.ReadDir(d.file(snapshotDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the snapshot folder: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasSuffix(entry.Name(), unfinishedSuffix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// readID reads a file that holds one UUID.
func readID(path string) (uuid.UUID, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.Parse(strings.TrimSpace(string(b)))
	if err != nil || id == uuid.Nil {
		return uuid.Nil, fmt.Errorf("%s does not hold an id (a UUID): restore the file from a backup", path)
	}
	return id, nil
}

// writeID writes a UUID, durably.
func writeID(path string, id uuid.UUID) error { return writeFile(path, []byte(id.String()+"\n")) }

// writeFile writes a file so that after a crash it is there whole or not at all.
func writeFile(path string, content []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// removeFile removes a file, if it is there, durably.
func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// requireNotLeft refuses a folder whose node has left its cluster: no member knows
// it any more, and what it holds grows old.
func (d *dataDir) requireNotLeft() error {
	if _, err := os.Stat(d.file(leftFile)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("the node of data folder %s has left its cluster: remove the folder to use it for a new node", d.path))
	}
	return nil
}

// requireRecovered refuses a folder in which a recovery was interrupted.
func (d *dataDir) requireRecovered() error {
	if _, err := os.Stat(d.file(recoverFile)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("the recovery of data folder %s was interrupted: run it again", d.path))
	}
	return nil
}

// markRecovering makes the folder one that does not open until it is recovered.
func (d *dataDir) markRecovering(id uuid.UUID) error { return writeID(d.file(recoverFile), id) }

// markLeft makes the folder one whose node has left its cluster, for ever.
func (n *Node) markLeft() error { return writeID(n.dir.file(leftFile), n.id) }

// makeDir is os.MkdirAll that syncs every folder it adds an entry to: a log that
// is synced is of no use in a folder that a power cut takes away.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", path)
		}
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes the entries of a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
