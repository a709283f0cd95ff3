package ociserver_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// slow is a middleware by which a test notices when a body begins to arrive, ends the
// request's context, and notices when the handler has returned.
type slow struct {
	h       http.Handler
	arrived chan struct{} // gets a value when the first part of a body was read
	cancel  chan struct{} // ends the context
	done    chan struct{} // gets a value when the handler has returned
}

func newSlow(h http.Handler) *slow {
	return &slow{h, make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)}
}

func (s *slow) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	ctx, cancel := context.WithCancel(req.Context())
	stop := make(chan struct{})
	go func() {
		select {
		case <-s.cancel:
			cancel()
		case <-stop:
		}
	}()
	defer func() {
		close(stop)
		cancel()
		s.done <- struct{}{}
	}()
	req = req.WithContext(ctx)
	if req.ContentLength != 0 {
		req.Body = &tappedBody{ReadCloser: req.Body, arrived: s.arrived}
	}
	s.h.ServeHTTP(w, req)
}

type tappedBody struct {
	io.ReadCloser
	arrived chan struct{}
	tapped  bool
}

func (b *tappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && !b.tapped {
		b.tapped = true
		b.arrived <- struct{}{}
	}
	return n, err
}

func TestSlowBody_EndsWithTheContext(t *testing.T) {
	t.Parallel()
	d := string(digest.FromString("foobar"))
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, r := range []string{
			"POST /v2/foo/blobs/uploads/?digest=" + d,
			"PATCH /v2/foo/blobs/uploads/MQ",
			"PUT /v2/foo/blobs/uploads/MQ?digest=" + d,
			"PUT /v2/foo/manifests/latest",
		} {
			method, path, _ := strings.Cut(r, " ")
			t.Run(version+" "+method+" "+strings.Split(path, "/")[3], func(t *testing.T) {
				t.Parallel()
				backend := ocimem.New()
				h := newSlow(ociserver.New(backend, nil))
				var s *site
				if version == "HTTP/2" {
					s = serveHTTP2(t, h)
				} else {
					s = serveHandler(t, h)
				}
				s.backend = backend
				pr, pw := io.Pipe()
				go func() {
					io.WriteString(pw, "foo")
					<-h.arrived
					h.cancel <- struct{}{}
				}()
				a := s.doReader(method, path, pr)
				pw.Close()
				<-h.done
				qt.Check(t, qt.Equals(a.StatusCode, http.StatusRequestTimeout), qt.Commentf("%s", a.body))
				qt.Check(t, qt.HasLen(s.repositories(), 0))

				// The connection, or a new one, is good for what follows.
				if status := s.do("GET", "/v2/foo/blobs/uploads/MQ", ""); strings.Contains(path, "/MQ") {
					status.want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-2")
				} else {
					status.want(t, http.StatusNotFound)
				}
				<-h.done
			})
		}
	}
}

// zeros is an endless reader of zeros.
var zeros = readerFunc(func(p []byte) (int, error) {
	clear(p)
	return len(p), nil
})

func endlessBlob(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
	return blobReader{Reader: zeros, desc: ociregistry.Descriptor{Digest: absent, Size: 1 << 40}}, nil
}

func TestBlockedAnswer_EndsWithTheContext(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := newSlow(ociserver.New(&ociregistry.Funcs{GetBlob_: endlessBlob}, nil))
			serve := serveHandler
			if version == "HTTP/2" {
				serve = func(t testing.TB, h http.Handler) *site { return serveHTTP2(t.(*testing.T), h) }
			}
			s := serve(t, h)
			resp, err := s.client.Get(s.url + "/v2/foo/blobs/" + string(absent))
			qt.Assert(t, qt.IsNil(err))
			defer resp.Body.Close()
			h.cancel <- struct{}{} // while nobody reads the answer
			<-h.done
			_, err = io.Copy(io.Discard, resp.Body)
			qt.Check(t, qt.IsNotNil(err))
		})
	}
}

// After a request has ended, its session can still store the part of a chunk that has
// arrived, or discard a blob that cannot be continued, because its context has not ended.
func TestSession_OutlastsTheRequest(t *testing.T) {
	t.Parallel()
	d := string(digest.FromString("foobar"))
	for _, request := range []string{
		"POST /v2/foo/blobs/uploads/?digest=" + d,
		"PATCH /v2/foo/blobs/uploads/MQ",
		"PUT /v2/foo/blobs/uploads/MQ?digest=" + d,
	} {
		backend := ocimem.New()
		ended := make(chan error, 1)
		h := newSlow(ociserver.New(&ociregistry.Funcs{
			PushBlobChunked_: func(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
				w, err := backend.PushBlobChunked(ctx, repo, chunkSize)
				return endFunc{w, func() { ended <- ctx.Err() }}, err
			},
			PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
				w, err := backend.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
				return endFunc{w, func() { ended <- ctx.Err() }}, err
			},
		}, nil))
		s := serveHandler(t, h)
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		qt.Assert(t, qt.IsNil(err))
		defer conn.Close()
		_, err = io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n")
		qt.Assert(t, qt.IsNil(err))
		<-h.arrived
		h.cancel <- struct{}{}
		qt.Check(t, qt.IsNil(<-ended), qt.Commentf("%s", request))
		<-h.done
	}
}

// Storage that stalls is interrupted some time after the client has gone away. It is not
// logged as an error.
func TestStalledStorage_IsNotWaitedForLongAfterTheClientHasGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := &ociregistry.Funcs{
			PushBlobChunkedResume_: func(ctx context.Context, _, _ string, _ int64, _ int) (ociregistry.BlobWriter, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		}
		var log bytes.Buffer
		h := ociserver.New(backend, &ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w, start := httptest.NewRecorder(), time.Now()
		h.ServeHTTP(w, httptest.NewRequest("PATCH", "/v2/foo/blobs/uploads/MQ", strings.NewReader("x")).WithContext(ctx))
		qt.Check(t, qt.Equals(time.Since(start), 10*time.Second))
		qt.Check(t, qt.Equals(w.Code, 499))
		qt.Check(t, qt.StringContains(log.String(), "level=INFO"))
	})
}

// endFunc is a BlobWriter that calls a function when it is closed or cancelled.
type endFunc struct {
	ociregistry.BlobWriter
	ended func()
}

func (w endFunc) Close() error {
	w.ended()
	return w.BlobWriter.Close()
}

func (w endFunc) Cancel() error {
	w.ended()
	return w.BlobWriter.Cancel()
}

// slowDeadline is a response that takes its time to set a deadline.
type slowDeadline struct {
	http.ResponseWriter
	begun, end chan struct{}
}

func (w slowDeadline) SetReadDeadline(time.Time) error {
	close(w.begun)
	<-w.end
	return nil
}

// The deadline that ends a request is not set after the handler has returned, because it
// would end the next request of the connection.
func TestDeadlineIsSetWithinRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := slowDeadline{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		body := readerFunc(func([]byte) (int, error) {
			cancel()
			<-w.begun
			return 0, io.EOF
		})
		req := httptest.NewRequest("PUT", "/v2/foo/manifests/latest", body).WithContext(ctx)
		over := false
		go func() {
			ociserver.New(ocimem.New(), nil).ServeHTTP(w, req)
			over = true
		}()
		time.Sleep(time.Second) // of the bubble
		qt.Check(t, qt.IsFalse(over))
		close(w.end)
		synctest.Wait()
		qt.Check(t, qt.IsTrue(over))
	})
}

// A context that ends after its request does not affect the next request of the connection.
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // where no client gives a connection up because it takes long
		h := ociserver.New(ocimem.New(), nil)
		_, clients := serveInBubble(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			ctx, cancel := context.WithCancel(req.Context())
			defer cancel()
			h.ServeHTTP(w, req.WithContext(ctx))
		}))
		content := strings.Repeat("x", 100_000)
		d := string(digest.FromString(content))
		reused := 0
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) {
				if info.Reused {
					reused++
				}
			},
		})
		for range 20 {
			for _, r := range []string{"POST /v2/foo/blobs/uploads/?digest=" + d, "GET /v2/foo/blobs/" + d} {
				method, path, _ := strings.Cut(r, " ")
				req, err := http.NewRequestWithContext(ctx, method, "http://x"+path, strings.NewReader(content))
				qt.Assert(t, qt.IsNil(err))
				resp, err := clients["HTTP/1.1"].Do(req)
				qt.Assert(t, qt.IsNil(err))
				_, err = io.Copy(io.Discard, resp.Body)
				qt.Assert(t, qt.IsNil(err))
				resp.Body.Close()
				qt.Assert(t, qt.IsTrue(resp.StatusCode < 300))
			}
		}
		qt.Check(t, qt.Equals(reused, 39))
	})
}

// No goroutine remains of a request whose client went away.
func TestNoGoroutineIsLeft(t *testing.T) {
	backend := ocimem.New()
	mux := http.NewServeMux()
	mux.Handle("/", ociserver.New(backend, nil))
	mux.Handle("/v2/endless/", ociserver.New(&ociregistry.Funcs{GetBlob_: endlessBlob}, nil))
	h := newSlow(mux)
	srv := httptest.NewServer(h)
	s := newSite(t, srv)

	for _, request := range []string{
		"POST /v2/foo/blobs/uploads/?digest=" + string(absent),
		"PATCH /v2/foo/blobs/uploads/MQ",
		"PUT /v2/foo/blobs/uploads/MQ?digest=" + string(absent),
		"PUT /v2/foo/manifests/latest",
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		qt.Assert(t, qt.IsNil(err))
		_, err = io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nfoo")
		qt.Assert(t, qt.IsNil(err))
		<-h.arrived
		conn.Close()
		<-h.done
	}
	resp, err := s.client.Get(s.url + "/v2/endless/blobs/" + string(absent))
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	<-h.done

	srv.Close()
	// A handler that has returned, or was ended by a panic, takes a moment to be gone.
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !bytes.Contains(stacks, []byte("/ociserver.")) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still running:\n%s", stacks)
		}
	}
	s.backend = backend
	qt.Check(t, qt.HasLen(s.repositories(), 0))
}
