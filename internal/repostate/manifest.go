package repostate

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Manifest is a manifest of a [State], and the tags that point at it.
//
// Its digest, media type and size do not change while it is in a State: a push that has
// another media type replaces the Manifest. The State's lock guards the rest.
type Manifest struct {
	Digest    ociregistry.Digest
	MediaType string // "" if index.json does not say it, and the manifest was not read
	Size      int64  // in bytes
	Text      string // its content, if that came with an operation since the last fold, else ""
	Blob      bool   // the same bytes were pushed as a blob, too
	Implicit  bool   // an index names it, and neither index.json nor an operation does

	// ArtifactType is what the manifest has as a referrer; only if it was read.
	ArtifactType string

	found   bool // its media type is known from its content: index.json does not say it
	present atomic.Bool
	fresh   atomic.Int64 // see IsFresh
	unsure  bool         // see State.Unsure
	tags    *tag         // the first of those that are not in a table
	changed bool         // a table does not say of it what is known now

	// Of a manifest of a table.
	inTable     bool
	tableRead   bool  // the table has what it names
	tableUnread bool  // nobody has read or tried to read it since the table was written
	number      int32 // in the table
	tableTags   int32 // how many tags of the table still point at it

	// What it names; only if it was read, and a table does not have it.
	read      bool
	parent    bool // it names something that is a manifest if it is there
	blobs     []claim
	manifests []claim
	subject   ociregistry.Digest
}

// NewManifest returns a manifest to be added to a state. It keeps no part of the strings
// that it is given.
func NewManifest(digest ociregistry.Digest, mediaType string, size int64) *Manifest {
	return &Manifest{Digest: cloneDigest(digest), MediaType: manifest.OwnMediaType(mediaType), Size: size}
}

// Descriptor returns the descriptor of the manifest, without its artifact type.
func (m *Manifest) Descriptor() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
}

// Present reports what [Manifest.SetPresent] said last: whether the backend has found that
// the manifest is stored. It needs no lock.
func (m *Manifest) Present() bool { return m.present.Load() }

// SetPresent notes whether the manifest is stored, for the backend, which need not look
// again then. It needs no lock.
func (m *Manifest) SetPresent(present bool) { m.present.Store(present) }

// SetFresh notes that a collection of garbage leaves the manifest alone for a while, counted
// from a time. It needs no lock.
func (m *Manifest) SetFresh(at time.Time) { m.fresh.Store(at.UnixNano()) }

// IsFresh reports whether SetFresh was called no longer ago than age. It needs no lock.
func (m *Manifest) IsFresh(now time.Time, age time.Duration) bool {
	return now.UnixNano()-m.fresh.Load() <= int64(age)
}

// IsRead reports whether it is known what the manifest names: see [State.SetInfo].
func (m *Manifest) IsRead() bool { return m.read }

// MayNameManifests reports whether a manifest of its type can name manifests, which keeps
// them from being deleted.
func (m *Manifest) MayNameManifests() bool {
	return m.MediaType == "" || manifest.IsIndex(m.MediaType)
}

// IsTagged reports whether a tag points at the manifest.
func (m *Manifest) IsTagged() bool { return m.tags != nil || m.tableTags > 0 }

// IsShared reports whether several tags point at the manifest.
func (m *Manifest) IsShared() bool {
	n := m.tableTags
	for t := m.tags; t != nil && n < 2; t = t.next {
		n++
	}
	return n > 1
}

func cloneDigest(digest ociregistry.Digest) ociregistry.Digest {
	return ociregistry.Digest(strings.Clone(string(digest)))
}
