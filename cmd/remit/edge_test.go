package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// TestSilentConnections: who connects and says nothing does not keep a node from
// ending.
func TestSilentConnections(t *testing.T) {
	n := openNode(t, nodeConfig(t, t.TempDir()))
	for _, addr := range []string{n.GRPCAddr(), n.HTTPAddr(), n.cluster.RaftAddr()} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("the node does not end")
	}
}

// A garbledCodec sends what no server can decode.
type garbledCodec struct{}

func (garbledCodec) Name() string                { return "proto" }
func (garbledCodec) Marshal(any) ([]byte, error) { return []byte{0xff, 0xff, 0xff}, nil }
func (garbledCodec) Unmarshal([]byte, any) error { return nil }

// TestStrangersAreNotRead: without a valid key the message is not even decoded,
// or anyone could make a node work and fill its memory.
func TestStrangersAreNotRead(t *testing.T) {
	cfg := nodeConfig(t, t.TempDir())
	cfg.RootKey = strings.Repeat("k", minRootKey)
	n := openNode(t, cfg)
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := permissionsv1.NewPermissionsServiceClient(conn)
	for key, want := range map[string]codes.Code{"": codes.Unauthenticated, "wrong": codes.Unauthenticated, cfg.RootKey: codes.Internal} {
		ctx := t.Context()
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
		}
		_, err := client.Check(ctx, &permissionsv1.CheckPermissionRequest{}, grpc.ForceCodec(garbledCodec{}))
		if status.Code(err) != want {
			t.Errorf("with the key %q: %v, want %v", key, err, want)
		}
	}

	for key, want := range map[string]int{"": 401, "wrong": 401, cfg.RootKey: 400} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			fmt.Sprintf("http://%s/permissions-service/v1/permissions/check", n.HTTPAddr()), bytes.NewReader([]byte("{")))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("with the key %q: %d %s, %v, want %d", key, resp.StatusCode, body, err, want)
		}
	}
}

// Strangers do not fill the log, and what an operator has to know stands in it.
func TestHTTPLog(t *testing.T) {
	var lines strings.Builder
	told := log.New(httpLog{slog.New(slog.NewTextHandler(&lines, nil))}, "", 0)
	told.Print("http: TLS handshake error from 127.0.0.1:1: EOF")
	if lines.Len() > 0 {
		t.Errorf("logged %s", lines.String())
	}
	told.Print("http: Accept error: too many open files; retrying in 5ms")
	if got := lines.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "too many open files") || strings.Count(got, "\n") != 1 {
		t.Errorf("logged %s", got)
	}
}
