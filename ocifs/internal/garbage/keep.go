package garbage

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ocifs/internal/refs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Keep makes sure that a manifest, which is about to be reported as present, stays
// for a while. It returns the manifest as it is then.
//
// One that a tag keeps need not be young: it is made so when it loses a tag.
func Keep(ctx context.Context, repo *repos.Repository, m *repostate.Manifest) (*repostate.Manifest, error) {
	now := repo.Store().Clock.Now()
	if m.IsFresh(now, repo.Store().Clock.Grain/2) {
		return m, nil
	}
	var kept bool
	repo.View(func(s *repostate.State) {
		kept = m.IsTagged() && s.SubjectOf(m) == "" && slices.ContainsFunc(s.TagsOf(m), isPlainTag)
	})
	if !kept {
		_, err := repo.Touch(ctx, m.Digest)
		if err == nil || errors.Is(err, fs.ErrNotExist) { // it may only be in the journal
			m, err = refs.Find(repo, m.Digest)
		}
		if err == nil && m == nil {
			err = repo.Missing(ociregistry.ErrManifestUnknown)
		}
		if err != nil {
			return nil, err
		}
	}
	m.SetFresh(now)
	return m, nil
}

func isPlainTag(name string) bool {
	_, _, about := rules.Subject(name)
	return !about
}
