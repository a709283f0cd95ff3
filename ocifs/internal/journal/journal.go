// Package journal implements the format of journals. A journal is an append-only
// file: a header, followed by records, each of whose checksums continues the one
// before. The meaning of a record is up to the caller.
//
// The header is
//
//	"ocifs journal 1\n", 16 bytes
//	generation, 16 bytes: random, and new whenever the journal begins anew
//
// A record is
//
//	length of the payload, 4 bytes, little endian
//	CRC-32C of the payload, continued from the record before, 4 bytes
//	payload, not empty
//
// The checksum of the first record continues that of the header. A record is
// therefore valid only after the records that it was written after, and an incomplete
// record at the end is recognized.
package journal

import (
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"io"
)

const (
	magic         = "ocifs journal 1\n"
	generationLen = 16
	frameLen      = 8
)

// HeaderSize is the length of a header in bytes.
const HeaderSize = len(magic) + generationLen

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Position is a position in a journal: the boundary after its header or one of its
// records. The zero Position is not a position in any journal. Positions can be
// compared with ==; equal positions have the same records before them.
type Position struct {
	generation [generationLen]byte
	offset     int64 // in bytes
	last       int64 // offset of the record before it; equal to offset if there is none
	sum        uint32
}

// Offset returns the number of bytes before p.
func (p Position) Offset() int64 { return p.offset }

// HasRecords reports whether there are records before p.
func (p Position) HasRecords() bool { return p.offset > int64(HeaderSize) }

// SameGeneration reports whether p and q are positions in the same generation of a
// journal: the journal did not begin anew in between.
func (p Position) SameGeneration(q Position) bool { return p.generation == q.generation }

// IsIn reports whether a journal, which has size bytes, still has everything that was
// before p. A record that could not be made durable is undone, and another takes its
// place, possibly with the same length: the checksum distinguishes the two.
func (p Position) IsIn(journal io.ReaderAt, size int64) bool {
	header := make([]byte, HeaderSize)
	if _, err := journal.ReadAt(header, 0); err != nil {
		return false // unreadable, or beginning anew just now
	}
	begin, ok := ParseHeader(header)
	if !ok || !begin.SameGeneration(p) || size < p.offset {
		return false
	}
	if p.last == p.offset {
		return true
	}
	var frame [frameLen]byte
	_, err := journal.ReadAt(frame[:], p.last)
	return err == nil && binary.LittleEndian.Uint32(frame[4:]) == p.sum
}

// NewHeader returns the header of a journal that begins anew, and the position after
// it.
func NewHeader() ([]byte, Position) {
	header := make([]byte, HeaderSize)
	copy(header, magic)
	rand.Read(header[len(magic):])
	p, _ := ParseHeader(header)
	return header, p
}

// ParseHeader returns the position after a header. It returns false if the bytes do
// not begin with a header.
func ParseHeader(header []byte) (Position, bool) {
	if len(header) < HeaderSize || string(header[:len(magic)]) != magic {
		return Position{}, false
	}
	p := Position{offset: int64(HeaderSize), last: int64(HeaderSize), sum: crc32.Checksum(header[:HeaderSize], castagnoli)}
	copy(p.generation[:], header[len(magic):])
	return p, true
}

// AppendRecord appends to dst the record for position p, and returns the position
// after it. The function appendPayload appends the payload, which must not be empty
// and must be shorter than 4 GiB.
func AppendRecord(dst []byte, p Position, appendPayload func(dst []byte) []byte) ([]byte, Position) {
	start := len(dst)
	dst = appendPayload(append(dst, make([]byte, frameLen)...))
	payload := dst[start+frameLen:]
	p.sum = crc32.Update(p.sum, castagnoli, payload)
	p.last = p.offset
	p.offset += int64(frameLen + len(payload))
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(dst[start+4:], p.sum)
	return dst, p
}

// ReadRecords calls apply with the payload of each record in text, which begins at p,
// and returns the position after the last valid record. Bytes after that were not
// written completely, and never acknowledged.
//
// If apply returns an error, the record counts as invalid. A payload is a substring
// of text.
func ReadRecords(text string, p Position, apply func(payload string) error) Position {
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
		if apply(payload) != nil {
			break
		}
		p.sum = sum
		p.last = p.offset
		p.offset += int64(frameLen) + int64(n)
		text = text[frameLen+int(n):]
	}
	return p
}
