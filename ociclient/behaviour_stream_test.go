package ociclient_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// ranges returns what the GET requests for blobs asked for: the values of Range.
func ranges(srv *faultserver.Server) []string {
	var ranges []string
	for _, r := range srv.Requests("GET /v2/foo/blobs/") {
		ranges = append(ranges, r.Header.Get("Range"))
	}
	return ranges
}

// A blob of 21 bytes whose connection breaks after 10, and what then.
func TestBehaviour04_BrokenBody(t *testing.T) {
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
			// Without connections that are used again, no request is made again by
			// the transport.
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

func (timeoutError) Timeout() bool   { return true }
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

func TestBehaviour04_Timeout(t *testing.T) {
	t.Parallel()
	reg, srv := faulty(t, ociclient.Options{Transport: &slow{RoundTripper: newTransport(t)}})
	wantBlob(t, reg, content)
	qt.Assert(t, qt.DeepEquals(ranges(srv), []string{"", "bytes=10-20"}))
}

func TestBehaviour05_Seek(t *testing.T) {
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
		want   int64 // the place; -1 for an error
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

// A Read that fails because of a Seek leaves the reader where it was.
func TestBehaviour05_SeekFails(t *testing.T) {
	t.Parallel()
	for _, concurrent := range []int{0, 1} {
		reg, srv := faulty(t, ociclient.Options{MaxConcurrent: concurrent}, rule{On: "GET", Header: header{"Range": "bytes=8-20"}, Times: 1, Status: 403})
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

func TestBehaviour05_NoRanges(t *testing.T) {
	t.Parallel()
	reg, _ := scripted(t, rule{On: "GET", Status: 200, Answer: content})
	r, err := getBlob(reg)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	_, ok := r.(io.Seeker)
	qt.Assert(t, qt.IsFalse(ok))
}

func TestBehaviour06_RangeOfWhole(t *testing.T) {
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
		// That it is another blob cannot be known, and must not be guessed.
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

func TestBehaviour07_Parallel(t *testing.T) {
	t.Parallel()
	blob := pattern(95)
	digest := blobDesc(blob).Digest
	tests := []struct {
		name     string
		rules    []rule
		requests int
		failure  bool
	}{
		{"in parts", nil, 10, false},
		{"no ranges", []rule{{On: "GET", Handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, blob) }}}, 1, false},
		{"no total", []rule{{On: "GET", Header: header{"Range": "bytes=0-9"}, Status: 206, Set: header{"Content-Range": "bytes 0-9/*"}, Answer: blob[:10]}}, 2, false},
		{"a part that breaks", []rule{{On: "GET", Header: header{"Range": "bytes=40-49"}, Cut: 5}}, 11, false},
		{"the first part breaks", []rule{{On: "GET", Times: 1, Cut: 5}}, 11, false},
		{"a part is the whole", []rule{{On: "GET", Header: header{"Range": "bytes=40-49"}, Status: 200, Answer: blob}}, 10, false},
		{"a part of other content", []rule{{On: "GET", Header: header{"Range": "bytes=40-49"}, Status: 206, Set: header{"Content-Range": "bytes 40-49/95"}, Answer: blob[:10]}}, 10, true},
		{"a part from elsewhere", []rule{{On: "GET", Header: header{"Range": "bytes=40-49"}, Status: 206, Set: header{"Content-Range": "bytes 30-39/95"}, Answer: blob[30:40]}}, 0, true},
		{"a part is gone", []rule{{On: "GET", Header: header{"Range": "bytes=40-49"}, Status: 404}}, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := faultserver.New(t, ociserver.New(registryWith(t, blob, ""), nil), test.rules...)
			reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Parts: 3, PartSize: 10}}, newClock())
			got, err := readAll(reg.GetBlob(ctx, "foo", digest))
			if test.requests > 0 {
				qt.Check(t, qt.HasLen(srv.Lines(), test.requests))
			}
			if test.failure {
				qt.Assert(t, qt.IsNotNil(err))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got, blob))
			if test.rules == nil {
				wantBlob(t, reg, "") // which has no first byte
			}
		})
	}
}

// However slow its reader is, no more than three parts of a blob are out.
func TestBehaviour07_Bounded(t *testing.T) {
	t.Parallel()
	blob := pattern(95)
	asked := make(chan struct{}, 100)
	release := make(chan struct{})
	var under, most atomic.Int64
	backend := ociserver.New(registryWith(t, blob), nil)
	srv := faultserver.New(t, nil, rule{On: "GET", Handler: func(w http.ResponseWriter, req *http.Request) {
		n := under.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		asked <- struct{}{}
		if req.Header.Get("Range") != "bytes=0-9" {
			<-release
		}
		under.Add(-1)
		backend.ServeHTTP(w, req)
	}})
	reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Parts: 3, PartSize: 10}}, newClock())
	r, err := reg.GetBlob(ctx, "foo", blobDesc(blob).Digest)
	qt.Assert(t, qt.IsNil(err))
	for range 3 {
		<-asked
	}
	qt.Assert(t, qt.Equals(under.Load(), 2)) // two at once, beside the first, which was answered
	close(release)
	got, err := readAll(r, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got, blob))
	qt.Assert(t, qt.IsTrue(most.Load() <= 3))
}

// A reader whose parts do not come is ended by Close and by its context.
func TestBehaviour07_Abandoned(t *testing.T) {
	t.Parallel()
	blob := pattern(95)
	for _, closed := range []bool{true, false} {
		srv := faultserver.New(t, ociserver.New(registryWith(t, blob), nil),
			rule{On: "GET", First: 1, Wait: make(chan struct{})})
		reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Parts: 3, PartSize: 10}}, newClock())
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r, err := reg.GetBlob(ctx, "foo", blobDesc(blob).Digest)
		qt.Assert(t, qt.IsNil(err))
		_, err = io.ReadFull(r, make([]byte, 10))
		qt.Assert(t, qt.IsNil(err))
		if closed {
			qt.Assert(t, qt.IsNil(r.Close()))
			_, err = r.Read(make([]byte, 1))
			qt.Assert(t, qt.ErrorMatches(err, ".*the reader is closed"))
			continue
		}
		cancel()
		_, err = r.Read(make([]byte, 1))
		qt.Assert(t, qt.ErrorIs(err, context.Canceled))
		qt.Assert(t, qt.IsNil(r.Close()))
	}
}
