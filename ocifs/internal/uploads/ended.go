package uploads

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

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// endedIDs has the ids of ended sessions that have not expired. The ids of sessions
// that never had files are known only to the process that ended them. The others are
// in files that all processes read, one file for each hour in which ids were issued:
//
//	DIR/HOUR  16 bytes for each id: when it was issued, and its mark, little-endian
//
// HOUR is the number of hours since 1970.
//
// At most maxEnded ids are in memory. If there are more, those that were issued first
// are dropped, a minute at a time. From then on every session without bytes whose id
// was issued in such a minute or earlier counts as ended.
type endedIDs struct {
	fs  disk.FS
	dir string // created when needed
	max int    // maximum number of ids in memory

	mu      sync.Mutex
	minutes map[int64]map[uint64]struct{} // marks, by the minute in which the id was issued
	n       int                           // the number of marks
	floor   int64                         // ids that were issued earlier count as ended, in milliseconds
	read    map[int64]int64               // the number of bytes read from each file, by hour

	log     disk.File // the file for logHour, or nil
	logHour int64
}

const (
	maxEnded  = 1 << 20
	endedSize = 16
)

func newEndedIDs(fsys disk.FS, dir string) *endedIDs {
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
func (e *endedIDs) add(id sessionID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.insert(id)
}

func (e *endedIDs) insert(id sessionID) {
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
			floor = id.issued + 1 // ids issued in the rest of the minute stay valid
		}
		e.floor = max(e.floor, floor)
		e.dropMinute(oldest)
	}
}

func (e *endedIDs) dropMinute(minute int64) {
	e.n -= len(e.minutes[minute])
	delete(e.minutes, minute)
}

// has reports whether an id is known to have ended.
func (e *endedIDs) has(id sessionID) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.catchUp(id.hour()); err != nil {
		return false, err
	}
	_, ok := e.minutes[id.minute()][id.mark]
	return ok || id.issued < e.floor, nil
}

// catchUp reads the ids that others have added to a file.
func (e *endedIDs) catchUp(hour int64) error {
	info, err := e.fs.Lstat(e.file(hour))
	if disk.IsAbsent(err) {
		return nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size()-e.read[hour] < endedSize {
		return err
	}
	f, err := e.fs.OpenFile(e.file(hour), os.O_RDONLY, 0)
	if disk.IsAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return e.readRecords(f, hour)
}

func (e *endedIDs) readRecords(f disk.File, hour int64) error {
	buf := blobs.GetBuffer()
	defer blobs.PutBuffer(buf)
	for {
		n, err := f.ReadAt(buf[:], e.read[hour])
		if err != nil && err != io.EOF {
			return err
		}
		if n < endedSize {
			return nil
		}
		for record := buf[:n]; len(record) >= endedSize; record = record[endedSize:] {
			id := sessionID{issued: int64(binary.LittleEndian.Uint64(record)), mark: binary.LittleEndian.Uint64(record[8:])}
			if id.hour() == hour { // otherwise the record is damaged
				e.insert(id)
			}
			e.read[hour] += endedSize
		}
	}
}

// record adds an id to those in memory, and to the file that other processes read.
func (e *endedIDs) record(id sessionID) error {
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
		e.read[hour] += endedSize // no need to read the own record
	}
	return nil
}

// openLog returns the file for an hour, open for appending. The file stays open until
// another hour's file is opened.
func (e *endedIDs) openLog(hour int64) (disk.File, error) {
	if e.log != nil && e.logHour == hour {
		return e.log, nil
	}
	e.closeLog()
	const flag = os.O_RDWR | os.O_CREATE | os.O_APPEND
	f, err := e.fs.OpenFile(e.file(hour), flag, disk.FilePerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := disk.MakeDirs(e.fs, filepath.Dir(e.dir), e.dir); err != nil {
			return nil, err
		}
		f, err = e.fs.OpenFile(e.file(hour), flag, disk.FilePerm)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()%endedSize != 0 { // a power cut has left a partial record
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

// close closes the open file.
func (e *endedIDs) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closeLog()
}

func (e *endedIDs) file(hour int64) string {
	return filepath.Join(e.dir, strconv.FormatInt(hour, 10))
}

// removeOlder drops ids that were issued before then, and removes their files.
func (e *endedIDs) removeOlder(then time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for minute := range e.minutes {
		if (minute+1)*time.Minute.Milliseconds() <= then.UnixMilli() {
			e.dropMinute(minute)
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
		if err := e.fs.Remove(e.file(hour)); err != nil && !disk.IsAbsent(err) {
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
