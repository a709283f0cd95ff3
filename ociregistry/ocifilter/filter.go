// Package ocifilter has views of a registry. Each function takes an
// [ociregistry.Interface] and returns one that shows less of it, or allows less:
//
//   - [ReadOnly] can be read, and not written.
//   - [Immutable] can be added to; what is there stays as it is.
//   - [Select] has only some of the repositories.
//   - [AccessChecker] asks a function before each call.
//   - [Sub] has the repositories below a prefix, without the prefix.
//
// Views can be stacked: ReadOnly(Sub(r, "mirror")) is one that cannot be written
// of the repositories below mirror.
//
// A view refuses what it does not know. When [ociregistry.Interface] gets a new
// method that could write or that names a repository, it fails in a view until
// that view was taught about it.
//
// The readers and writers that a view returns are those of the registry beneath,
// with all the further interfaces that they have, such as [io.WriterTo]. Their
// use is not checked again.
package ocifilter

import (
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// refusing has the methods that a view does not have itself. It is embedded
// through one level more than [ociregistry.Reader] and [ociregistry.Lister] are,
// so that theirs come first.
type refusing struct{ *ociregistry.Funcs }

// target says what a call is about: for its checks and its errors.
type target struct{ op, repo, ref string }

func (t target) fail(err error) error {
	return &ociregistry.OpError{Op: t.op, Repo: t.repo, Ref: t.ref, Err: err}
}

func (t target) checkRepo() error {
	if err := ociregistry.CheckRepository(t.repo); err != nil {
		return t.fail(err)
	}
	return nil
}

// checkDigest checks the repository and the ref, which is to be a digest.
func (t target) checkDigest() error {
	if err := ociregistry.CheckRepositoryAndDigest(t.repo, ociregistry.Digest(t.ref)); err != nil {
		return t.fail(err)
	}
	return nil
}

// checkTag checks the repository and the ref, which is a tag to be looked up.
func (t target) checkTag() error {
	if err := t.checkRepo(); err != nil {
		return err
	}
	if !ociref.IsValidTag(t.ref) {
		return t.fail(ociregistry.ErrManifestUnknown)
	}
	return nil
}

// errMountFromAny is for an empty fromRepo in views that hide repositories: the
// registry beneath would look into those too.
var errMountFromAny = fmt.Errorf("%w: a mount needs the repository to take from", ociregistry.ErrUnsupported)
