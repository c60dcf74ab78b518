package cluster

import (
	"net"
	"syscall"
	"testing"
)

func TestConnectionsLimitSilence(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	dialer := net.Dialer{Control: (&listener{}).prepare}
	conn, err := dialer.DialContext(t.Context(), "tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var limit int
	var failed error
	err = raw.Control(func(fd uintptr) { limit, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout) })
	if err != nil || failed != nil || limit != int(maxSilence.Milliseconds()) {
		t.Errorf("a connection may be silent for %d ms: %v, %v", limit, err, failed)
	}
}
