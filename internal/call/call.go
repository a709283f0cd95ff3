// Package call has what backends and combinators do alike with a call before they serve
// it or pass it on: they check its arguments, and say in their errors what was asked.
// Other packages below internal can import it.
package call

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Call is a call of a method of [ociregistry.Interface].
type Call struct {
	Op         string // the name of the method
	Repository string // may be empty
	Ref        string // a digest, a tag or the ID of an upload; may be empty
}

// New returns the call of op for ref in repo.
func New(op, repo, ref string) Call { return Call{Op: op, Repository: repo, Ref: ref} }

// Wrap returns err as an [ociregistry.OpError] that names the call, or nil if err is nil.
func (c Call) Wrap(err error) error {
	if err == nil {
		return nil
	}
	return &ociregistry.OpError{Op: c.Op, Repository: c.Repository, Ref: c.Ref, Err: err}
}

// CheckRepository returns [ociregistry.ErrNameInvalid] unless Repository is a valid name.
func (c Call) CheckRepository() error {
	return c.Wrap(ociregistry.CheckRepository(c.Repository))
}

// CheckDigest makes the check of CheckRepository, and returns
// [ociregistry.ErrDigestInvalid] unless Ref is a valid digest.
func (c Call) CheckDigest() error {
	return c.Wrap(ociregistry.CheckRepositoryAndDigest(c.Repository, ociregistry.Digest(c.Ref)))
}

// CheckTag makes the check of CheckRepository, and returns
// [ociregistry.ErrManifestUnknown] if Ref is a tag that cannot exist. It is for
// calls that look up or delete a tag.
func (c Call) CheckTag() error {
	return c.Wrap(CheckRepositoryAndTag(c.Repository, c.Ref))
}

// CheckPush makes the checks of the function CheckPush for Repository and Ref.
func (c Call) CheckPush(tags []string) error {
	return c.Wrap(CheckPush(c.Repository, c.Ref, tags))
}

// CheckRepositoryAndTag returns [ociregistry.ErrNameInvalid] unless repo is a valid name,
// and [ociregistry.ErrManifestUnknown] if tag cannot exist. It is for calls that look up
// or delete a tag.
func CheckRepositoryAndTag(repo, tag string) error {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return err
	}
	if !ociref.IsValidTag(tag) {
		return ociregistry.ErrManifestUnknown
	}
	return nil
}

// CheckPush checks the arguments of PushManifest: the repository, the ref, which is a
// tag, a digest or empty, and the other tags.
//
// Errors: [ociregistry.ErrNameInvalid], [ociregistry.ErrDigestInvalid], and those of
// [CheckTagsToSet].
func CheckPush(repo, ref string, tags []string) error {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return err
	}
	if IsDigest(ref) {
		if err := ociregistry.CheckDigest(ociregistry.Digest(ref)); err != nil {
			return err
		}
	}
	if IsTag(ref) {
		if err := CheckTagsToSet(ref); err != nil {
			return err
		}
	}
	return CheckTagsToSet(tags...)
}

// CheckTagsToSet returns [ociregistry.ErrManifestInvalid] with the name of the first tag
// that is not valid, or nil. It is for calls that set tags.
func CheckTagsToSet(tags ...string) error {
	for _, tag := range tags {
		if !ociref.IsValidTag(tag) {
			return fmt.Errorf("%w: invalid tag %.130q", ociregistry.ErrManifestInvalid, tag)
		}
	}
	return nil
}

// IsDigest reports whether the ref of a manifest is meant as a digest: no tag has
// a colon.
func IsDigest(ref string) bool { return strings.Contains(ref, ":") }

// IsTag reports whether the ref of a manifest is meant as a tag. An empty one is neither
// a tag nor a digest.
func IsTag(ref string) bool { return ref != "" && !IsDigest(ref) }

// ErrorIsOnly reports whether err is one of targets, as [errors.Is] does, but if err
// wraps several errors, each of them must be one. An error that says that there
// is nothing must not hide another one that says that nobody knows.
func ErrorIsOnly(err error, targets []error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		errs := e.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !ErrorIsOnly(err, targets) })
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return ErrorIsOnly(inner, targets)
		}
	}
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
