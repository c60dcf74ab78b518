package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// decode reads a struct from the one msgpack map that the data has to be. What
// is well formed and yet not known to this version is ErrUpgrade.
func decode(data []byte, into any) error {
	if err := checkMap(data); err != nil {
		return err
	}
	d := msgpack.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields(true)
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w (%w)", err, ErrUpgrade)
	}
	return nil
}

// maxDepth is above that of the maps and lists in commands and records.
const maxDepth = 8

// checkMap refuses data that is not one whole map. The decoder trusts the
// lengths that it reads: a few damaged bytes, and it asks for gigabytes.
func checkMap(data []byte) error {
	if len(data) == 0 || !msgpcode.IsFixedMap(data[0]) && data[0] != msgpcode.Map16 && data[0] != msgpcode.Map32 {
		return fmt.Errorf("the data is damaged: it does not begin with a map")
	}
	rest, err := checkValue(data, maxDepth)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("the data is damaged: %d bytes too many", len(rest))
	}
	return err
}

// checkValue steps over one value, of the types that our encoder writes.
func checkValue(b []byte, depth int) (rest []byte, err error) {
	if len(b) == 0 || depth == 0 {
		return nil, fmt.Errorf("the data is damaged: it is cut off or nested too deeply")
	}
	c, b := b[0], b[1:]
	var size, values int64 // bytes, or values, that belong to this one
	switch {
	case msgpcode.IsFixedNum(c), c == msgpcode.Nil, c == msgpcode.False, c == msgpcode.True:
	case msgpcode.IsFixedString(c):
		size = int64(c & msgpcode.FixedStrMask)
	case msgpcode.IsFixedArray(c):
		values = int64(c & msgpcode.FixedArrayMask)
	case msgpcode.IsFixedMap(c):
		values = 2 * int64(c&msgpcode.FixedMapMask)
	case c >= msgpcode.Uint8 && c <= msgpcode.Uint64:
		size = 1 << (c - msgpcode.Uint8)
	case c >= msgpcode.Int8 && c <= msgpcode.Int64:
		size = 1 << (c - msgpcode.Int8)
	case c >= msgpcode.Bin8 && c <= msgpcode.Bin32:
		size, b = bigEndian(b, 1<<(c-msgpcode.Bin8))
	case c >= msgpcode.Str8 && c <= msgpcode.Str32:
		size, b = bigEndian(b, 1<<(c-msgpcode.Str8))
	case c == msgpcode.Array16 || c == msgpcode.Array32:
		values, b = bigEndian(b, 2<<(c-msgpcode.Array16))
	case c == msgpcode.Map16 || c == msgpcode.Map32:
		values, b = bigEndian(b, 2<<(c-msgpcode.Map16))
		values *= 2
	default:
		return nil, fmt.Errorf("the data is damaged: no value begins with %#x", c)
	}
	if size+values > int64(len(b)) { // every value has a byte at least
		return nil, fmt.Errorf("the data is damaged: %d bytes are left where %d should be", len(b), size+values)
	}
	b = b[size:]
	for range values {
		if b, err = checkValue(b, depth-1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// bigEndian takes a length of n bytes off b, as many as there are.
func bigEndian(b []byte, n int) (length int64, rest []byte) {
	if len(b) < n {
		return int64(n), nil // more than is left
	}
	var all [8]byte
	copy(all[8-n:], b)
	return int64(binary.BigEndian.Uint64(all[:])), b[n:]
}
