package ocifs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Problem is something that Verify or Repair found.
type Problem struct {
	Repo   string             // empty if it is about what repositories share
	Digest ociregistry.Digest // of the blob or manifest, or empty if it is about the repository
	Tag    string             // that points at it, or empty
	Err    error

	// Repaired is whether Repair has set it right: what was damaged is not in the
	// way of what comes next. That it is missing then, if it is needed, is a Problem
	// of its own. Moved is where it is now, or empty if nothing was moved.
	Repaired bool
	Moved    string
}

func (p Problem) String() string {
	s := p.Repo
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
// what is wrong, repository by repository in byte order of their names, and then of
// what they share. It changes nothing, and can run while the registry is used. The
// caller may leave the loop at any time.
//
// The error, which is the last element, is that of the context, or says that the
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

	// damaged is told of a file that is not what it should be, and returns what is
	// to be reported of it.
	damaged func(p Problem, name string, info fs.FileInfo) Problem

	// unopened is told why a repository cannot be opened, and returns what is to be
	// reported of that.
	unopened func(p Problem) Problem
}

func (v *verification) run(op string) {
	err := v.registry.usable()
	if err == nil {
		err = v.registry.eachDir(func(name, dir string) (bool, error) {
			v.repository(name)
			return v.goesOn(), v.over()
		}, func(name string, err error) { v.report(Problem{Repo: name, Err: err}) })
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

// over returns the error of the context, if anybody wants to know it.
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
	repo, err := v.registry.open(name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return
	}
	if err != nil {
		p := Problem{Repo: name, Err: err}
		if v.unopened != nil {
			p = v.unopened(p)
		}
		v.report(p)
		if repo, err = v.registry.open(name); err != nil {
			return
		}
	}
	v.layoutFile(repo)
	v.files(Problem{Repo: name}, repo.dir, func(fs.FileInfo) bool { return true })
	for _, m := range repo.all() {
		if !v.goesOn() {
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

// layoutFile checks the mark of a layout.
func (v *verification) layoutFile(repo *repository) {
	name := filepath.Join(repo.dir, layoutFile)
	info, err := v.registry.lstat(name)
	if info != nil {
		err = v.registry.checkLayoutFile(name)
	} else if err == nil {
		err = ErrMissing
	}
	if err == nil || !repo.isLaid() {
		return
	}
	p := Problem{Repo: repo.name, Err: fmt.Errorf("%s: %w", layoutFile, err)}
	if v.damaged != nil && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrMissing)) {
		p = v.damaged(p, name, info)
	}
	v.report(p)
}

// checkLayoutFile returns an error unless a file is the mark of a layout (image-spec,
// "OCI Image Layout Specification", section "oci-layout file").
func (r *Registry) checkLayoutFile(name string) error {
	text, err := r.readRegular(name)
	if err != nil {
		return err
	}
	var layout ocispec.ImageLayout
	if json.Unmarshal([]byte(text), &layout) != nil || layout.Version == "" {
		return ErrDamaged
	}
	return nil
}

// readRegular returns the text of a file. If it is none, the error is ErrDamaged.
func (r *Registry) readRegular(name string) (string, error) {
	info, err := r.fs.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = ErrDamaged
	}
	if err != nil {
		return "", err
	}
	f, err := r.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readFrom(f, 0)
}

// files checks the bytes of those files of blobs below a directory that are to be
// looked at. What is found has p's fields.
func (v *verification) files(p Problem, dir string, look func(fs.FileInfo) bool) {
	stop := errors.New("stopped")
	err := v.registry.eachBlob(dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
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
	name := blobPath(dir, digest)
	err := v.registry.store.verify(v.ctx, dir, digest)
	if errors.Is(err, fs.ErrNotExist) {
		now, err := v.registry.lstat(name)
		if now == nil && err == nil {
			return // it was just deleted
		}
		v.found(p, name, digest, info, cmp.Or(err, ErrDamaged)) // it is empty, or no file
	} else if err != nil {
		v.found(p, name, digest, info, err)
	}
}

func (v *verification) found(p Problem, name string, digest ociregistry.Digest, info fs.FileInfo, err error) {
	p.Digest, p.Err = digest, err
	if p.Repo == "" {
		p.Err = fmt.Errorf("%w, in the pool that mounts come from", err)
	}
	if v.damaged != nil && errors.Is(err, ErrDamaged) {
		p = v.damaged(p, name, info)
	}
	v.report(p)
}

// pool checks the files of the pool that no layout has as well.
func (v *verification) pool() {
	v.files(Problem{}, v.registry.store.private, func(info fs.FileInfo) bool { return links(info) <= 1 })
}

// manifest checks that a manifest is there, and what it names.
func (v *verification) manifest(repo *repository, m *stored) {
	repo.mu.RLock()
	text := m.contents
	repo.mu.RUnlock()
	var err error
	if text == "" {
		text, err = repo.readFile(m.digest, m.size)
	}
	if errors.Is(err, fs.ErrNotExist) {
		v.missing(repo, m)
		return
	}
	var info manifest.Info
	if err == nil {
		info, err = manifest.Parse(m.mediaType, text)
	}
	if err != nil {
		v.report(Problem{Repo: repo.name, Digest: m.digest, Err: err})
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
			v.report(Problem{Repo: repo.name, Digest: ref.Digest, Err: err})
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
		v.report(Problem{Repo: repo.name, Digest: m.digest, Tag: tag, Err: ErrMissing})
	}
}
