package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Push is what PushManifest was asked for, once its arguments were checked.
type Push struct {
	Digest   ociregistry.Digest // by the algorithm of ref, if that is a digest; no part of it
	Contents string
	Tags     []string // all to set; ref may be the first
	Info     Info
}

// CheckPush makes the checks of PushManifest that need no registry, in the order in
// which every backend makes them.
//
// Errors: [ociregistry.ErrNameInvalid]; [ociregistry.ErrDigestInvalid] if ref is a
// digest, but not that of contents; [ociregistry.ErrManifestInvalid] for a tag, media
// type or manifest that is not valid; that of the context.
func CheckPush(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags []string) (p Push, err error) {
	if err := call.CheckPush(repo, ref, tags); err != nil {
		return p, err
	}
	if p.Digest, p.Tags, err = resolveRef(ref, contents, tags); err != nil {
		return p, err
	}
	if err := ociregistry.CheckMediaType(mediaType); err != nil {
		return p, err
	}
	p.Contents = string(contents)
	if p.Info, err = Parse(mediaType, p.Contents); err != nil {
		return p, err
	}
	return p, ctx.Err()
}

// resolveRef returns the digest of contents, and all tags to set. The ref and the tags
// were checked.
func resolveRef(ref string, contents []byte, tags []string) (ociregistry.Digest, []string, error) {
	if call.IsTag(ref) {
		return sha256Digest(contents), append([]string{ref}, tags...), nil
	}
	want := ociregistry.Digest(ref)
	got := digestOf(contents, want)
	if want != "" && want != got {
		return "", nil, ociregistry.ErrDigestInvalid
	}
	return got, tags, nil
}

// digestOf returns the digest of contents in the algorithm of want, or in SHA-256 if
// that is empty.
func digestOf(contents []byte, want ociregistry.Digest) ociregistry.Digest {
	if want != "" && want.Algorithm() != digest.SHA256 {
		return want.Algorithm().FromBytes(contents)
	}
	return sha256Digest(contents)
}

// sha256Digest is [digest.FromBytes] with one allocation.
func sha256Digest(contents []byte) ociregistry.Digest {
	const prefix = "sha256:"
	sum := sha256.Sum256(contents)
	text := append(make([]byte, 0, len(prefix)+2*len(sum)), prefix...)
	return ociregistry.Digest(hex.AppendEncode(text, sum[:]))
}
