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
// counts is in its files; the rest saves reading them.
type session struct {
	uploads *uploads
	id      string
	writers int // guarded by uploads.mu

	busy chan struct{} // has an element while a call uses the fields below

	known bool      // whether text and state are what the state file had when it was last used
	text  stateText // as it is in the file
	state sessionState
	data  *staged // the content, open and hashed as far as state says; nil if it is not
}

// create makes the state file that is a session.
func (u *uploads) create(st sessionState) error {
	text, err := st.encode()
	if err != nil {
		return err
	}
	name := u.statePath(st.id)
	if u.store.staging.useSpare(name, text[:]) {
		return nil
	}
	const flag = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := u.store.fs.OpenFile(name, flag, filePerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(u.store.fs, filepath.Dir(u.dir), u.dir); err != nil {
			return err
		}
		f, err = u.store.fs.OpenFile(name, flag, filePerm)
	}
	if err != nil {
		return err
	}
	if err := fillAndClose(f, text[:]); err != nil {
		u.store.fs.Remove(name)
		return err
	}
	return nil
}

// touch begins the idle time anew and returns the session's size, of which the
// bytes are there.
func (s *session) touch(ctx context.Context, repo string) (size int64, err error) {
	err = s.use(ctx, repo, func(f file) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if s.uploads.isIdle(info, s.uploads.expiry) {
			s.end(f)
			return ociregistry.ErrBlobUploadUnknown
		}
		if s.state.size > 0 {
			if err := s.open(ctx, f); err != nil {
				return err
			}
		}
		size = s.state.size
		_, err = f.WriteAt(s.text[:], 0)
		return err
	})
	return size, err
}

// append adds p, if the session is at offset. If the limit refuses it, the
// session ends: left open, it would keep its share from others until it expired.
func (s *session) append(ctx context.Context, repo string, offset int64, p []byte) error {
	return s.use(ctx, repo, func(f file) error {
		if s.state.size != offset {
			return errOffset(s.state.size)
		}
		if s.state.sealed {
			return fmt.Errorf("%w: it was complete when it was to be committed", ociregistry.ErrBlobUploadInvalid)
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
			next.size = s.data.size
			next.setHash(s.data.hash)
			err = s.save(f, next)
		}
		if err != nil {
			s.data.release(int64(len(p)))
			s.forget()
		}
		return err
	})
}

// commit ends the session and publishes its content, if the session is at offset
// and d is right. It reports whether the session is over.
func (s *session) commit(ctx context.Context, repo string, offset int64, d ociregistry.Digest) (ended bool, err error) {
	err = s.use(ctx, repo, func(f file) error {
		if s.state.size != offset {
			return errOffset(s.state.size)
		}
		err := s.open(ctx, f)
		if err == nil {
			err = s.data.trim() // another process may have died while it wrote
		}
		if err != nil {
			return err
		}
		ok, err := s.data.is(ctx, d)
		if err != nil {
			return err
		}
		if !ok {
			ended = true
			s.end(f)
			return ociregistry.ErrDigestInvalid
		}
		// From here on the data file may be the blob's as well.
		if !s.state.sealed {
			next := s.state
			next.sealed = true
			if err := s.save(f, next); err != nil {
				return err
			}
		}
		err = s.uploads.publish(ctx, repo, d, s.data)
		if err != nil && !s.data.broken {
			if s.data.reserved == 0 {
				next := s.state
				next.stored = true
				s.save(f, next) // it is only for the limit
			}
			s.forget()
			return err
		}
		ended = true
		s.finish(f)
		return err
	})
	return ended, err
}

// cancel ends the session.
func (s *session) cancel(ctx context.Context, repo string) error {
	return s.use(ctx, repo, s.end)
}

// use calls f with the state file while the session is locked, if it is one of
// the repository. An empty repository stands for any.
//
// Each call opens the state file anew: that is how the lock is taken and given
// back, and how a session that another process ended is known.
func (s *session) use(ctx context.Context, repo string, f func(state file) error) error {
	select {
	case s.busy <- struct{}{}:
	default:
		select {
		case s.busy <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-s.busy }()
	state, err := s.uploads.openState(ctx, s.id)
	if err == nil {
		defer state.Close()
		err = s.load(state)
	}
	if err == nil && repo != "" && s.state.repo != repo {
		err = ociregistry.ErrBlobUploadUnknown
	}
	if err != nil {
		s.forget()
		return err
	}
	err = f(state)
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
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ok, err := u.store.fs.TryLock(f)
		if ok && err == nil {
			return f, nil
		}
		if err == nil {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(pause):
			}
		}
		if err != nil {
			f.Close()
			return nil, err
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
	s.known, s.text, s.state = true, text, st
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

// open opens the data file, whose content is as the state says.
func (s *session) open(ctx context.Context, f file) error {
	if s.data != nil {
		return nil
	}
	store := s.uploads.store
	name := s.uploads.dataPath(s.id)
	if s.state.size == 0 && !s.uploads.hasData(s.id) {
		store.staging.useSpare(name, nil)
	}
	data, err := store.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	st := &staged{store: store, file: data, name: name, alg: s.state.alg, size: s.state.size, reserved: s.state.counted()}
	err = s.check(ctx, st)
	if err == nil && s.state.boot != s.uploads.boot {
		next := s.state
		next.boot = s.uploads.boot
		err = s.save(f, next)
	}
	if err != nil {
		data.Close()
		return err
	}
	s.data = st
	return nil
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
	if s.data == nil {
		s.data = &staged{store: s.uploads.store, name: s.uploads.dataPath(s.id), reserved: s.state.counted()}
	}
	return s.finish(f)
}

// finish removes the files of a session whose content is in s.data, or gone. The
// state file comes last, so that a sweep finds what this leaves behind. It is an
// error only if the state file is there, and does not say that this is the end.
func (s *session) finish(f file) error {
	var ended [len(stateMagic)]byte
	_, err := f.WriteAt(ended[:], 0)
	spare := err == nil && s.data != nil && s.data.unlinked
	if spare {
		s.data.leave()
	}
	if s.data != nil {
		s.data.discard()
	}
	s.forget()
	if spare && s.uploads.store.staging.keepSpare(s.uploads.statePath(s.id), f) {
		return nil
	}
	if gone := s.uploads.removeState(s.id, f); gone == nil {
		return nil
	}
	return err
}

// leave leaves the file, which has no other name, to another session, if that
// can be done.
func (st *staged) leave() {
	if st.file != nil && st.file.Truncate(0) == nil && st.store.staging.keepSpare(st.name, st.file) {
		st.file, st.name = nil, ""
	}
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
	s.known = false
}
