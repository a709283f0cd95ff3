package repostate

import (
	"encoding/binary"
	"errors"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Kind is the kind of an operation. Its value is the first byte of one in a journal.
type Kind byte

// The kinds of operations.
const (
	PutManifest    Kind = 'M' // a manifest, and tags that point at it
	DeleteTags     Kind = 't'
	DeleteManifest Kind = 'm' // and its tags; of a stored blob, that it is none any more
	PutBlob        Kind = 'B' // without a text it is stored already
	DeleteBlob     Kind = 'b' // whose text the state has
	Announce       Kind = 'a' // that the next record may delete it; without a digest, nothing
)

// timeKind begins what is no operation, but the time of those that follow in the record.
const timeKind = 'T'

// An Op is an operation: a change of a repository. Which of the fields it has depends on its
// kind.
type Op struct {
	Kind      Kind
	Time      int64              // when it was made, in nanoseconds since 1970; zero if nobody knows
	Digest    ociregistry.Digest // of all but DeleteTags
	MediaType string             // of PutManifest
	Size      int64              // of PutManifest, in bytes
	Blob      bool               // of PutManifest: the same bytes were pushed as a blob, too
	Text      string             // of PutManifest and PutBlob: the content, or "" if it is there already
	Tags      []string           // of PutManifest and DeleteTags

	// Info is what the manifest of a PutManifest names, if it is known. It is not encoded.
	Info *manifest.Info
}

func (o *Op) append(dst []byte) []byte {
	dst = append(dst, byte(o.Kind))
	switch o.Kind {
	case PutManifest:
		dst = appendString(dst, string(o.Digest))
		dst = appendString(dst, o.MediaType)
		dst = binary.AppendUvarint(dst, uint64(o.Size))
		flag := byte(0)
		if o.Blob {
			flag = 1
		}
		dst = append(dst, flag)
		dst = appendString(dst, o.Text)
	case PutBlob:
		dst = appendString(dst, string(o.Digest))
		dst = appendString(dst, o.Text)
		return dst
	case DeleteManifest, DeleteBlob, Announce:
		return appendString(dst, string(o.Digest))
	}
	dst = binary.AppendUvarint(dst, uint64(len(o.Tags)))
	for _, tag := range o.Tags {
		dst = appendString(dst, tag)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendOps appends the encoded form of operations, one after another. It is the payload of
// a journal's record.
func AppendOps(dst []byte, ops []Op) []byte {
	time := int64(0)
	for i := range ops {
		if ops[i].Time != time {
			time = ops[i].Time
			dst = binary.AppendUvarint(append(dst, timeKind), uint64(time))
		}
		dst = ops[i].append(dst)
	}
	return dst
}

// ErrMalformed is the error for the payload of a record that is no list of operations.
var ErrMalformed = errors.New("malformed record")

// ParseOps returns the operations of a payload. Their strings are parts of it. If it is
// malformed, the error is [ErrMalformed].
func ParseOps(payload string) ([]Op, error) {
	var ops []Op
	p := parser{text: payload}
	for p.err == nil && p.text != "" {
		if p.text[0] == timeKind {
			p.byte()
			p.time = int64(p.uint())
			continue
		}
		ops = append(ops, p.op())
	}
	return ops, p.err
}

type parser struct {
	text string
	time int64
	err  error
}

func (p *parser) op() Op {
	o := Op{Kind: Kind(p.byte()), Time: p.time}
	switch o.Kind {
	case PutManifest:
		o.Digest = ociregistry.Digest(p.string())
		o.MediaType = p.string()
		o.Size = int64(p.uint())
		o.Blob = p.byte() != 0
		o.Text = p.string()
		o.Tags = p.strings()
	case PutBlob:
		o.Digest = ociregistry.Digest(p.string())
		o.Text = p.string()
	case DeleteManifest, DeleteBlob, Announce:
		o.Digest = ociregistry.Digest(p.string())
	case DeleteTags:
		o.Tags = p.strings()
	default:
		p.err = ErrMalformed
	}
	return o
}

func (p *parser) byte() byte {
	if p.text == "" {
		p.err = ErrMalformed
		return 0
	}
	b := p.text[0]
	p.text = p.text[1:]
	return b
}

func (p *parser) uint() (n uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := p.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	p.err = ErrMalformed
	return 0
}

func (p *parser) string() string {
	n := p.uint()
	if n > uint64(len(p.text)) {
		p.err = ErrMalformed
		return ""
	}
	s := p.text[:n]
	p.text = p.text[n:]
	return s
}

func (p *parser) strings() []string {
	n := p.uint()
	if n > uint64(len(p.text)) {
		p.err = ErrMalformed
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = p.string()
	}
	return list
}
