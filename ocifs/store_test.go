package ocifs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

var background = context.Background()

// storeTest is a store in a temporary directory that has two layouts.
type storeTest struct {
	*testing.T
	fs   *hookFS
	s    *store
	a, b string
}

func newStoreTest(t *testing.T) *storeTest {
	root := KeptDir(t)
	st := &storeTest{T: t, fs: new(hookFS), a: filepath.Join(root, "a"), b: filepath.Join(root, "b")}
	for _, dir := range []string{st.a, st.b} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "blobs"), 0o755)))
	}
	st.s = newStore(st.fs, filepath.Join(root, ".ocifs"), true, nil)
	t.Cleanup(func() {
		st.fs.set(nil)
		st.checkNothingStaged()
		qt.Check(t, qt.IsNil(st.s.close()))
		st.fs.checkClosed(t)
		left, err := filepath.Glob(filepath.Join(st.s.staging.top, "*"))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(left, 0))
	})
	return st
}

// checkNothingStaged checks that there is nothing but the spare files.
func (t *storeTest) checkNothingStaged() {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(t.s.staging.top, "*", "*"))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.ContentEquals(left, append([]string(nil), t.s.staging.spares...)), qt.Commentf("staged files"))
}

// push receives and puts content.
func (t *storeTest) push(dir string, data []byte) error {
	d := digest.FromBytes(data)
	st, err := t.s.receive(background, bytes.NewReader(data), d, int64(len(data)))
	if err != nil {
		return err
	}
	defer st.discard()
	return t.s.put(background, dir, d, st)
}

// upload puts content that was staged without looking at the pool.
func (t *storeTest) upload(dir string, data []byte) error {
	st, err := t.s.stage(digest.SHA256)
	if err != nil {
		return err
	}
	defer st.discard()
	if _, err := st.readFrom(background, bytes.NewReader(data), noLimit); err != nil {
		return err
	}
	return t.s.put(background, dir, digest.FromBytes(data), st)
}

func (t *storeTest) checkBlob(dir string, data []byte) {
	t.Helper()
	f, size, err := t.s.open(dir, digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	qt.Check(t, qt.Equals(size, int64(len(data))))
	got, err := io.ReadAll(f)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, data)))
}

func (t *storeTest) info(name string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(name)
	qt.Assert(t, qt.IsNil(err))
	return info
}

func (t *storeTest) checkOneFile(names ...string) {
	t.Helper()
	for _, name := range names[1:] {
		qt.Check(t, qt.IsTrue(os.SameFile(t.info(names[0]), t.info(name))), qt.Commentf("%s", name))
	}
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// sizes are those around which the ways of reading and writing change.
var sizes = []int{0, 1, 1000, bufferSize - 1, bufferSize, bufferSize + 1, 2 * bufferSize, 2*bufferSize + 1, 7*bufferSize + 5}

func TestPushIsOneFile(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		t := newStoreTest(t)
		data := randomBytes(1, size)
		d := digest.FromBytes(data)
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		qt.Assert(t, qt.IsNil(t.upload(t.b, data)))
		qt.Assert(t, qt.IsNil(t.upload(t.b, data)))
		t.checkBlob(t.a, data)
		t.checkOneFile(t.s.poolPath(d), blobPath(t.a, d), blobPath(t.b, d))

		t.fs.set(nil)
		qt.Assert(t, qt.IsNil(t.push(t.b, data)))
		qt.Check(t, qt.Equals(t.fs.count("file.WriteAt"), 0))
		t.checkOneFile(t.s.poolPath(d), blobPath(t.a, d), blobPath(t.b, d))
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := randomBytes(1, 1000)
	d := digest.FromBytes(data)
	qt.Assert(t, qt.IsNil(tt.push(tt.a, data)))
	qt.Assert(t, qt.IsNil(tt.s.link(background, "", tt.b, d)))

	qt.Assert(t, qt.IsNil(tt.s.remove(tt.a, d)))
	_, err := tt.s.stat(tt.a, d)
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	tt.checkBlob(tt.b, data)
	tt.checkOneFile(tt.s.poolPath(d), blobPath(tt.b, d))
	qt.Check(t, qt.ErrorIs(tt.s.remove(tt.a, d), fs.ErrNotExist))

	// The last one takes the pool's entry with it, even if the content is just
	// coming again; and what came is there all the same.
	st, err := tt.s.receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(st.pinned, d))
	qt.Assert(t, qt.IsNil(tt.s.remove(tt.b, d)))
	qt.Assert(t, qt.IsNil(tt.s.put(background, tt.a, d, st)))
	st.discard()
	tt.checkBlob(tt.a, data)
	st, err = tt.s.receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(tt.s.remove(tt.a, d)))
	st.discard()
	_, err = os.Lstat(tt.s.poolPath(d))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
}

// TestCorruptFiles overwrites the file of a blob, which then has one name, or
// two, with other bytes (behaviours 14 and 16).
func TestCorruptFiles(t *testing.T) {
	t.Parallel()
	good := randomBytes(1, 3*bufferSize)
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
				qt.Assert(t, qt.IsNil(os.WriteFile(blobPath(t.a, d), bad, 0)))
				r, _, err := t.s.open(t.a, d)
				if len(bad) == 0 {
					qt.Assert(t, qt.ErrorIs(err, fs.ErrNotExist))
				} else {
					qt.Assert(t, qt.IsNil(err))
				}
				qt.Assert(t, qt.IsNil(push(t, t.a, good)), qt.Commentf("%s of %d bytes, pooled %v", name, len(bad), pooled))
				t.checkBlob(t.a, good)
				t.checkOneFile(t.s.poolPath(d), blobPath(t.a, d))
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

// TestCorruptContentIsNotAccepted sends what the pool has, where that is wrong.
func TestCorruptContentIsNotAccepted(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	good := randomBytes(1, 1000)
	d := digest.FromBytes(good)
	qt.Assert(t, qt.IsNil(tt.push(tt.a, good)))
	bad := bytes.Clone(good)
	bad[0]++
	qt.Assert(t, qt.IsNil(os.WriteFile(tt.s.poolPath(d), bad, 0)))
	_, err := tt.s.receive(background, bytes.NewReader(bad), d, 1000)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
}

func TestReceiveErrors(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := randomBytes(1, 5*bufferSize)
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
			st, err := tt.s.receive(test.ctx, test.r, test.d, test.size)
			if test.want != nil {
				qt.Check(t, qt.ErrorIs(err, test.want), qt.Commentf("%s", test.name))
			} else {
				qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", test.name))
				st.discard()
			}
			tt.checkNothingStaged()
		}
		qt.Assert(t, qt.IsNil(tt.push(tt.a, data)))
	}
}

func TestOtherAlgorithm(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := randomBytes(1, 1000)
	d := digest.SHA512.FromBytes(data)
	st, err := tt.s.stage(digest.SHA256)
	qt.Assert(t, qt.IsNil(err))
	_, err = st.Write(data)
	qt.Assert(t, qt.IsNil(err))
	ok, err := st.is(background, d)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(ok))
	ok, err = st.is(background, digest.SHA512.FromString(""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsFalse(ok))
	qt.Assert(t, qt.IsNil(tt.s.put(background, tt.a, d, st))) // makes blobs/sha512
	st.discard()
	size, err := tt.s.stat(tt.a, d)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(size, 1000))
}

// TestReadFromReadsNoMore lets content be followed by what is not its own.
func TestReadFromReadsNoMore(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	for _, size := range sizes {
		r := bytes.NewReader(make([]byte, size+10))
		st, err := tt.s.stage(digest.SHA256)
		qt.Assert(t, qt.IsNil(err))
		n, err := st.readFrom(background, r, int64(size))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, int64(size)))
		qt.Check(t, qt.Equals(r.Len(), 10))
		st.discard()
	}
}

func TestPutWithoutLayout(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := randomBytes(1, 1000)
	d := digest.FromBytes(data)
	dir := filepath.Join(filepath.Dir(tt.a), "c")
	st, err := tt.s.receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	err = tt.s.put(background, dir, d, st)
	qt.Check(t, qt.ErrorIs(err, errNoLayout))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	_, err = os.Lstat(tt.s.poolPath(d))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "blobs"), 0o755)))
	qt.Assert(t, qt.IsNil(tt.s.put(background, dir, d, st)))
	st.discard()
	tt.checkBlob(dir, data)
}

func TestLink(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := randomBytes(1, 1000)
	d := digest.FromBytes(data)
	for _, from := range []string{tt.a, ""} {
		err := tt.s.link(background, from, tt.b, d)
		qt.Check(t, qt.ErrorIs(err, errNoSource))
		qt.Check(t, qt.Not(qt.ErrorIs(err, errNoLayout)))
	}

	// Another tool wrote the blob.
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Dir(blobPath(tt.a, d)), 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(blobPath(tt.a, d), data, 0o644)))
	err := tt.s.link(background, tt.a, filepath.Join(tt.b, "none"), d)
	qt.Check(t, qt.ErrorIs(err, errNoLayout))
	qt.Check(t, qt.Not(qt.ErrorIs(err, errNoSource)))
	tt.fs.set(nil)
	qt.Assert(t, qt.IsNil(tt.s.link(background, tt.a, tt.b, d)))
	qt.Check(t, qt.Equals(tt.fs.count("file.Sync"), 1))
	tt.checkOneFile(tt.s.poolPath(d), blobPath(tt.a, d), blobPath(tt.b, d))
	qt.Assert(t, qt.IsNil(tt.s.link(background, tt.a, tt.b, d)))
	qt.Assert(t, qt.IsNil(tt.s.link(background, "", tt.b, d)))
	tt.checkBlob(tt.b, data)
}

// TestNoLinks lets the filesystem give a file no further names, and none but
// one.
func TestNoLinks(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{syscall.EMLINK, syscall.EXDEV, syscall.EPERM, errors.ErrUnsupported} {
		t := newStoreTest(t)
		data := randomBytes(1, 3*bufferSize)
		d := digest.FromBytes(data)
		t.fs.set(failing("Link", errno))
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		t.checkBlob(t.a, data)
		qt.Assert(t, qt.IsNil(t.s.link(background, t.a, t.b, d)))
		t.checkBlob(t.b, data)
		qt.Check(t, qt.ErrorIs(t.s.link(background, t.a, filepath.Join(t.a, "c"), d), errNoLayout))
		qt.Check(t, qt.ErrorIs(t.s.link(background, "", t.b, d), errNoSource))

		bad := bytes.Clone(data)
		bad[0]++
		qt.Assert(t, qt.IsNil(os.WriteFile(blobPath(t.a, d), bad, 0)))
		qt.Assert(t, qt.IsNil(t.s.remove(t.b, d)))
		qt.Check(t, qt.ErrorIs(t.s.link(background, t.a, t.b, d), errNoSource), qt.Commentf("a damaged blob was copied"))
	}
}

// TestTooManyLinks fills up the pool's file.
func TestTooManyLinks(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 1000)
	d := digest.FromBytes(data)
	for name, again := range map[string]func(*storeTest) error{
		"push":   func(t *storeTest) error { return t.push(t.b, data) },
		"upload": func(t *storeTest) error { return t.upload(t.b, data) },
		"link":   func(t *storeTest) error { return t.s.link(background, t.a, t.b, d) },
		"mount":  func(t *storeTest) error { return t.s.link(background, "", t.b, d) },
	} {
		t := newStoreTest(t)
		qt.Assert(t, qt.IsNil(t.push(t.a, data)))
		full := t.info(t.s.poolPath(d))
		limited := &linkLimit{hookFS: t.fs, full: full}
		t.s.fs = limited
		qt.Assert(t, qt.IsNil(again(t)), qt.Commentf("%s", name))
		t.checkBlob(t.b, data)
		qt.Check(t, qt.IsFalse(os.SameFile(full, t.info(blobPath(t.b, d)))))
		t.checkOneFile(t.s.poolPath(d), blobPath(t.b, d)) // the next ones share it
	}
}

type linkLimit struct {
	*hookFS
	full fs.FileInfo
}

func (l *linkLimit) Link(oldname, newname string) error {
	if info, err := l.hookFS.Lstat(oldname); err == nil && os.SameFile(info, l.full) {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: syscall.EMLINK}
	}
	return l.hookFS.Link(oldname, newname)
}

// TestStat looks at files that are no blobs (behaviour 15).
func TestStat(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	d := digest.FromString("x")
	name := blobPath(tt.a, d)
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
		_, err := tt.s.stat(tt.a, d)
		qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist), qt.Commentf("%s", what))
		_, _, err = tt.s.open(tt.a, d)
		qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist), qt.Commentf("%s", what))
		qt.Check(t, qt.ErrorIs(tt.s.link(background, tt.a, tt.b, d), errNoSource), qt.Commentf("%s", what))
		os.Remove(name)
	}
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := alg.FromString("")
		st, err := tt.s.receive(background, bytes.NewReader(nil), d, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(tt.s.put(background, tt.a, d, st)))
		st.discard()
		size, err := tt.s.stat(tt.a, d)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(size, 0))
	}
	tt.fs.set(failing("Lstat", syscall.EIO))
	_, err := tt.s.stat(tt.a, d)
	qt.Check(t, qt.ErrorIs(err, syscall.EIO))
}

// TestFaults lets each call that a push or a link makes fail in turn. What must
// hold is in the cleanup of newStoreTest as well: nothing stays staged or open.
func TestFaults(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 4*bufferSize)
	d := digest.FromBytes(data)
	ops := []string{"OpenFile", "Lstat", "Mkdir", "Link", "Rename", "SyncDir", "TryLock", "file.WriteAt", "file.ReadAt", "file.Sync", "file.Stat"}
	for _, op := range ops {
		for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EACCES} {
			for nth := 1; ; nth++ {
				t := newStoreTest(t)
				t.fs.set(func(got, name string) error {
					if got == op && t.fs.count(op) == nth {
						return errno
					}
					return nil
				})
				err := t.push(t.a, data)
				count := t.fs.count(op)
				t.fs.set(nil)
				t.checkNothingStaged()
				if err == nil {
					t.checkBlob(t.a, data)
				} else {
					qt.Check(t, qt.ErrorIs(err, errno))
					qt.Assert(t, qt.IsNil(t.push(t.a, data)), qt.Commentf("after %s", op))
				}
				t.checkBlob(t.a, data)
				qt.Check(t, qt.IsNil(t.s.link(background, t.a, t.b, d)))
				if count < nth {
					break
				}
			}
		}
	}
}

// TestSyncThatFailed is believed never again.
func TestSyncThatFailed(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	data := randomBytes(1, 1000)
	d := digest.FromBytes(data)
	st, err := tt.s.receive(background, bytes.NewReader(data), d, 1000)
	qt.Assert(t, qt.IsNil(err))
	defer st.discard()
	tt.fs.set(failing("file.Sync", syscall.EIO))
	qt.Check(t, qt.ErrorIs(tt.s.put(background, tt.a, d, st), syscall.EIO))
	tt.fs.set(nil)
	qt.Check(t, qt.ErrorIs(tt.s.put(background, tt.a, d, st), errBroken))
}

func TestNoSync(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	tt.s = newStore(tt.fs, tt.s.private, false, nil)
	data := randomBytes(1, 1000)
	qt.Assert(t, qt.IsNil(tt.push(tt.a, data)))
	qt.Assert(t, qt.IsNil(tt.s.link(background, "", tt.b, digest.FromBytes(data))))
	qt.Assert(t, qt.IsNil(tt.s.remove(tt.b, digest.FromBytes(data))))
	for _, op := range []string{"file.Sync", "SyncDir", "SyncAll"} {
		qt.Check(t, qt.Equals(tt.fs.count(op), 0), qt.Commentf("%s", op))
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	name := filepath.Join(tt.a, "index.json")
	for _, text := range []string{"one", "", "three"} {
		qt.Assert(t, qt.IsNil(tt.s.writeFile(name, writeText(text))))
		got, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got), text))
	}
	for _, op := range []string{"OpenFile", "file.Write", "file.Sync", "Rename"} {
		tt.fs.set(failing(op, syscall.ENOSPC))
		qt.Check(t, qt.ErrorIs(tt.s.writeFile(name, writeText("four")), syscall.ENOSPC), qt.Commentf("%s", op))
		tt.fs.set(nil)
		tt.checkNothingStaged()
		got, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got), "three"))
	}
}

// TestLimit counts each content once, and what failed not at all.
func TestLimit(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	var mu sync.Mutex
	var used int64
	tt.s.take = func(n int64) error {
		mu.Lock()
		defer mu.Unlock()
		if used+n > 10*bufferSize {
			return ociregistry.ErrDenied
		}
		used += n
		return nil
	}
	tt.s.give = func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		used -= n
	}
	const size = 4 * bufferSize
	data, other, third := randomBytes(1, size), randomBytes(2, size), randomBytes(3, size)
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
		{"remove one", func() error { return tt.s.remove(tt.a, d) }, nil, 2 * size},
		{"mount", func() error { return tt.s.link(background, "", tt.a, d) }, nil, 2 * size},
		{"remove one again", func() error { return tt.s.remove(tt.a, d) }, nil, 2 * size},
		{"remove the last", func() error { return tt.s.remove(tt.b, d) }, nil, size},
		{"push a third", func() error { return tt.push(tt.b, third) }, nil, 2 * size},
		{"damage", func() error {
			return os.WriteFile(blobPath(tt.b, digest.FromBytes(third)), bytes.Repeat([]byte("x"), size), 0)
		}, nil, 2 * size},
		{"remove another", func() error { return tt.s.remove(tt.b, digest.FromBytes(other)) }, nil, size},
		{"repair", func() error { return tt.push(tt.b, third) }, nil, size},
	}
	for _, step := range steps {
		err := step.do()
		if step.err == nil {
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", step.name))
		} else {
			qt.Check(t, qt.ErrorIs(err, step.err), qt.Commentf("%s", step.name))
		}
		qt.Check(t, qt.Equals(used, step.used), qt.Commentf("%s", step.name))
	}
}

// TestConcurrentPushAndRemove pushes, mounts and removes the same few blobs at
// once. In the end no content is lost or left over.
func TestConcurrentPushAndRemove(t *testing.T) {
	t.Parallel()
	tt := newStoreTest(t)
	blobs := [][]byte{randomBytes(1, 1000), randomBytes(2, 3*bufferSize)}
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
					if err := tt.s.link(background, "", dir, d); err != nil {
						qt.Check(t, qt.ErrorIs(err, errNoSource))
					}
				case 3:
					if err := tt.s.remove(dir, d); err != nil {
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
		tt.checkOneFile(tt.s.poolPath(d), blobPath(tt.a, d), blobPath(tt.b, d))
	}
	names, err := filepath.Glob(filepath.Join(tt.s.pool, "*", "*"))
	qt.Assert(t, qt.IsNil(err))
	slices.Sort(names)
	qt.Check(t, qt.HasLen(names, 2))
}
