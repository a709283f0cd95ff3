package uploads

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Sweeps remove sessions that were idle for too long, and the remains of sessions
// that ended when a process did. They run while there are sessions, and once when the
// registry is opened.

// Watch sweeps now, in the background, and repeatedly from then on while there are
// sessions.
func (u *Sessions) Watch() { u.sweepAfter(0) }

func (u *Sessions) sweepLater() {
	if u.expiry > 0 {
		u.sweepAfter(min(max(u.expiry/16, time.Second), time.Hour))
	}
}

// sweepAfter schedules a sweep, unless one is scheduled already.
func (u *Sessions) sweepAfter(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.sweeper != nil {
		u.unswept = true
		return
	}
	u.sweeping.Add(1)
	u.sweeper = time.AfterFunc(d, u.sweepNow)
}

func (u *Sessions) sweepNow() {
	defer u.sweeping.Done()
	u.mu.Lock()
	u.unswept = false
	u.mu.Unlock()
	n, err := u.sweep()
	if err != nil {
		u.log.Warn("sweeping upload sessions", "error", err)
	}
	u.mu.Lock()
	u.sweeper = nil
	more := n > 0 || u.unswept
	u.mu.Unlock()
	if more {
		u.sweepLater()
	}
}

// Close stops the sweeps and persists the sessions, including those whose writers
// were not closed.
//
// An error means that bytes of such a session could not be kept.
func (u *Sessions) Close() error {
	u.mu.Lock()
	u.closed = true
	if u.sweeper != nil && u.sweeper.Stop() {
		u.sweeping.Done()
	}
	open := slices.Collect(maps.Values(u.sessions))
	u.mu.Unlock()
	u.sweeping.Wait()
	var errs []error
	for _, s := range open {
		err := s.persist(over, position{})
		if !errors.Is(err, context.Canceled) && !errors.Is(err, ociregistry.ErrRangeInvalid) { // these mean that it is in use, here or elsewhere
			errs = append(errs, err)
		}
		if s.enter(over) == nil {
			s.closeState()
			s.exit()
		}
	}
	u.dropPaused()
	u.ended.close()
	return errors.Join(errs...)
}

// sweep removes expired sessions, and files that belong to none. It returns the
// number of sessions with bytes that stay.
func (u *Sessions) sweep() (n int, err error) {
	var errs []error
	errs = append(errs, u.ended.removeOlder(u.now().Add(-max(u.idLife(), DefaultExpiry))))
	n = u.sweepMemory()
	entries, err := u.work.FS.ReadDir(u.dir, -1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		id, isState := strings.CutSuffix(e.Name(), stateSuffix)
		if !isName(id) {
			continue
		}
		var stays bool
		var err error
		if isState {
			stays, err = u.sweepSession(id)
		} else {
			err = u.sweepData(id)
		}
		if stays {
			n++
		}
		errs = append(errs, uploadid.RedactError(err, id))
	}
	return n, errors.Join(append(errs, err)...)
}

// sweepMemory ends expired sessions without files. Their writers may never be closed.
func (u *Sessions) sweepMemory() (n int) {
	u.mu.Lock()
	ids := slices.Collect(maps.Keys(u.sessions))
	u.mu.Unlock()
	for _, id := range ids {
		s := u.acquire(id)
		if s.enter(over) == nil {
			if m := s.memory; m != nil && m.counted {
				n++
				if u.isIdle(m.touched, u.expiry) {
					s.endMemory()
					n--
				}
			}
			s.exit()
		} else {
			n++ // in use
		}
		u.release(s)
	}
	return n
}

// over is a context that has ended: with it, a call does not wait for locks.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// sweepSession ends a session that expired, removes the remains of one that ended,
// and reports whether the session stays. A session that is in use stays.
func (u *Sessions) sweepSession(id string) (stays bool, err error) {
	s := u.acquire(id)
	defer u.release(s)
	if s.enter(over) != nil {
		return true, nil
	}
	defer s.exit()
	err = s.inFiles(over, "", func(f disk.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		hasData := u.hasData(id)
		if u.isIdle(info.ModTime(), u.expiry) || s.state.sealed && !s.state.inline && !hasData {
			s.end(f)
			return ociregistry.ErrBlobUploadUnknown
		}
		if s.state.inline && hasData && s.data == nil { // left by a process that died before the content moved there
			return u.work.FS.Remove(u.dataPath(id))
		}
		return nil
	})
	if errors.Is(err, ociregistry.ErrBlobUploadUnknown) || errors.Is(err, errNoFiles) {
		stays, err = u.clean(id)
	} else {
		stays = true
	}
	if errors.Is(err, context.Canceled) {
		err = nil // in use
	}
	return stays, err
}

// clean removes the files of a session without a valid state, if the session has
// ended or is old. A younger one may belong to another version, whose states have
// another form.
func (u *Sessions) clean(id string) (stays bool, err error) {
	f, err := u.openState(over, id)
	if errors.Is(err, errNoFiles) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	defer f.Close()
	var text stateText
	n, _ := f.ReadAt(text[:], 0)
	st, err := parseSessionState(&text)
	if err == nil && st.id == id {
		return true, nil
	}
	another := err == nil // the file is another session's: a power cut has undone its rename
	info, err := f.Stat()
	if err != nil {
		return true, err
	}
	ended := n == len(text) && len(bytes.Trim(text[:len(stateMagic)], "\x00")) == 0
	if !ended && !another && !u.isIdle(info.ModTime(), max(u.expiry, time.Hour)) {
		return true, nil
	}
	if err := u.removeData(id); err != nil {
		return true, err
	}
	return false, u.removeState(id, f)
}

// isIdle reports whether a session that was last touched at the given time has been
// idle for expiry.
func (u *Sessions) isIdle(touched time.Time, expiry time.Duration) bool {
	return expiry > 0 && u.now().Sub(touched) >= expiry
}

// isRecent reports whether a session that was last touched at the given time need not
// be touched again now: the inaccuracy is small compared with the expiry.
func (u *Sessions) isRecent(touched time.Time) bool {
	age := u.now().Sub(touched)
	return 0 <= age && (u.expiry <= 0 || age < u.expiry/64)
}

func (u *Sessions) hasData(id string) bool {
	_, err := u.work.FS.Lstat(u.dataPath(id))
	return !errors.Is(err, fs.ErrNotExist)
}

// sweepData removes a data file without a state file. The state file is created
// before the data file and removed after it.
func (u *Sessions) sweepData(id string) error {
	if _, err := u.work.FS.Lstat(u.statePath(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return u.removeData(id)
}

func (u *Sessions) removeData(id string) error {
	info, err := u.work.FS.Lstat(u.dataPath(id))
	if err == nil {
		err = u.work.FS.Remove(u.dataPath(id))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		u.quota.Release(info.Size())
	}
	return err
}
