package ociserver

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// maxRanges is the maximum number of ranges in a request. A request with more is
	// answered with status 400, after which clients that fetch parts of images (podman,
	// for zstd:chunked) ask for fewer. If they got the whole blob, they would accept it.
	maxRanges = 1024

	// maxGap is the maximum number of bytes between two parts that are read from the
	// backend and discarded, so that one call gets both parts. A remote registry needs
	// about as much time for another request.
	maxGap = 64 << 10
)

// getBlobRanges answers with several ranges of a blob (RFC 9110, section 14.6). It
// leaves out ranges that start after the end of the blob.
func (x *exchange) getBlobRanges(ranges []wire.Range) error {
	if len(ranges) > maxRanges {
		return wire.BadRequest(fmt.Sprintf("more than %d ranges", maxRanges))
	}
	desc, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest)
	if err != nil {
		return err
	}
	if desc.Size < 0 {
		return x.getWholeBlob()
	}
	desc.Digest = x.Digest
	parts := partsOf(ranges, desc.Size)
	switch len(parts) {
	case 0:
		x.header().Set("Content-Range", wire.ContentRange{Size: desc.Size}.String())
		return ociregistry.ErrRangeInvalid
	case 1:
		return x.getBlobRange(wire.Range{Start: parts[0].start, End: parts[0].end})
	}
	m := &multipart{x: x, desc: desc, parts: parts, boundary: fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())}
	defer m.close()
	if err := m.open(0); errors.Is(err, ociregistry.ErrUnsupported) {
		return x.getWholeBlob()
	} else if err != nil {
		return err
	}
	x.setBlobHeaders(desc)
	all := m.length()
	x.header().Set("Content-Type", "multipart/byteranges; boundary="+m.boundary)
	x.header().Set("Content-Length", strconv.FormatInt(all, 10))
	_, err = x.sendBy(http.StatusPartialContent, all, m.writeTo)
	x.endPull(desc, m.sent, err)
	return nil
}

// part is the bytes of a blob from start up to but not including end. It is not empty.
type part struct {
	start, end int64
	order      int // the index of the first of its ranges in the request
}

// partsOf returns the parts of a blob that ranges ask for, in their order. Ranges that
// overlap are merged into one part, so that all parts together are not larger than the
// blob. Ranges that only touch are not, since a client may identify parts by number.
func partsOf(ranges []wire.Range, size int64) []part {
	parts := make([]part, 0, len(ranges))
	for i, r := range ranges {
		start, end := r.Start, r.End
		if r.Suffix {
			start = max(size-r.Start, 0)
		}
		if end < 0 || end > size {
			end = size
		}
		if start < end {
			parts = append(parts, part{start, end, i})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.start, b.start) })
	merged := parts[:0]
	for _, p := range parts {
		if n := len(merged); n > 0 && p.start < merged[n-1].end {
			last := &merged[n-1]
			last.end, last.order = max(last.end, p.end), min(last.order, p.order)
			continue
		}
		merged = append(merged, p)
	}
	slices.SortFunc(merged, func(a, b part) int { return cmp.Compare(a.order, b.order) })
	return merged
}

// multipart is an answer with several parts of a blob.
type multipart struct {
	x        *exchange
	desc     ociregistry.Descriptor
	parts    []part
	boundary string

	r        ociregistry.BlobReader // of the bytes from pos up to end; may be nil
	pos, end int64

	sent int64 // bytes of the blob
}

// head returns the text before the i-th part.
func (m *multipart) head(i int) string {
	p, lineEnd := m.parts[i], "\r\n"
	if i == 0 {
		lineEnd = ""
	}
	return lineEnd + "--" + m.boundary +
		"\r\nContent-Type: " + mediaType(m.desc) +
		"\r\nContent-Range: " + wire.ContentRange{Start: p.start, End: p.end, Size: m.desc.Size}.String() + "\r\n\r\n"
}

// tail returns the text after the last part.
func (m *multipart) tail() string { return "\r\n--" + m.boundary + "--\r\n" }

// length returns the number of bytes in the whole answer.
func (m *multipart) length() int64 {
	n := int64(len(m.tail()))
	for i, p := range m.parts {
		n += int64(len(m.head(i))) + p.end - p.start
	}
	return n
}

// writeTo writes the body of the answer.
func (m *multipart) writeTo(w io.Writer) (int64, error) {
	var written int64
	text := func(s string) error {
		n, err := io.WriteString(w, s)
		written += int64(n)
		return err
	}
	for i := range m.parts {
		if err := m.seek(i); err != nil {
			return written, err
		}
		if err := text(m.head(i)); err != nil {
			return written, err
		}
		n, err := m.copyTo(w, m.parts[i].end)
		written += n
		m.sent += n
		if err != nil {
			return written, err
		}
	}
	return written, text(m.tail())
}

// seek moves m.r to the start of the i-th part.
func (m *multipart) seek(i int) error {
	p := m.parts[i]
	if m.r == nil || p.start < m.pos || p.end > m.end {
		m.close()
		return m.open(i)
	}
	gap := p.start - m.pos
	m.pos = p.start
	if s, ok := m.r.(io.Seeker); ok {
		_, err := s.Seek(gap, io.SeekCurrent)
		return err
	}
	_, err := io.CopyN(io.Discard, m.r, gap)
	return err
}

// open opens a reader of the i-th part and the parts that follow closely.
func (m *multipart) open(i int) (err error) {
	p := m.parts[i]
	m.pos, m.end = p.start, p.end
	for _, next := range m.parts[i+1:] {
		if next.start < m.end || next.start-m.end > maxGap {
			break
		}
		m.end = next.end
	}
	m.r, err = m.x.backend.GetBlobRange(m.x.ctx(), m.x.Repository, m.x.Digest, m.pos, m.end)
	return err
}

// copyTo copies the bytes up to end. If the reader ends there, its WriteTo is used,
// which may send a file without copying it.
func (m *multipart) copyTo(w io.Writer, end int64) (n int64, err error) {
	want := end - m.pos
	if end == m.end {
		n, err = io.Copy(w, m.r)
	} else {
		n, err = io.CopyN(w, m.r, want)
	}
	m.pos += n
	if n != want && (err == nil || err == io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (m *multipart) close() {
	if m.r != nil {
		m.r.Close()
		m.r = nil
	}
}
