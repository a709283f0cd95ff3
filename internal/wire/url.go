package wire

import (
	"net/url"
	"strconv"
	"strings"
)

// URL returns the path and the query of a request that Check accepts, such as
// "/v2/foo/tags/list?n=10". [ParseRequest] returns the same request for it.
func (r *Request) URL() string {
	var b urlBuilder
	b.Grow(64 + len(r.Repository) + len(r.Digest) + len(r.ListLast))
	b.path("/v2/", r.Repository)
	switch r.Kind {
	case Catalog:
		b.path("_catalog")
	case TagsList:
		b.path("/tags/list")
	case Referrers:
		b.path("/referrers/", string(r.Digest))
	case BlobGet, BlobHead, BlobDelete:
		b.path("/blobs/", string(r.Digest))
	case BlobPost, BlobMount, UploadStart:
		b.path("/blobs/uploads/")
	case UploadStatus, UploadChunk, UploadFinish, UploadCancel:
		b.path("/blobs/uploads/", EncodeUploadID(r.UploadID))
	case ManifestGet, ManifestHead, ManifestPut, ManifestDelete:
		b.path("/manifests/", r.Ref())
	}
	switch r.Kind {
	case BlobMount:
		b.query("mount", string(r.Digest))
		b.query("from", r.FromRepository)
	case BlobPost, UploadFinish:
		b.query("digest", string(r.Digest))
	}
	b.query("digest-algorithm", string(r.Algorithm))
	b.query("artifactType", r.ArtifactType)
	if r.ListN >= 0 && (r.Kind == Catalog || r.Kind == TagsList) {
		b.query("n", strconv.Itoa(r.ListN))
	}
	b.query("last", r.ListLast)
	for _, tag := range r.Tags {
		b.query("tag", tag)
	}
	b.query("ns", r.Namespace)
	return b.String()
}

// urlBuilder builds a path, and then a query.
type urlBuilder struct {
	strings.Builder
	inQuery bool
}

func (b *urlBuilder) path(parts ...string) {
	for _, part := range parts {
		b.WriteString(part)
	}
}

// query adds a parameter, unless its value is empty.
func (b *urlBuilder) query(name, value string) {
	if value == "" {
		return
	}
	if b.inQuery {
		b.WriteByte('&')
	} else {
		b.WriteByte('?')
		b.inQuery = true
	}
	b.WriteString(name)
	b.WriteByte('=')
	b.WriteString(url.QueryEscape(value))
}
