package ocicopy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The artifact types of signatures that [Signed] knows.
const (
	TypeCosignSignature   = "application/vnd.dev.cosign.artifact.sig.v1+json"
	TypeNotationSignature = "application/vnd.cncf.notary.signature"

	// TypeSigstoreBundle is the prefix of the types of Sigstore's bundles; a version
	// follows.
	TypeSigstoreBundle = "application/vnd.dev.sigstore.bundle."
)

// Signed reports whether the manifest src, whose Ref must be a digest, has a
// referrer of one of the artifact types. Nil types mean the types of signatures
// above. A signature that cosign stores under a tag counts as TypeCosignSignature.
// Signed does not verify signatures.
//
// Errors are those of the registry, and [ErrLimit] for more than DefaultMaxManifests
// referrers. If the referrers cannot be listed, for any reason, it is not known that the
// manifest is unsigned: unless there is a tag of cosign, Signed returns the registry's
// error, even if that is [ociregistry.ErrUnsupported].
func Signed(ctx context.Context, src Place, types []string) (bool, error) {
	return signed(ctx, src, types, nil)
}

// signed is Signed for callers who may know the tags of the source: see inner.hasTag.
func signed(ctx context.Context, src Place, types []string, hasTag func(string) bool) (bool, error) {
	wanted := signatureTypes(types)
	found, unlisted := listsSignature(ctx, src, wanted)
	tag := rules.CosignTag(ociregistry.Digest(src.Ref)) + ".sig"
	if found || tag == ".sig" || !wanted(TypeCosignSignature) || hasTag != nil && !hasTag(tag) {
		return found, unlisted
	}
	_, err := src.Registry.ResolveTag(ctx, src.Repository, tag)
	if absent(err) {
		return false, unlisted
	}
	return err == nil, err
}

// listsSignature reports whether a referrer of a wanted type is listed. It returns an
// error if the list cannot be read that far.
func listsSignature(ctx context.Context, src Place, wanted func(artifactType string) bool) (bool, error) {
	listed := 0
	for desc, err := range src.Registry.Referrers(ctx, src.Repository, ociregistry.Digest(src.Ref), "") {
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

// signatureTypes returns a function that reports whether an artifact type is one of
// types, which are as in [Signed].
func signatureTypes(types []string) func(artifactType string) bool {
	if types == nil {
		return isSignature
	}
	return func(artifactType string) bool { return slices.Contains(types, artifactType) }
}

// lacksSignature reports whether the top must have a signature, and all of them were
// skipped. An index that was made of another one has none.
func (c *copier) lacksSignature() bool {
	if c.opts.inner.signatures == nil || c.top.madeOf != "" {
		return false
	}
	return !slices.ContainsFunc(c.top.extras, func(e extra) bool {
		artifactType := e.Descriptor.ArtifactType
		if strings.HasSuffix(e.Tag, ".sig") {
			artifactType = TypeCosignSignature
		}
		n := c.nodeOf[e.Descriptor.Digest]
		return c.opts.inner.signatures(artifactType) && n.err == nil && !n.gone
	})
}

func isSignature(artifactType string) bool {
	return artifactType == TypeCosignSignature || artifactType == TypeNotationSignature ||
		strings.HasPrefix(artifactType, TypeSigstoreBundle)
}
