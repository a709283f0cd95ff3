package ocifs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// countBytes accounts for all that is there, for the limit of the options.
func (r *Registry) countBytes() error {
	counted := make(map[ociregistry.Digest]bool)
	count := func(digest ociregistry.Digest, size int64) {
		if !counted[digest] {
			counted[digest] = true
			r.used.Add(size)
		}
	}
	uncounted := func(name string, err error) {
		r.log.Warn("what is in a directory cannot be counted", "repository", name, "error", err)
	}
	err := r.eachDir(func(name, dir string) (bool, error) {
		err := r.eachBlob(dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
			switch {
			case !info.Mode().IsRegular():
			case links(info) == 1:
				r.used.Add(info.Size())
			default:
				count(digest, info.Size())
			}
			return nil
		})
		if errors.Is(err, fs.ErrPermission) {
			uncounted(name, err)
			err = nil
		}
		return true, err
	}, uncounted)
	if err != nil {
		return err
	}
	r.recover(r.ctx)
	for _, repo := range r.unfolded.all() {
		repo.mu.RLock()
		for digest, text := range repo.state.blobs {
			count(digest, int64(len(text)))
		}
		for _, m := range repo.state.fresh {
			if r.onlyName(repo, m.digest) == 0 { // else its file was counted
				count(m.digest, m.size)
			}
		}
		for digest := range repo.state.deleted {
			r.used.Add(-r.onlyName(repo, digest)) // the next fold removes it
		}
		repo.mu.RUnlock()
	}
	size, err := r.uploads.bytes()
	r.used.Add(size)
	return err
}

// onlyName returns the size of a file in a repository that has no other name, or
// zero.
func (r *Registry) onlyName(repo *repository, digest ociregistry.Digest) int64 {
	info, err := r.lstat(blobPath(repo.dir, digest))
	if err != nil || info == nil || links(info) != 1 || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// isCounted reports whether the bytes of a manifest, which is no blob, are accounted
// for. They are not when its file is missing, as one is that Repair has set aside.
// Without a limit, that is of no interest.
func (repo *repository) isCounted(m *stored) bool {
	if repo.registry.opts.MaxBytes <= 0 {
		return true
	}
	repo.mu.RLock()
	fresh := m.contents != ""
	repo.mu.RUnlock()
	if fresh {
		return true
	}
	info, err := repo.registry.lstat(blobPath(repo.dir, m.digest))
	return err != nil || info != nil && info.Mode().IsRegular()
}

// eachDir calls f for all directories that may be repositories, and skip for those
// that cannot be read, in which there may be others.
func (r *Registry) eachDir(f func(name, dir string) (bool, error), skip func(name string, err error)) error {
	if r.single != "" {
		_, err := f(r.single, r.dir)
		return err
	}
	return walkRepos(r.fs, r.dir, "", f, skip)
}

// eachBlob calls f for all that is where the blobs of a layout directory are, and has
// the name of one. It may be no file.
func (r *Registry) eachBlob(dir string, f func(digest ociregistry.Digest, info fs.FileInfo) error) error {
	for _, alg := range algorithms {
		err := r.eachBlobOf(filepath.Join(dir, "blobs", alg.String()), alg, f)
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	return nil
}

func (r *Registry) eachBlobOf(dir string, alg digest.Algorithm, f func(digest ociregistry.Digest, info fs.FileInfo) error) error {
	entries, err := r.fs.ReadDir(dir, 0)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest := digest.NewDigestFromEncoded(alg, e.Name())
		if ociregistry.CheckDigest(digest) != nil {
			continue
		}
		info, err := r.fs.Lstat(filepath.Join(dir, e.Name()))
		if isAbsent(err) {
			continue // it was just deleted
		}
		if err == nil {
			err = f(digest, info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bytes returns how many bytes the open sessions have.
func (u *uploads) bytes() (size int64, err error) {
	entries, err := u.store.fs.ReadDir(u.dir, 0)
	if err != nil && !isAbsent(err) {
		return 0, err
	}
	for _, e := range entries {
		id, isState := strings.CutSuffix(e.Name(), stateSuffix)
		if !isUploadName(id) {
			continue
		}
		var n int64
		if isState {
			n, err = u.smallBytes(id)
		} else {
			n, err = u.dataBytes(id)
		}
		if err != nil && !isAbsent(err) {
			return 0, err
		}
		size += n
	}
	return size, nil
}

// smallBytes returns how many bytes a session has in its state file.
func (u *uploads) smallBytes(id string) (int64, error) {
	info, err := u.store.fs.Lstat(u.statePath(id))
	if err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	f, err := u.store.fs.OpenFile(u.statePath(id), os.O_RDONLY, 0)
	if err != nil {
		return 0, nil // nobody can go on with it
	}
	defer f.Close()
	var text stateText
	f.ReadAt(text[:], 0)
	st, err := parseSessionState(&text)
	if err != nil || !st.inline {
		return 0, nil
	}
	return st.size, nil
}

// dataBytes returns how many bytes a session has in its data file.
func (u *uploads) dataBytes(id string) (int64, error) {
	info, err := u.store.fs.Lstat(u.dataPath(id))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
