package ocifs

import (
	"context"
	"errors"
	"iter"
	"runtime"

	"github.com/seed-40b21970/oci/ociregistry"
)

// batchSize is how many names are read at a time, so that no lock is held while
// the caller has an element. It is a little more than a page of 100.
const batchSize = 128

// Repositories implements [ociregistry.Lister.Repositories]. It reads the
// directories as it comes to them. Repositories that cannot be read are left out,
// and the logger is told of them.
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
		has, err := r.holdsSomething(name)
		if isExhausted(err) {
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
	if r.single == "" {
		return walkRepos(r.fs, r.dir, startAfter, list, r.notListed)
	}
	if r.single <= startAfter {
		return nil
	}
	_, err := list(r.single, r.dir)
	return err
}

func (r *Registry) notListed(name string, err error) {
	r.log.Warn("a repository cannot be read, and is not listed", "repository", name, "error", err)
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
		if err != nil {
			return false, err
		}
		if index == nil {
			return false, repo.checkNoBlobs()
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
		if err != nil {
			return nil, nil, err
		}
		repo.mu.RLock()
		names = repo.state.tagNames.AppendAfter(names, after, batchSize)
		unsure := repo.state.unsureOf(names)
		repo.mu.RUnlock()
		if len(names) == 0 && after == startAfter {
			return nil, nil, repo.missing(nil)
		}
		dangling, err := repo.areAbsent(unsure)
		return names, func(i int) (bool, error) {
			if dangling != nil && dangling[i] {
				return true, nil
			}
			return yield(names[i], nil), nil
		}, err
	})
}

// unsureOf returns, for each of the tags, the manifest that it points at if the file
// of that was not seen yet, else nil; if there is no such tag, it returns nil.
func (s *state) unsureOf(tags []string) []*stored {
	if len(s.unsure) == 0 {
		return nil
	}
	manifests := make([]*stored, len(tags))
	for i, name := range tags {
		if m := s.tags[name].manifest; s.isUnsure(m) {
			manifests[i] = m
		}
	}
	return manifests
}

func (s *state) isUnsure(m *stored) bool {
	_, unsure := s.unsure[m]
	return unsure
}

// areAbsent reports of each of the manifests, which may be nil, whether it is not
// there: another program's tag may point at one that is not. One of which the system
// does not tell is taken to be there. Those that are there are not asked for again.
func (repo *repository) areAbsent(manifests []*stored) ([]bool, error) {
	if manifests == nil {
		return nil, nil
	}
	absent := make([]bool, len(manifests))
	err := parallel(2*runtime.GOMAXPROCS(0), len(manifests), func(i int) error {
		m := manifests[i]
		if m == nil {
			return nil
		}
		present, err := repo.isPresent(m)
		absent[i] = err == nil && !present
		switch {
		case isExhausted(err):
			return err
		case err != nil:
			repo.registry.log.Warn("a manifest that has a tag cannot be looked at", "repository", repo.name, "digest", m.digest, "error", err)
		}
		return nil
	})
	repo.mu.Lock()
	defer repo.mu.Unlock()
	for i, m := range manifests {
		if m != nil && !absent[i] && (m.contents != "" || m.present.Load()) {
			delete(repo.state.unsure, m)
		}
	}
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
	return batches(ctx, string(ociregistry.ReferrersAfter(ctx)), func(digests []string, after string) ([]string, func(int) (bool, error), error) {
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
	info, err := repo.info(m)
	if isExhausted(err) {
		return desc, false, err
	}
	if err != nil && repo.hasChild(digest) { // else it was just deleted
		repo.registry.log.Warn("a referrer cannot be read, and is not listed", "repository", repo.name, "digest", digest, "error", err)
	}
	if err != nil {
		return desc, false, nil
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
