package repostate

import (
	"iter"
	"maps"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Small content comes with the operations that add it. Until the next fold it is in the
// journal and in the state: in blobs, or in the Text of the manifests in unwritten, some of
// which may have been removed since. A fold stores it piece by piece, while calls go on, and
// notes in stored what it has. Manifests that were deleted may still be stored: they are in
// deleted until the fold has removed them, since a backend takes what is stored and is no
// manifest for a blob.

// A Content is content that came with an operation.
type Content struct {
	Digest ociregistry.Digest
	Text   string
	Blob   bool // it is a blob, perhaps beside being a manifest
}

// Pending returns the content that only the journal has, in no order.
func (s *State) Pending() iter.Seq[Content] {
	return func(yield func(Content) bool) {
		for digest, text := range s.blobs {
			c := Content{Digest: digest, Text: text, Blob: true}
			if s.IsPending(c) && !yield(c) {
				return
			}
		}
		for m := range s.Unwritten() {
			c := Content{Digest: m.Digest, Text: m.Text, Blob: m.Blob}
			if _, twice := s.blobs[m.Digest]; !twice && s.IsPending(c) && !yield(c) {
				return
			}
		}
	}
}

// IsPending reports whether the journal alone has c: it was not stored, replaced or deleted
// since.
func (s *State) IsPending(c Content) bool {
	if _, stored := s.stored[c.Digest]; stored {
		return false
	}
	if text, ok := s.blobs[c.Digest]; ok {
		return text == c.Text
	}
	m := s.Manifest(c.Digest)
	return m != nil && m.Text != "" && m.Text == c.Text && m.Blob == c.Blob
}

// IsManifestPending reports whether the journal alone has the text of a manifest. What is stored
// under its digest, if anything, is older: it was deleted, or is damaged.
func (s *State) IsManifestPending(digest ociregistry.Digest) bool {
	if _, stored := s.stored[digest]; stored {
		return false
	}
	m := s.Manifest(digest)
	return m != nil && m.Text != ""
}

// SetStored notes that the backend has stored the content of a digest, which was pending.
// The state keeps its text until [State.ClearPending].
func (s *State) SetStored(digest ociregistry.Digest) { s.stored[digest] = struct{}{} }

// HasStored reports whether content was stored since the last [State.ClearPending].
func (s *State) HasStored() bool { return len(s.stored) > 0 }

// ClearPending notes that all content is stored, and that no deleted manifest is.
func (s *State) ClearPending() {
	clear(s.blobs)
	clear(s.stored)
	clear(s.deleted)
	clear(s.announced)
	for _, m := range s.unwritten {
		m.Text = ""
		m.SetPresent(true)
	}
	s.unwritten = nil
}

// Blob returns the text of a blob that the state has, pending or stored since the last
// fold. Whether there is another blob, only the backend knows: see [State.RulesOutBlob].
func (s *State) Blob(digest ociregistry.Digest) (text string, ok bool) {
	text, ok = s.blobs[digest]
	return text, ok
}

// Bytes returns the size of a manifest and the length of the text of a blob of that digest, as
// far as the state has them.
func (s *State) Bytes(digest ociregistry.Digest) int64 {
	n := int64(len(s.blobs[digest]))
	var spare Manifest
	if m := s.peek(digest, &spare); m != nil {
		n += m.Size
	}
	return n
}

// RulesOutBlob reports whether what is stored under a digest, if anything, is not a blob: it
// is a manifest that was not pushed as a blob, too, or one that was deleted.
func (s *State) RulesOutBlob(digest ociregistry.Digest) bool {
	if m := s.Manifest(digest); m != nil && !m.Blob {
		return true
	}
	return s.IsDeleted(digest)
}

// Blobs returns the blobs that [State.Blob] returns, with their texts.
func (s *State) Blobs() iter.Seq2[ociregistry.Digest, string] { return maps.All(s.blobs) }

// Unwritten returns the manifests of the state that came with their text since the last fold.
func (s *State) Unwritten() iter.Seq[*Manifest] {
	return func(yield func(*Manifest) bool) {
		for _, m := range s.unwritten {
			if s.has(m) && !yield(m) { // else it was deleted or replaced
				return
			}
		}
	}
}

// IsDeleted reports whether a manifest was deleted since the last fold. It may still be
// stored.
func (s *State) IsDeleted(digest ociregistry.Digest) bool {
	_, deleted := s.deleted[digest]
	return deleted
}

// Deleted returns the digests for which [State.IsDeleted] reports true, in no order.
func (s *State) Deleted() iter.Seq[ociregistry.Digest] { return maps.Keys(s.deleted) }
