// Package verified lets content that goes from one registry to another be hashed
// once on its way, not once by each. To hash takes longer than anything else that
// is done with bytes.
//
// A [Reader] compares what it reads with a digest. A registry that is pushed to
// takes the bytes as they come, counts them, and asks the reader at the end whether
// these were all, and right. Nobody outside of this module can be such a reader, so
// that nothing is trusted that was not checked.
package verified

import (
	"encoding/hex"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Reader is a reader that verifies what it reads. Whoever has asked it for its State
// before the first Read and after [io.EOF], and was given as many bytes as it then
// says, has the content of the digest.
type Reader interface {
	io.Reader
	Verified() State
}

// State is how far a [Reader] is. The zero State is that of one that does not verify
// what it reads, for what reason ever.
type State struct {
	Digest digest.Digest
	Read   int64 // how many bytes were read, from the beginning and in their order
	Ended  bool  // they are the content of the digest
}

// By returns the state of r, which may be any reader.
func By(r io.Reader) State {
	if v, ok := r.(Reader); ok {
		return v.Verified()
	}
	return State{}
}

// Hash returns a hash for the content that is about to be read from r, to compare
// its sum with d. If r verifies the same, it hashes nothing, and has a sum, which is
// that of d, only when r has ended and the hash was given all that r has read. Only
// Write, Sum and Size may be used of it.
func Hash(r io.Reader, d digest.Digest) hash.Hash {
	h := d.Algorithm().Hash()
	if v, ok := r.(Reader); ok && v.Verified() == (State{Digest: d}) {
		return &borrowed{Hash: h, from: v, digest: d}
	}
	return h
}

// borrowed is a hash that has the sum of somebody else.
type borrowed struct {
	hash.Hash
	from   Reader
	digest digest.Digest
	n      int64
}

func (b *borrowed) Write(p []byte) (int, error) {
	b.n += int64(len(p))
	return len(p), nil
}

// Sum appends nothing where there is no sum.
func (b *borrowed) Sum(p []byte) []byte {
	if b.from.Verified() != (State{b.digest, b.n, true}) {
		return p
	}
	sum, err := hex.DecodeString(b.digest.Encoded())
	if err != nil {
		return p
	}
	return append(p, sum...)
}

// Registry is a registry that may have been damaged since it was pushed to, such
// as one in files, and can find that out.
type Registry interface {
	ociregistry.Interface

	// Verified returns a view of the registry in which no blob or manifest ends
	// well that is not the content of its digest. The size of what is read is
	// compared on each read. The digest is compared the first time that content
	// is read from beginning to end, while it is read: the last byte is held back
	// until then. Ranges are compared by size alone.
	//
	// What is damaged answers [ociregistry.ErrBlobUnknown] or
	// [ociregistry.ErrManifestUnknown] once that is known, and can be pushed anew.
	// A registry that cannot be damaged is the view itself.
	Verified() ociregistry.Interface
}
