package ociserver

import (
	"net/http"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// etag returns the entity tag of content (RFC 9110, section 8.8.3).
func etag(digest ociregistry.Digest) string { return `"` + string(digest) + `"` }

// conditional reports whether the request has a precondition.
func (x *exchange) conditional() bool {
	h := x.req.Header
	return len(h["If-Match"]) > 0 || len(h["If-None-Match"]) > 0
}

// condition returns the condition in the request's If-Match and If-None-Match headers
// (RFC 9110, section 13.1).
func (x *exchange) condition() ociregistry.PushCondition {
	h := x.req.Header
	return ociregistry.PushCondition{
		IfMatch:     parseETags(h["If-Match"], false),
		IfNoneMatch: parseETags(h["If-None-Match"], true),
	}
}

// answeredByCondition evaluates the preconditions of a request that reads, in the order
// of RFC 9110, section 13.2.2. It reports whether it has answered the request.
func (x *exchange) answeredByCondition(current ociregistry.Digest) (bool, error) {
	c := x.condition()
	if err := (ociregistry.PushCondition{IfMatch: c.IfMatch}).Check(current); err != nil {
		return false, err
	}
	if (ociregistry.PushCondition{IfNoneMatch: c.IfNoneMatch}).Check(current) == nil {
		return false, nil
	}
	x.header().Set("ETag", etag(current))
	x.header().Set("Docker-Content-Digest", string(current))
	x.writeHeader(http.StatusNotModified)
	return true, nil
}

// notModified evaluates the preconditions of a GET of a blob, if it has any. It reports whether
// it has answered the request.
func (x *exchange) notModified() (bool, error) {
	if !x.conditional() {
		return false, nil
	}
	if _, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest); err != nil {
		return false, err
	}
	return x.answeredByCondition(x.Digest)
}

// parseETags returns the digests in the values of an If-Match or If-None-Match header,
// with [ociregistry.AnyManifest] for "*". It leaves out entity tags that are no digests,
// which match nothing here, and weak ones unless weakCount is set. The result is nil if
// there is no header, and not nil if there is one.
//
// Entity tags without quotes are accepted, because digests are often copied from a
// header that has no quotes.
func parseETags(values []string, weakCount bool) []ociregistry.Digest {
	if len(values) == 0 {
		return nil
	}
	digests := []ociregistry.Digest{}
	for _, s := range values {
		for s = strings.TrimLeft(s, " \t,"); s != ""; s = strings.TrimLeft(s, " \t,") {
			var tag string
			weak := strings.HasPrefix(s, "W/")
			s = strings.TrimPrefix(s, "W/")
			if quoted, ok := strings.CutPrefix(s, `"`); ok {
				tag, s, _ = strings.Cut(quoted, `"`)
			} else {
				tag, s, _ = strings.Cut(s, ",")
				tag = strings.TrimRight(tag, " \t")
				if tag == "*" {
					digests = append(digests, ociregistry.AnyManifest)
				}
			}
			if ociref.IsValidDigest(tag) && (weakCount || !weak) {
				digests = append(digests, ociregistry.Digest(tag))
			}
		}
	}
	return digests
}
