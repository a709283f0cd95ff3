package repos

import (
	"context"
	"errors"
	"sync"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/journal"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Touch makes the file of a blob or a manifest young, if there is one, and brings the
// repository up to date, as it was after that. It returns the size of the file. If the state
// says that the content is there, it stays for the delay of collections: see package garbage.
//
// Errors: [fs.ErrNotExist] if there is no such file, those of [Repository.Find], and those of
// ctx and of the system.
func (repo *Repository) Touch(ctx context.Context, digest ociregistry.Digest) (size int64, err error) {
	if !repo.isThere() {
		if err := repo.Find(); err != nil {
			return 0, err
		}
	}
	touch := repo.set.store.Touch
	if repo.set.readOnly {
		touch = repo.set.store.Stat
	}
	for {
		var before journal.Position
		repo.View(func(*repostate.State) { before = repo.at })
		size, err = touch(repo.Dir, digest)
		if err := repo.Find(); err != nil {
			return 0, err
		}
		var announced, folded bool // folded: a file may have got its name, or have lost it
		repo.View(func(s *repostate.State) {
			announced, folded = s.IsAnnounced(digest) && !repo.set.readOnly, !repo.at.SameGeneration(before)
		})
		if announced {
			if err := repo.endAnnouncement(ctx); err != nil {
				return 0, err
			}
		} else if !folded {
			return size, err
		}
	}
}

// endAnnouncement waits until what is announced is done. If the process that has announced it
// is dead, it takes that back.
func (repo *Repository) endAnnouncement(ctx context.Context) error {
	return repo.Commit(&Change{Ctx: ctx, Check: func(b *Batch) error {
		var announced bool
		repo.View(func(s *repostate.State) { announced = s.HasAnnounced() })
		if announced {
			b.Add(repostate.Op{Kind: repostate.Announce})
		}
		return nil
	}})
}

// Announce says that the change may delete these, if there are any. It is durable no sooner
// than the change. Without a change, the announcement ends with one of no digest.
func (b *Batch) Announce(digests ...ociregistry.Digest) error {
	var ops []repostate.Op
	for _, digest := range digests {
		ops = append(ops, repostate.Op{Kind: repostate.Announce, Digest: digest})
	}
	return b.repo.append(b.file, b.size, ops, func(f disk.File, text []byte, offset int64) error {
		_, err := f.WriteAt(text, offset)
		return err
	})
}

// Settle folds the journal without holding up changes, unless there are some meanwhile.
func (repo *Repository) Settle(ctx context.Context) error {
	var empty bool
	repo.View(func(*repostate.State) { empty = !repo.at.HasRecords() })
	if empty || repo.set.readOnly {
		return nil
	}
	err := repo.foldInParts(ctx, func() error { return nil }, repo.sealDraft)
	if errors.Is(err, errNoRest) || errors.Is(err, ociregistry.ErrNameUnknown) {
		err = nil
	}
	return err
}

// Reading returns the lock for one who reads the state in parts.
func (repo *Repository) Reading() sync.Locker { return repo.mu.RLocker() }
