// Package pulls keeps the times at which manifests were last pulled: in memory, and now and then in
// an object of each process. A pull is not a write.
//
// An object is written once, under a name of its own. It has all that the process has noted since it
// began, so that its last one is enough; when that is too much, the next object begins anew. A collection reads the
// objects of all processes, and makes one of many. To know a pull twice, or of content
// that is gone, does no harm.
//
// What nobody has written down when a process dies is lost, and what others have in memory is
// not known here.
package pulls

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
)

const (
	// every is how long pulls are in memory alone.
	every = 10 * time.Minute
	// maxNoted is how many manifests a process notes at most in an object, which takes some 15 MB of memory.
	maxNoted = 1 << 16
	// writeTime bounds the time that it takes to write an object.
	writeTime = time.Minute
)

// Log has the pulls of a process. It is safe for concurrent use.
type Log struct {
	bucket *bucket.Bucket
	log    *slog.Logger

	mu     sync.Mutex
	noted  formats.Pulls
	count  int         // of the manifests in noted
	writer *time.Timer // nil if there is nothing to write
	closed bool
	work   sync.WaitGroup

	turn chan struct{} // holds a value while somebody writes an object, or reads all; guards what follows
	name string        // of the object that has what was noted, or ""
}

// New returns the log of a process.
func New(b *bucket.Bucket, log *slog.Logger) *Log {
	return &Log{bucket: b, log: log, noted: formats.Pulls{}, turn: make(chan struct{}, 1)}
}

// Note notes that a manifest is pulled. It keeps both strings. If more manifests are pulled than can be written
// down, some are not noted.
func (l *Log) Note(repo string, digest ociregistry.Digest) {
	at := l.bucket.Seen().Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if _, there := l.noted[repo][digest]; !there {
		if l.count == maxNoted {
			return
		}
		l.count++
	}
	l.noted.Add(repo, digest, at)
	switch {
	case l.writer == nil:
		l.work.Add(1)
		l.writer = time.AfterFunc(every, l.writeSoon)
	case l.count == maxNoted && l.writer.Stop():
		l.writer.Reset(0)
	}
}

func (l *Log) writeSoon() {
	defer l.work.Done()
	l.mu.Lock()
	l.writer = nil
	l.mu.Unlock()
	l.write()
}

// Close writes down what is in memory. What is noted after it is lost.
func (l *Log) Close() {
	l.mu.Lock()
	pending := !l.closed && l.writer != nil && l.writer.Stop()
	l.closed = true
	l.mu.Unlock()
	if pending {
		l.writeSoon()
	}
	l.work.Wait()
}

// write writes down what is in memory.
func (l *Log) write() {
	l.turn <- struct{}{} // who has it is not long about it
	defer l.giveTurn()
	l.mu.Lock()
	noted := l.noted
	full := l.count == maxNoted
	if full {
		l.noted, l.count = formats.Pulls{}, 0
	} else {
		noted = clone(noted)
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	name, before := formats.Nonce(), l.name
	if _, err := l.bucket.Put(ctx, keys.Pulls(name), noted.Encode()); err != nil {
		l.log.Warn("pulls cannot be written down", "error", err)
		return
	}
	if l.name = name; full {
		l.name = ""
	}
	if before != "" {
		l.bucket.Remove(ctx, keys.Pulls(before)) // else a collection does it
	}
}

func (l *Log) giveTurn() { <-l.turn }

func clone(p formats.Pulls) formats.Pulls {
	c := make(formats.Pulls, len(p))
	for repo, times := range p {
		c[repo] = maps.Clone(times)
	}
	return c
}

// Noted returns when a manifest was last pulled from this process, as far as is known, in seconds since
// 1970.
func (l *Log) Noted(repo string, digest ociregistry.Digest) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noted[repo][digest]
}
