package ociunify_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociunify"
)

// boundReader cannot be read after the end of a context, like content from a network.
type boundReader struct {
	ociregistry.BlobReader
	ctx context.Context
}

func (r boundReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.BlobReader.Read(p)
}

// An origin that answers just when it is given up counts as stalled: its content could
// not be read.
func TestOrigins_IgnoreAnAnswerAtTheLastMoment(t *testing.T) {
	t.Parallel()
	const wait = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), ocimem.New()
		image := pushed(t, mem, "foo", 1, "v1", "v2")
		late := &ociregistry.Funcs{
			GetBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
				time.Sleep(wait)
				rd, err := mem.GetBlob(ctx, repo, d)
				return boundReader{rd, ctx}, err
			},
			Tags_: func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) {
					time.Sleep(wait)
					for tag, err := range mem.Tags(ctx, repo, after) {
						if !yield(tag, err) || err != nil {
							return
						}
						if err := ctx.Err(); err != nil {
							yield("", err)
							return
						}
					}
				}
			},
		}
		for range 2 {
			origins := ociunify.Origins([]ociregistry.Interface{late, mem}, nil)
			got, err := readAll(origins.GetBlob(ctx, "foo", image.Blobs[2].Descriptor.Digest))
			wantBytes(t, got, err, image.Blobs[2].Bytes())
			qt.Check(t, qt.DeepEquals(tagsOf(t, ociunify.Origins([]ociregistry.Interface{late, mem}, nil), "foo"), []string{"v1", "v2"}))
		}
	})
}

func TestOrigins_AskTheNextWhenOneFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		one, two, three := ocimem.New(), ocimem.New(), ocimem.New()
		dead, first, second := count(one), count(two), count(three)
		image := pushed(t, two, "foo", 1, "v1")
		only := pushed(t, three, "foo", 2, "v2")
		dead.set("", errBroken)
		var log logLines
		c := ociunify.NewCache(ocimem.New(), ociunify.Origins([]ociregistry.Interface{nil, dead, first, second}, &ociunify.OriginsOptions{Logger: log.logger()}), nil)
		wantTag(t, c, "foo", "v1", image)
		qt.Check(t, qt.Equals(dead.took()+","+first.took()+","+second.took(), "GetTag,GetTag,"))
		qt.Check(t, qt.IsTrue(log.has("origin failed")))
		qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
		qt.Check(t, qt.Equals(dead.took(), "")) // not asked again for a while
		wantTag(t, c, "foo", "v2", only)
		first.took()
		second.took()
		_, err := c.GetTag(ctx, "foo", "v3")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		tags, err := ociregistry.All(c.Tags(ctx, "foo", ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tags, []string{"v1"}))

		time.Sleep(time.Minute)
		qt.Check(t, qt.IsNil(only.Verify(ctx, c, "foo")))
		qt.Check(t, qt.Equals(dead.took(), "GetBlob")) // asked again after RetryAfter

		// When all have failed, all are asked.
		first.set("", errBroken)
		second.set("", errors.New("certificate has expired"))
		for range 2 {
			_, err = c.GetTag(ctx, "foo", "v3")
			qt.Check(t, qt.ErrorIs(err, errBroken))
			qt.Check(t, qt.ErrorMatches(err, "(?s).*certificate.*"))
		}
		second.set("", nil)
		wantTag(t, c, "foo", "v2", only)
		qt.Check(t, qt.IsNil(c.Close()))
	})
}
