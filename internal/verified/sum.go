package verified

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"

	"github.com/opencontainers/go-digest"
)

// IsSum reports whether the encoded part of d, which must be well formed, is the given sum
// of its algorithm. It does not allocate.
func IsSum(d digest.Digest, sum []byte) bool {
	var text [2 * sha512.Size]byte
	return string(hex.AppendEncode(text[:0], sum)) == d.Encoded()
}

// IsOf reports whether d, which must be well formed, is the digest of data.
func IsOf(d digest.Digest, data []byte) bool {
	if d.Algorithm() == digest.SHA256 { // avoids a hash on the heap
		sum := sha256.Sum256(data)
		return IsSum(d, sum[:])
	}
	return d.Algorithm().FromBytes(data) == d
}
