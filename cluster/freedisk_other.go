//go:build !linux

package cluster

import "syscall"

// freeDisk returns the bytes that this process may still write to the disk of a path.
func freeDisk(path string) (uint64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return 0, err
	}
	return uint64(stat.Bavail) * uint64(stat.Bsize), nil
}
