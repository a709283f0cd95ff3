package ociserver_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// Each benchmark of a transfer has a twin named "bare": an http.Handler that
// does nothing but move the same bytes, and hash what is pushed.

var blobSizes = []struct {
	name  string
	bytes int
}{
	{"4KiB", 4 << 10},
	{"1MiB", 1 << 20},
	{"256MiB", 256 << 20},
}

type twin struct {
	name    string
	handler http.Handler
}

// twins returns a registry in memory, and beside it the bare handler.
func twins(bare http.Handler) []twin {
	return []twin{{"ociserver", ociserver.New(ocimem.New(), nil)}, {"bare", bare}}
}

// exchange makes a request and discards the answer, which must have status.
func (s *site) exchange(method, path string, body []byte, status int, headers ...string) {
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != status {
		s.t.Fatalf("%s %s: status %d", method, path, resp.StatusCode)
	}
}

// takeAll reads a body into one buffer, hashes it, and answers.
var takeAll = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
	body := make([]byte, req.ContentLength)
	if _, err := io.ReadFull(req.Body, body); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Docker-Content-Digest", fmt.Sprintf("sha256:%x", sha256.Sum256(body)))
	w.WriteHeader(http.StatusCreated)
})

// give answers with content.
func give(content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content)
	})
}

func BenchmarkBlobPush(b *testing.B) {
	for _, size := range blobSizes {
		content := bytes.Repeat([]byte("0123456789abcdef"), size.bytes/16)
		path := "/v2/foo/blobs/uploads/?digest=" + string(digest.FromBytes(content))
		for _, twin := range twins(takeAll) {
			b.Run(size.name+"/"+twin.name, func(b *testing.B) {
				s := serveHandler(b, twin.handler)
				b.SetBytes(int64(size.bytes))
				b.ReportAllocs()
				for b.Loop() {
					s.exchange("POST", path, content, http.StatusCreated)
				}
			})
		}
	}
}

func BenchmarkBlobPull(b *testing.B) {
	for _, size := range blobSizes {
		content := bytes.Repeat([]byte("0123456789abcdef"), size.bytes/16)
		d := string(digest.FromBytes(content))
		for _, twin := range twins(give(content)) {
			b.Run(size.name+"/"+twin.name, func(b *testing.B) {
				s := serveHandler(b, twin.handler)
				if twin.name == "ociserver" {
					s.exchange("POST", "/v2/foo/blobs/uploads/?digest="+d, content, http.StatusCreated)
				}
				b.SetBytes(int64(size.bytes))
				b.ReportAllocs()
				for b.Loop() {
					s.exchange("GET", "/v2/foo/blobs/"+d, nil, http.StatusOK)
				}
			})
		}
	}
}

func BenchmarkManifestGet(b *testing.B) {
	m := []byte(imageManifest(digest.FromString("{}"), "", nil))
	for _, twin := range twins(give(m)) {
		b.Run(twin.name, func(b *testing.B) {
			s := serveHandler(b, twin.handler)
			if twin.name == "ociserver" {
				s.pushImage("foo", "latest", "", nil)
			}
			b.ReportAllocs()
			for b.Loop() {
				s.exchange("GET", "/v2/foo/manifests/latest", nil, http.StatusOK)
			}
		})
	}
}

func BenchmarkManifestPut(b *testing.B) {
	m := []byte(imageManifest(digest.FromString("{}"), "", nil))
	for _, twin := range twins(takeAll) {
		b.Run(twin.name, func(b *testing.B) {
			s := serveHandler(b, twin.handler)
			if twin.name == "ociserver" {
				s.pushBlob("foo", "{}")
			}
			b.ReportAllocs()
			for b.Loop() {
				s.exchange("PUT", "/v2/foo/manifests/latest", m, http.StatusCreated, "Content-Type", ocispec.MediaTypeImageManifest)
			}
		})
	}
}

// A page of 100 tags must cost about the same wherever it is, and however many
// others there are.
func BenchmarkTagsPage(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		s := serve(b, nil)
		names := numbered("t", n)
		for i := 0; i < n; i += 100 {
			s.do("PUT", "/v2/foo/manifests/"+names[i]+"?tag="+strings.Join(names[i:i+100], "&tag="), "something").want(b, http.StatusCreated)
		}
		last := names[n/2]
		if n == 100 {
			last = ""
		}
		b.Run(fmt.Sprintf("tags=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.exchange("GET", "/v2/foo/tags/list?n=100&last="+last, nil, http.StatusOK)
			}
		})
	}
}
