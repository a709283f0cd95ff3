package uploads

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// session is what the writers of one upload session in this process share. Once the
// session has files, the files are authoritative, and the rest saves reading them.
type session struct {
	uploads *Sessions
	id      string
	writers int // guarded by uploads.mu

	busy chan struct{} // full while a call uses the fields below

	memory *memory // nil if the session has files or does not exist
	losses int     // how many times bytes without files were lost

	file  disk.File // the open state file, unlocked between calls; or nil
	known bool      // text and state are what the state file had when it was last used
	text  stateText // as it is in the file
	state sessionState
	small string        // the content, if it is in the state file
	data  *blobs.Staged // the open content, hashed up to state.size; or nil
}

// enter waits until no other call uses the session.
func (s *session) enter(ctx context.Context) error {
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

// exit allows another call to use the session.
func (s *session) exit() { <-s.busy }

// touch restarts the idle time and returns the end of the session. It has checked
// that the bytes before it are there.
func (s *session) touch(ctx context.Context, repo string) (position, error) {
	if err := s.enter(ctx); err != nil {
		return position{}, err
	}
	defer s.exit()
	var size int64
	err := s.inFiles(ctx, repo, func(f disk.File) error {
		var err error
		size, err = s.touchFiles(ctx, f)
		return err
	})
	if errors.Is(err, errNoFiles) {
		size, err = s.touchMemory(repo)
	}
	return position{size, s.losses}, err
}

func (s *session) touchFiles(ctx context.Context, f disk.File) (size int64, err error) {
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
	if s.uploads.isRecent(info.ModTime()) {
		return s.state.size, nil
	}
	_, err = f.WriteAt(s.text[:], 0)
	return s.state.size, err
}

// position is the position of a writer in a session.
type position struct {
	offset int64
	losses int // session.losses before the writer's last bytes
}

// checkLosses checks that the bytes before a position are still there.
func (s *session) checkLosses(at position) error {
	if at.losses != s.losses && at.offset > 0 {
		return fmt.Errorf("%w: another process has the upload, and what was written here is lost", ociregistry.ErrRangeInvalid)
	}
	return nil
}

// append appends p at the position, which must be the end of the session, and
// advances the position. If the quota refuses p, the session ends: left open, it
// would keep its share of the quota from others until it expired.
func (s *session) append(ctx context.Context, repo string, at *position, p []byte) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
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
	err := s.inFiles(ctx, repo, func(f disk.File) error { return s.appendFiles(ctx, f, offset, p) })
	if errors.Is(err, errNoFiles) {
		return ociregistry.ErrBlobUploadUnknown
	}
	return err
}

func (s *session) appendFiles(ctx context.Context, f disk.File, offset int64, p []byte) error {
	if s.state.size != offset {
		return errOffset(s.state.size)
	}
	if s.state.sealed {
		return errSealed
	}
	if err := s.open(ctx, f); err != nil {
		return err
	}
	if err := s.data.Reserve(int64(len(p))); err != nil {
		s.end(f)
		return err
	}
	err := s.data.Append(p)
	if err == nil {
		next := s.state
		next.inline, next.size = false, s.data.Size()
		next.setHash(s.data.Hash())
		err = s.save(f, next)
	}
	if err != nil {
		s.data.Release(int64(len(p)))
		if s.state.inline {
			s.uploads.work.FS.Remove(s.uploads.dataPath(s.id))
		}
		s.unload()
	}
	return err
}

var errSealed = fmt.Errorf("%w: it was complete when it was to be committed", ociregistry.ErrBlobUploadInvalid)

// commit publishes the content and ends the session, if the position is the end of
// the session and d matches. It reports whether the session has ended.
func (s *session) commit(ctx context.Context, repo string, at position, d ociregistry.Digest) (ended bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.exit()
	err = s.inFiles(ctx, repo, func(f disk.File) error {
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

// commitSmall is commit for content that is in the state file.
func (s *session) commitSmall(ctx context.Context, f disk.File, d ociregistry.Digest) (ended bool, err error) {
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
	if !added { // otherwise the reserved bytes are the blob's now
		s.uploads.quota.Release(s.state.counted())
	}
	s.endSmall(f)
	return true, nil
}

// commitData is commit for content in a file of its own.
func (s *session) commitData(ctx context.Context, f disk.File, d ociregistry.Digest) (ended bool, err error) {
	if err = s.open(ctx, f); err == nil {
		err = lostIfShort(s.data.Trim()) // another process may have died while it wrote
	}
	if err != nil {
		return false, err
	}
	ok, err := s.data.Is(ctx, d)
	if err != nil {
		return false, err
	}
	if !ok {
		s.end(f)
		return true, ociregistry.ErrDigestInvalid
	}
	// From here on, the data file may also be the blob's.
	if !s.state.sealed {
		next := s.state
		next.sealed = true
		if err := s.save(f, next); err != nil {
			return false, err
		}
	}
	err = s.uploads.publish(ctx, s.state.repo, d, s.data)
	if err != nil && !s.data.IsBroken() {
		if s.data.Reserved() == 0 {
			next := s.state
			next.stored = true
			s.save(f, next) // only the limit depends on it
		}
		s.unload()
		return false, err
	}
	s.finish(f)
	return true, err
}

// cancel ends the session.
func (s *session) cancel(ctx context.Context, repo string) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
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

// errNoFiles means that a session has no files, or does not exist.
var errNoFiles = errors.New("the upload session has no files")

// inFiles locks the session and calls f with its state file, if it has files and
// belongs to the repository. An empty repository stands for any. If the session has
// no files, the error is errNoFiles.
//
// The state file stays open between calls. Its content shows if another process has
// ended the session, or has reused the file for another session.
func (s *session) inFiles(ctx context.Context, repo string, f func(state disk.File) error) error {
	state, err := s.lockState(ctx)
	if err == nil {
		defer s.unlockState()
		err = s.load(state)
	}
	if err == nil && repo != "" && s.state.repo != repo {
		err = ociregistry.ErrBlobUploadUnknown
	}
	if err != nil && !errors.Is(err, errLost) {
		s.unload()
		return err
	}
	s.loseMemory() // another process was first
	if err == nil {
		err = f(state)
	}
	if errors.Is(err, errLost) {
		s.uploads.log.Warn("an upload session lost its content", "upload", uploadid.Hash(s.id), "repository", s.state.repo)
		s.end(state)
		return ociregistry.ErrBlobUploadUnknown
	}
	return err
}

// end ends the session, whose state is loaded, and frees what it held.
func (s *session) end(f disk.File) error {
	if s.data == nil && s.state.inline {
		s.uploads.quota.Release(s.state.counted())
	} else if s.data == nil {
		s.data = s.uploads.blobs.Adopt(nil, s.uploads.dataPath(s.id), s.state.alg, nil, 0, s.state.counted())
	}
	return s.finish(f)
}

// finish removes the files of a session whose content is in s.data, or gone. The
// state file is removed last, so that a sweep finds what finish leaves behind. It is
// an error only if the state file remains and does not say that the session has
// ended.
func (s *session) finish(f disk.File) error {
	err := s.markEnded(f)
	if gone := s.uploads.removeState(s.id, f); gone == nil {
		return nil
	}
	return err
}

// endSmall is finish for a session that has become a small blob. It leaves the state
// file, which says that the session has ended, for reuse. Overwriting the content
// costs less than truncating it.
func (s *session) endSmall(f disk.File) {
	u := s.uploads
	u.recordEnded(s.id)
	_, err := f.WriteAt(make([]byte, stateSize+s.state.size), 0)
	s.unload()
	u.count.removed()
	if err == nil && u.work.KeepSpare(u.statePath(s.id), f) {
		s.file = nil
		return
	}
	u.removeState(s.id, f)
}

// markEnded records in the state file that the session has ended, and discards the
// content.
func (s *session) markEnded(f disk.File) error {
	s.uploads.recordEnded(s.id)
	var ended [len(stateMagic)]byte
	_, err := f.WriteAt(ended[:], 0)
	if s.data != nil {
		s.data.Discard()
	}
	s.unload()
	s.uploads.count.removed()
	return err
}

// unload closes the data file. The caller has entered the session, or nobody else
// can.
func (s *session) unload() {
	if s.data != nil {
		s.data.Close()
		s.data = nil
	}
	s.known, s.small = false, ""
}
