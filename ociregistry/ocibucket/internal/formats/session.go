package formats

import (
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A Session is an upload session.
type Session struct {
	Status     Status
	Repository string
	Algorithm  string // of Hash
	Hash       []byte // the state of the hash of all bytes
	Size       int64  // of all bytes

	// The bytes are in the parts of an upload, and a tail.
	Data    string // the name of the data to be, or "" if there is no upload
	Upload  string // its ID
	Claimed int    // the highest number of a part that somebody may send
	Parts   []objstore.Part
	Tail    string // the name of the data with what comes after the parts, or "" if that is inline
	Inline  string

	// What its commit writes.
	Digest ociregistry.Digest
	Nonce  string // of the link and its reference
	T0     time.Time
}

const sessionKind = "U1"

// MaxSession is the maximum size of a session's encoded form, in bytes.
const MaxSession = 16 << 20

// Encode returns a new encoded form of the session. Of one that is gone it has nothing but what a
// collection needs.
func (s *Session) Encode() []byte {
	e := newEncoder(sessionKind)
	e.byte(byte(s.Status))
	e.string(s.Repository)
	e.uint(uint64(s.Size))
	e.string(s.Data)
	e.string(s.Upload)
	e.string(s.Tail)
	if s.Status == Gone {
		return e.text
	}
	e.string(s.Algorithm)
	e.string(string(s.Hash))
	e.uint(uint64(s.Claimed))
	e.uint(uint64(len(s.Parts)))
	for _, p := range s.Parts {
		e.uint(uint64(p.Number))
		e.string(string(p.ETag))
		e.uint(uint64(p.Size))
	}
	e.string(s.Inline)
	e.string(string(s.Digest))
	e.string(s.Nonce)
	e.time(s.T0)
	return e.text
}

// DecodeSession returns the session that an encoded form has. Its strings are parts of the text.
func DecodeSession(text string) (Session, error) {
	d := decode(sessionKind, text)
	s := Session{Status: Status(d.byte()), Repository: d.string(), Size: d.size(), Data: d.string(), Upload: d.string(), Tail: d.string()}
	if s.Status == Gone {
		return s, d.end("session")
	}
	s.Algorithm, s.Hash, s.Claimed = d.string(), []byte(d.string()), int(d.size())
	for n := d.count(); n > 0 && !d.failed; n-- {
		s.Parts = append(s.Parts, objstore.Part{Number: int(d.size()), ETag: objstore.ETag(d.string()), Size: d.size()})
	}
	s.Inline, s.Digest, s.Nonce, s.T0 = d.string(), d.digest(), d.string(), d.time()
	if s.Status != Open && s.Status != Committing {
		d.failed = true
	}
	return s, d.end("session")
}

// Multipart returns the upload of the session.
func (s *Session) Multipart(key string) objstore.Multipart {
	return objstore.Multipart{Key: key, ID: s.Upload}
}
