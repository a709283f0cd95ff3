package ocifs_test

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// site is a server, and a client of it.
type site struct {
	testing.TB
	url    string
	client *http.Client
}

// serve serves a handler, to many clients at once.
func serve(t testing.TB, handler http.Handler) *site {
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return newSite(t, srv.URL)
}

func newSite(t testing.TB, url string) *site {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &site{t, url, &http.Client{Transport: transport}}
}

// exchange makes a request, and checks the status of the answer, whose body it
// reads. The body of the request is size bytes. Headers are names and values in
// turn.
func (s *site) exchange(status int, method, path string, body io.Reader, size int64, headers ...string) (http.Header, error) {
	req, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	buf := transfers.Get().(*[1 << 20]byte)
	defer transfers.Put(buf)
	// The writer hides that of io.Discard, which takes little at a time.
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf[:]); err != nil {
		return nil, err
	}
	if resp.StatusCode != status {
		return nil, fmt.Errorf("%s %s: status %d, not %d", method, path, resp.StatusCode, status)
	}
	return resp.Header, nil
}

// transfers has buffers to move bytes with, where all of the time counts.
var transfers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

// must is exchange, and ends the benchmark if it fails.
func (s *site) must(status int, method, path string, body io.Reader, size int64, headers ...string) http.Header {
	h, err := s.exchange(status, method, path, body, size, headers...)
	if err != nil {
		s.Fatal(err)
	}
	return h
}

func (s *site) get(path string) { s.must(http.StatusOK, "GET", path, nil, 0) }

// at returns the path of a Location, with a parameter more.
func at(h http.Header, parameter string) string {
	u, err := url.Parse(h.Get("Location"))
	if err != nil {
		return "" // which is no place to push to
	}
	if parameter != "" && u.RawQuery != "" {
		parameter = "&" + parameter
	}
	u.RawQuery += parameter
	return u.RequestURI()
}

// contents are blobs of one size, with as many digests as are wanted. They begin
// alike, with what does not compress well, and end with a number: so a digest is
// had without hashing all.
type contents struct {
	size  int64
	block []byte
	hash  hash.Cloner // of all but the number
	last  uint64
}

// numberLen is the length of the number at the end, in bytes.
const numberLen = 16

func newContents(size int64) *contents {
	c := &contents{size: size, block: data(1, 1<<20), hash: sha256.New().(hash.Cloner)}
	io.Copy(c.hash, c.start()) // a hash does not fail
	return c
}

func (c *contents) start() io.Reader {
	return io.LimitReader(&repeated{block: c.block}, c.size-numberLen)
}

// next returns content that was not there before.
func (c *contents) next(t testing.TB) (digest.Digest, io.Reader) {
	h, err := c.hash.Clone()
	qt.Assert(t, qt.IsNil(err))
	c.last++
	number := fmt.Sprintf("%0*d", numberLen, c.last)
	io.WriteString(h, number)
	return digest.NewDigest(digest.SHA256, h), io.MultiReader(c.start(), strings.NewReader(number))
}

// repeated is a block again and again.
type repeated struct {
	block  []byte
	offset int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.offset:])
	r.offset = (r.offset + n) % len(r.block)
	return n, nil
}

const uploadsPath = "/v2/repo/blobs/uploads/"

// blobPushes are the ways to push a blob of size bytes to a registry.
var blobPushes = []struct {
	name string
	push func(s *site, d digest.Digest, body io.Reader, size int64) error
}{
	{"POST", func(s *site, d digest.Digest, body io.Reader, size int64) error {
		_, err := s.exchange(http.StatusCreated, "POST", uploadsPath+"?digest="+string(d), body, size)
		return err
	}},
	{"POST+PUT", func(s *site, d digest.Digest, body io.Reader, size int64) error {
		h, err := s.exchange(http.StatusAccepted, "POST", uploadsPath, nil, 0)
		if err == nil {
			_, err = s.exchange(http.StatusCreated, "PUT", at(h, "digest="+string(d)), body, size)
		}
		return err
	}},
	{"POST+PATCH+PUT", func(s *site, d digest.Digest, body io.Reader, size int64) error {
		h, err := s.exchange(http.StatusAccepted, "POST", uploadsPath, nil, 0)
		if err == nil {
			h, err = s.exchange(http.StatusAccepted, "PATCH", at(h, ""), body, size)
		}
		if err == nil {
			_, err = s.exchange(http.StatusCreated, "PUT", at(h, "digest="+string(d)), nil, 0)
		}
		return err
	}},
}
