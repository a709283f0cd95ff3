package ocifs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Several registries in one process have one root open, and do what makes the
// same directories and files come and go.

// TestRepositoriesComeAndGo lets each of several registries push something of its own
// to one repository and delete it again. Most of the time the repository has nothing
// else.
func TestRepositoriesComeAndGo(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{100, 20_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			root := scratch.Dir(t)
			errs := make([]error, 5)
			var wg sync.WaitGroup
			for g := range errs {
				wg.Go(func() {
					reg, err := ocifs.New(root, &ocifs.Options{NoSync: true})
					if err != nil {
						errs[g] = err
						return
					}
					a := ocitest.NewImage(ocitest.Spec{Seed: uint64(g), Layers: []int64{size}})
					for range 50 {
						err = errors.Join(err, comeAndGo(reg, "foo/bar", a))
					}
					errs[g] = errors.Join(err, reg.Close())
				})
			}
			wg.Wait()
			qt.Assert(t, qt.IsNil(errors.Join(errs...)))
			entries, err := os.ReadDir(root)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(entries, 1), qt.Commentf("what is left: %v", entries)) // .ocifs
		})
	}
}

// comeAndGo pushes an image, in parts and with a pause in which there is nothing.
func comeAndGo(reg ociregistry.Interface, repo string, a *ocitest.Artifact) error {
	ctx := context.Background()
	layer := a.Blobs[1]
	if _, err := reg.PushBlob(ctx, repo, layer.Descriptor, layer.NewReader()); err != nil {
		return err
	}
	if _, err := reg.ResolveBlob(ctx, repo, layer.Descriptor.Digest); err != nil {
		return err
	}
	if err := reg.DeleteBlob(ctx, repo, layer.Descriptor.Digest); err != nil {
		return err
	}
	if err := a.Push(ctx, reg, repo, fmt.Sprint("tag-", layer.Descriptor.Digest.Encoded())); err != nil {
		return err
	}
	if err := a.Verify(ctx, reg, repo); err != nil {
		return err
	}
	if err := reg.DeleteManifest(ctx, repo, a.Descriptor.Digest); err != nil {
		return err
	}
	for _, b := range a.Blobs {
		err := reg.DeleteBlob(ctx, repo, b.Descriptor.Digest)
		if err != nil {
			return err
		}
	}
	return nil
}

// TestBlobsThatWereManifests pushes as a blob what was just deleted as a manifest,
// while another registry folds the journal that has the deletion.
func TestBlobsThatWereManifests(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 20_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			root := scratch.Dir(t)
			opts := &ocifs.Options{NoSync: true}
			reg, err := ocifs.New(root, opts)
			qt.Assert(t, qt.IsNil(err))
			ocitest.NewRegistry(t, reg).MustPush("foo", ocitest.NewImage(ocitest.Spec{}), "latest")

			stop, folds := make(chan struct{}), make(chan error, 1)
			go func() {
				var err error
				for {
					select {
					case <-stop:
						folds <- err
						return
					default:
						err = errors.Join(err, foldOnce(root, opts))
					}
				}
			}()
			blob := ocitest.NewBlob(1, int64(size))
			for i := range 200 {
				_, err := reg.PushManifest(ctx, "foo", "v1", blob.Bytes(), mediaTypeUnknown)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.IsNil(reg.DeleteManifest(ctx, "foo", blob.Descriptor.Digest)))
				_, err = reg.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
				qt.Check(t, qt.IsNil(err))
				r, err := reg.GetBlob(ctx, "foo", blob.Descriptor.Digest)
				if err == nil {
					var data []byte
					data, err = readVerified(r)
					qt.Check(t, qt.IsTrue(bytes.Equal(data, blob.Bytes())))
				}
				if err == nil {
					err = reg.DeleteBlob(ctx, "foo", blob.Descriptor.Digest)
				}
				if err != nil {
					t.Errorf("after %d rounds: %v", i, err)
					break
				}
			}
			close(stop)
			qt.Check(t, qt.IsNil(<-folds))
			qt.Check(t, qt.IsNil(reg.Close()))
		})
	}
}

// foldOnce opens a root, looks at its repository, and closes it.
func foldOnce(root string, opts *ocifs.Options) error {
	reg, err := ocifs.New(root, opts)
	if err != nil {
		return err
	}
	_, err = reg.ResolveTag(context.Background(), "foo", "latest")
	return errors.Join(err, reg.Close())
}
