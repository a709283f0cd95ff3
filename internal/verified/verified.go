// Package verified avoids hashing content twice when it is copied from one registry to
// another. Hashing takes longer than anything else that happens to the bytes.
//
// A [Reader] verifies the content that it reads against a digest. The destination of a
// copy counts the bytes, and asks the reader at the end whether these were all of the
// content, and right. Types outside this module cannot be such readers, so that nothing is
// trusted that was not checked.
package verified

import (
	"encoding/hex"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Reader is a reader that verifies what it reads. A caller that calls Verified before the
// first Read and after [io.EOF], and has received as many bytes as the State then says, has
// the content of the digest.
type Reader interface {
	io.Reader
	Verified() State
}

// State is the progress of a [Reader]. The zero State means that the reader does not verify
// what it reads.
type State struct {
	Digest digest.Digest
	Read   int64 // how many bytes were read, in order from the beginning
	Ended  bool  // these are all of the content, and match Digest
}

// By returns the State of r, or the zero State if r is not a [Reader].
func By(r io.Reader) State {
	if v, ok := r.(Reader); ok {
		return v.Verified()
	}
	return State{}
}

// Hash returns a hash for the content that is about to be read from r, whose sum is to be
// compared with d. If r verifies the content against d itself, the hash only counts bytes:
// its sum is that of d if r has ended and everything that r has read was written to the
// hash, and is empty otherwise. Only the methods Write, Sum and Size may be used.
func Hash(r io.Reader, d digest.Digest) hash.Hash {
	h := d.Algorithm().Hash()
	if v, ok := r.(Reader); ok && v.Verified() == (State{Digest: d}) {
		return &borrowed{Hash: h, from: v, digest: d}
	}
	return h
}

// borrowed is a hash whose sum is that of a Reader.
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

// Sum appends nothing if there is no sum.
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

// Registry is a registry, such as one in files, whose content can be damaged after a push,
// and that can detect the damage.
type Registry interface {
	ociregistry.Interface

	// Verified returns a view of the registry whose readers return [io.EOF] only at
	// the end of content that matches its digest. They check the size each time.
	// They check the digest the first time that content is read from beginning to
	// end, before they return the last byte. For ranges they check only the size.
	//
	// Calls for content that is known to be damaged return
	// [ociregistry.ErrBlobUnknown] or [ociregistry.ErrManifestUnknown], and a push
	// replaces it. A registry that cannot be damaged returns itself.
	Verified() ociregistry.Interface
}
