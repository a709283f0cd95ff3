package ocifs_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

func (r *mapRegistry) PushBlob(_ context.Context, name string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	repo, err := r.repo(name, desc.Digest)
	if err != nil {
		return desc, err
	}
	if desc.Size < 0 {
		return desc, ociregistry.ErrSizeInvalid
	}
	data, err := io.ReadAll(rd)
	if err != nil {
		return desc, err
	}
	var errs choice
	if int64(len(data)) != desc.Size {
		errs = append(errs, ociregistry.ErrSizeInvalid)
	}
	if desc.Digest.Algorithm().FromBytes(data) != desc.Digest {
		errs = append(errs, ociregistry.ErrDigestInvalid)
	}
	if errs != nil {
		return desc, errs
	}
	repo.blobs[desc.Digest] = string(data)
	return desc, nil
}

func (r *mapRegistry) MountBlob(_ context.Context, from, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	target, err := r.repo(to, d)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	data, err := "", error(ociregistry.ErrBlobUnknown)
	if from != "" {
		data, err = r.blob(from, d)
	} else {
		for name, repo := range r.repos {
			if _, isManifest := repo.manifests[d]; isManifest && err != nil {
				err = errUnspecified
			}
			if _, ok := repo.blobs[d]; ok {
				data, err = r.blob(name, d)
			}
		}
	}
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	target.blobs[d] = data
	return blobDesc(d, data), nil
}

func (r *mapRegistry) PushManifest(ctx context.Context, name, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	repo, err := r.repo(name)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	d := digest.FromBytes(contents)
	current := d
	if strings.Contains(ref, ":") {
		if d = ociregistry.Digest(ref); !ociref.IsValidDigest(ref) || d.Algorithm().FromBytes(contents) != d {
			return ociregistry.Descriptor{}, ociregistry.ErrDigestInvalid
		}
		current = d
	} else if ref != "" {
		tags = append(tags, ref)
		current = repo.tags[ref]
	}
	if _, ok := repo.manifests[current]; !ok {
		current = ""
	}
	refs, err := parseRefs(contents, mediaType)
	if err != nil || !all(tags, ociref.IsValidTag) {
		return ociregistry.Descriptor{}, ociregistry.ErrManifestInvalid
	}
	m := mapManifest{mediaType, string(contents), refs}
	var errs choice
	if ociregistry.PushConditionFrom(ctx).Check(current) != nil {
		errs = append(errs, ociregistry.ErrPreconditionFailed)
	}
	if !r.cfg.sparse && !ociregistry.MissingAllowed(ctx) && !repo.has(refs) {
		errs = append(errs, ociregistry.ErrManifestBlobUnknown)
	}
	if r.cfg.immutableTags && repo.moves(d, m, tags) {
		errs = append(errs, ociregistry.ErrDenied)
	}
	if errs != nil {
		return ociregistry.Descriptor{}, errs
	}
	repo.manifests[d] = m
	for _, tag := range tags {
		repo.tags[tag] = d
	}
	return m.desc(d), nil
}

func all[T any](xs []T, f func(T) bool) bool {
	return !slices.ContainsFunc(xs, func(x T) bool { return !f(x) })
}

func (m mapManifest) desc(d ociregistry.Digest) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.contents))}
}

func (repo *mapRepo) has(refs mapRefs) bool {
	return all(refs.blobs, func(ref ociregistry.Descriptor) bool {
		_, ok := repo.blobs[ref.Digest]
		return ok || ref.URLs != nil || strings.Contains(ref.MediaType, "nondistributable")
	}) && all(refs.manifests, func(ref ociregistry.Descriptor) bool {
		_, isBlob := repo.blobs[ref.Digest]
		_, isManifest := repo.manifests[ref.Digest]
		return isBlob || isManifest
	})
}

// moves reports whether something that a tag points at would change.
func (repo *mapRepo) moves(d ociregistry.Digest, m mapManifest, tags []string) bool {
	for _, tag := range tags {
		if old, ok := repo.tags[tag]; ok && old != d {
			return true
		}
	}
	return repo.tagsOf(d) > 0 && repo.manifests[d].mediaType != m.mediaType
}

func (repo *mapRepo) tagsOf(d ociregistry.Digest) (n int) {
	for _, to := range repo.tags {
		if to == d {
			n++
		}
	}
	return n
}

// mapRefs is what a manifest names.
type mapRefs struct {
	blobs, manifests []ociregistry.Descriptor
	subject          *ociregistry.Descriptor
	artifactType     string
	annotations      map[string]string
}

func parseRefs(contents []byte, mediaType string) (refs mapRefs, err error) {
	var m struct {
		MediaType                string
		ArtifactType             string
		Config                   ociregistry.Descriptor
		Layers, Blobs, Manifests []ociregistry.Descriptor
		Subject                  *ociregistry.Descriptor
		Annotations              map[string]string
	}
	if mediaType == "" || len(contents) == 0 {
		return refs, errors.New("nothing")
	}
	if mediaType == mediaTypeUnknown {
		return refs, nil
	}
	if err := json.Unmarshal(contents, &m); err != nil {
		return refs, err
	}
	if m.MediaType != "" && m.MediaType != mediaType {
		return refs, errors.New("other media type")
	}
	refs = mapRefs{subject: m.Subject, artifactType: m.ArtifactType, annotations: m.Annotations}
	switch mediaType {
	case ocispec.MediaTypeImageManifest, mediaTypeDockerManifest:
		refs.blobs = append(m.Layers, m.Config)
		if refs.artifactType == "" {
			refs.artifactType = m.Config.MediaType
		}
	case mediaTypeORASArtifact:
		refs.blobs = m.Blobs
	default:
		refs.manifests = m.Manifests
	}
	return refs, nil
}

func (r *mapRegistry) DeleteBlob(ctx context.Context, name string, d ociregistry.Digest) error {
	repo, err := r.existing(name, d)
	if err != nil {
		return err
	}
	if _, isManifest := repo.manifests[d]; isManifest {
		return ociregistry.ErrInUse
	}
	if _, ok := repo.blobs[d]; !ok {
		return ociregistry.ErrBlobUnknown
	}
	if !r.cfg.sparse && !ociregistry.InUseAllowed(ctx) && repo.inUse(d) {
		return ociregistry.ErrInUse
	}
	delete(repo.blobs, d)
	return nil
}

func (r *mapRegistry) DeleteManifest(ctx context.Context, name string, d ociregistry.Digest) error {
	repo, err := r.existing(name, d)
	if err != nil {
		return err
	}
	if _, ok := repo.manifests[d]; !ok {
		return ociregistry.ErrManifestUnknown
	}
	var errs choice
	if !r.cfg.sparse && !ociregistry.InUseAllowed(ctx) && repo.inUse(d) {
		errs = append(errs, ociregistry.ErrInUse)
	}
	if n := repo.tagsOf(d); r.cfg.immutableTags && n > 0 || r.cfg.protectShared && n > 1 {
		errs = append(errs, ociregistry.ErrDenied)
	}
	if errs != nil {
		return errs
	}
	delete(repo.manifests, d)
	maps.DeleteFunc(repo.tags, func(_ string, to ociregistry.Digest) bool { return to == d })
	return nil
}

// inUse reports whether a manifest names d.
func (repo *mapRepo) inUse(d ociregistry.Digest) bool {
	for _, m := range repo.manifests {
		for _, ref := range slices.Concat(m.refs.blobs, m.refs.manifests) {
			if ref.Digest == d {
				return true
			}
		}
	}
	return false
}

func (r *mapRegistry) DeleteTag(_ context.Context, name, tag string) error {
	repo, err := r.existing(name)
	if err != nil {
		if !ociref.IsValidTag(tag) && err == ociregistry.ErrNameUnknown {
			return choice{err, ociregistry.ErrManifestUnknown}
		}
		return err
	}
	if _, ok := repo.tags[tag]; !ok {
		return ociregistry.ErrManifestUnknown
	}
	if r.cfg.immutableTags {
		return ociregistry.ErrDenied
	}
	delete(repo.tags, tag)
	return nil
}
