package cluster

import (
	"errors"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), which package syscall lacks.
const tcpUserTimeout = 0x12

// limitSilence ends a connection when what was sent over it is not acknowledged for so
// long.
func limitSilence(conn syscall.RawConn, longest time.Duration) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(longest.Milliseconds()))
	})
	return errors.Join(err, failed)
}
