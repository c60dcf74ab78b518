package rest_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/remit-io/remit/server/rest"
)

// paths has one path of every route.
var paths = []string{
	base + "/permissions", base + "/permissions/assign", base + "/permissions/revoke", base + "/permissions/check",
	base + "/permissions/principals", base + "/permissions/document.read", base + "/permissions/user/usr_123/resource//project/456",
	base + "/permissions/assignments/principal/usr_123", base + "/roles", base + "/roles/role_456",
	organisations + "/organisation", organisations + "/organisation/o", organisations + "/organisation/o/project",
	organisations + "/organisation/o/projects", organisations + "/organisation/o/api-key", organisations + "/organisation/o/api-key/k",
	organisations + "/whoami",
}

// checkAnswer checks what holds of every request, however bad: an OK with one
// call or an error of the caller's with none.
func checkAnswer(t *testing.T, conn *fakeConn, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Location") != "" {
		t.Fatalf("headers %v", w.Header())
	}
	if w.Code == http.StatusOK {
		if len(conn.calls) != 1 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d calls were made and answered %q", len(conn.calls), w.Body)
		}
		return
	}
	var body struct {
		Error struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error.Message == "" {
		t.Fatalf("status %d, body is no error: %q", w.Code, w.Body)
	}
	code, ok := map[int]int{400: 3, 401: 16, 404: 5, 405: 12, 413: 3}[w.Code]
	if !ok || body.Error.Code != code || len(conn.calls) != 0 {
		t.Fatalf("status %d, %d calls: %q", w.Code, len(conn.calls), w.Body)
	}
}

// FuzzPath sends requests as they stand in a request line.
func FuzzPath(f *testing.F) {
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"} {
			f.Add(method, path, "project_name=production")
		}
	}
	for _, rest := range []string{
		"", "/", "//a", "/%2Fa%2Fb", "/a%252Fb", "/a//b/./../", "/%", "/%zz", "/%FF", "/a%2Fé|", "/a:b", "/a%00", "/a?b#c", "/a;b", "*",
	} {
		f.Add("GET", base+"/permissions/user/user:default%2Fguest/resource"+rest, "include_inherited=true&consistency=FULLY_CONSISTENT&token=t")
	}
	for _, query := range []string{
		"limit=10&cursor=abc123&search=document", "limit=x", "limit=1&limit=2", "pagination.limit=1", "a=b&c", "%zz", "search=%FF", "a;b", "=", "&&&",
		"consistency=3", "pagination[limit]=1", "limit", "search=" + strings.Repeat("é", 200),
	} {
		f.Add("GET", base+"/permissions", query)
		f.Add("POST", base+"/permissions", query)
	}
	f.Add("CONNECT", "h:1", "")
	f.Add("OPTIONS", "*", "")
	f.Add("GET", "//h/x", "")
	f.Add("GET", "http://h"+base+"/roles", "")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		line := method + " " + path + "?" + query + " HTTP/1.1\r\nHost: h\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(line)))
		if err != nil {
			t.Skip("no request")
		}
		conn := &fakeConn{}
		w := httptest.NewRecorder()
		rest.Handler(conn, nil, "").ServeHTTP(w, r)
		checkAnswer(t, conn, w)
	})
}

// FuzzBody sends bodies to every route.
func FuzzBody(f *testing.F) {
	bodies := []string{
		"", " ", "{}", "null", "[]", `"x"`, "5", "{", "}", "{}{}", "{} x", `{"name":"x"}`, `{"name":5}`, `{"name":null}`, `{"name":"x","name":"y"}`,
		`{"id":"role_456","name":"n","permissions":["a","b"]}`, `{"permissions":"a"}`, `{"permissions":[null]}`, `{"colour":1}`, `{"[a.b]":1}`,
		`{"@type":"x"}`, `{"consistency":3}`, `{"consistency":"FULLY_CONSISTENT","token":"t"}`, `{"consistency":99999999999}`, `{"name":1e999}`,
		"{\"name\":\"\xff\"}", `{"name":"\ud800\u0000"}`, "\ufeff{}", `{"name":` + strings.Repeat("[", 1000),
		`{"project_name":"p","principal_id":"u","resource_uris":["/a"],"permissions":["document.read"]}`,
		`{"project_name":"p","user_id":"u","resource_uri":"/a","permissions":[],"roles":["r"]}`,
		`{"project_name":"p","new_name":"n","description":"d"}`, `{"project_name":"p","name":"ci","role":"viewer","operator":true}`,
	}
	for _, body := range bodies {
		for i := range paths {
			f.Add(uint8(i), uint8(0), "application/json", []byte(body))
			f.Add(uint8(i), uint8(1), "", []byte(body))
		}
	}
	f.Add(uint8(0), uint8(2), "text/plain; charset", []byte("{}"))
	f.Add(uint8(5), uint8(3), ";", []byte("x"))
	methods := []string{"POST", "PUT", "GET", "DELETE"}
	f.Fuzz(func(t *testing.T, path, method uint8, contentType string, body []byte) {
		r := httptest.NewRequest(methods[int(method)%len(methods)], paths[int(path)%len(paths)], strings.NewReader(string(body)))
		r.Header.Set("Content-Type", contentType)
		conn := &fakeConn{}
		w := httptest.NewRecorder()
		rest.Handler(conn, nil, "").ServeHTTP(w, r)
		checkAnswer(t, conn, w)
	})
}
