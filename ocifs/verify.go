package ocifs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/refs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Problem is a defect that [Registry.Verify] or [Registry.Repair] found.
type Problem struct {
	Repository string             // empty for files that repositories share
	Digest     ociregistry.Digest // of the blob or manifest; empty if the problem is the repository's
	Tag        string             // a tag that points at the manifest, or empty
	Err        error              // what is wrong

	// Repaired reports whether Repair has removed the cause: the damaged file no
	// longer blocks later pushes. If its content is needed and now missing, that is a
	// Problem of its own. Moved is the new name of the damaged file, or empty if
	// nothing was moved.
	Repaired bool
	Moved    string
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
	s += ": " + p.Err.Error()
	if p.Repaired {
		s += "; repaired"
	}
	if p.Moved != "" {
		s += "; moved to " + p.Moved
	}
	return s
}

// The errors of a [Problem]. Others are those of the filesystem, those of parsing
// index.json, and [ociregistry.ErrManifestInvalid].
var (
	// ErrDamaged means that the bytes of a file do not match the digest in its name.
	// Pushing the content again repairs it.
	ErrDamaged = blobs.ErrDamaged

	// ErrNoIndex means that a repository has blobs but no index.json, and that its
	// journal has no changes. The file was lost, or another program is about to write
	// it. Calls about such a repository return ErrNoIndex too, and change nothing.
	ErrNoIndex = repos.ErrNoIndex

	// ErrMissing means that content is named but absent. A registry with
	// [Options.Sparse] does not report missing content that manifests name. Any other
	// also reports content that was allowed to be missing
	// ([ociregistry.AllowMissing], [ociregistry.AllowInUse]).
	ErrMissing = errors.New("content is missing")
)

// Verify reads everything in the registry and yields the problems that it finds. It
// checks that the bytes of each file match its name, and that everything that
// index.json and manifests name exists. Problems come repository by repository, in
// byte order of the names, followed by those of the files that repositories share.
// Verify changes nothing, and can run while the registry is in use. The caller may
// leave the loop at any time.
//
// An error is the last element. It is that of the context, or means that the
// directory itself cannot be read.
func (r *Registry) Verify(ctx context.Context) iter.Seq2[Problem, error] {
	return func(yield func(Problem, error) bool) {
		v := verification{ctx: ctx, registry: r, yield: yield}
		v.run("Verify")
	}
}

// verification is a run of Verify or Repair.
type verification struct {
	ctx      context.Context
	registry *Registry
	yield    func(Problem, error) bool
	stopped  bool

	// damaged, if not nil, is called for a damaged file, and returns the problem to
	// report.
	damaged func(p Problem, name string, info fs.FileInfo) Problem

	// unopened, if not nil, is called for a repository that cannot be opened, and
	// returns the problem to report.
	unopened func(p Problem) Problem
}

func (v *verification) run(op string) {
	err := v.registry.repos.Usable()
	if err == nil {
		err = v.registry.repos.EachDir("", func(name, dir string) (bool, error) {
			v.repository(name)
			return v.goesOn(), v.over()
		}, func(name string, err error) { v.report(Problem{Repository: name, Err: err}) })
	}
	if err == nil && v.goesOn() {
		v.pool()
		err = v.over()
	}
	if err != nil {
		v.yield(Problem{}, opError(err, op, "", ""))
	}
}

func (v *verification) goesOn() bool { return !v.stopped && v.ctx.Err() == nil }

// over returns the error of the context, unless the caller has left the loop.
func (v *verification) over() error {
	if v.stopped {
		return nil
	}
	return v.ctx.Err()
}

func (v *verification) report(p Problem) {
	if v.goesOn() {
		v.stopped = !v.yield(p, nil)
	}
}

func (v *verification) repository(name string) {
	repo, err := v.registry.repos.Open(name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return
	}
	if err != nil {
		p := Problem{Repository: name, Err: err}
		if v.unopened != nil {
			p = v.unopened(p)
		}
		v.report(p)
		if repo, err = v.registry.repos.Open(name); err != nil {
			return
		}
	}
	defer repo.Release()
	v.layoutFile(repo)
	v.files(Problem{Repository: name}, repo.Dir, func(fs.FileInfo) bool { return true })
	refs.ReadWhole(repo) // manifest reports what cannot be read
	var manifests []*repostate.Manifest
	repo.View(func(s *repostate.State) { manifests = s.Manifests() })
	for _, m := range manifests {
		if !v.goesOn() {
			return
		}
		v.manifest(repo, m)
	}
}

// layoutFile checks the oci-layout file of a repository.
func (v *verification) layoutFile(repo *repos.Repository) {
	name := filepath.Join(repo.Dir, layout.FileName)
	info, err := disk.Lstat(v.registry.fs, name)
	if info != nil {
		err = v.registry.checkLayoutFile(name)
	} else if err == nil {
		err = ErrMissing
	}
	if err == nil || !repo.HasLayout() {
		return
	}
	p := Problem{Repository: repo.Name, Err: fmt.Errorf("%s: %w", layout.FileName, err)}
	if v.damaged != nil && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrMissing)) {
		p = v.damaged(p, name, info)
	}
	v.report(p)
}

// checkLayoutFile returns an error unless a file is a valid oci-layout (image-spec,
// "OCI Image Layout Specification", section "oci-layout file").
func (r *Registry) checkLayoutFile(name string) error {
	text, err := r.layouts.ReadRegular(name)
	if err != nil {
		return err
	}
	var layout ocispec.ImageLayout
	if json.Unmarshal([]byte(text), &layout) != nil || layout.Version == "" {
		return ErrDamaged
	}
	return nil
}

// files checks the bytes of the blob files in a directory for which look returns
// true. The problems have the fields of p.
func (v *verification) files(p Problem, dir string, look func(fs.FileInfo) bool) {
	stop := errors.New("stopped")
	err := v.registry.store.Each(dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
		if look(info) {
			v.file(p, dir, digest, info)
		}
		if !v.goesOn() {
			return stop
		}
		return nil
	})
	if err != nil && err != stop {
		p.Err = err
		v.report(p)
	}
}

func (v *verification) file(p Problem, dir string, digest ociregistry.Digest, info fs.FileInfo) {
	name := blobs.Path(dir, digest)
	err := v.registry.store.Verify(v.ctx, dir, digest)
	if errors.Is(err, fs.ErrNotExist) {
		now, err := disk.Lstat(v.registry.fs, name)
		if now == nil && err == nil {
			return // deleted just now
		}
		v.found(p, name, digest, info, cmp.Or(err, ErrDamaged)) // empty, or not a regular file
	} else if err != nil {
		v.found(p, name, digest, info, err)
	}
}

func (v *verification) found(p Problem, name string, digest ociregistry.Digest, info fs.FileInfo, err error) {
	p.Digest, p.Err = digest, err
	if p.Repository == "" {
		p.Err = fmt.Errorf("%w, in the pool that mounts come from", err)
	}
	if v.damaged != nil && errors.Is(err, ErrDamaged) {
		p = v.damaged(p, name, info)
	}
	v.report(p)
}

// pool checks the files of the pool that no layout shares.
func (v *verification) pool() {
	v.files(Problem{}, v.registry.work.Dir, func(info fs.FileInfo) bool { return disk.Links(info) <= 1 })
}

// manifest checks that a manifest is present, and so is the content that it names.
func (v *verification) manifest(repo *repos.Repository, m *repostate.Manifest) {
	var text string
	repo.View(func(*repostate.State) { text = m.Text })
	var err error
	if text == "" {
		text, err = content.Read(repo, m.Digest, m.Size)
	}
	if errors.Is(err, fs.ErrNotExist) {
		v.missing(repo, m)
		return
	}
	var info manifest.Info
	if err == nil {
		info, err = manifest.Parse(m.MediaType, text)
	}
	if err != nil {
		v.report(Problem{Repository: repo.Name, Digest: m.Digest, Err: err})
		return
	}
	if v.registry.opts.Sparse {
		return
	}
	refs := append(info.Blobs[:len(info.Blobs):len(info.Blobs)], info.Manifests...)
	for _, ref := range refs {
		if ref.Elsewhere || repo.HasManifest(ref.Digest) {
			continue
		}
		_, err := v.registry.blobSize(repo, ref.Digest, ref.Size)
		if doubt := new(doubtError); errors.As(err, &doubt) {
			_, err = content.IntactSize(repo, ref.Digest)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: manifest %s names it with %d bytes", ErrMissing, m.Digest, ref.Size)
		}
		if err != nil {
			v.report(Problem{Repository: repo.Name, Digest: ref.Digest, Err: err})
		}
	}
}

// missing reports a missing manifest, once for each tag that points at it.
func (v *verification) missing(repo *repos.Repository, m *repostate.Manifest) {
	if !repo.HasManifest(m.Digest) {
		return // deleted just now
	}
	var tags []string
	repo.View(func(s *repostate.State) { tags = s.TagsOf(m) })
	if tags == nil {
		tags = []string{""}
	}
	for _, tag := range tags {
		v.report(Problem{Repository: repo.Name, Digest: m.Digest, Tag: tag, Err: ErrMissing})
	}
}
