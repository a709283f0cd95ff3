package repostate

import (
	"sort"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A column is a list of numbers of 32 bits, as it lies in the text of a table, little-endian.
type column string

func (c column) len() int { return len(c) / 4 }

func (c column) at(i int) uint32 {
	b := c[4*i : 4*i+4]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// ascends reports whether each number is greater than the one before it, and all are less
// than limit.
func (c column) ascends(limit int) bool {
	next := uint64(0)
	for i := range c.len() {
		n := uint64(c.at(i))
		if n < next || n >= uint64(limit) {
			return false
		}
		next = n + 1
	}
	return true
}

// below reports whether all numbers are less than limit.
func (c column) below(limit int) bool {
	for i := range c.len() {
		if uint64(c.at(i)) >= uint64(limit) {
			return false
		}
	}
	return true
}

// has reports whether a column that ascends has a number.
func (c column) has(n int) bool {
	_, found := sort.Find(c.len(), func(i int) int { return n - int(c.at(i)) })
	return found
}

// divides reports whether the numbers are the ends of parts of a text of the given length,
// one after another, the first of which begins at 0: they do not decrease, and the last is
// its length.
func (c column) divides(length int) bool {
	last := uint32(0)
	for i := range c.len() {
		n := c.at(i)
		if n < last {
			return false
		}
		last = n
	}
	return int64(last) == int64(length)
}

// part returns a part of text, whose ends are the numbers of c.
func (c column) part(text string, i int) string {
	start := uint32(0)
	if i > 0 {
		start = c.at(i - 1)
	}
	return text[start:c.at(i)]
}

// The length of the bytes that a digest stands for, which is its key here.
const (
	size256 = 32
	size512 = 64
)

// keyBuffer has room for a key.
type keyBuffer [size512]byte

// appendKey appends the bytes that a digest stands for. It returns false for a digest that
// is not valid: no repository has content with one.
func appendKey(dst []byte, digest ociregistry.Digest) (key []byte, ok bool) {
	algorithm, encoded, _ := strings.Cut(string(digest), ":")
	switch {
	case algorithm == "sha256" && len(encoded) == 2*size256:
	case algorithm == "sha512" && len(encoded) == 2*size512:
	default:
		return dst, false
	}
	for i := 0; i < len(encoded); i += 2 {
		high, low := hexDigit(encoded[i]), hexDigit(encoded[i+1])
		if high|low > 15 {
			return dst, false
		}
		dst = append(dst, high<<4|low)
	}
	return dst, true
}

// hexDigit returns the value of a hexadecimal digit, which is not a capital letter, or 255.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// digestOf returns the digest that a key stands for.
func digestOf(key string) ociregistry.Digest {
	var text digestText
	return text.of(key, 1)
}

// digestText has the texts of digests. Those of many digests take few allocations.
type digestText struct{ strings.Builder }

// of returns the digest that a key stands for. If there is no room for it, it makes room for
// n.
func (t *digestText) of(key string, n int) ociregistry.Digest {
	const digits = "0123456789abcdef"
	prefix := "sha256:"
	if len(key) == size512 {
		prefix = "sha512:"
	}
	if size := len(prefix) + 2*len(key); t.Cap()-t.Len() < size {
		t.Reset()
		t.Grow(n * size)
	}
	start := t.Len()
	t.WriteString(prefix)
	for _, b := range []byte(key) {
		t.WriteByte(digits[b>>4])
		t.WriteByte(digits[b&15])
	}
	return ociregistry.Digest(t.String()[start:])
}

// keys is a list of the keys of digests, in the order of the digests: those of SHA-256 come
// first.
type keys struct{ short, long string }

func (k keys) len() int { return len(k.short)/size256 + len(k.long)/size512 }

func (k keys) at(i int) string {
	short := len(k.short) / size256
	if i < short {
		return k.short[size256*i : size256*(i+1)]
	}
	i -= short
	return k.long[size512*i : size512*(i+1)]
}

// compareKeys compares two digests by their keys.
func compareKeys(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// find returns the place of a key in the list, or where it would be.
func (k keys) find(key []byte) (i int, found bool) {
	if len(key) == size256 {
		return findKey(k.short, key)
	}
	i, found = findKey(k.long, key)
	return len(k.short)/size256 + i, found
}

// findKey searches keys of one length.
func findKey(list string, key []byte) (i int, found bool) {
	size := len(key)
	low, high := 0, len(list)/size
	for low < high {
		middle := int(uint(low+high) / 2)
		switch at := list[size*middle : size*(middle+1)]; {
		case at == string(key):
			return middle, true
		case at < string(key):
			low = middle + 1
		default:
			high = middle
		}
	}
	return low, false
}

// ascends reports whether each digest is greater than the one before it.
func (k keys) ascends() bool { return keysAscend(k.short, size256) && keysAscend(k.long, size512) }

func keysAscend(list string, size int) bool {
	last := uint64(0)
	for at := 0; at < len(list); at += size {
		first := leading(list[at : at+size]) // which alone tells most of them apart
		if at > 0 && first <= last && list[at-size:at] >= list[at:at+size] {
			return false
		}
		last = first
	}
	return true
}

// leading returns the number that the first 8 bytes of a key are, in their order.
func leading(key string) (n uint64) {
	for i := range 8 {
		n = n<<8 | uint64(key[i])
	}
	return n
}

// A cursor reads the parts of a record. After the first that is not there, all are 0, and it
// has failed.
type cursor struct {
	text   string
	at     int
	failed bool
}

// uint reads a number, in the encoding of [encoding/binary.AppendUvarint].
func (c *cursor) uint() uint64 {
	if c.at < len(c.text) && c.text[c.at] < 0x80 {
		c.at++
		return uint64(c.text[c.at-1])
	}
	return c.longUint()
}

func (c *cursor) longUint() (n uint64) {
	for shift := 0; shift < 64 && c.at < len(c.text); shift += 7 {
		b := c.text[c.at]
		c.at++
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	c.fail()
	return 0
}

// below reads a number that is less than limit.
func (c *cursor) below(limit int) int {
	n := c.uint()
	if n >= uint64(limit) {
		c.fail()
		return 0
	}
	return int(n)
}

// numbers reads n numbers of 32 bits.
func (c *cursor) numbers(n uint64) column {
	if n > uint64(len(c.text)-c.at)/4 {
		c.fail()
		return ""
	}
	c.at += int(4 * n)
	return column(c.text[c.at-int(4*n) : c.at])
}

func (c *cursor) fail() { c.failed, c.at = true, len(c.text) }

func (c *cursor) done() bool { return c.at == len(c.text) }
