package uploads

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

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/secret"
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
func (t *uploadTest) checkEmpty(u *Sessions, id string) {
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
			_, err := tt.u.Resume(background, repo, id, -1, 0)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown), qt.Commentf("%s", repo))
		}
		tt.checkEmpty(tt.u, id)
	}
	tt.write(open, []byte("x"))
	_, err := tt.u.Resume(background, "other", open.ID(), -1, 0)
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
		{-1, DefaultExpiry - time.Minute, false},
		{-1, DefaultExpiry + time.Minute, true},
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
	for name, end := range map[string]func(t *uploadTest, w *writer) error{
		"Cancel": func(t *uploadTest, w *writer) error { return w.Cancel() },
		"CloseAndCancel": func(t *uploadTest, w *writer) error {
			qt.Check(t, qt.IsNil(w.Close()))
			return w.Cancel()
		},
		"Commit": func(t *uploadTest, w *writer) error {
			_, err := w.Commit(digest.FromString(""))
			return err
		},
		"CommitWrong": func(t *uploadTest, w *writer) error {
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

// A session that had files ends for all processes, including those that are started
// later.
func TestUploadID_AfterFilesIsUnknownEverywhere(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, MaxSmall + 1} {
		for _, commits := range []bool{true, false} {
			tt := newUploadTest(t)
			before := tt.process()
			tt.checkEmpty(before, tt.issue())
			data := disktest.RandomBytes(1, size)
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
			for _, u := range []*Sessions{tt.u, before, tt.process()} {
				_, err := u.Resume(background, "repo", w.ID(), -1, 0)
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			}
			tt.checkNoFiles()
			logs, err := os.ReadDir(tt.u.ended.dir)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(logs, 1))
			tt.u.now = func() time.Time { return time.Now().Add(DefaultExpiry + 2*time.Hour) }
			_, err = tt.u.sweep()
			qt.Check(t, qt.IsNil(err))
			logs, err = os.ReadDir(tt.u.ended.dir)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(logs, 0))
			qt.Check(t, qt.Equals(tt.u.ended.n, 0))
		}
	}
}

// TestUploadID_AfterFilesIsUnknownToThoseWhoHadIt ends a session with files that
// another process still knows as one without.
func TestUploadID_AfterFilesIsUnknownToThoseWhoHadIt(t *testing.T) {
	t.Parallel()
	content := []byte("content")
	for name, end := range map[string]func(w *writer) error{
		"Commit": func(w *writer) error {
			_, err := w.Commit(digest.FromBytes(content))
			return err
		},
		"Cancel": func(w *writer) error { return w.Cancel() },
	} {
		for _, size := range []int{10, MaxSmall + 1} {
			other := bytes.Repeat([]byte("x"), size)
			for then, last := range map[string]func(w *writer) error{
				"Commit": func(w *writer) error {
					_, err := w.Commit(digest.FromBytes(other))
					return err
				},
				"Close": func(w *writer) error { return w.Close() },
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

// Damaged records among the ended ids do not affect the others.
func TestEndedIDs_DamageHarmsNoOthers(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	b, _ := decodeID(id)
	name := tt.u.ended.file(parseID(&b).hour())
	for _, harm := range []func() error{
		func() error { return os.WriteFile(name, nil, 0o666) },
		func() error { return os.WriteFile(name, disktest.RandomBytes(1, 10_001), 0o666) },
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
		_, err := u.Resume(background, "repo", w.ID(), -1, 0)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	}
}

// If too many ids have ended, the first ones are dropped, and all ids of their time
// count as ended.
func TestEndedIDs_AreBounded(t *testing.T) {
	t.Parallel()
	e := newEndedIDs(disk.OS{}, filepath.Join(t.TempDir(), "none"))
	e.max = 100
	at := func(second int) sessionID {
		return sessionID{issued: 1_000_000_000_000 + int64(second)*1000, mark: uint64(second)}
	}
	has := func(id sessionID) bool {
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
		e.add(sessionID{issued: at(2000).issued, mark: uint64(i)})
		qt.Assert(t, qt.IsTrue(e.n <= e.max))
	}
	qt.Check(t, qt.IsFalse(has(at(2001))))
	qt.Check(t, qt.IsTrue(has(sessionID{issued: at(2000).issued, mark: 7})))
	qt.Check(t, qt.IsNil(e.removeOlder(time.UnixMilli(at(3000).issued))))
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
	qt.Assert(t, qt.IsNil(os.Remove(tt.u.key.Name)))
	tt.checkUnknown(id)
	tt.checkUnknown(open.ID())
	_, err := open.Write([]byte("x"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.IsNil(open.Cancel()))

	next := tt.issue() // by a new key
	tt.checkUnknown(id)
	tt.checkEmpty(tt.process(), next)
	for _, w := range []*writer{tt.resume(tt.process(), full.ID(), 3), tt.resume(tt.u, small.ID(), 3)} {
		_, err = w.Commit(digest.FromString("abc"))
		qt.Check(t, qt.IsNil(err))
	}
	qt.Check(t, qt.IsNil(small.Close()))
	tt.checkNoFiles()
}

// If several processes need the key at the same time, one creates it.
func TestUploadKey_IsMadeOnce(t *testing.T) {
	t.Parallel()
	for _, links := range []bool{true, false} {
		tt := newUploadTest(t)
		if !links { // then it is made by whoever is the last
			tt.FS.Set(disktest.Failing("Link", syscall.EPERM))
			tt.issue()
		}
		const processes, each = 4, 8
		var us [processes]*Sessions
		var ids [processes][each]string
		var wg sync.WaitGroup
		for i := range us {
			us[i] = tt.process()
			for j := range ids[i] {
				wg.Go(func() {
					w, err := us[i].Start(background, "repo", 0)
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
		info := tt.Info(tt.u.key.Name)
		qt.Check(t, qt.Equals(info.Size(), secret.Size))
		if runtime.GOOS != "windows" {
			qt.Check(t, qt.Equals(info.Mode(), os.FileMode(disk.SecretPerm)))
		}
		tt.CheckNothingStaged()
	}
}

// A damaged key is set aside and replaced. Looking at it never blocks.
func TestUploadKey_DamagedIsReplaced(t *testing.T) {
	t.Parallel()
	for name, harm := range keyHarms {
		tt := newUploadTest(t)
		var log bytes.Buffer
		tt.u.key.Log = slog.New(slog.NewTextHandler(&log, nil))
		id := tt.issue()
		qt.Assert(t, qt.IsNil(os.Remove(tt.u.key.Name)))
		qt.Assert(t, qt.IsNil(harm(tt.u.key.Name)))
		tt.checkUnknown(id)
		_, err := os.Lstat(tt.u.key.Name)
		qt.Check(t, qt.IsNil(err), qt.Commentf("%s: looking changes nothing", name))
		next := tt.issue()
		qt.Check(t, qt.StringContains(log.String(), tt.u.key.Name))
		tt.checkEmpty(tt.process(), next)
		tt.checkUnknown(id)
		qt.Check(t, qt.Equals(tt.Info(tt.u.key.Name).Size(), secret.Size))
		aside, err := filepath.Glob(filepath.Join(tt.Work.Dir, "damaged", ".ocifs", "uploads.key.*"))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(aside, 1), qt.Commentf("%s", name))
	}
}

var keyHarms = map[string]func(name string) error{
	"empty":     func(name string) error { return os.WriteFile(name, nil, 0o600) },
	"short":     func(name string) error { return os.WriteFile(name, make([]byte, secret.Size-1), 0o600) },
	"long":      func(name string) error { return os.WriteFile(name, bytes.Repeat([]byte("x"), secret.Size+1), 0o600) },
	"zeros":     func(name string) error { return os.WriteFile(name, make([]byte, secret.Size), 0o600) },
	"directory": func(name string) error { return os.MkdirAll(filepath.Join(name, "sub"), 0o700) },
}

// A key that cannot be read is an error that names the file, and the file stays.
func TestUploadKey_UnreadableIsAnError(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	id := tt.issue()
	u := tt.process()
	tt.FS.Set(func(op, name string) error {
		if op == "OpenFile" && name == u.key.Name {
			return syscall.EACCES
		}
		return nil
	})
	_, err := u.Start(background, "repo", 0)
	qt.Check(t, qt.ErrorIs(err, error(syscall.EACCES)))
	qt.Check(t, qt.ErrorMatches(err, ".*uploads.key.*"))
	_, err = u.Resume(background, "repo", id, -1, 0)
	qt.Check(t, qt.ErrorIs(err, error(syscall.EACCES)))
	tt.FS.Set(nil)
	tt.checkEmpty(u, id)
}

// Sessions have files even on a filesystem without hard links.
func TestUpload_WorksWithoutHardLinks(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	tt.FS.Set(disktest.Failing("Link", syscall.EPERM))
	data := disktest.RandomBytes(1, 1000)
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
	tt.CheckNothingStaged()
}
