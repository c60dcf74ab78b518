package main_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A register is a number that one writer counts up and anybody reads, both through
// the API: it is at n when its principal holds its permission on the n-th of its
// resources, and never on a later one.
type register struct {
	number int
	// started and acknowledged are the newest value that was sent, and answered.
	started, acknowledged atomic.Int64
}

// registerPermission is what writers grant.
const registerPermission = "register.read"

// attemptTimeout is how long a writer waits for one node before it asks another.
const attemptTimeout = 2 * time.Second

// explainTimeout is how long porcupine may look for an order that explains a history.
const explainTimeout = 5 * time.Minute

// window is how many values below the acknowledged one a read asks for.
const window = 40

func (r *register) principal() string { return fmt.Sprintf("register:%d", r.number) }

func (r *register) resource(value int64) string {
	return fmt.Sprintf("/register/%d/%d", r.number, value)
}

// registerInput is an operation on a register: a write, or else a read.
type registerInput struct {
	register int
	write    bool
	value    int64
}

// unknown is the state of a register before the first operation: a history may be a
// part of a longer one.
const unknown = int64(-1)

// registers is the model that a history has to fit: each register is one number.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byRegister := map[int][]porcupine.Operation{}
		for _, o := range history {
			number := o.Input.(registerInput).register
			byRegister[number] = append(byRegister[number], o)
		}
		var partitions [][]porcupine.Operation
		for _, p := range byRegister {
			partitions = append(partitions, p)
		}
		return partitions
	},
	Init: func() any { return unknown },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(registerInput); in.write {
			return true, in.value
		}
		return state == unknown || output == state, output
	},
	DescribeOperation: func(input, output any) string {
		if in := input.(registerInput); in.write {
			return fmt.Sprintf("write %d", in.value)
		}
		return fmt.Sprintf("read %d", output)
	},
}

// A history is what clients saw, in their own time.
type history struct {
	began time.Time

	mu         sync.Mutex
	operations []porcupine.Operation
	clients    int
}

func newHistory() *history { return &history{began: time.Now()} }

// client numbers a client: one operation of a client comes after the other.
func (h *history) client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) add(o porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, o)
}

// write counts the register up by one, sending the same request until it is
// answered: then the write has taken effect once, at some time in between. Without
// an answer it may take effect at any time, or never, which is as good as later than
// all else.
func (h *history) write(ctx context.Context, client int, r *register, api func() permissionsv1.PermissionsServiceClient) error {
	value := r.started.Add(1)
	operation := porcupine.Operation{ClientId: client, Input: registerInput{r.number, true, value}, Call: h.now()}
	ctx = metadata.AppendToOutgoingContext(ctx, "remit-request-id", newRequestID())
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		_, err := api().GrantUserPermissionsAndRolesOnResource(attempt, &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: r.principal(), ResourceUri: r.resource(value), Permissions: []string{registerPermission},
		})
		cancel()
		if err == nil {
			operation.Return = h.now()
			r.acknowledged.Store(value)
			h.add(operation)
			return nil
		}
		if ctx.Err() != nil {
			operation.Return = math.MaxInt64
			h.add(operation)
			return err
		}
	}
}

// read asks a node for the register's value, with full consistency. A read without
// an answer is no part of the history.
func (h *history) read(ctx context.Context, r *register, api permissionsv1.PermissionsServiceClient) error {
	operation := porcupine.Operation{ClientId: h.client(), Input: registerInput{register: r.number}, Call: h.now()}
	lowest := max(r.acknowledged.Load()-window, 1)
	var resources []string
	for value := lowest; value <= r.acknowledged.Load()+window; value++ {
		resources = append(resources, r.resource(value))
	}
	answer, err := api.Check(ctx, &permissionsv1.CheckPermissionRequest{
		ProjectName: project, PrincipalId: r.principal(), ResourceUris: resources, Permissions: []string{registerPermission},
		Consistency: permissionsv1.Consistency_FULLY_CONSISTENT,
	})
	if err != nil {
		return err
	}
	// Values are granted in order, so those missing are the newest.
	value := lowest - 1 + int64(len(resources)-len(answer.MissingPermissions))
	operation.Output, operation.Return = value, h.now()
	h.add(operation)
	return nil
}

// staleRead looks for a read that was older than what was known before it began,
// and returns it with what its register went through from that knowledge on. It is
// quick where porcupine is not, which has to try every order before it says that
// none explains a history.
func (h *history) staleRead() (around *history) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := map[int][]porcupine.Operation{} // by register, in order of time, with growing values
	byReturn := slices.SortedFunc(slices.Values(h.operations), func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, o := range byReturn {
		number := o.Input.(registerInput).register
		before := known[number]
		i, _ := slices.BinarySearchFunc(before, o.Call, func(k porcupine.Operation, call int64) int { return cmp.Compare(k.Return, call) })
		if i > 0 && valueOf(o) < valueOf(before[i-1]) {
			around = newHistory()
			for _, other := range byReturn {
				if other.Input.(registerInput).register == number && other.Return >= before[i-1].Call && other.Call <= o.Return {
					around.add(other)
				}
			}
			return around
		}
		if len(before) == 0 || valueOf(o) > valueOf(before[len(before)-1]) {
			known[number] = append(before, o)
		}
	}
	return nil
}

// valueOf is the value that was written or read.
func valueOf(o porcupine.Operation) int64 {
	if in := o.Input.(registerInput); in.write {
		return in.value
	}
	return o.Output.(int64)
}

// fits reports whether some order of the operations explains what clients saw.
func (h *history) fits(t testing.TB) bool {
	t.Helper()
	h.mu.Lock()
	operations := slices.Clone(h.operations)
	h.mu.Unlock()
	var reads, writes int
	for _, o := range operations {
		if o.Input.(registerInput).write {
			writes++
		} else {
			reads++
		}
	}
	result := porcupine.CheckOperationsTimeout(registers, operations, explainTimeout)
	t.Logf("a history of %d writes and %d reads: %s", writes, reads, result)
	if result == porcupine.Unknown {
		t.Fatal("porcupine came to no result in time")
	}
	return result == porcupine.Ok
}

// A hungNode answers some writes. At the one after them, its client is told to end.
type hungNode struct {
	permissionsv1.PermissionsServiceClient
	answers int
	end     context.CancelFunc
}

// GrantUserPermissionsAndRolesOnResource answers while it does.
func (n *hungNode) GrantUserPermissionsAndRolesOnResource(ctx context.Context, _ *permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest, _ ...grpc.CallOption) (*permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse, error) {
	if n.answers == 0 {
		n.end()
		return nil, ctx.Err()
	}
	n.answers--
	return &permissionsv1.GrantUserPermissionsAndRolesOnResourceResponse{}, nil
}

// TestHistoryWithOpenWrite ends a client in the middle of a write: reads may see the
// write or not, and once one has seen it, all later ones must.
func TestHistoryWithOpenWrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		read []int64
		fits bool
	}{
		{[]int64{1, 1}, true},
		{[]int64{1, 2}, true},
		{[]int64{2, 2}, true},
		{[]int64{2, 1}, false},
		{[]int64{0, 1}, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		h, r, node := newHistory(), &register{}, &hungNode{answers: 1, end: cancel}
		client := h.client()
		for ctx.Err() == nil {
			_ = h.write(ctx, client, r, func() permissionsv1.PermissionsServiceClient { return node })
		}
		now := h.now()
		for _, value := range c.read {
			h.add(porcupine.Operation{ClientId: h.client(), Input: registerInput{}, Output: value, Call: now + 1, Return: now + 2})
			now += 2
		}
		if stale := h.staleRead() != nil; stale == c.fits {
			t.Errorf("reads of %d: one is stale: %t", c.read, stale)
		}
		if h.fits(t) != c.fits {
			t.Errorf("reads of %d fit: %t", c.read, !c.fits)
		}
	}
}
