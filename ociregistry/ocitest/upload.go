package ocitest

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Writing to an upload, Commit and Cancel.

var uploadClauses = []clause{
	{name: "Stores", needs: PushChunks, run: upload},
	{name: "Empty", needs: PushChunks, run: uploadEmpty},
	{name: "ManyWrites", needs: PushChunks, run: uploadManyWrites},
	{name: "ChunkSizeIsAHint", needs: PushChunks, run: uploadChunkSize},
	{name: "SHA512", needs: PushChunks, run: uploadSHA512},
	{name: "BuffersAreTheCallers", needs: PushChunks, run: uploadBuffers},
	{name: "ReaderFrom", needs: PushChunks, run: uploadReaderFrom},
	{name: "OfWhatIsThere", needs: PushChunks, run: uploadAgain},
	{name: "VerifiesDigest", needs: PushChunks, run: uploadWrongDigest},
	{name: "MalformedDigestChangesNothing", needs: PushChunks, run: uploadMalformedDigest},
	{name: "ErrorsCarryNoContent", needs: PushChunks, run: uploadErrors},
	{name: "AfterCommit", needs: PushChunks, run: uploadAfterCommit},
	{name: "AfterCancel", needs: PushChunks, run: uploadAfterCancel},
	{name: "AfterClose", needs: PushChunks, run: uploadAfterClose},
}

func (t *test) mustStart(repo string, chunkSize int) ociregistry.BlobWriter {
	t.Helper()
	w, err := t.reg.PushBlobChunked(t.Context(), repo, chunkSize)
	t.must(err, "PushBlobChunked")
	return w
}

func (t *test) mustWrite(w io.Writer, p []byte) {
	t.Helper()
	n, err := w.Write(p)
	t.must(err, "Write of %d bytes to an upload", len(p))
	if n != len(p) {
		t.Fatalf("Write of %d bytes to an upload: wrote %d and gave no error", len(p), n)
	}
}

// mustCommit commits an upload of data under the digest d.
func (t *test) mustCommit(w ociregistry.BlobWriter, data []byte, d ociregistry.Digest) {
	t.Helper()
	desc, err := w.Commit(d)
	t.must(err, "Commit")
	if desc.Digest != d || desc.Size != int64(len(data)) {
		t.Errorf("Commit: the descriptor has digest %q and size %d, want %q and %d", desc.Digest, desc.Size, d, len(data))
	}
}

func (t *test) wantSize(w ociregistry.BlobWriter, want int, when string) {
	t.Helper()
	if got := w.Size(); got != int64(want) {
		t.Errorf("Size %s: got %d, want %d", when, got, want)
	}
}

func upload(t *test) {
	data := content(1, 100_000)
	desc := describe(data)
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	t.wantSize(w, 0, "of a new upload")
	t.mustWrite(w, data[:1])
	t.mustWrite(w, data[1:70_000])
	t.wantSize(w, 70_000, "after 70000 bytes")
	t.mustWrite(w, data[70_000:])
	t.wantSize(w, 100_000, "after 100000 bytes")
	t.wantNoBlob("foo", desc.Digest, "before Commit")
	t.mustCommit(w, data, desc.Digest)
	t.wantBlob("foo", data, desc.Digest)
	t.wantRepositories("after Commit", "foo")
}

func uploadEmpty(t *test) {
	w := t.mustStart("foo", 0)
	t.mustCommit(w, nil, digest.FromString(""))
	t.wantBlob("foo", nil, digest.FromString(""))

	w = t.mustStart("bar", 0)
	t.mustWrite(w, nil)
	t.wantSize(w, 0, "after a Write of nothing")
	t.mustCommit(w, nil, digest.SHA512.FromString(""))
	t.wantBlob("bar", nil, digest.SHA512.FromString(""))
}

func uploadManyWrites(t *test) {
	data := content(1, 10_000)
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	for n, rest := 0, data; len(rest) > 0; n++ {
		size := min(n%17, len(rest)) // 0 to 16
		t.mustWrite(w, rest[:size])
		rest = rest[size:]
	}
	t.wantSize(w, len(data), "after many writes")
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func uploadChunkSize(t *test) {
	data := content(1, 10_000)
	for _, chunkSize := range []int{0, 1, 100, 1 << 20, math.MaxInt32} {
		w := t.mustStart("foo", chunkSize)
		if got := w.ChunkSize(); got <= 0 {
			t.Errorf("ChunkSize when %d was asked for: got %d, want more than 0", chunkSize, got)
		}
		t.mustWrite(w, data)
		t.mustCommit(w, data, describe(data).Digest)
		t.wantBlob("foo", data, describe(data).Digest)
	}
}

// The algorithm need not be announced, and Commit may use another than the announced one.
func uploadSHA512(t *test) {
	data := content(1, 50_000)
	sha256, sha512 := digest.SHA256, digest.SHA512
	hint := ociregistry.WithDigestAlgorithm
	for i, test := range []struct {
		announced, named digest.Algorithm
	}{
		{"", sha512}, {sha512, sha512}, {sha256, sha512}, {sha512, sha256}, {"unknown", sha256},
	} {
		repo := []string{"a", "b", "c", "d", "e"}[i]
		ctx := t.Context()
		if test.announced != "" {
			ctx = hint(ctx, test.announced)
		}
		w, err := t.reg.PushBlobChunked(ctx, repo, 0)
		t.must(err, "PushBlobChunked with algorithm %q announced", test.announced)
		t.mustWrite(w, data)
		t.mustCommit(w, data, test.named.FromBytes(data))
		t.wantBlob(repo, data, test.named.FromBytes(data))
	}

	w := t.mustStart("foo", 0)
	t.mustWrite(w, data)
	_, err := w.Commit(sha512.FromString("other"))
	t.wantErr(err, is(ociregistry.ErrDigestInvalid), "Commit with the SHA-512 digest of other content")
	t.wantNoRepository("foo", "after a failed Commit")
}

func uploadBuffers(t *test) {
	data := content(1, 100_000)
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	buf := make([]byte, 5000)
	for rest := data; len(rest) > 0; {
		n := copy(buf, rest)
		t.mustWrite(w, buf[:n])
		if diff := diffBytes(buf[:n], rest[:n]); diff != "" {
			t.Fatalf("Write changed what it was given: %s", diff)
		}
		clear(buf)
		rest = rest[n:]
	}
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

// ReadFrom of an upload counts the bytes that it read before an error.
func uploadReaderFrom(t *test) {
	data := content(1, 400_000)
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	rf, ok := w.(io.ReaderFrom)
	if !ok {
		return
	}
	t.mustWrite(w, data[:1000])
	n, err := rf.ReadFrom(iotest.OneByteReader(bytes.NewReader(data[1000:2000])))
	if n != 1000 || err != nil {
		t.Fatalf("ReadFrom of 1000 bytes: got %d and error %v", n, err)
	}
	t.mustWrite(w, data[2000:3000])
	n, err = rf.ReadFrom(io.MultiReader(bytes.NewReader(data[3000:200_000]), iotest.ErrReader(errReader)))
	if n != 197_000 || !errors.Is(err, errReader) {
		t.Fatalf("ReadFrom of 197000 bytes and an error: got %d and error %v", n, err)
	}
	t.wantSize(w, 200_000, "after ReadFrom failed")
	n, err = rf.ReadFrom(bytes.NewReader(data[200_000:]))
	if n != 200_000 || err != nil {
		t.Fatalf("ReadFrom of 200000 bytes: got %d and error %v", n, err)
	}
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func uploadAgain(t *test) {
	data := content(1, 10_000)
	t.mustPushBlob("foo", data)
	for range 2 {
		w := t.mustStart("foo", 0)
		t.mustWrite(w, data)
		t.mustCommit(w, data, describe(data).Digest)
		t.wantBlob("foo", data, describe(data).Digest)
	}
}

// A wrong digest ends the session.
func uploadWrongDigest(t *test) {
	data := content(1, 10_000)
	w := t.mustStart("foo", 0)
	id := w.ID()
	t.mustWrite(w, data)
	_, err := w.Commit(digest.FromString("other"))
	t.wantErr(err, is(ociregistry.ErrDigestInvalid), "Commit with the digest of other content")
	t.wantNoBlob("foo", digest.FromString("other"), "after a Commit with its digest and other content")
	t.wantNoBlob("foo", describe(data).Digest, "after a Commit of it with another digest")
	t.wantNoRepository("foo", "after a failed Commit")

	_, err = w.Commit(describe(data).Digest)
	t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "Commit after a Commit with the digest of other content")
	t.wantEnded("foo", id, 10_000, "after a Commit with the digest of other content")
	if err := errors.Join(w.Cancel(), w.Close()); err != nil {
		t.Errorf("Cancel and Close after a failed Commit: %v", err)
	}
	t.wantNoRepository("foo", "after all of that")
}

func uploadMalformedDigest(t *test) {
	data := content(1, 1000)
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	t.mustWrite(w, data[:500])
	for _, d := range badDigests {
		_, err := w.Commit(d)
		t.wantErr(err, is(ociregistry.ErrDigestInvalid), "Commit with the malformed digest %.40q", d)
	}
	t.mustWrite(w, data[500:])
	t.wantSize(w, 1000, "after Commits with malformed digests")
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func uploadErrors(t *test) {
	w := t.mustStart("foo", 0)
	t.mustWrite(w, bytes.Repeat([]byte(secret), 1000))
	_, err := w.Commit(digest.FromString("other"))
	t.wantNoContent(err, "Commit")
}

func uploadAfterCommit(t *test) {
	data := content(1, 1000)
	w := t.mustStart("foo", 0)
	id := w.ID()
	t.mustWrite(w, data)
	t.mustCommit(w, data, describe(data).Digest)

	_, err := w.Write([]byte("more"))
	t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "Write after Commit")
	_, err = w.Commit(describe(data).Digest)
	t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "Commit after Commit")
	if err := w.Cancel(); err != nil {
		t.Errorf("Cancel after Commit: %v, want no error", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close after Commit: %v, want no error", err)
	}
	t.wantEnded("foo", id, 1000, "after Commit")
	t.wantBlob("foo", data, describe(data).Digest)
}

func uploadAfterCancel(t *test) {
	data := content(1, 1000)
	w := t.mustStart("foo", 0)
	id := w.ID()
	t.mustWrite(w, data)
	if err := w.Cancel(); err != nil {
		t.Errorf("Cancel: %v", err)
	}
	_, err := w.Write([]byte("more"))
	t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "Write after Cancel")
	_, err = w.Commit(describe(data).Digest)
	t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "Commit after Cancel")
	if err := w.Cancel(); err != nil {
		t.Errorf("Cancel after Cancel: %v, want no error", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close after Cancel: %v, want no error", err)
	}
	t.wantEnded("foo", id, 1000, "after Cancel")
	t.wantNoRepository("foo", "after Cancel")
}

func uploadAfterClose(t *test) {
	data := content(1, 1000)
	w := t.mustStart("foo", 0)
	id := w.ID()
	t.mustWrite(w, data)
	t.must(w.Close(), "Close of an upload")
	if _, err := w.Write([]byte("more")); err == nil {
		t.Errorf("Write after Close: got no error")
	}
	if _, err := w.Commit(describe(data).Digest); err == nil {
		t.Errorf("Commit after Close: got no error")
	}
	t.wantSize(w, 1000, "after Close")
	if got := w.ID(); got == "" || got != id && !t.opts.Remote {
		t.Errorf("ID after Close: got %q, want %q as before", got, id)
	}
	t.wantNoRepository("foo", "after Close of an upload")
}

// wantEnded checks that a session cannot be resumed.
func (t *test) wantEnded(repo, id string, size int64, when string) {
	t.Helper()
	if !t.has(ResumeUploads) {
		return
	}
	for _, offset := range []int64{-1, 0, size} {
		t.wantErr(t.tryResume(repo, id, offset), is(ociregistry.ErrBlobUploadUnknown), "PushBlobChunkedResume at %d %s", offset, when)
	}
}
