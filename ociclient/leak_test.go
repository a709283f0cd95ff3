package ociclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// TestNoGoroutineIsLeft makes calls that end in every way, and counts the goroutines and
// file descriptors of the process afterwards. So it is not parallel.
func TestNoGoroutineIsLeft(t *testing.T) {
	clients := []ociclient.Options{
		{},
		{Concurrency: 2, ChunkSize: 10_000, CheckBlobs: true, MountFrom: []string{"foo", "bar"}, Referrers: ociclient.ReferrersTag},
		{Parallel: ociclient.Parallel{Concurrency: 3, PartSize: 10_000}},
	}
	for _, opts := range clients {
		exercise(t, opts) // creates what stays for the life of the process
	}
	before := leak.All(t)
	for range 3 {
		for _, opts := range clients {
			exercise(t, opts)
		}
	}
	before.Check(t)
}

// exercise makes calls of all kinds with a client of a server that it closes at the end.
func exercise(t *testing.T, opts ociclient.Options) {
	h := ociserver.New(ocimem.New(), nil)
	var fails atomic.Bool
	fail := failures()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !fails.Load() || !fail(w, req) {
			h.ServeHTTP(w, req)
		}
	}))
	defer srv.Close()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	opts.Transport, opts.Insecure = transport, true
	clock := newClock()
	opts.SetClock(clock.Now, clock.Sleep)
	reg, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &opts)
	qt.Assert(t, qt.IsNil(err))

	qt.Assert(t, qt.IsNil(everything(ctx, reg)))
	leave(t, reg)
	fails.Store(true)
	for range 10 {
		everything(ctx, reg)
	}
}

var (
	largeContent = pattern(100_000)
	largeDesc    = blobDesc(largeContent)
)

// everything makes calls that may fail.
func everything(ctx context.Context, reg ociregistry.Interface) error {
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	note(second(reg.PushBlob(ctx, "foo", largeDesc, strings.NewReader(largeContent))))
	note(second(reg.PushBlob(ctx, "bar", largeDesc, once(largeContent))))
	note(second(reg.MountBlob(ctx, "foo", "baz", largeDesc.Digest)))
	note(second(reg.PushManifest(ctx, "foo", "v1", []byte(tagged), imageIndex, "v2", "v3")))
	note(second(reg.PushManifest(ctx, "foo", "r1", referrerManifest(1), imageIndex)))
	note(second(readAll(reg.GetBlob(ctx, "foo", largeDesc.Digest))))
	note(second(readAll(reg.GetBlobRange(ctx, "foo", largeDesc.Digest, 10, 50_000))))
	note(second(readAll(reg.GetManifest(ctx, "foo", digest.FromString(tagged)))))
	note(second(readAll(reg.GetTag(ctx, "foo", "v1"))))
	note(second(reg.ResolveBlob(ctx, "foo", largeDesc.Digest)))
	note(second(reg.ResolveTag(ctx, "foo", "v1")))
	note(second(ociregistry.All(reg.Repositories(ctx, ""))))
	note(second(ociregistry.All(reg.Tags(ctx, "foo", ""))))
	note(second(ociregistry.All(reg.Referrers(ctx, "foo", digest.FromString(tagged), ""))))
	note(upload(ctx, reg))
	note(reg.DeleteTag(ctx, "foo", "v3"))
	note(reg.DeleteManifest(ctx, "foo", digest.FromBytes(referrerManifest(1))))
	note(reg.DeleteBlob(ctx, "baz", largeDesc.Digest))
	return errors.Join(errs...)
}

// upload pushes the content in a session that is left and resumed.
func upload(ctx context.Context, reg ociregistry.Interface) error {
	w, err := reg.PushBlobChunked(ctx, "foo", 30_000)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.WriteString(w, largeContent[:50_000]); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	again, err := reg.PushBlobChunkedResume(ctx, "foo", w.ID(), w.Size(), 0)
	if err != nil {
		return err
	}
	defer again.Cancel()
	if _, err := io.WriteString(again, largeContent[50_000:]); err != nil {
		return err
	}
	return second(again.Commit(largeDesc.Digest))
}

// leave makes calls whose contexts end before they do.
func leave(t *testing.T, reg ociregistry.Interface) {
	for _, read := range []int64{0, 1, 30_000, 90_000, 100_000} {
		for _, closes := range []bool{true, false} { // otherwise, the context ends
			ctx, cancel := context.WithCancel(ctx)
			r, err := reg.GetBlob(ctx, "foo", largeDesc.Digest)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.CopyN(io.Discard, r, read)
			qt.Assert(t, qt.IsNil(err))
			if closes {
				qt.Assert(t, qt.IsNil(r.Close()))
			}
			cancel()
		}
	}
	other := blobDesc("x" + largeContent[1:])
	for _, from := range []io.Reader{
		iotest.ErrReader(errors.New("no")),
		io.MultiReader(strings.NewReader(largeContent[:70_000]), iotest.ErrReader(errors.New("no"))),
		once(largeContent[1:]),
		strings.NewReader(largeContent),
	} {
		_, err := reg.PushBlob(ctx, "foo", other, from)
		qt.Check(t, qt.IsNotNil(err))
	}
	for range reg.Tags(ctx, "foo", "") {
		break
	}
	// Writers of a session that are cancelled, abandoned, or lose their context.
	for i := range 3 {
		ctx, cancel := context.WithCancel(ctx)
		w, err := reg.PushBlobChunked(ctx, "foo", 10)
		qt.Assert(t, qt.IsNil(err))
		_, err = io.WriteString(w, largeContent[:25])
		qt.Assert(t, qt.IsNil(err))
		switch i {
		case 0:
			qt.Assert(t, qt.IsNil(w.Cancel()))
		case 1:
			cancel()
			_, err = io.WriteString(w, content)
			qt.Assert(t, qt.IsNotNil(err))
			qt.Assert(t, qt.IsNil(w.Cancel()))
		}
		cancel()
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	qt.Assert(t, qt.ErrorIs(everything(ended, reg), context.Canceled))
}

// failures returns a function that makes requests fail in each of several ways in turn,
// and lets every third succeed.
func failures() func(http.ResponseWriter, *http.Request) bool {
	ways := []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusForbidden) },
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "not as long")
		},
		func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, req.URL.Path, http.StatusTemporaryRedirect)
		},
		func(w http.ResponseWriter, req *http.Request) { w.WriteHeader(http.StatusOK) },
		func(w http.ResponseWriter, req *http.Request) {
			io.CopyN(io.Discard, req.Body, 1000)
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		},
	}
	var requests atomic.Int64
	return func(w http.ResponseWriter, req *http.Request) bool {
		n := int(requests.Add(1)) - 1
		if n%3 == 0 {
			return false
		}
		ways[n/3%len(ways)](w, req)
		return true
	}
}
