package uploads

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// memory is a session that has no files, so that only this process knows its content.
type memory struct {
	repo    string
	id      sessionID
	text    strings.Builder // the content, while it is small
	staged  *blobs.Staged   // the content, once it is not
	touched time.Time       // when bytes last arrived, or a writer last resumed
	sealed  bool            // the session can only be committed

	counted bool        // the session counts among those with bytes
	share   blobs.Share // of the quota, for text
}

func (u *Sessions) newMemory(repo string, id sessionID) *memory {
	return &memory{repo: repo, id: id, share: u.quota.NewShare(0)}
}

// maxUnshared is the maximum size, in bytes, of content that only one process knows.
// Up to that size, a client may have to send everything again that was not
// acknowledged when the process ended.
const maxUnshared = 8 << 20

func (m *memory) size() int64 {
	if m.staged != nil {
		return m.staged.Size()
	}
	return int64(m.text.Len())
}

// touchMemory is touch for a session without files.
func (s *session) touchMemory(repo string) (size int64, err error) {
	u, m := s.uploads, s.memory
	if m != nil && m.repo != repo {
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	if m != nil && m.size() > 0 {
		if u.isIdle(m.touched, u.expiry) {
			s.endMemory()
			return 0, ociregistry.ErrBlobUploadUnknown
		}
		m.touched = u.now()
		return m.size(), nil
	}
	id, err := u.check(s.id, repo)
	if err == nil {
		err = u.checkNotEnded(id)
	}
	if errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		s.loseMemory()
	}
	if err != nil {
		return 0, err
	}
	if m == nil {
		s.memory = s.uploads.newMemory(repo, id)
	}
	return 0, nil
}

// appendMemory is append for a session without files. It reports whether the session
// still has none. If not, p was not appended.
func (s *session) appendMemory(offset int64, p []byte) (stays bool, err error) {
	u, m := s.uploads, s.memory
	size := m.size()
	if size != offset {
		return true, errOffset(size)
	}
	if m.sealed {
		return true, errSealed
	}
	if !m.counted && len(p) > 0 {
		if err := u.count.admit(u.now()); err != nil {
			return true, err
		}
		m.counted = true
		u.sweepLater()
	}
	switch n := size + int64(len(p)); {
	case n > maxUnshared:
		return false, s.createFiles()
	case n > MaxSmall:
		err = s.appendStaged(p)
	default:
		err = s.appendText(p)
	}
	m.touched = u.now()
	return true, err
}

// appendText appends p to the content, which stays small. If the quota refuses p, the
// session ends.
func (s *session) appendText(p []byte) error {
	if err := s.memory.share.Reserve(int64(len(p))); err != nil {
		s.endMemory()
		return err
	}
	s.memory.text.Write(p)
	return nil
}

// appendStaged appends p to the content, which is no longer small. If the quota
// refuses p, the session ends.
func (s *session) appendStaged(p []byte) error {
	m, n := s.memory, int64(len(p))
	if m.staged == nil {
		if err := s.stage(); err != nil {
			return err
		}
	}
	if err := m.staged.Reserve(n); err != nil {
		s.endMemory()
		return err
	}
	err := m.staged.Append(p)
	if err != nil {
		m.staged.Release(n)
	}
	return err
}

// stage moves the content from memory to a staged file.
func (s *session) stage() error {
	u, m := s.uploads, s.memory
	f, name, err := u.work.Create()
	if err != nil {
		return err
	}
	st := u.blobs.Adopt(f, name, m.id.alg, m.id.alg.Hash(), 0, m.share.Size())
	if err := st.Append([]byte(m.text.String())); err != nil {
		st.HandOver() // they stay reserved for the text
		st.Discard()
		return err
	}
	m.staged = st
	m.share.HandOver() // to what is staged
	m.text.Reset()
	return nil
}

// commitMemory is commit for a session without files.
func (s *session) commitMemory(ctx context.Context, offset int64, d ociregistry.Digest) (ended bool, err error) {
	m := s.memory
	if m == nil {
		return false, ociregistry.ErrBlobUploadUnknown
	}
	if m.size() != offset {
		return false, errOffset(m.size())
	}
	ok, err := m.is(ctx, d)
	if err != nil {
		return false, err
	}
	if !ok {
		s.endMemory()
		return true, ociregistry.ErrDigestInvalid
	}
	if err := s.checkNotEndedElsewhere(); err != nil {
		return s.memory == nil, err
	}
	err = s.publishMemory(ctx, d)
	if err != nil && (m.staged == nil || !m.staged.IsBroken()) {
		m.sealed = true
		return false, err
	}
	s.endMemory()
	return true, err
}

// publishMemory publishes the content of a session without files.
func (s *session) publishMemory(ctx context.Context, d ociregistry.Digest) error {
	u, m := s.uploads, s.memory
	if m.staged != nil {
		return u.publish(ctx, m.repo, d, m.staged)
	}
	added, err := u.publishText(ctx, m.repo, d, m.text.String())
	if added {
		m.share.HandOver()
	}
	return err
}

// is reports whether a well-formed digest is that of the content.
func (m *memory) is(ctx context.Context, d ociregistry.Digest) (bool, error) {
	if m.staged == nil {
		return d.Algorithm().FromString(m.text.String()) == d, nil
	}
	return m.staged.Is(ctx, d)
}

// persist gives the session files, if it has bytes but no files, because the bytes
// before a position are about to be acknowledged.
func (s *session) persist(ctx context.Context, at position) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	if err := s.checkLosses(at); err != nil {
		return err
	}
	if s.memory == nil || s.memory.size() == 0 {
		return nil
	}
	return s.createFiles()
}

// createFiles gives files to the session, which is in memory. If that fails, the
// session stays in memory, unless another process has given it files.
func (s *session) createFiles() error {
	u, m := s.uploads, s.memory
	st := sessionState{id: s.id, repo: m.repo, alg: m.id.alg, boot: u.boot, sealed: m.sealed}
	text := m.text.String()
	switch {
	case text != "":
		st.setContent(text)
	case m.sealed:
		st.setStaged(m.staged) // the file may be a blob's as well: nobody may truncate it
	default:
		st.setHash(st.alg.Hash())
	}
	at := position{m.size(), s.losses}
	err := s.createFile(st, text)
	if errors.Is(err, fs.ErrExist) {
		s.loseMemory()
		return s.checkLosses(at)
	}
	if err != nil {
		return err
	}
	err = s.checkNotEndedElsewhere() // an end is recorded before the session's files go
	if err == nil && m.staged != nil {
		err = s.nameStaged()
	}
	if err != nil {
		s.undoFiles()
		return err
	}
	s.leaveMemory()
	return nil
}

// nameStaged makes the staged file the data file of the session, and releases the lock
// of the new state file. Until it has saved the state, the session has no bytes, unless
// it is sealed.
func (s *session) nameStaged() error {
	u, st := s.uploads, s.memory.staged
	if err := st.Rename(u.dataPath(s.id)); err != nil {
		return err
	}
	next := s.state
	next.setStaged(st)
	if err := s.save(s.file, next); err != nil {
		if name, nameErr := u.work.NewName(); nameErr != nil || st.Rename(name) != nil {
			s.loseMemory()
		}
		return err
	}
	if s.data = st; next.sealed {
		s.unload() // Commit has closed the file
	}
	s.unlockState()
	return nil
}

// undoFiles removes the new state file of a session that is in memory or has ended.
// If the file cannot be removed, the session continues with it, unless it has ended.
func (s *session) undoFiles() {
	ended := s.memory == nil
	if ended {
		var zeros [len(stateMagic)]byte
		s.file.WriteAt(zeros[:], 0)
	}
	err := s.uploads.removeState(s.id, s.file)
	s.unload()
	s.closeState()
	switch {
	case err == nil || ended:
	case s.memory.staged != nil:
		s.loseMemory()
	default:
		s.leaveMemory()
	}
}

// leaveMemory frees the memory of a session whose files have everything.
func (s *session) leaveMemory() {
	counted := s.memory.counted
	s.memory = nil
	if counted {
		s.uploads.count.filed()
	}
}

// checkNotEndedElsewhere checks that the session, which is in memory, did not get
// files and end in another process. If it did, it ends here, too.
//
// Errors: [ociregistry.ErrBlobUploadUnknown].
func (s *session) checkNotEndedElsewhere() error {
	ended, err := s.uploads.ended.has(s.memory.id)
	if ended {
		s.freeMemory()
		return ociregistry.ErrBlobUploadUnknown
	}
	return err
}

// createFile creates the state file, with the content if there is any, and leaves it
// open. If the file exists, the error is an [fs.ErrExist].
func (s *session) createFile(st sessionState, content string) error {
	text, err := st.encode()
	if err != nil {
		return err
	}
	u := s.uploads
	f, name, err := u.work.FillSpare(append(text[:], content...))
	if err != nil {
		return err
	}
	if s.memory.staged != nil { // others must wait until the content is there, too
		if err := u.lock(over, f); err != nil {
			f.Close()
			u.work.FS.Remove(name)
			return err
		}
	}
	err = u.work.NameNew(name, u.statePath(s.id), func() error {
		return disk.MakeDirs(u.work.FS, filepath.Dir(u.dir), u.dir)
	})
	if err != nil {
		f.Close()
		return err
	}
	s.file, s.known, s.text, s.state, s.small = f, true, text, st, content
	return nil
}

// endMemory ends a session that is in memory.
func (s *session) endMemory() {
	s.uploads.ended.add(s.memory.id)
	s.freeMemory()
}

// loseMemory discards what the session has in memory, if anything, because another
// process was first to give it files, or because nobody called persist.
func (s *session) loseMemory() {
	if s.memory == nil {
		return
	}
	if s.memory.size() > 0 {
		s.losses++
	}
	s.freeMemory()
}

func (s *session) freeMemory() {
	s.memory.share.Free()
	if s.memory.staged != nil {
		s.memory.staged.Discard()
	}
	if s.memory.counted {
		s.uploads.count.lost()
	}
	s.memory = nil
}

// checkNotEnded checks that a session without files can begin or continue.
//
// Errors: [ociregistry.ErrBlobUploadUnknown].
func (u *Sessions) checkNotEnded(id sessionID) error {
	ended := id.age(u.now()) >= u.idLife()
	if !ended {
		var err error
		if ended, err = u.ended.has(id); err != nil {
			return err
		}
	}
	if ended {
		return ociregistry.ErrBlobUploadUnknown
	}
	return nil
}

// idLife returns how long an id is valid without bytes.
func (u *Sessions) idLife() time.Duration {
	if u.expiry > 0 {
		return u.expiry
	}
	return DefaultExpiry
}

// recordEnded records, for this process and all others, that a session with files
// ends. A failure is only logged: the session ends anyway.
func (u *Sessions) recordEnded(text string) {
	b, ok := decodeID(text)
	if !ok {
		return
	}
	id := parseID(&b)
	if id.age(u.now()) >= u.idLife() {
		return
	}
	if err := u.ended.record(id); err != nil {
		u.log.Warn("other processes do not know that an upload session has ended", "upload", uploadid.Hash(text), "error", err)
	}
}
