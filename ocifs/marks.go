package ocifs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// unfolded is the set of repositories whose journals are to be folded. Each has
// a mark, a file that has its name, so that the next Registry knows of those that
// this one does not come to. The marks are a help and no more: they are not
// synced, and a journal without one is folded when its repository is used.
type unfolded struct {
	mu    sync.Mutex
	repos map[*repository]struct{}
	names map[string]int // of how many of them
}

// add adds a repository, and reports whether it was not there.
func (u *unfolded) add(repo *repository) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, there := u.repos[repo]; there {
		return false
	}
	if u.repos == nil {
		u.repos = make(map[*repository]struct{})
		u.names = make(map[string]int)
	}
	u.repos[repo] = struct{}{}
	u.names[repo.name]++
	return true
}

// remove removes a repository, and reports whether it was there, and whether it
// was the last of its name.
func (u *unfolded) remove(repo *repository) (there, last bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, there = u.repos[repo]; there {
		delete(u.repos, repo)
		u.names[repo.name]--
	}
	if u.names[repo.name] > 0 {
		return there, false
	}
	delete(u.names, repo.name)
	return there, true
}

// count returns how many there are, but at least one.
func (u *unfolded) count() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return max(1, int64(len(u.repos)))
}

func (u *unfolded) all() []*repository {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.repos))
}

func (r *Registry) marksDir() string { return filepath.Join(r.dir, privateDir, "unfolded") }

func (r *Registry) markPath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(r.marksDir(), hex.EncodeToString(sum[:]))
}

// mark notes that a repository is to be folded.
func (r *Registry) mark(repo *repository) {
	if !r.unfolded.add(repo) || r.single != "" {
		return
	}
	f, err := r.fs.OpenFile(r.markPath(repo.name), os.O_WRONLY|os.O_CREATE, filePerm)
	if isAbsent(err) {
		if err = makeDirs(r.fs, filepath.Join(r.dir, privateDir), r.marksDir()); err == nil {
			f, err = r.fs.OpenFile(r.markPath(repo.name), os.O_WRONLY|os.O_CREATE, filePerm)
		}
	}
	if err == nil {
		_, err = f.WriteAt([]byte(repo.name), 0)
		f.Close()
	}
	if err != nil {
		r.log.Warn("marking a journal", "repository", repo.name, "err", err)
	}
}

// unmark notes that a repository was folded.
func (r *Registry) unmark(repo *repository) {
	if _, last := r.unfolded.remove(repo); last && r.single == "" {
		r.fs.Remove(r.markPath(repo.name))
	}
}

// markTime is how old a mark must be for its repository not to be one that is just
// being made.
const markTime = time.Second

// isMarkOld reports whether a mark may be removed although there is no repository
// of that name.
func (r *Registry) isMarkOld(repo *repository) bool {
	info, err := r.lstat(r.markPath(repo.name))
	return err == nil && (info == nil || time.Since(info.ModTime()) > markTime)
}

// marked returns the names of the repositories that have a mark, of whichever
// process.
func (r *Registry) marked() ([]string, error) {
	if r.single != "" {
		return []string{r.single}, nil
	}
	entries, err := r.fs.ReadDir(r.marksDir(), 0)
	if err != nil && !isAbsent(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		path := filepath.Join(r.marksDir(), e.Name())
		name, err := r.readMark(path)
		switch {
		case err != nil:
		case ociregistry.CheckRepository(name) == nil:
			names = append(names, name)
		case !r.opts.ReadOnly:
			r.fs.Remove(path) // its maker died before it wrote the name
		}
	}
	return names, nil
}

func (r *Registry) readMark(path string) (string, error) {
	f, err := r.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readFrom(f, 0)
}

// recover sees to it that the repositories are folded that another Registry did
// not come to, unless another process does it before.
func (r *Registry) recover(ctx context.Context) {
	r.recovery.lock()
	defer r.recovery.unlock()
	if !r.recovered {
		r.recovered = true
		r.findMarked(ctx)
	}
}

func (r *Registry) findMarked(ctx context.Context) {
	names, err := r.marked()
	if err != nil {
		r.log.Warn("looking for journals", "err", err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		repo, err := r.open(name)
		switch {
		case errors.Is(err, ociregistry.ErrNameUnknown):
			r.repository(name).scheduleFold() // it may just be made; if not, the mark goes then
		case err == nil:
			repo.scheduleFold()
		case !r.closed.Load():
			r.log.Warn("looking at a journal", "repository", name, "err", err)
		}
	}
}
