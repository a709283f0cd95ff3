package blobs

import (
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// verdicts records which files were compared with the digest in their name, and with
// what result. A file is identified by its file information: when it is written to or
// replaced, nothing is known about it any more. All names of one file share its
// verdict.
//
// The zero value is ready to use.
type verdicts struct {
	some atomic.Bool // there are any verdicts: otherwise lookups skip the lock

	mu    sync.RWMutex
	files map[ociregistry.Digest]*verdict
}

type verdict struct {
	size            int64 // of the content of the digest, or -1 if unknown
	intact, damaged []fs.FileInfo
}

// maxVerdicts is the maximum number of digests, and maxVerdictFiles the maximum
// number of files for each. A digest has several files only if they are not linked to
// each other. A verdict takes less than 1 KiB; losing it costs reading the file
// again.
const (
	maxVerdicts     = 16 << 10
	maxVerdictFiles = 8
)

// isIntact reports whether a file is known to have the content of d.
func (v *verdicts) isIntact(d ociregistry.Digest, info fs.FileInfo) bool {
	if !v.some.Load() {
		return false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	known := v.files[d]
	return known != nil && containsFile(known.intact, info)
}

// isDamaged reports whether a file is known not to have the content of d, because it
// was read, or because that content has another size.
func (v *verdicts) isDamaged(d ociregistry.Digest, info fs.FileInfo) bool {
	if !v.some.Load() {
		return false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	known := v.files[d]
	return known != nil && (known.size >= 0 && known.size != info.Size() || containsFile(known.damaged, info))
}

// note records whether a file has the content of d. info was obtained at the time at,
// before the file was read.
func (v *verdicts) note(d ociregistry.Digest, info fs.FileInfo, at time.Time, intact bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.files[d]
	if known == nil {
		known = v.add(d)
	}
	known.intact, known.damaged = withoutFile(known.intact, info), withoutFile(known.damaged, info)
	if !intact {
		known.damaged = withFile(known.damaged, info)
		return
	}
	known.size = info.Size()
	if showsWrites(info, at) {
		known.intact = withFile(known.intact, info)
	}
}

// replace notes that an intact file has other information now, although nobody has written to
// it.
func (v *verdicts) replace(d ociregistry.Digest, before, now fs.FileInfo) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known := v.files[d]; known != nil && containsFile(known.intact, before) {
		known.intact = withFile(withoutFile(known.intact, before), now)
	}
}

// add adds a verdict. If there are too many, it drops arbitrary ones.
func (v *verdicts) add(d ociregistry.Digest) *verdict {
	if v.files == nil {
		v.files = make(map[ociregistry.Digest]*verdict)
		v.some.Store(true)
	}
	for other := range v.files {
		if len(v.files) < maxVerdicts {
			break
		}
		delete(v.files, other)
	}
	known := &verdict{size: -1}
	v.files[ociregistry.Digest(strings.Clone(string(d)))] = known
	return known
}

// showsWrites reports whether a write to a file after the time at is bound to change
// the file's modification time, given by info. It may not if both times are within
// one tick of the clock from which the system takes such times.
func showsWrites(info fs.FileInfo, at time.Time) bool {
	tick := 50 * time.Millisecond
	if info.ModTime().Nanosecond() == 0 {
		tick = 2 * time.Second // some filesystems count seconds, or pairs of seconds
	}
	return at.Sub(info.ModTime()) > tick
}

func containsFile(files []fs.FileInfo, info fs.FileInfo) bool {
	return slices.ContainsFunc(files, func(f fs.FileInfo) bool { return disk.Unchanged(f, info) })
}

func withFile(files []fs.FileInfo, info fs.FileInfo) []fs.FileInfo {
	if len(files) == maxVerdictFiles {
		files = slices.Delete(files, 0, 1)
	}
	return append(files, info)
}

func withoutFile(files []fs.FileInfo, info fs.FileInfo) []fs.FileInfo {
	return slices.DeleteFunc(files, func(f fs.FileInfo) bool { return disk.Unchanged(f, info) })
}
