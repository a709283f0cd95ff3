package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Problem is something that Verify found.
type Problem struct {
	Repo   string
	Digest ociregistry.Digest // of the blob or manifest, or empty if it is about the repository
	Tag    string             // that points at it, or empty
	Err    error
}

func (p Problem) String() string {
	s := p.Repo
	if p.Tag != "" {
		s += ":" + p.Tag
	}
	if p.Digest != "" {
		s += "@" + string(p.Digest)
	}
	return s + ": " + p.Err.Error()
}

// Errors of a [Problem]. Others are those of the filesystem, of index.json that
// cannot be read, and [ociregistry.ErrManifestInvalid].
var (
	// ErrDamaged is for a file whose bytes are not those that its name stands
	// for. To push the content again repairs it.
	ErrDamaged = errors.New("content is not what its digest says")

	// ErrNoIndex is for a repository that has blobs and no index.json, and whose
	// journal does not say anything. It was lost, or another program is about to
	// write it. Calls about such a repository return ErrNoIndex, too; they change
	// nothing.
	ErrNoIndex = errors.New("there are blobs and no index.json")

	// ErrMissing is for content that is named and not there. A Registry that is
	// Sparse does not report what manifests name; another also reports what was
	// allowed to be missing ([ociregistry.AllowMissing], [ociregistry.AllowInUse]).
	ErrMissing = errors.New("content is missing")
)

// Verify reads all that the registry has, checks that each file has the bytes of
// its name and that all is there that index.json and manifests name, and yields
// what is wrong, repository by repository in byte order of their names. It changes
// nothing, and can run while the registry is used. The caller may leave the loop at
// any time.
//
// The error, which is the last element, is that of the context, or says that the
// directory itself cannot be read.
func (r *Registry) Verify(ctx context.Context) iter.Seq2[Problem, error] {
	return func(yield func(Problem, error) bool) {
		err := r.usable()
		if err == nil {
			err = r.eachDir(func(name, dir string) (bool, error) {
				v := verification{ctx: ctx, registry: r, name: name, yield: yield}
				v.repository()
				if v.stopped {
					return false, nil
				}
				return true, ctx.Err()
			}, func(name string, err error) { })
		}
		if err != nil {
			yield(Problem{}, opError(err, "Verify", "", ""))
		}
	}
}

// verification is Verify of one repository.
type verification struct {
	ctx      context.Context
	registry *Registry
	name     string
	yield    func(Problem, error) bool
	stopped  bool
}

func (v *verification) report(digest ociregistry.Digest, tag string, err error) {
	if !v.stopped && v.ctx.Err() == nil {
		v.stopped = !v.yield(Problem{v.name, digest, tag, err}, nil)
	}
}

func (v *verification) repository() {
	repo, err := v.registry.open(v.name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return
	}
	if err != nil {
		v.report("", "", err)
		return
	}
	v.files(repo)
	for _, m := range repo.all() {
		if v.stopped || v.ctx.Err() != nil {
			return
		}
		v.manifest(repo, m)
	}
}

// all returns the manifests that are known.
func (repo *repository) all() []*stored {
	repo.readAll() // what cannot be read is found again
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	manifests := make([]*stored, 0, len(repo.state.manifests))
	for _, m := range repo.state.manifests {
		manifests = append(manifests, m)
	}
	return manifests
}

// files checks the bytes of all files of blobs.
func (v *verification) files(repo *repository) {
	stop := errors.New("stopped")
	err := v.registry.eachBlob(repo.dir, func(digest ociregistry.Digest, _ fs.FileInfo) error {
		if err := v.file(repo, digest); err != nil {
			v.report(digest, "", err)
		}
		if v.stopped || v.ctx.Err() != nil {
			return stop
		}
		return nil
	})
	if err != nil && err != stop {
		v.report("", "", err)
	}
}

func (v *verification) file(repo *repository, digest ociregistry.Digest) error {
	err := v.registry.store.verify(v.ctx, repo.dir, digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, err := v.registry.fs.Lstat(blobPath(repo.dir, digest)); err == nil && info.Mode().IsRegular() {
		return ErrDamaged // it is empty
	}
	return nil // it was just deleted
}

// manifest checks that a manifest is there, and what it names.
func (v *verification) manifest(repo *repository, m *stored) {
	text, err := repo.contents(m)
	if errors.Is(err, fs.ErrNotExist) {
		v.missing(repo, m)
		return
	}
	var info manifest.Info
	if err == nil {
		info, err = manifest.Parse(m.mediaType, text)
	}
	if err != nil {
		v.report(m.digest, "", err)
		return
	}
	if v.registry.opts.Sparse {
		return
	}
	refs := append(info.Blobs[:len(info.Blobs):len(info.Blobs)], info.Manifests...)
	for _, ref := range refs {
		if ref.Elsewhere || repo.hasChild(ref.Digest) {
			continue
		}
		_, err := repo.blobSize(ref.Digest, ref.Size)
		if doubt := new(doubtError); errors.As(err, &doubt) {
			_, err = repo.soundSize(ref.Digest)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: manifest %s names it with %d bytes", ErrMissing, m.digest, ref.Size)
		}
		if err != nil {
			v.report(ref.Digest, "", err)
		}
	}
}

// hasChild reports whether there is a manifest.
func (repo *repository) hasChild(digest ociregistry.Digest) bool {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.state.manifests[digest] != nil
}

// missing reports a manifest that is not there, and the tags that point at it.
func (v *verification) missing(repo *repository, m *stored) {
	if !repo.hasChild(m.digest) {
		return // it was just deleted
	}
	repo.mu.RLock()
	var tags []string
	for t := m.tags; t != nil; t = t.next {
		tags = append(tags, t.name)
	}
	repo.mu.RUnlock()
	if tags == nil {
		tags = []string{""}
	}
	for _, tag := range tags {
		v.report(m.digest, tag, ErrMissing)
	}
}
