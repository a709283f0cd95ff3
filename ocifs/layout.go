package ocifs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// privateDir has what is not part of a layout: in a repository its journal, in
// the root all else.
const privateDir = ".ocifs"

// layoutFile is the name of the file that marks a layout.
const layoutFile = ocispec.ImageLayoutFile

// algorithms are those of which there may be blobs.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

// makeLayout makes the repository's directory a layout with a journal, or adds what
// is missing.
func (repo *repository) makeLayout(ctx context.Context) error {
	err := repo.registry.checkDirs(repo.dir)
	if err != nil {
		return err
	}
	for range 100 {
		err = repo.tryLayout(ctx)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
		// Somebody has just made the directory, or removed one on the way.
	}
	return err
}

// tryLayout brings a directory that is not there into being with all that a
// layout has.
func (repo *repository) tryLayout(ctx context.Context) error {
	r, dir := repo.registry, repo.dir
	info, err := r.lstat(dir)
	if err != nil {
		return err
	}
	if info != nil {
		return repo.completeLayout(ctx)
	}
	staged, err := r.store.stageDir()
	if err != nil {
		return err
	}
	journal, err := r.openNewJournal(staged)
	if err == nil {
		journal.Close()
		err = r.fillLayout(staged)
	}
	if err == nil {
		err = r.makeDirs(filepath.Dir(dir))
	}
	if err == nil {
		err = r.fs.Rename(staged, dir)
	}
	if err != nil {
		r.removeLayout(staged)
		return err
	}
	return r.syncParents(dir)
}

// completeLayout makes everything in a directory that a layout has and it has
// not, unless it has blobs and no index.json. It takes the journal's lock: nobody
// removes the repository meanwhile.
func (repo *repository) completeLayout(ctx context.Context) error {
	r := repo.registry
	for {
		journal, err := r.openNewJournal(repo.dir)
		if err != nil {
			return err
		}
		info, err := r.lockFile(ctx, journal, repo.journal)
		if info != nil {
			err = repo.complete()
		}
		journal.Close()
		if info != nil || err != nil {
			return err
		}
	}
}

// anchor makes durable, before the first change by this process, what it found of
// the repository: whoever made the layout, named a blob there, or began the journal
// anew may be another program, or have died before it did so.
func (repo *repository) anchor() error {
	if repo.anchored.Load() {
		return nil
	}
	r := repo.registry
	for _, name := range []string{"blobs", privateDir, "."} {
		if err := r.store.syncDir(filepath.Join(repo.dir, name)); err != nil && !isAbsent(err) {
			return err
		}
	}
	if err := r.store.syncBlobDirs(repo.dir); err != nil {
		return err
	}
	if err := repo.syncJournal(); err != nil {
		return err
	}
	if err := r.syncParents(repo.dir); err != nil {
		return err
	}
	repo.anchored.Store(true)
	return nil
}

// syncJournal makes the journal durable, if there is one.
func (repo *repository) syncJournal() error {
	journal, err := repo.registry.fs.OpenFile(repo.journal, forSync, 0)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer journal.Close()
	return repo.sync(journal)
}

// syncParents makes the names durable of a layout and of the directories that lead
// to it from the root.
func (r *Registry) syncParents(dir string) error {
	for len(dir) > len(r.dir) {
		dir = filepath.Dir(dir)
		if err := r.store.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) openNewJournal(dir string) (file, error) {
	dir = filepath.Join(dir, privateDir)
	if err := r.mkdir(dir); err != nil {
		return nil, err
	}
	return r.fs.OpenFile(filepath.Join(dir, "journal"), os.O_RDWR|os.O_CREATE, 0o666)
}

// complete makes everything that a layout has beside the journal, which is locked.
// The index.json is durable before there can be a blob.
func (repo *repository) complete() error {
	r := repo.registry
	index, err := r.lstat(repo.index)
	if err == nil && index == nil {
		if err = repo.checkNoBlobs(); err == nil {
			err = r.provide(repo.index, emptyIndex)
		}
		if err == nil {
			err = r.store.syncDir(repo.dir)
		}
	}
	if err == nil {
		err = r.fillLayout(repo.dir)
	}
	if err == nil {
		err = r.store.syncBlobDirs(repo.dir)
	}
	if err == nil {
		err = r.syncParents(repo.dir)
	}
	return err
}

// fillLayout makes what a layout has beside the journal. Whatever finds a blob finds
// an index.json, and whatever finds an oci-layout finds the rest.
func (r *Registry) fillLayout(dir string) error {
	if err := r.provide(filepath.Join(dir, "index.json"), emptyIndex); err != nil {
		return err
	}
	for _, name := range []string{"blobs", filepath.Join("blobs", "sha256")} {
		if err := r.mkdir(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := r.provide(filepath.Join(dir, "oci-layout"), emptyLayout); err != nil {
		return err
	}
	for _, name := range []string{"blobs", privateDir, "."} {
		if err := r.store.syncDir(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// provide makes a file with the given text, unless it is there.
func (r *Registry) provide(name, text string) error {
	info, err := r.lstat(name)
	if err != nil || info != nil {
		return err
	}
	return r.store.writeFile(name, writeText(text))
}

func (r *Registry) mkdir(name string) error {
	err := r.fs.Mkdir(name, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// makeDirs makes a directory and those that lead to it, durably. One that is there
// may have been made by a process that died before that was durable; the one
// above it was durable then.
func (r *Registry) makeDirs(dir string) error {
	parent := filepath.Dir(dir)
	info, err := r.lstat(dir)
	if err != nil {
		return err
	}
	if info != nil {
		err := r.store.syncDir(parent)
		if errors.Is(err, fs.ErrPermission) {
			return nil // it is not ours
		}
		return err
	}
	if err := r.makeDirs(parent); err != nil {
		return err
	}
	if err := r.mkdir(dir); err != nil {
		return err
	}
	return r.store.syncDir(parent)
}

// removeIfEmpty removes the repository's directory if it holds nothing. If so, it
// reports true, and the state is not up to date any more. The journal is locked.
func (repo *repository) removeIfEmpty(journal file) bool {
	r := repo.registry
	repo.mu.RLock()
	known := repo.seen.journal != nil // else the state has what was not written
	empty := repo.state.empty() && len(repo.state.index.strange) == 0
	repo.mu.RUnlock()
	if !known || !empty || r.single != "" {
		return false
	}
	if has, err := repo.hasBlobs(); has || err != nil {
		return false
	}
	// No file may go that an index.json names, which a power cut may leave.
	if len(repo.deletedFiles()) > 0 && repo.fold(journal) != nil {
		return false
	}
	// As soon as the journal is gone, others may make the repository anew: what
	// is known of it here counts no more.
	repo.mu.Lock()
	repo.state, repo.seen, repo.at = newState(), stamps{}, place{}
	repo.mu.Unlock()
	repo.anchored.Store(false)
	repo.writing.Store(false)
	r.unmark(repo)
	// Once their directories are gone, nobody can add a blob without making them
	// again, which waits for the lock.
	if r.removeLayout(repo.dir) {
		r.forget(repo)
		r.removeParents(repo.dir)
	}
	return true
}

// removeLayout removes a layout that has no blobs. It removes directories only
// when they are empty, so that nothing can be lost; if the blobs' are not, it
// removes nothing.
func (r *Registry) removeLayout(dir string) bool {
	for _, name := range []string{filepath.Join("blobs", "sha256"), filepath.Join("blobs", "sha512"), "blobs"} {
		if err := r.fs.Remove(filepath.Join(dir, name)); err != nil && !isAbsent(err) {
			return false
		}
	}
	for _, name := range []string{"oci-layout", "index.json"} {
		if err := r.fs.Remove(filepath.Join(dir, name)); err != nil && !isAbsent(err) {
			return false
		}
	}
	// An index.json that came back without the journal would have what was deleted.
	if err := r.store.syncDir(dir); err != nil && !isAbsent(err) {
		return false
	}
	for _, name := range []string{filepath.Join(privateDir, "journal"), privateDir} {
		if err := r.fs.Remove(filepath.Join(dir, name)); err != nil && !isAbsent(err) {
			return false
		}
	}
	r.fs.Remove(dir) // there may be other repositories below
	r.store.syncDir(filepath.Dir(dir))
	return true
}

// removeParents removes the directories that led to a repository, as long as
// they are empty.
func (r *Registry) removeParents(dir string) {
	for dir = filepath.Dir(dir); dir != r.dir && len(dir) > len(r.dir); dir = filepath.Dir(dir) {
		if r.fs.Remove(dir) != nil {
			return
		}
	}
}
