//go:build unix

package disktest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// The content of a disk after a power cut is the worst that POSIX allows:
//
//   - Of the writes to a file that were not synced, any pages are there, in any order,
//     and the file has any of the sizes that it had in the meantime. A page that is not
//     there has its old content, or zeros.
//   - A name that was created, moved or removed in a directory that was not synced may be
//     there or not, independently of everything else. Syncing a file does nothing for
//     its names. But a rename is never half done, and changes of one name keep their
//     order.
//   - If the sync of a file fails, the next sync does not write the same bytes either,
//     though programs still see them.

// diskPage is the unit in which the system writes files.
const diskPage = 4096

// diskWrite is a change of a file: data was written at offset, or the file was
// truncated there.
type diskWrite struct {
	seq      uint64
	offset   int64
	data     []byte
	truncate bool
}

func (d *Disk) write(ino *inode, c diskWrite) {
	c.seq = d.next()
	ino.log = append(ino.log, c)
	ino.data = c.apply(ino.data)
	d.touch(ino)
}

// apply applies c to data, which it may modify, and returns the result.
func (c *diskWrite) apply(data []byte) []byte {
	if c.truncate {
		return resized(data, int(c.offset))
	}
	data = resized(data, max(len(data), int(c.offset)+len(c.data)))
	copy(data[c.offset:], c.data)
	return data
}

// resized truncates data, or appends zeros.
func resized(data []byte, size int) []byte {
	if size <= len(data) {
		return data[:size]
	}
	data = slices.Grow(data, size-len(data))
	clear(data[len(data):size])
	return data[:size]
}

// diskEntry is the new value of a name in a directory: an inode, or nil.
type diskEntry struct {
	dir  *inode
	name string
	ino  *inode
}

// diskChange is a change of one or two names that is never half done.
type diskChange []diskEntry

// diskName is a name in a directory.
type diskName struct {
	dir  *inode
	name string
}

func (d *Disk) change(c diskChange) {
	for _, e := range c {
		if old := e.dir.entries[e.name]; old != nil {
			old.nlink--
			delete(e.dir.entries, e.name)
		}
		if e.ino != nil {
			e.ino.nlink++
			e.dir.entries[e.name] = e.ino
		}
		d.touch(e.dir)
	}
	d.log = append(d.log, c)
}

// persist applies c to the medium.
func (c diskChange) persist() {
	for _, e := range c {
		if e.ino == nil {
			delete(e.dir.stableEntries, e.name)
		} else {
			e.dir.stableEntries[e.name] = e.ino
		}
	}
}

// SyncDir makes durable the entries that the directory had when it was called, and
// all changes that must precede them.
func (d *Disk) SyncDir(name string) error {
	if err := d.begin("syncdir", name, ""); err != nil {
		return err
	}
	ino, err := d.lookup(name)
	if err == nil && !ino.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		d.Mu.Unlock()
		return diskError("open", name, err)
	}
	return d.await("syncdir", name, slices.Clone(d.log), func(log []diskChange) {
		d.persist(log, func(e *diskEntry) bool { return e.dir == ino })
	})
}

func (d *Disk) StartSync(disk.File, int64, int64) {}

func (d *Disk) SyncAll(name string) error {
	if err := d.begin("syncall", name, ""); err != nil {
		return err
	}
	seq := d.seq
	return d.await("syncall", name, slices.Clone(d.log), func(log []diskChange) {
		d.persist(log, func(*diskEntry) bool { return true })
		seen := make(map[*inode]bool)
		d.root.visit(seen)
		for ino := range seen {
			ino.flush(seq)
		}
	})
}

// visit collects ino and all inodes below it.
func (ino *inode) visit(seen map[*inode]bool) {
	if seen[ino] {
		return
	}
	seen[ino] = true
	for _, entries := range []map[string]*inode{ino.entries, ino.stableEntries} {
		for _, child := range entries {
			child.visit(seen)
		}
	}
}

// await waits for the medium with d.Mu unlocked, and calls done if the power is still
// on. d.Mu is held at the call, but not afterwards. log is passed to done.
func (d *Disk) await(op, name string, log []diskChange, done func(log []diskChange)) error {
	d.Mu.Unlock()
	d.Yield()
	d.Mu.Lock()
	defer d.Mu.Unlock()
	if d.Off {
		return diskError(op, name, errPower)
	}
	done(log)
	return nil
}

// persist applies to the medium the selected changes in log, and earlier changes of
// the same names.
func (d *Disk) persist(log []diskChange, selected func(*diskEntry) bool) {
	keys := make(map[diskName]bool)
	gone := make(map[*diskEntry]bool) // by first element
	for _, c := range slices.Backward(log) {
		if !slices.ContainsFunc(c, func(e diskEntry) bool { return keys[diskName{e.dir, e.name}] || selected(&e) }) {
			continue
		}
		gone[&c[0]] = true
		for _, e := range c {
			keys[diskName{e.dir, e.name}] = true
		}
	}
	d.log = slices.DeleteFunc(d.log, func(c diskChange) bool {
		if !gone[&c[0]] {
			return false
		}
		c.persist() // if another sync has persisted it meanwhile, it is not in d.log
		return true
	})
}

func (f *diskFile) Sync() error {
	if err := f.begin("sync"); err != nil {
		return err
	}
	seq := f.d.seq
	bad := f.d.BadSyncs > 0 && f.d.rnd.Float64() < f.d.BadSyncs
	err := f.d.await("sync", f.name, nil, func([]diskChange) {
		if bad {
			f.ino.lose(f.d.rnd, seq)
		} else {
			f.ino.flush(seq)
		}
	})
	if err == nil && bad {
		err = diskError("sync", f.name, syscall.EIO)
	}
	return err
}

// removeUpTo removes the changes up to seq from the log and returns them.
func (ino *inode) removeUpTo(seq uint64) []diskWrite {
	n := 0
	for n < len(ino.log) && ino.log[n].seq <= seq {
		n++
	}
	taken := ino.log[:n:n]
	ino.log = ino.log[n:]
	return taken
}

// flush writes to the medium the pages that were changed up to seq.
func (ino *inode) flush(seq uint64) {
	changes := ino.removeUpTo(seq)
	if len(changes) == 0 {
		return
	}
	stable := slices.Clone(ino.stable)
	clean := slices.Clone(ino.clean)
	dirty := make(map[int]bool)
	for i := range changes {
		c := &changes[i]
		if c.truncate {
			stable = stable[:min(len(stable), int(c.offset))]
		}
		clean = c.apply(clean)
		c.pages(diskPage, func(page int) { dirty[page] = true })
	}
	stable = resized(stable, len(clean))
	for page := range dirty {
		copyPage(stable, clean, page, diskPage)
	}
	ino.stable, ino.clean = stable, clean
}

// lose is a flush that fails. The medium keeps what it had written by then, and the
// rest is not written later.
func (ino *inode) lose(rnd *rand.Rand, seq uint64) {
	changes := ino.removeUpTo(seq)
	ino.stable = ino.survivors(rnd, diskPage, changes)
	ino.clean = slices.Clone(ino.clean)
	for i := range changes {
		ino.clean = changes[i].apply(ino.clean)
	}
}

// pages calls f for each page that c has changed.
func (c *diskWrite) pages(size int, f func(page int)) {
	if c.truncate {
		f(int(c.offset) / size) // the part after the new end becomes zero
		return
	}
	for page := int(c.offset) / size; page*size < int(c.offset)+len(c.data); page++ {
		f(page)
	}
}

// copyPage copies a page as far as both slices have it.
func copyPage(dst, src []byte, page, size int) {
	if start := page * size; start < min(len(dst), len(src)) {
		copy(dst[start:min(len(dst), start+size)], src[start:])
	}
}

// survivors returns content that the medium may have if the power is cut while it
// writes the changes in pages of the given size. Each page, and the size of the file,
// is as it was after some number of the changes.
func (ino *inode) survivors(rnd *rand.Rand, pageSize int, changes []diskWrite) []byte {
	dirtySince := make(map[int]int) // by page, after how many changes
	sizes := []int{len(ino.stable)}
	size := len(ino.clean)
	for i := range changes {
		c := &changes[i]
		if size = max(size, int(c.offset)+len(c.data)); c.truncate {
			size = int(c.offset)
		}
		sizes = append(sizes, size)
		c.pages(pageSize, func(page int) {
			if dirtySince[page] == 0 {
				dirtySince[page] = i + 1
			}
		})
	}
	pick := func() int {
		switch rnd.IntN(4) {
		case 0:
			return 0
		case 1:
			return len(changes)
		}
		return rnd.IntN(len(changes) + 1)
	}
	sizeAfter := pick()
	inOrder := rnd.IntN(3) == 0
	result := resized(slices.Clone(ino.stable), sizes[sizeAfter])
	pagesAfter := make([][]int, len(changes)+1)
	for page := 0; page*pageSize < len(result); page++ {
		after := sizeAfter
		if !inOrder {
			after = pick()
		}
		if since := dirtySince[page]; since != 0 && since <= after {
			pagesAfter[after] = append(pagesAfter[after], page)
		}
	}
	content := slices.Clone(ino.clean)
	for i := range changes {
		content = changes[i].apply(content)
		for _, page := range pagesAfter[i+1] {
			clear(result[page*pageSize : min(len(result), (page+1)*pageSize)])
			copyPage(result, content, page, pageSize)
		}
	}
	return result
}

// Cut cuts the power, and returns a disk with what is left. All later calls of d
// fail.
func (d *Disk) Cut() *Disk {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Off = true
	rnd := d.rnd
	// Sometimes nothing survives, sometimes everything.
	chance := []float64{0, 0.1, 0.5, 0.9, 1}
	names, pages := chance[rnd.IntN(len(chance))], chance[rnd.IntN(len(chance))]
	lost := make(map[diskName]bool)
	for _, c := range d.log {
		if rnd.Float64() >= names || slices.ContainsFunc(c, func(e diskEntry) bool { return lost[diskName{e.dir, e.name}] }) {
			for _, e := range c {
				lost[diskName{e.dir, e.name}] = true
			}
			continue
		}
		c.persist()
	}
	size := []int{512, diskPage}[rnd.IntN(2)] // the unit in which the medium writes
	after := d.copy(func(ino *inode) map[string]*inode { return ino.stableEntries }, func(ino *inode) []byte {
		if rnd.Float64() < pages {
			return ino.survivors(rnd, size, ino.log)
		}
		return ino.stable
	})
	after.boot()
	return after
}

// Kill ends the process, and returns the disk for the next one: nothing is lost, but
// nothing more is durable either.
func (d *Disk) Kill() *Disk {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Off = true
	seen := make(map[*inode]bool)
	d.root.visit(seen)
	for ino := range seen {
		ino.lock = nil
	}
	return &Disk{root: d.root, log: d.log, seq: d.seq, Yield: d.Yield, rnd: d.rnd}
}

// Clone returns a disk that has, durably, what programs see on d now.
func (d *Disk) Clone() *Disk {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return d.copy(func(ino *inode) map[string]*inode { return ino.entries }, func(ino *inode) []byte { return ino.data })
}

// copy returns a disk with the given directory entries and file contents, all of them
// on the medium.
func (d *Disk) copy(entries func(*inode) map[string]*inode, data func(*inode) []byte) *Disk {
	after := NewDisk(d.rnd)
	after.seq, after.Yield = d.seq, d.Yield
	copies := make(map[*inode]*inode)
	var copyOf func(*inode) *inode
	copyOf = func(ino *inode) *inode {
		ino2 := copies[ino]
		if ino2 != nil {
			ino2.nlink++
			return ino2
		}
		ino2 = newInode(ino.number, ino.mode)
		ino2.mtime, ino2.nlink = ino.mtime, 1
		copies[ino] = ino2
		if !ino.mode.IsDir() {
			ino2.data = slices.Clone(data(ino))
			ino2.stable = slices.Clone(ino2.data)
			ino2.clean = ino2.stable
			return ino2
		}
		entries := entries(ino)
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			child := copyOf(entries[name])
			ino2.entries[name], ino2.stableEntries[name] = child, child
		}
		return ino2
	}
	after.root = copyOf(d.root)
	return after
}
