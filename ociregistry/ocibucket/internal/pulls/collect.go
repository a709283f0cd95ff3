package pulls

import (
	"context"
	"errors"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

const (
	// readers is how many objects are read at a time.
	readers = 8
	// attempts is how often objects are listed of which some are replaced meanwhile.
	attempts = 10
	// maxObjects is how many objects there may be, of all processes, before one is made of them.
	maxObjects = 64
)

// Read returns the pulls that are known, of all processes.
func (l *Log) Read(ctx context.Context) (formats.Pulls, error) {
	select {
	case l.turn <- struct{}{}: // else what is being written would be missed
		defer l.giveTurn()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	names, err := l.names(ctx)
	if err != nil {
		return nil, err
	}
	all, err := l.readAll(ctx, names)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all.AddAll(l.noted)
	return all, nil
}

func (l *Log) names(ctx context.Context) (names []string, err error) {
	err = l.bucket.Each(ctx, keys.AllPulls, func(o objstore.Info) error {
		if k, ok := keys.Parse(o.Key); ok {
			names = append(names, k.Name)
		}
		return nil
	})
	return names, err
}

var errReplaced = errors.New("pulls are written down anew all the time")

// readAll reads objects. What replaces one is there before that is removed, so if one is gone, all are listed
// anew.
func (l *Log) readAll(ctx context.Context, names []string) (formats.Pulls, error) {
	for range attempts {
		read := make([]formats.Pulls, len(names))
		err := parallel.Do(readers, len(names), func(i int) (err error) {
			read[i], err = l.read(ctx, names[i])
			return err
		})
		if err == nil {
			all := formats.Pulls{}
			for _, p := range read {
				all.AddAll(p)
			}
			return all, nil
		}
		if !errors.Is(err, errReplaced) {
			return nil, err
		}
		if names, err = l.names(ctx); err != nil {
			return nil, err
		}
	}
	return nil, errReplaced
}

func (l *Log) read(ctx context.Context, name string) (formats.Pulls, error) {
	o, err := l.bucket.Read(ctx, keys.Pulls(name), formats.MaxPulls)
	switch {
	case err != nil:
		return nil, err
	case !o.Found:
		return nil, errReplaced
	}
	p, err := formats.DecodePulls(o.Text)
	if err != nil {
		return nil, bucket.Damaged(keys.Pulls(name), err)
	}
	return p, nil
}

// Merge makes few objects of many, without the manifests that are gone. It does nothing if there are not
// many.
func (l *Log) Merge(ctx context.Context, isThere func(repo string, digest ociregistry.Digest) (bool, error)) error {
	names, err := l.names(ctx)
	if err != nil || len(names) <= maxObjects {
		return err
	}
	all := formats.Pulls{}
	for _, name := range names {
		p, err := l.read(ctx, name)
		if errors.Is(err, errReplaced) {
			continue // by what has all of it
		}
		if err != nil {
			return err
		}
		all.AddAll(p)
	}
	if err := l.writeMerged(ctx, all, isThere); err != nil {
		return err
	}
	for _, name := range names {
		if err := l.bucket.Remove(ctx, keys.Pulls(name)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) writeMerged(ctx context.Context, all formats.Pulls, isThere func(repo string, digest ociregistry.Digest) (bool, error)) error {
	part, count := formats.Pulls{}, 0
	flush := func() error {
		if count == 0 {
			return nil
		}
		_, err := l.bucket.Put(ctx, keys.Pulls(formats.Nonce()), part.Encode())
		part, count = formats.Pulls{}, 0
		return err
	}
	for repo, times := range all {
		for digest, at := range times {
			there, err := isThere(repo, digest)
			if err != nil {
				return err
			}
			if !there {
				continue
			}
			part.Add(repo, digest, at)
			if count++; count == maxNoted {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}
