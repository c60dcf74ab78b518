package rest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
	"github.com/remit-io/remit/server/rest"
)

// A passingConn lets every check pass.
type passingConn struct{ fakeConn }

func (*passingConn) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	reply.(*permissionsv1.CheckPermissionResponse).Passed = true
	return nil
}

// BenchmarkCheck is a check from the HTTP request to its answer, without what
// net/http and the service behind take.
func BenchmarkCheck(b *testing.B) {
	handler := rest.Handler(&passingConn{}, nil, "")
	const body = `{"project_name":"production","principal_id":"usr_123",` +
		`"resource_uris":["/project/456/documents/789"],"permissions":["document.read"]}`
	r := httptest.NewRequest("POST", base+"/permissions/check", nil)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer remit_0123456789")
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
