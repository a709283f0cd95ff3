// Package pulls keeps the times at which manifests were last pulled: in memory, and now and
// then in a file for each repository. A pull is not a write.
//
// What nobody has written down when a process dies is lost, and what others have in memory is
// not known here. The files are not synced, and may be deleted.
package pulls

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// every is how long pulls are in memory alone.
const every = 10 * time.Minute

// maxNoted is how many pulls are in memory before they are written down at once.
const maxNoted = 20_000

// Log has the pulls of the repositories of a registry. The fields are set before it is used. It
// is safe for concurrent use, and several processes may have the same directory.
type Log struct {
	Work *disk.Workspace
	Dir  string // which is made when it is needed, in that of Work
	Log  *slog.Logger

	mu      sync.Mutex
	pulled  map[string]times // by repository, since the last write
	noted   int              // how many times it has
	writer  *time.Timer      // nil if nothing is to be written
	closed  bool
	writing sync.WaitGroup
}

// times are when manifests were last pulled, in nanoseconds since 1970.
type times map[ociregistry.Digest]int64

// add adds other times: of two pulls of a manifest, the last one counts.
func (t times) add(others times) {
	for digest, at := range others {
		t[digest] = max(t[digest], at)
	}
}

// Note notes that a manifest is pulled at a time. It keeps both strings.
func (l *Log) Note(repo string, digest ociregistry.Digest, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.pulled == nil {
		l.pulled = make(map[string]times)
	}
	if l.pulled[repo] == nil {
		l.pulled[repo] = make(times)
	}
	before := len(l.pulled[repo])
	l.pulled[repo][digest] = at.UnixNano()
	l.noted += len(l.pulled[repo]) - before
	if l.writer == nil {
		l.writing.Add(1)
		l.writer = time.AfterFunc(every, func() {
			defer l.writing.Done()
			l.mu.Lock()
			l.writer = nil
			l.mu.Unlock()
			l.write()
		})
	}
	if l.noted == maxNoted && l.writer.Stop() {
		l.writer.Reset(0)
	}
}

// Close writes down what is in memory. What is noted after it is lost.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	if l.writer != nil && l.writer.Stop() {
		l.writing.Done()
	}
	l.mu.Unlock()
	l.writing.Wait()
	l.write()
}

// write writes down what is in memory.
func (l *Log) write() {
	l.mu.Lock()
	pulled := l.pulled
	l.pulled, l.noted = nil, 0
	l.mu.Unlock()
	for repo, more := range pulled {
		err := l.change(repo, func(all times) bool {
			all.add(more)
			return true
		})
		if err != nil {
			l.Log.Warn("pulls cannot be written down", "repository", repo, "error", err)
		}
	}
}

// Times returns when manifests of a repository were last pulled, as far as is known.
func (l *Log) Times(repo string) (times, error) {
	all, err := l.read(repo)
	l.mu.Lock()
	defer l.mu.Unlock()
	all.add(l.pulled[repo])
	return all, err
}

// Forget forgets the manifests for which there reports false. It looks at nothing if there is
// no file.
func (l *Log) Forget(repo string, there func(ociregistry.Digest) bool) error {
	if info, err := disk.Lstat(l.Work.FS, l.file(repo)); info == nil {
		return err
	}
	return l.change(repo, func(all times) (changed bool) {
		before := len(all)
		maps.DeleteFunc(all, func(digest ociregistry.Digest, _ int64) bool { return !there(digest) })
		return len(all) < before
	})
}

// Retain removes the files of all repositories but these.
func (l *Log) Retain(repos map[string]bool) error {
	entries, err := l.Work.FS.ReadDir(l.Dir, 0)
	if err != nil {
		if disk.IsAbsent(err) {
			err = nil
		}
		return err
	}
	files := map[string]bool{lockName: true}
	for repo := range repos {
		files[filepath.Base(l.file(repo))] = true
	}
	var errs []error
	for _, e := range entries {
		if !files[e.Name()] {
			errs = append(errs, l.Work.FS.Remove(filepath.Join(l.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (l *Log) file(repo string) string {
	sum := sha256.Sum256([]byte(repo))
	return filepath.Join(l.Dir, hex.EncodeToString(sum[:]))
}

// lockName is the name of the file that is locked while another one is changed.
const lockName = "lock"

// maxWait is how long the file may be locked by others.
const maxWait = 5 * time.Second

// change writes the file of a repository again, unless f reports that it has changed nothing.
func (l *Log) change(repo string, f func(times) bool) error {
	if err := disk.MakeDirs(l.Work.FS, l.Work.Dir, l.Dir); err != nil {
		return err
	}
	lock, err := l.Work.FS.OpenFile(filepath.Join(l.Dir, lockName), os.O_RDWR|os.O_CREATE, disk.FilePerm)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	if err := disk.Lock(ctx, l.Work.FS, lock, time.Millisecond, 50*time.Millisecond); err != nil {
		return err
	}
	all, err := l.read(repo)
	if err != nil || !f(all) {
		return err
	}
	name, err := l.Work.CreateText(format(all), disk.FilePerm)
	if err != nil {
		return err
	}
	if err := l.Work.FS.Rename(name, l.file(repo)); err != nil {
		l.Work.FS.Remove(name)
		return err
	}
	return nil
}

// A file has a line for each manifest: its digest, a space and the time.

func (l *Log) read(repo string) (times, error) {
	all := make(times)
	text, err := disk.ReadFirst(l.Work.FS, l.file(repo), -1)
	for line := range strings.Lines(text) {
		digest, at, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, parseErr := strconv.ParseInt(at, 10, 64)
		if parseErr == nil && ociregistry.CheckDigest(ociregistry.Digest(digest)) == nil {
			all[ociregistry.Digest(digest)] = n
		}
	}
	return all, err
}

func format(all times) (text []byte) {
	for _, digest := range slices.Sorted(maps.Keys(all)) {
		text = fmt.Appendf(text, "%s %d\n", digest, all[digest])
	}
	return text
}
