package ocibucket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Problem is a defect that [Registry.Verify] found.
type Problem struct {
	Repository string
	Digest     ociregistry.Digest // of the blob or manifest; empty if the problem is the repository's
	Tag        string             // a tag that points at the manifest, or empty
	Err        error              // what is wrong
}

// String describes the problem on one line.
func (p Problem) String() string {
	s := p.Repository
	if p.Tag != "" {
		s += ":" + p.Tag
	}
	if p.Digest != "" {
		s += "@" + string(p.Digest)
	}
	return s + ": " + p.Err.Error()
}

// The errors of a [Problem]. Others are those of the store, those of objects that cannot be decoded, and
// [ociregistry.ErrManifestInvalid].
var (
	// ErrDamaged means that bytes do not match their digest. Delete the content, or let a collection remove
	// it, and push it again.
	ErrDamaged = blobs.ErrDamaged

	// ErrMissing means that something is named but absent: a blob or manifest, bytes, or an object without which a collection would remove bytes. A registry with
	// [Options.Sparse] does not report missing content that manifests name. Any other also reports
	// content that was allowed to be missing ([ociregistry.AllowMissing], [ociregistry.AllowInUse]).
	ErrMissing = blobs.ErrMissing
)

// Verify reads everything in the registry, from the bucket and not from memory, and yields the problems that it finds. It
// checks that all bytes match their digests, that everything that manifests name exists. Problems come repository by repository, in byte order of the names. Verify changes
// nothing, and can run while the registry is in use. The caller may leave the loop at any time.
//
// It makes four requests for each blob of a repository, and one for each manifest.
//
// An error is the last element. It is that of the context, or means that the bucket cannot be listed, or
// that it has no registry.
func (r *Registry) Verify(ctx context.Context) iter.Seq2[Problem, error] {
	return func(yield func(Problem, error) bool) {
		v := &verification{
			Registry: r, ctx: ctx, yield: yield,
			repos: repos.NewSet(r.bucket, repos.Options{ReadOnly: true, Keep: func(ociregistry.Digest, string) {}, Log: r.log}),
			blobs: blobs.NewVerifier(r.blobs),
		}
		defer v.repos.Close()
		if err := v.run(); err != nil && !errors.Is(err, errStopped) {
			yield(Problem{}, opError(err, "Verify", "", ""))
		}
	}
}

// verification is a run of Verify.
type verification struct {
	*Registry
	ctx   context.Context
	yield func(Problem, error) bool
	repos *repos.Set // which has read nothing before
	blobs *blobs.Verifier
}

// errStopped is the error of what ends because the caller has left the loop.
var errStopped = errors.New("the caller wants no more problems")

func (v *verification) run() error {
	there, err := v.bucket.Read(v.ctx, keys.Options, maxShared)
	switch {
	case err != nil:
		return err
	case !there.Found:
		return errors.New("there is no registry in the bucket")
	}
	return v.bucket.Each(v.ctx, keys.AllCatalog, func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok {
			return nil
		}
		return v.repository(k.Repository)
	})
}

// report yields problems. It fails if that was the last one, or the context has ended: what ended with it is
// no problem.
func (v *verification) report(problems ...Problem) error {
	for _, p := range problems {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if !v.yield(p, nil) {
			return errStopped
		}
	}
	return v.ctx.Err()
}

func (v *verification) repository(name string) error {
	repo := v.repos.Open(name)
	defer repo.Release()
	if err := repo.Refresh(v.ctx); err != nil {
		if err := v.report(Problem{Repository: name, Err: err}); err != nil {
			return err
		}
	}
	sizes := map[ociregistry.Digest]int64{}
	if err := v.links(repo, sizes); err != nil {
		return err
	}
	var digests []ociregistry.Digest
	repo.View(func(s *repos.State) {
		s.EachManifest(func(digest ociregistry.Digest, _ int64, _ ociregistry.Digest) { digests = append(digests, digest) })
	})
	slices.Sort(digests)
	for chunk := range slices.Chunk(digests, verifyChunk) {
		found := make([][]Problem, len(chunk))
		parallel.Do(linkReaders, len(chunk), func(i int) error {
			found[i] = v.manifest(repo, chunk[i], sizes)
			return v.ctx.Err()
		})
		if err := v.report(slices.Concat(found...)...); err != nil {
			return err
		}
	}
	return nil
}

// verifyChunk is how many things are checked before their problems are reported.
const verifyChunk = 256

// links checks the blobs of a repository, and notes the sizes of those that are there.
func (v *verification) links(repo *repos.Repository, sizes map[ociregistry.Digest]int64) error {
	opts := objstore.ListOptions{Prefix: keys.Links(repo.Name())}
	for {
		page, err := v.bucket.List(v.ctx, opts)
		if err != nil {
			return err
		}
		var digests []ociregistry.Digest
		for _, o := range page.Objects {
			if k, ok := keys.Parse(o.Key); ok && o.Size != formats.DeadLinkSize {
				digests = append(digests, k.Digest)
			}
		}
		links, errs := make([]blobs.Link, len(digests)), make([]error, len(digests))
		parallel.Do(linkReaders, len(digests), func(i int) error {
			links[i], errs[i] = v.blobs.Verify(v.ctx, repo.Name(), digests[i])
			return v.ctx.Err()
		})
		for i, digest := range digests {
			if v.blobs.Lives(links[i]) {
				sizes[digest] = links[i].Size
			}
			if errs[i] != nil {
				if err := v.report(Problem{Repository: repo.Name(), Digest: digest, Err: errs[i]}); err != nil {
					return err
				}
			}
		}
		if opts.Next = page.Next; opts.Next == "" {
			return v.ctx.Err()
		}
	}
}

// manifest checks a manifest and what it names, given the sizes of blobs.
func (v *verification) manifest(repo *repos.Repository, digest ociregistry.Digest, sizes map[ociregistry.Digest]int64) (found []Problem) {
	add := func(digest ociregistry.Digest, tag string, err error) {
		found = append(found, Problem{Repository: repo.Name(), Digest: digest, Tag: tag, Err: err})
	}
	info, err := v.parse(repo, digest)
	switch {
	case errors.Is(err, ErrMissing) && !v.isStill(repo.Name(), digest):
	case errors.Is(err, ErrMissing):
		tags := []string{""}
		repo.View(func(s *repos.State) {
			if t := s.TagsOf(s.Manifest(digest)); len(t) > 0 {
				tags = t
			}
		})
		for _, tag := range tags {
			add(digest, tag, err)
		}
	case err != nil:
		add(digest, "", err)
	case !v.opts.Sparse:
		for _, ref := range slices.Concat(info.Blobs, info.Manifests) {
			if err := v.named(repo, digest, ref, sizes); err != nil {
				add(ref.Digest, "", err)
			}
		}
	}
	return found
}

// parse reads a manifest.
func (v *verification) parse(repo *repos.Repository, digest ociregistry.Digest) (info manifest.Info, err error) {
	var desc ociregistry.Descriptor
	text, there := "", false
	repo.View(func(s *repos.State) {
		desc = s.Manifest(digest).Descriptor()
		text, there = s.Text(digest)
	})
	if !there {
		text, there, err = repo.ReadManifest(v.ctx, digest, desc.Size)
	}
	switch {
	case err != nil:
		return info, err
	case !there:
		return info, ErrMissing
	case !verified.IsOf(digest, []byte(text)):
		return info, ErrDamaged
	}
	return manifest.Parse(desc.MediaType, text)
}

// named checks that what a manifest names is there.
func (v *verification) named(repo *repos.Repository, by ociregistry.Digest, ref manifest.Ref, sizes map[ociregistry.Digest]int64) error {
	if ref.Elsewhere || ociregistry.CheckDigest(ref.Digest) != nil {
		return nil
	}
	size, there := sizes[ref.Digest]
	repo.View(func(s *repos.State) {
		if m := s.Manifest(ref.Digest); m != nil {
			size, there = m.Size, true
		}
	})
	if there {
		return ref.CheckSize(size)
	}
	l, err := v.blobs.Read(v.ctx, repo.Name(), ref.Digest) // it may be new
	if err != nil || v.blobs.Lives(l) || !v.isStill(repo.Name(), by) {
		return nil // that it cannot be read was reported
	}
	return fmt.Errorf("%w: manifest %s names it with %d bytes", ErrMissing, by, ref.Size)
}

// isStill reports whether a repository has a manifest now.
func (v *verification) isStill(name string, digest ociregistry.Digest) bool {
	repo := v.Registry.repos.Open(name)
	defer repo.Release()
	_, _, err := v.find(v.ctx, repo, byDigest(name, digest))
	return err == nil
}
