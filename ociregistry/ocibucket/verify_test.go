package ocibucket

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// problems returns what Verify of a new process finds, a line for each.
func problems(t *testing.T, store objstore.Store, opts Options) (lines []string) {
	t.Helper()
	opts.ReadOnly = true
	for p, err := range mustOpen(t, store, &opts).Verify(t.Context()) {
		qt.Assert(t, qt.IsNil(err))
		lines = append(lines, p.String())
	}
	return lines
}

// damaged is a bucket of which something is to be damaged, with two repositories: each has an image that a tag
// points at, and the second an index of it.
type damaged struct {
	*testing.T
	store *memstore.Store
	image *ocitest.Artifact
	index *ocitest.Artifact
}

func newDamaged(t *testing.T) *damaged {
	d := &damaged{T: t, store: memstore.New(nil)}
	r := mustOpen(t, d.store, nil)
	d.image = ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 70_000}})
	d.index = ocitest.NewIndex(ocitest.Spec{}, d.image)
	qt.Assert(t, qt.IsNil(d.image.Push(t.Context(), r, "app", "v1", "v2")))
	qt.Assert(t, qt.IsNil(d.index.Push(t.Context(), r, "app/b", "v1")))
	for _, repo := range []string{"app", "app/b"} { // by a snapshot, manifests become objects
		b := bench{TB: t, ctx: t.Context(), Registry: r}
		for _, tags := range []int{5000, 5000, 5000, 1} { // the last record knows the snapshot
			b.tag(repo, tags)
			b.quiet()
		}
	}
	return d
}

// small and large are the blobs whose bytes are in the link, and elsewhere.
func (d *damaged) small() ociregistry.Digest { return d.image.Blobs[1].Descriptor.Digest }
func (d *damaged) large() ociregistry.Digest { return d.image.Blobs[2].Descriptor.Digest }

// key returns the only key that begins with a prefix and ends with a suffix.
func (d *damaged) key(prefix, suffix string) string {
	d.Helper()
	found := slices.DeleteFunc(d.store.Keys(), func(key string) bool { return !strings.HasPrefix(key, prefix) || !strings.HasSuffix(key, suffix) })
	qt.Assert(d, qt.HasLen(found, 1), qt.Commentf("%v", found))
	return found[0]
}

func (d *damaged) remove(key string) {
	d.Helper()
	_, err := d.store.Delete(d.Context(), key, objstore.Condition{})
	qt.Assert(d, qt.IsNil(err))
}

func (d *damaged) write(key string, text []byte) {
	d.Helper()
	_, err := d.store.Put(d.Context(), key, text, objstore.Condition{})
	qt.Assert(d, qt.IsNil(err))
}

func (d *damaged) read(key string) string {
	d.Helper()
	text, _, err := objstore.ReadAll(d.Context(), d.store, key, 1<<20)
	qt.Assert(d, qt.IsNil(err))
	return string(text)
}

func TestVerify_FindsWhatIsDamagedAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	named := func(d *damaged, size string) string {
		return ErrMissing.Error() + ": manifest " + string(d.image.Descriptor.Digest) + " names it with " + size + " bytes"
	}
	for _, test := range []struct {
		name   string
		damage func(d *damaged)
		want   func(d *damaged) []string // without what follows "..."
	}{
		{"nothing", func(*damaged) {}, func(*damaged) []string { return nil }},
		{"bytes of a blob", func(d *damaged) { d.write(d.key("d/", ""), make([]byte, 70_000)) }, func(d *damaged) []string {
			return []string{"app@" + string(d.large()) + ": " + ErrDamaged.Error(), "app/b@" + string(d.large()) + ": " + ErrDamaged.Error()}
		}},
		{"no bytes of a blob", func(d *damaged) { d.remove(d.key("d/", "")) }, func(d *damaged) []string {
			return []string{"app@" + string(d.large()) + ": " + ErrMissing.Error() + "...", "app/b@" + string(d.large()) + ": " + ErrMissing.Error() + "..."}
		}},
		{"bytes in a link", func(d *damaged) {
			key := keys.Link("app", d.small())
			l, err := formats.DecodeLink(d.read(key))
			qt.Assert(d, qt.IsNil(err))
			l.Inline = strings.Repeat("x", len(l.Inline))
			d.write(key, l.Encode())
		}, func(d *damaged) []string { return []string{"app@" + string(d.small()) + ": " + ErrDamaged.Error()} }},
		{"a link that cannot be read", func(d *damaged) { d.write(keys.Link("app", d.small()), []byte("x")) }, func(d *damaged) []string {
			return []string{"app@" + string(d.small()) + ": object ..."}
		}},
		{"no link", func(d *damaged) { d.remove(keys.Link("app", d.small())) }, func(d *damaged) []string {
			return []string{"app@" + string(d.small()) + ": " + named(d, "100")}
		}},
		{"no marker", func(d *damaged) { d.remove(d.key(keys.Markers(d.large()), "")) }, func(d *damaged) []string {
			return []string{"app@" + string(d.large()) + ": " + ErrMissing.Error() + ": the marker...", "app/b@" + string(d.large()) + ": " + ErrMissing.Error() + ": the marker..."}
		}},
		{"no reference", func(d *damaged) { d.remove(d.key(keys.Reference(d.small(), "app", ""), "")) }, func(d *damaged) []string {
			return []string{"app@" + string(d.small()) + ": " + ErrMissing.Error() + ": the reference..."}
		}},
		{"no manifest", func(d *damaged) { d.remove(keys.Manifest("app", d.image.Descriptor.Digest)) }, func(d *damaged) []string {
			m := "@" + string(d.image.Descriptor.Digest) + ": " + ErrMissing.Error()
			return []string{"app:v1" + m, "app:v2" + m}
		}},
		{"a manifest without a tag", func(d *damaged) { d.remove(keys.Manifest("app/b", d.image.Descriptor.Digest)) }, func(d *damaged) []string {
			return []string{"app/b@" + string(d.image.Descriptor.Digest) + ": " + ErrMissing.Error()}
		}},
		{"bytes of a manifest", func(d *damaged) {
			m := formats.Manifest{Status: formats.Live, Text: "{}"}
			d.write(keys.Manifest("app", d.image.Descriptor.Digest), m.Encode())
		}, func(d *damaged) []string {
			return []string{"app@" + string(d.image.Descriptor.Digest) + ": " + ErrDamaged.Error()}
		}},
		{"a snapshot", func(d *damaged) { d.write(d.key("r/app!/s/", ""), []byte("x")) }, func(d *damaged) []string {
			return []string{"app: ... object ..."}
		}},
		{"a gap in the log", func(d *damaged) {
			r := formats.Record{}
			d.write(keys.Record("app", 1000), r.Encode())
		}, func(d *damaged) []string { return []string{"app: ..."} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDamaged(t)
			before := d.store.Keys()
			test.damage(d)
			damaged := d.store.Keys()
			got, want := problems(t, d.store, Options{}), test.want(d)
			qt.Assert(t, qt.HasLen(got, len(want)), qt.Commentf("%q", got))
			for i, line := range want {
				for part := range strings.SplitSeq(line, "...") {
					qt.Check(t, qt.StringContains(got[i], part))
				}
				qt.Check(t, qt.IsTrue(strings.Contains(line, "...") || got[i] == line), qt.Commentf("%s", got[i]))
			}
			qt.Check(t, qt.DeepEquals(d.store.Keys(), damaged)) // it changes nothing
			if test.name == "nothing" {
				qt.Check(t, qt.DeepEquals(before, damaged))
			}
		})
	}
}

// What a cache does not have is not missing.
func TestVerify_OfASparseRegistryMissesNothing(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	r := mustOpen(t, store, &Options{Sparse: true})
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
	_, err := r.PushManifest(t.Context(), "app", "v1", image.Manifest, image.Descriptor.MediaType)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(problems(t, store, Options{Sparse: true}), 0))
}

func TestVerify_EndsWithItsCallerAndItsContext(t *testing.T) {
	t.Parallel()
	d := newDamaged(t)
	d.remove(d.key("d/", ""))
	r := mustOpen(t, d.store, nil)
	found := 0
	for _, err := range r.Verify(t.Context()) {
		qt.Check(t, qt.IsNil(err))
		found++
		break
	}
	qt.Check(t, qt.Equals(found, 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for p, err := range r.Verify(ctx) {
		if last = err; err == nil {
			qt.Check(t, qt.ErrorIs(p.Err, ErrMissing))
			cancel()
		}
	}
	qt.Check(t, qt.IsTrue(errors.Is(last, context.Canceled)))
	for _, err := range mustOpen(t, memstore.New(nil), &Options{ReadOnly: true}).Verify(t.Context()) {
		qt.Check(t, qt.ErrorMatches(err, ".*there is no registry in the bucket"))
	}
}
