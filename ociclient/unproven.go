package ociclient

import (
	"context"
	"errors"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A push, a mount or a delete is done if the registry says so. A response of another
// origin after a redirect, such as a login page, proves nothing, and neither does a page
// on the registry's own host. The client then asks the registry for the result.

// unproven returns an error for a success that does not prove that the call had its
// effect.
func (cl *call) unproven(resp *http.Response) error {
	switch cl.kind {
	case wire.ManifestPut, wire.UploadFinish, wire.BlobMount:
		if headerOf(resp, "Docker-Content-Digest") != "" { // the caller checks it
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

// isUnproven reports whether err is an error of unproven.
func isUnproven(err error) bool {
	return err != nil && (foreignStatus(err)/100 == 2 || errors.Is(err, errPage))
}

// hasManifest reports whether the registry has a manifest, under the tag of r if it has
// one.
func (c *client) hasManifest(ctx context.Context, r wire.Request, d ociregistry.Digest) bool {
	desc, err := c.findManifest(ctx, head(r))
	return err == nil && desc.Digest == d
}

// head returns the HEAD request for the manifest that r is about.
func head(r wire.Request) wire.Request {
	return wire.Request{Kind: wire.ManifestHead, Repository: r.Repository, Tag: r.Tag, Digest: r.Digest, ListN: -1}
}

// isDeleted reports whether the registry does not have what r deletes.
func (c *client) isDeleted(ctx context.Context, r wire.Request) bool {
	var err error
	if r.Kind == wire.BlobDelete {
		_, err = blob{c, r.Repository, r.Digest}.resolve(ctx)
	} else {
		_, err = c.findManifest(ctx, head(r))
	}
	return errors.Is(err, ociregistry.ErrBlobUnknown) || errors.Is(err, ociregistry.ErrManifestUnknown) || errors.Is(err, ociregistry.ErrNameUnknown)
}
