package ocitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A call that transfers bytes, or waits for them, does not block other calls.

var blockingClauses = []clause{
	{name: "PushBlob", needs: PushBlobs, run: blockedPushBlob},
	{name: "Upload", needs: PushChunks, run: blockedUpload},
	{name: "Reader", run: blockedReader},
	{name: "WriterTo", run: blockedWriterTo},
	{name: "ReaderIsClosed", run: closedReader},
	{name: "UploadIsClosed", needs: PushChunks, run: closedUpload},
}

// mustNotBlock makes various calls about a blob and its repository, and ends the test if one fails
// or blocks.
func (t *test) mustNotBlock(repo string, data []byte, while string) {
	t.Helper()
	err := t.promptly("calls while "+while, func() error { return t.useAll(repo, data) })
	t.must(err, "calls while %s", while)
}

func (t *test) useAll(repo string, data []byte) error {
	ctx, d := t.Context(), describe(data).Digest
	if t.has(PushBlobs) {
		if err := t.pushBlob(repo, describe(data), bytes.NewReader(data)); err != nil {
			return fmt.Errorf("PushBlob: %w", err)
		}
		got, _, err := read(t.reg.GetBlob(ctx, repo, d))
		if err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("GetBlob: error %v; %s", err, diffBytes(got, data))
		}
	}
	if t.has(Mount) {
		if _, err := t.reg.MountBlob(ctx, repo, "mounted", d); err != nil {
			return fmt.Errorf("MountBlob: %w", err)
		}
	}
	if t.has(DeleteBlobs) {
		if err := t.reg.DeleteBlob(ctx, repo, d); err != nil {
			return fmt.Errorf("DeleteBlob: %w", err)
		}
	}
	if t.has(PushManifests) {
		a := numbered(1)
		if err := t.pushManifest(repo, "v1", a.Manifest, a.Descriptor.MediaType); err != nil {
			return fmt.Errorf("PushManifest: %w", err)
		}
		if err := a.Verify(ctx, t.reg, repo); err != nil {
			return err
		}
	}
	if t.has(PushChunks) {
		w, err := t.reg.PushBlobChunked(ctx, repo, 0)
		if err != nil {
			return fmt.Errorf("PushBlobChunked: %w", err)
		}
		if _, err := w.Commit(digest.FromString("")); err != nil {
			return fmt.Errorf("commit of an upload: %w", err)
		}
	}
	if t.has(ListTags) {
		if _, err := ociregistry.All(t.reg.Tags(ctx, repo, "")); err != nil && !errors.Is(err, ociregistry.ErrNameUnknown) {
			return fmt.Errorf("list of tags: %w", err)
		}
	}
	if t.has(ListRepositories) {
		if _, err := ociregistry.All(t.reg.Repositories(ctx, "")); err != nil {
			return fmt.Errorf("list of repositories: %w", err)
		}
	}
	return nil
}

// A push that waits for its reader blocks neither other calls in its repository nor other
// pushes of the same blob.
func blockedPushBlob(t *test) {
	data := content(1, 100_000)
	pr, pw := io.Pipe()
	defer pw.Close()
	done := make(chan error, 1)
	go func() {
		err := t.pushBlob("foo", describe(data), pr)
		pr.CloseWithError(fmt.Errorf("PushBlob has returned with error %v", err))
		done <- err
	}()
	t.mustWriteTo(pw, data[:50_000])
	t.mustNotBlock("foo", data, "PushBlob waits for its reader")
	t.mustWriteTo(pw, data[50_000:])
	pw.Close()
	t.must(t.promptly("PushBlob at the end of its reader", func() error { return <-done }), "PushBlob")
	t.wantBlob("foo", data, describe(data).Digest)
}

func (t *test) mustWriteTo(w *io.PipeWriter, p []byte) {
	t.Helper()
	t.must(t.promptly("reading", func() error { _, err := w.Write(p); return err }), "reading")
}

func blockedUpload(t *test) {
	data := content(1, 100_000)
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	t.mustWrite(w, data[:10_000])
	t.mustNotBlock("foo", data, "an upload is open")
	rf, ok := w.(io.ReaderFrom)
	if !ok {
		return
	}
	pr, pw := io.Pipe()
	defer pw.Close()
	done := make(chan error, 1)
	go func() {
		_, err := rf.ReadFrom(pr)
		pr.CloseWithError(fmt.Errorf("ReadFrom has returned with error %v", err))
		done <- err
	}()
	t.mustWriteTo(pw, data[10_000:20_000])
	t.mustNotBlock("foo", data, "ReadFrom of an upload waits for its reader")
	t.mustWriteTo(pw, data[20_000:])
	pw.Close()
	t.must(t.promptly("ReadFrom at the end of its reader", func() error { return <-done }), "ReadFrom")
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func blockedReader(t *test) {
	data := content(1, 1<<20)
	desc := t.mustPushBlob("foo", data)
	r, err := t.reg.GetBlob(t.Context(), "foo", desc.Digest)
	t.must(err, "GetBlob")
	head := t.mustReadN(r, 1000)
	t.mustNotBlock("foo", data, "a reader is open")
	t.wantRest(r, head, data, "a reader that was open meanwhile")
}

func blockedWriterTo(t *test) {
	data := content(1, 1<<20)
	desc := t.mustPushBlob("foo", data)
	r, err := t.reg.GetBlob(t.Context(), "foo", desc.Digest)
	t.must(err, "GetBlob")
	defer r.Close()
	wt, ok := r.(io.WriterTo)
	if !ok {
		return
	}
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() {
		_, err := wt.WriteTo(pw)
		pw.CloseWithError(err)
	}()
	head := make([]byte, 1000)
	_, err = io.ReadFull(pr, head)
	t.must(err, "the first 1000 bytes of WriteTo")
	t.mustNotBlock("foo", data, "WriteTo waits for its writer")
	rest, err := io.ReadAll(pr)
	if diff := diffBytes(append(head, rest...), data); diff != "" || err != nil {
		t.Errorf("WriteTo that waited meanwhile: error %v; %s", err, diff)
	}
}

// A reader can be closed while another goroutine reads it. The read then ends.
func closedReader(t *test) {
	data := content(1, 1<<20)
	desc := t.mustPushBlob("foo", data)
	r, err := t.reg.GetBlob(t.Context(), "foo", desc.Digest)
	t.must(err, "GetBlob")
	begun, done := make(chan struct{}), make(chan int, 1)
	go func() {
		p := make([]byte, 100)
		n, err := io.ReadFull(r, p)
		close(begun)
		for m := 0; err == nil; n += m {
			m, err = r.Read(p)
		}
		done <- n
	}()
	<-begun
	if err := r.Close(); err != nil {
		t.Errorf("Close of a reader: %v", err)
	}
	t.promptly("Read of a reader that another goroutine closed", func() error {
		if n := <-done; n > len(data) {
			t.Errorf("Read gave %d bytes of %d", n, len(data))
		}
		return nil
	})
}

// An upload can be closed or cancelled while another goroutine writes to it. The write
// then fails.
func closedUpload(t *test) {
	for i, end := range []func(ociregistry.BlobWriter) error{
		ociregistry.BlobWriter.Close,
		ociregistry.BlobWriter.Cancel,
	} {
		w := t.mustStart("foo", 0)
		begun, ended, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := w.Write(make([]byte, 100))
			close(begun)
			for n := 0; err == nil && n < 1<<20; n++ {
				_, err = w.Write(make([]byte, 10))
			}
			if err == nil {
				<-ended
				_, err = w.Write(make([]byte, 10))
			}
			done <- err
		}()
		<-begun
		name := []string{"Close", "Cancel"}[i]
		err := end(w)
		close(ended)
		if err != nil {
			t.Errorf("%s of an upload while another goroutine writes: %v", name, err)
		}
		err = t.promptly("Write to an upload that another goroutine ended", func() error { return <-done })
		if err == nil {
			t.Errorf("Write after another goroutine called %s: got no error", name)
		}
		w.Cancel()
	}
	t.wantNoRepository("foo", "after uploads that were not committed")
}
