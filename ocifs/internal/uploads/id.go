package uploads

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// The id of an upload session without bytes is all that exists of it: every process
// that has the directory's key recognizes an id that was issued. An id is the text
// form of
//
//	bytes  what
//	0-6    when it was issued, in milliseconds since 1970, big-endian
//	7      2 if the content is to be hashed by SHA-512, 1 if by SHA-256
//	8-18   random
//	19-34  the first bytes of an HMAC-SHA-256 of these and the repository's name
//
// The code authorizes nobody. It makes ids that were never issued unknown.
const (
	idNonce  = 8
	idMark   = 19
	idBytes  = 35
	idLen    = idBytes * 8 / 5 // no bits are left over: each id has one text
	oldIDLen = 26              // of an unreleased version; only a sweep recognizes these
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// isID reports whether id has the form of an id.
func isID(id string) bool { return len(id) == idLen && isBase32(id) }

// isName reports whether the name of a file is that of a session, present or old.
func isName(name string) bool {
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

// sessionID is a parsed id.
type sessionID struct {
	issued int64 // milliseconds since 1970
	alg    digest.Algorithm
	mark   uint64 // the first bytes of the code, which identify the id in a set
}

// age returns how long ago the id was issued.
func (id sessionID) age(now time.Time) time.Duration { return now.Sub(time.UnixMilli(id.issued)) }

// minute and hour return when the id was issued, in minutes and hours since 1970.
func (id sessionID) minute() int64 { return id.issued / time.Minute.Milliseconds() }
func (id sessionID) hour() int64   { return id.issued / time.Hour.Milliseconds() }

// issue returns a new id. It creates the key if there is none.
func (u *Sessions) issue(repo string, alg digest.Algorithm) (string, sessionID, error) {
	key, err := u.key.Provide()
	if err != nil {
		return "", sessionID{}, err
	}
	var b [idBytes]byte
	binary.BigEndian.PutUint64(b[:], uint64(u.now().UnixMilli())<<8)
	b[idNonce-1] = 1
	if alg == digest.SHA512 {
		b[idNonce-1] = 2
	}
	rand.Read(b[idNonce:idMark])
	key.Code(b[idMark:], b[:idMark], repo)
	return idEncoding.EncodeToString(b[:]), parseID(&b), nil
}

// check parses an id, and checks that it was issued for the repository.
//
// Errors: [ociregistry.ErrBlobUploadUnknown], and those of the system.
func (u *Sessions) check(id, repo string) (sessionID, error) {
	b, ok := decodeID(id)
	if !ok {
		return sessionID{}, ociregistry.ErrBlobUploadUnknown
	}
	key, err := u.key.Load()
	if err != nil {
		return sessionID{}, err
	}
	if key == nil {
		return sessionID{}, ociregistry.ErrBlobUploadUnknown
	}
	want := b
	key.Code(want[idMark:], b[:idMark], repo)
	if subtle.ConstantTimeCompare(b[idMark:], want[idMark:]) == 0 {
		return sessionID{}, ociregistry.ErrBlobUploadUnknown
	}
	return parseID(&b), nil
}

func decodeID(id string) (b [idBytes]byte, ok bool) {
	if !isID(id) {
		return b, false
	}
	n, err := idEncoding.Decode(b[:], []byte(id))
	return b, err == nil && n == idBytes
}

func parseID(b *[idBytes]byte) sessionID {
	id := sessionID{
		issued: int64(binary.BigEndian.Uint64(b[:]) >> 8),
		alg:    digest.SHA256,
		mark:   binary.BigEndian.Uint64(b[idMark:]),
	}
	if b[idNonce-1] == 2 {
		id.alg = digest.SHA512
	}
	return id
}
