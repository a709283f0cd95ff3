package ociclient_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Each case reads a blob of 21 bytes whose connection breaks after 10.
func TestBrokenBlobContinuesAtTheSameByte(t *testing.T) {
	t.Parallel()
	const rest = "bytes=10-20"
	first := rule{On: "GET", Times: 1, Cut: 10}
	part := func(start, end string, body string) rule {
		return rule{On: "GET", Header: header{"Range": rest}, Status: 206, Set: header{"Content-Range": "bytes " + start + "-" + end}, Answer: body}
	}
	broken := "broke off at byte 10"
	tests := []struct {
		name  string
		rules []rule
		want  []string // the ranges that are asked for
		err   string   // part of the error, or empty for none
	}{
		{"goes on", []rule{first}, []string{"", rest}, ""},
		{"breaks again and again", []rule{first, {On: "GET", Times: 11, Cut: 1}}, []string{"", rest, "bytes=11-20", "bytes=12-20", "bytes=13-20", "bytes=14-20", "bytes=15-20", "bytes=16-20", "bytes=17-20", "bytes=18-20", "bytes=19-20", "bytes=20-20"}, ""},
		{"breaks at once", []rule{{On: "GET", Times: 1, CutAtStart: true}}, []string{"", "bytes=0-20"}, ""},
		{"without progress", []rule{first, {On: "GET", CutAtStart: true}}, []string{"", rest, rest, rest, rest}, broken},
		{"less than was asked", []rule{first, part("10", "14/21", content[10:15])}, []string{"", rest, "bytes=15-20"}, ""},
		{"more than was asked", []rule{first, part("10", "20/21", content[10:]+"more")}, []string{"", rest}, ""},
		{"without the total", []rule{first, part("10", "20/*", content[10:])}, []string{"", rest}, ""},
		{"from elsewhere", []rule{first, part("9", "20/21", content[9:])}, []string{"", rest}, broken},
		{"of another total", []rule{first, part("10", "20/22", content[10:])}, []string{"", rest}, broken},
		{"without range", []rule{first, {On: "GET", Status: 206, Answer: content[10:]}}, []string{"", rest}, broken},
		{"of other content", []rule{first, {On: "GET", Set: header{"Docker-Content-Digest": string(otherDigest)}}}, []string{"", rest}, broken},
		{"the whole", []rule{first, {On: "GET", Status: 200, Answer: content}}, []string{"", rest}, ""},
		{"the whole without length", []rule{first, {On: "GET", Status: 200, Answer: content, NoLength: true}}, []string{"", rest}, ""},
		{"the whole, broken", []rule{first, {On: "GET", Status: 200, Answer: content, Cut: 15}}, []string{"", rest}, "broke off at byte 15"},
		{"not satisfiable", []rule{first, {On: "GET", Status: 416}}, []string{"", rest}, broken},
		{"forbidden", []rule{first, {On: "GET", Status: 403}}, []string{"", rest}, broken},
		{"gone", []rule{first, {On: "GET", Status: 404}}, []string{"", rest}, broken},
		{"overloaded", []rule{first, {On: "GET", Times: 2, Status: 503}}, []string{"", rest, rest, rest}, ""},
		{"reset before the answer", []rule{first, {On: "GET", Times: 2, LoseAnswer: true}}, []string{"", rest, rest, rest}, ""},
		{"without length", []rule{{On: "GET", Times: 1, Cut: 10, NoLength: true}}, []string{"", "bytes=10-"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// A transport repeats requests only on connections that it reuses.
			transport := newTransport(t)
			transport.DisableKeepAlives = true
			reg, srv := faulty(t, ociclient.Options{Transport: transport}, test.rules...)
			got, err := readAll(getBlob(reg))
			qt.Check(t, qt.DeepEquals(ranges(srv), test.want))
			if test.err != "" {
				qt.Assert(t, qt.ErrorMatches(err, "(?s).*"+test.err+".*"))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got, content))
		})
	}
}

// timeoutError is an error of the network.
type timeoutError struct{ error }

func (timeoutError) Timeout() bool { return true }

func (timeoutError) Temporary() bool { return true }

// slow is a transport whose first body fails with a timeout.
type slow struct {
	http.RoundTripper
	once sync.Once
}

func (s *slow) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(req)
	s.once.Do(func() {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(resp.Body, 10), failing{timeoutError{os.ErrDeadlineExceeded}}), resp.Body}
	})
	return resp, err
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestBlobContinuesAfterTimeout(t *testing.T) {
	t.Parallel()
	reg, srv := faulty(t, ociclient.Options{Transport: &slow{RoundTripper: newTransport(t)}})
	wantBlob(t, reg, content)
	qt.Assert(t, qt.DeepEquals(ranges(srv), []string{"", "bytes=10-20"}))
}

func TestSeekAsksForWhatIsReadNext(t *testing.T) {
	t.Parallel()
	reg, srv := faulty(t, ociclient.Options{})
	r, err := getBlob(reg)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	s, ok := r.(io.Seeker)
	qt.Assert(t, qt.IsTrue(ok))
	buf := make([]byte, 4)
	steps := []struct {
		name   string
		offset int64
		whence int
		want   int64 // the offset; -1 for an error
		read   string
		ranges []string // of the requests so far
	}{
		{"the same place", 0, io.SeekStart, 0, "the ", []string{""}},
		{"the same place from the beginning", 4, io.SeekStart, 4, "cont", []string{""}},
		{"the same place from the end", 8 - 21, io.SeekEnd, 8, "ent ", []string{""}},
		{"there and back", 0, io.SeekCurrent, 12, "of a", []string{""}},
		{"past the end", 22, io.SeekStart, 22, "", []string{""}},
		{"the end", 0, io.SeekEnd, 21, "", []string{""}},
		{"before the beginning", -22, io.SeekCurrent, -1, "", []string{""}},
		{"no whence", 0, 3, -1, "", []string{""}},
		{"back", -17, io.SeekCurrent, 4, "cont", []string{"", "bytes=4-20"}},
		{"ahead", 9, io.SeekCurrent, 17, "blob", []string{"", "bytes=4-20", "bytes=17-20"}},
	}
	for _, step := range steps {
		comment := qt.Commentf("%s", step.name)
		at, err := s.Seek(step.offset, step.whence)
		if step.want < 0 {
			qt.Assert(t, qt.IsNotNil(err), comment)
		} else {
			qt.Assert(t, qt.IsNil(err), comment)
			qt.Assert(t, qt.Equals(at, step.want), comment)
		}
		n, err := io.ReadFull(r, buf)
		if step.read == "" {
			qt.Assert(t, qt.Equals(err, io.EOF), comment)
		} else {
			qt.Assert(t, qt.IsNil(err), comment)
		}
		qt.Assert(t, qt.Equals(string(buf[:n]), step.read), comment)
		qt.Assert(t, qt.DeepEquals(ranges(srv), step.ranges), comment)
	}
	_, err = s.Seek(0, io.SeekStart)
	qt.Assert(t, qt.IsNil(err))
	got, err := io.ReadAll(r) // from the beginning to the end: verified
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(string(got), content))
}

func TestFailedSeekLeavesReaderWhereItWas(t *testing.T) {
	t.Parallel()
	for _, concurrent := range []int{0, 1} {
		reg, srv := faulty(t, ociclient.Options{Concurrency: concurrent}, rule{On: "GET", Header: header{"Range": "bytes=8-20"}, Times: 1, Status: 403})
		r, err := getBlob(reg)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		buf := make([]byte, 4)
		_, err = io.ReadFull(r, buf)
		qt.Assert(t, qt.IsNil(err))
		s := r.(io.Seeker)
		_, err = s.Seek(8, io.SeekStart)
		qt.Assert(t, qt.IsNil(err))
		_, err = r.Read(buf)
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
		_, err = s.Seek(4, io.SeekStart)
		qt.Assert(t, qt.IsNil(err))
		got, err := io.ReadAll(r)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(string(got), content[4:]))
		qt.Assert(t, qt.IsTrue(len(srv.Lines()) <= 3))
	}
}

func TestReaderIsNoSeekerWithoutRanges(t *testing.T) {
	t.Parallel()
	reg, _ := scripted(t, rule{On: "GET", Status: 200, Answer: content})
	r, err := getBlob(reg)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	_, ok := r.(io.Seeker)
	qt.Assert(t, qt.IsFalse(ok))
}

func TestRangeIsCutFromWholeBlob(t *testing.T) {
	t.Parallel()
	whole := rule{On: "GET", Status: 200, Answer: content}
	chunked := rule{On: "GET", Status: 200, Answer: content, NoLength: true}
	tests := []struct {
		name        string
		rule        rule
		from, to    int64
		want        string
		unsatisfied bool
	}{
		{"the middle", whole, 4, 11, "content", false},
		{"the beginning", whole, 0, 3, "the", false},
		{"the end", whole, 17, -1, "blob", false},
		{"beyond the end", whole, 17, 100, "blob", false},
		{"at the end", whole, 21, -1, "", false},
		{"after the end", whole, 22, -1, "", true},
		{"the middle, without length", chunked, 4, 11, "content", false},
		{"the end, without length", chunked, 17, -1, "blob", false},
		{"beyond the end, without length", chunked, 17, 100, "blob", false},
		{"after the end, without length", chunked, 22, -1, "", true},
		// The client cannot know that it is another blob, and must not guess.
		{"another blob", rule{On: "GET", Status: 200, Answer: strings.ToUpper(content)}, 4, 11, "CONTENT", false},
		{"another blob from end to end", rule{On: "GET", Status: 206, Set: header{"Content-Range": "bytes 0-20/21"}, Answer: strings.ToUpper(content)}, 0, 21, strings.ToUpper(content), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := scripted(t, test.rule)
			got, err := readAll(reg.GetBlobRange(ctx, "foo", contentDigest, test.from, test.to))
			qt.Check(t, qt.HasLen(srv.Lines(), 1))
			if test.unsatisfied {
				qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got, test.want))
		})
	}
}
