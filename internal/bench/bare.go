package main

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// bare is a server that does the least possible: it reads each body into one
// buffer, hashes it, and keeps it; and it writes what it keeps as it is. It
// knows nothing of registries but how an upload begins and ends.
type bare struct {
	mu      sync.RWMutex
	bodies  map[string][]byte // by request URI
	uploads int
}

func newBare() *bare {
	return &bare{bodies: make(map[string][]byte)}
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		b.mu.Lock()
		b.uploads++
		id := b.uploads
		b.mu.Unlock()
		w.Header().Set("Location", r.URL.Path+strconv.Itoa(id))
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch:
		if err := b.keep(r.RequestURI, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		uri := r.RequestURI
		if escaped, ok := strings.CutPrefix(r.URL.RawQuery, "digest="); ok {
			digest, _ := url.QueryUnescape(escaped)
			uploads, _, _ := strings.Cut(r.URL.Path, "uploads/")
			uri = uploads + digest
		}
		if err := b.keep(uri, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case http.MethodGet, http.MethodHead:
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
}

// keep reads, hashes and stores the body of a request.
func (b *bare) keep(uri string, r *http.Request) error {
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
