package repos

import (
	"context"
	"errors"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Trim removes the records and snapshots that an older snapshot covers: one that is older than the grace time,
// so that nobody reads them any more. The newest snapshot stays, and so do the newest record and the
// snapshot by which it is read.
func (r *Repository) Trim(ctx context.Context) error {
	covered := uint64(0)
	var snapshots []keys.Key
	err := r.bucket.Each(ctx, keys.Snapshots(r.name), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok {
			return nil
		}
		snapshots = append(snapshots, k)
		if o.Date.Sub(o.LastModified) > r.bucket.Grace() {
			covered = max(covered, k.Number)
		}
		return nil
	})
	if err != nil || covered == 0 {
		return err
	}
	if err := r.trimRecords(ctx, covered); err != nil {
		return err
	}
	snapshots = slices.DeleteFunc(snapshots, func(k keys.Key) bool { return k.Number >= covered })
	if len(snapshots) == 0 {
		return nil
	}
	last, _, err := r.last(ctx)
	if err != nil {
		return err
	}
	newest, err := r.readRecord(ctx, last)
	if err != nil {
		return err
	}
	for _, k := range snapshots {
		if k.Number == newest.base {
			continue
		}
		if err := r.bucket.Remove(ctx, k.String()); err != nil {
			return err
		}
	}
	return nil
}

// trimRecords removes the records before one.
func (r *Repository) trimRecords(ctx context.Context, number uint64) error {
	opts := objstore.ListOptions{Prefix: keys.Records(r.name), StartAfter: keys.Record(r.name, number)}
	for {
		page, err := r.bucket.List(ctx, opts)
		if err != nil {
			return err
		}
		for _, o := range page.Objects {
			if k, ok := keys.Parse(o.Key); !ok || k.Number >= number {
				continue
			}
			if err := r.bucket.Remove(ctx, o.Key); err != nil {
				return err
			}
		}
		if opts.Next = page.Next; opts.Next == "" {
			return nil
		}
	}
}

// CollectManifests takes the objects of manifests that the state does not have one step further to
// their end.
func (r *Repository) CollectManifests(ctx context.Context) error {
	return r.bucket.Each(ctx, keys.Manifests(r.name), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok {
			return nil
		}
		named := false
		if err := r.View(func(s *State) { named = s.Manifest(k.Digest) != nil }); err != nil || named {
			return err
		}
		return r.collectManifest(ctx, k)
	})
}

func (r *Repository) collectManifest(ctx context.Context, k keys.Key) error {
	o, err := r.bucket.Read(ctx, k.String(), formats.MaxRecord)
	if err != nil || !o.Found {
		return err
	}
	m, err := formats.DecodeManifest(o.Text)
	if err != nil {
		return bucket.Damaged(k.String(), err)
	}
	if err := r.Refresh(ctx); err != nil {
		return err
	}
	named := false
	if err := r.View(func(s *State) { named = s.Manifest(k.Digest) != nil }); err != nil || named {
		return err
	}
	isOld := o.Date.Sub(o.Modified) > r.bucket.Grace()
	switch {
	case m.Status == formats.Dead && isOld:
		return r.bucket.RemoveIf(ctx, k.String(), o)
	case m.Status == formats.Live:
		m.Status = formats.Condemned
	case m.Status == formats.Condemned && isOld:
		m.Status = formats.Dead
	default:
		return nil
	}
	_, err = r.bucket.Write(ctx, k.String(), m.Encode(), objstore.Condition{IfMatch: o.ETag})
	if errors.Is(err, bucket.ErrLost) {
		return nil
	}
	return err
}
