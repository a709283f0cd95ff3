// Package snapshots keeps snapshots: a file beside a repository's journal has what its
// index.json says and what its manifests name. A process that finds one which was made for
// the present index.json neither parses that nor reads any manifest.
//
// Nothing relies on a snapshot: it has checksums, and says by the content of index.json for
// which one it was made. One that is missing, damaged or of another index.json is ignored.
// That is why it is never synced.
package snapshots

import (
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// MinIndex is the length, in bytes, of the shortest index.json that always has a snapshot; a
// shorter one has one if its tags have times that it would lose without. To
// write and name one takes 4 calls of the system in each fold, and to read one 6 in each
// process, which then needs none of the 4 for each manifest. A shorter index.json has up to
// 4 entries, and belongs to a repository that is just begun.
const MinIndex = 1 << 10

// partSize is how many bytes of a file are read at once, so that those which are only looked
// at stay near the processor.
const partSize = 256 << 10

// readParts gives the bytes of f to w, which never fails, a part at a time.
func readParts(w io.Writer, f io.ReaderAt, part []byte) error {
	for off := int64(0); ; {
		n, err := f.ReadAt(part, off)
		off += int64(n)
		w.Write(part[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// SumIndex returns the sum of an index.json, and its file information.
func SumIndex(fsys disk.FS, index string) (sum repostate.IndexSum, info fs.FileInfo, err error) {
	return sumIndex(fsys, index, make([]byte, partSize))
}

// sumIndex is SumIndex, which reads a part of the file at a time.
func sumIndex(fsys disk.FS, index string, part []byte) (sum repostate.IndexSum, info fs.FileInfo, err error) {
	f, err := fsys.OpenFile(index, os.O_RDONLY, 0)
	if err != nil {
		return sum, nil, err
	}
	defer f.Close()
	if err := readParts(&sum, f, part); err != nil {
		return sum, nil, err
	}
	info, err = f.Stat()
	return sum, info, err
}

// File is the snapshot for an index.json. It need not exist.
type File struct {
	Path, Index string
	Work        *disk.Workspace
}

// Read returns the state that the snapshot has, or nil if there is none, and whether it is
// that of the present index.json, which has size bytes. An error means that the snapshot is
// damaged or cannot be read.
func (s File) Read(size int64) (state *repostate.State, current bool, err error) {
	if size <= int64(len(repostate.EmptyIndex)) {
		return nil, false, nil
	}
	f, err := s.Work.FS.OpenFile(s.Path, os.O_RDONLY, 0)
	if disk.IsAbsent(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	sum, err := readSum(f)
	if err != nil {
		return nil, false, err
	}
	if sum.Length != size {
		state, err = open(f, make([]byte, partSize))
		return state, false, err
	}
	return s.read(f, sum)
}

// readSum returns the sum of the index.json that a snapshot was made for.
func readSum(f disk.File) (repostate.IndexSum, error) {
	header := make([]byte, repostate.SnapshotHeader)
	if _, err := f.ReadAt(header, 0); err != nil {
		return repostate.IndexSum{}, err
	}
	sum, ok := repostate.SnapshotSum(string(header))
	if !ok {
		return sum, repostate.ErrNoSnapshot
	}
	return sum, nil
}

// read returns the state that a snapshot has, and whether the present index.json has the given
// sum. It looks at both files at once, since each takes as long as the other.
func (s File) read(f disk.File, sum repostate.IndexSum) (state *repostate.State, current bool, err error) {
	// These come before the text: after something large, what is made pays for the garbage
	// collector's work.
	parts := [2][]byte{make([]byte, partSize), make([]byte, partSize)}
	var now repostate.IndexSum
	err = parallel.Do(2, 2, func(i int) (err error) {
		if i == 0 {
			now, _, err = sumIndex(s.Work.FS, s.Index, parts[i])
		} else {
			state, err = open(f, parts[i])
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return state, now == sum, nil
}

// open returns the state of a snapshot, of which it reads a part at a time.
func open(f disk.File, part []byte) (*repostate.State, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var text repostate.SnapshotText
	text.Grow(int(info.Size()))
	if err := readParts(&text, f, part); err != nil {
		return nil, err
	}
	return text.Open()
}

// Draft is a snapshot that was written but is not named yet. A nil Draft is none.
type Draft struct {
	Next *repostate.State // what it says, and what is known beside

	file File
	name string // of the staged file
}

// Draft writes the snapshot of a state, for the index.json that has the given sum. It
// returns nil if that is short, and the state has nothing that it lacks.
func (s File) Draft(state *repostate.State, sum repostate.IndexSum, lock sync.Locker) (*Draft, error) {
	lock.Lock()
	needed := sum.Length >= MinIndex || state.HasTimes()
	lock.Unlock()
	if !needed {
		return nil, nil
	}
	snap, err := state.Snapshot(sum, lock)
	if err != nil {
		return nil, err
	}
	d := &Draft{file: s, Next: snap.State}
	if d.name, err = s.Work.CreateText(snap.Text, disk.FilePerm); err != nil {
		return nil, err
	}
	return d, nil
}

// Put gives the snapshot its name. The journal is locked, if there is one.
func (d *Draft) Put() error {
	if d == nil {
		return nil
	}
	if err := d.file.Work.FS.Rename(d.name, d.file.Path); err != nil {
		return err
	}
	d.name = ""
	return nil
}

// Discard removes the staged file, unless it has its name.
func (d *Draft) Discard() {
	if d != nil && d.name != "" {
		d.file.Work.FS.Remove(d.name)
	}
}
