// Package loan lends bytes to a request for as long as a call takes. An HTTP client may read a body
// after it returned; then these bytes may already be others.
package loan

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

var errReturned = errors.New("the call that lent these bytes has returned")

// A Reader reads borrowed bytes. It is an io.ReadSeekCloser; Close does nothing.
type Reader struct {
	mu sync.Mutex
	r  *bytes.Reader // nil once the bytes were returned
}

// New returns a reader of b, until Return.
func New(b []byte) *Reader { return &Reader{r: bytes.NewReader(b)} }

// Return ends the loan: when it returns, no Read is under way, and none succeeds.
func (l *Reader) Return() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r = nil
}

// Read reads, or returns an error once the bytes were returned.
func (l *Reader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r == nil {
		return 0, errReturned
	}
	return l.r.Read(p)
}

// Seek seeks, or returns an error once the bytes were returned.
func (l *Reader) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r == nil {
		return 0, errReturned
	}
	return l.r.Seek(offset, whence)
}

// Close does nothing.
func (l *Reader) Close() error { return nil }

var _ io.ReadSeekCloser = (*Reader)(nil)
