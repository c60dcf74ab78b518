package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// echoPrefix is what the echo prints before the address it serves on.
const echoPrefix = "echo serves on "

// echo answers every call at once. It has the generated stubs and gRPC's own
// server, as any Go service, and nothing else.
type echo struct {
	permissionsv1.UnimplementedPermissionsServiceServer
}

// echoToken is as long as a token.
var echoToken = strings.Repeat("t", 55)

// Check answers what a check that passes does.
func (echo) Check(context.Context, *permissionsv1.CheckPermissionRequest) (*permissionsv1.CheckPermissionResponse, error) {
	return &permissionsv1.CheckPermissionResponse{Passed: true, Token: echoToken}, nil
}

// GrantUserPermissionsAndRolesOnResource answers what a grant does.
func (echo) GrantUserPermissionsAndRolesOnResource(context.Context, *permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest) (*permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse, error) {
	return &permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse{Token: echoToken}, nil
}

// serveEcho serves the echo until the context ends.
func serveEcho(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	permissionsv1.RegisterPermissionsServiceServer(s, echo{})
	context.AfterFunc(ctx, s.Stop)
	fmt.Println(echoPrefix + listener.Addr().String())
	return s.Serve(listener)
}

// startEcho runs this program as the echo, which stop ends.
func startEcho(ctx context.Context, key string) (_ *client, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-echo")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	end := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		end()
		return nil, nil, fmt.Errorf("the echo ended before it served")
	}
	c, err := dial(strings.TrimPrefix(lines.Text(), echoPrefix), key)
	if err != nil {
		end()
		return nil, nil, err
	}
	return c, func() {
		_ = c.close()
		end()
	}, nil
}

// syncs writes and syncs a small file again and again: what the disk itself takes.
func syncs(ctx context.Context, dir string, during time.Duration) (latencies, error) {
	file, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, 4096)
	took, _, err := load{callers: 1, during: during}.drive(ctx, func(ctx context.Context, _, _ int) error {
		if _, err := file.WriteAt(block, 0); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		return ctx.Err()
	})
	return took, err
}
