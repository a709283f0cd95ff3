package ocitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A blocked call returns promptly when its context ends.

var contextClauses = []clause{
	{name: "EndedBefore", run: contextEnded},
	{name: "EndsPushBlob", needs: PushBlobs, run: contextPushBlob},
	{name: "EndsPushBlobAtItsReader", needs: PushBlobs, run: contextPushBlobReader},
	{name: "UploadSurvives", needs: ResumeUploads, run: contextUpload},
	{name: "EndsLists", needs: ListTags, run: contextLists},
}

var errEndless = errors.New("read on for 63 MiB after the context ended")

// endless returns bytes for ever, and ends a context after some of them.
type endless struct {
	given  int64
	cancel context.CancelFunc
}

func (r *endless) Read(p []byte) (int, error) {
	clear(p)
	r.given += int64(len(p))
	if r.given > 1<<20 {
		r.cancel()
	}
	if r.given > 64<<20 {
		return 0, errEndless
	}
	return len(p), nil
}

// A call whose context has already ended either succeeds without waiting, or fails with the
// error of the context and has no effect.
func contextEnded(t *test) {
	t.mustPushBlob("foo", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := is(context.Canceled)
	_, _, err := read(t.reg.GetBlob(ctx, "foo", digest.FromString("x")))
	if err != nil {
		t.wantErr(err, ended, "GetBlob with a context that has ended")
	}
	if t.has(PushManifests) {
		a := numbered(1)
		_, err = t.reg.PushManifest(ctx, "bar", "v1", a.Manifest, a.Descriptor.MediaType)
		if err == nil {
			t.wantManifest("bar", a.Manifest, a.Descriptor, "v1")
		} else {
			t.wantErr(err, ended, "PushManifest with a context that has ended")
			t.wantNoRepository("bar", "after a PushManifest that failed")
		}
	}
	if t.has(PushBlobs) {
		desc := ociregistry.Descriptor{Digest: other, Size: 1 << 40}
		err = t.promptly("PushBlob with a context that has ended", func() error {
			_, err := t.reg.PushBlob(ctx, "baz", desc, &endless{cancel: cancel})
			return err
		})
		t.wantErr(err, ended, "PushBlob with a context that has ended")
		t.wantNoRepository("baz", "after a PushBlob that failed")
	}
}

// PushBlob checks its context between two reads.
func contextPushBlob(t *test) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := t.promptly("PushBlob whose context ends while it reads", func() error {
		_, err := t.reg.PushBlob(ctx, "foo", ociregistry.Descriptor{Digest: other, Size: 1 << 40}, &endless{cancel: cancel})
		return err
	})
	t.wantErr(err, is(context.Canceled), "PushBlob whose context ends while it reads")
	t.wantNoRepository("foo", "after a PushBlob whose context ended")
}

// waiter returns the bytes of r, and then blocks until a context ends.
type waiter struct {
	r      io.Reader
	ctx    context.Context
	cancel context.CancelFunc
}

func (r waiter) Read(p []byte) (int, error) {
	if n, err := r.r.Read(p); err == nil {
		return n, nil
	}
	r.cancel()
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

func contextPushBlobReader(t *test) {
	data := content(1, 100_000)
	for _, size := range []int{0, 50_000, 100_000} {
		ctx, cancel := context.WithCancel(t.Context())
		err := t.promptly("PushBlob whose reader waits for the context", func() error {
			_, err := t.reg.PushBlob(ctx, "foo", describe(data), waiter{bytes.NewReader(data[:size]), ctx, cancel})
			return err
		})
		cancel()
		t.wantErr(err, is(context.Canceled), "PushBlob whose context ends after %d of 100000 bytes", size)
		t.wantNoRepository("foo", "after a PushBlob whose context ended")
	}
	t.must(t.pushBlob("foo", describe(data), bytes.NewReader(data)), "PushBlob after others were cancelled")
	t.wantBlob("foo", data, describe(data).Digest)
}

// The end of a writer's context does not end its session.
func contextUpload(t *test) {
	data := content(1, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := t.reg.PushBlobChunked(ctx, "foo", 0)
	t.must(err, "PushBlobChunked")
	t.mustWrite(w, data[:5000])
	t.must(w.Close(), "Close of an upload")
	w, err = t.reg.PushBlobChunkedResume(ctx, "foo", w.ID(), 5000, 0)
	t.must(err, "PushBlobChunkedResume")
	t.mustWrite(w, data[5000:6000])
	cancel()
	_, err = w.Write(data[6000:7000])
	if err != nil {
		t.wantErr(err, is(context.Canceled), "Write with a context that has ended")
	}

	w = t.mustResume("foo", w.ID(), -1)
	if size := w.Size(); size < 5000 || size > 7000 {
		t.Fatalf("Size of an upload whose writer's context ended: got %d, want 5000 to 7000", size)
	}
	t.mustWrite(w, data[w.Size():])
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

// A list that is not complete ends with an error.
func contextLists(t *test) {
	var tags []string
	for i := range 500 {
		tags = append(tags, fmt.Sprint("v", i))
	}
	t.mustPushTags("foo", tags...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := t.promptly("Tags whose context ends", func() error {
		for _, err := range t.reg.Tags(ctx, "foo", "") {
			if err != nil {
				return err
			}
			n++
			cancel()
		}
		return nil
	})
	if err != nil {
		t.wantErr(err, is(context.Canceled), "Tags whose context ends")
	} else if n != len(tags) {
		t.Errorf("Tags whose context ends: got %d elements of %d, and no error", n, len(tags))
	}
}
