package ocifs

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// stateSuffix is what the name of a session's state file has more than that of
// its data file.
const stateSuffix = ".state"

// session is what the writers of one upload session in this process share. What
// counts is in its files, once it has any; the rest saves reading them.
type session struct {
	uploads *uploads
	id      string
	writers int // guarded by uploads.mu

	busy chan struct{} // has an element while a call uses the fields below

	memory *memory // nil if the session has files, or is none
	losses int     // how often bytes in memory were lost

	known bool      // whether text and state are what the state file had when it was last used
	text  stateText // as it is in the file
	state sessionState
	small string  // the content, if the state file has it
	data  *staged // the content, open and hashed as far as state says; nil if it is not
}

// begin waits until no other call uses the session.
func (s *session) begin(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) done() { <-s.busy }

// touch begins the idle time anew and returns where the session ends. The bytes up to
// there are there.
func (s *session) touch(ctx context.Context, repo string) (position, error) {
	if err := s.begin(ctx); err != nil {
		return position{}, err
	}
	defer s.done()
	var size int64
	err := s.inFiles(ctx, repo, func(f file) error {
		var err error
		size, err = s.touchFiles(ctx, f)
		return err
	})
	if errors.Is(err, errNoFiles) {
		size, err = s.touchMemory(repo)
	}
	return position{size, s.losses}, err
}

func (s *session) touchFiles(ctx context.Context, f file) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if s.uploads.isIdle(info.ModTime(), s.uploads.expiry) {
		s.end(f)
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	if s.state.size > 0 && !s.state.inline {
		if err := s.open(ctx, f); err != nil {
			return 0, err
		}
	}
	if s.uploads.isFresh(info.ModTime()) {
		return s.state.size, nil
	}
	_, err = f.WriteAt(s.text[:], 0)
	return s.state.size, err
}

// position is where a writer is in a session.
type position struct {
	offset int64
	losses int // of the session, before the writer's last bytes
}

// checkLosses checks that what comes before a position is there.
func (s *session) checkLosses(at position) error {
	if at.losses != s.losses && at.offset > 0 {
		return fmt.Errorf("%w: another process has the upload, and what was written here is lost", ociregistry.ErrRangeInvalid)
	}
	return nil
}

// append adds p, if the session is at a position, which it moves on. If the limit
// refuses it, the session ends: left open, it would keep its share from others until
// it expired.
func (s *session) append(ctx context.Context, repo string, at *position, p []byte) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.done()
	err := s.checkLosses(*at)
	if err == nil {
		err = s.appendAt(ctx, repo, at.offset, p)
	}
	if err == nil {
		*at = position{at.offset + int64(len(p)), s.losses}
	}
	return err
}

func (s *session) appendAt(ctx context.Context, repo string, offset int64, p []byte) error {
	if s.memory != nil {
		stays, err := s.appendMemory(offset, p)
		if stays || err != nil {
			return err
		}
	}
	err := s.inFiles(ctx, repo, func(f file) error { return s.appendFiles(ctx, f, offset, p) })
	if errors.Is(err, errNoFiles) {
		return ociregistry.ErrBlobUploadUnknown
	}
	return err
}

func (s *session) appendFiles(ctx context.Context, f file, offset int64, p []byte) error {
	if s.state.size != offset {
		return errOffset(s.state.size)
	}
	if s.state.sealed {
		return errSealed
	}
	if err := s.open(ctx, f); err != nil {
		return err
	}
	if err := s.data.reserve(int64(len(p))); err != nil {
		s.end(f)
		return err
	}
	err := s.data.append(p)
	if err == nil {
		next := s.state
		next.inline, next.size = false, s.data.size
		next.setHash(s.data.hash)
		err = s.save(f, next)
	}
	if err != nil {
		s.data.release(int64(len(p)))
		if s.state.inline {
			s.uploads.store.fs.Remove(s.data.name)
		}
		s.forget()
	}
	return err
}

var errSealed = fmt.Errorf("%w: it was complete when it was to be committed", ociregistry.ErrBlobUploadInvalid)

// commit ends the session and publishes its content, if the session is at a position
// and d is right. It reports whether the session is over.
func (s *session) commit(ctx context.Context, repo string, at position, d ociregistry.Digest) (ended bool, err error) {
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	defer s.done()
	err = s.inFiles(ctx, repo, func(f file) error {
		if err = s.checkLosses(at); err != nil {
			return err
		}
		switch {
		case s.state.size != at.offset:
			err = errOffset(s.state.size)
		case s.state.inline:
			ended, err = s.commitSmall(ctx, f, d)
		default:
			ended, err = s.commitData(ctx, f, d)
		}
		return err
	})
	if !errors.Is(err, errNoFiles) {
		return ended, err
	}
	if err := s.checkLosses(at); err != nil {
		return false, err
	}
	return s.commitMemory(ctx, at.offset, d)
}

// commitSmall is commit for content that the state file has.
func (s *session) commitSmall(ctx context.Context, f file, d ociregistry.Digest) (ended bool, err error) {
	if d.Algorithm().FromString(s.small) != d {
		s.end(f)
		return true, ociregistry.ErrDigestInvalid
	}
	added, err := s.uploads.publishText(ctx, s.state.repo, d, s.small)
	if err != nil {
		next := s.state
		next.sealed = true
		s.save(f, next)
		return false, err
	}
	if !added { // else the bytes are the blob's now
		s.uploads.store.release(s.state.counted())
	}
	s.leave(f)
	return true, nil
}

// commitData is commit for content in a file of its own.
func (s *session) commitData(ctx context.Context, f file, d ociregistry.Digest) (ended bool, err error) {
	if err = s.open(ctx, f); err == nil {
		err = s.data.trim() // another process may have died while it wrote
	}
	if err != nil {
		return false, err
	}
	ok, err := s.data.is(ctx, d)
	if err != nil {
		return false, err
	}
	if !ok {
		s.end(f)
		return true, ociregistry.ErrDigestInvalid
	}
	// From here on the data file may be the blob's as well.
	if !s.state.sealed {
		next := s.state
		next.sealed = true
		if err := s.save(f, next); err != nil {
			return false, err
		}
	}
	err = s.uploads.publish(ctx, s.state.repo, d, s.data)
	if err != nil && !s.data.broken {
		if s.data.reserved == 0 {
			next := s.state
			next.stored = true
			s.save(f, next) // it is only for the limit
		}
		s.forget()
		return false, err
	}
	s.finish(f)
	return true, err
}

// cancel ends the session.
func (s *session) cancel(ctx context.Context, repo string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.done()
	err := s.inFiles(ctx, repo, s.end)
	if !errors.Is(err, errNoFiles) {
		return err
	}
	if _, err := s.touchMemory(repo); err != nil {
		return err
	}
	s.endMemory()
	return nil
}

// errNoFiles is for a session that has no files, or is none.
var errNoFiles = errors.New("the upload session has no files")

// inFiles calls f with the state file while the session is locked, if it has
// files and is one of the repository. An empty repository stands for any. If it has no
// files, the error is errNoFiles.
//
// Each call opens the state file anew: that is how the lock is taken and given
// back, and how a session that another process ended is known.
func (s *session) inFiles(ctx context.Context, repo string, f func(state file) error) error {
	state, err := s.uploads.openState(ctx, s.id)
	if err == nil {
		defer state.Close()
		err = s.load(state)
	}
	if err == nil && repo != "" && s.state.repo != repo {
		err = ociregistry.ErrBlobUploadUnknown
	}
	if err != nil && !errors.Is(err, errLost) {
		s.forget()
		return err
	}
	s.loseMemory() // another process was first
	if err == nil {
		err = f(state)
	}
	if errors.Is(err, errLost) {
		s.uploads.log.Warn("an upload session lost its content", "id", s.id, "repository", s.state.repo)
		s.end(state)
		return ociregistry.ErrBlobUploadUnknown
	}
	return err
}

// openState opens and locks a state file.
func (u *uploads) openState(ctx context.Context, id string) (file, error) {
	f, err := u.store.fs.OpenFile(u.statePath(id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFiles
	}
	if err != nil {
		return nil, err
	}
	if err := u.lock(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock waits for the lock of a file.
func (u *uploads) lock(ctx context.Context, f file) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ok, err := u.store.fs.TryLock(f)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// load reads the state, unless it is what this process last saw.
func (s *session) load(f file) error {
	var text stateText
	if n, err := f.ReadAt(text[:], 0); n < len(text) {
		if err == io.EOF {
			err = ociregistry.ErrBlobUploadUnknown
		}
		return err
	}
	if s.known && text == s.text {
		return nil
	}
	st, err := parseSessionState(&text)
	if err != nil || st.id != s.id { // it is another's by now
		return ociregistry.ErrBlobUploadUnknown
	}
	s.forget()
	s.state = st
	if st.inline {
		content := make([]byte, st.size)
		if _, err := f.ReadAt(content, stateSize); err != nil && err != io.EOF {
			return err
		}
		s.small = string(content)
		if contentSum(s.small) != st.sum {
			return errLost
		}
	}
	s.known, s.text = true, text
	return nil
}

// save writes the state. If that fails, the session is as it was, as far as it
// can be.
func (s *session) save(f file, st sessionState) error {
	text, err := st.encode()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(text[:], 0); err != nil {
		f.WriteAt(s.text[:], 0)
		return err
	}
	s.text, s.state = text, st
	return nil
}

// errLost is for a data file that has not what the state says.
var errLost = errors.New("content of an upload session is lost")

// open opens the data file, whose content is as the state says. It makes the file
// if there is none because the state file has the content, or there is no content.
func (s *session) open(ctx context.Context, f file) error {
	if s.data != nil {
		return nil
	}
	store := s.uploads.store
	name := s.uploads.dataPath(s.id)
	data, err := store.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	st := &staged{store: store, file: data, name: name, alg: s.state.alg, size: s.state.size, reserved: s.state.counted()}
	if s.state.inline {
		err = st.begin(s.small)
	} else {
		err = s.check(ctx, st)
	}
	if err == nil && s.state.boot != s.uploads.boot {
		next := s.state
		next.boot = s.uploads.boot
		err = s.save(f, next)
	}
	if err != nil {
		data.Close()
		if s.state.inline {
			store.fs.Remove(name)
		}
		return err
	}
	s.data = st
	return nil
}

// begin makes the data file have text, and no more.
func (st *staged) begin(text string) error {
	if err := st.file.Truncate(0); err != nil {
		return err
	}
	st.size, st.hash = 0, st.alg.Hash()
	return st.append([]byte(text))
}

// check makes the data file be as the state says, and restores its hash. What
// was written before the system was started again may have been lost: it is
// hashed once more.
func (s *session) check(ctx context.Context, st *staged) (err error) {
	if err := st.trim(); err != nil {
		return err
	}
	if st.hash, err = s.state.newHash(); err != nil {
		return errLost
	}
	if s.state.boot == s.uploads.boot {
		return nil
	}
	again := st.alg.Hash()
	if err := hashFile(ctx, again, st.file, st.size); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errLost
		}
		return err
	}
	text, err := again.(encoding.BinaryAppender).AppendBinary(nil)
	if err == nil && !bytes.Equal(text, s.state.hash) {
		err = errLost
	}
	return err
}

// trim removes what the file has beyond the content.
func (st *staged) trim() error {
	info, err := st.file.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() < st.size:
		return errLost
	case info.Size() > st.size:
		return st.file.Truncate(st.size)
	}
	return nil
}

// end ends the session, whose state is loaded, and frees what it held.
func (s *session) end(f file) error {
	if s.data == nil && s.state.inline {
		s.uploads.store.release(s.state.counted())
	} else if s.data == nil {
		s.data = &staged{store: s.uploads.store, name: s.uploads.dataPath(s.id), reserved: s.state.counted()}
	}
	return s.finish(f)
}

// finish removes the files of a session whose content is in s.data, or gone. The
// state file comes last, so that a sweep finds what this leaves behind. It is an
// error only if the state file is there, and does not say that this is the end.
func (s *session) finish(f file) error {
	err := s.markEnded(f)
	if gone := s.uploads.removeState(s.id, f); gone == nil {
		return nil
	}
	return err
}

// leave is finish for a session that became a small blob. It leaves its state file,
// which says that the session has ended, to others. To overwrite the content costs less
// than to cut it off.
func (s *session) leave(f file) {
	u := s.uploads
	u.tellEnded(s.id)
	_, err := f.WriteAt(make([]byte, stateSize+s.state.size), 0)
	s.forget()
	u.count.removed()
	if err != nil || !u.store.staging.keepSpare(u.statePath(s.id), f) {
		u.removeState(s.id, f)
	}
}

// markEnded makes the state file say that the session has ended, and lets go of the
// content.
func (s *session) markEnded(f file) error {
	s.uploads.tellEnded(s.id)
	var ended [len(stateMagic)]byte
	_, err := f.WriteAt(ended[:], 0)
	if s.data != nil {
		s.data.discard()
	}
	s.forget()
	s.uploads.count.removed()
	return err
}

// removeState removes a state file that is open as f, and locked.
func (u *uploads) removeState(id string, f file) error {
	err := u.store.fs.Remove(u.statePath(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Close() // where an open file cannot be removed
		err = u.store.fs.Remove(u.statePath(id))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (u *uploads) dataPath(id string) string  { return filepath.Join(u.dir, id) }
func (u *uploads) statePath(id string) string { return filepath.Join(u.dir, id+stateSuffix) }

// forget closes the data file. It is used by the one who is busy with the
// session, or when nobody can be.
func (s *session) forget() {
	if s.data != nil {
		s.data.close()
		s.data = nil
	}
	s.known, s.small = false, ""
}
