package ocifs

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A blob and a manifest of the same bytes that are pushed at the same time may come into one
// batch. Both can be had after the fold, whichever comes first, and whether the blob comes
// with its text or is a file.
func TestBatch_KeepsBlobWithManifestOfSameBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		blobFirst bool
		asFile    bool
	}{
		{"TextFirst", true, false},
		{"TextLast", false, false},
		{"FileFirst", true, true},
		{"FileLast", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disktest.Still(t, func(t *testing.T) {
				ctx := t.Context()
				dir := scratch.Kept(t)
				h := new(disktest.Hooks)
				r, err := open(h, dir, "", &Options{NoSync: true})
				qt.Assert(t, qt.IsNil(err))
				b := ocitest.NewBlob(1, 100)
				text, d := string(b.Bytes()), b.Descriptor.Digest
				if test.asFile { // that of a manifest which was deleted since
					_, err := r.PushManifest(ctx, "app", "v1", b.Bytes(), "text/plain")
					qt.Assert(t, qt.IsNil(err))
					other := ocitest.NewBlob(2, 100)
					_, err = r.PushBlob(ctx, "app", other.Descriptor, other.NewReader())
					qt.Assert(t, qt.IsNil(err))
					foldSome(t, h, used(t, r, "app"))
					qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "app", d)))
				}
				repo := used(t, r, "app")
				blob := repostate.Op{Kind: repostate.PutBlob, Digest: d, Text: text}
				if test.asFile {
					blob.Text = ""
				}
				p := &push{registry: r, share: r.quota.NewShare(0), repo: repo, op: repostate.Op{
					Kind: repostate.PutManifest, Digest: d, MediaType: "text/plain", Size: b.Descriptor.Size, Text: text, Tags: []string{"v1"}, Info: new(manifest.Info),
				}}
				err = repo.Commit(&repos.Change{Ctx: ctx, Creates: true, Check: func(batch *repos.Batch) error {
					if test.blobFirst {
						batch.Add(blob)
					}
					if err := p.check(batch); err != nil {
						return err
					}
					if !test.blobFirst {
						batch.Add(blob)
					}
					return nil
				}})
				qt.Assert(t, qt.IsNil(err))
				for range 2 {
					_, err := r.ResolveBlob(ctx, "app", d)
					qt.Check(t, qt.IsNil(err))
					_, err = r.ResolveTag(ctx, "app", "v1")
					qt.Check(t, qt.IsNil(err))
					qt.Assert(t, qt.IsNil(r.Close()))
					r, err = New(dir, &Options{NoSync: true})
					qt.Assert(t, qt.IsNil(err))
				}
				qt.Check(t, qt.IsNil(r.Close()))
			})
		})
	}
}
