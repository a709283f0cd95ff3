package uploads

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// EndIdle ends the sessions with bytes to which nobody has written after a time, unless they
// are in use just now. It calls found for each of them. In a dry run it does nothing else.
func (u *Sessions) EndIdle(since time.Time, dryRun bool, found func(repo string, size int64, touched time.Time)) error {
	entries, err := u.work.FS.ReadDir(u.dir, 0)
	if disk.IsAbsent(err) {
		err = nil
	}
	errs := []error{err}
	u.mu.Lock()
	ids := slices.Collect(maps.Keys(u.sessions))
	u.mu.Unlock()
	for _, e := range entries {
		if id, isState := strings.CutSuffix(e.Name(), stateSuffix); isState && isName(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		errs = append(errs, uploadid.RedactError(u.endIdle(id, since, dryRun, found), id))
	}
	return errors.Join(errs...)
}

func (u *Sessions) endIdle(id string, since time.Time, dryRun bool, found func(repo string, size int64, touched time.Time)) error {
	s := u.acquire(id)
	defer u.release(s)
	if s.enter(over) != nil {
		return nil // in use
	}
	defer s.exit()
	if m := s.memory; m != nil && m.counted && !m.touched.After(since) {
		found(m.repo, m.size(), m.touched)
		if !dryRun {
			s.endMemory()
		}
		return nil
	}
	err := s.inFiles(over, "", func(f disk.File) error {
		info, err := f.Stat()
		if err != nil || info.ModTime().After(since) {
			return err
		}
		found(s.state.repo, s.state.size, info.ModTime())
		if dryRun {
			return nil
		}
		return s.end(f)
	})
	if errors.Is(err, errNoFiles) || errors.Is(err, ociregistry.ErrBlobUploadUnknown) || errors.Is(err, context.Canceled) {
		return nil // it has no bytes, has ended, or is in use
	}
	return err
}
