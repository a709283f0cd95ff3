package ocifs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Sessions that are idle for too long are swept away, and so is what is left of
// those that ended when a process did. The sweeps come while there are sessions,
// and once when the registry is opened.

// watch sweeps now, in the background, and from then on while there are
// sessions.
func (u *uploads) watch() { u.sweepAfter(0) }

func (u *uploads) sweepLater() {
	if u.expiry > 0 {
		u.sweepAfter(min(max(u.expiry/16, time.Second), time.Hour))
	}
}

// sweepAfter lets a sweep come, if none is going to come before.
func (u *uploads) sweepAfter(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.sweeper != nil {
		u.unswept = true
		return
	}
	u.sweeping.Add(1)
	u.sweeper = time.AfterFunc(d, u.sweepNow)
}

func (u *uploads) sweepNow() {
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

// close ends the sweeps. Sessions stay, also those whose writers were not closed.
func (u *uploads) close() error {
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
		err := s.keep(over, position{})
		if !errors.Is(err, context.Canceled) && !errors.Is(err, ociregistry.ErrRangeInvalid) { // it is in use, here or elsewhere
			errs = append(errs, err)
		}
	}
	u.ended.close()
	return errors.Join(errs...)
}

// sweep removes sessions that expired and files that belong to none. It returns
// how many sessions with bytes stay.
func (u *uploads) sweep() (n int, err error) {
	var errs []error
	errs = append(errs, u.ended.forget(u.now().Add(-max(u.idLife(), DefaultUploadExpiry))))
	n = u.sweepMemory()
	entries, err := u.store.fs.ReadDir(u.dir, -1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		id, isState := strings.CutSuffix(e.Name(), stateSuffix)
		if !isUploadName(id) {
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
		errs = append(errs, err)
	}
	return n, errors.Join(append(errs, err)...)
}

// sweepMemory ends sessions that expired and have no files. Whoever writes to them may
// have forgotten to close his writer.
func (u *uploads) sweepMemory() (n int) {
	u.mu.Lock()
	ids := slices.Collect(maps.Keys(u.sessions))
	u.mu.Unlock()
	for _, id := range ids {
		s := u.acquire(id)
		if s.begin(over) == nil {
			if m := s.memory; m != nil && m.counted {
				n++
				if u.isIdle(m.touched, u.expiry) {
					s.endMemory()
					n--
				}
			}
			s.done()
		} else {
			n++ // it is in use
		}
		u.release(s)
	}
	return n
}

// over is a context that has ended: who has it does not wait for locks.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// sweepSession ends a session that expired, removes what is left of one that
// ended, and reports whether it stays. One that is in use stays.
func (u *uploads) sweepSession(id string) (stays bool, err error) {
	s := u.acquire(id)
	defer u.release(s)
	if s.begin(over) != nil {
		return true, nil
	}
	defer s.done()
	err = s.inFiles(over, "", func(f file) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		hasData := u.hasData(id)
		if u.isIdle(info.ModTime(), u.expiry) || s.state.sealed && !s.state.inline && !hasData {
			s.end(f)
			return ociregistry.ErrBlobUploadUnknown
		}
		if s.state.inline && hasData && s.data == nil { // of a process that died when the content was to move there
			return u.store.fs.Remove(u.dataPath(id))
		}
		return nil
	})
	if errors.Is(err, ociregistry.ErrBlobUploadUnknown) || errors.Is(err, errNoFiles) {
		stays, err = u.clean(id)
	} else {
		stays = true
	}
	if errors.Is(err, context.Canceled) {
		err = nil // it is in use
	}
	return stays, err
}

// clean removes the files of a session that has no good state, if it has ended or is
// old: another version, whose states have another form, may use it.
func (u *uploads) clean(id string) (stays bool, err error) {
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
	another := err == nil // has the file, and a power cut has undone that it left here
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

// isIdle reports whether what was touched then was idle for as long as expiry.
func (u *uploads) isIdle(touched time.Time, expiry time.Duration) bool {
	return expiry > 0 && u.now().Sub(touched) >= expiry
}

// isFresh reports whether what was touched then need not be touched again now: that
// it was idle since then matters only to an expiry that is much longer.
func (u *uploads) isFresh(touched time.Time) bool {
	age := u.now().Sub(touched)
	return 0 <= age && (u.expiry <= 0 || age < u.expiry/64)
}

func (u *uploads) hasData(id string) bool {
	_, err := u.store.fs.Lstat(u.dataPath(id))
	return !errors.Is(err, fs.ErrNotExist)
}

// sweepData removes a data file that has no state file, which is made before it
// and removed after it.
func (u *uploads) sweepData(id string) error {
	if _, err := u.store.fs.Lstat(u.statePath(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return u.removeData(id)
}

func (u *uploads) removeData(id string) error {
	info, err := u.store.fs.Lstat(u.dataPath(id))
	if err == nil {
		err = u.store.fs.Remove(u.dataPath(id))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		u.store.release(info.Size())
	}
	return err
}
