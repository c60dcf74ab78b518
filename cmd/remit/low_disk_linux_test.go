package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A smallDisk is a node's own disk.
type smallDisk struct {
	t   *testing.T
	dir string
}

// mountSmallDisk mounts one, or skips the test.
func mountSmallDisk(t *testing.T) smallDisk {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return smallDisk{t, dir}
}

// fill leaves 8 MiB.
func (d smallDisk) fill() {
	d.t.Helper()
	var is syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &is); err != nil {
		d.t.Fatal(err)
	}
	free := int(is.Bavail) * int(is.Bsize)
	if err := os.WriteFile(d.filler(), make([]byte, free-8<<20), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d smallDisk) empty() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

func (d smallDisk) filler() string { return filepath.Join(d.dir, "filler") }

// TestLowDisk fills the disks of a cluster, the leader's first: it hands over to a node
// that has room. Where none has any, writes are refused and checks go on.
func TestLowDisk(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info", "--min-free-disk", "24")
	disks := map[*fleetNode]smallDisk{}
	for _, n := range f.nodes {
		disks[n] = mountSmallDisk(t)
		n.data = filepath.Join(disks[n].dir, "data")
	}
	f.form(inOrder(3))
	low := f.leader(f.nodes[0])
	client := f.other(low).client()
	_, err := client.CreatePermission(t.Context(), &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "document.read"})
	if err != nil {
		t.Fatal(err)
	}

	disks[low].fill()
	eventually(t, "a node with room leads", func() bool { return f.leader(low) != low })
	if err := create(t.Context(), low.process, rootKey, "one.disk.is.low"); err != nil {
		t.Errorf("a write while one disk is low: %v", err)
	}
	if _, err := f.leader(low).remit("transfer-leadership", low.name); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("leadership goes to a node whose disk is low: %v", err)
	}

	for n, disk := range disks {
		if n != low {
			disk.fill()
		}
	}
	var refusal error
	eventually(t, "writes are refused", func() bool {
		refusal = create(t.Context(), f.nodes[0].process, rootKey, "all.disks.are.low")
		if refusal != nil && !saysOutcome(refusal) {
			t.Errorf("a write while disks fill: %v", refusal)
		}
		return status.Code(refusal) == codes.ResourceExhausted
	})
	if !strings.Contains(refusal.Error(), "the write was not applied: ") || !strings.Contains(refusal.Error(), "the disk of the leader is low") {
		t.Errorf("a write while all disks are low: %v", refusal)
	}
	for _, n := range f.nodes {
		for _, mode := range []permissionsv1.Consistency{permissionsv1.Consistency_MINIMIZE_LATENCY, permissionsv1.Consistency_FULLY_CONSISTENT} {
			checkAt(t, n, mode, "")
		}
	}
	members, err := f.nodes[0].members()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if m.Healthy || !strings.Contains(strings.Join(m.Problems, "\n"), "its disk is low: ") {
			t.Errorf("%+v", m)
		}
	}

	disks[low].empty()
	eventually(t, "writes go on", func() bool { return create(t.Context(), f.nodes[0].process, rootKey, "one.disk.has.room") == nil })
}
