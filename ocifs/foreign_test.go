package ocifs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Programs that know nothing of this package change a layout while a registry
// has it open.

// foreignWrites are the ways to write an index.json.
var foreignWrites = []struct {
	name  string
	write func(name string, data []byte) error
}{
	{"Rename", func(name string, data []byte) error {
		if err := os.WriteFile(name+".new", data, 0o666); err != nil {
			return err
		}
		return os.Rename(name+".new", name)
	}},
	{"InPlace", func(name string, data []byte) error { return os.WriteFile(name, data, 0o666) }},
}

// foreignIndex is index.json as a foreign program sees it.
type foreignIndex struct {
	ocispec.Index
	Unknown string `json:"x-unknown,omitempty"`
}

func (x *foreignIndex) add(desc ociregistry.Descriptor, tag string) {
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	x.Manifests = append(x.Manifests, desc)
}

func (x *foreignIndex) remove(tag string) {
	x.Manifests = slices.DeleteFunc(x.Manifests, func(desc ociregistry.Descriptor) bool {
		return desc.Annotations[ocispec.AnnotationRefName] == tag
	})
}

// editIndex changes an index.json. It begins again if somebody else did so
// meanwhile.
func editIndex(dir string, write func(string, []byte) error, edit func(x *foreignIndex)) error {
	name := filepath.Join(dir, "index.json")
	for {
		old, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var x foreignIndex
		if err := json.Unmarshal(old, &x); err != nil {
			return err
		}
		edit(&x)
		data, err := json.Marshal(x)
		if err != nil {
			return err
		}
		if now, err := os.ReadFile(name); err == nil && bytes.Equal(now, old) {
			return write(name, data)
		}
	}
}

// await waits until f is true.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !f() {
		select {
		case <-time.After(100 * time.Microsecond):
		case <-deadline:
			t.Fatalf("%s: this has not come true", what)
		}
	}
}

// awaitIndex waits until an index.json has n tags.
func awaitIndex(t testing.TB, dir string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%s has %d tags in its index", dir, n), func() bool {
		index, err := readDiskIndex(dir)
		return err == nil && len(index.tags) == n
	})
}

func TestForeignChangesAreSeenByTheNextCall(t *testing.T) {
	t.Parallel()
	for _, test := range foreignWrites {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			root := scratch.Kept(t)
			dir := filepath.Join(root, "foo")
			reg, err := ocifs.New(root, nil)
			qt.Assert(t, qt.IsNil(err))
			defer reg.Close()
			r := ocitest.NewRegistry(t, reg)
			a, b, c := ocitest.NewImage(ocitest.Spec{Seed: 1}), ocitest.NewImage(ocitest.Spec{Seed: 2}), ocitest.NewImage(ocitest.Spec{Seed: 3})
			r.MustPush("foo", a, "v1", "v2")
			r.MustPush("foo", b, "v3")
			awaitIndex(t, dir, 3)
			reg.DeleteTag(ctx, "foo", "absent") // this waits for what wrote index.json to end

			edit := func(f func(x *foreignIndex)) { qt.Assert(t, qt.IsNil(editIndex(dir, test.write, f))) }
			wantTags := func(want map[string]*ocitest.Artifact) {
				t.Helper()
				for _, tag := range []string{"v1", "v2", "v3", "v4", "v5", "v6"} {
					desc, err := reg.ResolveTag(ctx, "foo", tag)
					if want[tag] == nil {
						qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown), qt.Commentf("%s", tag))
						continue
					}
					qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", tag))
					qt.Assert(t, qt.Equals(desc.Digest, want[tag].Descriptor.Digest), qt.Commentf("%s", tag))
				}
				tags, err := ociregistry.All(reg.Tags(ctx, "foo", ""))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.HasLen(tags, len(want)))
			}

			// A tag is added, one is removed, and one is moved.
			edit(func(x *foreignIndex) {
				x.Unknown = "kept"
				x.remove("v1")
				x.remove("v2")
				x.add(b.Descriptor, "v2")
				x.add(a.Descriptor, "v4")
			})
			wantTags(map[string]*ocitest.Artifact{"v2": b, "v3": b, "v4": a})

			// An image comes with its blobs.
			for _, blob := range c.Blobs {
				writeForeignBlob(t, dir, blob.Descriptor, blob.Bytes())
			}
			writeForeignBlob(t, dir, c.Descriptor, c.Manifest)
			edit(func(x *foreignIndex) { x.add(c.Descriptor, "v5") })
			wantTags(map[string]*ocitest.Artifact{"v2": b, "v3": b, "v4": a, "v5": c})
			qt.Assert(t, qt.IsNil(c.Verify(ctx, reg, "foo")))
			qt.Assert(t, qt.ErrorIs(reg.DeleteBlob(ctx, "foo", c.Blobs[0].Descriptor.Digest), ociregistry.ErrInUse))

			// The last tag of a manifest goes, and with it the manifest.
			edit(func(x *foreignIndex) { x.remove("v4") })
			wantTags(map[string]*ocitest.Artifact{"v2": b, "v3": b, "v5": c})
			_, err = reg.ResolveManifest(ctx, "foo", a.Descriptor.Digest)
			qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))

			// What the registry writes afterwards keeps what it did not know.
			r.MustPush("foo", a, "v6")
			qt.Assert(t, qt.IsNil(reg.DeleteTag(ctx, "foo", "v3")))
			wantTags(map[string]*ocitest.Artifact{"v2": b, "v5": c, "v6": a})
			qt.Assert(t, qt.IsNil(reg.Close()))
			qt.Assert(t, qt.IsNil(editIndex(dir, test.write, func(x *foreignIndex) {
				qt.Check(t, qt.Equals(x.Unknown, "kept"))
				qt.Check(t, qt.HasLen(x.Manifests, 3))
			})))
		})
	}
}

func writeForeignBlob(t testing.TB, dir string, desc ociregistry.Descriptor, data []byte) {
	t.Helper()
	name := filepath.Join(dir, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded())
	qt.Assert(t, qt.IsNil(os.WriteFile(name, data, 0o666)))
}

// TestForeignChangesRightAfterTheRegistrys changes index.json right after the
// registry has. The registry must not take the change for its own.
func TestForeignChangesRightAfterTheRegistrys(t *testing.T) {
	t.Parallel()
	root := scratch.Kept(t)
	reg, err := ocifs.New(root, nil)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(reg.Close())) })
	for _, test := range foreignWrites {
		for i := range 16 {
			repo := strings.ToLower(fmt.Sprint(test.name, i))
			t.Run(repo, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(root, repo)
				a := ocitest.NewImage(ocitest.Spec{})
				ocitest.NewRegistry(t, reg).MustPush(repo, a, "ours")
				awaitIndex(t, dir, 1)
				qt.Assert(t, qt.IsNil(editIndex(dir, test.write, func(x *foreignIndex) { x.add(a.Descriptor, "theirs") })))
				await(t, "the registry has seen the change", func() bool {
					_, err := reg.ResolveTag(t.Context(), repo, "theirs")
					return err == nil
				})
			})
		}
	}
}

// TestForeignChangesBesidePushes changes index.json while it does not have what the
// registry has pushed.
func TestForeignChangesBesidePushes(t *testing.T) {
	t.Parallel()
	for _, test := range foreignWrites {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disktest.Still(t, func(t *testing.T) {
				ctx := context.Background()
				root := scratch.Kept(t)
				dir := filepath.Join(root, "foo")
				reg, err := ocifs.New(root, nil)
				qt.Assert(t, qt.IsNil(err))
				defer reg.Close()
				a := ocitest.NewImage(ocitest.Spec{})
				r := ocitest.NewRegistry(t, reg)
				r.MustPush("foo", a, "first", "gone")
				awaitIndex(t, dir, 2)
				qt.Assert(t, qt.IsNil(reg.DeleteTag(ctx, "foo", "gone")))
				want := []string{"first"}
				for i := range 20 {
					r.MustPush("foo", a, fmt.Sprint("ours-", i))
					qt.Assert(t, qt.IsNil(editIndex(dir, test.write, func(x *foreignIndex) { x.add(a.Descriptor, fmt.Sprint("theirs-", i)) })))
					want = append(want, fmt.Sprint("ours-", i), fmt.Sprint("theirs-", i))
					got, err := ociregistry.All(reg.Tags(ctx, "foo", ""))
					qt.Assert(t, qt.IsNil(err))
					slices.Sort(want)
					qt.Assert(t, qt.DeepEquals(got, want))
				}
				qt.Assert(t, qt.IsNil(reg.Close()))
				index, err := readDiskIndex(dir)
				qt.Assert(t, qt.IsNil(err))
				for _, tag := range want {
					qt.Check(t, qt.Equals(index.tags[tag], string(a.Descriptor.Digest)), qt.Commentf("%s", tag))
				}
				qt.Check(t, qt.HasLen(index.tags, len(want)))
			})
		})
	}
}
