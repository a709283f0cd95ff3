package repos

import (
	"errors"
	"time"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
)

// A Change is what a call wants to do to a repository. It is one call, however often it is
// committed: what may have been appended for it before is found by its ID.
type Change struct {
	// Check decides, without waiting for anything, whether the change may be made, and adds its
	// operations to the batch. Without an operation there is nothing to do. It may be
	// called several times, each time for another state.
	Check func(*Batch) error

	// Empties: the change may leave the repository empty. It must be one that only removes.
	Empties bool

	id    string
	tried uint64 // the number of the last append of which nobody knows whether it happened; 0 if there is none
	mark  bool   // somebody is told to look whether the repository is empty
	t0    int64  // if mark is set: the Date before it was, in seconds
}

// ErrAgain is what Check returns if something has to be read before the change can be checked.
var ErrAgain = errors.New("links are not known")

// ErrDeleted is the error for a link whose delete is recorded.
var ErrDeleted = errors.New("the link is deleted")

// errMark is the error of a change that may leave the repository empty, if nobody was told.
var errMark = errors.New("the repository may be empty afterwards")

// A Batch is a state to which changes are applied together, in one record. What a change looks at
// must not be what another one before it in the record changes: then it has to wait for the next
// record.
type Batch struct {
	state *State
	known map[ociregistry.Digest]Known
	epoch int

	written    map[string]bool               // by the changes before
	pushed     map[ociregistry.Digest]string // media types of manifests that the changes before push
	deferred   bool                          // the change looked at something of that
	removed    int                           // how many manifests the changes before remove
	adding     []formats.Operation
	t0         time.Time
	operations []formats.Operation
	size       int
}

// maxBatch is the size of the texts in a record after which no more changes are put into it, in bytes.
const maxBatch = 8 << 20

// What changes look at, and change.
func tagOf(name string) string                  { return "t" + name }
func manifestOf(d ociregistry.Digest) string    { return "m" + string(d) }
func namesOf(d ociregistry.Digest) string       { return "n" + string(d) }
func deletedLinkOf(d ociregistry.Digest) string { return "d" + string(d) }

func (b *Batch) read(what string) {
	if b.written[what] {
		b.deferred = true
	}
}

// Tag returns the manifest that a tag points at, or nil.
func (b *Batch) Tag(name string) *repostate.Manifest {
	b.read(tagOf(name))
	return b.state.Tag(name)
}

// Manifest returns a manifest, or nil.
func (b *Batch) Manifest(digest ociregistry.Digest) *repostate.Manifest {
	b.read(manifestOf(digest))
	return b.state.Manifest(digest)
}

// MediaType returns the media type of a manifest, and whether there is one: also one that a change
// before pushes.
func (b *Batch) MediaType(digest ociregistry.Digest) (mediaType string, there bool) {
	if mediaType, there := b.pushed[digest]; there {
		return mediaType, true
	}
	if m := b.Manifest(digest); m != nil {
		return m.MediaType, true
	}
	return "", false
}

// IsNamed reports whether a manifest names the digest.
func (b *Batch) IsNamed(digest ociregistry.Digest) bool {
	b.read(namesOf(digest))
	return b.state.IsNamed(digest)
}

// IsNamedAsManifest reports whether an index names the digest.
func (b *Batch) IsNamedAsManifest(digest ociregistry.Digest) bool {
	b.read(namesOf(digest))
	return b.state.IsNamedAsManifest(digest)
}

// State returns the state before the record, for what no change of a record can change.
func (b *Batch) State() *State { return b.state }

// Link returns a link that is known to be there as long as no delete of it is recorded.
func (b *Batch) Link(digest ociregistry.Digest) (Known, bool) {
	b.read(deletedLinkOf(digest))
	k, ok := b.known[digest]
	_, dead := b.state.dead[k.Nonce]
	return k, ok && !dead && b.state.recent[digest] <= k.AsOf.number
}

// CheckLink checks that nobody has deleted a link that was read: it is ErrDeleted if that is recorded, and
// ErrAgain if a delete of the digest was recorded since.
func (b *Batch) CheckLink(digest ociregistry.Digest, nonce string, asOf AsOf) error {
	b.read(deletedLinkOf(digest))
	if _, dead := b.state.dead[nonce]; dead {
		return ErrDeleted
	}
	if asOf.epoch != b.epoch || b.state.recent[digest] > asOf.number {
		return ErrAgain
	}
	return nil
}

// Add adds an operation on manifests or tags.
func (b *Batch) Add(o *repostate.Op) { b.adding = append(b.adding, formats.Operation{Op: o}) }

// Collect adds the delete of a manifest that is garbage.
func (b *Batch) Collect(digest ociregistry.Digest) {
	b.adding = append(b.adding, formats.Operation{Op: &repostate.Op{Kind: repostate.DeleteManifest, Digest: digest}, Collected: true})
}

// DeleteLink adds the delete of a link.
func (b *Batch) DeleteLink(digest ociregistry.Digest, nonce string) {
	b.adding = append(b.adding, formats.Operation{Digest: digest, Nonce: nonce})
}

// try checks a change. It reports whether the change, if there is no error, is a part of the record
// or needs none; if not, it has to wait for another record.
func (b *Batch) try(c *Change) (taken bool, err error) {
	b.adding, b.deferred = nil, false
	if b.size >= maxBatch {
		return false, nil
	}
	err = c.Check(b)
	if b.deferred {
		return false, nil
	}
	if err != nil || len(b.adding) == 0 {
		return true, err
	}
	if c.Empties && !c.mark && b.left() <= 0 {
		return true, errMark
	}
	for i := range b.adding {
		b.adding[i].ID = c.id
		b.note(&b.adding[i])
	}
	b.operations = append(b.operations, b.adding...)
	return true, nil
}

// left returns how many manifests there are after the operations that are being added.
func (b *Batch) left() int {
	left := b.state.Count() - b.removed
	for i := range b.adding {
		if o := b.adding[i].Op; o != nil && o.Kind == repostate.DeleteManifest {
			left--
		}
	}
	return left
}

// note notes what an operation changes.
func (b *Batch) note(o *formats.Operation) {
	if o.Op == nil {
		b.written[deletedLinkOf(o.Digest)] = true
		return
	}
	b.size += len(o.Op.Text)
	if o.Op.Kind == repostate.PutManifest {
		b.pushed[o.Op.Digest] = o.Op.MediaType
	}
	for _, tag := range o.Op.Tags {
		b.written[tagOf(tag)] = true
	}
	if o.Op.Digest == "" {
		return
	}
	b.written[manifestOf(o.Op.Digest)] = true
	b.state.EachName(o.Op.Digest, func(digest ociregistry.Digest) { b.written[namesOf(digest)] = true })
	switch {
	case o.Op.Kind == repostate.DeleteManifest:
		b.removed++
		for _, tag := range b.state.TagsOf(b.state.Manifest(o.Op.Digest)) {
			b.written[tagOf(tag)] = true
		}
	case o.Op.Info != nil:
		for i := range o.Op.Info.Blobs {
			b.written[namesOf(o.Op.Info.Blobs[i].Digest)] = true
		}
		for i := range o.Op.Info.Manifests {
			b.written[namesOf(o.Op.Info.Manifests[i].Digest)] = true
		}
	}
}
