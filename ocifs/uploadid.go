package ocifs

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// The id of an upload session is all that there is of one without bytes: every
// process that has the directory's key can tell that it was issued. It is text for
//
//	bytes  what
//	0-6    when it was issued, in milliseconds since 1970, big-endian
//	7      2 if the content is to be hashed by SHA-512, 1 if by SHA-256
//	8-18   random
//	19-34  the begin of an HMAC-SHA-256 of these and the repository's name
//
// The code authorizes nobody: it makes ids that were never issued unknown.
const (
	idNonce  = 8
	idMark   = 19
	idBytes  = 35
	idLen    = idBytes * 8 / 5 // no bits are left over: each id has one text
	oldIDLen = 26              // of what was never released; only a sweep knows it
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// isUploadID reports whether id has the form of one.
func isUploadID(id string) bool { return len(id) == idLen && isBase32(id) }

// isUploadName reports whether what a file is named by is an id, or was one.
func isUploadName(name string) bool {
	return (len(name) == idLen || len(name) == oldIDLen) && isBase32(name)
}

func isBase32(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'A' || 'Z' < c) && (c < '2' || '7' < c) {
			return false
		}
	}
	return true
}

// uploadID is what an id says.
type uploadID struct {
	issued int64 // milliseconds since 1970
	alg    digest.Algorithm
	mark   uint64 // a part of the code, for sets of ids
}

// age returns how long ago the id was issued.
func (id uploadID) age(now time.Time) time.Duration { return now.Sub(time.UnixMilli(id.issued)) }

// minute and hour return in which one since 1970 the id was issued.
func (id uploadID) minute() int64 { return id.issued / time.Minute.Milliseconds() }
func (id uploadID) hour() int64   { return id.issued / time.Hour.Milliseconds() }

// issue returns a new id, and makes the key if there is none.
func (k *uploadKey) issue(now time.Time, repo string, alg digest.Algorithm) (string, uploadID, error) {
	key, err := k.provide()
	if err != nil {
		return "", uploadID{}, err
	}
	var b [idBytes]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<8)
	b[idNonce-1] = 1
	if alg == digest.SHA512 {
		b[idNonce-1] = 2
	}
	rand.Read(b[idNonce:idMark])
	key.mark(&b, repo)
	return idEncoding.EncodeToString(b[:]), parseID(&b), nil
}

// check returns what an id says that was issued for the repository.
//
// Errors: [ociregistry.ErrBlobUploadUnknown].
func (k *uploadKey) check(id, repo string) (uploadID, error) {
	b, ok := decodeID(id)
	if !ok {
		return uploadID{}, ociregistry.ErrBlobUploadUnknown
	}
	key, err := k.load()
	if err != nil {
		return uploadID{}, err
	}
	if key == nil {
		return uploadID{}, ociregistry.ErrBlobUploadUnknown
	}
	want := b
	key.mark(&want, repo)
	if subtle.ConstantTimeCompare(b[idMark:], want[idMark:]) == 0 {
		return uploadID{}, ociregistry.ErrBlobUploadUnknown
	}
	return parseID(&b), nil
}

func decodeID(id string) (b [idBytes]byte, ok bool) {
	if !isUploadID(id) {
		return b, false
	}
	n, err := idEncoding.Decode(b[:], []byte(id))
	return b, err == nil && n == idBytes
}

func parseID(b *[idBytes]byte) uploadID {
	id := uploadID{
		issued: int64(binary.BigEndian.Uint64(b[:]) >> 8),
		alg:    digest.SHA256,
		mark:   binary.BigEndian.Uint64(b[idMark:]),
	}
	if b[idNonce-1] == 2 {
		id.alg = digest.SHA512
	}
	return id
}
