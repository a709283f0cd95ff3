package ocifs

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestWrittenIsSeenByAll reads a change that is written but not durable yet, which
// other processes see. The process that makes the change must see it from then on,
// and no longer once it fails.
func TestWrittenIsSeenByAll(t *testing.T) {
	t.Parallel()
	was, is := ocitest.NewIndex(ocitest.Spec{}), ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"n": "2"}})
	blob := ocitest.NewBlob(1, 100)
	resolve := func(r *Registry) any {
		desc, err := r.ResolveTag(context.Background(), "foo", "v1")
		return [2]any{desc.Digest, errors.Is(err, ociregistry.ErrManifestUnknown) || errors.Is(err, ociregistry.ErrNameUnknown)}
	}
	tests := []struct {
		name   string
		change func(ctx context.Context, r *Registry) error
		see    func(r *Registry) any
	}{
		{"PushManifest", func(ctx context.Context, r *Registry) error {
			_, err := r.PushManifest(ctx, "foo", "v1", is.Manifest, is.Descriptor.MediaType)
			return err
		}, resolve},
		{"DeleteTag", func(ctx context.Context, r *Registry) error { return r.DeleteTag(ctx, "foo", "v1") }, resolve},
		{"DeleteManifest", func(ctx context.Context, r *Registry) error { // of all that there is
			return r.DeleteManifest(ctx, "foo", was.Descriptor.Digest)
		}, resolve},
		{"PushBlob", func(ctx context.Context, r *Registry) error {
			_, err := r.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
			return err
		}, func(r *Registry) any {
			_, err := r.ResolveBlob(context.Background(), "foo", blob.Descriptor.Digest)
			return err == nil
		}},
	}
	for _, test := range tests {
		for _, fails := range []error{nil, errors.New("the disk is gone")} {
			name := test.name
			if fails != nil {
				name += "Fails"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				dir := scratch.Kept(t)
				r, h := openHooked(t, dir, nil)
				other, _ := openHooked(t, dir, nil)
				_, err := r.PushManifest(ctx, "foo", "v1", was.Manifest, was.Descriptor.MediaType)
				qt.Assert(t, qt.IsNil(err))
				foldAll(t, used(t, r, "foo")) // so that none comes between
				before := test.see(r)

				reached, release := make(chan bool), make(chan bool)
				var written atomic.Bool
				h.Set(func(op, name string) error {
					switch op + " " + filepath.Base(name) {
					case "file.WriteAt journal":
						written.Store(true)
					case "file.Sync journal":
						if written.Load() {
							reached <- true
							<-release
							return fails
						}
					}
					return nil
				})
				done := make(chan error)
				go func() { done <- test.change(ctx, r) }()
				<-reached
				there := test.see(other)
				qt.Check(t, qt.Not(qt.Equals(there, before)))
				qt.Check(t, qt.Equals(test.see(r), there))
				h.Set(nil)
				release <- true
				err = <-done
				if fails == nil {
					qt.Check(t, qt.IsNil(err))
				} else {
					qt.Check(t, qt.ErrorIs(err, fails))
					there = before
				}
				qt.Check(t, qt.Equals(test.see(r), there))
				qt.Check(t, qt.Equals(test.see(other), there))
			})
		}
	}
}
