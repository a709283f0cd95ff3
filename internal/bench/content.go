package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blob is the content of a blob: bytes that it shares with others, and a stamp
// at the end that makes it differ from them.
type blob struct {
	shared []byte
	stamp  [8]byte
	size   int64
	digest string
}

func (b *blob) reader() io.Reader {
	return io.MultiReader(bytes.NewReader(b.shared), bytes.NewReader(b.stamp[:]))
}

// hash hashes the blob, and does nothing else.
func (b *blob) hash() {
	h := sha256.New()
	h.Write(b.shared)
	h.Write(b.stamp[:])
	h.Sum(nil)
}

func (b *blob) descriptor(mediaType string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(b.digest), Size: b.size}
}

// randomBytes returns the same bytes each time, which do not compress.
func randomBytes(n int64) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// newBlobs returns n different blobs, each of the size of data, for little more
// than the cost of hashing data once.
func newBlobs(data []byte, n int) []blob {
	shared := data[:len(data)-8]
	prefix := sha256.New()
	prefix.Write(shared)
	blobs := make([]blob, n)
	for i := range blobs {
		b := &blobs[i]
		b.shared, b.size = shared, int64(len(data))
		binary.BigEndian.PutUint64(b.stamp[:], uint64(i))
		h := must(prefix.(hash.Cloner).Clone())
		h.Write(b.stamp[:])
		b.digest = digestOf(h)
	}
	return blobs
}

func digestOf(h hash.Hash) string { return fmt.Sprintf("sha256:%x", h.Sum(nil)) }

// image is what a manifest of common size names: a configuration and eight
// layers.
type image struct {
	blobs []blob
}

func newImage() image { return image{newBlobs(randomBytes(1024), 9)} }

// push pushes what the manifests name.
func (im image) push(c *client) error {
	for _, b := range im.blobs {
		if err := c.pushBlob(b); err != nil {
			return err
		}
	}
	return nil
}

// manifests returns n different manifests of the image.
func (im image) manifests(n int) [][]byte {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: manifestType,
		Config:    im.blobs[0].descriptor(ocispec.MediaTypeImageConfig),
	}
	for _, b := range im.blobs[1:] {
		m.Layers = append(m.Layers, b.descriptor(ocispec.MediaTypeImageLayerGzip))
	}
	manifests := make([][]byte, n)
	for i := range manifests {
		m.Annotations = map[string]string{ocispec.AnnotationVersion: fmt.Sprint(i)}
		manifests[i] = must(json.Marshal(m))
	}
	return manifests
}

// must returns what came of something that cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
