package ociclient

import (
	"context"
	"errors"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A push, a mount or a delete is done if the registry says so. Whoever answers after a
// redirect to another origin, such as a page to log in, cannot; nor can a page on the
// registry's own host. Then the registry is asked whether it is so.

// unproven returns an error for a success that does not prove that what the call asks
// for is done.
func (cl *call) unproven(resp *http.Response) error {
	switch cl.kind {
	case wire.ManifestPut, wire.UploadFinish, wire.BlobMount:
		if headerOf(resp, "Docker-Content-Digest") != "" { // which is checked
			return nil
		}
	case wire.ManifestDelete, wire.BlobDelete:
	default:
		return nil
	}
	switch {
	case cl.kind == wire.BlobMount && resp.StatusCode == http.StatusAccepted: // nothing is done yet
		return nil
	case !wire.SameOrigin(resp.Request.URL, cl.url):
		return &foreignError{resp}
	case resp.StatusCode == http.StatusOK && isPage(resp): // by the specification, it is 201 or 202
		return final(errPage)
	}
	return nil
}

// isUnproven reports whether err is a success that proves nothing.
func isUnproven(err error) bool {
	return err != nil && (foreignStatus(err)/100 == 2 || errors.Is(err, errPage))
}

// hasManifest reports whether a manifest is there, under its tag if r has one.
func (c *client) hasManifest(ctx context.Context, r wire.Request, d ociregistry.Digest) bool {
	desc, err := c.findManifest(ctx, head(r))
	return err == nil && desc.Digest == d
}

// head returns the request that asks for the manifest which r is about.
func head(r wire.Request) wire.Request {
	return wire.Request{Kind: wire.ManifestHead, Repo: r.Repo, Tag: r.Tag, Digest: r.Digest, ListN: -1}
}

// isDeleted reports whether what a request deletes is not there.
func (c *client) isDeleted(ctx context.Context, r wire.Request) bool {
	var err error
	if r.Kind == wire.BlobDelete {
		_, err = blob{c, r.Repo, r.Digest}.resolve(ctx)
	} else {
		_, err = c.findManifest(ctx, head(r))
	}
	return errors.Is(err, ociregistry.ErrBlobUnknown) || errors.Is(err, ociregistry.ErrManifestUnknown) || errors.Is(err, ociregistry.ErrNameUnknown)
}
