package ocifs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"runtime"
	"slices"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// batchSize is how many names are read at a time, so that no lock is held while
// the caller has an element. It is a little more than a page of 100.
const batchSize = 128

// Repositories implements [ociregistry.Lister.Repositories]. It reads the
// directories as it comes to them.
func (r *Registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := r.repositories(ctx, startAfter, yield); err != nil {
			yield("", opError(err, "Repositories", "", ""))
		}
	}
}

func (r *Registry) repositories(ctx context.Context, startAfter string, yield func(string, error) bool) error {
	if err := r.usable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	list := func(name, dir string) (more bool, err error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if has, err := r.holdsSomething(name); !has || err != nil {
			return true, err
		}
		return yield(name, nil), nil
	}
	if r.single == "" {
		return walkRepos(r.fs, r.dir, startAfter, list)
	}
	if r.single <= startAfter {
		return nil
	}
	_, err := list(r.single, r.dir)
	return err
}

// holdsSomething reports whether a repository exists. Most are not read for
// that: a file below blobs is enough, unless the journal may say that it is none.
func (r *Registry) holdsSomething(name string) (bool, error) {
	repo := r.repository(name)
	journal, err := r.lstat(repo.journal)
	if err != nil {
		return false, err
	}
	if journal == nil || journal.Size() <= int64(headerLen) {
		index, err := r.lstat(repo.index)
		if index == nil || err != nil {
			return false, err
		}
		return repo.hasBlobs()
	}
	repo, err = r.open(name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return repo.exists()
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
	return batches(ctx, startAfter, func(names []string, after string) ([]string, func(int) (bool, error), error) {
		repo, err := r.open(name)
		if errors.Is(err, ociregistry.ErrNameUnknown) && after != startAfter {
			return nil, nil, nil // it is gone now, and so are its tags
		}
		if err == nil {
			err = repo.findAbsent()
		}
		if err != nil {
			return nil, nil, err
		}
		repo.mu.RLock()
		names = repo.state.tagNames.AppendAfter(names, after, batchSize)
		sure := len(repo.state.unsure) == 0
		repo.mu.RUnlock()
		if len(names) == 0 && after == startAfter {
			return nil, nil, repo.missing(nil)
		}
		return names, func(i int) (bool, error) {
			if sure {
				return yield(names[i], nil), nil
			}
			if dangling, err := repo.isDangling(names[i]); dangling || err != nil {
				return true, err
			}
			return yield(names[i], nil), nil
		}, nil
	})
}

// findAbsent finds out which of the manifests that index.json names are not there.
// Each is looked for once; those that are absent, each time.
func (repo *repository) findAbsent() error {
	repo.mu.RLock()
	unsure := slices.Collect(maps.Keys(repo.state.unsure))
	repo.mu.RUnlock()
	if len(unsure) == 0 {
		return nil
	}
	err := parallel(2*runtime.GOMAXPROCS(0), len(unsure), func(i int) error {
		_, err := repo.isPresent(unsure[i])
		return err
	})
	repo.mu.Lock()
	defer repo.mu.Unlock()
	for _, m := range unsure {
		if m.contents != "" || m.present.Load() {
			delete(repo.state.unsure, m)
		}
	}
	return err
}

// isDangling reports whether a tag points at a manifest that is not there: another
// program's tag may.
func (repo *repository) isDangling(tag string) (bool, error) {
	repo.mu.RLock()
	unsure := false
	t := repo.state.tags[tag]
	var m *stored
	if t != nil { // it was not just deleted
		m = t.manifest
		_, unsure = repo.state.unsure[m]
	}
	repo.mu.RUnlock()
	if !unsure {
		return false, nil
	}
	// The state may have been read anew since findAbsent looked.
	present, err := repo.isPresent(m)
	return !present, err
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
	return batches(ctx, "", func(digests []string, after string) ([]string, func(int) (bool, error), error) {
		repo, err := r.open(name)
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			return nil, nil, nil // it has none
		}
		if err == nil {
			err = repo.readAll()
		}
		if err != nil {
			return nil, nil, err
		}
		repo.mu.RLock()
		defer repo.mu.RUnlock()
		if set := repo.state.referrers[digest]; set != nil {
			digests = set.AppendAfter(digests, after, batchSize)
		}
		return digests, func(i int) (bool, error) {
			desc, ok, err := repo.referrer(ociregistry.Digest(digests[i]), artifactType)
			if !ok || err != nil {
				return true, err
			}
			return yield(desc, nil), nil
		}, nil
	})
}

// referrer returns the descriptor that a manifest is listed with as a referrer,
// if it is there and of that type.
func (repo *repository) referrer(digest ociregistry.Digest, artifactType string) (desc ociregistry.Descriptor, ok bool, err error) {
	repo.mu.RLock()
	m := repo.state.manifests[digest]
	repo.mu.RUnlock()
	if m == nil || artifactType != "" && m.artifactType != artifactType {
		return desc, false, nil // deleted meanwhile, or of another type
	}
	text, err := repo.contents(m)
	if errors.Is(err, fs.ErrNotExist) {
		return desc, false, nil
	}
	if err != nil {
		return desc, false, err
	}
	info, err := manifest.Parse(m.mediaType, text)
	if err != nil {
		return desc, false, err
	}
	desc = m.desc()
	desc.ArtifactType = m.artifactType
	desc.Annotations = info.Annotations
	return desc, true, nil
}

// batches calls yield for the index of each of the strings that next returns,
// batch by batch, until it reports false or an error. The strings are in order;
// those of the next batch come after the last one.
func batches(ctx context.Context, after string, next func(batch []string, after string) (_ []string, yield func(i int) (bool, error), _ error)) error {
	batch := make([]string, 0, batchSize)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, yield, err := next(batch[:0], after)
		if err != nil {
			return err
		}
		for i := range next {
			if more, err := yield(i); !more || err != nil {
				return err
			}
		}
		if len(next) < batchSize {
			return nil
		}
		after = next[len(next)-1]
	}
}
