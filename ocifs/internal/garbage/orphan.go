package garbage

import (
	"errors"
	"io/fs"
	"math"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Orphan makes young a manifest that loses what may have kept it. The journal is locked.
func Orphan(store *blobs.Store, repo *repos.Repository, digest ociregistry.Digest) error {
	_, err := store.Touch(repo.Dir, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the next fold makes it young, if it is in the journal
	}
	return err
}

// OrphanAll makes young the manifests that m keeps, which is about to be deleted: its
// children and its referrers.
func OrphanAll(store *blobs.Store, repo *repos.Repository, m *repostate.Manifest) error {
	var orphans []ociregistry.Digest
	repo.View(func(s *repostate.State) {
		add := func(digest ociregistry.Digest) {
			if s.Manifest(digest) != nil {
				orphans = append(orphans, digest)
			}
		}
		s.EachName(m.Digest, add)
		for _, referrer := range s.AppendReferrers(nil, m.Digest, "", math.MaxInt32) {
			add(ociregistry.Digest(referrer))
		}
		for _, tag := range rules.TagsAbout(m.Digest) {
			if target := s.Tag(tag); target != nil {
				add(target.Digest)
			}
		}
	})
	for _, digest := range orphans {
		if err := Orphan(store, repo, digest); err != nil {
			return err
		}
	}
	return nil
}
