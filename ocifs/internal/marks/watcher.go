package marks

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Who wants to know which repositories others change looks at their marks, which are there
// before the first change. A mark may have come and gone since he looked last. So he makes
// whoever removes one say so: he moves the directory of marks to another place. Who does not
// find his mark then looks for it there, and appends its name to a log before he removes it.
// Those for whom nobody watches pay nothing.

// watched returns the path of the directory of marks that somebody watches.
func (d Dir) watched() string { return filepath.Join(filepath.Dir(d.Path), "watched") }

// log returns the path of the log of marks that were removed. It exists only while somebody
// may read it.
func (d Dir) log() string { return filepath.Join(filepath.Dir(d.Path), "changes") }

// maxLog is how long, in bytes, the log may become. A longer one is removed: who reads it
// then looks at all repositories.
const maxLog = 1 << 20

// note notes in the log that a mark is about to be removed.
func (d Dir) note(name string) {
	f, err := d.FS.OpenFile(d.log(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		if !disk.IsAbsent(err) {
			d.FS.Remove(d.log())
		}
		return
	}
	_, err = f.Write([]byte(d.ID + " " + name + "\n"))
	info, statErr := f.Stat()
	f.Close()
	if err != nil || statErr != nil || info.Size() > maxLog {
		d.FS.Remove(d.log())
	}
}

// A Watcher finds out which repositories others change. It is not safe for concurrent use.
type Watcher struct {
	Dir Dir

	generation string      // of the log
	seen       fs.FileInfo // the log, when it was read last
	offset     int64       // the log was read up to here
	marked     []string    // the repositories that had a mark then
	all        bool        // any repository may have changed since
}

// Changes are what a [Watcher] has found out.
type Changes struct {
	All      bool     // any repository may have changed
	Marked   []string // repositories that have a mark of any process
	Folded   []string // those of which this process has removed it, or that had one at the last call
	Unmarked []string // those of which others have removed it since the last call
}

// Changes returns what has changed since the last call that returned no error. The first time,
// that may be all.
func (w *Watcher) Changes() (c Changes, err error) {
	if err := w.move(); err != nil {
		return c, err
	}
	if err := w.begin(); err != nil {
		return c, err
	}
	// Before a mark is removed, its name is in the log: it is here or there.
	if c.Marked, _, err = w.Dir.namesIn(w.Dir.watched()); err != nil {
		return c, err
	}
	if err := w.read(&c); err != nil {
		return c, err
	}
	// A mark that is there may have its name in the log already, and be removed only later.
	c.Folded = append(c.Folded, w.marked...)
	w.marked = c.Marked
	c.All, w.all = w.all, false
	return c, nil
}

// move moves the marks to where they are watched. Some may have been removed elsewhere.
func (w *Watcher) move() error {
	d := w.Dir
	if info, err := disk.Lstat(d.FS, d.Path); info == nil {
		return err
	}
	if there, err := disk.Lstat(d.FS, d.watched()); err != nil {
		return err
	} else if there == nil {
		err := d.FS.Rename(d.Path, d.watched())
		if disk.IsAbsent(err) {
			err = nil // another watcher was first
		}
		w.all = true
		return err
	}
	// Somebody made the directory before he saw that the marks are watched.
	entries, err := d.FS.ReadDir(d.Path, 0)
	if err != nil && !disk.IsAbsent(err) {
		return err
	}
	w.all = true
	for _, e := range entries {
		err := d.FS.Rename(filepath.Join(d.Path, e.Name()), filepath.Join(d.watched(), e.Name()))
		if err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	d.FS.Remove(d.Path) // if there are marks again, the next call moves them
	return nil
}

// begin makes the directory and the log, if they do not exist.
func (w *Watcher) begin() error {
	d := w.Dir
	if info, err := disk.Lstat(d.FS, d.log()); info != nil || err != nil {
		return err
	}
	if err := disk.MakeDirs(d.FS, filepath.Dir(d.Path), d.watched()); err != nil {
		return err
	}
	w.all = true
	f, err := d.FS.OpenFile(d.log(), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, disk.FilePerm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write([]byte(rand.Text() + "\n")); err != nil {
		d.FS.Remove(d.log())
	}
	return err
}

// generationSize is the length of the first line of a log.
var generationSize = int64(len(rand.Text()) + 1)

// read adds the names that were appended to the log since it was read last. Some may have been
// lost.
func (w *Watcher) read(c *Changes) error {
	d := w.Dir
	info, err := disk.Lstat(d.FS, d.log())
	if err != nil || info != nil && disk.Unchanged(info, w.seen) {
		return err
	}
	text, err := disk.ReadFirst(d.FS, d.log(), -1)
	if err != nil {
		return err
	}
	generation := text[:min(generationSize, int64(len(text)))]
	if generation != w.generation || int64(len(text)) < w.offset {
		w.all = true
		w.generation, w.offset = generation, min(generationSize, int64(len(text)))
	}
	rest := text[w.offset:]
	rest = rest[:strings.LastIndexByte(rest, '\n')+1]
	for line := range strings.Lines(rest) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case ociregistry.CheckRepository(name) != nil:
			w.all = true
		case id == d.ID:
			c.Folded = append(c.Folded, name)
		default:
			c.Unmarked = append(c.Unmarked, name)
		}
	}
	w.offset += int64(len(rest))
	w.seen = info
	return nil
}
