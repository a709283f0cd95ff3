package main

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// bare is a server that does the least possible: it hashes and keeps each body
// as it comes, and writes it as it is. It knows nothing of registries but how
// an upload begins and ends.
type bare struct {
	bodies  bodies
	uploads atomic.Int64
}

// bodies is where bare keeps bodies, by request URI.
type bodies interface {
	// keep reads, hashes and stores the body of a request.
	keep(uri string, r *http.Request) error
	rename(uri, to string) error
	serve(w http.ResponseWriter, r *http.Request)
}

func newBare(b bodies) *bare { return &bare{bodies: b} }

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var status int
	var err error
	switch r.Method {
	case http.MethodPost:
		w.Header().Set("Location", r.URL.Path+strconv.FormatInt(b.uploads.Add(1), 10))
		status = http.StatusAccepted
	case http.MethodPatch:
		err = b.bodies.keep(r.RequestURI, r)
		w.Header().Set("Location", r.URL.Path)
		status = http.StatusAccepted
	case http.MethodPut:
		err = b.put(r)
		status = http.StatusCreated
	default:
		b.bodies.serve(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(status)
}

// put keeps the body of a request, or what was uploaded before it.
func (b *bare) put(r *http.Request) error {
	escaped, ok := strings.CutPrefix(r.URL.RawQuery, "digest=")
	if !ok {
		return b.bodies.keep(r.RequestURI, r)
	}
	digest, err := url.QueryUnescape(escaped)
	if err != nil {
		return err
	}
	blobs, _, _ := strings.Cut(r.URL.Path, "uploads/")
	if r.ContentLength == 0 {
		return b.bodies.rename(r.URL.Path, blobs+digest)
	}
	return b.bodies.keep(blobs+digest, r)
}

// bareMemory keeps each body in one buffer.
type bareMemory struct {
	mu     sync.RWMutex
	bodies map[string][]byte
}

func newBareMemory() *bareMemory { return &bareMemory{bodies: make(map[string][]byte)} }

func (b *bareMemory) keep(uri string, r *http.Request) error {
	var body []byte
	var err error
	if r.ContentLength >= 0 {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(r.Body)
	}
	if err != nil {
		return err
	}
	_ = sha256.Sum256(body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodies[uri] = body
	return nil
}

func (b *bareMemory) rename(uri, to string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodies[to] = b.bodies[uri]
	delete(b.bodies, uri)
	return nil
}

func (b *bareMemory) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.RLock()
	body, ok := b.bodies[r.RequestURI]
	b.mu.RUnlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

// bareDisk keeps each body in a file, which it syncs or does not. Its least is
// not the least for many clients at a time: a server that writes what several
// have sent to one file needs fewer syncs.
type bareDisk struct {
	dir  string
	sync bool
}

func (b *bareDisk) path(uri string) string { return filepath.Join(b.dir, url.PathEscape(uri)) }

func (b *bareDisk) keep(uri string, r *http.Request) error {
	f, err := os.Create(b.path(uri))
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(1 << 20)
	if r.ContentLength > 0 {
		size = min(size, r.ContentLength)
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(io.MultiWriter(f, h), r.Body, make([]byte, size)); err != nil {
		return err
	}
	h.Sum(nil)
	if b.sync {
		return f.Sync()
	}
	return nil
}

func (b *bareDisk) rename(uri, to string) error { return os.Rename(b.path(uri), b.path(to)) }

func (b *bareDisk) serve(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(b.path(r.RequestURI))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}
