package ocifs

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The journal of a repository is a header and records. A record is
//
//	length of the payload, 4 bytes, little endian
//	CRC-32C of the payload, continued from the record before, 4 bytes
//	payload: operations, one after another
//
// The header has a generation, which is random and new whenever the journal
// begins anew. The first record's checksum is continued from that of the header.
const (
	journalMagic  = "ocifs journal 1\n"
	generationLen = 16
	headerLen     = len(journalMagic) + generationLen
	frameLen      = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is a place in a journal: up to where it was read or written.
type place struct {
	generation [generationLen]byte
	offset     int64 // in bytes
	last       int64 // where the record before it begins; offset if there is none
	sum        uint32
}

// newHeader returns the header of a journal that begins anew, and the place
// behind it.
func newHeader() ([]byte, place) {
	header := make([]byte, headerLen)
	copy(header, journalMagic)
	rand.Read(header[len(journalMagic):])
	p, _ := parseHeader(header)
	return header, p
}

func parseHeader(header []byte) (place, bool) {
	if len(header) < headerLen || string(header[:len(journalMagic)]) != journalMagic {
		return place{}, false
	}
	p := place{offset: int64(headerLen), last: int64(headerLen), sum: crc32.Checksum(header[:headerLen], castagnoli)}
	copy(p.generation[:], header[len(journalMagic):])
	return p, true
}

// appendRecord appends the record of ops that comes at p to dst, and returns the
// place behind it.
func appendRecord(dst []byte, p place, ops []op) ([]byte, place) {
	start := len(dst)
	dst = append(dst, make([]byte, frameLen)...)
	for i := range ops {
		dst = ops[i].append(dst)
	}
	payload := dst[start+frameLen:]
	p.sum = crc32.Update(p.sum, castagnoli, payload)
	p.last = p.offset
	p.offset += int64(frameLen + len(payload))
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(dst[start+4:], p.sum)
	return dst, p
}

// readRecords calls apply for the operations of all records in text, which
// begins at p, and returns the place behind the last that is whole. What comes
// after it was not written to the end, and never acknowledged.
func readRecords(text string, p place, apply func(*op)) place {
	for len(text) >= frameLen {
		n := binary.LittleEndian.Uint32([]byte(text[:4]))
		sum := binary.LittleEndian.Uint32([]byte(text[4:frameLen]))
		if uint64(n) > uint64(len(text)-frameLen) {
			break
		}
		payload := text[frameLen : frameLen+int(n)]
		if crc32.Update(p.sum, castagnoli, []byte(payload)) != sum || n == 0 {
			break
		}
		ops, err := parseOps(payload)
		if err != nil {
			break
		}
		for i := range ops {
			apply(&ops[i])
		}
		p.sum = sum
		p.last = p.offset
		p.offset += int64(frameLen) + int64(n)
		text = text[frameLen+int(n):]
	}
	return p
}

// isIn reports whether a journal of the same generation still has the record that
// ends at p. When a record could not be made durable, it is taken back, and another
// comes in its place, which may be as long.
func (p place) isIn(journal io.ReaderAt) bool {
	if p.last == p.offset {
		return true
	}
	var frame [frameLen]byte
	_, err := journal.ReadAt(frame[:], p.last)
	return err == nil && binary.LittleEndian.Uint32(frame[4:]) == p.sum
}

// The kinds of operations.
const (
	opPut        = 'M' // a manifest, and tags that point at it
	opUntag      = 't' // delete a tag
	opDelete     = 'm' // delete a manifest and its tags
	opBlob       = 'B' // a blob; if it has no contents, it is a file
	opDeleteBlob = 'b' // delete a small blob
)

// op is a change of a repository.
type op struct {
	kind      byte
	digest    ociregistry.Digest
	mediaType string
	size      int64
	blob      bool   // see stored
	contents  string // if empty: they are there already
	tags      []string

	info *manifest.Info // of a put that was not read from a journal
}

func (o *op) append(dst []byte) []byte {
	dst = append(dst, o.kind)
	switch o.kind {
	case opPut:
		dst = appendString(dst, string(o.digest))
		dst = appendString(dst, o.mediaType)
		dst = binary.AppendUvarint(dst, uint64(o.size))
		flag := byte(0)
		if o.blob {
			flag = 1
		}
		dst = append(dst, flag)
		dst = appendString(dst, o.contents)
	case opBlob:
		dst = appendString(dst, string(o.digest))
		dst = appendString(dst, o.contents)
		return dst
	case opDelete, opDeleteBlob:
		return appendString(dst, string(o.digest))
	}
	dst = binary.AppendUvarint(dst, uint64(len(o.tags)))
	for _, tag := range o.tags {
		dst = appendString(dst, tag)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

var errRecord = errors.New("malformed record")

// parseOps returns the operations of a payload. Their strings are parts of it.
func parseOps(payload string) ([]op, error) {
	var ops []op
	p := parser{text: payload}
	for p.err == nil && p.text != "" {
		ops = append(ops, p.op())
	}
	return ops, p.err
}

type parser struct {
	text string
	err  error
}

func (p *parser) op() op {
	o := op{kind: p.byte()}
	switch o.kind {
	case opPut:
		o.digest = ociregistry.Digest(p.string())
		o.mediaType = p.string()
		o.size = int64(p.uint())
		o.blob = p.byte() != 0
		o.contents = p.string()
		o.tags = p.strings()
	case opBlob:
		o.digest = ociregistry.Digest(p.string())
		o.contents = p.string()
	case opDelete, opDeleteBlob:
		o.digest = ociregistry.Digest(p.string())
	case opUntag:
		o.tags = p.strings()
	default:
		p.err = errRecord
	}
	return o
}

func (p *parser) byte() byte {
	if p.text == "" {
		p.err = errRecord
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
	p.err = errRecord
	return 0
}

func (p *parser) string() string {
	n := p.uint()
	if n > uint64(len(p.text)) {
		p.err = errRecord
		return ""
	}
	s := p.text[:n]
	p.text = p.text[n:]
	return s
}

func (p *parser) strings() []string {
	n := p.uint()
	if n > uint64(len(p.text)) {
		p.err = errRecord
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = p.string()
	}
	return list
}

// readFrom returns what a file has from offset on.
func readFrom(f file, offset int64) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	text := make([]byte, max(info.Size()-offset, 0))
	n, err := f.ReadAt(text, offset)
	if err == io.EOF {
		err = nil // it was cut meanwhile
	}
	return string(text[:n]), err
}
