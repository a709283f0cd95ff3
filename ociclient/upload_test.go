package ociclient_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// misreporter is a registry that accepts chunks only at their offset, and misreports how
// much it has of a blob.
type misreporter struct {
	http.Handler
	status int                                        // of a PATCH
	report func(had, sent, first int64) (rng string)  // with it, and with 416
	ask    func(w http.ResponseWriter, report string) // answers GET; nil for the true size

	first int64 // the end of the first chunk
}

func (m *misreporter) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	session := strings.HasPrefix(req.URL.Path, uploads)
	switch {
	case session && req.Method == http.MethodPatch:
		start, end, _ := wire.ParseChunkRange(req.Header.Get("Content-Range"))
		if m.first == 0 {
			m.first = end
		}
		m.Handler.ServeHTTP(&changed{ResponseWriter: w, change: func(status int) int {
			w.Header().Set("Range", m.report(start, end-start, m.first))
			if status == http.StatusAccepted {
				return m.status
			}
			return status
		}}, req)
	case session && req.Method == http.MethodGet && m.ask != nil:
		m.ask(w, m.report(0, 0, m.first))
	default:
		m.Handler.ServeHTTP(w, req)
	}
}

// changed is a response whose status and header are changed.
type changed struct {
	http.ResponseWriter
	change func(int) int
}

func (c *changed) WriteHeader(status int) { c.ResponseWriter.WriteHeader(c.change(status)) }

// reports has what registries report about a session that had some bytes and received
// more, in place of its size.
var reports = map[string]func(had, sent, first int64) string{
	"stuck at the first chunk": func(_, _, first int64) string { return wire.UploadRange(first) },
	"of the chunk alone":       func(_, sent, _ int64) string { return wire.UploadRange(sent) },
	"before the chunk":         func(had, _, _ int64) string { return wire.UploadRange(had) },
	"from the chunk's start":   func(had, sent, _ int64) string { return fmt.Sprintf("%d-%d", had, had+sent-1) },
	"one too few":              func(had, sent, _ int64) string { return wire.UploadRange(had + sent - 1) },
	"one too many":             func(had, sent, _ int64) string { return wire.UploadRange(had + sent + 1) },
	"ahead":                    func(had, sent, _ int64) string { return wire.UploadRange(1000 + had + sent) },
	"as large as can be":       func(int64, int64, int64) string { return "0-9223372036854775806" },
	"too large":                func(int64, int64, int64) string { return "0-9223372036854775807" },
	"nothing":                  func(int64, int64, int64) string { return "0-0" },
	"less than nothing":        func(int64, int64, int64) string { return "0--1" },
	"absent":                   func(int64, int64, int64) string { return "" },
	"no range":                 func(int64, int64, int64) string { return "yes" },
}

// answers has what such registries answer when a client asks a session.
var askAnswers = map[string]func(w http.ResponseWriter, report string){
	"the truth": nil,
	"the same":  func(w http.ResponseWriter, report string) { w.Header().Set("Range", report); w.WriteHeader(204) },
	"nothing":   func(w http.ResponseWriter, _ string) { w.WriteHeader(204) },
	"404":       func(w http.ResponseWriter, _ string) { w.WriteHeader(404) },
	"405":       func(w http.ResponseWriter, _ string) { w.WriteHeader(405) },
	"500":       func(w http.ResponseWriter, _ string) { w.WriteHeader(500) },
}

// A success acknowledges what was sent, whatever else the registry reports: for PushBlob,
// for a writer, and through a server over the client.
func TestPushSurvivesReports(t *testing.T) {
	t.Parallel()
	for name, report := range reports {
		for said, ask := range askAnswers {
			t.Run(name+"/"+said, func(t *testing.T) {
				t.Parallel()
				backend := ocimem.New()
				m := &misreporter{Handler: ociserver.New(backend, nil), report: report, ask: ask}
				srv := faultserver.New(t, m, anyChunk)
				client := func(chunk, status int) ociregistry.Interface {
					m.first, m.status = 0, status
					return clientOf(t, srv, ociclient.Options{ChunkSize: chunk}, newClock())
				}
				for _, status := range []int{200, 201, 202, 204} {
					blob := pattern(95 + status)
					_, err := client(20, status).PushBlob(ctx, "foo", blobDesc(blob), once(blob))
					qt.Assert(t, qt.IsNil(err))
					wantBlob(t, backend, blob)
					chunks := (len(blob) + 19) / 20
					qt.Assert(t, qt.IsTrue(len(srv.Lines()) <= 1+chunks+2)) // fewer than two more for each chunk
				}

				blob := pattern(200)
				w, err := client(10, 201).PushBlobChunked(ctx, "foo", 0)
				qt.Assert(t, qt.IsNil(err))
				_, err = io.WriteString(w, blob)
				qt.Assert(t, qt.IsNil(err))
				_, err = w.Commit(digest.FromString(blob))
				qt.Assert(t, qt.IsNil(err))
				wantBlob(t, backend, blob)

				blob = pattern(20_000) // more than twice the minimum chunk of the server
				front := serve(t, client(5000, 201), ociclient.Options{ChunkSize: 1})
				_, err = front.PushBlob(ctx, "foo", blobDesc(blob), once(blob))
				qt.Assert(t, qt.IsNil(err))
				wantBlob(t, backend, blob)
			})
		}
	}
}

// This holds for chunks of the default size, too.
func TestPushSurvivesStuckRange(t *testing.T) {
	t.Parallel()
	blob := noise(40 << 20)
	desc := blob.descriptor()
	for _, status := range []int{201, 202} {
		backend := ocimem.New()
		m := &misreporter{Handler: ociserver.New(backend, nil), status: status, report: reports["stuck at the first chunk"], ask: askAnswers["the same"]}
		srv := faultserver.New(t, m)
		_, err := clientOf(t, srv, ociclient.Options{}, newClock()).PushBlob(ctx, "foo", desc, io.MultiReader(blob.reader()))
		qt.Assert(t, qt.IsNil(err))
		got, err := backend.ResolveBlob(ctx, "foo", desc.Digest)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(got.Size, desc.Size))
	}
}

// losing is a registry whose sessions lose all but size bytes before a request that
// matches, or are gone if size is negative.
func losing(backend http.Handler, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if size < 0 {
			http.NotFound(w, req)
			return
		}
		io.Copy(io.Discard, req.Body)
		w.Header().Set("Range", wire.UploadRange(int64(size)))
		w.Header().Set("Location", req.URL.Path)
		w.WriteHeader(map[string]int{"GET": 204, "DELETE": 204}[req.Method] | map[string]int{"PATCH": 416, "PUT": 416}[req.Method])
	}
}

// A session that has lost acknowledged content, which cannot be sent again, is an error.
func TestPushOfLostSessionFailsOrStartsAnew(t *testing.T) {
	t.Parallel()
	blob := pattern(95)
	for _, size := range []int{-1, 0, 1, 5, 10, 19} {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", size, broken), func(t *testing.T) {
				t.Parallel()
				backend := ociserver.New(ocimem.New(), nil)
				lost := losing(backend, size)
				rules := []rule{
					anyChunk,
					{On: "PATCH ", First: 2, Handler: lost},
					{On: "GET ", Handler: lost},
					{On: "PUT ", Handler: lost},
					{On: "DELETE ", Handler: lost},
				}
				if broken { // so the client asks the session
					rules = append([]rule{{On: "PATCH ", First: 2, Times: 1, Status: 502}}, rules...)
				}
				want := ociregistry.ErrRangeInvalid
				if size < 0 {
					want = ociregistry.ErrBlobUploadUnknown
				}
				start := func() ociregistry.Interface {
					return clientOf(t, faultserver.New(t, backend, rules...), ociclient.Options{ChunkSize: 10}, newClock())
				}
				_, err := start().PushBlob(ctx, "foo", blobDesc(blob), once(blob))
				qt.Assert(t, qt.ErrorIs(err, want))

				w, err := start().PushBlobChunked(ctx, "foo", 0)
				qt.Assert(t, qt.IsNil(err))
				_, err = io.WriteString(w, blob)
				qt.Assert(t, qt.ErrorIs(err, want))
				wantFailed(t, w, want)

				_, err = serve(t, start(), ociclient.Options{}).PushBlob(ctx, "foo", blobDesc(blob), once(blob))
				qt.Assert(t, qt.ErrorIs(err, want))
			})
		}
	}
}

// wantFailed checks that a writer after a failed Write stays failed.
func wantFailed(t *testing.T, w ociregistry.BlobWriter, want error) {
	t.Helper()
	for range 2 {
		_, err := w.Write(nil)
		qt.Assert(t, qt.ErrorIs(err, want))
		_, err = io.WriteString(w, content)
		qt.Assert(t, qt.ErrorIs(err, want))
		_, err = w.Commit(contentDigest)
		qt.Assert(t, qt.ErrorIs(err, want))
	}
}

// After a failed Write of any size, nothing can be committed, not even what the session
// has.
func TestWriterStaysFailed(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5, 10, 11, 25} { // less than a chunk, and more
		reg, srv := faulty(t, ociclient.Options{ChunkSize: 10, Retry: ociclient.RetryPolicy{Attempts: 1}}, anyChunk, rule{On: "PATCH ", First: 1, Times: 1, Status: 403})
		w, err := reg.PushBlobChunked(ctx, "foo", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = io.WriteString(w, content[:10])
		qt.Assert(t, qt.IsNil(err))
		for err == nil {
			_, err = io.WriteString(w, strings.Repeat("x", size))
		}
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
		wantFailed(t, w, ociregistry.ErrDenied)
		_, err = w.Commit(digest.FromString(content[:10]))
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
		qt.Assert(t, qt.Equals(w.Size(), 10))
		qt.Assert(t, qt.HasLen(srv.Requests("PUT "), 0))

		// The session stays open for another writer.
		qt.Assert(t, qt.ErrorIs(w.Close(), ociregistry.ErrDenied))
		again, err := reg.PushBlobChunkedResume(ctx, "foo", w.ID(), w.Size(), 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = io.WriteString(again, content[10:])
		qt.Assert(t, qt.IsNil(err))
		_, err = again.Commit(contentDigest)
		qt.Assert(t, qt.IsNil(err))
	}
}

func TestWriterThatFailedIsCancelled(t *testing.T) {
	t.Parallel()
	reg, srv := faulty(t, ociclient.Options{ChunkSize: 10}, anyChunk, rule{On: "PATCH ", Status: 403})
	w, err := reg.PushBlobChunked(ctx, "foo", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.WriteString(w, content)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	qt.Assert(t, qt.IsNil(w.Cancel()))
	qt.Assert(t, qt.HasLen(srv.Requests("DELETE "), 1))
	_, err = w.Commit(contentDigest)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Assert(t, qt.IsNil(w.Close()))
}

// A Commit that failed for a temporary reason can be repeated, even if its answer was
// lost, or the session has only a part of what it sent.
func TestCommitIsRepeated(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]rule{
		"refused":   {On: "PUT ", Times: 1, Status: 503},
		"denied":    {On: "PUT ", Times: 1, Status: 403},
		"half-way":  {On: "PUT ", Times: 1, CutRequest: 5},
		"elsewhere": {On: "PUT ", Times: 1, Status: 416, Set: header{"Range": "0-2000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := ocimem.New()
			srv := faultserver.New(t, ociserver.New(backend, nil), anyChunk, fault)
			transport := newTransport(t)
			transport.DisableKeepAlives = true // so that the transport repeats no requests
			reg := clientOf(t, srv, ociclient.Options{ChunkSize: 10, Transport: transport, Retry: ociclient.RetryPolicy{Attempts: 1}}, newClock())
			w, err := reg.PushBlobChunked(ctx, "foo", 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(w, content[:18])
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Commit(digest.FromString(content[:18]))
			qt.Assert(t, qt.IsNotNil(err))
			_, err = w.Commit(digest.FromString(content[:18]))
			qt.Assert(t, qt.IsNil(err))
			wantBlob(t, backend, content[:18])
		})
	}
}

// A failed mount or HEAD does not fail a push.
func TestPushSurvivesAFailedMount(t *testing.T) {
	t.Parallel()
	mount := "POST " + uploads + "?mount="
	tests := map[string]struct {
		rule rule
		want string
	}{
		"400":                       {rule{Status: 400}, "HEAD POST POST PUT"},
		"401 with good credentials": {rule{Status: 401, Set: header{"WWW-Authenticate": `Bearer realm="x"`}}, "HEAD POST POST PUT"},
		"404":                       {rule{Status: 404}, "HEAD POST POST PUT"},
		"408":                       {rule{Status: 408}, "HEAD POST POST PUT"},
		"429":                       {rule{Status: 429, Times: 2, Set: header{"Retry-After": "7"}}, "HEAD POST POST POST PUT"}, // the third is answered with a session
		"429, for ever":             {rule{Status: 429}, "HEAD POST POST POST POST POST POST PUT"},
		"500":                       {rule{Status: 500}, "HEAD POST POST PUT"},
		"503":                       {rule{Status: 503}, "HEAD POST POST PUT"},
		"600":                       {rule{Status: 600}, "HEAD POST POST PUT"},
		"a lost answer":             {rule{LoseAnswer: true}, "HEAD POST POST PUT"},
		"other content":             {rule{Status: 201, Set: header{"Docker-Content-Digest": string(otherDigest)}}, "HEAD POST POST PUT"},
		"a session nowhere":         {rule{Status: 202}, "HEAD POST POST PUT"},
		"a redirect":                {rule{Status: 307, Set: header{"Location": "ftp://elsewhere"}}, "HEAD POST POST PUT"},
		"a page":                    {rule{Status: 200, Answer: "<html>"}, "HEAD POST POST PUT"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.rule.On = mount
			backend := ocimem.New()
			srv := faultserver.New(t, ociserver.New(backend, nil), test.rule, rule{On: "HEAD ", Status: 403})
			transport := newTransport(t)
			transport.DisableKeepAlives = true // so that the transport repeats no requests
			clock := newClock()
			reg := clientOf(t, srv, ociclient.Options{CheckBlobs: true, MountFrom: []string{"bar"}, Transport: transport}, clock)
			qt.Assert(t, qt.IsNil(push(reg)))
			wantBlob(t, backend, content)
			if name == "429" {
				qt.Assert(t, qt.IsTrue(clock.Now().Sub(newClock().Now()) >= 14*time.Second))
			} else if name != "429, for ever" {
				qt.Assert(t, qt.HasLen(clock.Waits(), 0))
			}
			qt.Assert(t, qt.Equals(strings.Join(methods(srv.Lines()), " "), test.want))
		})
	}
}

func TestPushSurvivesAFailedHead(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]rule{
		"401": {Status: 401}, "403": {Status: 403}, "404": {Status: 404}, "405": {Status: 405}, "429": {Status: 429},
		"500": {Status: 500}, "503": {Status: 503}, "600": {Status: 600}, "a lost answer": {LoseAnswer: true},
		"other content":        {Status: 200, Set: header{"Docker-Content-Digest": string(otherDigest)}},
		"a redirect":           {Status: 307, Set: header{"Location": "ftp://elsewhere"}},
		"a redirect to itself": {Status: 307, Set: header{"Location": "?"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			head.On = "HEAD "
			backend := ocimem.New()
			srv := faultserver.New(t, ociserver.New(backend, nil), head)
			reg := clientOf(t, srv, ociclient.Options{CheckBlobs: true}, newClock())
			qt.Assert(t, qt.IsNil(push(reg)))
			wantBlob(t, backend, content)
		})
	}
}

// A blob that is sent in one request continues at the position of the session, or, if the
// session does not report one, from the beginning in another session.
func TestPushAtOnceOfLostSessionStartsAnew(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	server := ociserver.New(backend, nil)
	srv := faultserver.New(t, server,
		rule{On: "PUT ", Times: 1, Handler: func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(io.LimitReader(req.Body, 15))
			patch := req.Clone(req.Context())
			patch.Method, patch.Body, patch.ContentLength = http.MethodPatch, io.NopCloser(bytes.NewReader(body)), 15
			server.ServeHTTP(&changed{w, func(int) int { return 502 }}, patch)
		}},
		rule{On: "GET ", Times: 1, Set: header{"Range": "0-900"}},
	)
	qt.Assert(t, qt.IsNil(push(clientOf(t, srv, ociclient.Options{}, newClock()))))
	wantBlob(t, backend, content)
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines())[:4], []string{"POST", "PUT", "HEAD", "GET"}))
}
