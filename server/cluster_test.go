package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// A fakeCluster is the nodes around a server, as a test says they are.
type fakeCluster struct {
	id string

	mu      sync.Mutex
	bare    bool   // the node belongs to no cluster
	waits   string // why it takes no part
	members []Member
	done    []string // what was asked of it
	fail    error    // answered to what is asked of it
	// failures is how often that is answered, for ever if 0.
	failures int
	added    Member
	// leave and join stand in for what the nodes do.
	leave func(step func(string)) error
	join  func(add func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error), step func(string)) error
	// digest stands in for those of the other members.
	digest func(ctx context.Context, id string, revision uint64) ([]byte, error)
}

// Ids of the members of a fakeCluster.
const (
	idA = "aaaaaaaa-0000-4000-8000-000000000001"
	idB = "bbbbbbbb-0000-4000-8000-000000000002"
	idC = "cccccccc-0000-4000-8000-000000000003"
)

// newFakeCluster is three nodes that support a level, of which the first is this
// one and leads.
func newFakeCluster(level uint32) *fakeCluster {
	member := func(id, name string) Member {
		return Member{ID: id, Name: name, Voter: true, Reached: true, Version: "v1", SupportedLevel: level, Level: level, Revision: 100, Age: time.Second}
	}
	a, b, c := member(idA, "a"), member(idB, "b"), member(idC, "c")
	a.Leader = true
	return &fakeCluster{id: idA, members: []Member{a, b, c}}
}

// change changes it while the server runs.
func (f *fakeCluster) change(change func(f *fakeCluster)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// takes notes what was asked of it and says how that ends.
func (f *fakeCluster) takes(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, fmt.Sprintf(format, args...))
	err := f.fail
	if f.failures--; f.failures == 0 {
		f.fail = nil
	}
	return err
}

// asked returns what was asked of it since the last time.
func (f *fakeCluster) asked() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.done, "; ")
	f.done = nil
	return all
}

func (f *fakeCluster) ID() string { return f.id }

func (f *fakeCluster) HasCluster() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.bare
}

func (f *fakeCluster) Waiting() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waits
}

func (f *fakeCluster) Members(context.Context) ([]Member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.members), nil
}

func (f *fakeCluster) Add(_ context.Context, node NewMember) (Member, error) {
	err := f.takes("add %s at %s replica=%v level=%d", node.ID, node.RaftAddr, node.Replica, node.Level)
	return f.added, err
}

func (f *fakeCluster) Remove(_ context.Context, id string, force bool) error {
	return f.takes("remove %s force=%v", id, force)
}

func (f *fakeCluster) Promote(_ context.Context, id string) error { return f.takes("promote %s", id) }

func (f *fakeCluster) Demote(_ context.Context, id string, force bool) error {
	return f.takes("demote %s force=%v", id, force)
}

func (f *fakeCluster) Transfer(_ context.Context, id string) (string, error) {
	if err := f.takes("transfer to %q", id); err != nil {
		return "", err
	}
	if id == "" {
		id = idB
	}
	return id, nil
}

func (f *fakeCluster) Join(_ context.Context, address string, add func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error), step func(string)) error {
	if err := f.takes("join %s", address); err != nil {
		return err
	}
	if f.join == nil {
		return nil
	}
	return f.join(add, step)
}

func (f *fakeCluster) Leave(_ context.Context, id string, force bool, step func(string)) error {
	if err := f.takes("leave %s force=%v", id, force); err != nil {
		return err
	}
	if f.leave == nil {
		return nil
	}
	return f.leave(step)
}

func (f *fakeCluster) Digest(ctx context.Context, id string, revision uint64) ([]byte, error) {
	if f.digest == nil {
		return nil, fmt.Errorf("%w: connection refused", ErrUnreachable)
	}
	return f.digest(ctx, id, revision)
}

// operate calls the cluster service with the root key.
func (d *door) operate() clusterv1.ClusterServiceClient {
	return clusterv1.NewClusterServiceClient(d.conn)
}

// all reads a stream to its end.
func all[M any](stream grpc.ServerStreamingClient[M], err error) ([]*M, error) {
	var messages []*M
	for err == nil {
		var m *M
		if m, err = stream.Recv(); err == nil {
			messages = append(messages, m)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return messages, err
}

// stepsOf are the words of a stream of steps.
func stepsOf[M interface{ GetStep() string }](messages []M) string {
	var words []string
	for _, m := range messages {
		words = append(words, m.GetStep())
	}
	return strings.Join(words, "; ")
}

// Every method of the service is an operator's, over streams as over calls, but
// Join on a node that belongs to no cluster.
func TestOperatorsAlone(t *testing.T) {
	w := newWorld(newNode(t).run().door(serviceName))
	w.cluster.added = Member{ID: idC, Voter: true}
	ended := w.operator()
	w.invalidate(w.projectOf(ended), ended)
	unknown, _ := NewSecret()
	callers := []struct {
		name    string
		ctx     context.Context
		code    codes.Code
		message string
	}{
		{"nobody", t.Context(), codes.Unauthenticated, "no API key"},
		{"an unknown key", withSecret(t.Context(), unknown), codes.Unauthenticated, "not valid"},
		{"an ended operator", ended.ctx, codes.Unauthenticated, "not valid"},
		{"an owner", w.key(fsm.BuiltInProject, fsm.RoleOwner).ctx, codes.PermissionDenied, "only operators of the cluster may call ClusterService/"},
		{"a project's key", w.key(project, "").ctx, codes.PermissionDenied, "only operators of the cluster may call ClusterService/"},
		{"another organisation's owner", w.stranger.ctx, codes.PermissionDenied, "only operators of the cluster may call ClusterService/"},
	}
	service := clusterv1.File_proto_cluster_v1_cluster_service_proto.Services().Get(0)
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		name := "ClusterService/" + string(m.Name())
		if got := rowOf(rules[name]); got != "operator" {
			t.Errorf("%s: the table asks for %q", name, got)
		}
		req, reply := newRequest(m), newMessage(m.Output())
		full := "/" + string(service.FullName()) + "/" + string(m.Name())
		invoke := func(ctx context.Context) error {
			if !m.IsStreamingServer() {
				return w.conn.Invoke(ctx, full, req, reply)
			}
			stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
			if err == nil {
				err = stream.SendMsg(req)
			}
			if err == nil || err == io.EOF {
				err = stream.CloseSend()
			}
			for err == nil {
				err = stream.RecvMsg(newMessage(m.Output()))
			}
			if err == io.EOF {
				err = nil
			}
			return err
		}
		before := digestOf(w.store.State())
		for _, c := range callers {
			wantCode(t, invoke(c.ctx), c.code, c.message)
		}
		if asked := w.cluster.asked(); asked != "" || digestOf(w.store.State()) != before {
			t.Errorf("%s: strangers had done: %s", name, asked)
		}
		if err := invoke(w.operator().ctx); err != nil && strings.Contains(err.Error(), "enied") {
			t.Errorf("%s by an operator: %v", name, err)
		}
		w.cluster.asked()
	}
}

func TestListMembers(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d.cluster.change(func(f *fakeCluster) {
		f.members[0].Revision, f.members[0].Term, f.members[0].FreeDisk = 120, 7, 1<<30
		f.members[1] = Member{ID: idB, Name: "z", Voter: true, Problems: []string{"not reached: connection refused"}}
		f.members[2].Name, f.members[2].Version, f.members[2].SupportedLevel, f.members[2].Age = "b", "v0", fsm.MaxLevel-1, -1
		f.members = append([]Member{
			{ID: idC + "1", Name: "a replica", Reached: true, Version: "v1", SupportedLevel: fsm.MaxLevel, Revision: 120, Problems: []string{"the disk is nearly full"}},
			{ID: idC + "0", Name: "a replica"},
		}, f.members...)
	})
	got, err := d.operate().ListMembers(d.ctx, &clusterv1.ListMembersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := []*clusterv1.Member{
		{Id: idA, Name: "a", Leader: true, Suffrage: "voter", Version: "v1", SupportedLevel: fsm.MaxLevel, Level: fsm.MaxLevel,
			AppliedRevision: 120, AgeMs: 1000, Healthy: true, Term: 7, FreeDiskBytes: 1 << 30},
		{Id: idC, Name: "b", Suffrage: "voter", Version: "v0", SupportedLevel: fsm.MaxLevel - 1, Level: fsm.MaxLevel, AppliedRevision: 100, Lag: 20, AgeMs: -1,
			Problems: []string{"runs version v0, others v1: upgrade the older ones", fmt.Sprintf("supports level %d, others level %d: upgrade this node", fsm.MaxLevel-1, fsm.MaxLevel)}},
		{Id: idB, Name: "z", Suffrage: "voter", AgeMs: -1, Problems: []string{"not reached: connection refused"}},
		{Id: idC + "0", Name: "a replica", Suffrage: "nonvoter", AgeMs: -1, Problems: []string{"not reached"}},
		{Id: idC + "1", Name: "a replica", Suffrage: "nonvoter", Version: "v1", SupportedLevel: fsm.MaxLevel, AppliedRevision: 120, Problems: []string{"the disk is nearly full"}},
	}
	if len(got.Members) != len(want) || got.ClusterId != d.init.Cluster.String() {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if !proto.Equal(got.Members[i], want[i]) {
			t.Errorf("member %d:\n%v\nwant\n%v", i, got.Members[i], want[i])
		}
	}

	status, err := d.operate().GetStatus(d.ctx, &clusterv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(status, &clusterv1.GetStatusResponse{Node: want[0], ClusterId: d.init.Cluster.String(), Epoch: d.init.Epoch.String(), LeaderId: idA, Voters: 3, Nonvoters: 2}) {
		t.Errorf("status %v", status)
	}
	d.cluster.change(func(f *fakeCluster) { f.members = f.members[:1] })
	_, err = d.operate().GetStatus(d.ctx, &clusterv1.GetStatusRequest{})
	wantCode(t, err, codes.FailedPrecondition, idA, "no member of its cluster any more")
}

func TestMembersAreNamed(t *testing.T) {
	d := newNode(t).run().door(serviceName)
	d.cluster.change(func(f *fakeCluster) { f.members[2].Name = "b" })
	for _, test := range []struct {
		node  string
		code  codes.Code
		names []string
		done  string
	}{
		{"a", codes.OK, nil, "promote " + idA},
		{idB, codes.OK, nil, "promote " + idB},
		{"b", codes.InvalidArgument, []string{`2 members are called "b"`, idB, idC}, ""},
		{"nope", codes.NotFound, []string{`node "nope" is no member`}, ""},
		{"", codes.InvalidArgument, []string{"no node is named"}, ""},
	} {
		_, err := d.operate().Promote(d.ctx, &clusterv1.PromoteRequest{Node: test.node})
		wantCode(t, err, test.code, test.names...)
		if got := d.cluster.asked(); got != test.done {
			t.Errorf("%q: %s, want %s", test.node, got, test.done)
		}
	}
}

func TestMembership(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d.log.hook(func(l *memoryLog) { l.index = 300 })
	d.permission("read")
	c := d.operate()
	did := func(want string, err error) {
		t.Helper()
		if got := d.cluster.asked(); got != want || err != nil {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	_, err := c.RemoveMember(d.ctx, &clusterv1.RemoveMemberRequest{Node: "b", Force: true})
	did("remove "+idB+" force=true", err)
	_, err = c.Demote(d.ctx, &clusterv1.DemoteRequest{Node: "c"})
	did("demote "+idC+" force=false", err)
	moved, err := c.TransferLeadership(d.ctx, &clusterv1.TransferLeadershipRequest{})
	did(`transfer to ""`, err)
	if moved.GetLeaderId() != idB || moved.GetLeaderName() != "b" {
		t.Errorf("transferred to %v", moved)
	}
	moved, err = c.TransferLeadership(d.ctx, &clusterv1.TransferLeadershipRequest{Node: "c"})
	did(`transfer to "`+idC+`"`, err)
	if moved.GetLeaderId() != idC {
		t.Errorf("transferred to %v", moved)
	}
	for _, test := range []struct {
		added     Member
		replica   bool
		wantState string
		done      bool
	}{
		{Member{Revision: 3}, false, "nonvoter", false},
		{Member{Revision: 90, Voter: true, Reached: true}, false, "voter", true},
		{Member{Reached: true}, true, "nonvoter", false},
		{Member{Revision: 3, Reached: true}, true, "nonvoter", false},
		{Member{Revision: 250, Reached: true}, true, "nonvoter", true},
	} {
		d.cluster.change(func(f *fakeCluster) { f.added = test.added })
		got, err := c.AddMember(d.ctx, &clusterv1.AddMemberRequest{Id: "new", RaftAddress: "there:1", Replica: test.replica, SupportedLevel: fsm.MaxLevel})
		did(fmt.Sprintf("add new at there:1 replica=%v level=%d", test.replica, fsm.MaxLevel), err)
		if got.GetSuffrage() != test.wantState || got.GetDone() != test.done || got.GetAppliedRevision() != test.added.Revision || got.GetLeaderRevision() != d.store.State().Revision {
			t.Errorf("%v, replica %v: %v", test.added, test.replica, got)
		}
	}
	d.cluster.change(func(f *fakeCluster) { f.fail = refused("2 of 3 voters would be left, and one of them is down") })
	_, err = c.RemoveMember(d.ctx, &clusterv1.RemoveMemberRequest{Node: "b"})
	wantCode(t, err, codes.FailedPrecondition, "2 of 3 voters")
	_, err = c.AddMember(d.ctx, &clusterv1.AddMemberRequest{Id: "new", SupportedLevel: fsm.MaxLevel})
	wantCode(t, err, codes.FailedPrecondition, "2 of 3 voters")
	d.cluster.asked()

	// Where the node does not lead any more, the next leader is asked.
	d.cluster.change(func(f *fakeCluster) {
		f.fail, f.failures = fmt.Errorf("%w: this node does not lead", ErrNotApplied), 2
	})
	_, err = c.RemoveMember(d.ctx, &clusterv1.RemoveMemberRequest{Node: "b"})
	again := "remove " + idB + " force=false"
	did(again+"; "+again+"; "+again, err)

	_, err = c.AddMember(d.ctx, &clusterv1.AddMemberRequest{Id: "old", SupportedLevel: d.store.State().Level - 1})
	wantCode(t, err, codes.FailedPrecondition, `node "old"`, fmt.Sprintf("the cluster is at level %d", d.store.State().Level), fmt.Sprintf("level %d at most", d.store.State().Level-1), "upgrade that node")
	if asked := d.cluster.asked(); asked != "" {
		t.Errorf("a node below the level: %s", asked)
	}
}

// A node that belongs to no cluster takes Join from anybody with a key, and
// nothing else: the cluster to be joined judges the key.
func TestJoin(t *testing.T) {
	leader := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d := newNodeAt(t, fsm.MaxLevel).door(serviceName)
	d.cluster.change(func(f *fakeCluster) { f.bare = true })
	for _, ctx := range []context.Context{d.ctx, t.Context()} {
		_, err := d.operate().ListMembers(ctx, &clusterv1.ListMembersRequest{})
		wantCode(t, err, codes.Unavailable, "belongs to no cluster yet")
	}
	_, err := all(d.operate().Join(t.Context(), &clusterv1.JoinRequest{Address: "there:1"}))
	wantCode(t, err, codes.Unauthenticated, "no API key")
	_, err = all(d.operate().Join(d.ctx, &clusterv1.JoinRequest{}))
	wantCode(t, err, codes.InvalidArgument, "no address")
	if asked := d.cluster.asked(); asked != "" {
		t.Errorf("asked for %s", asked)
	}

	var refusal error
	d.cluster.join = func(add func(context.Context, grpc.ClientConnInterface, NewMember) (bool, error), step func(string)) error {
		step("found the cluster")
		for _, added := range []Member{{Revision: 5}, {Revision: 80, Voter: true, Reached: true}} {
			leader.cluster.change(func(f *fakeCluster) { f.added = added })
			done, err := add(context.Background(), leader.conn, NewMember{ID: idC, RaftAddr: "here:2", Level: fsm.MaxLevel})
			if err != nil {
				refusal = err
				return err
			}
			if done != added.Voter {
				return errors.New("done at the wrong time")
			}
		}
		return nil
	}
	got, err := all(d.operate().Join(d.ctx, &clusterv1.JoinRequest{Address: "there:1"}))
	if err != nil {
		t.Fatal(err)
	}
	if words := stepsOf(got); words != "found the cluster; catching up, then it gets its vote; member of the cluster, with a vote" {
		t.Errorf("told %s", words)
	}
	if last := got[2]; last.AppliedRevision != 80 || last.TargetRevision != leader.store.State().Revision {
		t.Errorf("told %v", last)
	}
	want := fmt.Sprintf("add %s at here:2 replica=false level=%d", idC, fsm.MaxLevel)
	if asked := leader.cluster.asked(); asked != want+"; "+want || d.cluster.asked() != "join there:1" {
		t.Errorf("the cluster was asked for %s", asked)
	}

	// Who is no operator there is refused there, in its words.
	stranger := leader.key(project, fsm.RoleOwner)
	_, err = all(d.operate().Join(stranger.ctx, &clusterv1.JoinRequest{Address: "there:1"}))
	wantCode(t, err, codes.PermissionDenied, "only operators of the cluster may call ClusterService/AddMember")
	wantCode(t, refusal, codes.PermissionDenied)

	// On a member, where a joining may have been cut short, it takes an operator.
	d.cluster.change(func(f *fakeCluster) { f.bare = false })
	d.ready()
	d.cluster.asked()
	for ctx, code := range map[context.Context]codes.Code{t.Context(): codes.Unauthenticated, d.key(project, fsm.RoleOwner).ctx: codes.PermissionDenied} {
		_, err = all(d.operate().Join(ctx, &clusterv1.JoinRequest{Address: "there:1"}))
		wantCode(t, err, code)
	}
	if asked := d.cluster.asked(); asked != "" {
		t.Errorf("asked for %s", asked)
	}
	if _, err = all(d.operate().Join(d.ctx, &clusterv1.JoinRequest{Address: "there:1"})); err != nil || d.cluster.asked() != "join there:1" {
		t.Errorf("an operator on a member: %v", err)
	}
}

// A followerLog is a log on another node than the leader.
type followerLog struct {
	*memoryLog
	leader grpc.ClientConnInterface
	err    error
}

func (l followerLog) Leader(context.Context) (grpc.ClientConnInterface, bool, error) {
	return l.leader, false, l.err
}

func TestLeave(t *testing.T) {
	d := newNode(t).run().door(serviceName)
	d.cluster.leave = func(step func(string)) error {
		step("drained")
		return nil
	}
	leave := func(node string, force bool) (string, error) {
		got, err := all(d.operate().Leave(d.ctx, &clusterv1.LeaveRequest{Node: node, Force: force}))
		return stepsOf(got), err
	}
	if got, err := leave("", false); err != nil || got != "drained" || d.cluster.asked() != "leave "+idA+" force=false" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := leave("b", true); err != nil || got != "drained" || d.cluster.asked() != "leave "+idB+" force=true" {
		t.Errorf("%s, %v", got, err)
	}
	_, err := leave("nope", true)
	wantCode(t, err, codes.NotFound, "nope")
	d.cluster.leave = func(func(string)) error { return refused("it is the last voter") }
	_, err = leave("b", false)
	wantCode(t, err, codes.FailedPrecondition, "the last voter")
	d.cluster.asked()

	// One that is gone is removed without it, from any node.
	d.cluster.leave = func(func(string)) error { return fmt.Errorf("%w: connection refused", ErrUnreachable) }
	const told = "the node cannot leave by itself, so it is removed without it; the node is removed: wipe its data folder before it starts again"
	if got, err := leave("c", true); err != nil || got != told || d.cluster.asked() != "leave "+idC+" force=true; remove "+idC+" force=true" {
		t.Errorf("%s, %v", got, err)
	}
	leader := newNode(t).run().door(serviceName)
	d.server.log = followerLog{d.log, leader.conn, nil}
	if got, err := leave("c", false); err != nil || got != told || leader.cluster.asked() != "remove "+idC+" force=false" {
		t.Errorf("%s, %v", got, err)
	}
	// It may have led: then the next leader removes it.
	d.server.log = &electingLog{followerLog{d.log, leader.conn, errors.New("an election is under way")}, 3}
	if got, err := leave("c", false); err != nil || got != told || leader.cluster.asked() != "remove "+idC+" force=false" {
		t.Errorf("%s, %v", got, err)
	}
}

// A node that leaves asks for that itself, so who may say so is judged by the newest
// state, of which the node that was asked need not have heard.
func TestLeaveIsJudgedAtTheNewestState(t *testing.T) {
	w := newWorld(newNode(t).ready().door(serviceName))
	k := w.operator()
	w.cluster.asked()
	w.whenRead(func() { w.log.put(t, &fsm.InvalidateKey{Scope: w.builtIn().scope(), ID: k.id}) })
	_, err := all(w.operate().Leave(k.ctx, &clusterv1.LeaveRequest{Node: "b", Force: true}))
	wantCode(t, err, codes.Unauthenticated, "not valid")
	if asked := w.cluster.asked(); asked != "" {
		t.Errorf("the cluster was asked to %s", asked)
	}
}

// A change of members that may have been made is not said to have failed, nor asked
// for again where that would not find the member.
func TestMembersMayBeChanged(t *testing.T) {
	d := newNode(t).run().door(serviceName)
	for name, change := range map[string]func() error{
		"promote": func() error {
			_, err := d.operate().Promote(d.ctx, &clusterv1.PromoteRequest{Node: "b"})
			return err
		},
		"demote": func() error {
			_, err := d.operate().Demote(d.ctx, &clusterv1.DemoteRequest{Node: "b"})
			return err
		},
		"remove": func() error {
			_, err := d.operate().RemoveMember(d.ctx, &clusterv1.RemoveMemberRequest{Node: "b"})
			return err
		},
	} {
		d.cluster.asked()
		d.cluster.change(func(f *fakeCluster) { f.fail = fmt.Errorf("%w: leadership was lost", ErrMayBeMade) })
		err := change()
		wantCode(t, err, codes.Unavailable, "the outcome of the call is unknown: the change may have been made", "look before you repeat it")
		if asked := d.cluster.asked(); strings.Contains(asked, ";") || asked == "" {
			t.Errorf("%s: the cluster was asked to %s", name, asked)
		}
	}
}

// An electingLog knows the leader after a while.
type electingLog struct {
	followerLog
	failures int
}

func (l *electingLog) Leader(context.Context) (grpc.ClientConnInterface, bool, error) {
	if l.failures--; l.failures >= 0 {
		return nil, false, l.err
	}
	return l.leader, false, nil
}

// A snapshot is of all that was acknowledged before, and whole.
func TestSaveSnapshot(t *testing.T) {
	d := newNodeAt(t, fsm.MaxLevel).run().door(serviceName)
	d.sample()
	for i := range 40 {
		for j := range 8 {
			d.log.put(t, &fsm.PutPermission{Scope: d.scope(), ID: NewID(), Name: fmt.Sprintf("p%d.%d", i, j), Description: strings.Repeat("x", 1000)})
		}
	}
	got, err := all(d.operate().SaveSnapshot(d.ctx, &clusterv1.SaveSnapshotRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	state := d.store.State().Backup()
	var whole bytes.Buffer
	for i, piece := range got {
		if len(piece.Data) > savePiece || i < len(got)-1 && len(piece.Data) != savePiece || (piece.Revision != 0) != (i == 0) {
			t.Errorf("piece %d: %d bytes, revision %d", i, len(piece.Data), piece.Revision)
		}
		whole.Write(piece.Data)
	}
	if len(got) < 2 || got[0].Revision != state.Revision {
		t.Errorf("%d pieces of revision %d", len(got), got[0].Revision)
	}
	read, err := fsm.ReadSnapshot(&whole)
	if err != nil || read.Digest() != state.Digest() {
		t.Errorf("the snapshot is another state: %v", err)
	}

	// Without a leader there is no saying what was acknowledged.
	d.log.hook(func(l *memoryLog) {
		l.onRead = func(context.Context) (uint64, error) { return 0, errors.New("no leader") }
	})
	_, err = all(d.operate().SaveSnapshot(d.ctx, &clusterv1.SaveSnapshotRequest{}))
	wantCode(t, err, codes.Unavailable, "no leader")
}

// Whoever goes away ends the stream, and no more than that.
func TestSaveSnapshotCancelled(t *testing.T) {
	d := newNode(t).run().door(serviceName)
	for i := range 3000 {
		d.log.put(t, &fsm.PutPermission{Scope: d.scope(), ID: NewID(), Name: fmt.Sprint("p", i), Description: strings.Repeat("x", 1000)})
	}
	ctx, cancel := context.WithCancel(d.ctx)
	stream, err := d.operate().SaveSnapshot(ctx, &clusterv1.SaveSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, err, codes.Canceled)
	d.permission("later")
}
