package ociclient_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// BenchmarkPull pulls a blob of 256 MiB and verifies it: with the client, and with only
// net/http and SHA-256.
func BenchmarkPull(b *testing.B) {
	const size = 256 << 20
	srv, blob := newBenchServer(b, size)
	reg := newBenchClient(b, srv)
	b.Run("client", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			r, err := reg.GetBlob(b.Context(), "repo", blob.Digest)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != size {
				b.Fatal(n, err)
			}
			r.Close()
		}
	})
	b.Run("bare", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			resp, err := http.Get(srv.URL + "/v2/repo/blobs/" + string(blob.Digest))
			if err != nil {
				b.Fatal(err)
			}
			h := sha256.New()
			if _, err := io.Copy(io.Discard, io.TeeReader(resp.Body, h)); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
			if got := digest.NewDigest(digest.SHA256, h); got != blob.Digest {
				b.Fatal(got)
			}
		}
	})
}

// BenchmarkPush pushes a blob of 64 MiB: with the client, and with bare PUT requests that
// hash it and that do not.
func BenchmarkPush(b *testing.B) {
	const size = 64 << 20
	srv, _ := newBenchServer(b, 0)
	reg := newBenchClient(b, srv)
	content := make([]byte, size)
	desc := ociregistry.Descriptor{Digest: digest.FromBytes(content), Size: size}
	b.Run("client", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := reg.PushBlob(b.Context(), "repo", desc, bytes.NewReader(content)); err != nil {
				b.Fatal(err)
			}
		}
	})
	put := func(b *testing.B, body io.Reader) {
		do(b, "PUT", srv.URL+"/v2/repo/blobs/uploads/1?digest="+string(desc.Digest), body, size)
	}
	b.Run("bare", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			put(b, bytes.NewReader(content))
		}
	})
	b.Run("bare-sha256", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			h := sha256.New()
			put(b, io.TeeReader(bytes.NewReader(content), h))
			h.Sum(nil)
		}
	})
}

// BenchmarkSmall makes small requests, and the same with bare net/http. The server's
// allocations count in both.
func BenchmarkSmall(b *testing.B) {
	srv, blob := newBenchServer(b, 1024)
	reg := newBenchClient(b, srv)
	ctx := context.Background()
	dig := string(blob.Digest)
	manifest := make([]byte, 1024)
	for _, bm := range []struct {
		name   string
		client func() error
		method string
		target string
		size   int64 // of the body
	}{{
		"GetManifest", func() error { return drain(reg.GetManifest(ctx, "repo", blob.Digest)) },
		"GET", "/v2/repo/manifests/" + dig, 0,
	}, {
		"GetTag", func() error { return drain(reg.GetTag(ctx, "repo", "tag")) },
		"GET", "/v2/repo/manifests/tag", 0,
	}, {
		"ResolveBlob", func() error { _, err := reg.ResolveBlob(ctx, "repo", blob.Digest); return err },
		"HEAD", "/v2/repo/blobs/" + dig, 0,
	}, {
		"GetBlob", func() error { return drain(reg.GetBlob(ctx, "repo", blob.Digest)) },
		"GET", "/v2/repo/blobs/" + dig, 0,
	}, {
		"PushManifest", func() error { _, err := reg.PushManifest(ctx, "repo", "tag", manifest, "x/y"); return err },
		"PUT", "/v2/repo/manifests/tag", int64(len(manifest)),
	}} {
		b.Run(bm.name+"/client", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bm.client(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bm.name+"/bare", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var body io.Reader
				if bm.size > 0 {
					body = bytes.NewReader(manifest)
				}
				do(b, bm.method, srv.URL+bm.target, body, bm.size)
			}
		})
	}
}

// BenchmarkOwn makes requests over a transport that answers at once: the time and the
// allocations are the client's own.
func BenchmarkOwn(b *testing.B) {
	content := make([]byte, 4096)
	desc := ociregistry.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	header := http.Header{
		"Content-Type":          {"application/vnd.oci.image.manifest.v1+json"},
		"Docker-Content-Digest": {string(desc.Digest)},
		"Location":              {"/v2/repo/blobs/uploads/1"},
	}
	statuses := map[string]int{"POST": http.StatusAccepted, "PUT": http.StatusCreated}
	transport := transportFunc(func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: http.StatusOK, Header: header, Body: http.NoBody, ContentLength: desc.Size, Request: req}
		if req.Body != nil {
			io.Copy(io.Discard, req.Body)
		}
		if status, ok := statuses[req.Method]; ok {
			resp.StatusCode = status
		} else if req.Method == "GET" {
			resp.Body = io.NopCloser(bytes.NewReader(content))
		}
		return resp, nil
	})
	reg, err := ociclient.New("registry.example", &ociclient.Options{Transport: transport})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for _, bm := range []struct {
		name string
		do   func() error
	}{
		{"ResolveTag", func() error { _, err := reg.ResolveTag(ctx, "repo", "tag"); return err }},
		{"GetTag", func() error { return drain(reg.GetTag(ctx, "repo", "tag")) }},
		{"GetBlob", func() error { return drain(reg.GetBlob(ctx, "repo", desc.Digest)) }},
		{"PushBlob", func() error {
			_, err := reg.PushBlob(ctx, "repo", desc, bytes.NewReader(content))
			return err
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bm.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func drain(r ociregistry.BlobReader, err error) error {
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// do makes a bare request.
func do(b *testing.B, method, url string, body io.Reader, size int64) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		b.Fatal(err)
	}
	req.ContentLength = size
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= 300 {
		b.Fatal(resp.Status, err)
	}
	resp.Body.Close()
}

func newBenchClient(b *testing.B, srv *httptest.Server) ociregistry.Interface {
	reg, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{Insecure: true})
	if err != nil {
		b.Fatal(err)
	}
	return reg
}

// newBenchServer returns a server that has content of a size at all URLs, and discards what
// it receives.
func newBenchServer(b *testing.B, size int) (*httptest.Server, ociregistry.Descriptor) {
	content := make([]byte, size)
	dig := string(digest.FromBytes(content))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.Method {
		case "POST":
			h.Set("Location", "/v2/repo/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case "PUT":
			if n, err := io.Copy(io.Discard, r.Body); err != nil || n != r.ContentLength {
				http.Error(w, fmt.Sprint(n, err), http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusCreated)
		default:
			h.Set("Content-Type", "application/octet-stream")
			h.Set("Content-Length", strconv.Itoa(size))
			h.Set("Docker-Content-Digest", dig)
			w.Write(content)
		}
	}))
	b.Cleanup(srv.Close)
	return srv, ociregistry.Descriptor{Digest: ociregistry.Digest(dig), Size: int64(size)}
}
