package ocifs

import (
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// verdicts has what was found out about files whose bytes were compared with the
// digest that they have as their name. A file is known by what the system says of
// it: when it is written to, or replaced, nothing is known of it any more. Whatever
// else is linked to the same file shares the verdict.
//
// The zero value is ready to use.
type verdicts struct {
	some atomic.Bool // there are any: else nobody has to look

	mu    sync.RWMutex
	files map[ociregistry.Digest]*verdict
}

type verdict struct {
	size           int64 // of the content of the digest, or -1 if that is not known
	sound, damaged []fs.FileInfo
}

// maxVerdicts and maxVerdictFiles bound how many digests are known, and how many
// files of each, which are more than one only where they are not linked to each
// other. A verdict takes less than 1 KiB, and to lose it costs to read the file.
const (
	maxVerdicts     = 16 << 10
	maxVerdictFiles = 8
)

// isSound reports whether a file was found to have the content of d.
func (v *verdicts) isSound(d ociregistry.Digest, info fs.FileInfo) bool {
	if !v.some.Load() {
		return false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	known := v.files[d]
	return known != nil && hasFile(known.sound, info)
}

// isDamaged reports whether a file was found to have other content than that of d,
// or cannot have it, because that has another size.
func (v *verdicts) isDamaged(d ociregistry.Digest, info fs.FileInfo) bool {
	if !v.some.Load() {
		return false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	known := v.files[d]
	return known != nil && (known.size >= 0 && known.size != info.Size() || hasFile(known.damaged, info))
}

// note notes whether a file has the content of d. It was as info says at the time
// at, before it was read.
func (v *verdicts) note(d ociregistry.Digest, info fs.FileInfo, at time.Time, sound bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.files[d]
	if known == nil {
		known = v.add(d)
	}
	known.sound, known.damaged = withoutFile(known.sound, info), withoutFile(known.damaged, info)
	if !sound {
		known.damaged = withFile(known.damaged, info)
		return
	}
	known.size = info.Size()
	if isSettled(info, at) {
		known.sound = withFile(known.sound, info)
	}
}

// add adds a verdict. When there are too many, it forgets any other.
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
	v.files[cloneDigest(d)] = known
	return known
}

// isSettled reports whether a file that had changed last as info says would show it
// if it was written to after the time at. It may not when both are within one tick
// of the clock that the system takes such times from.
func isSettled(info fs.FileInfo, at time.Time) bool {
	tick := 50 * time.Millisecond
	if info.ModTime().Nanosecond() == 0 {
		tick = 2 * time.Second // the filesystem counts seconds, as some do, or two at a time
	}
	return at.Sub(info.ModTime()) > tick
}

func hasFile(files []fs.FileInfo, info fs.FileInfo) bool {
	return slices.ContainsFunc(files, func(f fs.FileInfo) bool { return sameFile(f, info) })
}

func withFile(files []fs.FileInfo, info fs.FileInfo) []fs.FileInfo {
	if len(files) == maxVerdictFiles {
		files = slices.Delete(files, 0, 1)
	}
	return append(files, info)
}

func withoutFile(files []fs.FileInfo, info fs.FileInfo) []fs.FileInfo {
	return slices.DeleteFunc(files, func(f fs.FileInfo) bool { return sameFile(f, info) })
}
