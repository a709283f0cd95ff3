package ociserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// location returns the path and query at which the client finds r.
func (x *exchange) location(r wire.Request) string { return x.prefix() + r.URL() }

// prefix returns the prefix that [http.StripPrefix], or a similar middleware, removed
// from the request's path.
func (x *exchange) prefix() string {
	uri, _, _ := strings.Cut(x.req.RequestURI, "?")
	if uri == x.req.URL.Path {
		return ""
	}
	if _, rest, ok := strings.Cut(uri, "://"); ok { // the absolute form, which clients send to proxies
		uri = rest[max(strings.IndexByte(rest, '/'), 0):]
	}
	prefix, ok := strings.CutSuffix(uri, x.req.URL.EscapedPath())
	if !ok || !strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, "//") || strings.Contains(prefix, `\`) {
		return "" // "//" and "/\\" would begin the name of another host
	}
	return prefix
}

// contentLocation returns the location of content that was pushed.
func (x *exchange) contentLocation(isManifest bool, desc ociregistry.Descriptor) (string, error) {
	if loc, err := x.externalLocation(isManifest, desc); loc != "" || err != nil {
		return loc, err
	}
	r := wire.Request{Kind: wire.BlobGet, Repository: x.Repository, Digest: desc.Digest}
	if isManifest {
		r.Kind = wire.ManifestGet
	}
	return x.location(r), nil
}

// externalLocation returns the location of content elsewhere, or "".
func (x *exchange) externalLocation(isManifest bool, desc ociregistry.Descriptor) (string, error) {
	if x.opts.LocationsForDescriptor == nil {
		return "", nil
	}
	locs, err := x.opts.LocationsForDescriptor(isManifest, desc)
	if err != nil || len(locs) == 0 {
		return "", err
	}
	return locs[0], nil
}

// mayRedirect reports whether BlobRedirect is to be asked. It knows the backend of the handler,
// and not those of namespaces.
func (x *exchange) mayRedirect() bool { return x.opts.BlobRedirect != nil && !x.elsewhere }

// redirected sends the client to where BlobRedirect says that a blob is. It reports whether
// it has answered the request.
func (x *exchange) redirected() (bool, error) {
	if !x.mayRedirect() {
		return false, nil
	}
	loc, expires, err := x.opts.BlobRedirect(x.ctx(), x.Repository, x.Digest)
	if loc == "" || err != nil {
		return false, err
	}
	if !expires.IsZero() {
		// Who shares a cache must not share what a signature allows (RFC 9111, section 5.2.2.7).
		seconds := max(int64(time.Until(expires)/time.Second), 0)
		x.header().Set("Cache-Control", "private, max-age="+strconv.FormatInt(seconds, 10))
	}
	x.redirect(loc)
	return true, nil
}

// sentElsewhere sends the client to where LocationsForDescriptor says that a blob is. It
// reports whether it has answered the request.
func (x *exchange) sentElsewhere() (bool, error) {
	if x.opts.LocationsForDescriptor == nil {
		return false, nil
	}
	desc, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest)
	if err != nil {
		return false, err
	}
	loc, err := x.externalLocation(false, desc)
	if loc == "" || err != nil {
		return false, err
	}
	x.redirect(loc)
	return true, nil
}

func (x *exchange) redirect(loc string) {
	x.header().Set("Location", loc)
	x.writeHeader(http.StatusTemporaryRedirect)
}

// uploadLocation returns the location of an upload session.
func (x *exchange) uploadLocation(id string) (string, error) {
	if x.opts.LocationForUploadID != nil {
		if loc, err := x.opts.LocationForUploadID(id); loc != "" || err != nil {
			return loc, err
		}
	}
	return x.location(wire.Request{Kind: wire.UploadStatus, Repository: x.Repository, UploadID: id}), nil
}
