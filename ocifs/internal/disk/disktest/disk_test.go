//go:build unix

package disktest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// TestDiskIsLikeTheSystem does the same random operations on a Disk and on the
// system, and compares the results.
func TestDiskIsLikeTheSystem(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		dirs := []string{scratch.Kept(t), "/"}
		systems := []disk.FS{disk.OS{}, NewDisk(rand.New(rand.NewPCG(seed, 0)))}
		var answers [2][]string
		for i := range systems {
			rnd := rand.New(rand.NewPCG(seed, 1)) // the same for both
			answers[i] = playOn(rnd, systems[i], dirs[i], 300)
		}
		for i, want := range answers[0] {
			qt.Assert(t, qt.Equals(answers[1][i], want), qt.Commentf("seed %d, step %d of\n%s", seed, i, strings.Join(answers[0][:i], "\n")))
		}
	}
}

// playOn does random things with few names and few open files.
func playOn(rnd *rand.Rand, fsys disk.FS, dir string, steps int) (answers []string) {
	var files []disk.File
	answer := func(format string, args ...any) { answers = append(answers, fmt.Sprintf(format, args...)) }
	name := func() string {
		names := []string{"a", "b", "c", "d", "d/a", "d/b", "e", "e/a", "a/x"}
		return names[rnd.IntN(len(names))]
	}
	for range steps {
		name1, name2 := name(), name()
		oldname, newname := filepath.Join(dir, name1), filepath.Join(dir, name2)
		n, offset, choice := rnd.IntN(10_000), rnd.Int64N(20_000), rnd.IntN(25)
		switch choice {
		case 0, 1:
			flags := []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_EXCL,
				os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_CREATE | os.O_APPEND}
			flag := flags[rnd.IntN(len(flags))]
			f, err := fsys.OpenFile(oldname, flag, 0o644)
			answer("open %s %x: %v", name1, flag, causeOf(err))
			if err != nil {
				continue
			}
			if info, _ := f.Stat(); info.IsDir() {
				f.Close() // seeking in it is the system's own affair
				continue
			}
			files = append(files, f)
		case 2:
			answer("mkdir %s: %v", name1, causeOf(fsys.Mkdir(oldname, 0o755)))
		case 3:
			answer("link %s %s: %v", name1, name2, causeOf(fsys.Link(oldname, newname)))
		case 4, 5:
			answer("rename %s %s: %v", name1, name2, causeOf(fsys.Rename(oldname, newname)))
		case 6:
			answer("remove %s: %v", name1, causeOf(fsys.Remove(oldname)))
		case 7:
			entries, err := fsys.ReadDir(oldname, 0)
			slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
			answer("readdir %s: %v: %v", name1, causeOf(err), entries)
		case 8, 9:
			info, err := fsys.Lstat(oldname)
			answer("lstat %s: %v", name1, causeOf(err))
			if err == nil && !info.IsDir() {
				answer("%s %d %v %d", info.Name(), info.Size(), info.Mode(), disk.Links(info))
			}
		}
		if choice < 10 || len(files) == 0 {
			continue
		}
		i := rnd.IntN(len(files))
		f, p := files[i], make([]byte, n)
		switch choice {
		case 10, 11, 12:
			n, err := f.Read(p)
			answer("read: %d %v %x", n, causeOf(err), p[:min(n, 50)])
		case 13, 14:
			n, err := f.ReadAt(p, offset)
			answer("readat: %d %v %x", n, causeOf(err), p[max(0, n-50):n])
		case 15, 16, 17:
			n, err := f.Write([]byte(strings.Repeat(fmt.Sprint(offset), n%500)))
			answer("write: %d %v", n, causeOf(err))
		case 18, 19:
			n, err := f.WriteAt([]byte(strings.Repeat(fmt.Sprint(n), n%500)), offset)
			answer("writeat: %d %v", n, causeOf(err))
		case 20:
			n, err := f.Seek(offset/2, n%3)
			answer("seek: %d %v", n, causeOf(err))
		case 21:
			answer("truncate: %v", causeOf(f.Truncate(offset)))
		case 22:
			info, err := f.Stat()
			answer("stat: %v", causeOf(err))
			if err == nil && !info.IsDir() {
				answer("%s %d %v %d", info.Name(), info.Size(), info.Mode(), disk.Links(info))
			}
		case 23:
			answer("sync: %v", causeOf(f.Sync()))
		case 24:
			ok, err := fsys.TryLock(f)
			answer("lock: %v %v", ok, causeOf(err))
			if n%4 == 1 {
				answer("unlock: %v", causeOf(fsys.Unlock(f)))
			}
			if n%2 == 0 {
				answer("close: %v", causeOf(f.Close()))
				files = slices.Delete(files, i, i+1)
			}
		}
	}
	for _, f := range files {
		f.Close()
	}
	return answers
}

// causeOf returns why a call failed, without what it was about.
func causeOf(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, fs.ErrClosed):
		return fs.ErrClosed
	}
	return err
}

// TestDiskLosesWhatWasNotSynced checks what can be there after a cut, and what
// cannot.
func TestDiskLosesWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 2*diskPage)
	const absent = "absent"
	tests := []struct {
		name   string
		run    func(d *Disk, f disk.File)
		want   []string // of the files a and b, "a=… b=…"
		random bool     // there may be others
	}{{
		name: "nothing is synced",
		run:  func(d *Disk, f disk.File) {},
		want: []string{"a=absent b=absent", "a= b=absent"},
	}, {
		name: "a file is synced, its name is not",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); f.Sync() },
		want: []string{"a=absent b=absent", "a=old b=absent"},
	}, {
		name: "a name is synced, its file is not",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); d.SyncDir("/") },
		want: []string{"a= b=absent", "a=\x00\x00\x00 b=absent", "a=old b=absent"},
	}, {
		name: "both are",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); f.Sync(); d.SyncDir("/") },
		want: []string{"a=old b=absent"},
	}, {
		name: "everything is",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); d.SyncAll("/") },
		want: []string{"a=old b=absent"},
	}, {
		name: "a rename is whole or lost",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); d.SyncAll("/"); d.Rename("/a", "/b") },
		want: []string{"a=old b=absent", "a=absent b=old"},
	}, {
		name: "a rename is synced",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); f.Sync(); d.Rename("/a", "/b"); d.SyncDir("/") },
		want: []string{"a=absent b=old"},
	}, {
		name: "a link is a name like others",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); d.SyncAll("/"); d.Link("/a", "/b"); d.Remove("/a") },
		want: []string{"a=old b=absent", "a=old b=old", "a=absent b=old", "a=absent b=absent"},
	}, {
		name: "what is in a directory is synced there",
		run: func(d *Disk, f disk.File) {
			appendTo(f, "old")
			f.Sync()
			d.Mkdir("/d", 0o777)
			d.Rename("/a", "/d/a")
			d.SyncDir("/d")
			d.Rename("/d/a", "/b")
		},
		want: []string{"a=absent b=absent", "a=absent b=old"},
	}, {
		name: "a file is overwritten",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); d.SyncAll("/"); f.WriteAt([]byte("news"), 0) },
		want: []string{"a=old b=absent", "a=new b=absent", "a=old\x00 b=absent", "a=news b=absent"},
	}, {
		name:   "pages come in any order",
		run:    func(d *Disk, f disk.File) { d.SyncAll("/"); appendTo(f, text) },
		want:   []string{"a= b=absent", "a=" + text + " b=absent", "a=" + strings.Repeat("\x00", diskPage) + text[diskPage:] + " b=absent"},
		random: true,
	}, {
		name: "a file is cut, and written anew",
		run: func(d *Disk, f disk.File) {
			appendTo(f, "older")
			d.SyncAll("/")
			f.Truncate(0)
			f.WriteAt([]byte("new"), 0)
		},
		want: []string{"a=older b=absent", "a= b=absent", "a=old b=absent", "a=new b=absent", "a=\x00\x00\x00 b=absent",
			"a=\x00\x00\x00\x00\x00 b=absent", "a=new\x00\x00 b=absent"},
	}, {
		name: "a sync that failed is not made up for",
		run: func(d *Disk, f disk.File) {
			d.SyncAll("/")
			d.BadSyncs = 1
			appendTo(f, text[:diskPage])
			f.Sync()
			d.BadSyncs = 0
			appendTo(f, "x")
			f.Sync()
		},
		want: []string{"a=" + strings.Repeat("\x00", diskPage) + "x b=absent", "a=" + text[:diskPage+1] + " b=absent"},
	}, {
		name: "a sync after the cut",
		run:  func(d *Disk, f disk.File) { appendTo(f, "old"); d.CutAt = len(d.Calls) + 1; f.Sync(); d.SyncDir("/") },
		want: []string{"a=absent b=absent", "a= b=absent", "a=old b=absent", "a=\x00\x00\x00 b=absent"},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			seen := make(map[string]bool)
			for seed := range uint64(1000) {
				d := NewDisk(rand.New(rand.NewPCG(seed, 0)))
				f, err := d.OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o666)
				qt.Assert(t, qt.IsNil(err))
				test.run(d, f)
				d = d.Cut()
				got := "a=" + textOf(d, "/a", absent) + " b=" + textOf(d, "/b", absent)
				qt.Assert(t, qt.IsTrue(test.random || slices.Contains(test.want, got)), qt.Commentf("got %q", got))
				seen[got] = true
			}
			for _, want := range test.want {
				qt.Check(t, qt.IsTrue(seen[want]), qt.Commentf("never %q", want))
			}
		})
	}
}

func appendTo(f disk.File, text string) {
	if _, err := f.Write([]byte(text)); err != nil {
		panic(err)
	}
}

func textOf(fsys disk.FS, name, absent string) string {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return absent
	}
	defer f.Close()
	text, _ := io.ReadAll(f)
	return string(text)
}
