// Package news tells other processes what a process has changed in repositories: which blobs, and whether
// their logs have got longer. Who follows that looks at these alone.
//
// What is changed is in memory for some seconds. Then it is appended to an object of the process, if somebody has
// asked for news: he writes that down before he looks at anything, and the others look for it after they have
// changed something. So neither misses the other. An object only grows, until it is large, and then there is
// another one.
//
// To be told of something twice does no harm. What nobody has written down when a process dies is lost: a
// collection, which looks at all links, tells what it has found.
package news

import (
	"log/slog"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

const (
	// Every is how long news are in memory alone.
	Every = 10 * time.Second
	// maxObject is the size of an object to which nothing is appended, in bytes. Who follows reads all of it each time.
	maxObject = 32 << 10
	// maxNoted is how many blobs a process notes at most.
	maxNoted = 1 << 16
	// writeTime bounds the time that it takes to write objects.
	writeTime = time.Minute
)

// A Log has the news of a process. It is safe for concurrent use.
type Log struct {
	bucket *bucket.Bucket
	log    *slog.Logger

	mu     sync.Mutex
	noted  map[string]*noted // by repository
	blobs  int               // how many are noted
	writer *time.Timer       // nil if there is nothing to write
	mine   map[string]bool   // the names of the objects of this process
	closed bool
	work   sync.WaitGroup

	writing sync.Mutex // held while objects are written, and guards what follows
	name    string     // of the last object, or ""
	etag    objstore.ETag
	parts   []byte // what it has
}

type noted struct {
	manifests bool
	blobs     map[ociregistry.Digest]bool
	found     *formats.Found
}

// NewLog returns the log of a process.
func NewLog(b *bucket.Bucket, log *slog.Logger) *Log {
	return &Log{bucket: b, log: log, noted: map[string]*noted{}, mine: map[string]bool{}}
}

// Blob notes that a link was changed, or may have been. It keeps both strings. If more of them are changed than can
// be written down, some are not noted.
func (l *Log) Blob(repo string, digest ociregistry.Digest) {
	l.note(repo, func(n *noted) {
		if l.blobs < maxNoted && !n.blobs[digest] {
			n.blobs[digest] = true
			l.blobs++
		}
	})
}

// Manifests notes that there may be another record in the log of a repository.
func (l *Log) Manifests(repo string) { l.note(repo, func(n *noted) { n.manifests = true }) }

// Found notes what a collection has found.
func (l *Log) Found(repo string, f formats.Found) { l.note(repo, func(n *noted) { n.found = &f }) }

func (l *Log) note(repo string, f func(*noted)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	n := l.noted[repo]
	if n == nil {
		n = &noted{blobs: map[ociregistry.Digest]bool{}}
		l.noted[repo] = n
	}
	f(n)
	l.writeLater()
}

// writeLater makes what is noted be written down. The caller has the lock.
func (l *Log) writeLater() {
	if l.writer == nil && !l.closed {
		l.work.Add(1)
		l.writer = time.AfterFunc(Every, l.writeSoon)
	}
}

func (l *Log) writeSoon() {
	defer l.work.Done()
	l.mu.Lock()
	l.writer = nil
	l.mu.Unlock()
	l.Write()
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
