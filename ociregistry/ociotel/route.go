package ociotel

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/seed-40b21970/oci/internal/wire"
)

// Patterns of paths. That of an upload is the form that the specification has.
const (
	uploads   = "/v2/{name}/blobs/uploads/"
	upload    = "/v2/{name}/blobs/uploads/{reference}"
	blobs     = "/v2/{name}/blobs/{digest}"
	manifests = "/v2/{name}/manifests/{reference}"
)

var routes = [...]string{
	wire.Ping:           "/v2/",
	wire.Catalog:        "/v2/_catalog",
	wire.TagsList:       "/v2/{name}/tags/list",
	wire.Referrers:      "/v2/{name}/referrers/{digest}",
	wire.BlobGet:        blobs,
	wire.BlobHead:       blobs,
	wire.BlobDelete:     blobs,
	wire.BlobPost:       uploads,
	wire.BlobMount:      uploads,
	wire.UploadStart:    uploads,
	wire.UploadStatus:   upload,
	wire.UploadChunk:    upload,
	wire.UploadFinish:   upload,
	wire.UploadCancel:   upload,
	wire.ManifestGet:    manifests,
	wire.ManifestHead:   manifests,
	wire.ManifestPut:    manifests,
	wire.ManifestDelete: manifests,
}

// exchange is a request that is observed. While package otelhttp looks at the request, that
// has another URL.
type exchange struct {
	wire.Request
	route   string // or "" for a request that is not one of the API
	url     *url.URL
	aborted bool // the handler panicked with http.ErrAbortHandler
}

type exchangeKey struct{}

func newExchange(method string, u *url.URL) *exchange {
	x := &exchange{url: u}
	r, err := wire.ParseRequest(method, u)
	if before, ok := session(u.Path); err != nil && ok { // the ids of other registries have any form
		known := *u
		known.Path, known.RawPath = before+wire.EncodeUploadID("any"), ""
		r, err = wire.ParseRequest(method, &known)
	}
	if err == nil {
		x.Request, x.route = r, routes[r.Kind]
	}
	return x
}

// session returns the path of an upload session without its id.
func session(path string) (before string, ok bool) {
	const uploads = "/blobs/uploads/"
	i := strings.LastIndex(path, uploads)
	if i < 0 || i+len(uploads) == len(path) {
		return "", false
	}
	return path[:i+len(uploads)], true
}

// exchangeOf returns the exchange of a request.
func exchangeOf(req *http.Request) *exchange {
	return req.Context().Value(exchangeKey{}).(*exchange)
}

// observed returns a request with another context and a URL that may be seen.
func (x *exchange) observed(req *http.Request) *http.Request {
	req = req.WithContext(context.WithValue(req.Context(), exchangeKey{}, x))
	req.URL = x.visibleURL()
	return req
}

// visibleURL returns the URL without what is as good as a password: the id of an upload
// session, and queries of upload sessions and of other services, which may be signed.
func (x *exchange) visibleURL() *url.URL {
	if x.route != "" && x.route != upload && x.route != uploads {
		return x.url
	}
	u := *x.url
	if u.User = nil; u.RawQuery != "" {
		u.RawQuery = "REDACTED"
	}
	if before, ok := session(u.Path); ok {
		u.Path, u.RawPath = before+"REDACTED", ""
	}
	return &u
}

// spanName returns the name of the span of a request.
func (x *exchange) spanName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "HTTP" // as the semantic conventions say: there can be any number of others
	}
	if x.route == "" {
		return method
	}
	return method + " " + x.route
}

// attributes returns what the request names.
func (x *exchange) attributes() []attribute.KeyValue {
	var attrs []attribute.KeyValue
	if x.Repository != "" {
		attrs = append(attrs, semconv.ContainerImageName(x.Repository))
	}
	if x.Tag != "" {
		attrs = append(attrs, semconv.ContainerImageTags(append([]string{x.Tag}, x.Tags...)...))
	}
	if x.Digest == "" {
		return attrs
	}
	if x.route == manifests || x.Kind == wire.Referrers {
		return append(attrs, semconv.OCIManifestDigest(string(x.Digest)))
	}
	return append(attrs, attribute.String("oci.blob.digest", string(x.Digest)))
}
