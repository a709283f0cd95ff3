package ocifs

import (
	"context"
	"errors"
	"iter"
	"runtime"

	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/refs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories]. It reads a directory
// only when the iteration reaches it. Repositories that cannot be read are omitted,
// and reported to [Options.Logger].
func (r *Registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := r.repositories(ctx, startAfter, yield); err != nil {
			yield("", opError(err, "Repositories", "", ""))
		}
	}
}

func (r *Registry) repositories(ctx context.Context, startAfter string, yield func(string, error) bool) error {
	if err := r.repos.Usable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	list := func(name, dir string) (more bool, err error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		has, err := r.repos.Exists(name, dir)
		if disk.IsExhausted(err) {
			return false, err
		}
		if err != nil {
			r.notListed(name, err)
		}
		if !has || err != nil {
			return true, nil
		}
		return yield(name, nil), nil
	}
	return r.repos.EachDir(startAfter, list, r.notListed)
}

func (r *Registry) notListed(name string, err error) {
	r.log.Warn("a repository cannot be read, and is not listed", "repository", name, "error", err)
}

// Tags implements [ociregistry.Lister.Tags].
func (r *Registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return ociregistry.ErrorSeq[string](opError(err, "Tags", repo, ""))
	}
	return func(yield func(string, error) bool) {
		if err := r.tags(ctx, repo, startAfter, yield); err != nil {
			yield("", opError(err, "Tags", repo, ""))
		}
	}
}

func (r *Registry) tags(ctx context.Context, name, startAfter string, yield func(string, error) bool) error {
	var dangling []bool // for the names of a batch
	return ordered.List(ctx, startAfter, func(names []string, after string) ([]string, error) {
		repo, err := r.repos.Open(name)
		if errors.Is(err, ociregistry.ErrNameUnknown) && after != startAfter {
			return nil, nil // deleted meanwhile, with its tags
		}
		if err != nil {
			return nil, err
		}
		defer repo.Release()
		var unsure []*repostate.Manifest
		repo.View(func(s *repostate.State) {
			names = s.AppendTags(names, after, ordered.BatchSize)
			unsure = s.Unsure(names)
		})
		if len(names) == 0 && after == startAfter {
			return nil, repo.Missing(nil)
		}
		dangling, err = areAbsent(repo, unsure)
		return names, err
	}, func(names []string) (bool, error) {
		for i, tag := range names {
			if dangling != nil && dangling[i] {
				continue
			}
			if !yield(tag, nil) {
				return false, nil
			}
		}
		return true, nil
	})
}

// areAbsent reports for each of the manifests, which may be nil, whether it is
// absent: another program's tag may point at a manifest that is not there. If the
// system cannot tell, the manifest counts as present. Manifests found present are not
// checked again.
func areAbsent(repo *repos.Repository, manifests []*repostate.Manifest) ([]bool, error) {
	if manifests == nil {
		return nil, nil
	}
	absent := make([]bool, len(manifests))
	err := parallel.Do(2*runtime.GOMAXPROCS(0), len(manifests), func(i int) error {
		m := manifests[i]
		if m == nil {
			return nil
		}
		present, err := content.IsPresent(repo, m)
		absent[i] = err == nil && !present
		switch {
		case disk.IsExhausted(err):
			return err
		case err != nil:
			repo.Warn("a manifest that has a tag cannot be looked at", "digest", m.Digest, "error", err)
		}
		return nil
	})
	repo.Update(func(s *repostate.State) {
		for i, m := range manifests {
			if m != nil && !absent[i] {
				s.SetSure(m)
			}
		}
	})
	return absent, err
}

// Referrers implements [ociregistry.Lister.Referrers].
func (r *Registry) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](opError(err, "Referrers", repo, string(digest)))
	}
	return func(yield func(ociregistry.Descriptor, error) bool) {
		if err := r.referrers(ctx, repo, digest, artifactType, yield); err != nil {
			yield(ociregistry.Descriptor{}, opError(err, "Referrers", repo, string(digest)))
		}
	}
}

func (r *Registry) referrers(ctx context.Context, name string, digest ociregistry.Digest, artifactType string, yield func(ociregistry.Descriptor, error) bool) error {
	repo := r.repos.Use(name)
	defer repo.Release()
	return ordered.List(ctx, string(ociregistry.ReferrersAfter(ctx)), func(digests []string, after string) ([]string, error) {
		err := repo.Find()
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			return nil, nil // no referrers
		}
		if err == nil {
			err = refs.ReadAll(repo)
		}
		if err != nil {
			return nil, err
		}
		repo.View(func(s *repostate.State) { digests = s.AppendReferrers(digests, digest, after, ordered.BatchSize) })
		return digests, nil
	}, func(referrers []string) (bool, error) {
		for _, digest := range referrers {
			desc, ok, err := referrer(repo, ociregistry.Digest(digest), artifactType)
			if err != nil {
				return false, err
			}
			if ok && !yield(desc, nil) {
				return false, nil
			}
		}
		return true, nil
	})
}

// referrer returns the descriptor with which a manifest is listed as a referrer, if
// the manifest is present and has the artifact type.
func referrer(repo *repos.Repository, digest ociregistry.Digest, artifactType string) (desc ociregistry.Descriptor, ok bool, err error) {
	var m *repostate.Manifest
	repo.View(func(s *repostate.State) { m = s.Manifest(digest) })
	if m == nil || artifactType != "" && m.ArtifactType != artifactType {
		return desc, false, nil // deleted meanwhile, or of another type
	}
	info, err := refs.Info(repo, m)
	if disk.IsExhausted(err) {
		return desc, false, err
	}
	if err != nil && repo.HasManifest(digest) { // otherwise it was just deleted
		repo.Warn("a referrer cannot be read, and is not listed", "digest", digest, "error", err)
	}
	if err != nil {
		return desc, false, nil
	}
	desc = m.Descriptor()
	desc.ArtifactType = m.ArtifactType
	desc.Annotations = info.Annotations
	return desc, true, nil
}
