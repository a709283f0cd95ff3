package ocifs

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestPush_FoundInJournalIsDurable pushes what another process has written to the
// journal and not synced. When the call returns, it is durable.
func TestPush_FoundInJournalIsDurable(t *testing.T) {
	t.Parallel()
	b := ocitest.NewBlob(1, 100)
	for _, test := range []struct {
		name string
		push func(t *testing.T, r *Registry) error
	}{
		{"blob", func(t *testing.T, r *Registry) error {
			_, err := r.PushBlob(t.Context(), "foo", b.Descriptor, b.NewReader())
			return err
		}},
		{"manifest", func(t *testing.T, r *Registry) error {
			_, err := r.PushManifest(t.Context(), "foo", "v1", b.Bytes(), "text/plain")
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disktest.Still(t, func(t *testing.T) {
				dir := scratch.Kept(t)
				other, _ := openHooked(t, dir, &Options{NoSync: true})
				r, h := openHooked(t, dir, nil)
				qt.Assert(t, qt.IsNil(test.push(t, other)))
				var syncs atomic.Int64
				h.Set(func(op, name string) error {
					if op == "file.Sync" && strings.HasSuffix(name, filepath.Join("foo", layout.PrivateDir, "journal")) {
						syncs.Add(1)
					}
					return nil
				})
				qt.Assert(t, qt.IsNil(test.push(t, r)))
				first := syncs.Load()
				qt.Check(t, qt.Not(qt.Equals(first, 0)))
				qt.Assert(t, qt.IsNil(test.push(t, r))) // which finds that it is durable
				qt.Check(t, qt.Equals(syncs.Load(), first))
			})
		})
	}
}
