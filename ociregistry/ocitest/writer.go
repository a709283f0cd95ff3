package ocitest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

var pushBlobClauses = []clause{
	{name: "Stores", needs: PushBlobs, run: pushBlob},
	{name: "Empty", needs: PushBlobs, run: pushBlobEmpty},
	{name: "SHA512", needs: PushBlobs, run: pushBlobSHA512},
	{name: "OnlyDigestAndSizeMatter", needs: PushBlobs, run: pushBlobDescriptor},
	{name: "Again", needs: PushBlobs, run: pushBlobAgain},
	{name: "AnyReader", needs: PushBlobs, run: pushBlobReaders},
	{name: "BuffersAreTheCallers", needs: PushBlobs, run: pushBlobBuffers},
	{name: "VerifiesDigest", needs: PushBlobs, run: pushBlobWrongDigest},
	{name: "VerifiesSize", needs: PushBlobs, run: pushBlobWrongSize},
	{name: "FromReaderThatVerifies", needs: PushBlobs, run: pushBlobVerified},
	{name: "FailsWithItsReader", needs: PushBlobs, run: pushBlobReaderFails},
	{name: "FailureKeepsWhatIsThere", needs: PushBlobs, run: pushBlobFailsAgain},
	{name: "ErrorsCarryNoContent", needs: PushBlobs, run: pushBlobErrors},
	{name: "OneRepositoryOnly", needs: PushBlobs, run: pushBlobOneRepository},
}

func (t *test) pushBlob(repo string, desc ociregistry.Descriptor, r io.Reader) error {
	_, err := t.reg.PushBlob(t.Context(), repo, desc, r)
	return err
}

func pushBlob(t *test) {
	data := content(1, 300_000)
	want := describe(data)
	got, err := t.reg.PushBlob(t.Context(), "foo", want, bytes.NewReader(data))
	t.wantDescriptor(got, err, want, "PushBlob")
	t.wantBlob("foo", data, want.Digest)
	t.wantRepositories("after a blob was pushed", "foo")
}

func pushBlobEmpty(t *test) {
	for _, d := range []ociregistry.Digest{digest.FromString(""), digest.SHA512.FromString("")} {
		t.must(t.pushBlob("foo", ociregistry.Descriptor{Digest: d}, strings.NewReader("")), "PushBlob of an empty blob")
		t.wantBlob("foo", nil, d)
	}
}

// Content that is pushed under two digests is two blobs.
func pushBlobSHA512(t *test) {
	data := content(1, 5000)
	long, short := digest.SHA512.FromBytes(data), digest.SHA256.FromBytes(data)
	t.must(t.pushBlob("foo", ociregistry.Descriptor{Digest: long, Size: 5000}, bytes.NewReader(data)), "PushBlob with a SHA-512 digest")
	t.wantBlob("foo", data, long)
	t.must(t.pushBlob("foo", ociregistry.Descriptor{Digest: short, Size: 5000}, bytes.NewReader(data)), "PushBlob with a SHA-256 digest")
	t.wantBlob("foo", data, short)
	t.wantBlob("foo", data, long)

	wrong := ociregistry.Descriptor{Digest: digest.SHA512.FromString("other"), Size: 5000}
	t.wantErr(t.pushBlob("foo", wrong, bytes.NewReader(data)), is(ociregistry.ErrDigestInvalid), "PushBlob with the SHA-512 digest of other content")
	t.wantNoBlob("foo", wrong.Digest, "after a push with its digest and other content")
}

func pushBlobDescriptor(t *test) {
	data := []byte("hello")
	for _, mediaType := range []string{"", "text/plain", "not a media type"} {
		desc := describe(data)
		desc.MediaType = mediaType
		desc.Annotations = map[string]string{"a": "b"}
		t.must(t.pushBlob("foo", desc, bytes.NewReader(data)), "PushBlob with media type %q", mediaType)
		t.wantBlob("foo", data, desc.Digest)
	}
}

func pushBlobAgain(t *test) {
	data := content(1, 10_000)
	for range 3 {
		t.must(t.pushBlob("foo", describe(data), bytes.NewReader(data)), "PushBlob")
		t.wantBlob("foo", data, describe(data).Digest)
	}
}

func pushBlobReaders(t *test) {
	for _, test := range []struct {
		name string
		size int64
		wrap func(io.Reader) io.Reader
	}{
		{"gives one byte at a time", 3000, iotest.OneByteReader},
		{"gives half of what it is asked for", 100_000, iotest.HalfReader},
		{"gives EOF with the last bytes", 100_000, iotest.DataErrReader},
		{"gives nothing now and then", 10_000, func(r io.Reader) io.Reader { return &lazyReader{r: r} }},
		{"is larger than any buffer", 3 << 20, func(r io.Reader) io.Reader { return r }},
	} {
		data := content(1, test.size)
		err := t.pushBlob("foo", describe(data), test.wrap(bytes.NewReader(data)))
		t.must(err, "PushBlob from a reader that %s", test.name)
		t.wantBlob("foo", data, describe(data).Digest)
	}
}

// lazyReader returns no bytes at every other call.
type lazyReader struct {
	r     io.Reader
	calls int
}

func (r *lazyReader) Read(p []byte) (int, error) {
	if r.calls++; r.calls%2 == 1 {
		return 0, nil
	}
	return r.r.Read(p[:min(len(p), 1000)])
}

// A reader that is also a WriterTo may reuse its buffer after each Write.
func pushBlobBuffers(t *test) {
	data := content(1, 100_000)
	t.must(t.pushBlob("foo", describe(data), &reuser{r: bytes.NewReader(data)}), "PushBlob from a WriterTo")
	t.wantBlob("foo", data, describe(data).Digest)
}

// reuser writes from one buffer, which it overwrites after each Write.
type reuser struct{ r *bytes.Reader }

func (r *reuser) Read(p []byte) (int, error) { return r.r.Read(p) }

func (r *reuser) WriteTo(w io.Writer) (written int64, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := r.r.Read(buf)
		if err == io.EOF {
			return written, nil
		}
		n, err = w.Write(buf[:n])
		written += int64(n)
		if err != nil {
			return written, err
		}
		clear(buf)
	}
}

func pushBlobWrongDigest(t *test) {
	for _, size := range []int64{0, 5, 100_000} {
		data := content(1, size)
		desc := ociregistry.Descriptor{Digest: digest.FromString("other"), Size: size}
		t.wantErr(t.pushBlob("foo", desc, bytes.NewReader(data)), is(ociregistry.ErrDigestInvalid), "PushBlob of %d bytes with the digest of other content", size)
		t.wantNoBlob("foo", desc.Digest, "after a push with its digest and other content")
		t.wantNoBlob("foo", digest.FromBytes(data), "after a push of it with another digest")
	}
	t.wantNoRepository("foo", "after pushes that failed")
}

func pushBlobWrongSize(t *test) {
	for _, size := range []int64{1, 5, 100_000} {
		data := content(1, size)
		for _, claimed := range []int64{0, size - 1, size + 1, 2*size + 1, 1 << 40} {
			desc := ociregistry.Descriptor{Digest: digest.FromBytes(data), Size: claimed}
			err := t.pushBlob("foo", desc, struct{ io.Reader }{bytes.NewReader(data)})
			t.wantErr(err, is(ociregistry.ErrSizeInvalid), "PushBlob of %d bytes as %d", size, claimed)
			t.wantNoBlob("foo", desc.Digest, "after a push with the wrong size")
		}
	}
	// The content of the digest, followed by more bytes.
	data := content(1, 1000)
	long := io.MultiReader(bytes.NewReader(data), strings.NewReader("x"))
	t.wantErr(t.pushBlob("foo", describe(data), long), is(ociregistry.ErrSizeInvalid, ociregistry.ErrDigestInvalid), "PushBlob of content with a byte too many")
	t.wantNoBlob("foo", describe(data).Digest, "after a push with a byte too many")
	t.wantNoRepository("foo", "after pushes that failed")
}

var errReader = errors.New("the reader is broken")

func pushBlobReaderFails(t *test) {
	data := content(1, 100_000)
	for _, size := range []int64{0, 1, 50_000, 100_000} {
		r := io.MultiReader(bytes.NewReader(data[:size]), iotest.ErrReader(errReader))
		t.wantErr(t.pushBlob("foo", describe(data), r), is(errReader), "PushBlob from a reader that fails after %d of 100000 bytes", size)
		t.wantNoBlob("foo", describe(data).Digest, "after its push failed")
	}
	t.wantNoRepository("foo", "after pushes that failed")
}

func pushBlobFailsAgain(t *test) {
	data := content(1, 1000)
	t.mustPushBlob("foo", data)
	desc := describe(data)
	t.wantErr(t.pushBlob("foo", desc, bytes.NewReader(content(2, 1000))), is(ociregistry.ErrDigestInvalid), "PushBlob of other content")
	t.wantErr(t.pushBlob("foo", desc, bytes.NewReader(data[:999])), is(ociregistry.ErrSizeInvalid, ociregistry.ErrDigestInvalid), "PushBlob of less content")
	t.wantErr(t.pushBlob("foo", desc, iotest.ErrReader(errReader)), is(errReader), "PushBlob from a broken reader")
	t.wantBlob("foo", data, desc.Digest)
}

func pushBlobErrors(t *test) {
	data := []byte(strings.Repeat(secret, 1000))
	size := int64(len(data))
	for _, desc := range []ociregistry.Descriptor{
		{Digest: digest.FromString("other"), Size: size},
		{Digest: digest.FromBytes(data), Size: size + 1},
		{Digest: digest.FromBytes(data), Size: size - 1},
	} {
		t.wantNoContent(t.pushBlob("foo", desc, bytes.NewReader(data)), "PushBlob")
	}
}

// secret is content that no error may contain.
const secret = "content-for-nobody "

// wantNoContent checks that no form of an error contains content, and that none is so long
// that it could.
func (t *test) wantNoContent(err error, what string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error", what)
		return
	}
	body, _ := ociregistry.MarshalError(err)
	for _, text := range []string{err.Error(), string(body)} {
		if len(text) > 1<<10 {
			t.Errorf("%s: the error has %d bytes, want at most 1024: %.200q…", what, len(text), text)
		}
		if strings.Contains(text, strings.TrimSpace(secret)) {
			t.Errorf("%s: the error has content: %.200q", what, text)
		}
	}
}

func pushBlobOneRepository(t *test) {
	data := []byte("hello")
	t.must(t.pushBlob("foo", describe(data), bytes.NewReader(data)), "PushBlob")
	t.mustPushBlob("bar", []byte("x"))
	t.wantNoBlob("bar", describe(data).Digest, "after it was pushed to foo")
}
