package wire

import (
	"math"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestParseRange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want Range
		ok   bool
	}{
		{"bytes=1-4", Range{Start: 1, End: 5}, true},
		{"bytes=0-0", Range{Start: 0, End: 1}, true},
		{"bytes=3-", Range{Start: 3, End: -1}, true},
		{"bytes=-5", Range{Start: 5, End: -1, Suffix: true}, true},
		{"bytes=-0", Range{Start: 0, End: -1, Suffix: true}, true},
		{"Bytes= 1-4 ", Range{Start: 1, End: 5}, true},
		{"bytes=4-1", Range{Start: 4, End: 2}, true},
		{"bytes=0-9223372036854775806", Range{Start: 0, End: math.MaxInt64}, true},
		{"bytes=0-9223372036854775807", Range{Start: 0, End: -1}, true},
		{"bytes=0-99999999999999999999999", Range{Start: 0, End: -1}, true},
		{"bytes=99999999999999999999999-", Range{Start: math.MaxInt64, End: -1}, true},
		{"bytes=-99999999999999999999999", Range{Start: math.MaxInt64, End: -1, Suffix: true}, true},

		{"", Range{}, false},
		{"bytes", Range{}, false},
		{"bytes=", Range{}, false},
		{"bytes=-", Range{}, false},
		{"bytes=5", Range{}, false},
		{"bytes=1-2,4-5", Range{}, false},
		{"bytes=--5", Range{}, false},
		{"bytes=+1-4", Range{}, false},
		{"bytes=0x1-0x4", Range{}, false},
		{"items=1-4", Range{}, false},
		{"1-4", Range{}, false},
	}
	for _, test := range tests {
		got, ok := ParseRange(test.in)
		qt.Check(t, qt.Equals(ok, test.ok), qt.Commentf("%q", test.in))
		if test.ok {
			qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%q", test.in))
		}
	}
}

func TestParseContentRange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want ContentRange
		ok   bool
	}{
		{"bytes 1-4/10", ContentRange{Start: 1, End: 5, Size: 10}, true},
		{"bytes 0-0/1", ContentRange{Start: 0, End: 1, Size: 1}, true},
		{"bytes 1-4/*", ContentRange{Start: 1, End: 5, Size: -1}, true},
		{"bytes */10", ContentRange{Size: 10}, true},
		{"BYTES 1-4/10", ContentRange{Start: 1, End: 5, Size: 10}, true},

		{"", ContentRange{}, false},
		{"bytes 1-4", ContentRange{}, false},
		{"bytes=1-4/10", ContentRange{}, false},
		{"bytes */*", ContentRange{}, false},
		{"bytes 4-3/10", ContentRange{}, false},
		{"bytes 4-1/10", ContentRange{}, false},
		{"bytes 1-10/10", ContentRange{}, false},
		{"bytes 1-4/-1", ContentRange{}, false},
		{"bytes 1-99999999999999999999/*", ContentRange{}, false},
		{"bytes 1-4/99999999999999999999", ContentRange{}, false},
		{"items 1-4/10", ContentRange{}, false},
	}
	for _, test := range tests {
		got, ok := ParseContentRange(test.in)
		qt.Check(t, qt.Equals(ok, test.ok), qt.Commentf("%q", test.in))
		if test.ok {
			qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%q", test.in))
		}
	}
}

func TestParseChunkRange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in         string
		start, end int64
		ok         bool
	}{
		{"0-2", 0, 3, true},
		{"3-5", 3, 6, true},
		{"3-2", 3, 3, true},
		{"bytes 0-2/10", 0, 3, true},
		{"bytes 0-2/*", 0, 3, true},
		{"bytes=0-2", 0, 3, true},

		{"", 0, 0, false},
		{"0-bar", 0, 0, false},
		{"0", 0, 0, false},
		{"0-", 0, 0, false},
		{"-2", 0, 0, false},
		{"-1-2", 0, 0, false},
		{"4-2", 0, 0, false},
		{"0-2-4", 0, 0, false},
		{"0-9223372036854775807", 0, 0, false},
		{"0-99999999999999999999", 0, 0, false},
		{"99999999999999999999-99999999999999999999", 0, 0, false},
	}
	for _, test := range tests {
		start, end, ok := ParseChunkRange(test.in)
		qt.Check(t, qt.Equals(ok, test.ok), qt.Commentf("%q", test.in))
		if test.ok {
			qt.Check(t, qt.Equals(start, test.start), qt.Commentf("%q", test.in))
			qt.Check(t, qt.Equals(end, test.end), qt.Commentf("%q", test.in))
		}
	}
}

func TestUploadRange(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.Equals(UploadRange(0), "0-0"))
	qt.Check(t, qt.Equals(UploadRange(1), "0-0"))
	qt.Check(t, qt.Equals(UploadRange(10), "0-9"))
	tests := []struct {
		in   string
		want int64
		ok   bool
	}{
		{"0-9", 10, true},
		{"bytes=0-9", 10, true},
		{"0-0", 1, true},
		{"0--1", 0, true},
		{"", 0, false},
		{"1-9", 0, false},
		{"0-x", 0, false},
		{"0-9223372036854775807", 0, false},
	}
	for _, test := range tests {
		got, ok := ParseUploadRange(test.in)
		qt.Check(t, qt.Equals(ok, test.ok), qt.Commentf("%q", test.in))
		qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%q", test.in))
	}
}

func TestParseRanges(t *testing.T) {
	for in, want := range map[string][]Range{
		"bytes=0-1,3-4":                    {{Start: 0, End: 2}, {Start: 3, End: 5}},
		"Bytes=3-, -5\t,\t5-4":             {{Start: 3, End: -1}, {Start: 5, End: -1, Suffix: true}, {Start: 5, End: 5}},
		"bytes=,0-1,,3-4,":                 {{Start: 0, End: 2}, {Start: 3, End: 5}},
		"bytes=1-1":                        {{Start: 1, End: 2}},
		"bytes=0-1,1-99999999999999999999": {{Start: 0, End: 2}, {Start: 1, End: -1}},
		"":                                 nil,
		"bytes=":                           nil,
		"bytes=,":                          nil,
		"bytes=0-1,x":                      nil,
		"bytes=0-1,-":                      nil,
		"bytes=0-1 3-4":                    nil,
		"bytes=0-1;3-4":                    nil,
		"bytes=0-1,bytes=3-4":              nil,
		"items=0-1,3-4":                    nil,
	} {
		got, ok := ParseRanges(in)
		qt.Check(t, qt.Equals(ok, want != nil), qt.Commentf("%q", in))
		if ok {
			qt.Check(t, qt.DeepEquals(got, want), qt.Commentf("%q", in))
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=1-4", "bytes=3-", "bytes=-5", "bytes=4-1", "bytes=0-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := ParseRange(s)
		if !ok {
			return
		}
		if r.Start < 0 || r.End < -1 || r.Suffix && r.End != -1 {
			t.Fatalf("%q: %+v", s, r)
		}
		if r.End == 0 {
			return // no header can say so
		}
		again, ok := ParseRange(r.String())
		if !ok || again != r {
			t.Fatalf("%q: %+v is written %q, which is %+v", s, r, r, again)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 1-4/10", "bytes 1-4/*", "bytes */10", "bytes 0-0/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := ParseContentRange(s)
		if !ok {
			return
		}
		if r.Start < 0 || r.End < r.Start || r.Size < -1 || r.Size >= 0 && r.End > r.Size {
			t.Fatalf("%q: %+v", s, r)
		}
		again, ok := ParseContentRange(r.String())
		if !ok || again != r {
			t.Fatalf("%q: %+v is written %q, which is %+v", s, r, r, again)
		}
	})
}

func FuzzParseChunkRange(f *testing.F) {
	for _, s := range []string{"0-2", "3-2", "bytes 0-2/10", "bytes=0-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, end, ok := ParseChunkRange(s)
		if !ok {
			return
		}
		if start < 0 || end < start {
			t.Fatalf("%q: %d, %d", s, start, end)
		}
		if start == end {
			return
		}
		start1, end1, ok := ParseChunkRange(ChunkRange(start, end))
		if !ok || start1 != start || end1 != end {
			t.Fatalf("%q: %d, %d becomes %d, %d", s, start, end, start1, end1)
		}
	})
}

func FuzzParseUploadRange(f *testing.F) {
	for _, s := range []string{"0-0", "0-9", "bytes=0-9", "0--1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, ok := ParseUploadRange(s)
		if !ok || size == 0 {
			return
		}
		if again, ok := ParseUploadRange(UploadRange(size)); !ok || again != size {
			t.Fatalf("%q: %d becomes %d", s, size, again)
		}
	})
}
