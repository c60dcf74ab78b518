package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// forgedPeer is an address that nobody calls from.
const forgedPeer = "198.51.100.66:6666"

// forged is what nodes say to each other of a call that they pass on, as somebody
// says it who is no node.
var forged = map[string]string{
	"remit-forwarded": "1",
	"remit-peer":      forgedPeer,
	"remit-seed":      strings.Repeat("5e", 32),
	"remit-outcome":   "answered",
	"remit-node":      "00000000-0000-4000-8000-000000000000",
	"remit-revision":  "1",
}

// TestForgedMetadata says to nodes of a cluster, over gRPC and REST, what only nodes
// say to each other: it changes nothing.
func TestForgedMetadata(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "warn")
	f.form(inOrder(3))
	leader := f.leader(f.nodes[0])
	for _, n := range []*fleetNode{leader, f.other(leader)} {
		for protocol, call := range map[string]func(t *testing.T, n *fleetNode, key, name string) (secret string, code codes.Code){
			"gRPC": forgeGRPC, "REST": forgeREST,
		} {
			name := protocol + "." + n.name
			// A call that was passed on is refused by a node that does not lead, and one with a
			// seed draws from it: the same ids, and the same secret, again.
			first, code := call(t, n, rootKey, name+".first")
			if code != codes.OK {
				t.Errorf("%s: %s", name, code)
			}
			second, code := call(t, n, rootKey, name+".second")
			if code != codes.OK {
				t.Errorf("%s again: %s", name, code)
			}
			if first == second || first == "" {
				t.Errorf("%s: two keys have the secret %q", name, first)
			}
			// Neither does it stand in for a credential.
			if _, code := call(t, n, "", name+".third"); code != codes.Unauthenticated {
				t.Errorf("%s without a key: %s", name, code)
			}
		}
	}
	for _, n := range f.nodes {
		n.signal(syscall.SIGTERM)
	}
	for _, n := range f.nodes {
		n.endsCleanly()
		log, err := os.ReadFile(filepath.Join(n.data, "raft.db"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(log, []byte("127.0.0.1:")) {
			t.Errorf("the log of %s names no caller's address", n.name)
		}
		if bytes.Contains(log, []byte(forgedPeer)) {
			t.Errorf("the log of %s names the forged address", n.name)
		}
	}
}

// forgeGRPC creates a key and reads something, with all that is forged.
func forgeGRPC(t *testing.T, n *fleetNode, key, name string) (string, codes.Code) {
	t.Helper()
	said := metadata.New(forged)
	for header, value := range forged {
		said.Set("grpc-metadata-"+header, value)
	}
	said.Set("grpc-metadata-authorization", "Bearer "+rootKey)
	if key != "" {
		said.Set("authorization", "Bearer "+key)
	}
	ctx := metadata.NewOutgoingContext(context.Background(), said)
	conn, err := grpc.NewClient(n.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var trailer metadata.MD
	created, err := organisationv1.NewOrganisationServiceClient(conn).CreateAPIKey(ctx,
		&organisationv1.CreateAPIKeyRequest{ProjectName: project, Name: name}, grpc.Trailer(&trailer))
	if len(trailer.Get("remit-outcome")) > 0 {
		t.Errorf("a client is told what nodes say to each other: %v", trailer)
	}
	_, readErr := permissionsv1.NewPermissionsServiceClient(conn).ListPermissions(ctx, &permissionsv1.ListPermissionsRequest{ProjectName: project})
	if status.Code(readErr) != status.Code(err) {
		t.Errorf("a read: %v", readErr)
	}
	return created.GetApiKey().GetKey(), status.Code(err)
}

// forgeREST is forgeGRPC over REST.
func forgeREST(t *testing.T, n *fleetNode, key, name string) (string, codes.Code) {
	t.Helper()
	ask := func(method, path, body, key string) (int, string) {
		request, err := http.NewRequest(method, n.url(path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for header, value := range forged {
			request.Header.Set(header, value)
			request.Header.Set("Grpc-Metadata-"+header, value)
		}
		request.Header.Set("Grpc-Metadata-Authorization", "Bearer "+rootKey)
		request.Header.Set("X-Forwarded-For", forgedPeer)
		if key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
		code, header, answer := n.do(request)
		if header.Get("Remit-Outcome") != "" || strings.Contains(header.Get("Remit-Node"), "00000000") {
			t.Errorf("a client is told what nodes say to each other: %v", header)
		}
		return code, answer
	}
	var who struct{ Organisation struct{ ID string } }
	_, answer := ask(http.MethodGet, "/organisation-service/v1/whoami", "", rootKey)
	if err := json.Unmarshal([]byte(answer), &who); err != nil || who.Organisation.ID == "" {
		t.Fatalf("who am I: %v: %s", err, answer)
	}
	read, _ := ask(http.MethodGet, "/permissions-service/v1/permissions?project_name="+project, "", key)
	code, answer := ask(http.MethodPost, "/organisation-service/v1/organisation/"+who.Organisation.ID+"/api-key",
		fmt.Sprintf(`{"project_name":%q,"name":%q}`, project, name), key)
	if read != code {
		t.Errorf("a read: %d", read)
	}
	switch code {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return "", codes.Unauthenticated
	default:
		t.Errorf("%s: %d %s", name, code, answer)
		return "", codes.Unknown
	}
	var created struct {
		APIKey struct {
			Key string `json:"key"`
		} `json:"api_key"`
	}
	if err := json.Unmarshal([]byte(answer), &created); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return created.APIKey.Key, codes.OK
}
