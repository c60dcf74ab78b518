package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// A pagedList is one of the calls that answer page by page.
type pagedList struct {
	name string
	// request asks for a page of what is about a text: a search or a principal.
	request func(about string, p *paginationv1.PaginationRequest) proto.Message
	items   func(reply proto.Message) []string
	add     func(d *door, item string)
	remove  func(d *door, item string)
	about   string // what all items are about
	other   string // what none is about
}

// pagedLists takes items such as "k05".
var pagedLists = []pagedList{
	{
		name: "permissions", about: "K", other: "x",
		request: func(about string, p *paginationv1.PaginationRequest) proto.Message {
			return &permissionsv1.ListPermissionsRequest{ProjectName: project, Search: &about, Pagination: p}
		},
		items: func(reply proto.Message) []string {
			return namesOf(reply.(*permissionsv1.ListPermissionsResponse).Permissions)
		},
		add: func(d *door, item string) { d.permission(item) },
		remove: func(d *door, item string) {
			do(d, d.DeletePermission, &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: item})
		},
	},
	{
		name: "roles", about: "K", other: "x",
		request: func(about string, p *paginationv1.PaginationRequest) proto.Message {
			return &permissionsv1.ListRolesRequest{ProjectName: project, Search: &about, Pagination: p}
		},
		items: func(reply proto.Message) (names []string) {
			for _, r := range reply.(*permissionsv1.ListRolesResponse).Roles {
				names = append(names, r.Name)
			}
			return names
		},
		add: func(d *door, item string) { d.role(item) },
		remove: func(d *door, item string) {
			do(d, d.DeleteRole, &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: item})
		},
	},
	{
		name: "principals", about: "K", other: "x",
		request: func(about string, p *paginationv1.PaginationRequest) proto.Message {
			return &permissionsv1.ListPrincipalsRequest{ProjectName: project, Search: &about, Pagination: p}
		},
		items:  func(reply proto.Message) []string { return reply.(*permissionsv1.ListPrincipalsResponse).Principals },
		add:    func(d *door, item string) { d.grant(item, "/a", []string{"read"}, nil) },
		remove: func(d *door, item string) { d.revoke(item, "/a", []string{"read"}, nil) },
	},
	{
		name: "assignments", about: "anna", other: "ben",
		request: func(about string, p *paginationv1.PaginationRequest) proto.Message {
			return &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: about, Pagination: p}
		},
		items: func(reply proto.Message) (items []string) {
			for _, a := range reply.(*permissionsv1.GetAllAssignmentsForPrincipalResponse).Assignments {
				items = append(items, a.ResourceUri[1:])
			}
			return items
		},
		add:    func(d *door, item string) { d.grant("anna", "/"+item, []string{"read"}, nil) },
		remove: func(d *door, item string) { d.revoke("anna", "/"+item, []string{"read"}, nil) },
	},
}

// everyList runs a test on each list over each door.
func everyList(t *testing.T, test func(t *testing.T, d *door, l pagedList)) {
	for _, l := range pagedLists {
		t.Run(l.name, func(t *testing.T) {
			everyDoor(t, func(t *testing.T, d *door) {
				if l.name == "principals" || l.name == "assignments" {
					d.permission("read") // no item: search leaves it out
				}
				test(t, d, l)
			})
		})
	}
}

// page asks for one page. A limit of 0 leaves it to the server.
func (l pagedList) page(d *door, about string, limit int32, cursor string) (items []string, next string) {
	d.t.Helper()
	p := &paginationv1.PaginationRequest{}
	if limit > 0 {
		p.Limit = &limit
	}
	if cursor != "" {
		p.Cursor = &cursor
	}
	reply, err := d.call(d.ctx, l.request(about, p))
	if err != nil {
		d.t.Fatal(err)
	}
	return l.items(reply), reply.(interface {
		GetPagination() *paginationv1.PaginationResponse
	}).GetPagination().GetNextCursor()
}

func TestPages(t *testing.T) {
	everyList(t, func(t *testing.T, d *door, l pagedList) {
		if items, next := l.page(d, l.about, 0, ""); len(items) != 0 || next != "" {
			t.Errorf("the empty list is %q, cursor %q", items, next)
		}
		var all []string
		for i := range 105 {
			all = append(all, fmt.Sprintf("k%03d", i))
		}
		for _, i := range []int{52, 0, 104} { // in no order first
			l.add(d, all[i])
		}
		for _, item := range all {
			l.add(d, item)
		}
		items, next := l.page(d, l.about, 0, "")
		wantStrings(t, "the first page, of 10", items, all[:10]...)
		if next == "" {
			t.Error("there is no next page")
		}
		reply, err := d.call(d.ctx, l.request(l.about, nil))
		if err != nil {
			t.Fatal(err)
		}
		wantStrings(t, "the first page, without pagination", l.items(reply), all[:10]...)

		for _, limit := range []int{1, 7, 35, 100} { // 35 leaves no rest
			var got []string
			for cursor, pages := "", 1; ; pages++ {
				items, next := l.page(d, l.about, int32(limit), cursor)
				if got = append(got, items...); next == "" {
					if want := (len(all) + limit - 1) / limit; pages != want {
						t.Errorf("limit %d: %d pages, want %d", limit, pages, want)
					}
					break
				}
				if len(items) != limit {
					t.Errorf("limit %d: a page of %d before the last", limit, len(items))
				}
				cursor = next
			}
			wantStrings(t, fmt.Sprintf("all pages of %d", limit), got, all...)
		}
	})
}

// What is written between two pages neither repeats nor hides anything else.
func TestPagesUnderWrites(t *testing.T) {
	everyList(t, func(t *testing.T, d *door, l pagedList) {
		for i := range 8 {
			l.add(d, fmt.Sprintf("k%d0", i))
		}
		items, cursor := l.page(d, l.about, 3, "")
		wantStrings(t, "first page", items, "k00", "k10", "k20")

		l.add(d, "k05")    // before the cursor
		l.remove(d, "k10") //
		l.remove(d, "k20") // what the cursor stands on
		l.add(d, "k25")    // behind it
		l.remove(d, "k30") //
		l.add(d, "k15")
		items, cursor = l.page(d, l.about, 3, cursor)
		wantStrings(t, "second page", items, "k25", "k40", "k50")

		for i := 6; i < 8; i++ {
			l.remove(d, fmt.Sprintf("k%d0", i))
		}
		items, next := l.page(d, l.about, 3, cursor)
		if len(items) != 0 || next != "" {
			t.Errorf("behind the last: %q, cursor %q", items, next)
		}
		// A cursor may be used again.
		l.add(d, "k60")
		items, _ = l.page(d, l.about, 3, cursor)
		wantStrings(t, "third page, later", items, "k60")
	})
}

func TestBadPages(t *testing.T) {
	everyList(t, func(t *testing.T, d *door, l pagedList) {
		for _, limit := range []int32{0, -1, 101, -1 << 31, 1<<31 - 1} {
			d.refuse(t, d.ctx, l.request(l.about, &paginationv1.PaginationRequest{Limit: &limit}),
				codes.InvalidArgument, fmt.Sprintf("limit %d ", limit), "from 1 to 100")
		}
		for i := range 4 {
			l.add(d, fmt.Sprintf("k%d", i))
		}
		_, good := l.page(d, l.about, 2, "")

		bad := map[string]string{
			"garbage": "abc123", "not base64": "%%%", "empty record": good[:22], "cut off": good[:len(good)-1], "twice": good + good,
			"longer": good + "A", "padded": good + "=", "a line behind": good + "\n", "a line within": good[:4] + "\r\n" + good[4:],
			"a space": " " + good, "huge": string(slices.Repeat([]byte("A"), 100_000)), "a character": "ü" + good,
		}
		for i := range good {
			for _, c := range []byte{'A', '_', good[i] ^ 1} {
				if c != good[i] {
					bad[fmt.Sprintf("%q at byte %d", c, i)] = good[:i] + string(c) + good[i+1:]
				}
			}
		}
		for _, other := range pagedLists {
			if other.name != l.name {
				o := listing{other.name, d.init.Organisation, d.init.Project, other.about}
				bad["of "+other.name] = o.cursor(d.store.State(), "k1")
			}
		}
		own := listing{l.name, d.init.Organisation, d.init.Project, l.about}
		for name, change := range map[string]func(*listing){
			"another organisation":     func(o *listing) { o.organisation = NewID() },
			"another project":          func(o *listing) { o.project = NewID() },
			"all projects":             func(o *listing) { o.project = fsm.ID{} },
			"another search":           func(o *listing) { o.about = l.other },
			"search in other letters":  func(o *listing) { o.about += "k" },
			"parts that run together":  func(o *listing) { o.call, o.about = o.call+l.about, "" },
			"nothing to be search for": func(o *listing) { o.about = "" },
		} {
			o := own
			change(&o)
			bad["of "+name] = o.cursor(d.store.State(), "k1")
		}
		foreign := *d.store.State()
		foreign.Secret[0] ^= 1
		bad["of another cluster"] = own.cursor(&foreign, "k1")

		before := digestOf(d.store.State())
		for name, cursor := range bad {
			_, err := d.call(d.ctx, l.request(l.about, &paginationv1.PaginationRequest{Cursor: &cursor}))
			if err == nil {
				t.Errorf("%s: cursor %q was taken", name, cursor)
				continue
			}
			wantCode(t, err, codes.InvalidArgument, "cursor "+quote(cursor))
		}
		if digestOf(d.store.State()) != before {
			t.Error("the state changed")
		}
		// With another search or for another principal the same cursor is refused.
		_, err := d.call(d.ctx, l.request(l.other, &paginationv1.PaginationRequest{Cursor: &good}))
		wantCode(t, err, codes.InvalidArgument, good)
		if items, _ := l.page(d, l.about, 2, good); !slices.Equal(items, []string{"k2", "k3"}) {
			t.Errorf("the good cursor leads to %q", items)
		}
	})
}

// twoProjects returns views of the node's project under two names, since no call
// makes a second one yet.
func (n *node) twoProjects() []view {
	v := n.view()
	production, staging := *v.Project, *v.Project
	staging.ID, staging.Name = NewID(), "staging"
	return []view{{v.state, v.organisation, &production}, {v.state, v.organisation, &staging}}
}

func TestAssignmentsOverProjects(t *testing.T) {
	n := newNode(t).ready()
	d := n.localDoor()
	d.permission("read")
	for _, uri := range []string{"/a", "/b", "/c"} {
		d.grant("anna", uri, []string{"read"}, nil)
	}
	views := n.twoProjects()
	want := []string{"production/a", "production/b", "production/c", "staging/a", "staging/b", "staging/c"}
	for _, limit := range []int{1, 2, 3, 4, 6, 7} {
		var got []string
		for behind, more := "", true; more; {
			var taken []located
			taken, more = page(assignmentsIn(views, "anna", behind), limit, func(located) bool { return true }, located.weigh)
			for _, a := range taken {
				got = append(got, a.in.Name+a.URI)
			}
			last := taken[len(taken)-1]
			behind = last.in.Name + "\n" + last.URI
		}
		wantStrings(t, fmt.Sprintf("pages of %d", limit), got, want...)
	}
	// A project that went since does not hide those behind it.
	var got []string
	for a := range assignmentsIn(views[1:], "anna", "production\n/b") {
		got = append(got, a.in.Name+a.URI)
	}
	wantStrings(t, "without the cursor's project", got, want[3:]...)
}

// TestHeavyPages: a page ends before its answer is more than gRPC clients take,
// and what is too much by itself is refused.
func TestHeavyPages(t *testing.T) {
	everyDoor(t, func(t *testing.T, d *door) {
		description := strings.Repeat("d", fsm.MaxDescriptionBytes)
		var names []string
		for i := range 600 {
			names = append(names, fmt.Sprintf("p%03d", i))
			if _, err := d.call(d.ctx, &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: names[i], Description: description}); err != nil {
				t.Fatal(err)
			}
		}
		var want []string
		for i := range 8 { // of 700 KB each
			want = append(want, fmt.Sprintf("r%d", i))
			d.role(want[i], names...)
		}
		limit := int32(100)
		var got []string
		pages := 0
		for cursor := ""; ; pages++ {
			reply, err := d.call(d.ctx, &permissionsv1.ListRolesRequest{ProjectName: project,
				Pagination: &paginationv1.PaginationRequest{Limit: &limit, Cursor: &cursor}})
			if err != nil {
				t.Fatal(err)
			}
			if size := proto.Size(reply); size > 4<<20 {
				t.Errorf("an answer of %d bytes", size)
			}
			for _, r := range reply.(*permissionsv1.ListRolesResponse).Roles {
				got = append(got, r.Name)
			}
			if cursor = reply.(*permissionsv1.ListRolesResponse).Pagination.NextCursor; cursor == "" {
				break
			}
		}
		wantStrings(t, "roles", got, want...)
		if pages == 0 {
			t.Error("all on one page")
		}

		d.grant("anna", "/a", nil, want[:3])
		d.grant("anna", "/b", nil, want[:3])
		reply, err := d.call(d.ctx, &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: "anna"})
		if err != nil {
			t.Fatal(err)
		}
		if r := reply.(*permissionsv1.GetAllAssignmentsForPrincipalResponse); len(r.Assignments) != 1 || r.Pagination.NextCursor == "" {
			t.Errorf("%d assignments of 2 MB each on one page, cursor %q", len(r.Assignments), r.Pagination.NextCursor)
		}
		d.held("anna", "/a/b", true)

		d.grant("anna", "/a", nil, want)
		d.refuse(t, d.ctx, &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: "anna"},
			codes.ResourceExhausted, "anna", "/a")
		d.refuse(t, d.ctx, &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: "anna", ResourceUri: "/a/b", IncludeInherited: true,
		}, codes.ResourceExhausted, "anna", "/a/b")
		if roles := d.held("anna", "/a", false).Roles; len(roles) != len(want) {
			t.Errorf("%d roles by id, want %d", len(roles), len(want))
		}
	})
}
