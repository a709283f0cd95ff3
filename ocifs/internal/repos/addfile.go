package repos

import (
	"context"
	"errors"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// AddFile calls put, which makes the file of a blob in the repository, and creates the
// repository if necessary. The file is a blob then, durably, even if it is that of a
// manifest, too. It is young. put may be called more than once.
//
// Errors: those of put, and those of [Set.Open] and of the filesystem.
func (repo *Repository) AddFile(ctx context.Context, digest ociregistry.Digest, put func() error) error {
	repo.changes.begin()
	defer repo.changes.end()
	if a := (adding{repo, digest}); repo.set.addings.Add(a) {
		defer repo.set.addings.Remove(a)
	} else {
		defer repo.Doubt() // both count it
	}
	before, size := repo.blobBytes(digest), int64(0)
	err := errGone
	for n := 0; errors.Is(err, errGone) && n < 100; n++ { // each time others have just removed it
		if err = repo.addFile(ctx, put); err == nil {
			size, err = repo.noteAdded(context.WithoutCancel(ctx), digest)
		}
	}
	if err != nil {
		repo.Doubt()
		return err
	}
	repo.AddBytes(size - before)
	return nil
}

// adding is a file that is being added to a repository.
type adding struct {
	repo   *Repository
	digest ociregistry.Digest
}

// addFile calls put, which adds a file to a repository, and creates the repository if
// put requires it: a blob is named only where there is an index.json, or a journal
// that becomes one. A repository that cannot be read is left as it is.
func (repo *Repository) addFile(ctx context.Context, put func() error) error {
	if err := repo.Find(); err != nil && !errors.Is(err, ociregistry.ErrNameUnknown) {
		return err
	}
	has, made := repo.HasLayout(), false
	for {
		err := blobs.ErrNoLayout
		if has {
			err = repo.addFileOnce(ctx, put)
		}
		if err == nil || !errors.Is(err, blobs.ErrNoLayout) {
			if err != nil && made {
				repo.Fold(context.WithoutCancel(ctx)) // removes the repository if it is empty
			}
			return err
		}
		has = true
		repo.scheduleFold() // removes the repository if it stays empty
		if err := repo.makeLayout(ctx); err != nil {
			return err
		}
		repo.anchored.Store(true)
		made = true
	}
}

// HasLayout reports whether there was an index.json, or a journal with changes, when
// the state was last brought up to date.
func (repo *Repository) HasLayout() bool {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.seen.index != nil || repo.at.HasRecords()
}

// addFileOnce calls put. If put fails, it may have left a name that is not durable.
func (repo *Repository) addFileOnce(ctx context.Context, put func() error) error {
	repo.adding.Add(1)
	_, err := repo.set.work.NewName() // shows others that this process writes here
	if err == nil {
		err = repo.changeFiles(put)
	}
	if err == nil {
		err = repo.anchorFirst(ctx)
	} else if syncErr := repo.set.store.SyncBlobDirs(repo.Dir); syncErr != nil {
		return err // and keep counting it
	}
	repo.adding.Add(-1)
	return err
}

// changeFiles calls change, which changes files. Others learn of it from the mark, which is
// there before and after.
func (repo *Repository) changeFiles(change func() error) error {
	repo.scheduleFold()
	err := change()
	repo.set.markAgain(repo)
	repo.scheduleFold() // in case it was folded meanwhile
	return err
}

// anchorFirst anchors the repository if no change has done that yet. It is a change, which has
// the journal to itself: a sync that fails beside those of others could take with it what they
// have written, and they would not learn of it.
func (repo *Repository) anchorFirst(ctx context.Context) error {
	if repo.anchored.Load() {
		return nil
	}
	return repo.Commit(&Change{Ctx: context.WithoutCancel(ctx), Creates: true})
}

// errGone means that a file was removed just after it was added.
var errGone = errors.New("the blob was removed")

// noteAdded makes sure that a file which was just added stays, as a blob. The file
// may be that of a manifest, which is removed when the manifest is deleted, or that
// of something that was deleted, which is about to be removed. In both cases noteAdded
// records in the journal that it is a blob. If the file is already gone, it returns errGone.
// It returns the size of the file.
func (repo *Repository) noteAdded(ctx context.Context, digest ociregistry.Digest) (size int64, err error) {
	size, err = repo.Touch(ctx, digest)
	if errors.Is(err, ociregistry.ErrNameUnknown) || errors.Is(err, fs.ErrNotExist) {
		return 0, errGone
	}
	if err != nil {
		return 0, err
	}
	if b := repo.Blob(digest); b.InText || b.InFile {
		return size, nil
	}
	return size, repo.Commit(&Change{Ctx: ctx, Creates: true, Check: func(b *Batch) error {
		_, err := repo.set.store.Touch(repo.Dir, digest)
		if errors.Is(err, fs.ErrNotExist) {
			err = errGone
		}
		if err == nil {
			b.Add(repostate.Op{Kind: repostate.PutBlob, Digest: digest})
		}
		return err
	}})
}
