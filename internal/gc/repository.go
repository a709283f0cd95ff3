// Package gc decides what of a repository is garbage, by the words of package ocigc, and
// leads a backend through a collection. It knows nothing of how backends store content.
package gc

import (
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// A Repository is what a backend enumerates of a repository. The parts need not be of one
// moment, because the backend checks again before it removes something. Times are in
// nanoseconds since 1970.
type Repository struct {
	Name      string
	Manifests []Manifest
	Blobs     []Blob
	Tags      []Tag

	// Names calls yield with the digest of each blob and manifest that a manifest names,
	// whether or not the repository has it. It is called once or twice for a manifest.
	Names func(manifest int, yield func(ociregistry.Digest))

	// Where it takes a look at what is stored to know a time, these find it out. They are
	// called if it matters, once for each, and may be nil: StatManifest fills in the Time,
	// StatBlob the Time and the Size, and StatTag the times of a tag.
	StatManifest func(*Manifest)
	StatBlob     func(*Blob)
	StatTag      func(*Tag)

	// Grain is how much older the time of a manifest may be than what it is the time of, and
	// BlobGrain that of a blob.
	Grain, BlobGrain time.Duration

	// Unreadable is why a manifest cannot be read. If it is not nil, nobody knows what
	// is garbage, and nothing is.
	Unreadable error
}

// Manifest is a manifest of a [Repository].
type Manifest struct {
	Digest  ociregistry.Digest
	Subject ociregistry.Digest // or ""
	Size    int64              // in bytes
	Time    int64              // from which its delay counts
}

// Blob is a blob of a [Repository].
type Blob struct {
	Digest ociregistry.Digest
	Size   int64 // in bytes
	Time   int64 // from which its delay counts
}

// Tag is a tag of a [Repository].
type Tag struct {
	Name     string
	Manifest ociregistry.Digest
	Pushed   int64 // when it was last set; zero if nobody knows
	Pulled   int64 // when its manifest was last pulled; zero if it never was
}

func (t Tag) tag() ocigc.Tag {
	return ocigc.Tag{Name: t.Name, Pushed: timeOf(t.Pushed), Pulled: timeOf(t.Pulled)}
}

func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}
