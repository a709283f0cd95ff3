// Package refs finds out what the manifests of a repository name.
//
// That is known of those that were pushed to this process. Of the others, which index.json
// names, it is found out when it is first needed: for that they are all read, once.
//
// Of a manifest that cannot be read it stays unknown what it names. That is said to the
// logger and keeps nobody from anything but deletes: see [InDoubt].
package refs

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ReadAll reads all manifests that were not read yet. One that is missing or
// damaged is not read again before it, index.json or the journal changes; one that
// the system does not let be read is tried each time. The error is of a system
// that has nothing left to read with.
func ReadAll(repo *repos.Repository) error {
	var some bool
	repo.View(func(s *repostate.State) { some = s.HasUnread() })
	if !some {
		return nil
	}
	tried := make(map[*repostate.Manifest]bool)
	var failed readFailure
	for {
		manifests := unread(repo, tried)
		if len(manifests) == 0 {
			break
		}
		err := parallel.Do(2*runtime.GOMAXPROCS(0), len(manifests), func(i int) error {
			err := read(repo, manifests[i])
			if err != nil && !disk.IsExhausted(err) {
				failed.add(manifests[i], err)
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if failed.n > 0 {
		repo.Warn("manifests cannot be read: as long as it is not known what they name, deletes are refused",
			"manifests", failed.n, "one", failed.digest, "error", failed.err)
	}
	if len(tried) > failed.n {
		repo.SaveSoon()
	}
	return nil
}

// ReadWhole finds out what all manifests name, for one who deletes what none of them does.
func ReadWhole(repo *repos.Repository) error {
	findChildren(repo)
	return ReadAll(repo)
}

// ReadChildren looks for the manifests that findChildren does if the digest may be one.
func ReadChildren(repo *repos.Repository, digest ociregistry.Digest) {
	var may bool
	repo.View(func(s *repostate.State) { may = s.MayBeStored(digest) })
	if may && hasFile(repo, digest) {
		findChildren(repo)
	}
}

// hasFile reports whether there is a file of the digest.
func hasFile(repo *repos.Repository, digest ociregistry.Digest) bool {
	_, err := repo.Store().Stat(repo.Dir, digest)
	return err == nil
}

// Find returns a manifest, or nil if there is none. To find a manifest that only an index
// names, it reads all indexes, but only if there is a file with that name.
func Find(repo *repos.Repository, digest ociregistry.Digest) (m *repostate.Manifest, err error) {
	ReadChildren(repo, digest)
	var unread bool
	repo.View(func(s *repostate.State) { m, unread = s.Manifest(digest), s.HasUnread() })
	if m != nil || !unread {
		return m, nil
	}
	if _, err := repo.Store().Stat(repo.Dir, digest); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	if err := ReadAll(repo); err != nil {
		return nil, err
	}
	repo.View(func(s *repostate.State) { m = s.Manifest(digest) })
	return m, nil
}

// findChildren looks for manifests that indexes name, and that were not there when the
// snapshot was written: another program may have added them without a change of index.json.
func findChildren(repo *repos.Repository) {
	var state *repostate.State
	var partial []*repostate.Manifest
	repo.View(func(s *repostate.State) { state, partial = s, s.Partial() })
	for _, m := range partial {
		if err := read(repo, m); disk.IsExhausted(err) {
			return
		}
	}
	if partial != nil {
		repo.Update(func(*repostate.State) { state.SetWhole() })
	}
}

// FindLate looks for manifests with these digests that indexes name, and that came after the
// indexes were read: another program may have added them without a change of index.json.
func FindLate(repo *repos.Repository, digests map[ociregistry.Digest]bool) error {
	var parents []ociregistry.Digest
	var state *repostate.State
	repo.View(func(s *repostate.State) { state = s })
	state.Each(repo.Reading(), func(m *repostate.Manifest, _ ociregistry.Digest) {
		names := false
		state.EachName(m.Digest, func(digest ociregistry.Digest) { names = names || m.IsParent() && digests[digest] })
		if names {
			parents = append(parents, m.Digest)
		}
	})
	for _, digest := range parents {
		var m *repostate.Manifest
		repo.View(func(s *repostate.State) { m = s.Manifest(digest) })
		if m == nil {
			continue // deleted just now
		}
		if err := read(repo, m); err != nil {
			return fmt.Errorf("manifest %s cannot be read: %w", digest, err)
		}
	}
	return nil
}

// unread returns the manifests that were not read and not tried, which it then
// counts as tried.
func unread(repo *repos.Repository, tried map[*repostate.Manifest]bool) (manifests []*repostate.Manifest) {
	repo.View(func(s *repostate.State) {
		for m := range s.Unread() {
			if !tried[m] {
				tried[m] = true
				manifests = append(manifests, m)
			}
		}
	})
	return manifests
}

// readFailure has how many manifests could not be read, and why the first could
// not.
type readFailure struct {
	mu     sync.Mutex
	n      int
	digest ociregistry.Digest
	err    error
}

func (f *readFailure) add(m *repostate.Manifest, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n == 1 {
		f.digest, f.err = m.Digest, err
	}
}

// read finds out what m names.
func read(repo *repos.Repository, m *repostate.Manifest) error {
	info, err := Info(repo, m)
	if isDamage(err) {
		repo.Update(func(s *repostate.State) { s.SetObscure(m) })
	}
	if err != nil {
		return err
	}
	var children []*repostate.Manifest
	for _, ref := range info.Manifests {
		if child := content.Child(repo, ref); child != nil {
			children = append(children, child)
		}
	}
	repo.Update(func(s *repostate.State) {
		s.SetInfo(m, info)
		for _, child := range children {
			if s.Manifest(child.Digest) == nil {
				s.Add(child)
			}
		}
	})
	return nil
}

// Info returns what m says. Contents of a type that names nothing are not looked
// at.
func Info(repo *repos.Repository, m *repostate.Manifest) (info manifest.Info, err error) {
	if _, known := manifest.Known(m.MediaType); !known && m.MediaType != "" {
		return info, nil
	}
	text, err := content.Text(repo, m)
	if err != nil {
		return info, err
	}
	return manifest.Parse(m.MediaType, text)
}

// InDoubt returns an error that wraps [ociregistry.ErrInUse] if there is a manifest
// for which may reports true and of which nobody knows what it names. Those that
// were damaged are looked at once more, since nothing else tells when one was
// repaired by hand.
func InDoubt(repo *repos.Repository, may func(*repostate.Manifest) bool) error {
	for {
		var m *repostate.Manifest
		repo.View(func(s *repostate.State) { m = s.InDoubt(may) })
		if m == nil {
			return nil
		}
		if err := read(repo, m); disk.IsExhausted(err) {
			return err
		} else if err != nil {
			return &doubt{m.Digest, err}
		}
	}
}

// Unreadable returns an error that says of which manifest nobody knows what it names, if there
// is one, and why. Like InDoubt it looks again.
func Unreadable(repo *repos.Repository) error {
	err := InDoubt(repo, func(*repostate.Manifest) bool { return true })
	if d := new(doubt); errors.As(err, &d) {
		return fmt.Errorf("manifest %s cannot be read: %w", d.manifest, d.cause)
	}
	return err
}

// doubt is for content that may be in use. Its text does not say why the manifest
// cannot be read, which is not for clients: the logger was told.
type doubt struct {
	manifest ociregistry.Digest
	cause    error
}

func (d *doubt) Error() string {
	return fmt.Sprintf("%v: manifest %s cannot be read, and may do so", ociregistry.ErrInUse, d.manifest)
}

func (d *doubt) Unwrap() []error {
	if isDamage(d.cause) {
		return []error{ociregistry.ErrInUse}
	}
	return []error{ociregistry.ErrInUse, d.cause}
}

// isDamage reports whether an error says that a manifest is missing, or is not what
// it should be.
func isDamage(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ociregistry.ErrManifestInvalid)
}
