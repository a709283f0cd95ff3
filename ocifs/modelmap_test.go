package ocifs_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// mapRegistry is the contract in its simplest form, for one goroutine. Where the
// contract leaves a choice, its errors have all of them. Several can have the same
// content, as processes have that share a directory.
type mapRegistry struct {
	*ociregistry.Funcs
	*mapState

	cfg mapConfig
}

type mapState struct {
	repos   map[string]*mapRepo
	uploads []*mapUpload
}

type mapConfig struct {
	sparse, immutableTags, protectShared bool
	keeping                              bool // other processes know of each Write
}

type mapRepo struct {
	blobs     map[ociregistry.Digest]string
	manifests map[ociregistry.Digest]mapManifest
	tags      map[string]ociregistry.Digest
}

type mapManifest struct {
	mediaType, contents string
	refs                mapRefs
}

// choice is an error that may be any of several.
type choice []error

func (c choice) Error() string { return fmt.Sprintf("one of %v", []error(c)) }

var (
	errUnspecified = errors.New("unspecified")
	errAny         = errors.New("any error")
)

func newMapRegistry(cfg mapConfig) *mapRegistry {
	return &mapRegistry{mapState: &mapState{repos: make(map[string]*mapRepo)}, cfg: cfg}
}

// another returns another process's view of the same registry.
func (r *mapRegistry) another() *mapRegistry { return &mapRegistry{mapState: r.mapState, cfg: r.cfg} }

// repo returns the repository of a name, which is empty if it does not exist. A
// digest may be left out.
func (r *mapRegistry) repo(name string, digests ...ociregistry.Digest) (*mapRepo, error) {
	if !ociref.IsValidRepository(name) {
		return nil, ociregistry.ErrNameInvalid
	}
	for _, d := range digests {
		if !ociref.IsValidDigest(string(d)) {
			return nil, ociregistry.ErrDigestInvalid
		}
	}
	if r.repos[name] == nil {
		r.repos[name] = &mapRepo{
			make(map[ociregistry.Digest]string), make(map[ociregistry.Digest]mapManifest), make(map[string]ociregistry.Digest),
		}
	}
	return r.repos[name], nil
}

func (repo *mapRepo) exists() bool { return len(repo.blobs)+len(repo.manifests) > 0 }

// existing is repo, but for repositories that exist.
func (r *mapRegistry) existing(name string, digests ...ociregistry.Digest) (*mapRepo, error) {
	repo, err := r.repo(name, digests...)
	if err == nil && !repo.exists() {
		err = ociregistry.ErrNameUnknown
	}
	return repo, err
}

func (r *mapRegistry) blob(name string, d ociregistry.Digest) (string, error) {
	repo, err := r.existing(name, d)
	if err != nil {
		return "", err
	}
	data, ok := repo.blobs[d]
	if _, isManifest := repo.manifests[d]; isManifest && !ok {
		return "", errUnspecified
	}
	if !ok {
		return "", ociregistry.ErrBlobUnknown
	}
	return data, nil
}

func blobDesc(d ociregistry.Digest, data string) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(data))}
}

func (r *mapRegistry) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.GetBlobRange(ctx, repo, d, 0, -1)
}

func (r *mapRegistry) GetBlobRange(_ context.Context, repo string, d ociregistry.Digest, start, end int64) (ociregistry.BlobReader, error) {
	data, err := r.blob(repo, d)
	if err != nil {
		return nil, err
	}
	if start < 0 || start > int64(len(data)) || end >= 0 && end < start {
		return nil, ociregistry.ErrRangeInvalid
	}
	if end < 0 || end > int64(len(data)) {
		end = int64(len(data))
	}
	return &mapReader{strings.NewReader(data[start:end]), blobDesc(d, data)}, nil
}

func (r *mapRegistry) ResolveBlob(_ context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	data, err := r.blob(repo, d)
	return blobDesc(d, data), err
}

func (r *mapRegistry) GetManifest(_ context.Context, name string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	repo, err := r.existing(name, d)
	if err != nil {
		return nil, err
	}
	m, ok := repo.manifests[d]
	if !ok {
		return nil, ociregistry.ErrManifestUnknown
	}
	return &mapReader{strings.NewReader(m.contents), m.desc(d)}, nil
}

func (r *mapRegistry) ResolveManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return resolved(r.GetManifest(ctx, repo, d))
}

func (r *mapRegistry) GetTag(ctx context.Context, name, tag string) (ociregistry.BlobReader, error) {
	repo, err := r.existing(name)
	if err != nil {
		if !ociref.IsValidTag(tag) && err == ociregistry.ErrNameUnknown {
			return nil, choice{err, ociregistry.ErrManifestUnknown}
		}
		return nil, err
	}
	d, ok := repo.tags[tag]
	if !ok {
		return nil, ociregistry.ErrManifestUnknown
	}
	return r.GetManifest(ctx, name, d)
}

func (r *mapRegistry) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	return resolved(r.GetTag(ctx, repo, tag))
}

func resolved(r ociregistry.BlobReader, err error) (ociregistry.Descriptor, error) {
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	return r.Descriptor(), nil
}

type mapReader struct {
	*strings.Reader
	desc ociregistry.Descriptor
}

func (r *mapReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *mapReader) Close() error                       { return nil }

func (r *mapRegistry) Repositories(_ context.Context, startAfter string) iter.Seq2[string, error] {
	var names []string
	for name, repo := range r.repos {
		if repo.exists() && name > startAfter {
			names = append(names, name)
		}
	}
	return ociregistry.SliceSeq(slices.Sorted(slices.Values(names)))
}

func (r *mapRegistry) Tags(_ context.Context, name, startAfter string) iter.Seq2[string, error] {
	repo, err := r.existing(name)
	if err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	tags := slices.Sorted(maps.Keys(repo.tags))
	return ociregistry.SliceSeq(slices.DeleteFunc(tags, func(tag string) bool { return tag <= startAfter }))
}

func (r *mapRegistry) Referrers(_ context.Context, name string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	repo, err := r.repo(name, d)
	if err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	var descs []ociregistry.Descriptor
	for _, d2 := range slices.Sorted(maps.Keys(repo.manifests)) {
		m := repo.manifests[d2]
		if m.refs.subject != nil && m.refs.subject.Digest == d && (artifactType == "" || artifactType == m.refs.artifactType) {
			desc := m.desc(d2)
			desc.ArtifactType, desc.Annotations = m.refs.artifactType, m.refs.annotations
			descs = append(descs, desc)
		}
	}
	return ociregistry.SliceSeq(descs)
}
