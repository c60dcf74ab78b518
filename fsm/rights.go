package fsm

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A number stands for a permission or a role within its project: smaller than
// an id by far, given out in order and never again. Permissions have even
// numbers, roles odd ones. The number of something deleted is dead: it finds
// nothing in the catalogue, so wherever it is still written it grants nothing.
type number uint32

func (n number) isRole() bool { return n&1 == 1 }

// rights is the set of permissions and roles in one assignment: their numbers
// in ascending order, as uvarint differences.
type rights string

// next decodes the first number behind prev and returns what follows it. The
// rights must not be empty.
func (r rights) next(prev number) (number, rights) {
	if b := r[0]; b < 0x80 {
		return prev + number(b), r[1:]
	}
	n, shift := number(0), 0
	for i := 0; ; i++ {
		b := r[i]
		n |= number(b&0x7f) << shift
		if b < 0x80 {
			return prev + n, r[i+1:]
		}
		shift += 7
	}
}

func (r rights) numbers() []number {
	var all []number
	for n := number(0); r != ""; {
		n, r = r.next(n)
		all = append(all, n)
	}
	return all
}

// makeRights encodes a set, which it sorts in place.
func makeRights(set []number) rights {
	slices.Sort(set)
	var b []byte
	prev := number(0)
	for i, n := range set {
		if i > 0 && n == prev {
			continue
		}
		b = binary.AppendUvarint(b, uint64(n-prev))
		prev = n
	}
	return rights(b)
}

// parseRights checks rights that were read from outside, and returns the highest
// number in them too.
func parseRights(s string) (r rights, highest number, err error) {
	prev := uint64(0)
	for b := []byte(s); len(b) > 0; {
		d, n := binary.Uvarint(b)
		if n <= 0 || d > 1<<32-1 || prev+d > 1<<32-1 || (d == 0 && len(b) < len(s)) {
			return "", 0, fmt.Errorf("malformed rights %x", s)
		}
		prev += d
		b = b[n:]
	}
	if s == "" || makeRights(rights(s).numbers()) != rights(s) {
		return "", 0, fmt.Errorf("malformed rights %x", s)
	}
	return rights(s), number(prev), nil
}
