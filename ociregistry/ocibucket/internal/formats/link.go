package formats

import (
	"time"
)

// A Status is what has become of an object that is never deleted at once.
type Status byte

// The statuses.
const (
	Live       Status = 'l'
	Condemned  Status = 'c' // of links and manifests: a collection found it unused
	Dead       Status = 'x' // of links and manifests: it is not there
	Doomed     Status = 'd' // of markers: a collection found no reference
	Gone       Status = 'g' // of markers and sessions: it is not there
	Open       Status = 'o' // of sessions
	Committing Status = 'k' // of sessions: nothing can be added
)

// MaxInline is the maximum size of content that a link has in itself, in bytes.
const MaxInline = 64 << 10

// MaxLink is the maximum size of a link's encoded form, in bytes.
const MaxLink = MaxInline + 1024

// A Link says that a repository has a blob.
type Link struct {
	Status    Status
	Nonce     string    // which a delete names
	Reference string    // the nonce of the link's reference
	T0        time.Time // zero if the link has replaced a valid one
	Size      int64     // of the content, in bytes
	Data      string    // the name of the data, or "" if the content is inline
	Inline    string    // the content
}

const linkKind = "L1"

// DeadLinkSize is the size of a dead link's encoded form, in bytes. No other link has it.
const DeadLinkSize = int64(len(linkKind) + 2*nonceSize + 1)

// Encode returns a new encoded form of the link. That of a dead link has its nonce alone.
func (l *Link) Encode() []byte {
	e := newEncoder(linkKind)
	e.byte(byte(l.Status))
	e.raw(l.Nonce)
	if l.Status == Dead {
		return e.text
	}
	e.raw(l.Reference)
	e.time(l.T0)
	e.uint(uint64(l.Size))
	e.string(l.Data)
	e.raw(l.Inline)
	return e.text
}

// DecodeLink returns the link that an encoded form has. Its strings are parts of the text.
func DecodeLink(text string) (Link, error) {
	d := decode(linkKind, text)
	l := Link{Status: Status(d.byte()), Nonce: d.raw(nonceSize)}
	if l.Status == Dead {
		return l, d.end("link")
	}
	l.Reference = d.raw(nonceSize)
	l.T0 = d.time()
	l.Size = d.size()
	l.Data = d.string()
	l.Inline = d.rest()
	if l.Data == "" && int64(len(l.Inline)) != l.Size || l.Data != "" && l.Inline != "" || l.Status != Live && l.Status != Condemned {
		d.failed = true
	}
	return l, d.end("link")
}

// A Marker says that the bytes of a digest are in some data.
type Marker struct {
	Status Status
	T0     time.Time // zero if the marker has replaced a valid one
}

const markerKind = "M1"

// MaxMarker is the maximum size of a marker's encoded form, in bytes.
const MaxMarker = 128

// Encode returns a new encoded form of the marker.
func (m *Marker) Encode() []byte {
	e := newEncoder(markerKind)
	e.byte(byte(m.Status))
	e.time(m.T0)
	return e.text
}

// DecodeMarker returns the marker that an encoded form has.
func DecodeMarker(text string) (Marker, error) {
	d := decode(markerKind, text)
	m := Marker{Status: Status(d.byte()), T0: d.time()}
	if m.Status != Live && m.Status != Doomed && m.Status != Gone {
		d.failed = true
	}
	return m, d.end("marker")
}

// A Manifest is a manifest's bytes.
type Manifest struct {
	Status Status
	Text   string
}

const manifestKind = "N1"

// Encode returns a new encoded form of the manifest. That of a dead one has no text.
func (m *Manifest) Encode() []byte {
	e := newEncoder(manifestKind)
	e.byte(byte(m.Status))
	if m.Status != Dead {
		e.raw(m.Text)
	}
	return e.text
}

// DecodeManifest returns the manifest that an encoded form has. Its text is a part of it.
func DecodeManifest(text string) (Manifest, error) {
	d := decode(manifestKind, text)
	m := Manifest{Status: Status(d.byte()), Text: d.rest()}
	if m.Status != Live && m.Status != Condemned && m.Status != Dead {
		d.failed = true
	}
	return m, d.end("manifest")
}
