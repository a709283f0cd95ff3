package ociunify_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// counted is a registry that counts calls, and can be made to fail, stall or return other
// content.
type counted struct {
	*ociregistry.Funcs
	mu    sync.Mutex
	calls []string
	fail  map[string]error // by method; "" means all
	wait  map[string]chan struct{}
	body  func(ociregistry.BlobReader) ociregistry.BlobReader // of GetBlob, GetManifest and GetTag
}

// count returns a counted registry in front of r.
func count(r ociregistry.Interface) *counted {
	c := &counted{fail: make(map[string]error), wait: make(map[string]chan struct{})}
	read := func(rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
		c.mu.Lock()
		body := c.body
		c.mu.Unlock()
		if err == nil && body != nil {
			rd = body(rd)
		}
		return rd, err
	}
	c.Funcs = &ociregistry.Funcs{
		GetBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			if err := c.call(ctx, "GetBlob"); err != nil {
				return nil, err
			}
			return read(r.GetBlob(ctx, repo, d))
		},
		GetBlobRange_: func(ctx context.Context, repo string, d ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
			if err := c.call(ctx, "GetBlobRange"); err != nil {
				return nil, err
			}
			return r.GetBlobRange(ctx, repo, d, o0, o1)
		},
		GetManifest_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			if err := c.call(ctx, "GetManifest"); err != nil {
				return nil, err
			}
			return read(r.GetManifest(ctx, repo, d))
		},
		GetTag_: func(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
			if err := c.call(ctx, "GetTag"); err != nil {
				return nil, err
			}
			return read(r.GetTag(ctx, repo, tag))
		},
		ResolveBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			if err := c.call(ctx, "ResolveBlob"); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.ResolveBlob(ctx, repo, d)
		},
		ResolveManifest_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			if err := c.call(ctx, "ResolveManifest"); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.ResolveManifest(ctx, repo, d)
		},
		ResolveTag_: func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
			if err := c.call(ctx, "ResolveTag"); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.ResolveTag(ctx, repo, tag)
		},
		PushBlob_: func(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
			if err := c.call(ctx, "PushBlob"); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.PushBlob(ctx, repo, desc, rd)
		},
		PushBlobChunked_: func(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			if err := c.call(ctx, "PushBlobChunked"); err != nil {
				return nil, err
			}
			return r.PushBlobChunked(ctx, repo, chunkSize)
		},
		PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			if err := c.call(ctx, "PushBlobChunkedResume"); err != nil {
				return nil, err
			}
			return r.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
		},
		MountBlob_: func(ctx context.Context, from, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			if err := c.call(ctx, "MountBlob"); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.MountBlob(ctx, from, to, d)
		},
		PushManifest_: func(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
			if err := c.call(ctx, "PushManifest"); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
		},
		DeleteBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) error {
			if err := c.call(ctx, "DeleteBlob"); err != nil {
				return err
			}
			return r.DeleteBlob(ctx, repo, d)
		},
		DeleteManifest_: func(ctx context.Context, repo string, d ociregistry.Digest) error {
			if err := c.call(ctx, "DeleteManifest"); err != nil {
				return err
			}
			return r.DeleteManifest(ctx, repo, d)
		},
		DeleteTag_: func(ctx context.Context, repo, tag string) error {
			if err := c.call(ctx, "DeleteTag"); err != nil {
				return err
			}
			return r.DeleteTag(ctx, repo, tag)
		},
		Repositories_: func(ctx context.Context, after string) iter.Seq2[string, error] {
			if err := c.call(ctx, "Repositories"); err != nil {
				return ociregistry.ErrorSeq[string](err)
			}
			return r.Repositories(ctx, after)
		},
		Tags_: func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				seq := r.Tags(ctx, repo, after)
				if err := c.call(ctx, "Tags"); err != nil {
					seq = ociregistry.ErrorSeq[string](err)
				}
				seq(yield)
			}
		},
		Referrers_: func(ctx context.Context, repo string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
			return func(yield func(ociregistry.Descriptor, error) bool) {
				seq := r.Referrers(ctx, repo, d, artifactType)
				if err := c.call(ctx, "Referrers"); err != nil {
					seq = ociregistry.ErrorSeq[ociregistry.Descriptor](err)
				}
				seq(yield)
			}
		},
	}
	return c
}

func (c *counted) call(ctx context.Context, method string) error {
	c.mu.Lock()
	c.calls = append(c.calls, method)
	wait, err := c.wait[method], c.fail[method]
	if err == nil {
		err = c.fail[""]
	}
	c.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// set makes a method return err. "" means all methods.
func (c *counted) set(method string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail[method] = err
}

// hold makes a method wait until the channel that it returns is closed.
func (c *counted) hold(method string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wait[method] = make(chan struct{})
	return c.wait[method]
}

func (c *counted) setBody(body func(ociregistry.BlobReader) ociregistry.BlobReader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.body = body
}

// took returns the calls since the last call of took, in order.
func (c *counted) took() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return strings.Join(calls, " ")
}

func (c *counted) number(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, call := range c.calls {
		if call == method {
			n++
		}
	}
	return n
}

// withReader is a BlobReader with other content.
type withReader struct {
	ociregistry.BlobReader
	r io.Reader
}

func (r withReader) Read(p []byte) (int, error) { return r.r.Read(p) }

// withDescriptor is a BlobReader with another descriptor.
type withDescriptor struct {
	ociregistry.BlobReader
	desc ociregistry.Descriptor
}

func (r withDescriptor) Descriptor() ociregistry.Descriptor { return r.desc }

// gate lets the first bytes of a reader through, and the others when it is opened. Close
// ends a Read that waits.
type gate struct {
	ociregistry.BlobReader
	left   int
	open   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newGate(rd ociregistry.BlobReader, n int, open chan struct{}) *gate {
	return &gate{BlobReader: rd, left: n, open: open, closed: make(chan struct{})}
}

func (g *gate) Read(p []byte) (int, error) {
	if g.left == 0 {
		select {
		case <-g.open:
		case <-g.closed:
			return 0, io.ErrClosedPipe
		}
		return g.BlobReader.Read(p)
	}
	n, err := g.BlobReader.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}

func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.BlobReader.Close()
}

// readBlob reads a blob from its start to its end.
func readBlob(ctx context.Context, r ociregistry.Interface, repo string, d ociregistry.Digest) ([]byte, error) {
	return readAll(r.GetBlob(ctx, repo, d))
}

func readAll(rd ociregistry.BlobReader, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	return io.ReadAll(rd)
}

func wantBytes(t testing.TB, got []byte, err error, want []byte) {
	t.Helper()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(bytes.Equal(got, want)), qt.Commentf("got %d bytes, want %d", len(got), len(want)))
}

// logLines is a logger that keeps its messages.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.Contains(line, text) })
}

// pushed pushes an image and returns it.
func pushed(t testing.TB, r ociregistry.Interface, repo string, seed uint64, tags ...string) *ocitest.Artifact {
	t.Helper()
	image := ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{100, 300_000}})
	ocitest.NewRegistry(t, r).MustPush(repo, image, tags...)
	return image
}

var errBroken = errors.New("connection reset")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func wantTag(t testing.TB, r ociregistry.Interface, repo, tag string, image *ocitest.Artifact) {
	t.Helper()
	got, err := readAll(r.GetTag(t.Context(), repo, tag))
	wantBytes(t, got, err, image.Manifest)
}
