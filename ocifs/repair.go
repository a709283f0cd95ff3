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

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Repair is [Registry.Verify] that sets right what it can, and yields all that it
// finds, with what became of it. What is damaged is moved to ROOT/.ocifs/damaged,
// under its path below the root and a few letters, so that the next push or fetch
// brings it anew; it may be deleted there. Repair does not make up for content: what
// is missing stays missing, and is reported.
//
//   - A blob or a manifest with other bytes than those of its name is moved away, and
//     so is what is no file and has such a name. A manifest's entry in index.json, and
//     its tags, stay: to push it again is enough.
//   - An index.json that is no file, or that cannot be understood, is moved away. In
//     place of one that is not there, although there are blobs, comes one with all
//     manifests that there are, which have no tags then.
//   - A journal that is no file is moved away.
//   - An oci-layout that is none is moved away, and one that is missing is made.
//
// What the system does not let be read is left as it is. Repair can run while the
// registry is used, but no other program may be writing the layouts then: what it has
// not written to the end looks damaged.
//
// The error, which is the last element, is as that of Verify, or
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

// replace sets aside a damaged file, which may be missing if it is an oci-layout.
func (v *verification) replace(p Problem, name string, info fs.FileInfo) Problem {
	r := v.registry
	var err error
	if p.Digest != "" {
		p.Moved, err = r.store.setAsideBlob(filepath.Dir(filepath.Dir(filepath.Dir(name))), p.Digest, info)
		r.setUnseen(p.Repo, p.Digest)
	} else {
		if info != nil {
			p.Moved, err = r.store.setAside(name)
		}
		if err == nil {
			err = r.provide(name, emptyLayout)
		}
		if err == nil {
			err = r.store.syncDir(filepath.Dir(name))
		}
	}
	return p.ended(err)
}

// ended notes how a repair has ended.
func (p Problem) ended(err error) Problem {
	p.Repaired = err == nil
	if err != nil {
		p.Err = fmt.Errorf("%w; it cannot be repaired: %v", p.Err, err)
	}
	return p
}

// setUnseen notes that the file of a manifest, if it is one, is not there any more.
func (r *Registry) setUnseen(name string, digest ociregistry.Digest) {
	repo := r.repository(name)
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if m := repo.state.manifests[digest]; m != nil {
		m.present.Store(false)
		repo.state.unsure[m] = struct{}{}
	}
}

// rebuild makes a repository that cannot be opened one that can be, if its journal or
// its index.json is what is in the way.
func (v *verification) rebuild(p Problem) Problem {
	repo := v.registry.repository(p.Repo)
	var err error
	if p.Moved, err = repo.rebuild(v.ctx); err == nil {
		_, err = v.registry.open(p.Repo)
	}
	return p.ended(err)
}

func (repo *repository) rebuild(ctx context.Context) (moved string, err error) {
	r := repo.registry
	if err := r.checkDirs(repo.dir); err != nil {
		return "", err
	}
	info, err := r.lstat(repo.journal)
	if err == nil && info != nil && !info.Mode().IsRegular() {
		moved, err = r.store.setAside(repo.journal)
	}
	if err != nil {
		return moved, err
	}
	for {
		journal, err := r.openNewJournal(repo.dir)
		if err != nil {
			return moved, err
		}
		info, err := r.lockFile(ctx, journal, repo.journal)
		if info != nil {
			var away string
			if away, err = repo.replaceIndex(ctx); away != "" {
				moved = away
			}
		}
		journal.Close()
		if info != nil || err != nil {
			return moved, err
		}
	}
}

// replaceIndex makes an index.json that has all manifests, without tags, unless there
// is one that can be understood. The journal is locked.
func (repo *repository) replaceIndex(ctx context.Context) (moved string, err error) {
	r := repo.registry
	text, err := r.readRegular(repo.index)
	switch {
	case err == nil && newState().parseIndex(text) == nil:
		return "", nil
	case err == nil || errors.Is(err, ErrDamaged):
		if moved, err = r.store.setAside(repo.index); err != nil {
			return "", err
		}
	case !isAbsent(err):
		return "", err
	}
	s, err := repo.findManifests(ctx)
	if err != nil {
		return moved, err
	}
	if err := r.store.writeFile(repo.index, func(w io.Writer) error { return s.writeIndex(w, &repo.mu) }); err != nil {
		return moved, err
	}
	return moved, repo.complete()
}

// maxFound is how large, in bytes, a file may be that is taken for a manifest because
// it looks like one.
const maxFound = 4 << 20

// findManifests returns a state that has the manifests among the files of blobs.
// They may have been pushed as blobs, and can be had as such, too.
func (repo *repository) findManifests(ctx context.Context) (*state, error) {
	s := newState()
	err := repo.registry.eachBlob(repo.dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxFound || !repo.beginsObject(digest) {
			return nil
		}
		text, err := repo.readFile(digest, info.Size())
		if err != nil {
			return nil // it is damaged, or cannot be read
		}
		if mediaType := manifest.TypeOf(text); mediaType != "" {
			s.add(&stored{digest: digest, mediaType: mediaType, size: info.Size(), blob: true})
		}
		return nil
	})
	return s, err
}

// beginsObject reports whether the file of a blob begins as a JSON object does.
func (repo *repository) beginsObject(digest ociregistry.Digest) bool {
	f, err := repo.registry.fs.OpenFile(blobPath(repo.dir, digest), os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var first [64]byte
	n, _ := f.ReadAt(first[:], 0)
	return strings.HasPrefix(strings.TrimLeft(string(first[:n]), " \t\r\n"), "{")
}
