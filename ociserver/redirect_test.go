package ociserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestBlobRedirect_GoesFirst(t *testing.T) {
	t.Parallel()
	var loc string
	var expires time.Time
	var failure error
	d := digest.FromString(helloWorld)
	s := serve(t, &ociserver.Options{
		BlobRedirect: func(ctx context.Context, repo string, got ociregistry.Digest) (string, time.Time, error) {
			qt.Check(t, qt.Equals(ctx.Value(http.ServerContextKey) != nil, true), qt.Commentf("not the request's context"))
			qt.Check(t, qt.Equals(repo, "foo"))
			if got != d {
				return "", time.Time{}, ociregistry.ErrBlobUnknown
			}
			return loc, expires, failure
		},
		LocationsForDescriptor: func(isManifest bool, desc ociregistry.Descriptor) ([]string, error) {
			return []string{"https://other.example.com/x"}, nil
		},
	})
	get := "/v2/foo/blobs/" + d.String()
	s.do("POST", "/v2/foo/blobs/uploads/?digest="+d.String(), helloWorld).want(t, http.StatusCreated)
	s.do("GET", get, "").want(t, http.StatusTemporaryRedirect).wantHeaders(t, "Location", "https://other.example.com/x", "Cache-Control", "")

	loc = "https://bucket.example.com/x?sig=secret"
	s.do("GET", get, "").want(t, http.StatusTemporaryRedirect).wantHeaders(t, "Location", loc, "Cache-Control", "")
	expires = time.Now().Add(time.Hour)
	a := s.do("GET", get, "").want(t, http.StatusTemporaryRedirect).wantHeaders(t, "Location", loc)
	var age int
	_, err := fmt.Sscanf(a.Header.Get("Cache-Control")+"\n", "private, max-age=%d\n", &age)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(age >= int(time.Until(expires).Seconds()) && age <= 3600), qt.Commentf("%d", age))
	expires = time.Unix(0, 0)
	s.do("GET", get, "").want(t, http.StatusTemporaryRedirect).wantHeaders(t, "Cache-Control", "private, max-age=0")

	s.do("HEAD", get, "").want(t, http.StatusOK)
	s.do("GET", get, "", "If-None-Match", `"`+d.String()+`"`).want(t, http.StatusNotModified)
	s.do("GET", "/v2/foo/blobs/"+string(absent), "").want(t, http.StatusNotFound)
	failure = errors.New("no")
	s.do("GET", get, "").wantConcealed(t, http.StatusInternalServerError)
	failure = ociregistry.ErrBlobUnknown
	s.do("GET", get, "").want(t, http.StatusNotFound)
}

// TestBlobRedirect_IsFollowed pulls from a server whose blobs are elsewhere, with signatures
// that no log and no error may have.
func TestBlobRedirect_IsFollowed(t *testing.T) {
	t.Parallel()
	var log locked.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Query().Get("sig") != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
	}))
	defer storage.Close()
	loc := storage.URL + "/x?sig=secret"
	server := httptest.NewServer(ociserver.New(ocimem.New(), &ociserver.Options{
		Logger: logger,
		BlobRedirect: func(context.Context, string, ociregistry.Digest) (string, time.Time, error) {
			return loc, time.Now().Add(time.Minute), nil
		},
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := ociclient.New(strings.TrimPrefix(server.URL, "http://"), &ociclient.Options{
		Insecure: true, Logger: logger, Transport: transport, Retry: ociclient.RetryPolicy{Attempts: 1},
	})
	qt.Assert(t, qt.IsNil(err))
	desc := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(len(content))}
	_, err = client.PushBlob(t.Context(), "foo", desc, bytes.NewReader(content))
	qt.Assert(t, qt.IsNil(err))

	r, err := client.GetBlob(t.Context(), "foo", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	got, err := io.ReadAll(r)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, content)))
	qt.Check(t, qt.IsNil(r.Close()))
	r, err = client.GetBlobRange(t.Context(), "foo", desc.Digest, 5, 12)
	qt.Assert(t, qt.IsNil(err))
	got, err = io.ReadAll(r)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), "5678901"))
	qt.Check(t, qt.IsNil(r.Close()))

	for _, broken := range []string{storage.URL + "/x?sig=secret&sig=other&x=%zz", "http://127.0.0.1:1/x?sig=secret", storage.URL + "/x?wrong=secret"} {
		loc = broken
		_, err = client.GetBlob(t.Context(), "foo", desc.Digest)
		if err != nil {
			qt.Check(t, qt.Not(qt.StringContains(err.Error(), "secret")))
		}
	}
	qt.Check(t, qt.Not(qt.StringContains(log.String(), "secret")))
}
