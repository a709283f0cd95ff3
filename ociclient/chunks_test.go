package ociclient_test

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"strconv"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// chunks returns the sizes of the requests that sent content.
func chunks(srv *faultserver.Server) []int64 {
	var chunks []int64
	for _, r := range srv.Requests("P") {
		if r.Method != http.MethodPost {
			chunks = append(chunks, r.Body)
		}
	}
	return chunks
}

func TestChunkSizeIsBetweenMinimumAndMaximum(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	small := pattern(100)
	tests := []struct {
		name string
		blob string
		opts ociclient.Options
		min  string // OCI-Chunk-Min-Length
		want []int64
	}{
		{"by default", string(make([]byte, 20*mib)), ociclient.Options{}, "", []int64{8 * mib, 8 * mib, 4 * mib}},
		{"as set", small, ociclient.Options{ChunkSize: 40}, "", []int64{40, 40, 20}},
		{"as the registry says", small, ociclient.Options{ChunkSize: 10}, "60", []int64{60, 40}},
		{"more than the registry says", small, ociclient.Options{ChunkSize: 60}, "10", []int64{60, 40}},
		{"all that the registry wants", small, ociclient.Options{ChunkSize: 10}, "100", []int64{100}},
		{"a lie", small, ociclient.Options{ChunkSize: 10, MaxChunkSize: 30}, "1000000000000000000", []int64{30, 30, 30, 10}},
		{"a lie, by default", small, ociclient.Options{ChunkSize: 10}, "1000000000000000000", []int64{100}},
		{"a negative lie", small, ociclient.Options{ChunkSize: 50}, "-5", []int64{50, 50}},
		{"nonsense", small, ociclient.Options{ChunkSize: 50}, "99999999999999999999999", []int64{50, 50}},
		{"one chunk exactly", small, ociclient.Options{ChunkSize: 100}, "", []int64{100}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": test.min}})
			reg := clientOf(t, srv, test.opts, newClock())
			_, err := reg.PushBlob(ctx, "foo", blobDesc(test.blob), once(test.blob))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(chunks(srv), test.want))
		})
	}
}

func TestWriterTellsChunkSize(t *testing.T) {
	t.Parallel()
	tests := []struct{ asked, want int }{{0, 8 << 20}, {10, 60}, {100, 100}, {math.MaxInt, 64 << 20}}
	for _, test := range tests {
		srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": "60"}})
		w, err := clientOf(t, srv, ociclient.Options{}, newClock()).PushBlobChunked(ctx, "foo", test.asked)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(w.ChunkSize(), test.want))
		qt.Assert(t, qt.IsNil(w.Cancel()))
	}
}

// A registry with a minimum size of chunks gets no smaller one but the last, whatever
// the sizes of the caller's writes, with one proxy or several.
func TestNoChunkButTheLastIsBelowTheMinimum(t *testing.T) {
	t.Parallel()
	const least = 60
	blob := pattern(1000)
	srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": strconv.Itoa(least)}})
	for _, opts := range []ociclient.Options{{}, {ChunkSize: 10}, {ChunkSize: 100}, {ChunkSize: 1000}} {
		proxy := func() ociregistry.Interface { return clientOf(t, srv, opts, newClock()) }
		for _, size := range []int{60, 61, 99, 100, 119, 120, 121, 179, 200, 333, 1000} {
			w, err := proxy().PushBlobChunked(ctx, "foo", 0)
			qt.Assert(t, qt.IsNil(err))
			id := w.ID()
			qt.Assert(t, qt.IsNil(w.Close()))
			sent := 0
			for ; len(blob)-sent > size; sent += size { // each is a PATCH request of a proxy's client
				w, err := proxy().PushBlobChunkedResume(ctx, "foo", id, int64(sent), 0)
				qt.Assert(t, qt.IsNil(err))
				for part := blob[sent : sent+size]; part != ""; { // in pieces
					n := min(len(part), 1+size/7)
					_, err = io.WriteString(w, part[:n])
					qt.Assert(t, qt.IsNil(err))
					part = part[n:]
				}
				qt.Assert(t, qt.Equals(w.Size(), int64(sent+size)))
				qt.Assert(t, qt.IsNil(w.Close()))
				id = w.ID()
			}
			w, err = proxy().PushBlobChunkedResume(ctx, "foo", id, int64(sent), 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(w, blob[sent:])
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Commit(digest.FromString(blob))
			qt.Assert(t, qt.IsNil(err))
			wantBlob(t, proxy(), blob)
			for _, r := range srv.Requests("PATCH ") {
				qt.Assert(t, qt.IsTrue(r.Body >= least), qt.Commentf("a chunk of %d bytes of %d, %+v", r.Body, size, opts))
			}
			srv.Lines()
		}
	}
}

func TestAnswersToChunksAreUnderstood(t *testing.T) {
	t.Parallel()
	session := header{"Location": uploads + "1"}
	tests := []struct {
		name   string
		status int
		ranges string
	}{
		{"202", 202, "0-19"}, {"201", 201, "0-19"}, {"204", 204, "0-19"},
		{"with a unit", 202, "bytes=0-19"}, {"without a range", 202, ""}, {"with no range", 202, "yes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := scripted(t,
				rule{On: "POST ", Status: 202, Set: session},
				rule{On: "PATCH ", Header: header{"Content-Range": "0-19"}, Body: content[:20], Status: test.status, Set: header{"Range": test.ranges, "Location": uploads + "2"}},
				rule{On: "PUT " + uploads + "2?digest=", Header: header{"Content-Range": "20-20"}, Body: content[20:], Status: 201},
			)
			w, err := reg.PushBlobChunked(ctx, "foo", 20)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(w, content[:11])
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(w.Size(), 11))
			_, err = io.WriteString(w, content[11:])
			qt.Assert(t, qt.IsNil(err))
			desc, err := w.Commit(contentDigest)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Size, int64(len(content))))
			qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"POST", "PATCH", "PUT"}))
		})
	}
}

// The client asks the session how much of a chunk the registry took, whatever its
// success claims, and sends the rest again.
func TestRestOfPartlyTakenChunkIsSent(t *testing.T) {
	t.Parallel()
	for _, claim := range []string{"0-4", "0-2", "0-99", "0-0"} {
		backend := ociserver.New(ocimem.New(), nil)
		srv := faultserver.New(t, backend, anyChunk, rule{On: "PATCH ", Times: 1, Set: header{"Range": claim}, Handler: func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(io.LimitReader(req.Body, 5))
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), 5
			req.Header.Set("Content-Range", "0-4")
			backend.ServeHTTP(w, req)
		}})
		reg := clientOf(t, srv, ociclient.Options{ChunkSize: 10}, newClock())
		_, err := reg.PushBlob(ctx, "foo", blobDesc(content), once(content))
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", claim))
		wantBlob(t, reg, content)
	}
}
