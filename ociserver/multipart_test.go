package ociserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// wantParts checks that an answer has the given parts of content, such as "1-4".
func (a *answer) wantParts(t testing.TB, content string, parts ...string) {
	t.Helper()
	a.want(t, http.StatusPartialContent)
	d := string(digest.FromString(content))
	a.wantHeaders(t, "Content-Range", "", "Content-Length", fmt.Sprint(len(a.body)), "Docker-Content-Digest", d, "ETag", `"`+d+`"`)
	mediaType, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(mediaType, "multipart/byteranges"))
	r := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	var got []string
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.Header.Get("Content-Type"), "application/octet-stream"))
		var start, end, size int
		_, err = fmt.Sscanf(p.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, &end, &size)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", p.Header.Get("Content-Range")))
		qt.Assert(t, qt.Equals(size, len(content)))
		data, err := io.ReadAll(p)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(string(data) == content[start:end+1]))
		got = append(got, fmt.Sprintf("%d-%d", start, end))
	}
	qt.Check(t, qt.DeepEquals(got, parts))
}

// rangeBackends returns servers of content over each kind of backend.
func rangeBackends(t *testing.T, content string) map[string]*site {
	disk, err := ocifs.New(t.TempDir(), nil)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { disk.Close() })
	memory := serve(t, nil)
	memory.pushBlob("foo", content)
	client, err := ociclient.New(strings.TrimPrefix(memory.url, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	parallel, err := ociclient.New(strings.TrimPrefix(memory.url, "http://"), &ociclient.Options{Insecure: true, Parallel: ociclient.Parallel{Concurrency: 2}})
	qt.Assert(t, qt.IsNil(err))
	cache := ociunify.NewCache(ocimem.New(), client, nil)
	t.Cleanup(func() { cache.Close() })
	sites := map[string]*site{
		"ocimem":           memory,
		"ocifs":            serveBackend(t, disk, nil),
		"a proxy":          serveBackend(t, client, nil),
		"a parallel proxy": serveBackend(t, parallel, nil),
		"a cache":          serveBackend(t, cache, nil),
	}
	sites["ocifs"].pushBlob("foo", content)
	return sites
}

func TestSeveralRanges_AreAnsweredInTheirOrder(t *testing.T) {
	t.Parallel()
	path := "/v2/foo/blobs/" + string(digest.FromString(helloWorld))
	for name, s := range rangeBackends(t, helloWorld) {
		t.Run(name, func(t *testing.T) {
			s.t = t
			for _, test := range []struct {
				header string
				parts  []string
			}{
				{"bytes=0-1,3-4", []string{"0-1", "3-4"}},
				{"bytes=3-4,0-1", []string{"3-4", "0-1"}},
				{"bytes=0-1,2-3", []string{"0-1", "2-3"}},
				{"bytes=2-3,0-1", []string{"2-3", "0-1"}},
				{"bytes=0-2,5-6,2-3", []string{"0-3", "5-6"}},
				{"bytes=5-6,0-2,2-3", []string{"5-6", "0-3"}},
				{"bytes=2-3,9-9,0-2", []string{"0-3", "9-9"}},
				{"bytes=0-0,2-2,1-8,10-", []string{"0-0", "1-8", "10-10"}},
				{"bytes=-1,0-0", []string{"10-10", "0-0"}},
				{"bytes=0-0,-2,-1", []string{"0-0", "9-10"}},
				{"bytes=0-0,20-30,4-100", []string{"0-0", "4-10"}},
				{"bytes= 0-0 ,\t5-5 ,,", []string{"0-0", "5-5"}},
			} {
				s.do("GET", path, "", "Range", test.header).wantParts(t, helloWorld, test.parts...)
			}

			// Where one part is left, it is the answer.
			for header, contentRange := range map[string]string{
				"bytes=0-4,2-6":    "bytes 0-6/11",
				"bytes=1-2,1-2":    "bytes 1-2/11",
				"bytes=1-2,11-":    "bytes 1-2/11",
				"bytes=-20,0-":     "bytes 0-10/11",
				"bytes=5-4,9-9":    "bytes 9-9/11",
				"bytes=-0,-1,50-":  "bytes 10-10/11",
				"bytes=0-,0-,0-,-": "",
			} {
				a := s.do("GET", path, "", "Range", header).wantHeaders(t, "Content-Range", contentRange)
				qt.Check(t, qt.Equals(a.StatusCode == http.StatusPartialContent, contentRange != ""))
				a.wantHeaders(t, "Content-Type", "application/octet-stream")
			}
			for _, header := range []string{"bytes=11-,20-30", "bytes=-0,11-", "bytes=5-4,3-2"} {
				s.do("GET", path, "", "Range", header).want(t, http.StatusRequestedRangeNotSatisfiable).
					wantHeaders(t, "Content-Range", "bytes */11", "Content-Type", "application/json")
			}
			s.do("GET", "/v2/foo/blobs/"+string(absent), "", "Range", "bytes=0-1,3-4").want(t, http.StatusNotFound)

			// Conditions come first, and HEAD has no ranges.
			etag := `"` + string(digest.FromString(helloWorld)) + `"`
			s.do("GET", path, "", "Range", "bytes=0-1,3-4", "If-Range", etag).wantParts(t, helloWorld, "0-1", "3-4")
			a := s.do("GET", path, "", "Range", "bytes=0-1,3-4", "If-Range", `"other"`).want(t, http.StatusOK)
			qt.Check(t, qt.Equals(a.body, helloWorld))
			s.do("GET", path, "", "Range", "bytes=0-1,3-4", "If-None-Match", etag).want(t, http.StatusNotModified)
			s.do("HEAD", path, "", "Range", "bytes=0-1,3-4").want(t, http.StatusOK).wantHeaders(t, "Content-Length", "11", "Content-Type", "application/octet-stream")
		})
	}
}

func TestManyRanges_AreAnsweredUpToALimit(t *testing.T) {
	t.Parallel()
	content := make([]byte, 1<<20)
	rnd := rand.NewChaCha8([32]byte{})
	rnd.Read(content)
	path := "/v2/foo/blobs/" + string(digest.FromBytes(content))
	for name, s := range rangeBackends(t, string(content)) {
		t.Run(name, func(t *testing.T) {
			s.t = t
			r := rand.New(rand.NewPCG(1, 2))
			for _, n := range []int{2, 10, 1024} {
				specs, parts := make([]string, n), make([]string, n)
				for i, place := range r.Perm(n) { // each in a place of its own
					room := len(content) / n
					start := place*room + r.IntN(room)
					end := start + r.IntN((place+1)*room-start)
					parts[i] = fmt.Sprintf("%d-%d", start, end)
					specs[i] = parts[i]
				}
				s.do("GET", path, "", "Range", "bytes="+strings.Join(specs, ",")).wantParts(t, string(content), parts...)

				// As often as one likes, the same bytes come once.
				a := s.do("GET", path, "", "Range", "bytes="+strings.Repeat("0-,", n)[:3*n]).want(t, http.StatusPartialContent)
				qt.Check(t, qt.Equals(len(a.body), len(content)))
			}
			for _, n := range []int{1025, 10_000} {
				a := s.do("GET", path, "", "Range", "bytes=0-0"+strings.Repeat(",2-2", n-1)).want(t, http.StatusBadRequest)
				qt.Check(t, qt.StringContains(a.body, "more than 1024 ranges"))
			}
		})
	}
}

// Ranges that are near each other cost one call, which asks a remote registry only for the
// ranges and the bytes between them.
func TestRangesThatAreNearShareACall(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789abcdef", 64<<10)
	origin := ocimem.New()
	desc := ociregistry.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	_, err := origin.PushBlob(t.Context(), "foo", desc, strings.NewReader(content))
	qt.Assert(t, qt.IsNil(err))
	h := ociserver.New(origin, nil)
	var gets, bytes atomic.Int64
	o := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "GET" {
			gets.Add(1)
		}
		h.ServeHTTP(countingResponse{w, &bytes}, req)
	}))
	client, err := ociclient.New(strings.TrimPrefix(o.url, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	s := serveBackend(t, client, nil)
	for _, test := range []struct {
		header string
		gets   int64
		bytes  int64
		parts  []string
	}{
		{"bytes=0-9,20-29,1000-1009", 1, 1010, []string{"0-9", "20-29", "1000-1009"}},
		{"bytes=0-9,65546-65555", 1, 65556, []string{"0-9", "65546-65555"}},
		{"bytes=0-9,65547-65556", 2, 20, []string{"0-9", "65547-65556"}},
		{"bytes=0-9,500000-500009,500020-500029", 2, 40, []string{"0-9", "500000-500009", "500020-500029"}},
		{"bytes=1000-1009,0-9", 2, 20, []string{"1000-1009", "0-9"}},
		{"bytes=0-9,10-19", 1, 20, []string{"0-9", "10-19"}},
	} {
		gets.Store(0)
		bytes.Store(0)
		s.do("GET", "/v2/foo/blobs/"+string(desc.Digest), "", "Range", test.header).wantParts(t, content, test.parts...)
		qt.Check(t, qt.Equals(gets.Load(), test.gets), qt.Commentf("%s", test.header))
		qt.Check(t, qt.Equals(bytes.Load(), test.bytes), qt.Commentf("%s", test.header))
	}
}

// countingResponse counts the bytes of an answer.
type countingResponse struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countingResponse) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

// A client can tell that parts are missing.
func TestRangesThatBreakOff(t *testing.T) {
	t.Parallel()
	desc := ociregistry.Descriptor{Digest: digest.FromString(helloWorld), Size: 11}
	for name, test := range map[string]struct {
		open   func(call int, o0, o1 int64) (io.Reader, error)
		status int // 0 for an answer that breaks off
	}{
		"the first call fails":    {func(int, int64, int64) (io.Reader, error) { return nil, errors.New("disk on fire") }, 500},
		"no ranges":               {func(int, int64, int64) (io.Reader, error) { return nil, ociregistry.ErrUnsupported }, 200},
		"the blob is gone":        {func(int, int64, int64) (io.Reader, error) { return nil, ociregistry.ErrBlobUnknown }, 404},
		"less than there must be": {func(_ int, o0, o1 int64) (io.Reader, error) { return strings.NewReader(helloWorld[o0 : o1-1]), nil }, 0},
		"more than there must be": {func(_ int, o0, o1 int64) (io.Reader, error) { return strings.NewReader(helloWorld[o0:]), nil }, 0},
		"the second call fails": {func(call int, o0, o1 int64) (io.Reader, error) {
			if call == 2 {
				return nil, errors.New("disk on fire")
			}
			return strings.NewReader(helloWorld[o0:o1]), nil
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, closed, calls := 0, 0, 0
			s := serveBackend(t, &ociregistry.Funcs{
				ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return desc, nil },
				GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
					return blobReader{Reader: strings.NewReader(helloWorld), desc: desc}, nil
				},
				GetBlobRange_: func(_ context.Context, _ string, _ ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
					calls++
					r, err := test.open(calls, o0, o1)
					if err != nil {
						return nil, err
					}
					opened++
					return onClose{blobReader{Reader: r, desc: desc}, func() { closed++ }}, nil
				},
			}, &ociserver.Options{OnEvent: func(_ context.Context, e ociserver.Event) { qt.Check(t, qt.Equals(e.Bytes, 11)) }})
			req, err := http.NewRequest("GET", s.url+"/v2/foo/blobs/"+string(desc.Digest), nil)
			qt.Assert(t, qt.IsNil(err))
			req.Header.Set("Range", "bytes=6-8,0-1")
			resp, err := s.client.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			s.close()
			if test.status != 0 {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(resp.StatusCode, test.status))
			} else {
				qt.Check(t, qt.IsNotNil(err))
			}
			qt.Check(t, qt.Equals(closed, opened))
		})
	}
}

// onClose is a BlobReader that calls a function when it is closed.
type onClose struct {
	blobReader
	closed func()
}

func (r onClose) Close() error {
	r.closed()
	return nil
}

func TestSeveralRangesAreOneEvent(t *testing.T) {
	t.Parallel()
	var events []ociserver.Event
	s := serve(t, &ociserver.Options{OnEvent: func(_ context.Context, e ociserver.Event) { events = append(events, e) }})
	d := s.pushBlob("foo", helloWorld)
	events = nil
	s.do("GET", "/v2/foo/blobs/"+string(d), "", "Range", "bytes=0-1,3-4").wantParts(t, helloWorld, "0-1", "3-4")
	s.close()
	qt.Assert(t, qt.HasLen(events, 1))
	qt.Check(t, qt.Equals(events[0].Action, ociserver.ActionPull))
	qt.Check(t, qt.Equals(events[0].Bytes, 4))
}
