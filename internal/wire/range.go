package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Range is a range of bytes in the Range header of a request (RFC 9110,
// section 14.1.2).
type Range struct {
	// Start is the offset of the first byte, or for a suffix, the number of bytes.
	Start int64

	// End is the offset after the last byte, or -1 for the end of the content.
	// It may be less than Start; whoever knows the content must check that.
	End int64

	// Suffix means that the range is the last Start bytes. End is -1.
	Suffix bool
}

// String returns the value of a Range header.
func (r Range) String() string {
	switch {
	case r.Suffix:
		return fmt.Sprintf("bytes=-%d", r.Start)
	case r.End < 0:
		return fmt.Sprintf("bytes=%d-", r.Start)
	}
	return fmt.Sprintf("bytes=%d-%d", r.Start, r.End-1)
}

// ParseRange parses the value of a request's Range header that has one range. It reports
// false for a value that a server must ignore: one with a unit other than bytes, or a
// malformed one.
//
// It returns the largest int64 for an offset that is larger.
func ParseRange(s string) (Range, bool) {
	spec, ok := cutUnit(s, '=')
	if !ok {
		return Range{}, false
	}
	return parseRangeSpec(trimSpace(spec))
}

// ParseRanges parses the value of a request's Range header, which may have several
// ranges, and returns them in their order. Like ParseRange, it reports false for a value
// that a server must ignore. One malformed range suffices for that.
func ParseRanges(s string) ([]Range, bool) {
	set, ok := cutUnit(s, '=')
	if !ok {
		return nil, false
	}
	var ranges []Range
	for spec := range strings.SplitSeq(set, ",") {
		if spec = trimSpace(spec); spec == "" {
			continue // lists may have empty elements (RFC 9110, section 5.6.1)
		}
		r, ok := parseRangeSpec(spec)
		if !ok {
			return nil, false
		}
		ranges = append(ranges, r)
	}
	return ranges, len(ranges) > 0
}

func parseRangeSpec(spec string) (Range, bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return Range{}, false
	}
	if first == "" {
		n, ok := parseOffset(last)
		return Range{Start: n, End: -1, Suffix: true}, ok
	}
	start, ok := parseOffset(first)
	if !ok {
		return Range{}, false
	}
	if last == "" {
		return Range{Start: start, End: -1}, true
	}
	end, ok := parseOffset(last)
	if !ok {
		return Range{}, false
	}
	if end == math.MaxInt64 {
		return Range{Start: start, End: -1}, true
	}
	return Range{Start: start, End: end + 1}, true
}

// ContentRange is the Content-Range header of a response (RFC 9110, section 14.4).
type ContentRange struct {
	// Start is the offset of the first byte, and End the offset after the last.
	// If they are equal, the requested range is not satisfiable, and the response
	// has status 416.
	Start, End int64

	// Size is the size of the whole content in bytes, or -1 if it is unknown.
	Size int64
}

// String returns the value of a Content-Range header, as in "bytes 1-4/10" and
// "bytes */10".
func (r ContentRange) String() string {
	size := "*"
	if r.Size >= 0 {
		size = strconv.FormatInt(r.Size, 10)
	}
	if r.Start == r.End {
		return "bytes */" + size
	}
	return fmt.Sprintf("bytes %d-%d/%s", r.Start, r.End-1, size)
}

// ParseContentRange parses the Content-Range header of a response. It reports false if the
// header is malformed or inconsistent.
func ParseContentRange(s string) (ContentRange, bool) {
	spec, ok := cutUnit(s, ' ')
	if !ok {
		return ContentRange{}, false
	}
	bounds, total, ok := strings.Cut(trimSpace(spec), "/")
	if !ok {
		return ContentRange{}, false
	}
	r := ContentRange{Size: -1}
	if total != "*" {
		if r.Size, ok = parseOffset(total); !ok || r.Size == math.MaxInt64 {
			return ContentRange{}, false
		}
	}
	if bounds == "*" {
		return r, r.Size >= 0
	}
	r.Start, r.End, ok = parseBounds(bounds)
	if !ok || r.Start == r.End || r.Size >= 0 && r.End > r.Size {
		return ContentRange{}, false
	}
	return r, true
}

// ChunkRange returns the Content-Range header of a request that uploads the bytes from
// start up to but not including end, at least one (specification, section "Pushing a blob
// in chunks").
func ChunkRange(start, end int64) string {
	return fmt.Sprintf("%d-%d", start, end-1)
}

// ParseChunkRange parses the Content-Range header of a request that uploads a chunk, such
// as "0-2". It returns the offset of the first byte, and the offset after the last. It
// also accepts the form of RFC 9110, "bytes 0-2/10", which some clients send, and an empty
// chunk, such as "3-2".
func ParseChunkRange(s string) (start, end int64, ok bool) {
	if spec, ok := cutUnit(s, ' '); ok {
		s = spec
	} else if spec, ok := cutUnit(s, '='); ok {
		s = spec
	}
	bounds, _, _ := strings.Cut(trimSpace(s), "/")
	return parseBounds(bounds)
}

// UploadRange returns the Range header of a response that says how many bytes an upload
// session has. It is "0-0" both for no bytes and for one: the specification has no other
// form.
func UploadRange(size int64) string {
	return "0-" + strconv.FormatInt(max(size-1, 0), 10)
}

// ParseUploadRange parses the Range header of a response, and returns the number of bytes
// that the upload session has. It returns 1 for "0-0", which means none or one.
//
// It also accepts the forms "bytes=0-9" and, for no bytes, "0--1", which some registries
// send.
func ParseUploadRange(s string) (size int64, ok bool) {
	if spec, ok := cutUnit(s, '='); ok {
		s = spec
	}
	s = trimSpace(s)
	if s == "0--1" {
		return 0, true
	}
	start, end, ok := parseBounds(s)
	if !ok || start != 0 {
		return 0, false
	}
	return end, true
}

// parseBounds parses "first-last", and returns first and last+1. They may be
// equal.
func parseBounds(s string) (start, end int64, ok bool) {
	first, last, _ := strings.Cut(s, "-")
	start, ok1 := parseOffset(first)
	end, ok2 := parseOffset(last)
	if !ok1 || !ok2 || end == math.MaxInt64 || end+1 < start {
		return 0, 0, false
	}
	return start, end + 1, true
}

// parseOffset parses decimal digits. It returns the largest int64 for a larger number.
func parseOffset(s string) (n int64, ok bool) {
	for i := range len(s) {
		digit := int64(s[i]) - '0'
		if digit < 0 || digit > 9 {
			return 0, false
		}
		if n > (math.MaxInt64-digit)/10 {
			n = math.MaxInt64
			continue
		}
		n = 10*n + digit
	}
	return n, s != ""
}

// cutUnit cuts the unit "bytes", which is case-insensitive, and sep from s.
func cutUnit(s string, sep byte) (spec string, ok bool) {
	const unit = "bytes"
	s = trimSpace(s)
	if len(s) <= len(unit) || s[len(unit)] != sep || !strings.EqualFold(s[:len(unit)], unit) {
		return "", false
	}
	return s[len(unit)+1:], true
}

func trimSpace(s string) string { return strings.Trim(s, " \t") }
