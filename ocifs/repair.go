package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Repair is like [Registry.Verify], but also repairs what it can. It yields
// everything that it finds, with the outcome of the repair. It moves damaged files to
// ROOT/.ocifs/damaged, under their path below the root with a few random letters
// appended, so that the next push or fetch can bring the content anew. Files in that
// directory may be deleted. Repair does not recreate content: missing content stays
// missing, and is reported.
//
//   - A blob or a manifest whose bytes do not match its name is moved away, and so is
//     anything with such a name that is not a regular file. The manifest's entry in
//     index.json and its tags stay: pushing the manifest again is enough.
//   - An index.json that is not a regular file, or cannot be parsed, is moved away. If
//     there are blobs and no index.json, Repair writes one that has all manifests that
//     it finds, without tags.
//   - A journal that is not a regular file is moved away.
//   - An invalid oci-layout is moved away, and a missing one is created.
//
// Files that the system does not allow to be read are left as they are. Repair can
// run while the registry is in use, but no other program may write to the layouts
// meanwhile: a file that such a program has not finished looks damaged.
//
// An error is the last element. It is one of those of Verify, or
// [ociregistry.ErrDenied] if the registry is read-only.
func (r *Registry) Repair(ctx context.Context) iter.Seq2[Problem, error] {
	return func(yield func(Problem, error) bool) {
		if r.opts.ReadOnly {
			yield(Problem{}, opError(fmt.Errorf("%w: the registry is read-only", ociregistry.ErrDenied), "Repair", "", ""))
			return
		}
		v := verification{ctx: ctx, registry: r, yield: yield}
		v.damaged, v.unopened = v.replace, v.rebuild
		v.run("Repair")
	}
}

// replace sets a damaged file aside. An oci-layout, which may also be missing, is
// then written anew.
func (v *verification) replace(p Problem, name string, info fs.FileInfo) Problem {
	r := v.registry
	var err error
	if p.Digest != "" {
		p.Moved, err = r.store.SetAside(filepath.Dir(filepath.Dir(filepath.Dir(name))), p.Digest, info)
		r.setUnseen(p.Repository, p.Digest)
	} else {
		if info != nil {
			p.Moved, err = r.work.SetAside(name)
		}
		if err == nil {
			err = r.layouts.Provide(name, layout.FileText)
		}
		if err == nil {
			err = r.work.SyncDir(filepath.Dir(name))
		}
	}
	return p.ended(err)
}

// ended records the outcome of a repair.
func (p Problem) ended(err error) Problem {
	p.Repaired = err == nil
	if err != nil {
		p.Err = fmt.Errorf("%w; it cannot be repaired: %v", p.Err, err)
	}
	return p
}

// setUnseen records that the file of a manifest is no longer known to be present.
func (r *Registry) setUnseen(name string, digest ociregistry.Digest) {
	repo := r.repos.Use(name)
	defer repo.Release()
	repo.Doubt()
	repo.Update(func(s *repostate.State) {
		if m := s.Manifest(digest); m != nil {
			s.SetUnsure(m)
		}
	})
}

// rebuild repairs a repository that cannot be opened, if its journal or its
// index.json is the cause.
func (v *verification) rebuild(p Problem) Problem {
	repo := v.registry.repos.Use(p.Repository)
	defer repo.Release()
	var err error
	if p.Moved, err = v.registry.rebuild(v.ctx, repo); err == nil {
		err = repo.Find()
	}
	return p.ended(err)
}

// rebuild moves away a journal or an index.json that keeps a repository from being opened,
// and returns the new name of the last of them.
func (r *Registry) rebuild(ctx context.Context, repo *repos.Repository) (moved string, err error) {
	if _, err := r.layouts.CheckDirs(repo.Dir); err != nil {
		return "", err
	}
	name := layout.JournalPath(repo.Dir)
	info, err := disk.Lstat(r.fs, name)
	if err == nil && info != nil && !info.Mode().IsRegular() {
		moved, err = r.work.SetAside(name)
	}
	if err != nil {
		return moved, err
	}
	err = repo.Locked(ctx, func() error {
		away, err := r.replaceIndex(ctx, repo)
		if away != "" {
			moved = away
		}
		return err
	})
	return moved, err
}

// replaceIndex writes an index.json that has all manifests, without tags, unless
// there is one that can be parsed. The journal is locked.
func (r *Registry) replaceIndex(ctx context.Context, repo *repos.Repository) (moved string, err error) {
	index := layout.IndexPath(repo.Dir)
	text, err := r.layouts.ReadRegular(index)
	switch {
	case err == nil && repostate.New().ParseIndex(text) == nil:
		return "", nil
	case err == nil || errors.Is(err, ErrDamaged):
		if moved, err = r.work.SetAside(index); err != nil {
			return "", err
		}
	case !disk.IsAbsent(err):
		return "", err
	}
	s, err := r.findManifests(ctx, repo)
	if err != nil {
		return moved, err
	}
	if err := r.work.WriteFile(index, func(w io.Writer) error { return s.WriteIndex(w, new(sync.Mutex)) }); err != nil {
		return moved, err
	}
	return moved, repo.Complete()
}

// maxFound is the maximum size, in bytes, of a file that is taken for a manifest
// because it looks like one.
const maxFound = 4 << 20

// findManifests returns a state that has the manifests among the blob files. They may
// have been pushed as blobs, so they can still be read as blobs too.
func (r *Registry) findManifests(ctx context.Context, repo *repos.Repository) (*repostate.State, error) {
	s := repostate.New()
	err := r.store.Each(repo.Dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxFound || !r.beginsObject(repo.Dir, digest) {
			return nil
		}
		text, err := content.Read(repo, digest, info.Size())
		if err != nil {
			return nil // damaged or unreadable
		}
		if mediaType := manifest.TypeOf(text); mediaType != "" {
			s.Add(&repostate.Manifest{Digest: digest, MediaType: mediaType, Size: info.Size(), Blob: true})
		}
		return nil
	})
	return s, err
}

// beginsObject reports whether the file of a blob begins like a JSON object.
func (r *Registry) beginsObject(dir string, digest ociregistry.Digest) bool {
	f, err := r.fs.OpenFile(blobs.Path(dir, digest), os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var first [64]byte
	n, _ := f.ReadAt(first[:], 0)
	return strings.HasPrefix(strings.TrimLeft(string(first[:n]), " \t\r\n"), "{")
}
