package repos

import (
	"context"
	"errors"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Trim removes the records and snapshots that an older snapshot covers: one that is older than the grace time,
// so that nobody reads them any more. The newest snapshot stays.
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
	done := errors.New("all covered records are removed")
	err = r.bucket.Each(ctx, keys.Records(r.name), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok {
			return nil
		}
		if k.Number > covered {
			return done
		}
		return r.bucket.Remove(ctx, o.Key)
	})
	if err != nil && !errors.Is(err, done) {
		return err
	}
	for _, k := range snapshots {
		if k.Number < covered {
			if err := r.bucket.Remove(ctx, k.String()); err != nil {
				return err
			}
		}
	}
	return nil
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
