package ociclient

import (
	"context"
	"errors"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

func (c *client) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	r := wire.Request{Kind: wire.BlobDelete, Repository: repo, Digest: digest, ListN: -1}
	err := r.Check()
	if err == nil {
		err = c.delete(ctx, r)
	}
	return c.about("DeleteBlob", repo, string(digest)).wrap(err)
}

func (c *client) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	r := wire.Request{Kind: wire.ManifestDelete, Repository: repo, Digest: digest, ListN: -1}
	err := r.Check()
	if err == nil {
		err = c.deleteManifest(ctx, r)
	}
	return c.about("DeleteManifest", repo, string(digest)).wrap(err)
}

func (c *client) DeleteTag(ctx context.Context, repo string, name string) error {
	err := checkTag(repo, name)
	if err == nil {
		err = c.delete(ctx, wire.Request{Kind: wire.ManifestDelete, Repository: repo, Tag: name, ListN: -1})
	}
	return c.about("DeleteTag", repo, name).wrap(err)
}

// delete sends a request to delete something. If the response was lost, and a second
// request does not find it, it has been deleted.
func (c *client) delete(ctx context.Context, r wire.Request) error {
	cl := c.newCall(r)
	cl.ok = statusAccepted
	cl.once = true
	retry := c.newRetrier()
	lost := false
	for {
		_, err := c.run(ctx, cl)
		if err == nil || lost && statusOf(err) == http.StatusNotFound && !errors.Is(err, ociregistry.ErrNameInvalid) {
			return nil
		}
		if isUnproven(err) && c.isDeleted(ctx, r) {
			return nil
		}
		lost = lost || statusOf(err) != http.StatusTooManyRequests // a request with that answer had no effect
		if err := retry.again(ctx, err); err != nil {
			return err
		}
	}
}
