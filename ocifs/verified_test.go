package ocifs_test

import (
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// believed is a reader that says that it verified whatever it has read.
type believed struct {
	io.Reader
	state verified.State
}

func (b *believed) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.state.Read += int64(n)
	b.state.Ended = err == io.EOF
	return n, err
}

func (b *believed) Verified() verified.State { return b.state }

// TestHashedOnce checks that content which a reader of this module verifies is not
// hashed again, unless it is small: if the reader lied, nobody would notice.
func TestHashedOnce(t *testing.T) {
	t.Parallel()
	d := digest.FromString("true")
	r := &believed{strings.NewReader(strings.Repeat("lies", 10_000)), verified.State{Digest: d}}
	f := newFixture(t, ocifs.Options{})
	_, err := f.PushBlob(t.Context(), "foo", ociregistry.Descriptor{Digest: d, Size: 40_000}, r)
	qt.Assert(t, qt.IsNil(err))
}
