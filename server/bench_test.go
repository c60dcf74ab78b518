package server

import (
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// BenchmarkCheck is a check from a gRPC client to its answer, all in one process.
func BenchmarkCheck(b *testing.B) {
	n := newNode(b).ready()
	d := n.door(serviceName)
	d.sample()
	req := reads()[7].(*permissionsv1.CheckPermissionRequest)
	b.ReportAllocs()
	for b.Loop() {
		if answer, err := d.Check(d.ctx, req); err != nil || !answer.Passed {
			b.Fatal(answer, err)
		}
	}
}
