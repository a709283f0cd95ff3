package blobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

var background = context.Background()

// storeTest is a store that has two layouts.
type storeTest struct {
	*disktest.Bed
	quota *Quota
	s     *Store
	a, b  string
}

func newStoreTest(t *testing.T) *storeTest {
	st := &storeTest{Bed: disktest.NewBed(t), quota: new(Quota)}
	t.Cleanup(func() {
		st.FS.Set(nil)
		st.CheckNothingStaged()
	})
	st.a, st.b = st.Path("a"), st.Path("b")
	for _, dir := range []string{st.a, st.b} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "blobs"), 0o755)))
	}
	st.s = New(st.Work, st.quota, nil)
	return st
}

// push receives and puts content.
func (t *storeTest) push(dir string, data []byte) error {
	d := digest.FromBytes(data)
	st, err := t.s.Receive(background, bytes.NewReader(data), d, int64(len(data)))
	if err != nil {
		return err
	}
	defer st.Discard()
	return t.s.Put(background, dir, d, st)
}

// upload puts content that was staged without looking at the pool.
func (t *storeTest) upload(dir string, data []byte) error {
	st, err := t.s.Stage(digest.SHA256)
	if err != nil {
		return err
	}
	defer st.Discard()
	if _, err := st.ReadFrom(background, bytes.NewReader(data), NoLimit); err != nil {
		return err
	}
	return t.s.Put(background, dir, digest.FromBytes(data), st)
}

func (t *storeTest) checkBlob(dir string, data []byte) {
	t.Helper()
	f, info, err := t.s.Open(dir, digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	qt.Check(t, qt.Equals(info.Size(), int64(len(data))))
	got, err := io.ReadAll(f)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, data)))
}

func (t *storeTest) checkOneFile(names ...string) {
	t.Helper()
	for _, name := range names[1:] {
		qt.Check(t, qt.IsTrue(os.SameFile(t.Info(names[0]), t.Info(name))), qt.Commentf("%s", name))
	}
}

// sizes are those around which the ways of reading and writing change.
var sizes = []int{0, 1, 1000, bufferSize - 1, bufferSize, bufferSize + 1, 2 * bufferSize, 2*bufferSize + 1, 7*bufferSize + 5}

func TestPut_IsOneFileInPoolAndLayouts(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		t := newStoreTest(t)
		data := disktest.RandomBytes(1, size)
		d := digest.FromBytes(data)
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		qt.Assert(t, qt.IsNil(t.upload(t.b, data)))
		qt.Assert(t, qt.IsNil(t.upload(t.b, data)))
		t.checkBlob(t.a, data)
		t.checkOneFile(t.s.poolPath(d), Path(t.a, d), Path(t.b, d))

		t.FS.Set(nil)
		qt.Assert(t, qt.IsNil(t.push(t.b, data)))
		qt.Check(t, qt.Equals(t.FS.Count("file.WriteAt"), 0))
		t.checkOneFile(t.s.poolPath(d), Path(t.a, d), Path(t.b, d))
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	qt.Assert(t, qt.IsNil(tt.push(tt.a, data)))
	qt.Assert(t, qt.IsNil(tt.s.Link(background, "", tt.b, d)))

	qt.Assert(t, qt.IsNil(tt.s.Remove(tt.a, d)))
	_, err := tt.s.Stat(tt.a, d)
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	tt.checkBlob(tt.b, data)
	tt.checkOneFile(tt.s.poolPath(d), Path(tt.b, d))
	qt.Check(t, qt.ErrorIs(tt.s.Remove(tt.a, d), fs.ErrNotExist))

	// The last one takes the pool's entry with it, even if the content is just
	// coming again; and what came is there all the same.
	st, err := tt.s.Receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(st.pinned, d))
	qt.Assert(t, qt.IsNil(tt.s.Remove(tt.b, d)))
	qt.Assert(t, qt.IsNil(tt.s.Put(background, tt.a, d, st)))
	st.Discard()
	tt.checkBlob(tt.a, data)
	st, err = tt.s.Receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(tt.s.Remove(tt.a, d)))
	st.Discard()
	_, err = os.Lstat(tt.s.poolPath(d))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
}

// TestPut_ReplacesCorruptFiles overwrites the file of a blob, which has one name or
// two, with other bytes.
func TestPut_ReplacesCorruptFiles(t *testing.T) {
	t.Parallel()
	good := disktest.RandomBytes(1, 3*bufferSize)
	d := digest.FromBytes(good)
	other := bytes.Clone(good)
	other[2*bufferSize+7]++
	for _, bad := range [][]byte{nil, other[:5], other, append(bytes.Clone(other), 1)} {
		for name, push := range map[string]func(*storeTest, string, []byte) error{"push": (*storeTest).push, "upload": (*storeTest).upload} {
			for _, pooled := range []bool{true, false} {
				t := newStoreTest(t)
				qt.Assert(t, qt.IsNil(push(t, t.a, good)))
				if !pooled {
					qt.Assert(t, qt.IsNil(os.Remove(t.s.poolPath(d))))
				}
				qt.Assert(t, qt.IsNil(os.WriteFile(Path(t.a, d), bad, 0)))
				r, _, err := t.s.Open(t.a, d)
				if len(bad) == 0 {
					qt.Assert(t, qt.ErrorIs(err, fs.ErrNotExist))
				} else {
					qt.Assert(t, qt.IsNil(err))
				}
				qt.Assert(t, qt.IsNil(push(t, t.a, good)), qt.Commentf("%s of %d bytes, pooled %v", name, len(bad), pooled))
				t.checkBlob(t.a, good)
				t.checkOneFile(t.s.poolPath(d), Path(t.a, d))
				if r != nil {
					got, err := io.ReadAll(r)
					qt.Check(t, qt.IsNil(err))
					qt.Check(t, qt.IsTrue(bytes.Equal(got, bad)), qt.Commentf("a reader has what it opened"))
					r.Close()
				}
			}
		}
	}
}

// TestReceive_RefusesCorruptContentOfThePool sends the bytes of a damaged file of the
// pool.
func TestReceive_RefusesCorruptContentOfThePool(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	good := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(good)
	qt.Assert(t, qt.IsNil(tt.push(tt.a, good)))
	bad := bytes.Clone(good)
	bad[0]++
	qt.Assert(t, qt.IsNil(os.WriteFile(tt.s.poolPath(d), bad, 0)))
	_, err := tt.s.Receive(background, bytes.NewReader(bad), d, 1000)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
}

func TestReceive_ChecksSizeAndDigest(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := disktest.RandomBytes(1, 5*bufferSize)
	d := digest.FromBytes(data)
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(background)
	cancel()
	for range 2 { // with an empty pool, and with one that has the content
		for _, test := range []struct {
			name string
			ctx  context.Context
			r    io.Reader
			d    digest.Digest
			size int64
			want error
		}{
			{"short", background, bytes.NewReader(data[1:]), d, int64(len(data)), ociregistry.ErrSizeInvalid},
			{"long", background, bytes.NewReader(append(data, 0)), d, int64(len(data)), ociregistry.ErrSizeInvalid},
			{"other", background, bytes.NewReader(data), digest.FromString("x"), int64(len(data)), ociregistry.ErrDigestInvalid},
			{"fails early", background, iotest.ErrReader(broken), d, int64(len(data)), broken},
			{"fails late", background, io.MultiReader(bytes.NewReader(data[:4*bufferSize]), iotest.ErrReader(broken)), d, int64(len(data)), broken},
			{"fails at the end", background, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), d, int64(len(data)), broken},
			{"cancelled", cancelled, bytes.NewReader(data), d, int64(len(data)), context.Canceled},
			{"unknown size", background, bytes.NewReader(data), d, -1, nil},
			{"byte by byte", background, iotest.OneByteReader(bytes.NewReader(data)), d, int64(len(data)), nil},
			{"end with data", background, iotest.DataErrReader(bytes.NewReader(data)), d, int64(len(data)), nil},
		} {
			st, err := tt.s.Receive(test.ctx, test.r, test.d, test.size)
			if test.want != nil {
				qt.Check(t, qt.ErrorIs(err, test.want), qt.Commentf("%s", test.name))
			} else {
				qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", test.name))
				st.Discard()
			}
			tt.CheckNothingStaged()
		}
		qt.Assert(t, qt.IsNil(tt.push(tt.a, data)))
	}
}

func TestIs_ReadsAgainForOtherAlgorithm(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := disktest.RandomBytes(1, 1000)
	d := digest.SHA512.FromBytes(data)
	st, err := tt.s.Stage(digest.SHA256)
	qt.Assert(t, qt.IsNil(err))
	_, err = st.Write(data)
	qt.Assert(t, qt.IsNil(err))
	ok, err := st.Is(background, d)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(ok))
	ok, err = st.Is(background, digest.SHA512.FromString(""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsFalse(ok))
	qt.Assert(t, qt.IsNil(tt.s.Put(background, tt.a, d, st))) // makes blobs/sha512
	st.Discard()
	size, err := tt.s.Stat(tt.a, d)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(size, 1000))
}

// TestReadFrom_StopsAtTheLimit has other bytes follow the content.
func TestReadFrom_StopsAtTheLimit(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	for _, size := range sizes {
		r := bytes.NewReader(make([]byte, size+10))
		st, err := tt.s.Stage(digest.SHA256)
		qt.Assert(t, qt.IsNil(err))
		n, err := st.ReadFrom(background, r, int64(size))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, int64(size)))
		qt.Check(t, qt.Equals(r.Len(), 10))
		st.Discard()
	}
}

func TestPut_WithoutLayoutCanBeRepeated(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	dir := filepath.Join(filepath.Dir(tt.a), "c")
	st, err := tt.s.Receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	err = tt.s.Put(background, dir, d, st)
	qt.Check(t, qt.ErrorIs(err, ErrNoLayout))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	_, err = os.Lstat(tt.s.poolPath(d))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "blobs"), 0o755)))
	qt.Assert(t, qt.IsNil(tt.s.Put(background, dir, d, st)))
	st.Discard()
	tt.checkBlob(dir, data)
}

func TestLink(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	for _, from := range []string{tt.a, ""} {
		err := tt.s.Link(background, from, tt.b, d)
		qt.Check(t, qt.ErrorIs(err, ErrNoSource))
		qt.Check(t, qt.Not(qt.ErrorIs(err, ErrNoLayout)))
	}

	// Another tool wrote the blob.
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Dir(Path(tt.a, d)), 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(Path(tt.a, d), data, 0o644)))
	err := tt.s.Link(background, tt.a, filepath.Join(tt.b, "none"), d)
	qt.Check(t, qt.ErrorIs(err, ErrNoLayout))
	qt.Check(t, qt.Not(qt.ErrorIs(err, ErrNoSource)))
	tt.FS.Set(nil)
	qt.Assert(t, qt.IsNil(tt.s.Link(background, tt.a, tt.b, d)))
	qt.Check(t, qt.Equals(tt.FS.Count("file.Sync"), 1))
	tt.checkOneFile(tt.s.poolPath(d), Path(tt.a, d), Path(tt.b, d))
	qt.Assert(t, qt.IsNil(tt.s.Link(background, tt.a, tt.b, d)))
	qt.Assert(t, qt.IsNil(tt.s.Link(background, "", tt.b, d)))
	tt.checkBlob(tt.b, data)
}

// TestLink_CopiesWithoutHardLinks lets the filesystem refuse to give a file more
// names.
func TestLink_CopiesWithoutHardLinks(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{syscall.EMLINK, syscall.EXDEV, syscall.EPERM, errors.ErrUnsupported} {
		t := newStoreTest(t)
		data := disktest.RandomBytes(1, 3*bufferSize)
		d := digest.FromBytes(data)
		t.FS.Set(disktest.Failing("Link", errno))
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		t.checkBlob(t.a, data)
		qt.Assert(t, qt.IsNil(t.s.Link(background, t.a, t.b, d)))
		t.checkBlob(t.b, data)
		qt.Check(t, qt.ErrorIs(t.s.Link(background, t.a, filepath.Join(t.a, "c"), d), ErrNoLayout))
		qt.Check(t, qt.ErrorIs(t.s.Link(background, "", t.b, d), ErrNoSource))

		bad := bytes.Clone(data)
		bad[0]++
		qt.Assert(t, qt.IsNil(os.WriteFile(Path(t.a, d), bad, 0)))
		qt.Assert(t, qt.IsNil(t.s.Remove(t.b, d)))
		qt.Check(t, qt.ErrorIs(t.s.Link(background, t.a, t.b, d), ErrNoSource), qt.Commentf("a damaged blob was copied"))
	}
}

// TestPutAndLink_CopyWhenThereAreTooManyLinks lets the pool's file have the maximum
// number of names.
func TestPutAndLink_CopyWhenThereAreTooManyLinks(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	for name, again := range map[string]func(*storeTest) error{
		"push":   func(t *storeTest) error { return t.push(t.b, data) },
		"upload": func(t *storeTest) error { return t.upload(t.b, data) },
		"link":   func(t *storeTest) error { return t.s.Link(background, t.a, t.b, d) },
		"mount":  func(t *storeTest) error { return t.s.Link(background, "", t.b, d) },
	} {
		t := newStoreTest(t)
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		full := t.Info(t.s.poolPath(d))
		limited := &linkLimit{Hooks: t.FS, full: full}
		t.s.work.FS = limited
		qt.Assert(t, qt.IsNil(again(t)), qt.Commentf("%s", name))
		t.checkBlob(t.b, data)
		qt.Check(t, qt.IsFalse(os.SameFile(full, t.Info(Path(t.b, d)))))
		t.checkOneFile(t.s.poolPath(d), Path(t.b, d)) // the next ones share it
	}
}

type linkLimit struct {
	*disktest.Hooks
	full fs.FileInfo
}

func (l *linkLimit) Link(oldname, newname string) error {
	if info, err := l.Hooks.Lstat(oldname); err == nil && os.SameFile(info, l.full) {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: syscall.EMLINK}
	}
	return l.Hooks.Link(oldname, newname)
}

// TestStat_RejectsWhatIsNotABlob looks at files that are not blobs.
func TestStat_RejectsWhatIsNotABlob(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	d := digest.FromString("x")
	name := Path(tt.a, d)
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Dir(name), 0o755)))
	target := filepath.Join(tt.b, "target")
	qt.Assert(t, qt.IsNil(os.WriteFile(target, []byte("x"), 0o644)))
	for what, create := range map[string]func() error{
		"nothing":   func() error { return nil },
		"directory": func() error { return os.Mkdir(name, 0o755) },
		"link":      func() error { return os.Symlink(target, name) },
		"no bytes":  func() error { return os.WriteFile(name, nil, 0o644) },
	} {
		qt.Assert(t, qt.IsNil(create()))
		_, err := tt.s.Stat(tt.a, d)
		qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist), qt.Commentf("%s", what))
		_, _, err = tt.s.Open(tt.a, d)
		qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist), qt.Commentf("%s", what))
		qt.Check(t, qt.ErrorIs(tt.s.Link(background, tt.a, tt.b, d), ErrNoSource), qt.Commentf("%s", what))
		os.Remove(name)
	}
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := alg.FromString("")
		st, err := tt.s.Receive(background, bytes.NewReader(nil), d, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(tt.s.Put(background, tt.a, d, st)))
		st.Discard()
		size, err := tt.s.Stat(tt.a, d)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(size, 0))
	}
	tt.FS.Set(disktest.Failing("Lstat", syscall.EIO))
	_, err := tt.s.Stat(tt.a, d)
	qt.Check(t, qt.ErrorIs(err, syscall.EIO))
}

// TestFaults lets each call of a push or a link fail in turn. The cleanup of
// newStoreTest checks more: nothing stays staged or open.
func TestFaults(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 4*bufferSize)
	d := digest.FromBytes(data)
	ops := []string{"OpenFile", "Lstat", "Mkdir", "Link", "Rename", "SyncDir", "TryLock", "file.WriteAt", "file.ReadAt", "file.Sync", "file.Stat"}
	for _, op := range ops {
		for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EACCES} {
			for nth := 1; ; nth++ {
				t := newStoreTest(t)
				t.FS.Set(func(got, name string) error {
					if got == op && t.FS.Count(op) == nth {
						return errno
					}
					return nil
				})
				err := t.push(t.a, data)
				count := t.FS.Count(op)
				t.FS.Set(nil)
				t.CheckNothingStaged()
				if err == nil {
					t.checkBlob(t.a, data)
				} else {
					qt.Check(t, qt.ErrorIs(err, errno))
					qt.Assert(t, qt.IsNil(t.push(t.a, data)), qt.Commentf("after %s", op))
				}
				t.checkBlob(t.a, data)
				qt.Check(t, qt.IsNil(t.s.Link(background, t.a, t.b, d)))
				if count < nth {
					break
				}
			}
		}
	}
}

// After a failed sync, content must be written again, even if the next sync would
// succeed.
func TestPut_FailedSyncIsNotTrustedAgain(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	st, err := tt.s.Receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	defer st.Discard()
	tt.FS.Set(disktest.Failing("file.Sync", syscall.EIO))
	qt.Check(t, qt.ErrorIs(tt.s.Put(background, tt.a, d, st), syscall.EIO))
	tt.FS.Set(nil)
	qt.Check(t, qt.ErrorIs(tt.s.Put(background, tt.a, d, st), ErrBroken))
}

func TestStore_WithoutDurabilitySyncsNothing(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	work := disk.NewWorkspace(tt.FS, tt.Work.Dir, false)
	defer work.Close()
	tt.s.work = work
	data := disktest.RandomBytes(1, 1000)
	qt.Assert(t, qt.IsNil(tt.push(tt.a, data)))
	qt.Assert(t, qt.IsNil(tt.s.Link(background, "", tt.b, digest.FromBytes(data))))
	qt.Assert(t, qt.IsNil(tt.s.Remove(tt.b, digest.FromBytes(data))))
	for _, op := range []string{"file.Sync", "SyncDir", "SyncAll"} {
		qt.Check(t, qt.Equals(tt.FS.Count(op), 0), qt.Commentf("%s", op))
	}
}

// TestQuota_CountsEachContentOnce also checks that failed calls count nothing.
func TestQuota_CountsEachContentOnce(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	tt.quota.Max = 10 * bufferSize
	const size = 4 * bufferSize
	data, other, third := disktest.RandomBytes(1, size), disktest.RandomBytes(2, size), disktest.RandomBytes(3, size)
	d := digest.FromBytes(data)
	steps := []struct {
		name string
		do   func() error
		err  error
		used int64
	}{
		{"push", func() error { return tt.push(tt.a, data) }, nil, size},
		{"push the same", func() error { return tt.push(tt.b, data) }, nil, size},
		{"upload the same", func() error { return tt.upload(tt.b, data) }, nil, size},
		{"push another", func() error { return tt.push(tt.b, other) }, nil, 2 * size},
		{"too much", func() error { return tt.push(tt.b, third) }, ociregistry.ErrDenied, 2 * size},
		{"remove one", func() error { return tt.s.Remove(tt.a, d) }, nil, 2 * size},
		{"mount", func() error { return tt.s.Link(background, "", tt.a, d) }, nil, 2 * size},
		{"remove one again", func() error { return tt.s.Remove(tt.a, d) }, nil, 2 * size},
		{"remove the last", func() error { return tt.s.Remove(tt.b, d) }, nil, size},
		{"push a third", func() error { return tt.push(tt.b, third) }, nil, 2 * size},
		{"damage", func() error {
			return os.WriteFile(Path(tt.b, digest.FromBytes(third)), bytes.Repeat([]byte("x"), size), 0)
		}, nil, 2 * size},
		{"remove another", func() error { return tt.s.Remove(tt.b, digest.FromBytes(other)) }, nil, size},
		{"repair", func() error { return tt.push(tt.b, third) }, nil, size},
	}
	for _, step := range steps {
		err := step.do()
		if step.err == nil {
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", step.name))
		} else {
			qt.Check(t, qt.ErrorIs(err, step.err), qt.Commentf("%s", step.name))
		}
		qt.Check(t, qt.Equals(tt.quota.Used(), step.used), qt.Commentf("%s", step.name))
	}
}

// TestConcurrentPushAndRemove pushes, mounts and removes the same few blobs
// concurrently. In the end no content is lost or left over.
func TestConcurrentPushAndRemove(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	blobs := [][]byte{disktest.RandomBytes(1, 1000), disktest.RandomBytes(2, 3*bufferSize)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			dirs := []string{tt.a, tt.b}
			for j := range 30 {
				dir, data := dirs[i%2], blobs[j%2]
				d := digest.FromBytes(data)
				switch (i + j) % 4 {
				case 0:
					qt.Check(t, qt.IsNil(tt.push(dir, data)))
				case 1:
					qt.Check(t, qt.IsNil(tt.upload(dir, data)))
				case 2:
					if err := tt.s.Link(background, "", dir, d); err != nil {
						qt.Check(t, qt.ErrorIs(err, ErrNoSource))
					}
				case 3:
					if err := tt.s.Remove(dir, d); err != nil {
						qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
					}
				}
			}
		})
	}
	wg.Wait()
	for _, data := range blobs {
		d := digest.FromBytes(data)
		for _, dir := range []string{tt.a, tt.b} {
			qt.Check(t, qt.IsNil(tt.push(dir, data)))
			tt.checkBlob(dir, data)
		}
		tt.checkOneFile(tt.s.poolPath(d), Path(tt.a, d), Path(tt.b, d))
	}
	names, err := filepath.Glob(filepath.Join(tt.s.pool, "*", "*"))
	qt.Assert(t, qt.IsNil(err))
	slices.Sort(names)
	qt.Check(t, qt.HasLen(names, 2))
}
