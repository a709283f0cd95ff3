//go:build unix

package disktest

import (
	"cmp"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// A Disk is a filesystem in memory whose power can be cut. To a running program it
// behaves like [disk.OS]. What remains after a cut is defined in cut.go.
type Disk struct {
	// Yield is called at the start of every call, and while a sync waits for the
	// medium, so that other goroutines can run in between.
	Yield func()

	Mu       sync.Mutex // protects the following
	Off      bool       // the power is off: every call fails
	Calls    []Call     // since the Disk was made
	CutAt    int        // the power goes off at this call, counted from 1; zero means never
	BadSyncs float64    // the fraction of file syncs that fail with EIO

	root *inode
	log  []diskChange // changes of directories that the medium does not have, oldest first
	seq  uint64       // counts changes
	rnd  *rand.Rand
}

// Call is a call of the filesystem or of a file, for messages.
type Call struct{ Op, Name, To string }

func (c Call) String() string {
	if c.To != "" {
		return fmt.Sprintf("%s %s %s", c.Op, c.Name, c.To)
	}
	return c.Op + " " + c.Name
}

var errPower = errors.New("the power is off")

// inode is a file or a directory. Only a directory has entries.
type inode struct {
	number  uint64
	mode    fs.FileMode
	mtime   time.Time
	nlink   int
	lock    *diskFile
	entries map[string]*inode // as programs see them
	data    []byte            // as programs see it

	stableEntries map[string]*inode // entries on the medium
	stable        []byte            // data on the medium
	clean         []byte            // data without the changes in log
	log           []diskWrite       // changes that are to be written to the medium, oldest first
}

// NewDisk returns an empty disk of a system that has just booted.
func NewDisk(rnd *rand.Rand) *Disk {
	d := &Disk{root: newInode(1, fs.ModeDir|0o777), seq: 1, Yield: func() {}, rnd: rnd}
	d.boot()
	return d
}

// boot gives the system of the disk a new boot id.
func (d *Disk) boot() {
	dir := d.root
	for _, name := range []string{"proc", "sys", "kernel", "random"} {
		if dir.entries[name] == nil {
			dir.entries[name] = newInode(d.next(), fs.ModeDir|0o555)
			dir.stableEntries[name] = dir.entries[name]
		}
		dir = dir.entries[name]
	}
	id := newInode(d.next(), 0o444)
	id.nlink, id.data = 1, []byte(crand.Text())
	id.stable, id.clean = id.data, id.data
	dir.entries["boot_id"], dir.stableEntries["boot_id"] = id, id
}

func newInode(number uint64, mode fs.FileMode) *inode {
	ino := &inode{number: number, mode: mode, mtime: time.Now()}
	if mode.IsDir() {
		ino.entries, ino.stableEntries = make(map[string]*inode), make(map[string]*inode)
	}
	return ino
}

// begin begins a call. If it returns no error, d.Mu is held.
func (d *Disk) begin(op, name, to string) error {
	d.Yield()
	d.Mu.Lock()
	d.Calls = append(d.Calls, Call{op, name, to})
	if len(d.Calls) == d.CutAt {
		d.Off = true
	}
	if d.Off {
		d.Mu.Unlock()
		return diskError(op, name, errPower)
	}
	return nil
}

func diskError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func linkError(op, oldname, newname string, err error) error {
	return &os.LinkError{Op: op, Old: oldname, New: newname, Err: err}
}

// next returns the number of the next change.
func (d *Disk) next() uint64 {
	d.seq++
	return d.seq
}

// touch sets the modification time of ino. No two changes get the same time.
func (d *Disk) touch(ino *inode) {
	ino.mtime = time.Now().Add(time.Duration(d.next()))
}

// parent returns the directory that has or would have the name, and its last element,
// which is empty for the root.
func (d *Disk) parent(name string) (dir *inode, last string, err error) {
	elems := strings.Split(strings.Trim(filepath.Clean(name), "/"), "/")
	dir = d.root
	for _, elem := range elems[:len(elems)-1] {
		switch dir = dir.entries[elem]; {
		case dir == nil:
			return nil, "", syscall.ENOENT
		case !dir.mode.IsDir():
			return nil, "", syscall.ENOTDIR
		}
	}
	return dir, elems[len(elems)-1], nil
}

func (d *Disk) lookup(name string) (*inode, error) {
	dir, last, err := d.parent(name)
	if err != nil || last == "" {
		return dir, err
	}
	if ino := dir.entries[last]; ino != nil {
		return ino, nil
	}
	return nil, syscall.ENOENT
}

func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := d.begin("open", name, ""); err != nil {
		return nil, err
	}
	defer d.Mu.Unlock()
	dir, last, err := d.parent(name)
	if err != nil {
		return nil, diskError("open", name, err)
	}
	ino := d.root
	if last != "" {
		ino = dir.entries[last]
	}
	writable := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case ino == nil && flag&os.O_CREATE == 0:
		return nil, diskError("open", name, syscall.ENOENT)
	case ino == nil:
		ino = newInode(d.next(), perm&fs.ModePerm)
		d.change(diskChange{{dir, last, ino}})
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, diskError("open", name, syscall.EEXIST)
	case ino.mode.IsDir() && (writable || flag&os.O_CREATE != 0):
		return nil, diskError("open", name, syscall.EISDIR)
	}
	if flag&os.O_TRUNC != 0 && writable && len(ino.data) > 0 {
		d.write(ino, diskWrite{truncate: true})
	}
	return &diskFile{d: d, ino: ino, name: name, flag: flag}, nil
}

func (d *Disk) Lstat(name string) (fs.FileInfo, error) {
	if err := d.begin("lstat", name, ""); err != nil {
		return nil, err
	}
	defer d.Mu.Unlock()
	ino, err := d.lookup(name)
	if err != nil {
		return nil, diskError("lstat", name, err)
	}
	return ino.info(filepath.Base(name)), nil
}

func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	if err := d.begin("mkdir", name, ""); err != nil {
		return err
	}
	defer d.Mu.Unlock()
	dir, last, err := d.parent(name)
	switch {
	case err != nil:
	case last == "" || dir.entries[last] != nil:
		err = syscall.EEXIST
	default:
		d.change(diskChange{{dir, last, newInode(d.next(), fs.ModeDir|perm&fs.ModePerm)}})
		return nil
	}
	return diskError("mkdir", name, err)
}

func (d *Disk) Link(oldname, newname string) error {
	if err := d.begin("link", oldname, newname); err != nil {
		return err
	}
	defer d.Mu.Unlock()
	ino, err := d.lookup(oldname)
	if err != nil {
		return linkError("link", oldname, newname, err)
	}
	dir, last, err := d.parent(newname)
	switch {
	case err != nil:
	case last == "" || dir.entries[last] != nil:
		err = syscall.EEXIST
	case ino.mode.IsDir():
		err = syscall.EPERM
	default:
		d.change(diskChange{{dir, last, ino}})
		return nil
	}
	return linkError("link", oldname, newname, err)
}

// Rename is like rename(2): it replaces an empty directory by another directory, and does
// nothing if both names are names of one file.
func (d *Disk) Rename(oldname, newname string) error {
	if err := d.begin("rename", oldname, newname); err != nil {
		return err
	}
	defer d.Mu.Unlock()
	oldDir, oldLast, err := d.parent(oldname)
	if err != nil {
		return linkError("rename", oldname, newname, err)
	}
	newDir, newLast, err := d.parent(newname)
	if err != nil {
		return linkError("rename", oldname, newname, err)
	}
	ino, err := d.lookup(oldname)
	if err != nil {
		return linkError("rename", oldname, newname, err)
	}
	switch old := newDir.entries[newLast]; {
	case newLast == "" || oldLast == "":
		err = syscall.EBUSY
	case strings.HasPrefix(filepath.Clean(newname), filepath.Clean(oldname)+"/"):
		err = syscall.EINVAL
	case strings.HasPrefix(filepath.Clean(oldname), filepath.Clean(newname)+"/"):
		err = syscall.ENOTEMPTY
	case old == ino:
		return nil
	case old != nil && ino.mode.IsDir() && !old.mode.IsDir():
		err = syscall.ENOTDIR
	case old != nil && !ino.mode.IsDir() && old.mode.IsDir():
		err = syscall.EISDIR
	case old != nil && len(old.entries) > 0:
		err = syscall.ENOTEMPTY
	default:
		d.change(diskChange{{oldDir, oldLast, nil}, {newDir, newLast, ino}})
		return nil
	}
	return linkError("rename", oldname, newname, err)
}

func (d *Disk) Remove(name string) error {
	if err := d.begin("remove", name, ""); err != nil {
		return err
	}
	defer d.Mu.Unlock()
	dir, last, err := d.parent(name)
	switch {
	case err != nil:
	case last == "":
		err = syscall.EBUSY
	case dir.entries[last] == nil:
		err = syscall.ENOENT
	case len(dir.entries[last].entries) > 0:
		err = syscall.ENOTEMPTY
	default:
		d.change(diskChange{{dir, last, nil}})
		return nil
	}
	return diskError("remove", name, err)
}

func (d *Disk) Chtimes(name string, modified time.Time) error {
	if err := d.begin("chtimes", name, ""); err != nil {
		return err
	}
	defer d.Mu.Unlock()
	ino, err := d.lookup(name)
	if err != nil {
		return diskError("chtimes", name, err)
	}
	ino.mtime = modified.Add(time.Duration(d.next()))
	return nil
}

func (d *Disk) EachEntry(name string, each func(fs.DirEntry)) error {
	entries, err := d.ReadDir(name, 0)
	for _, e := range entries {
		each(e)
	}
	return err
}

func (d *Disk) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	if err := d.begin("readdir", name, ""); err != nil {
		return nil, err
	}
	defer d.Mu.Unlock()
	ino, err := d.lookup(name)
	if err == nil && !ino.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, diskError("open", name, err)
	}
	var entries []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(ino.entries)) {
		if n > 0 && len(entries) == n {
			break
		}
		entries = append(entries, fs.FileInfoToDirEntry(ino.entries[name].info(name)))
	}
	// The order is not that of the names, but always the same.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int {
		return cmp.Compare(ino.entries[a.Name()].number, ino.entries[b.Name()].number)
	})
	return entries, nil
}

func (d *Disk) TryLock(f disk.File) (bool, error) {
	h := f.(*diskFile)
	if err := d.begin("lock", h.name, ""); err != nil {
		return false, err
	}
	defer d.Mu.Unlock()
	if h.closed {
		return false, diskError("lock", h.name, fs.ErrClosed)
	}
	if h.ino.lock == nil {
		h.ino.lock = h
	}
	return h.ino.lock == h, nil
}

func (d *Disk) Unlock(f disk.File) error {
	h := f.(*diskFile)
	if err := d.begin("unlock", h.name, ""); err != nil {
		return err
	}
	defer d.Mu.Unlock()
	if h.closed {
		return diskError("unlock", h.name, fs.ErrClosed)
	}
	if h.ino.lock == h {
		h.ino.lock = nil
	}
	return nil
}
