package blobs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Open returns a reader of the bytes of a blob from one offset to another.
func (s *Store) Open(ctx context.Context, l Link, digest ociregistry.Digest, from, to int64) (ociregistry.BlobReader, error) {
	if l.Data == "" || from == to {
		content := ""
		if l.Data == "" {
			content = l.Inline[from:to]
		}
		return NewTextReader(content, l.Descriptor(digest)), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	o, err := s.bucket.Store.Get(ctx, s.bucket.Key(keys.Data(l.Data)), objstore.Range{Offset: from, Length: to - from})
	if err != nil {
		cancel()
		if errors.Is(err, objstore.ErrNotFound) {
			err = missing(digest)
		}
		return nil, err
	}
	if o.Size != l.Size {
		o.Body.Close()
		cancel()
		return nil, missing(digest)
	}
	return &reader{desc: l.Descriptor(digest), body: o.Body, cancel: cancel}, nil
}

// NewTextReader returns a reader of a text.
func NewTextReader(text string, desc ociregistry.Descriptor) ociregistry.BlobReader {
	return &textReader{strings.NewReader(text), desc}
}

type textReader struct {
	*strings.Reader
	desc ociregistry.Descriptor
}

func (r *textReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *textReader) Close() error                       { return nil }

// reader reads the bytes of data.
type reader struct {
	desc   ociregistry.Descriptor
	cancel context.CancelFunc // ends a Read that waits
	closed atomic.Bool

	mu   sync.Mutex // held while one reads, which Close ends
	body io.ReadCloser
}

func (r *reader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return 0, fs.ErrClosed
	}
	return r.body.Read(p)
}

func (r *reader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.body.Close()
}
