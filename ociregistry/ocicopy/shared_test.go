package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// based makes different images with the same blobs.
func based(i int) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{
		Seed:        50,
		Layers:      []int64{1000, 50},
		Annotations: map[string]string{"number": fmt.Sprint(i)},
	})
}

func TestMirror_FetchesBlobsOfSeveralImagesOnce(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		for i := range 12 {
			mustPush(t, src, "app/"+string(rune('a'+i%3)), based(i), fmt.Sprint("v", i))
		}
		src.take()
		m := mustMirror(t, dst, &MirrorOptions{ImageConcurrency: 6}, hub(src, Rule{Repositories: "**"}))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 12}))
		qt.Check(t, qt.Equals(src.take(), "GetBlob 3, GetManifest 12, Referrers 12, Repositories 1, ResolveTag 12, Tags 3"))
		for i := range 12 {
			mustHave(t, dst, "app/"+string(rune('a'+i%3)), based(i))
		}

		// A later pass remembers which repository has them.
		mustPush(t, src, "app/z", based(0), "v0")
		src.take()
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1, Same: 12}))
		qt.Check(t, qt.Equals(src.take(), "GetManifest 1, Referrers 13, Repositories 1, ResolveTag 13, Tags 4"))
	})
}

// The first of several images fails in the middle of a blob that the others wait for.
func TestMirror_OneImageFailsOnASharedBlobAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), newSpy(ocimem.New())
		for i := range 4 {
			mustPush(t, src, "a", based(i), fmt.Sprint("v", i))
		}
		layer := string(based(0).Blobs[1].Descriptor.Digest)
		failures := 2
		src.before = func(_ context.Context, method, _, ref string) error {
			if method != "GetBlob" || ref != layer {
				return nil
			}
			time.Sleep(time.Second)
			if failures--; failures >= 0 {
				return errors.New("broken")
			}
			return nil
		}
		// A destination that refuses mounts accepts blobs that are pushed.
		dst.before = func(_ context.Context, method, _, _ string) error {
			if method == "MountBlob" {
				return ociregistry.ErrUnsupported
			}
			return nil
		}
		m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(src, Rule{Repositories: "*"}))
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(summary.Updated, 2))
		qt.Check(t, qt.HasLen(summary.Failures, 2))

		mustPush(t, src, "b", based(9), "v9")
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 3, Same: 2}))
		mustHave(t, dst, "b", based(9))
	})
}

func TestShared_IsBounded(t *testing.T) {
	t.Parallel()
	s := newShared()
	for i := range 3 * maxShared {
		d := ociregistry.Digest(fmt.Sprint(i))
		done, err := s.acquire(t.Context(), nil, d)
		qt.Assert(t, qt.IsNil(err))
		done("a")
		qt.Assert(t, qt.IsTrue(len(s.repos) <= maxShared && s.where(d) == "a"))
	}
	qt.Check(t, qt.HasLen(s.busy, 0))
	_, err := s.acquire(t.Context(), nil, "x")
	qt.Assert(t, qt.IsNil(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.acquire(ctx, nil, "x")
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
}
