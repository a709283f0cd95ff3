package ocicopy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// The artifact types of signatures that [Signed] knows.
const (
	TypeCosignSignature   = "application/vnd.dev.cosign.artifact.sig.v1+json"
	TypeNotationSignature = "application/vnd.cncf.notary.signature"

	// TypeSigstoreBundle is what the types of Sigstore's bundles begin with; a
	// version follows.
	TypeSigstoreBundle = "application/vnd.dev.sigstore.bundle."
)

// Signed reports whether the manifest src, whose Ref must be a digest, has a
// referrer of one of types. Nil stands for the types of signatures above. A
// signature that cosign keeps under a tag counts as TypeCosignSignature.
//
// That is all: no signature is verified.
//
// Errors are those of the registry, and [ErrLimit] for more than
// DefaultMaxManifests referrers. What the registry does not list, for whatever
// reason, is not known to be unsigned: that is the registry's error, also
// [ociregistry.ErrUnsupported], unless there is a tag of cosign.
func Signed(ctx context.Context, src Place, types []string) (bool, error) {
	return signed(ctx, src, types, nil)
}

// signed is Signed for those who know the tags of the source: see Options.
func signed(ctx context.Context, src Place, types []string, hasTag func(string) bool) (bool, error) {
	wanted := signatureTypes(types)
	found, unlisted := listsSignature(ctx, src, wanted)
	tag := cosignTag(ociregistry.Digest(src.Ref)) + ".sig"
	if found || tag == ".sig" || !wanted(TypeCosignSignature) || hasTag != nil && !hasTag(tag) {
		return found, unlisted
	}
	_, err := src.Registry.ResolveTag(ctx, src.Repo, tag)
	if absent(err) {
		return false, unlisted
	}
	return err == nil, err
}

// listsSignature reports whether a type that is wanted is listed. The error means
// that the list could not be read as far as that.
func listsSignature(ctx context.Context, src Place, wanted func(artifactType string) bool) (bool, error) {
	listed := 0
	for desc, err := range src.Registry.Referrers(ctx, src.Repo, ociregistry.Digest(src.Ref), "") {
		if err != nil {
			return false, err
		}
		if wanted(desc.ArtifactType) {
			return true, nil
		}
		if listed++; listed > DefaultMaxManifests {
			return false, fmt.Errorf("%w: more than %d referrers", ErrLimit, DefaultMaxManifests)
		}
	}
	return false, nil
}

// signatureTypes returns what reports whether an artifact type is one of types, which
// are as in Signed.
func signatureTypes(types []string) func(artifactType string) bool {
	if types == nil {
		return isSignature
	}
	return func(artifactType string) bool { return slices.Contains(types, artifactType) }
}

// lacksSignature reports whether the top is to have one of the signatures that are
// asked for, and all of them were skipped. An index that was made of another one has
// none.
func (c *copier) lacksSignature() bool {
	if c.opts.inner.signatures == nil || c.top.madeOf != "" {
		return false
	}
	return !slices.ContainsFunc(c.top.extras, func(e extra) bool {
		artifactType := e.Descriptor.ArtifactType
		if strings.HasSuffix(e.Tag, ".sig") {
			artifactType = TypeCosignSignature
		}
		n := c.seen[e.Descriptor.Digest]
		return c.opts.inner.signatures(artifactType) && n.err == nil && !n.gone
	})
}

func isSignature(artifactType string) bool {
	return artifactType == TypeCosignSignature || artifactType == TypeNotationSignature ||
		strings.HasPrefix(artifactType, TypeSigstoreBundle)
}
