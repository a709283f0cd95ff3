package uploads

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// stateSuffix is appended to the name of a session's data file to form that of its
// state file.
const stateSuffix = ".state"

func (u *Sessions) dataPath(id string) string  { return filepath.Join(u.dir, id) }
func (u *Sessions) statePath(id string) string { return filepath.Join(u.dir, id+stateSuffix) }

// lockState opens the state file, unless it is open, and locks it.
func (s *session) lockState(ctx context.Context) (disk.File, error) {
	if s.file == nil {
		f, err := s.uploads.openState(ctx, s.id)
		s.file = f
		return f, err
	}
	if err := s.uploads.lock(ctx, s.file); err != nil {
		return nil, err
	}
	return s.file, nil
}

// unlockState releases the lock. If the session is not known to continue, it closes
// the state file.
func (s *session) unlockState() {
	if s.file != nil && (!s.known || s.uploads.work.FS.Unlock(s.file) != nil) {
		s.closeState()
	}
}

// closeState closes the state file, if it is open.
func (s *session) closeState() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// openState opens and locks a state file.
func (u *Sessions) openState(ctx context.Context, id string) (disk.File, error) {
	f, err := u.work.FS.OpenFile(u.statePath(id), os.O_RDWR, 0)
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

// lock waits for the lock of a state file.
func (u *Sessions) lock(ctx context.Context, f disk.File) error {
	return disk.Lock(ctx, u.work.FS, f, time.Millisecond, 50*time.Millisecond)
}

// removeState removes a state file that is open as f, and locked.
func (u *Sessions) removeState(id string, f disk.File) error {
	err := u.work.FS.Remove(u.statePath(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Close() // some systems cannot remove an open file
		err = u.work.FS.Remove(u.statePath(id))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// load reads the state, unless it is what this process last saw.
func (s *session) load(f disk.File) error {
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
	if err != nil || st.id != s.id { // the file is another session's by now
		return ociregistry.ErrBlobUploadUnknown
	}
	s.unload()
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

// save writes the state. If that fails, it tries to restore the old one.
func (s *session) save(f disk.File, st sessionState) error {
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

// errLost means that the content of a session is not what its state says.
var errLost = errors.New("content of an upload session is lost")

// open opens the data file and checks that its content is what the state says. It
// creates the file if the content is in the state file, or if there is no content.
func (s *session) open(ctx context.Context, f disk.File) error {
	if s.data != nil {
		return nil
	}
	name := s.uploads.dataPath(s.id)
	data, err := s.uploads.work.FS.OpenFile(name, os.O_RDWR|os.O_CREATE, disk.FilePerm)
	if err != nil {
		return err
	}
	var st *blobs.Staged
	if s.state.inline {
		st, err = s.fill(data)
	} else {
		st, err = s.check(ctx, data)
	}
	if err == nil && s.state.boot != s.uploads.boot {
		next := s.state
		next.boot = s.uploads.boot
		err = s.save(f, next)
	}
	if err != nil {
		data.Close()
		if s.state.inline {
			s.uploads.work.FS.Remove(name)
		}
		return err
	}
	s.data = st
	return nil
}

// fill gives the data file exactly the content that is in the state file.
func (s *session) fill(data disk.File) (*blobs.Staged, error) {
	if err := data.Truncate(0); err != nil {
		return nil, err
	}
	st := s.uploads.blobs.Adopt(data, s.uploads.dataPath(s.id), s.state.alg, s.state.alg.Hash(), 0, s.state.counted())
	return st, st.Append([]byte(s.small))
}

// check truncates the data file to the size in the state, and restores the hash.
// Content that was written before the last boot may have been lost, so check hashes
// it again.
func (s *session) check(ctx context.Context, data disk.File) (*blobs.Staged, error) {
	if err := lostIfShort(disk.Trim(data, s.state.size)); err != nil {
		return nil, err
	}
	h, err := s.state.newHash()
	if err != nil {
		return nil, errLost
	}
	if s.state.boot != s.uploads.boot {
		again := s.state.alg.Hash()
		if err := lostIfShort(blobs.HashFile(ctx, again, data, s.state.size)); err != nil {
			return nil, err
		}
		text, err := again.(encoding.BinaryAppender).AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(text, s.state.hash) {
			return nil, errLost
		}
	}
	return s.uploads.blobs.Adopt(data, s.uploads.dataPath(s.id), s.state.alg, h, s.state.size, s.state.counted()), nil
}

// lostIfShort replaces an error that means that a file is too short by errLost.
func lostIfShort(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errLost
	}
	return err
}
