package ocifs

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// issue returns the id of a session without bytes, whose writer was closed.
func (t *uploadTest) issue() string {
	t.Helper()
	w := t.start()
	qt.Assert(t, qt.IsNil(w.Close()))
	return w.ID()
}

// checkEmpty checks that a session is there that has nothing.
func (t *uploadTest) checkEmpty(u *uploads, id string) {
	t.Helper()
	w := t.resume(u, id, -1)
	qt.Check(t, qt.Equals(w.Size(), 0))
	qt.Check(t, qt.IsNil(w.Close()))
}

func TestUploadID_IsKnownToAllProcesses(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	tt.checkNoFiles()
	tt.checkEmpty(tt.u, id)
	tt.checkEmpty(tt.process(), id) // also one that was started later
	tt.checkNoFiles()
	other := tt.process()
	w := tt.resume(other, id, 0)
	tt.write(w, []byte("abc"))
	qt.Assert(t, qt.IsNil(w.Close()))
	w = tt.resume(tt.u, id, 3)
	_, err := w.Commit(digest.FromString("abc"))
	qt.Assert(t, qt.IsNil(err))
	tt.checkBlob(tt.a, []byte("abc"))
	tt.checkNoFiles()
}

func TestUploadID_OfAnotherRepositoryIsUnknown(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	open := tt.start()
	for _, id := range []string{tt.issue(), open.ID()} {
		for _, repo := range []string{"other", "rep", "repo/x", ""} {
			_, err := tt.u.resume(background, repo, id, -1, 0)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown), qt.Commentf("%s", repo))
		}
		tt.checkEmpty(tt.u, id)
	}
	tt.write(open, []byte("x"))
	_, err := tt.u.resume(background, "other", open.ID(), -1, 0)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.IsNil(open.Cancel()))
}

func TestUploadID_OfWhichABitIsChangedIsUnknown(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	b, ok := decodeID(id)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Assert(t, qt.Equals(idEncoding.EncodeToString(b[:]), id))
	for i := range 8 * idBytes {
		forged := b
		forged[i/8] ^= 1 << (i % 8)
		tt.checkUnknown(idEncoding.EncodeToString(forged[:]))
	}
	tt.checkUnknown(strings.Repeat("A", idLen))
	tt.checkEmpty(tt.u, id)
	tt.checkNoFiles()
}

func TestUploadID_EndsWithoutBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		expiry, age time.Duration
		ends        bool
	}{
		{time.Hour, time.Hour - time.Minute, false},
		{time.Hour, time.Hour + time.Minute, true},
		{-1, DefaultUploadExpiry - time.Minute, false},
		{-1, DefaultUploadExpiry + time.Minute, true},
	} {
		tt := newUploadTest(t)
		tt.u.expiry = test.expiry
		id := tt.issue()
		tt.u.now = func() time.Time { return time.Now().Add(test.age) }
		if test.ends {
			tt.checkUnknown(id)
		} else {
			tt.checkEmpty(tt.u, id)
		}
	}
}

func TestUploadID_AfterTheEndIsUnknown(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *uploadTest, w *uploadWriter) error{
		"Cancel": func(t *uploadTest, w *uploadWriter) error { return w.Cancel() },
		"CloseAndCancel": func(t *uploadTest, w *uploadWriter) error {
			qt.Check(t, qt.IsNil(w.Close()))
			return w.Cancel()
		},
		"Commit": func(t *uploadTest, w *uploadWriter) error {
			_, err := w.Commit(digest.FromString(""))
			return err
		},
		"CommitWrong": func(t *uploadTest, w *uploadWriter) error {
			_, err := w.Commit(digest.FromString("x"))
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
			return nil
		},
	} {
		tt := newUploadTest(t)
		w := tt.start()
		late := tt.resume(tt.u, w.ID(), 0)
		qt.Assert(t, qt.IsNil(end(tt, w)), qt.Commentf("%s", name))
		tt.checkUnknown(w.ID())
		_, err := late.Write([]byte("x"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown), qt.Commentf("%s", name))
		qt.Check(t, qt.IsNil(late.Close()))
		tt.checkUnknown(w.ID())
		tt.checkEmpty(tt.process(), w.ID()) // it never had files
	}
}

// A session that had files ends for all processes, those that are started later
// included.
func TestUploadID_AfterFilesIsUnknownEverywhere(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, smallBlob + 1} {
		for _, commits := range []bool{true, false} {
			tt := newUploadTest(t)
			before := tt.process()
			tt.checkEmpty(before, tt.issue())
			data := randomBytes(1, size)
			w := tt.start()
			tt.write(w, data)
			qt.Assert(t, qt.IsNil(w.Close()))
			w = tt.resume(tt.u, w.ID(), -1)
			if commits {
				_, err := w.Commit(digest.FromBytes(data))
				qt.Assert(t, qt.IsNil(err))
			} else {
				qt.Assert(t, qt.IsNil(w.Cancel()))
			}
			for _, u := range []*uploads{tt.u, before, tt.process()} {
				_, err := u.resume(background, "repo", w.ID(), -1, 0)
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			}
			tt.checkNoFiles()
			logs, err := os.ReadDir(tt.u.ended.dir)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(logs, 1))
			tt.u.now = func() time.Time { return time.Now().Add(DefaultUploadExpiry + 2*time.Hour) }
			_, err = tt.u.sweep()
			qt.Check(t, qt.IsNil(err))
			logs, err = os.ReadDir(tt.u.ended.dir)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(logs, 0))
			qt.Check(t, qt.Equals(tt.u.ended.n, 0))
		}
	}
}

// TestUploadID_AfterFilesIsUnknownToThoseWhoHadIt has a session end that has files, of
// which another process still knows that it has none.
func TestUploadID_AfterFilesIsUnknownToThoseWhoHadIt(t *testing.T) {
	t.Parallel()
	content := []byte("content")
	for name, end := range map[string]func(w *uploadWriter) error{
		"Commit": func(w *uploadWriter) error {
			_, err := w.Commit(digest.FromBytes(content))
			return err
		},
		"Cancel": func(w *uploadWriter) error { return w.Cancel() },
	} {
		for _, size := range []int{10, smallBlob + 1} {
			other := bytes.Repeat([]byte("x"), size)
			for then, last := range map[string]func(w *uploadWriter) error{
				"Commit": func(w *uploadWriter) error {
					_, err := w.Commit(digest.FromBytes(other))
					return err
				},
				"Close": func(w *uploadWriter) error { return w.Close() },
			} {
				t.Run(fmt.Sprintf("%s,%d,%s", name, size, then), func(t *testing.T) {
					t.Parallel()
					tt := newUploadTest(t)
					w := tt.start()
					id := w.ID()
					late := tt.resume(tt.process(), id, 0)
					tt.write(w, content)
					qt.Assert(t, qt.IsNil(w.Close()))
					qt.Assert(t, qt.IsNil(end(tt.resume(tt.u, id, int64(len(content))))))
					_, err := late.Write(other)
					if err == nil {
						err = last(late)
					}
					qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
					tt.checkUnknown(id)
					tt.checkNoFiles()
				})
			}
		}
	}
}

// What is damaged among the ids that have ended does no harm to others.
func TestEndedIDs_Damaged(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	b, _ := decodeID(id)
	name := tt.u.ended.file(parseID(&b).hour())
	for _, harm := range []func() error{
		func() error { return os.WriteFile(name, nil, 0o666) },
		func() error { return os.WriteFile(name, randomBytes(1, 10_001), 0o666) },
		func() error { return os.Mkdir(name, 0o777) },
		func() error { return os.Symlink("/dev/zero", name) },
	} {
		qt.Assert(t, qt.IsNil(os.RemoveAll(tt.u.ended.dir)))
		qt.Assert(t, qt.IsNil(os.Mkdir(tt.u.ended.dir, 0o777)))
		qt.Assert(t, qt.IsNil(harm()))
		u := tt.process()
		tt.checkEmpty(u, id)
		w := tt.resume(u, tt.issue(), 0)
		tt.write(w, []byte("x"))
		qt.Assert(t, qt.IsNil(w.Close()))
		qt.Assert(t, qt.IsNil(tt.resume(u, w.ID(), 1).Cancel()))
		_, err := u.resume(background, "repo", w.ID(), -1, 0)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	}
}

// When there are too many ids that have ended, the first ones are forgotten, and
// none of their time is good any more.
func TestEndedIDs_AreBounded(t *testing.T) {
	t.Parallel()
	e := newEndedIDs(osFS{}, filepath.Join(t.TempDir(), "none"))
	e.max = 100
	at := func(second int) uploadID {
		return uploadID{issued: 1_000_000_000_000 + int64(second)*1000, mark: uint64(second)}
	}
	has := func(id uploadID) bool {
		ok, err := e.has(id)
		qt.Assert(t, qt.IsNil(err))
		return ok
	}
	for i := range 1000 {
		e.add(at(i))
		e.add(at(i)) // once more is nothing
		qt.Assert(t, qt.IsTrue(e.n <= e.max))
		qt.Assert(t, qt.IsTrue(has(at(i))))
	}
	for i := range 1000 {
		qt.Check(t, qt.IsTrue(has(at(i))))
	}
	never := at(10)
	never.mark = 12345
	qt.Check(t, qt.IsTrue(has(never)))
	never.issued = at(999).issued
	qt.Check(t, qt.IsFalse(has(never)))

	// All of them in one minute.
	for i := range 1000 {
		e.add(uploadID{issued: at(2000).issued, mark: uint64(i)})
		qt.Assert(t, qt.IsTrue(e.n <= e.max))
	}
	qt.Check(t, qt.IsFalse(has(at(2001))))
	qt.Check(t, qt.IsTrue(has(uploadID{issued: at(2000).issued, mark: 7})))
	qt.Check(t, qt.IsNil(e.forget(time.UnixMilli(at(3000).issued))))
	qt.Check(t, qt.Equals(e.n, 0))
	qt.Check(t, qt.HasLen(e.minutes, 0))
}

func TestUploadKey_DeletedEndsSessionsWithoutBytes(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	open, full := tt.start(), tt.start()
	tt.write(full, []byte("abc"))
	small := tt.start()
	tt.write(small, []byte("abc"))
	qt.Assert(t, qt.IsNil(full.Close()))
	qt.Assert(t, qt.IsNil(os.Remove(tt.u.key.name)))
	tt.checkUnknown(id)
	tt.checkUnknown(open.ID())
	_, err := open.Write([]byte("x"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.IsNil(open.Cancel()))

	next := tt.issue() // by a new key
	tt.checkUnknown(id)
	tt.checkEmpty(tt.process(), next)
	for _, w := range []*uploadWriter{tt.resume(tt.process(), full.ID(), 3), tt.resume(tt.u, small.ID(), 3)} {
		_, err = w.Commit(digest.FromString("abc"))
		qt.Check(t, qt.IsNil(err))
	}
	qt.Check(t, qt.IsNil(small.Close()))
	tt.checkNoFiles()
}

// Of several processes that need the key at the same time one makes it.
func TestUploadKey_IsMadeOnce(t *testing.T) {
	t.Parallel()
	for _, links := range []bool{true, false} {
		tt := newUploadTest(t)
		if !links { // then it is made by whoever is the last
			tt.fs.set(failing("Link", syscall.EPERM))
			tt.issue()
		}
		const processes, each = 4, 8
		var us [processes]*uploads
		var ids [processes][each]string
		var wg sync.WaitGroup
		for i := range us {
			us[i] = tt.process()
			for j := range ids[i] {
				wg.Go(func() {
					w, err := us[i].start(background, "repo", 0)
					qt.Assert(t, qt.IsNil(err))
					ids[i][j] = w.ID()
					qt.Check(t, qt.IsNil(w.Close()))
				})
			}
		}
		wg.Wait()
		for i := range us {
			for _, id := range ids[i] {
				tt.checkEmpty(us[(i+1)%processes], id)
			}
		}
		info := tt.info(tt.u.key.name)
		qt.Check(t, qt.Equals(info.Size(), keySize))
		if runtime.GOOS != "windows" {
			qt.Check(t, qt.Equals(info.Mode(), os.FileMode(keyPerm)))
		}
		tt.checkNothingStaged()
	}
}

// What is no key is set aside, and a new one is made. Looking at it waits for nobody.
func TestUploadKey_Damaged(t *testing.T) {
	t.Parallel()
	for name, harm := range keyHarms {
		tt := newUploadTest(t)
		var log bytes.Buffer
		tt.s.log = slog.New(slog.NewTextHandler(&log, nil))
		id := tt.issue()
		qt.Assert(t, qt.IsNil(os.Remove(tt.u.key.name)))
		qt.Assert(t, qt.IsNil(harm(tt.u.key.name)))
		tt.checkUnknown(id)
		_, err := os.Lstat(tt.u.key.name)
		qt.Check(t, qt.IsNil(err), qt.Commentf("%s: looking changes nothing", name))
		next := tt.issue()
		qt.Check(t, qt.StringContains(log.String(), tt.u.key.name))
		tt.checkEmpty(tt.process(), next)
		tt.checkUnknown(id)
		qt.Check(t, qt.Equals(tt.info(tt.u.key.name).Size(), keySize))
		aside, err := filepath.Glob(filepath.Join(tt.s.private, "damaged", ".ocifs", "uploads.key.*"))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(aside, 1), qt.Commentf("%s", name))
	}
}

var keyHarms = map[string]func(name string) error{
	"empty":     func(name string) error { return os.WriteFile(name, nil, 0o600) },
	"short":     func(name string) error { return os.WriteFile(name, make([]byte, keySize-1), 0o600) },
	"long":      func(name string) error { return os.WriteFile(name, bytes.Repeat([]byte("x"), keySize+1), 0o600) },
	"zeros":     func(name string) error { return os.WriteFile(name, make([]byte, keySize), 0o600) },
	"directory": func(name string) error { return os.MkdirAll(filepath.Join(name, "sub"), 0o700) },
}

// A key that cannot be read is an error that names it, and stays.
func TestUploadKey_Unreadable(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	u := tt.process()
	tt.fs.set(func(op, name string) error {
		if op == "OpenFile" && name == u.key.name {
			return syscall.EACCES
		}
		return nil
	})
	_, err := u.start(background, "repo", 0)
	qt.Check(t, qt.ErrorIs(err, error(syscall.EACCES)))
	qt.Check(t, qt.ErrorMatches(err, ".*uploads.key.*"))
	_, err = u.resume(background, "repo", id, -1, 0)
	qt.Check(t, qt.ErrorIs(err, error(syscall.EACCES)))
	tt.fs.set(nil)
	tt.checkEmpty(u, id)
}

// Where there are no hard links, sessions have files all the same.
func TestUploadWithoutLinks(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	tt.fs.set(failing("Link", syscall.EPERM))
	data := randomBytes(1, 1000)
	w := tt.start()
	tt.write(w, data[:500])
	other := tt.resume(tt.process(), w.ID(), 0)
	tt.write(other, data[:400])
	qt.Assert(t, qt.IsNil(w.Close()))
	qt.Check(t, qt.ErrorIs(other.Close(), ociregistry.ErrRangeInvalid))
	w = tt.resume(tt.process(), w.ID(), 500)
	tt.write(w, data[500:])
	_, err := w.Commit(digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	tt.checkBlob(tt.a, data)
	tt.checkNoFiles()
	tt.checkNothingStaged()
}
