package ocifs

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// endedIDs has the ids of sessions that have ended, whose code is still good. Those
// that never had files are known to the process that ended them. The others are in
// files that all processes read, one for each hour in which ids were issued:
//
//	DIR/HOUR  16 bytes for each id: when it was issued, and its mark, little-endian
//
// HOUR is a number since 1970.
//
// In memory there are at most maxEnded ids. If there are more, the ids that were
// issued first are forgotten minute by minute, and from then on no session without
// bytes goes on that was issued in such a minute or before, ended or not.
type endedIDs struct {
	fs  filesystem
	dir string // made when it is needed
	max int    // how many ids are in memory

	mu      sync.Mutex
	minutes map[int64]map[uint64]struct{} // marks, by the minute in which they were issued
	n       int                           // how many marks there are
	floor   int64                         // ids that were issued before are ended, in milliseconds
	read    map[int64]int64               // how many bytes of the files were read, by hour

	log     file // of the hour logHour; nil if none is open
	logHour int64
}

const (
	maxEnded  = 1 << 20
	endedSize = 16
)

func newEndedIDs(fsys filesystem, dir string) *endedIDs {
	return &endedIDs{
		fs:      fsys,
		dir:     dir,
		max:     maxEnded,
		minutes: make(map[int64]map[uint64]struct{}),
		floor:   math.MinInt64,
		read:    make(map[int64]int64),
	}
}

// add adds an id to those in memory.
func (e *endedIDs) add(id uploadID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.insert(id)
}

func (e *endedIDs) insert(id uploadID) {
	if id.issued < e.floor {
		return
	}
	minute := id.minute()
	marks := e.minutes[minute]
	if marks == nil {
		marks = make(map[uint64]struct{})
		e.minutes[minute] = marks
	}
	e.n -= len(marks)
	marks[id.mark] = struct{}{}
	e.n += len(marks)
	for e.n > e.max {
		oldest := minute
		for m := range e.minutes {
			oldest = min(oldest, m)
		}
		floor := (oldest + 1) * time.Minute.Milliseconds()
		if oldest == minute {
			floor = id.issued + 1 // what is issued in the rest of the minute is good
		}
		e.floor = max(e.floor, floor)
		e.drop(oldest)
	}
}

func (e *endedIDs) drop(minute int64) {
	e.n -= len(e.minutes[minute])
	delete(e.minutes, minute)
}

// has reports whether an id is known to have ended.
func (e *endedIDs) has(id uploadID) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.catchUp(id.hour()); err != nil {
		return false, err
	}
	_, ok := e.minutes[id.minute()][id.mark]
	return ok || id.issued < e.floor, nil
}

// catchUp reads what others have added to a file.
func (e *endedIDs) catchUp(hour int64) error {
	info, err := e.fs.Lstat(e.file(hour))
	if isAbsent(err) {
		return nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size()-e.read[hour] < endedSize {
		return err
	}
	f, err := e.fs.OpenFile(e.file(hour), os.O_RDONLY, 0)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return e.readRecords(f, hour)
}

func (e *endedIDs) readRecords(f file, hour int64) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := f.ReadAt(buf[:], e.read[hour])
		if err != nil && err != io.EOF {
			return err
		}
		if n < endedSize {
			return nil
		}
		for record := buf[:n]; len(record) >= endedSize; record = record[endedSize:] {
			id := uploadID{issued: int64(binary.LittleEndian.Uint64(record)), mark: binary.LittleEndian.Uint64(record[8:])}
			if id.hour() == hour { // else it is damaged
				e.insert(id)
			}
			e.read[hour] += endedSize
		}
	}
}

// tell adds an id to those in memory, and to the file that other processes read.
func (e *endedIDs) tell(id uploadID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.insert(id)
	hour := id.hour()
	f, err := e.openLog(hour)
	if err != nil {
		return err
	}
	var record [endedSize]byte
	binary.LittleEndian.PutUint64(record[:], uint64(id.issued))
	binary.LittleEndian.PutUint64(record[8:], id.mark)
	if _, err := f.Write(record[:]); err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Size() == e.read[hour]+endedSize {
		e.read[hour] += endedSize // its own, which it knows
	}
	return nil
}

// openLog returns the file for an hour, to which each write adds. It stays open, as
// long as it is the last.
func (e *endedIDs) openLog(hour int64) (file, error) {
	if e.log != nil && e.logHour == hour {
		return e.log, nil
	}
	e.closeLog()
	const flag = os.O_RDWR | os.O_CREATE | os.O_APPEND
	f, err := e.fs.OpenFile(e.file(hour), flag, filePerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(e.fs, filepath.Dir(e.dir), e.dir); err != nil {
			return nil, err
		}
		f, err = e.fs.OpenFile(e.file(hour), flag, filePerm)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()%endedSize != 0 { // a power cut has left a part
		_, err = f.Write(make([]byte, endedSize-info.Size()%endedSize))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	e.log, e.logHour = f, hour
	return f, nil
}

func (e *endedIDs) closeLog() {
	if e.log != nil {
		e.log.Close()
		e.log = nil
	}
}

// close closes the files.
func (e *endedIDs) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closeLog()
}

func (e *endedIDs) file(hour int64) string {
	return filepath.Join(e.dir, strconv.FormatInt(hour, 10))
}

// forget lets go of ids that were issued before then, and removes their files.
func (e *endedIDs) forget(then time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for minute := range e.minutes {
		if (minute+1)*time.Minute.Milliseconds() <= then.UnixMilli() {
			e.drop(minute)
		}
	}
	isOver := func(hour int64) bool { return (hour+1)*time.Hour.Milliseconds() <= then.UnixMilli() }
	if isOver(e.logHour) {
		e.closeLog()
	}
	entries, err := e.fs.ReadDir(e.dir, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, entry := range entries {
		hour, err := strconv.ParseInt(entry.Name(), 10, 64)
		if err != nil || !isOver(hour) {
			continue
		}
		if err := e.fs.Remove(e.file(hour)); err != nil && !isAbsent(err) {
			errs = append(errs, err)
		}
	}
	for hour := range e.read {
		if isOver(hour) {
			delete(e.read, hour)
		}
	}
	return errors.Join(append(errs, err)...)
}
