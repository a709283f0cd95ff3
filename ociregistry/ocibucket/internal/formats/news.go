package formats

import (
	"encoding/hex"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Changed says what a process has changed in a repository, or what it has found there.
type Changed struct {
	Repository string
	Manifests  bool                 // that the log has got longer
	Blobs      []ociregistry.Digest // those whose link has changed
	Found      *Found               // nil if nobody has looked at all links
}

// Found is what somebody has found in a repository. Who knows all of it finds the same.
type Found struct {
	Number uint64 // of the last record
	Links  LinkID // the exclusive or of those of all links that are not dead
}

// A LinkID stands for a link of a repository.
type LinkID [16]byte

// LinkIDOf returns what stands for the link of a digest.
func LinkIDOf(digest ociregistry.Digest) (id LinkID) {
	encoded := digest.Encoded()
	hex.Decode(id[:], []byte(encoded[:min(len(encoded), 2*len(id))]))
	return id
}

// Xor returns the exclusive or of two.
func (id LinkID) Xor(other LinkID) LinkID {
	for i := range id {
		id[i] ^= other[i]
	}
	return id
}

const newsKind = "F1"

// MaxNews is the maximum size of the encoded form of news, in bytes.
const MaxNews = 1 << 20

// NewsHeader is the size of what precedes the first of the news, in bytes.
const NewsHeader = int64(len(newsKind) + nonceSize)

// EncodeNews returns a new encoded form of news, the parts of which AppendChanged has made.
func EncodeNews(parts []byte) []byte { return append(newEncoder(newsKind).text, parts...) }

// What a Changed has.
const (
	hasManifests = 1 << iota
	hasFound
)

// AppendChanged appends the encoded form of a part of news, which has no nonce.
func AppendChanged(dst []byte, c *Changed) []byte {
	e := &encoder{dst}
	e.string(c.Repository)
	has := byte(0)
	if c.Manifests {
		has |= hasManifests
	}
	if c.Found != nil {
		has |= hasFound
	}
	e.byte(has)
	e.uint(uint64(len(c.Blobs)))
	for _, digest := range c.Blobs {
		e.string(string(digest))
	}
	if c.Found != nil {
		e.uint(c.Found.Number)
		e.raw(string(c.Found.Links[:]))
	}
	return e.text
}

// DecodeNews returns the parts of news from an offset of the encoded form on, of which there is at least one. Their
// strings are parts of the text.
func DecodeNews(text string, offset int64) (news []Changed, err error) {
	d := decode(newsKind, text)
	d.raw(int(offset - NewsHeader))
	for more := true; more && !d.failed; more = d.text != "" {
		c := Changed{Repository: d.string()}
		has := d.byte()
		c.Manifests = has&hasManifests != 0
		for n := d.count(); n > 0 && !d.failed; n-- {
			c.Blobs = append(c.Blobs, d.digest())
		}
		if has&hasFound != 0 {
			c.Found = &Found{Number: d.uint()}
			copy(c.Found.Links[:], d.raw(len(c.Found.Links)))
		}
		d.failed = d.failed || has >= hasFound<<1 || ociregistry.CheckRepository(c.Repository) != nil
		news = append(news, c)
	}
	return news, d.end("part of news")
}
