package ociunify_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociunify"
)

// boundReader cannot be read any more when a context has ended, as it is with content
// that comes over a network.
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

// An origin of several that answers at the very moment at which it is given up has
// stalled: what it gives could not be read.
func TestOrigins_AnswerAtTheLastMomentIsNone(t *testing.T) {
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
			origins := ociunify.Origins(nil, late, mem)
			got, err := readAll(origins.GetBlob(ctx, "foo", image.Blobs[2].Descriptor.Digest))
			wantBytes(t, got, err, image.Blobs[2].Bytes())
			qt.Check(t, qt.DeepEquals(tagsOf(t, ociunify.Origins(nil, late, mem), "foo"), []string{"v1", "v2"}))
		}
	})
}
