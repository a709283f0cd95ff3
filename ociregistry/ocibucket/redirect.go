package ocibucket

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// BlobURL returns a URL at which anybody can GET the bytes of a blob until a time has passed, from
// the store itself: for redirects. The URL's query is a secret. It is empty, without an error, if there is none: the
// store has no such URLs, or the content is so small that it is not an object of its own.
//
// The URL is valid for less than half a day, also if the blob is deleted meanwhile.
//
// Errors: those of GetBlob, and of the store.
func (r *Registry) BlobURL(ctx context.Context, repo string, digest ociregistry.Digest, valid time.Duration) (string, error) {
	url, err := r.blobURL(ctx, repo, digest, valid)
	return url, opError(err, "BlobURL", repo, string(digest))
}

// slowSign is how long the way from the read of a link to a signature may take. A process may sleep between
// them: then the data may be on its way out when the URL is signed.
const slowSign = time.Minute

func (r *Registry) blobURL(ctx context.Context, repo string, digest ociregistry.Digest, valid time.Duration) (string, error) {
	if valid < time.Second || valid+slowSign > r.bucket.Grace()/2 {
		return "", fmt.Errorf("a URL cannot be valid for %v", valid)
	}
	if !r.bucket.Capabilities().Presign {
		return "", nil
	}
	for {
		began := time.Now().Round(0)
		l, err := r.blob(ctx, repo, digest)
		if err != nil || l.Data == "" {
			return "", err
		}
		url, err := r.bucket.Presign(ctx, r.bucket.Key(keys.Data(l.Data)), objstore.PresignOptions{Expires: valid, ContentType: "application/octet-stream"})
		if err != nil || time.Now().Round(0).Sub(began) < slowSign {
			return url, err
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
	}
}
