package ocimem

import (
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// believed is a reader that claims to have verified what it has read.
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

// TestVerifiedContent_IsHashedOnce checks that content which a reader of this module
// verifies is not hashed again: wrong content is not noticed.
func TestVerifiedContent_IsHashedOnce(t *testing.T) {
	t.Parallel()
	d := digest.FromString("true")
	r := &believed{strings.NewReader("lies"), verified.State{Digest: d}}
	_, err := New().PushBlob(t.Context(), "foo", ociregistry.Descriptor{Digest: d, Size: 4}, r)
	qt.Assert(t, qt.IsNil(err))
}
