package ociregistry

import "github.com/seed-40b21970/oci/ociregistry/ociref"

// Every backend checks its arguments before any work. These are the checks, with
// the errors that all of them return.

var errMalformedDigest = NewError("badly formed digest", ErrDigestInvalid.Code(), nil)

// CheckRepository returns [ErrNameInvalid] unless repo is a valid name of a
// repository (distribution specification, section "Pulling manifests").
func CheckRepository(repo string) error {
	if !ociref.IsValidRepository(repo) {
		return ErrNameInvalid
	}
	return nil
}

// CheckDigest returns an error that is [ErrDigestInvalid] unless digest is well
// formed and of a supported algorithm.
func CheckDigest(digest Digest) error {
	if !ociref.IsValidDigest(string(digest)) {
		return errMalformedDigest
	}
	return nil
}

// CheckRepositoryAndDigest makes both checks, that of the name first.
func CheckRepositoryAndDigest(repo string, digest Digest) error {
	if err := CheckRepository(repo); err != nil {
		return err
	}
	return CheckDigest(digest)
}
