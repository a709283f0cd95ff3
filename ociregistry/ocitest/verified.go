package ocitest

import (
	"bytes"
	"io"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// pushBlobVerified pushes from readers that claim to verify what they read. A registry need
// not verify the content of such readers of this module itself. It must not believe a reader
// that does not claim, at the end, to have verified all of the content against the digest.
func pushBlobVerified(t *test) {
	data, wrong := content(1, 300_000), content(2, 300_000)
	d := describe(data)
	honest := &claimant{Reader: bytes.NewReader(data), digest: d.Digest, ends: true}
	t.must(t.pushBlob("foo", d, honest), "PushBlob from a reader that verifies")
	t.wantBlob("foo", data, d.Digest)

	other := describe(content(3, 300_000))
	for _, test := range []struct {
		name   string
		reader *claimant
	}{
		{"does not say so at the end", &claimant{digest: other.Digest}},
		{"was read before", &claimant{digest: other.Digest, ends: true, read: 1}},
		{"is read by somebody else", &claimant{digest: other.Digest, ends: true, more: 1}},
		{"verifies something else", &claimant{digest: describe(wrong).Digest, ends: true}},
	} {
		test.reader.Reader = bytes.NewReader(wrong)
		err := t.pushBlob("foo", other, test.reader)
		t.wantErr(err, is(ociregistry.ErrDigestInvalid), "PushBlob of other content from a reader that verifies, but %s", test.name)
		t.wantNoBlob("foo", other.Digest, "after a push of other content")
	}
}

// claimant is a reader that claims to verify its content.
type claimant struct {
	io.Reader
	digest ociregistry.Digest
	read   int64
	more   int64 // how many bytes somebody else reads meanwhile
	ends   bool
	ended  bool
}

func (c *claimant) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += int64(n)
	if n > 0 {
		c.read, c.more = c.read+c.more, 0
	}
	c.ended = err == io.EOF && c.ends
	return n, err
}

func (c *claimant) Verified() verified.State {
	return verified.State{Digest: c.digest, Read: c.read, Ended: c.ended}
}
