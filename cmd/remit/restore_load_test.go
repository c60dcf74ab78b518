package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A bystander grants through one node while the state is replaced, and knows at which
// revision each grant came to be.
type bystander struct {
	t       *testing.T
	node    *fleetNode
	number  int
	granted []uint64     // the revision of each grant, by its resource's number; 0 if it was not acknowledged
	count   atomic.Int64 // acknowledged
}

func (b *bystander) principal() string { return fmt.Sprintf("bystander:%d", b.number) }

func (b *bystander) resource(i int) string { return fmt.Sprintf("/bystander/%d/%d", b.number, i) }

// work grants until it is told to stop.
func (b *bystander) work(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		body := fmt.Sprintf(`{"project_name":%q,"user_id":%q,"resource_uri":%q,"permissions":[%q]}`,
			project, b.principal(), b.resource(len(b.granted)), clerkPermission)
		request, err := http.NewRequest(http.MethodPost, b.node.url("/permissions-service/v1/permissions/assign"), strings.NewReader(body))
		if err != nil {
			b.t.Error(err)
			return
		}
		request.Header.Set("Authorization", "Bearer "+rootKey)
		code, header, answer := b.node.do(request)
		revision, err := strconv.ParseUint(header.Get("Remit-Revision"), 10, 64)
		switch {
		case code == http.StatusOK && err == nil:
			b.count.Add(1)
		case code == http.StatusServiceUnavailable && (strings.Contains(answer, "not applied") || strings.Contains(answer, "outcome of the write is unknown")):
			revision = 0
		default:
			b.t.Errorf("a grant while the state is replaced: %d %v %s", code, err, answer)
			return
		}
		b.granted = append(b.granted, revision)
	}
}

// TestRestoreUnderLoad restores a backup while others write through all nodes: what was
// acknowledged before the last step of it is gone, what was acknowledged after is
// there, and all nodes agree.
func TestRestoreUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "--log-level", "info", "--snapshot-threshold", "100", "--snapshot-interval", "200ms", "--trailing-logs", "50")
	f.form(inOrder(3))
	follower := f.other(f.leader(f.nodes[0]))
	if err := create(t.Context(), follower.process, rootKey, clerkPermission); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	follower.must("snapshot", "save", backup)

	var all []*bystander
	var working sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 * len(f.nodes) {
		b := &bystander{t: t, node: f.nodes[i%len(f.nodes)], number: i}
		all = append(all, b)
		working.Go(func() { b.work(stop) })
	}
	var ended sync.Once
	end := func() { ended.Do(func() { close(stop) }); working.Wait() }
	t.Cleanup(end)
	more := func() {
		for _, b := range all {
			target := b.count.Load() + 5
			eventually(t, "others write", func() bool { return b.count.Load() >= target })
		}
	}
	more()
	var restored struct {
		Revision uint64
		Epoch    string
	}
	answer := follower.must("snapshot", "restore", backup, "--yes", "-o", "json")
	if err := json.Unmarshal([]byte(answer), &restored); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	at := restored.Revision
	// Who restores through a node finds the data restored there.
	if status := follower.must("status", "-o", "json"); !strings.Contains(status, restored.Epoch) {
		t.Errorf("the node that was asked is not in the new epoch %s: %s", restored.Epoch, status)
	}
	more()
	end()

	before, after := 0, 0
	for _, n := range f.nodes {
		for _, b := range all {
			for i, revision := range b.granted {
				if revision == 0 {
					continue
				}
				answer, err := n.client().Check(t.Context(), &permissionsv1.CheckPermissionRequest{
					ProjectName: project, PrincipalId: b.principal(), ResourceUris: []string{b.resource(i)}, Permissions: []string{clerkPermission},
					Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
				})
				if err != nil {
					t.Fatal(err)
				}
				if answer.GetPassed() != (revision > at) {
					t.Errorf("%s at %s, granted at revision %d: held %t; the state was replaced at %d", b.resource(i), n.name, revision, answer.GetPassed(), at)
				}
				if revision > at {
					after++
				} else {
					before++
				}
			}
		}
	}
	if before == 0 || after == 0 {
		t.Errorf("%d grants before, %d after", before, after)
	}
	if report := f.nodes[0].must("verify"); !strings.Contains(report, "agree") {
		t.Errorf("verify says %s", report)
	}
}
