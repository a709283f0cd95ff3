package ociserver

import (
	"strings"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// location returns the path and query by which the client reaches r.
func (x *exchange) location(r wire.Request) string { return x.prefix() + r.URL() }

// prefix returns what [http.StripPrefix], or something like it, took from the
// path that the client asked for.
func (x *exchange) prefix() string {
	uri, _, _ := strings.Cut(x.req.RequestURI, "?")
	if uri == x.req.URL.Path {
		return ""
	}
	if _, rest, ok := strings.Cut(uri, "://"); ok { // the form that proxies are sent
		uri = rest[max(strings.IndexByte(rest, '/'), 0):]
	}
	prefix, ok := strings.CutSuffix(uri, x.req.URL.EscapedPath())
	if !ok || !strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, "//") || strings.Contains(prefix, `\`) {
		return "" // nor is what follows "//" taken for a host
	}
	return prefix
}

// contentLocation returns where content can be had that was pushed.
func (x *exchange) contentLocation(isManifest bool, desc ociregistry.Descriptor) (string, error) {
	if loc, err := x.externalLocation(isManifest, desc); loc != "" || err != nil {
		return loc, err
	}
	r := wire.Request{Kind: wire.BlobGet, Repo: x.Repo, Digest: desc.Digest}
	if isManifest {
		r.Kind = wire.ManifestGet
	}
	return x.location(r), nil
}

// externalLocation returns where else content can be had, or "".
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

// uploadLocation returns where an upload session goes on.
func (x *exchange) uploadLocation(id string) (string, error) {
	if x.opts.LocationForUploadID != nil {
		if loc, err := x.opts.LocationForUploadID(id); loc != "" || err != nil {
			return loc, err
		}
	}
	return x.location(wire.Request{Kind: wire.UploadStatus, Repo: x.Repo, UploadID: id}), nil
}
