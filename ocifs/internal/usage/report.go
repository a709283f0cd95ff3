package usage

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/marks"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/tally"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Reporter knows how many bytes repositories have. What this process changes, the tally
// learns as it happens. Repositories that others may have changed are looked at: one is counted
// if its files are not what they were when it was counted last.
//
// It is safe for concurrent use.
type Reporter struct {
	Repos    *repos.Set
	Work     *disk.Workspace
	Log      *slog.Logger
	Tally    *tally.Tally
	Watcher  *marks.Watcher // nil if nothing can be marked
	ReadOnly bool
	Gate     queue.Gate // held while looking

	looked bool // at all repositories
	saved  time.Time
	counts map[string]*count
}

// A count says when the bytes of a repository were counted.
type count struct {
	stamp stamp     // of its files, then
	final bool      // a change since shows in the stamp
	next  time.Time // it is not counted again before
}

// A repository of no more than manyBlobs is counted at once. To count others takes about a
// twentieth of the time, at most.
const (
	manyBlobs = 10_000
	perBlob   = 40 * time.Microsecond
)

// Below returns the bytes of a repository and of all below it.
func (r *Reporter) Below(ctx context.Context, prefix string) (int64, error) {
	select {
	case r.Gate <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer r.Gate.Unlock()
	if err := r.look(ctx); err != nil {
		return 0, err
	}
	return r.Tally.Below(prefix), nil
}

// LookAtAll makes the next call look at all repositories: one who has seen all may have found
// out what nobody has told.
func (r *Reporter) LookAtAll() {
	if !r.Tally.IsOn() {
		return
	}
	r.Gate.Lock()
	defer r.Gate.Unlock()
	r.looked = false
}

// Close writes down what is known.
func (r *Reporter) Close() {
	r.Gate.Lock()
	defer r.Gate.Unlock()
	if r.Tally.IsOn() && r.looked {
		r.save()
	}
}

// look brings the tally up to date.
func (r *Reporter) look(ctx context.Context) error {
	if !r.Tally.IsOn() {
		r.Tally.Start()
		r.counts = make(map[string]*count)
		r.load()
	}
	if err := r.doubtChanges(); err != nil {
		return err
	}
	doubtful := r.Tally.Doubtful()
	if err := r.lookAtThese(ctx, doubtful); err != nil {
		for _, name := range doubtful {
			r.Tally.Doubt(name)
		}
		return err
	}
	if time.Since(r.saved) > saveEvery {
		r.save()
	}
	return nil
}

// doubtChanges puts in doubt what others may have changed since the last call.
func (r *Reporter) doubtChanges() error {
	others := r.Work.HasOthers() // one who ends from now on may not have said what he has changed
	changes, err := r.changes()
	if err != nil {
		return err
	}
	if changes.All {
		r.looked = false
	}
	for _, name := range changes.Unmarked {
		r.Tally.Doubt(name)
	}
	alone := !others && len(changes.Marked)+len(changes.Folded) > 0 && !r.Work.HasOthers()
	for _, name := range changes.Marked {
		if !alone || !r.isOwn(name) {
			r.Tally.Doubt(name)
		}
	}
	if alone {
		return nil
	}
	for _, name := range changes.Folded {
		r.Tally.Doubt(name)
	}
	return nil
}

func (r *Reporter) changes() (marks.Changes, error) {
	switch {
	case r.Watcher == nil:
		names, err := r.Repos.Marked()
		return marks.Changes{Marked: names}, err
	case r.ReadOnly:
		return marks.Changes{All: true}, nil
	}
	return r.Watcher.Changes()
}

// isOwn reports whether it was this process that has marked a repository. If others have, too,
// and have changed its journal or its index.json, it is in doubt then.
func (r *Reporter) isOwn(name string) bool {
	repo := r.Repos.Use(name)
	defer repo.Release()
	return repo.IsToFold() && repo.Find() == nil
}

// lookAtThese looks at repositories, or at all if that was not done yet.
func (r *Reporter) lookAtThese(ctx context.Context, names []string) error {
	if !r.looked {
		return r.lookAtAll(ctx, names)
	}
	for _, name := range names {
		if err := r.lookAt(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reporter) lookAtAll(ctx context.Context, names []string) error {
	there := make(map[string]bool)
	unreadable := false
	err := r.Repos.EachDir("", func(name, dir string) (bool, error) {
		err := r.lookAt(ctx, name)
		there[name] = true
		return true, err
	}, func(name string, err error) {
		unreadable = true
		r.Log.Warn("what is below a directory cannot be counted", "repository", name, "error", err)
	})
	if err != nil {
		return err
	}
	for name := range r.counts {
		names = append(names, name)
	}
	for _, name := range names {
		if !there[name] && !unreadable {
			if err := r.lookAt(ctx, name); err != nil {
				return err
			}
		}
	}
	r.looked = true
	return nil
}

// lookAt counts a repository, unless its files are what they were.
func (r *Reporter) lookAt(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	repo := r.Repos.Use(name)
	defer repo.Release()
	begun, quiet := repo.Quiet()
	stamp, err := r.stamp(repo.Dir)
	if err != nil {
		return r.failed(repo, err)
	}
	c := r.counts[name]
	isNew := c == nil
	switch {
	case c != nil && c.final && c.stamp == stamp:
		return nil
	case isNew && !stamp.isThere() && quiet:
		r.Tally.Set(name, 0)
		return nil
	case isNew:
		c = new(count)
		r.counts[name] = c
	case time.Now().Before(c.next):
		r.Tally.Doubt(name)
		return nil
	}
	start := time.Now()
	n, blobs, err := bytesOf(repo)
	if err != nil {
		return r.failed(repo, err)
	}
	r.Tally.Trust(name) // what was in doubt until now, if it was a change, is in one of the stamps
	after, err := r.stamp(repo.Dir)
	if err != nil {
		return r.failed(repo, err)
	}
	again, _ := repo.Quiet()
	if quiet = quiet && again == begun; quiet || isNew {
		r.Tally.Set(name, n)
	} else if r.Work.HasOthers() {
		// Some of what this process does is in n, or is yet to be added, or both.
		now, _ := r.Tally.Of(name)
		r.Tally.Set(name, max(n, now))
	}
	c.stamp, c.final = stamp, quiet && stamp == after && stamp.isFinal(start)
	if blobs > manyBlobs {
		c.next = time.Now().Add(time.Duration(blobs) * perBlob)
	}
	switch {
	case !c.final:
		r.Tally.Doubt(name)
	case !stamp.isThere():
		delete(r.counts, name)
	}
	return nil
}

// failed returns an error that says nothing about the repository. Any other is logged, and the
// repository keeps the bytes that it had.
func (r *Reporter) failed(repo *repos.Repository, err error) error {
	if disk.IsExhausted(err) || errors.Is(err, context.Canceled) || r.Repos.Usable() != nil {
		return err
	}
	repo.Warn("the bytes of a repository cannot be counted", "error", err)
	return nil
}

// bytesOf counts the bytes of a repository, and its blobs.
func bytesOf(repo *repos.Repository) (n int64, blobs int, err error) {
	err = repo.Find()
	if errors.Is(err, ociregistry.ErrNameUnknown) || errors.Is(err, repos.ErrNoIndex) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	return countBytes(repo)
}

// countBytes counts the bytes of a repository, and the files of blobs and manifests. The size
// of content whose file is there is what manifests say, or else what its file has. If anything
// but a fold changes the repository meanwhile, the number is of no use.
func countBytes(repo *repos.Repository) (n int64, files int, err error) {
	noFile := make(map[ociregistry.Digest]bool) // which is not, or not yet, that of a blob
	var state *repostate.State
	repo.View(func(s *repostate.State) {
		state = s
		for digest, text := range s.Blobs() {
			n += int64(len(text))
			noFile[digest] = true
		}
		for digest := range s.Deleted() {
			noFile[digest] = true
		}
	})
	lock := repo.Reading()
	state.Each(lock, func(m *repostate.Manifest, _ ociregistry.Digest) { n += m.Size })
	store := repo.Store()
	err = store.EachName(repo.Dir, func(digest ociregistry.Digest) {
		files++
		if noFile[digest] {
			return
		}
		lock.Lock()
		isBlob, _ := state.MayBeGarbage(digest)
		size := state.NamedSize(digest)
		lock.Unlock()
		if isBlob && size < 0 {
			_, size, _ = store.Age(repo.Dir, digest) // zero if there is no file
		}
		if isBlob {
			n += size
		}
	})
	return n, files, err
}

// A stamp tells whether the files of a repository have changed: their sizes and modification
// times, in nanoseconds since 1970. They are zero for what is not there.
type stamp struct {
	IndexSize, IndexTime     int64
	JournalSize, JournalTime int64
	BlobTimes                [2]int64 // of the directories, by algorithm
}

func (s *stamp) isThere() bool { return *s != stamp{} }

// isFinal reports whether a change at a time or after it shows in the stamp. Filesystems keep
// times less exactly than clocks.
func (s *stamp) isFinal(at time.Time) bool {
	for _, modified := range append(s.BlobTimes[:], s.IndexTime, s.JournalTime) {
		grain := 50 * time.Millisecond
		if modified%int64(time.Second) == 0 {
			grain = 2 * time.Second
		}
		if modified != 0 && at.UnixNano()-modified < int64(grain) {
			return false
		}
	}
	return true
}

func (r *Reporter) stamp(dir string) (s stamp, err error) {
	var info fs.FileInfo
	if info, err = disk.Lstat(r.Work.FS, layout.IndexPath(dir)); info != nil {
		s.IndexSize, s.IndexTime = info.Size(), info.ModTime().UnixNano()
	}
	if err == nil {
		if info, err = disk.Lstat(r.Work.FS, layout.JournalPath(dir)); info != nil {
			s.JournalSize, s.JournalTime = info.Size(), info.ModTime().UnixNano()
		}
	}
	for i, algorithm := range blobs.Algorithms {
		if err != nil {
			return s, err
		}
		if info, err = disk.Lstat(r.Work.FS, filepath.Join(dir, "blobs", algorithm.String())); info != nil {
			s.BlobTimes[i] = info.ModTime().UnixNano()
		}
	}
	return s, err
}
