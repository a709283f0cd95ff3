package ociclient_test

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestLargeBlobIsReadInParallel(t *testing.T) {
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
			reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 3, PartSize: 10}}, newClock())
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
				wantBlob(t, reg, "") // an empty blob has no first byte
			}
		})
	}
}

// However slow the caller reads, at most three parts of a blob are in memory.
func TestParallelReadIsBounded(t *testing.T) {
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
	reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 3, PartSize: 10}}, newClock())
	r, err := reg.GetBlob(ctx, "foo", blobDesc(blob).Digest)
	qt.Assert(t, qt.IsNil(err))
	for range 3 {
		<-asked
	}
	qt.Assert(t, qt.Equals(under.Load(), 2)) // two, besides the first, which was answered
	close(release)
	got, err := readAll(r, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got, blob))
	qt.Assert(t, qt.IsTrue(most.Load() <= 3))
}

// Close and the context end a reader whose parts do not come.
func TestParallelReadEndsWithReaderAndContext(t *testing.T) {
	t.Parallel()
	blob := pattern(95)
	for _, closed := range []bool{true, false} {
		srv := faultserver.New(t, ociserver.New(registryWith(t, blob), nil),
			rule{On: "GET", First: 1, Wait: make(chan struct{})})
		reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 3, PartSize: 10}}, newClock())
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
