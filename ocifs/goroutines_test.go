package ocifs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestManyGoroutines lets very many goroutines use one repository, each for a little
// of everything. Everything that was acknowledged must be there at the end, also
// after the directory is opened again. With OCIFS_FULL there are more goroutines.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	n := 500
	if os.Getenv("OCIFS_FULL") != "" {
		n = 2000
	}
	root := scratch.Kept(t)
	reg, err := ocifs.New(root, nil)
	qt.Assert(t, qt.IsNil(err))
	base := ocitest.NewImage(ocitest.Spec{Layers: []int64{1000, 30_000}})
	ocitest.NewRegistry(t, reg).MustPush("foo", base, "base")

	users := make([]manyUser, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range users {
		users[i] = newManyUser(base, i)
		wg.Go(func() { errs[i] = users[i].use(reg) })
	}
	wg.Wait()
	qt.Assert(t, qt.IsNil(errors.Join(errs...)))
	for range 2 {
		want := []string{"base"}
		for _, u := range users {
			qt.Assert(t, qt.IsNil(u.check(reg)))
			if !u.deletes {
				want = append(want, u.tag)
			}
		}
		slices.Sort(want)
		got, err := ociregistry.All(reg.Tags(t.Context(), "foo", ""))
		qt.Assert(t, qt.IsNil(err))
		if i := slices.Index(got, "shared"); i >= 0 { // the last one to move it may have deleted its manifest
			qt.Assert(t, qt.IsNil(readWhole(reg, "foo", "shared")))
			got = slices.Delete(got, i, i+1)
		}
		qt.Assert(t, qt.DeepEquals(got, want))
		qt.Assert(t, qt.IsNil(reg.Close()))
		reg, err = ocifs.New(root, nil)
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(reg.Close()))
}

// manyUser is one of the goroutines.
type manyUser struct {
	base    *ocitest.Artifact
	tag     string
	index   *ocitest.Artifact // names base
	blob    ocitest.Blob
	deletes bool // removes again what it pushed
}

func newManyUser(base *ocitest.Artifact, i int) manyUser {
	tag := fmt.Sprintf("v%04d", i)
	size := int64(100)
	if i%50 == 0 {
		size = 20_000
	}
	return manyUser{
		base:    base,
		tag:     tag,
		index:   ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"tag": tag}}, base),
		blob:    ocitest.NewBlob(uint64(i), size),
		deletes: i%3 == 0,
	}
}

func (u manyUser) use(reg ociregistry.Interface) error {
	ctx := context.Background()
	if _, err := reg.PushBlob(ctx, "foo", u.blob.Descriptor, u.blob.NewReader()); err != nil {
		return err
	}
	if _, err := reg.PushManifest(ctx, "foo", u.tag, u.index.Manifest, u.index.Descriptor.MediaType, "shared", u.tag+"-too"); err != nil {
		return err
	}
	if err := reg.DeleteTag(ctx, "foo", u.tag+"-too"); err != nil {
		return err
	}
	for tag, err := range reg.Tags(ctx, "foo", u.tag[:3]) {
		if err != nil {
			return err
		}
		if tag >= u.tag {
			if tag != u.tag {
				return fmt.Errorf("the list of tags has %s, but not %s before it", tag, u.tag)
			}
			break
		}
	}
	r, err := reg.GetTag(ctx, "foo", u.tag)
	if err != nil {
		return err
	}
	data, err := readVerified(r)
	if err != nil || !bytes.Equal(data, u.index.Manifest) {
		return fmt.Errorf("tag %s: other content, or error %v", u.tag, err)
	}
	r, err = reg.GetBlob(ctx, "foo", u.base.Blobs[2].Descriptor.Digest)
	if err != nil {
		return err
	}
	if _, err := readVerified(r); err != nil {
		return err
	}
	if err := reg.DeleteBlob(ctx, "foo", u.base.Blobs[1].Descriptor.Digest); !errors.Is(err, ociregistry.ErrInUse) {
		return fmt.Errorf("DeleteBlob of a layer: error %v", err)
	}
	if !u.deletes {
		return nil
	}
	if err := reg.DeleteBlob(ctx, "foo", u.blob.Descriptor.Digest); err != nil {
		return err
	}
	return reg.DeleteManifest(ctx, "foo", u.index.Descriptor.Digest)
}

// check checks that what the goroutine pushed is there, unless it was deleted.
func (u manyUser) check(reg ociregistry.Interface) error {
	ctx := context.Background()
	_, blobErr := reg.ResolveBlob(ctx, "foo", u.blob.Descriptor.Digest)
	_, manifestErr := reg.ResolveManifest(ctx, "foo", u.index.Descriptor.Digest)
	if u.deletes {
		if !errors.Is(blobErr, ociregistry.ErrBlobUnknown) || !errors.Is(manifestErr, ociregistry.ErrManifestUnknown) {
			return fmt.Errorf("%s was deleted: errors %v and %v", u.tag, blobErr, manifestErr)
		}
		return nil
	}
	if err := errors.Join(blobErr, manifestErr); err != nil {
		return err
	}
	return readWhole(reg, "foo", u.tag)
}
