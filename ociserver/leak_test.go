package ociserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// counted is a registry that counts its open readers and writers, which could have open
// files.
type counted struct {
	ociregistry.Interface
	opened, open atomic.Int64
	fail         atomic.Bool // readers fail half-way
}

// handle counts a reader or writer, and returns a function that stops counting it.
func (c *counted) handle() func() {
	c.opened.Add(1)
	c.open.Add(1)
	return sync.OnceFunc(func() { c.open.Add(-1) })
}

type countedReader struct {
	io.Reader
	ociregistry.BlobReader
	release func()
}

func (r *countedReader) Read(p []byte) (int, error) { return r.Reader.Read(p) }

func (r *countedReader) Close() error {
	r.release()
	return r.BlobReader.Close()
}

func (c *counted) reader(r ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	content := io.Reader(r)
	if c.fail.Load() {
		content = io.MultiReader(io.LimitReader(r, r.Descriptor().Size/2), iotest.ErrReader(errors.New("disk on fire")))
	}
	return &countedReader{content, r, c.handle()}, nil
}

type countedWriter struct {
	ociregistry.BlobWriter
	release func()
}

func (w *countedWriter) Close() error {
	w.release()
	return w.BlobWriter.Close()
}

func (w *countedWriter) Cancel() error {
	w.release()
	return w.BlobWriter.Cancel()
}

func (w *countedWriter) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := w.BlobWriter.Commit(digest)
	if err == nil {
		w.release()
	}
	return desc, err
}

func (c *counted) writer(w ociregistry.BlobWriter, err error) (ociregistry.BlobWriter, error) {
	if err != nil {
		return nil, err
	}
	return &countedWriter{w, c.handle()}, nil
}

func (c *counted) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return c.reader(c.Interface.GetBlob(ctx, repo, digest))
}

func (c *counted) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	return c.reader(c.Interface.GetBlobRange(ctx, repo, digest, offset0, offset1))
}

func (c *counted) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return c.reader(c.Interface.GetManifest(ctx, repo, digest))
}

func (c *counted) GetTag(ctx context.Context, repo, tagName string) (ociregistry.BlobReader, error) {
	return c.reader(c.Interface.GetTag(ctx, repo, tagName))
}

func (c *counted) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	return c.writer(c.Interface.PushBlobChunked(ctx, repo, chunkSize))
}

func (c *counted) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	return c.writer(c.Interface.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize))
}

// TestNothingIsLeft makes requests that end in every way, and counts the readers, writers,
// connections and goroutines that remain.
func TestNothingIsLeft(t *testing.T) {
	backend := &counted{Interface: ocimem.New()}
	exercise(t, backend) // whatever stays for good is there from now on
	before := leak.All(t)
	for range 3 {
		exercise(t, backend)
	}
	qt.Check(t, qt.IsTrue(backend.opened.Load() > 100))
	qt.Check(t, qt.Equals(backend.open.Load(), 0))
	before.Check(t) // clients end their side of a connection some time after it was closed
}

// exercise serves backend, and makes requests of all kinds.
func exercise(t *testing.T, backend *counted) {
	uploadErr := error(nil)
	arrived := make(chan struct{}) // gets a value when a body that is to be told of begins to be read
	h := ociserver.New(backend, &ociserver.Options{
		MaxBlobSize:         100_000,
		LocationForUploadID: func(string) (string, error) { return "", uploadErr },
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Tell") != "" {
			req.Body = &tappedBody{ReadCloser: req.Body, arrived: arrived}
		}
		h.ServeHTTP(w, req)
	}))
	defer srv.Close()
	s := newSite(t, srv)

	large := strings.Repeat(helloWorld, 5000)
	d, m := string(s.pushBlob("foo", large)), string(s.pushManifest("foo", "latest", "something"))
	blob, post := "/v2/foo/blobs/"+d, "/v2/foo/blobs/uploads/"
	for _, path := range []string{blob, "/v2/foo/manifests/latest", "/v2/foo/manifests/" + m} {
		for _, header := range []string{"X: ", "If-None-Match: *", "If-Match: x", "Range: bytes=1-2", "Range: bytes=-5", "Range: bytes=9999999-"} {
			name, value, _ := strings.Cut(header, ": ")
			s.do("GET", path, "", name, value)
			s.do("HEAD", path, "", name, value)
		}
	}
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	s.doReader("POST", post+"?digest="+d, chunked(large)).want(t, http.StatusCreated)
	s.doReader("POST", post+"?digest="+d, chunked("x")).want(t, http.StatusBadRequest)
	s.doReader("POST", post+"?digest="+d, chunked(large+large)).want(t, http.StatusRequestEntityTooLarge)
	s.do("POST", post+"?mount="+string(absent), "").want(t, http.StatusAccepted)

	loc := s.startUpload("foo")
	for _, r := range []string{"0-2", "0-2", "3-5", "bad", "3-100"} {
		s.do("PATCH", loc, "foo", "Content-Range", r)
	}
	s.do("PATCH", loc, large+large).want(t, http.StatusRequestEntityTooLarge)
	s.do("GET", loc, "").want(t, http.StatusNoContent)
	s.do("PUT", loc+"?digest="+string(absent), "x", "Content-Range", "0-0").want(t, http.StatusRequestedRangeNotSatisfiable)
	s.do("PUT", loc+"?digest="+string(absent), "x").want(t, http.StatusBadRequest)
	loc = s.startUpload("foo")
	s.do("PUT", loc+"?digest="+d, large).want(t, http.StatusCreated)
	loc = s.startUpload("foo")
	s.do("DELETE", loc, "").want(t, http.StatusNoContent)

	// The client goes away.
	loc = s.startUpload("foo")
	for _, request := range []string{"PATCH " + loc, "PUT " + loc + "?digest=" + d, "POST " + post + "?digest=" + d, "PUT /v2/foo/manifests/x"} {
		for _, framing := range []string{"Content-Length: 1000\r\n\r\nfoo", "Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n"} {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\nTell: x\r\n"+framing)
			qt.Assert(t, qt.IsNil(err))
			<-arrived
			conn.Close()
		}
	}
	resp, err := s.client.Get(s.url + blob)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()

	// What is behind the server fails.
	backend.fail.Store(true)
	defer backend.fail.Store(false)
	for _, path := range []string{blob, "/v2/foo/manifests/latest"} {
		s.getFails(path)
	}
	uploadErr = errors.New("no")
	s.do("POST", post, "").want(t, http.StatusInternalServerError)
	s.do("PATCH", loc, "x").want(t, http.StatusInternalServerError)
	s.do("GET", loc, "").want(t, http.StatusInternalServerError)
	s.do("PATCH", loc, "x", "Content-Range", "99-99").want(t, http.StatusRequestedRangeNotSatisfiable)
}
