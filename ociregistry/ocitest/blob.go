package ocitest

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Blob is content to push. It can be much larger than the memory, because random content
// is generated while it is read.
type Blob struct {
	Descriptor ociregistry.Descriptor

	newReader func() io.Reader
}

// NewBlob returns a blob of size random bytes, which depend only on seed and size. NewBlob
// generates them once to compute the digest. A negative size means zero.
func NewBlob(seed uint64, size int64) Blob {
	return randomBlob(seed, 0, size)
}

// NewReader returns a new reader of the content.
func (b Blob) NewReader() io.Reader {
	if b.newReader == nil {
		return bytes.NewReader(nil)
	}
	return b.newReader()
}

// Bytes returns the content.
func (b Blob) Bytes() []byte {
	data := make([]byte, b.Descriptor.Size)
	io.ReadFull(b.NewReader(), data)
	return data
}

func newBlob(mediaType string, data []byte) Blob {
	return Blob{
		Descriptor: ociregistry.Descriptor{
			MediaType: mediaType,
			Digest:    digest.FromBytes(data),
			Size:      int64(len(data)),
		},
		newReader: func() io.Reader { return bytes.NewReader(data) },
	}
}

// randomBlob returns the nth blob with the given seed.
func randomBlob(seed, n uint64, size int64) Blob {
	size = max(size, 0)
	newReader := func() io.Reader {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[0:], seed)
		binary.LittleEndian.PutUint64(key[8:], n)
		return io.LimitReader(rand.NewChaCha8(key), size)
	}
	d := digest.SHA256.Digester()
	io.Copy(d.Hash(), newReader())
	return Blob{
		Descriptor: ociregistry.Descriptor{
			MediaType: "application/octet-stream",
			Digest:    d.Digest(),
			Size:      size,
		},
		newReader: newReader,
	}
}
