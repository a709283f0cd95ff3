// Package sweep removes what is left over in a bucket: data that nothing uses, and what only late
// requests could still be about. It decides by the store's clock, and each step is one that other
// processes can make at the same time.
package sweep

import (
	"context"
	"errors"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/news"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/pulls"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A Sweeper removes what is left over.
type Sweeper struct {
	Bucket  *bucket.Bucket
	Blobs   *blobs.Store
	Repos   *repos.Set
	Uploads *uploads.Sessions
	Pulls   *pulls.Log
	Found   func(repo string, f formats.Found) // is told what there is
	Delay   time.Duration                      // how long what is unused stays at least
}

// Run makes all steps. After an error of one it makes the others.
func (s *Sweeper) Run(ctx context.Context) error {
	return errors.Join(s.sessions(ctx), s.repositories(ctx), s.marks(ctx), s.blobs(ctx), s.orphans(ctx), s.multiparts(ctx), s.pulls(ctx), news.Collect(ctx, s.Bucket))
}

// sessions ends sessions that are committing and old, and removes those that have ended.
func (s *Sweeper) sessions(ctx context.Context) error {
	return s.Uploads.Each(ctx, func(f uploads.Found) error {
		if f.Age <= s.Bucket.Grace() {
			return nil
		}
		switch f.Status {
		case formats.Gone:
			return s.Uploads.Remove(ctx, f)
		case formats.Committing:
			_, err := s.Uploads.Expire(ctx, f)
			return err
		}
		return nil
	})
}

// repositories trims logs, and collects manifests' objects. One that fails does not keep others
// from it.
func (s *Sweeper) repositories(ctx context.Context) error {
	var problems []error
	err := s.Bucket.Each(ctx, keys.AllCatalog, func(o objstore.Info) error {
		if k, ok := keys.Parse(o.Key); ok {
			problems = append(problems, s.repository(ctx, k.Repository))
		}
		return ctx.Err()
	})
	return errors.Join(append(problems, err)...)
}

func (s *Sweeper) repository(ctx context.Context, name string) error {
	repo := s.Repos.Open(name)
	defer repo.Release()
	if err := repo.Refresh(ctx); err != nil {
		return err
	}
	return errors.Join(repo.CollectManifests(ctx), s.links(ctx, repo), repo.Trim(ctx))
}

// links removes old links, and tells which others there are: a process that was killed may have told nobody what
// it has changed.
func (s *Sweeper) links(ctx context.Context, repo *repos.Repository) error {
	found := formats.Found{}
	err := repo.View(func(st *repos.State) { found.Number = st.Number() })
	if err == nil {
		found.Links, err = s.Blobs.CollectDead(ctx, repo.Name())
	}
	if err == nil {
		s.Found(repo.Name(), found)
	}
	return err
}

// marks removes what says that somebody should look whether a repository is empty, if it is not.
func (s *Sweeper) marks(ctx context.Context) error {
	old := map[string][]string{}
	err := s.Bucket.Each(ctx, keys.AllMarks, func(o objstore.Info) error {
		if k, ok := keys.Parse(o.Key); ok && o.Date.Sub(o.LastModified) > s.Bucket.Grace() {
			old[k.Repository] = append(old[k.Repository], o.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name, marks := range old {
		repo := s.Repos.Open(name)
		exists, err := s.Blobs.Exists(ctx, repo)
		repo.Release()
		if err != nil {
			return err
		}
		for _, mark := range marks {
			if !exists {
				break
			}
			if err := s.Bucket.Remove(ctx, mark); err != nil {
				return err
			}
		}
	}
	return nil
}

// blobs takes markers and references one step further to their end.
func (s *Sweeper) blobs(ctx context.Context) error {
	return s.Bucket.Each(ctx, keys.AllBlobs, func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		switch {
		case !ok:
			return nil
		case k.Kind == keys.KindMarker:
			return s.Blobs.CollectMarker(ctx, k.Digest, k.Name, s.Delay)
		case k.Kind == keys.KindReference:
			return s.Blobs.CollectReference(ctx, k, o.Date.Sub(o.LastModified))
		}
		return nil
	})
}

// orphans removes data that no session and no marker names. The order of the lists matters: data is
// named by a session first, and then by a marker.
func (s *Sweeper) orphans(ctx context.Context) error {
	old := map[string]bool{}
	err := s.Bucket.Each(ctx, keys.AllData, func(o objstore.Info) error {
		if k, ok := keys.Parse(o.Key); ok && o.Date.Sub(o.LastModified) > s.Bucket.Grace() {
			old[k.Name] = true
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	err = s.Uploads.Each(ctx, func(f uploads.Found) error {
		delete(old, f.Data)
		delete(old, f.Tail)
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Bucket.Each(ctx, keys.AllBlobs, func(o objstore.Info) error {
		if k, ok := keys.Parse(o.Key); ok && k.Kind == keys.KindMarker {
			delete(old, k.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name := range old {
		if err := s.Bucket.Remove(ctx, keys.Data(name)); err != nil {
			return err
		}
	}
	return nil
}

// multiparts ends uploads that are old and that no session has.
func (s *Sweeper) multiparts(ctx context.Context) error {
	var old []objstore.Multipart
	opts := objstore.MultipartOptions{Prefix: s.Bucket.Key(keys.AllData)}
	for {
		page, err := s.Bucket.ListMultiparts(ctx, opts)
		if err != nil {
			return err
		}
		for _, up := range page.Uploads {
			k, ok := keys.Parse(s.Bucket.Cut(up.Key))
			if ok && k.Kind == keys.KindData && page.Date.Sub(up.Created) > s.Bucket.Grace() {
				old = append(old, up)
			}
		}
		if opts.Next = page.Next; opts.Next == "" {
			break
		}
	}
	if len(old) == 0 {
		return nil
	}
	inUse := map[string]bool{}
	err := s.Uploads.Each(ctx, func(f uploads.Found) error {
		inUse[f.Data] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, up := range old {
		k, _ := keys.Parse(s.Bucket.Cut(up.Key))
		if inUse[k.Name] {
			continue
		}
		if _, err := s.Bucket.AbortMultipart(ctx, up); err != nil && !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
	}
	return nil
}

// pulls makes few lists of pulls of many. A repository that cannot be read keeps what is known of it.
func (s *Sweeper) pulls(ctx context.Context) error {
	return s.Pulls.Merge(ctx, func(name string, digest ociregistry.Digest) (there bool, err error) {
		repo := s.Repos.Open(name)
		defer repo.Release()
		if repo.Load(ctx) != nil {
			return true, ctx.Err()
		}
		err = repo.View(func(st *repos.State) { there = st.Manifest(digest) != nil })
		return there, err
	})
}
