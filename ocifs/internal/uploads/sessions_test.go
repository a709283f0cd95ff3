package uploads

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// uploadPiece is how many bytes of content are written at a time.
const uploadPiece = 256 << 10

// uploadTest has upload sessions whose content is published in the layout a.
type uploadTest struct {
	*storeTest
	u   *Sessions
	all []*Sessions
}

func newUploadTest(t *testing.T) *uploadTest {
	ut := &uploadTest{storeTest: newStoreTest(t)}
	ut.u = ut.process()
	return ut
}

// process returns what another process that has the same directory would have.
func (t *uploadTest) process() *Sessions {
	u := New(t.Work, t.s, t.quota, Options{Expiry: time.Hour, Publish: func(ctx context.Context, repo string, d ociregistry.Digest, content *blobs.Staged) error {
		return t.s.Put(ctx, t.a, d, content)
	}, PublishText: func(ctx context.Context, repo string, d ociregistry.Digest, text string) (added bool, err error) {
		st, err := t.s.Stage(d.Algorithm())
		if err != nil {
			return false, err
		}
		defer st.Discard()
		if err := st.Append([]byte(text)); err != nil {
			return false, err
		}
		_, err = t.s.StatPool(d)
		return err != nil, t.s.Put(ctx, t.a, d, st)
	}})
	t.Cleanup(func() { u.Close() })
	t.all = append(t.all, u)
	return u
}

func (t *uploadTest) start() *writer {
	t.Helper()
	w, err := t.u.Start(background, "repo", 0)
	qt.Assert(t, qt.IsNil(err))
	return w.(*writer)
}

func (t *uploadTest) write(w io.Writer, data []byte) {
	t.Helper()
	n, err := w.Write(data)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(n, len(data)))
}

func (t *uploadTest) resume(u *Sessions, id string, offset int64) *writer {
	t.Helper()
	w, err := u.Resume(background, "repo", id, offset, 0)
	qt.Assert(t, qt.IsNil(err))
	return w.(*writer)
}

func (t *uploadTest) checkUnknown(id string) {
	t.Helper()
	_, err := t.u.Resume(background, "repo", id, -1, 0)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
}

// checkNoFiles checks that no session left anything.
func (t *uploadTest) checkNoFiles() {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(t.u.dir, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
	t.checkNoneOpen()
	qt.Check(t, qt.HasLen(t.u.sessions, 0))
}

// checkNoneOpen checks that no file is open but the lock of the staging directory.
func (t *uploadTest) checkNoneOpen() {
	t.Helper()
	for _, u := range t.all {
		u.dropPaused()
		u.ended.close()
	}
	open := 0
	if locks, _ := filepath.Glob(filepath.Join(t.Work.Dir, "staging", "*.lock")); len(locks) > 0 {
		open = 1
	}
	open += len(t.Staged()) // spare files
	t.FS.CheckOpen(t.T, open)
}

func TestUpload_BecomesABlobOnCommit(t *testing.T) {
	t.Parallel()
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, hint := range []digest.Algorithm{digest.SHA256, digest.SHA512, "md5", digest.SHA384} {
			t := newUploadTest(t)
			data := disktest.RandomBytes(1, 3*uploadPiece+10)
			d := alg.FromBytes(data)
			ctx := ociregistry.WithDigestAlgorithm(background, hint)
			w, err := t.u.Start(ctx, "repo", 0)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(w.ChunkSize(), defaultChunkSize))
			t.write(w, data[:10])
			qt.Check(t, qt.Equals(w.Size(), 10))
			qt.Check(t, qt.IsNil(w.Close()))
			_, err = w.Write(nil)
			qt.Check(t, qt.ErrorIs(err, fs.ErrClosed))
			t.checkNoneOpen()

			_, err = t.u.Resume(background, "repo", w.ID(), 9, 0)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
			_, err = t.u.Resume(background, "other", w.ID(), 10, 0)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			w = t.resume(t.u, w.ID(), -1)
			qt.Check(t, qt.Equals(w.Size(), 10))
			n, err := w.(io.ReaderFrom).ReadFrom(bytes.NewReader(data[10:]))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, 3*uploadPiece))
			_, err = w.Commit("sha256:x")
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
			desc, err := w.Commit(d)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(desc.Size, int64(len(data))))
			qt.Check(t, qt.Equals(desc.Digest, d))
			f, info, err := t.s.Open(t.a, d)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(info.Size(), desc.Size))
			f.Close()

			_, err = w.Write([]byte("x"))
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			_, err = w.Commit(d)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			qt.Check(t, qt.IsNil(w.Cancel()))
			qt.Check(t, qt.IsNil(w.Close()))
			t.checkUnknown(w.ID())
			t.checkNoFiles()
		}
	}
}

func TestUpload_WithoutBytesBecomesTheEmptyBlob(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w := tt.start()
	_, err := w.Commit(digest.FromString(""))
	qt.Assert(t, qt.IsNil(err))
	tt.checkBlob(tt.a, nil)
	tt.checkNoFiles()
}

// TestUpload_LeavesNothingAfterItsEnd ends sessions in each way.
func TestUpload_LeavesNothingAfterItsEnd(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 1000)
	for name, end := range map[string]func(*uploadTest, *writer){
		"Cancel": func(t *uploadTest, w *writer) { qt.Check(t, qt.IsNil(w.Cancel())) },
		"CloseAndCancel": func(t *uploadTest, w *writer) {
			qt.Check(t, qt.IsNil(w.Close()))
			qt.Check(t, qt.IsNil(w.Cancel()))
		},
		"CancelWithOldWriter": func(t *uploadTest, w *writer) {
			other := t.resume(t.u, w.ID(), -1)
			t.write(other, data)
			qt.Check(t, qt.IsNil(w.Cancel()))
			_, err := other.Write(data)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			qt.Check(t, qt.IsNil(other.Cancel()))
		},
		"CommitWrong": func(t *uploadTest, w *writer) {
			_, err := w.Commit(digest.FromString("x"))
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
			_, err = w.Commit(digest.FromBytes(data))
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
		},
		"Expire": func(t *uploadTest, w *writer) {
			t.u.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
			n, err := t.u.sweep()
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, 0))
			_, err = w.Write(data)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			qt.Check(t, qt.IsNil(w.Close()))
		},
		"ExpireUnswept": func(t *uploadTest, w *writer) {
			t.u.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
			qt.Check(t, qt.IsNil(w.Close()))
			t.checkUnknown(w.ID())
		},
	} {
		t := newUploadTest(t)
		w := t.start()
		t.write(w, data)
		end(t, w)
		t.checkUnknown(w.ID())
		t.checkNoFiles()
		qt.Check(t, qt.Equals(t.quota.Used(), 0), qt.Commentf("%s", name))
		_, err := t.s.Stat(t.a, digest.FromBytes(data))
		qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	}
}

func TestUpload_EndsOverTheLimit(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	tt.quota.Max = 1500
	data := disktest.RandomBytes(1, 1000)
	w := tt.start()
	tt.write(w, data)
	_, err := w.Write(data)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	qt.Check(t, qt.Equals(tt.quota.Used(), 0))
	qt.Check(t, qt.IsNil(w.Close()))
	tt.checkNoFiles()

	for range 2 {
		w = tt.start()
		tt.write(w, data[:500])
		w.Close()
		w = tt.resume(tt.u, w.ID(), 500)
		tt.write(w, data[500:])
		_, err = w.Commit(digest.FromBytes(data))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(tt.quota.Used(), 1000))
		tt.quota.Max = 0
	}
}

// TestUploadID_OfOtherFormReachesNoPath checks that ids of another form lead to no
// call of the filesystem.
func TestUploadID_OfOtherFormReachesNoPath(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w := tt.start()
	tt.FS.Set(func(op, name string) error { t.Errorf("%s %s", op, name); return nil })
	for _, id := range []string{
		"", ".", "..", "x", "../../etc/passwd", w.ID() + "A", w.ID()[1:], strings.ToLower(w.ID()), w.ID() + stateSuffix,
		w.ID()[:25] + "\x00", w.ID()[:25] + "/", w.ID()[:25] + "1", strings.Repeat("é", 13),
	} {
		tt.checkUnknown(id)
	}
	tt.FS.Set(nil)
	tt.checkUnknown(strings.Repeat("A", 26))
	qt.Check(t, qt.IsNil(w.Cancel()))
	tt.checkUnknown(w.ID())
	qt.Check(t, qt.IsNil(w.Cancel()))
	tt.checkNoFiles()
}

// TestUpload_IsRehashedOnlyAfterReboot checks that resuming does not read the bytes
// again, unless the system was rebooted.
func TestUpload_IsRehashedOnlyAfterReboot(t *testing.T) {
	t.Parallel()
	for _, rebooted := range []bool{false, true} {
		t := newUploadTest(t)
		data := disktest.RandomBytes(1, 4*uploadPiece)
		w := t.start()
		_, err := w.ReadFrom(bytes.NewReader(data[:len(data)-1]))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Close()))
		// Bytes that were written and not acknowledged are not part of it.
		f, err := os.OpenFile(t.u.dataPath(w.ID()), os.O_WRONLY|os.O_APPEND, 0)
		qt.Assert(t, qt.IsNil(err))
		f.WriteString("torn")
		f.Close()

		next := t.process()
		if rebooted {
			next.boot[0]++
		}
		reads := 0
		t.FS.Set(func(op, name string) error {
			if strings.HasPrefix(op, "file.Read") && name == next.dataPath(w.ID()) {
				reads++
			}
			return nil
		})
		w = t.resume(next, w.ID(), -1)
		qt.Check(t, qt.Equals(w.Size(), int64(len(data))-1))
		t.write(w, data[len(data)-1:])
		_, err = w.Commit(digest.FromBytes(data))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(reads > 0, rebooted))
		t.checkBlob(t.a, data)
		t.checkNoFiles()
	}
}

// TestUpload_DamagedIsUnknownOrEmpty changes the files of a session in every way that
// a crash can. The session is then unknown, or begins anew if nothing shows that it
// had begun.
func TestUpload_DamagedIsUnknownOrEmpty(t *testing.T) {
	t.Parallel()
	write := func(name string, change func([]byte) []byte) {
		text, err := os.ReadFile(name)
		if err == nil {
			os.WriteFile(name, change(text), 0o644)
		}
	}
	cut := func(name string) {
		write(name, func(b []byte) []byte { return b[:len(b)-1] })
	}
	type damage struct {
		name     string
		rebooted bool
		damage   func(state, content string)
	}
	tests := []damage{
		{"no content", false, func(_, content string) { os.Remove(content) }},
		{"short content", false, func(_, content string) { cut(content) }},
		{"no state", false, func(state, _ string) { os.Remove(state) }},
		{"empty state", false, func(state, _ string) { os.Truncate(state, 0) }},
		{"zeros", false, func(state, _ string) { write(state, func(b []byte) []byte { return make([]byte, len(b)) }) }},
		{"no content after a start", true, func(_, content string) { os.Remove(content) }},
		{"short content after a start", true, func(_, content string) { cut(content) }},
		{"zeros in the content after a start", true, func(_, content string) {
			write(content, func(b []byte) []byte { clear(b[len(b)-500:]); return b })
		}},
	}
	for i := range 200 { // more than the part that has a meaning
		tests = append(tests, damage{"flipped bit", false, func(state, _ string) {
			write(state, func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b })
		}})
	}
	tt := newUploadTest(t)
	for _, size := range []int{1000, MaxSmall + 1} {
		data := disktest.RandomBytes(1, size)
		for _, test := range tests {
			w := tt.start()
			tt.write(w, data)
			qt.Assert(t, qt.IsNil(w.Close()))
			u := tt.process()
			if test.rebooted {
				u.boot[0]++
			}
			state, content := u.statePath(w.ID()), u.dataPath(w.ID())
			if size <= MaxSmall {
				content = state
			}
			test.damage(state, content)
			_, gone := os.Lstat(state)
			next, err := u.Resume(background, "repo", w.ID(), -1, 0)
			if gone != nil {
				qt.Assert(t, qt.IsNil(err), qt.Commentf("%s of %d bytes", test.name, size))
				qt.Check(t, qt.Equals(next.Size(), 0))
				qt.Check(t, qt.IsNil(next.Close()))
				continue
			}
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown), qt.Commentf("%s of %d bytes", test.name, size))
		}
	}
	tt.u.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	_, err := tt.u.sweep()
	qt.Check(t, qt.IsNil(err))
	tt.checkNoFiles()
}

func FuzzParseSessionState(f *testing.F) {
	st := newSessionState(strings.Repeat("A", idLen), "repo", digest.SHA512, bootID{1})
	text, err := st.encode()
	qt.Assert(f, qt.IsNil(err))
	f.Add(text[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var text stateText
		copy(text[:], b)
		st, err := parseSessionState(&text)
		if err != nil {
			return
		}
		again, err := st.encode()
		qt.Assert(t, qt.IsNil(err))
		if st2, err := parseSessionState(&again); err != nil || st2.size != st.size || st2.repo != st.repo || st2.id != st.id {
			t.Errorf("%v, %+v became %+v", err, st, st2)
		}
		st.newHash()
	})
}

func TestSessionState(t *testing.T) {
	t.Parallel()
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		st := newSessionState(strings.Repeat("A", idLen), strings.Repeat("r", 255), alg, bootID{1, 2, 3})
		h := alg.Hash()
		h.Write([]byte("content"))
		st.setHash(h)
		st.size, st.sealed = 7, true
		text, err := st.encode()
		qt.Assert(t, qt.IsNil(err))
		got, err := parseSessionState(&text)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got.id, st.id))
		qt.Check(t, qt.Equals(got.repo, st.repo))
		qt.Check(t, qt.Equals(got.boot, st.boot))
		qt.Check(t, qt.Equals(got.size, 7))
		qt.Check(t, qt.IsTrue(got.sealed))
		h, err = got.newHash()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(digest.NewDigest(alg, h), alg.FromString("content")))
	}
	st := newSessionState(strings.Repeat("A", idLen), strings.Repeat("r", 600), digest.SHA256, bootID{})
	_, err := st.encode()
	qt.Check(t, qt.ErrorIs(err, errState))
}

// TestUpload_OnlyOneOfTwoWritersSucceeds has two writers at one offset, within a
// process and across two.
func TestUpload_OnlyOneOfTwoWritersSucceeds(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{false, true} {
		t := newUploadTest(t)
		other := t.u
		if two {
			other = t.process()
		}
		w1 := t.start()
		w2 := t.resume(other, w1.ID(), 0)
		t.write(w1, []byte("abc"))
		if two { // what is in its memory nobody else knows
			qt.Assert(t, qt.IsNil(w1.Close()))
			w1 = t.resume(t.u, w1.ID(), 3)
		}
		_, err := w2.Write([]byte("xyz"))
		if !two {
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
		}
		_, err = w2.Commit(digest.FromString("xyz"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
		w3 := t.resume(other, w1.ID(), -1)
		t.write(w3, []byte("def"))
		_, err = w1.Write([]byte("x"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
		w4 := t.resume(t.u, w1.ID(), 6)
		_, err = w4.Commit(digest.FromString("abcdef"))
		qt.Check(t, qt.IsNil(err))
		_, err = w3.Write([]byte("x"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
		for _, w := range []*writer{w1, w3} {
			qt.Check(t, qt.IsNil(w.Close()))
		}
		err = w2.Close()
		if two { // it had taken bytes, which are not kept
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
		} else {
			qt.Check(t, qt.IsNil(err))
		}
		t.checkBlob(t.a, []byte("abcdef"))
		t.checkNoFiles()
	}
}

// TestUpload_ManyWritersNeverMix lets writers in two processes race for each offset.
func TestUpload_ManyWritersNeverMix(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	processes := []*Sessions{tt.u, tt.process()}
	id := tt.start()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := make(map[int64]byte) // by offset, the one that was told that it won
	for i := range 6 {
		wg.Go(func() {
			for range 20 {
				w, err := processes[i%2].Resume(background, "repo", id.ID(), -1, 0)
				if !qt.Check(t, qt.IsNil(err)) {
					return
				}
				offset, c := w.Size(), byte('a'+i)
				_, err = w.Write([]byte{c})
				closeErr := w.Close()
				if err == nil {
					err = closeErr // only now it is said to be kept
				}
				if err == nil {
					mu.Lock()
					_, twice := got[offset]
					qt.Check(t, qt.IsFalse(twice))
					got[offset] = c
					mu.Unlock()
				} else {
					qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
				}
			}
		})
	}
	wg.Wait()
	qt.Assert(t, qt.IsNil(id.Close()))
	want := make([]byte, len(got))
	for offset, c := range got {
		want[offset] = c
	}
	// Of several that commit, one wins.
	writers := make([]*writer, 4)
	for i := range writers { // all of them before the session ends
		writers[i] = tt.resume(processes[i%2], id.ID(), int64(len(want)))
	}
	won := make(chan bool)
	for _, w := range writers {
		go func() {
			_, err := w.Commit(digest.FromBytes(want))
			if err != nil {
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			}
			w.Close()
			won <- err == nil
		}()
	}
	n := 0
	for range writers {
		if <-won {
			n++
		}
	}
	qt.Check(t, qt.Equals(n, 1))
	tt.checkBlob(tt.a, want)
	tt.checkNoFiles()
}

// TestUpload_LockedElsewhereEndsWithContext waits for another process until the
// context ends.
func TestUpload_LockedElsewhereEndsWithContext(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w := tt.start()
	tt.write(w, []byte("content"))
	qt.Assert(t, qt.IsNil(w.Close()))
	w = tt.resume(tt.u, w.ID(), 7)
	f, err := tt.u.openState(background, w.ID())
	qt.Assert(t, qt.IsNil(err))
	n, err := tt.u.sweep() // does not wait
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 1))
	ctx, cancel := context.WithCancel(background)
	waits := 0
	tt.FS.Set(func(op, name string) error {
		if op == "TryLock" {
			if waits++; waits == 3 {
				cancel()
			}
		}
		return nil
	})
	_, err = tt.u.Resume(ctx, "repo", w.ID(), -1, 0)
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	tt.FS.Set(func(op, name string) error {
		if op == "TryLock" && tt.FS.Count(op) == 2 {
			f.Close()
		}
		return nil
	})
	tt.write(w, []byte("x"))
	qt.Check(t, qt.IsNil(w.Cancel()))
	tt.checkNoFiles()
}

// TestReadFromKeepsWhatWasRead ends the context, or the reader, in the middle.
func TestReadFromKeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	ctx, cancel := context.WithCancel(background)
	w, err := tt.u.Start(ctx, "repo", 0)
	qt.Assert(t, qt.IsNil(err))
	n, err := w.(io.ReaderFrom).ReadFrom(readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, "abc"), nil
	}))
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	qt.Check(t, qt.Equals(n, 3))
	_, err = w.Write([]byte("x"))
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	_, err = w.Commit(digest.FromString("abc"))
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.IsNil(w.Close()))

	w2 := tt.resume(tt.u, w.ID(), 3)
	broken := errors.New("broken")
	data := disktest.RandomBytes(1, 5*uploadPiece+1)
	n, err = w2.ReadFrom(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)))
	qt.Check(t, qt.ErrorIs(err, broken))
	qt.Check(t, qt.Equals(n, int64(len(data))))
	_, err = w2.Commit(digest.FromBytes(append([]byte("abc"), data...)))
	qt.Check(t, qt.IsNil(err))
	tt.checkNoFiles()
}

// TestUpload_FailedWriteKeepsNothing lets each call of a write fail in turn. Nothing
// of the write is kept, and the session continues.
func TestUpload_FailedWriteKeepsNothing(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 1000)
	for _, op := range []string{"OpenFile", "TryLock", "file.WriteAt", "file.ReadAt"} {
		t := newUploadTest(t)
		w := t.start()
		t.write(w, data[:500])
		qt.Assert(t, qt.IsNil(w.Close()))
		faults := 0
		for {
			w = t.resume(t.u, w.ID(), 500)
			t.FS.Set(func(got, name string) error {
				if got == op && t.FS.Count(op) == faults+1 {
					return syscall.ENOSPC
				}
				return nil
			})
			_, err := w.Write(data[500:])
			t.FS.Set(nil)
			if err == nil {
				break
			}
			faults++
			qt.Check(t, qt.ErrorIs(err, syscall.ENOSPC), qt.Commentf("%s %d", op, faults))
			qt.Check(t, qt.Equals(w.Size(), 500))
			qt.Check(t, qt.IsNil(w.Close()))
		}
		qt.Check(t, qt.IsTrue(faults > 0), qt.Commentf("%s", op))
		_, err := w.Commit(digest.FromBytes(data))
		qt.Check(t, qt.IsNil(err))
		t.checkNoFiles()
	}
}

// TestCommit_FailureKeepsTheSessionUnlessBroken lets a commit fail for a temporary
// reason, and for a permanent one.
func TestCommit_FailureKeepsTheSessionUnlessBroken(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	data := disktest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	w := tt.start()
	tt.write(w, data)
	refuses := func(w *writer) {
		_, err := w.Write([]byte("x"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadInvalid))
		qt.Check(t, qt.IsNil(w.Close()))
	}
	sub := filepath.Dir(blobs.Path(tt.a, d))
	for _, op := range []string{"Mkdir", "Link", "SyncDir"} {
		tt.FS.Set(func(got, name string) error {
			if got == op && (op == "Link" || name == sub) {
				return syscall.ENOSPC
			}
			return nil
		})
		_, err := w.Commit(d)
		qt.Check(t, qt.ErrorIs(err, syscall.ENOSPC), qt.Commentf("%s", op))
		tt.FS.Set(nil)
		refuses(tt.resume(tt.u, w.ID(), 1000))
	}
	// The content is that of a blob by now, and stays the same.
	w.Close()
	refuses(tt.resume(tt.process(), w.ID(), 1000))
	tt.checkBlob(tt.a, data)
	w = tt.resume(tt.process(), w.ID(), 1000)
	_, err := w.Commit(d)
	qt.Check(t, qt.IsNil(err))
	tt.checkBlob(tt.a, data)
	tt.checkNoFiles()

	data = disktest.RandomBytes(2, MaxSmall+1)
	d = digest.FromBytes(data)
	w = tt.start()
	tt.write(w, data)
	tt.FS.Set(disktest.Failing("file.Sync", syscall.EIO))
	_, err = w.Commit(d)
	qt.Check(t, qt.ErrorIs(err, syscall.EIO))
	tt.FS.Set(nil)
	_, err = w.Commit(d)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	tt.checkNoFiles()
}

// TestSweep checks that a sweep keeps sessions in use and removes what dead processes
// left.
func TestSweep(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w, small := tt.start(), tt.start()
	tt.write(w, disktest.RandomBytes(1, MaxSmall+1))
	tt.write(small, []byte("abc"))
	qt.Check(t, qt.IsNil(w.Close()))
	qt.Check(t, qt.IsNil(small.Close()))
	id := func(c string) string { return strings.Repeat(c, idLen) }
	orphan, ended, begun, published := id("A"), id("B"), id("C"), id("D")
	for name, text := range map[string]string{
		tt.u.dataPath(orphan):              "data",
		tt.u.dataPath(ended):               "data",
		tt.u.statePath(ended):              string(make([]byte, stateSize)),
		tt.u.statePath(begun):              "",
		filepath.Join(tt.u.dir, "foreign"): "",
	} {
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), 0o644)))
	}
	st := newSessionState(published, "repo", digest.SHA256, tt.u.boot)
	st.sealed, st.size = true, 3
	dead := tt.u.newSession(published)
	dead.memory = &memory{repo: "repo"}
	qt.Assert(t, qt.IsNil(dead.createFile(st, "")))
	dead.closeState()

	u := tt.process()
	u.expiry = -1 // then there is one sweep
	u.Watch()
	u.sweeping.Wait()
	names, err := filepath.Glob(filepath.Join(tt.u.dir, "*"))
	qt.Assert(t, qt.IsNil(err))
	want := []string{tt.u.statePath(begun), filepath.Join(tt.u.dir, "foreign"), tt.u.dataPath(w.ID()), tt.u.statePath(w.ID()), tt.u.statePath(small.ID())}
	qt.Check(t, qt.ContentEquals(names, want))
}

// TestSweepsComeWhileThereAreSessions counts the reads of the directory.
func TestSweepsComeWhileThereAreSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tt := newUploadTest(t)
		var looks atomic.Int64
		tt.FS.Set(func(op, name string) error {
			if op == "ReadDir" && name == tt.u.ended.dir {
				looks.Add(1)
			}
			return nil
		})
		sweeps := func() int {
			synctest.Wait()
			return int(looks.Swap(0))
		}
		var later atomic.Bool
		tt.u.now = func() time.Time { // files have the time of the system, not that of the bubble
			if later.Load() {
				return time.Now().Add(100 * 365 * 24 * time.Hour)
			}
			return time.Now()
		}
		tt.u.Watch()
		time.Sleep(10 * time.Hour)
		qt.Check(t, qt.Equals(sweeps(), 1))
		w := tt.start()
		time.Sleep(10 * time.Hour) // without bytes it is nothing to be swept
		qt.Check(t, qt.Equals(sweeps(), 0))
		tt.write(w, []byte("x"))
		qt.Check(t, qt.IsNil(w.Close()))
		time.Sleep(tt.u.expiry/16*5 + time.Second)
		qt.Check(t, qt.Equals(sweeps(), 5))
		later.Store(true)
		time.Sleep(tt.u.expiry)
		qt.Check(t, qt.Equals(sweeps(), 1))
		tt.checkUnknown(w.ID())
		tt.checkNoFiles()

		w = tt.start()
		tt.write(w, []byte("x"))
		tt.u.Close()
		time.Sleep(tt.u.expiry)
		qt.Check(t, qt.Equals(sweeps(), 0))
		tt.u.sweepLater()
		time.Sleep(tt.u.expiry)
		qt.Check(t, qt.Equals(sweeps(), 0))
		qt.Check(t, qt.IsNil(w.Cancel()))
	})
}
