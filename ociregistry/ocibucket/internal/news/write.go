package news

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Write writes down what is in memory, if somebody has asked for it. What cannot be written is tried again later.
func (l *Log) Write() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	all := l.noted
	l.noted, l.blobs = map[string]*noted{}, 0
	if l.writer != nil && l.writer.Stop() {
		l.writer = nil
		l.work.Done()
	}
	l.mu.Unlock()
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	asked, err := isAsked(ctx, l.bucket)
	if err == nil && asked {
		err = l.writeAll(ctx, all)
	}
	if err != nil {
		l.log.Warn("other processes cannot be told what was changed", "error", err)
		l.putBack(all)
	}
}

// isAsked reports whether somebody follows the news.
func isAsked(ctx context.Context, b *bucket.Bucket) (bool, error) {
	o, err := b.Read(ctx, keys.Asked, maxAsked)
	return err == nil && o.Found && o.Date.Sub(o.Modified) <= 2*b.Grace(), err
}

const maxAsked = 1024

// writeAll writes down what was noted, repository after repository.
func (l *Log) writeAll(ctx context.Context, all map[string]*noted) error {
	var parts []byte
	for _, repo := range slices.Sorted(maps.Keys(all)) {
		n := all[repo]
		for blobs := slices.Sorted(maps.Keys(n.blobs)); ; {
			some := blobs[:min(len(blobs), maxPart)]
			blobs = blobs[len(some):]
			parts = formats.AppendChanged(parts, &formats.Changed{Repository: repo, Manifests: n.manifests, Found: n.found, Blobs: some})
			if len(parts) > maxObject {
				if err := l.append(ctx, parts); err != nil {
					return err
				}
				parts = nil
			}
			if len(blobs) == 0 {
				break
			}
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return l.append(ctx, parts)
}

// maxPart is how many blobs a part of the news has at most.
const maxPart = 100

// append appends to the last object, or begins another one.
func (l *Log) append(ctx context.Context, parts []byte) error {
	if l.name != "" && len(l.parts) <= maxObject {
		all := slices.Concat(l.parts, parts)
		o, err := l.bucket.Write(ctx, keys.News(l.name), formats.EncodeNews(all), objstore.Condition{IfMatch: l.etag})
		if err == nil {
			l.etag, l.parts = o.ETag, all
			return nil
		}
		if !errors.Is(err, bucket.ErrLost) {
			l.name = "" // what has become of it nobody needs to know
			return err
		}
	}
	l.name = formats.Nonce()
	l.mu.Lock()
	l.mine[l.name] = true
	l.mu.Unlock()
	o, err := l.bucket.Write(ctx, keys.News(l.name), formats.EncodeNews(parts), objstore.Condition{IfAbsent: true})
	if err != nil {
		l.name = ""
		return err
	}
	l.etag, l.parts = o.ETag, parts
	return nil
}

// putBack notes again what could not be written.
func (l *Log) putBack(all map[string]*noted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for repo, n := range all {
		if now := l.noted[repo]; now != nil {
			n.manifests = n.manifests || now.manifests
			maps.Copy(n.blobs, now.blobs)
			if now.found != nil {
				n.found = now.found
			}
		}
		l.noted[repo] = n
	}
	l.blobs = 0
	for _, n := range l.noted {
		l.blobs += len(n.blobs)
	}
	l.writeLater()
}
