// Package formats has the encoded forms of the objects in a bucket. They are binary, begin with the
// letter of their kind and a version, and what is written under a condition has a nonce in it that
// no other write has: an ETag may be a hash of the bytes, and must never fit again.
package formats

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// ErrMalformed is the error for what is not the encoded form of an object.
var ErrMalformed = errors.New("malformed object")

const nonceSize = 26

// Nonce returns a text that nobody can guess and no other call returns.
func Nonce() string { return rand.Text()[:nonceSize] }

// An encoder appends to a text.
type encoder struct{ text []byte }

// newEncoder begins an object that is written under a condition, with a nonce of its own.
func newEncoder(kind string) *encoder {
	e := &encoder{make([]byte, 0, 256)}
	e.text = append(append(e.text, kind...), Nonce()...)
	return e
}

func (e *encoder) byte(b byte)     { e.text = append(e.text, b) }
func (e *encoder) uint(n uint64)   { e.text = binary.AppendUvarint(e.text, n) }
func (e *encoder) raw(s string)    { e.text = append(e.text, s...) }
func (e *encoder) string(s string) { e.uint(uint64(len(s))); e.raw(s) }

// time appends a time in whole seconds. The zero time is a time, too.
func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.uint(0)
		return
	}
	e.uint(uint64(max(t.Unix(), 1)))
}

// A decoder reads what an encoder has appended. After a failure it reads zeros.
type decoder struct {
	text   string
	failed bool
}

// decode begins to read an object of a kind, after its nonce.
func decode(kind, text string) *decoder {
	d := &decoder{text: text}
	if d.raw(len(kind)) != kind {
		d.failed = true
	}
	d.raw(nonceSize)
	return d
}

func (d *decoder) raw(n int) string {
	if d.failed || n < 0 || n > len(d.text) {
		d.failed = true
		return ""
	}
	s := d.text[:n]
	d.text = d.text[n:]
	return s
}

func (d *decoder) byte() byte {
	if s := d.raw(1); s != "" {
		return s[0]
	}
	return 0
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint([]byte(d.text[:min(len(d.text), binary.MaxVarintLen64)]))
	if d.failed || size <= 0 {
		d.failed = true
		return 0
	}
	d.text = d.text[size:]
	return n
}

// count reads how many things follow, which have at least one byte each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.text)) {
		d.failed = true
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return d.raw(d.count()) }

func (d *decoder) size() int64 {
	n := d.uint()
	if int64(n) < 0 {
		d.failed = true
		return 0
	}
	return int64(n)
}

func (d *decoder) time() time.Time {
	n := d.size()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

func (d *decoder) digest() ociregistry.Digest {
	digest := ociregistry.Digest(d.string())
	if digest != "" && ociregistry.CheckDigest(digest) != nil {
		d.failed = true
	}
	return digest
}

// rest reads all that is left.
func (d *decoder) rest() string { return d.raw(len(d.text)) }

// end returns the error of reading what, all of which must be read.
func (d *decoder) end(what string) error {
	if d.failed || d.text != "" {
		return fmt.Errorf("%w: not a %s", ErrMalformed, what)
	}
	return nil
}
