package index

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
)

// checkTable holds a table to its form and to what it should contain.
func checkTable(t *testing.T, x *table, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	bytes, buckets := 0, 0
	for i, chunk := range x.chunks {
		if len(chunk) == 0 || len(chunk) != chunkBuckets && i < len(x.chunks)-1 {
			t.Fatalf("chunk %d of %d has %d buckets", i, len(x.chunks), len(chunk))
		}
		for _, p := range chunk {
			keys, values := entriesOf(t, p)
			for j, key := range keys {
				if b := x.bucket(key); b != buckets {
					t.Fatalf("%q lies in bucket %d, want %d", key, buckets, b)
				}
				got[key] = values[j]
			}
			bytes += len(p)
			buckets++
		}
	}
	if bytes != x.bytes || buckets != x.buckets {
		t.Fatalf("the table says %d bytes in %d buckets, it has %d in %d", x.bytes, x.buckets, bytes, buckets)
	}
	if x.bytes > x.buckets*bucketBytes {
		t.Fatalf("%d bytes are too many for %d buckets", x.bytes, x.buckets)
	}
	if !maps.Equal(got, want) {
		t.Fatalf("the table has %d entries, want %d", len(got), len(want))
	}
	for key, value := range want {
		if got, ok := x.get(key); got != value || !ok {
			t.Fatalf("get(%q) = %q, %v", key, got, ok)
		}
		if _, ok := x.get(key + "?"); ok {
			t.Fatalf("get finds %q", key+"?")
		}
	}
}

// TestTable grows a table over several chunks and shrinks it again, and keeps
// versions of it: no later edit may show in them.
func TestTable(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 6))
		var x tableEdit
		want := map[string]string{}
		type version struct {
			table
			want map[string]string
		}
		var old []version
		const steps = 12_000
		for step := range 4 * steps {
			key := fmt.Sprint("principal:", r.IntN(steps))
			if shrink := step / steps % 2; r.IntN(10) < 9-8*shrink {
				want[key] = strings.Repeat("r", r.IntN(200))
				x.put(key, want[key])
			} else {
				delete(want, key)
				x.remove(key)
				if x.buckets > 1 && x.bytes < x.buckets*bucketBytes/4 {
					t.Fatalf("%d buckets are too many for %d bytes", x.buckets, x.bytes)
				}
			}
			if r.IntN(40) == 0 {
				v := x.publish()
				if r.IntN(steps/40) == 0 {
					old = append(old, version{v, maps.Clone(want)})
				}
			}
			if step%steps == steps/2 {
				checkTable(t, &x.table, want)
			}
		}
		checkTable(t, &x.table, want)
		for _, v := range old {
			checkTable(t, &v.table, v.want)
		}
		for key := range want {
			x.remove(key)
		}
		checkTable(t, &x.table, map[string]string{})
		if x.buckets > 1 {
			t.Errorf("an empty table keeps %d buckets", x.buckets)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	var x tableEdit
	x.remove("nobody")
	if _, ok := x.get("nobody"); ok {
		t.Error("an empty table finds somebody")
	}
	checkTable(t, &x.table, map[string]string{})
}
