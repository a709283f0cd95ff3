package ocifs

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// memory is a session that has no files.
type memory struct {
	repo    string
	id      uploadID
	text    strings.Builder // the content
	touched time.Time       // when the last bytes came, or were asked for
	sealed  bool            // it can only be committed

	counted  bool  // among the sessions with bytes
	reserved int64 // how many bytes were taken from the limit
}

// touchMemory is touch for a session that has no files.
func (s *session) touchMemory(repo string) (size int64, err error) {
	u, m := s.uploads, s.memory
	if m != nil && m.repo != repo {
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	if m != nil && m.text.Len() > 0 {
		if u.isIdle(m.touched, u.expiry) {
			s.endMemory()
			return 0, ociregistry.ErrBlobUploadUnknown
		}
		m.touched = u.now()
		return int64(m.text.Len()), nil
	}
	id, err := u.key.check(s.id, repo)
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
		s.memory = &memory{repo: repo, id: id}
	}
	return 0, nil
}

// appendMemory is append for a session that has no files. It reports whether that
// remains so: if not, it has not added p.
func (s *session) appendMemory(offset int64, p []byte) (stays bool, err error) {
	u, m := s.uploads, s.memory
	size := int64(m.text.Len())
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
	n := int64(len(p))
	if size+n > smallBlob {
		return false, s.store()
	}
	if err := u.store.reserve(n); err != nil {
		s.endMemory()
		return true, err
	}
	m.reserved += n
	m.text.Write(p)
	m.touched = u.now()
	return true, nil
}

// commitMemory is commit for a session that has no files.
func (s *session) commitMemory(ctx context.Context, offset int64, d ociregistry.Digest) (ended bool, err error) {
	m := s.memory
	if m == nil {
		return false, ociregistry.ErrBlobUploadUnknown
	}
	text := m.text.String()
	if int64(len(text)) != offset {
		return false, errOffset(int64(len(text)))
	}
	if d.Algorithm().FromString(text) != d {
		s.endMemory()
		return true, ociregistry.ErrDigestInvalid
	}
	if err := s.checkNotEndedElsewhere(); err != nil {
		return s.memory == nil, err
	}
	added, err := s.uploads.publishText(ctx, m.repo, d, text)
	if err != nil {
		m.sealed = true
		return false, err
	}
	if added {
		m.reserved = 0 // they are the blob's now
	}
	s.endMemory()
	return true, nil
}

// keep gives the session files, if it has bytes and no files: what it has up to a
// position is about to be acknowledged.
func (s *session) keep(ctx context.Context, at position) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.done()
	if err := s.checkLosses(at); err != nil {
		return err
	}
	if s.memory == nil || s.memory.text.Len() == 0 {
		return nil
	}
	return s.store()
}

// store gives the session, which is in memory, files. If it fails, it stays there,
// unless another process has given it files.
func (s *session) store() error {
	u, m := s.uploads, s.memory
	st := sessionState{id: s.id, repo: m.repo, alg: m.id.alg, boot: u.boot, sealed: m.sealed}
	text := m.text.String()
	if text == "" {
		st.setHash(st.alg.Hash())
	} else {
		st.setContent(text)
	}
	err := u.create(st, text)
	if errors.Is(err, fs.ErrExist) {
		at := position{int64(len(text)), s.losses}
		s.loseMemory()
		return s.checkLosses(at)
	}
	if err != nil {
		return err
	}
	if err := s.checkNotEndedElsewhere(); err != nil { // an end is told before its session's files go
		u.store.fs.Remove(u.statePath(s.id))
		return err
	}
	s.memory = nil
	if m.counted {
		u.count.filed()
	}
	return nil
}

// checkNotEndedElsewhere checks that the session, which is in memory, had no files in
// another process, where it has ended. If so, it ends here.
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

// create makes the state file of a session, with content that it has itself, or none.
// If there is one, the error is an [fs.ErrExist].
func (u *uploads) create(st sessionState, content string) error {
	head, err := st.encode()
	if err != nil {
		return err
	}
	tmp, err := u.store.staging.createState(append(head[:], content...))
	if err != nil {
		return err
	}
	return u.store.nameNew(tmp, u.statePath(st.id), func() error {
		return makeDirs(u.store.fs, filepath.Dir(u.dir), u.dir)
	})
}

// endMemory ends a session that is in memory.
func (s *session) endMemory() {
	s.uploads.ended.add(s.memory.id)
	s.freeMemory()
}

// loseMemory frees what the session has in memory, if that is where it is, because
// another process was first to give it files, or because nobody kept it.
func (s *session) loseMemory() {
	if s.memory == nil {
		return
	}
	if s.memory.text.Len() > 0 {
		s.losses++
	}
	s.freeMemory()
}

func (s *session) freeMemory() {
	s.uploads.store.release(s.memory.reserved)
	if s.memory.counted {
		s.uploads.count.lost()
	}
	s.memory = nil
}

// checkNotEnded checks that a session without files can go on or begin.
//
// Errors: [ociregistry.ErrBlobUploadUnknown].
func (u *uploads) checkNotEnded(id uploadID) error {
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

// idLife returns for how long an id is good without bytes.
func (u *uploads) idLife() time.Duration {
	if u.expiry > 0 {
		return u.expiry
	}
	return DefaultUploadExpiry
}

// tellEnded lets this process, and all others, know that a session which has files
// ends. That others can know is worth a warning only if it fails.
func (u *uploads) tellEnded(text string) {
	b, ok := decodeID(text)
	if !ok {
		return
	}
	id := parseID(&b)
	if id.age(u.now()) >= u.idLife() {
		return
	}
	if err := u.ended.tell(id); err != nil {
		u.log.Warn("other processes do not know that an upload session has ended", "id", text, "error", err)
	}
}
