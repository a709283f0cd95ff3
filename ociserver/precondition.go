package ociserver

import (
	"net/http"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// etag returns the entity tag of content (RFC 9110, section 8.8.3).
func etag(digest ociregistry.Digest) string { return `"` + string(digest) + `"` }

// conditional reports whether the request depends on what is there.
func (x *exchange) conditional() bool {
	h := x.req.Header
	return len(h["If-Match"]) > 0 || len(h["If-None-Match"]) > 0
}

// condition returns what the request's If-Match and If-None-Match headers ask
// for (RFC 9110, section 13.1).
func (x *exchange) condition() ociregistry.PushCondition {
	h := x.req.Header
	return ociregistry.PushCondition{
		IfMatch:     parseETags(h["If-Match"], false),
		IfNoneMatch: parseETags(h["If-None-Match"], true),
	}
}

// answeredByCondition evaluates the preconditions of a request that reads, in
// the order of RFC 9110, section 13.2.2. It reports whether that was the whole
// answer.
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

// parseETags returns the digests in the values of an If-Match or If-None-Match
// header, and [ociregistry.AnyManifest] for "*". Entity tags that are no digests
// are left out, since they match nothing that is here, and so are weak ones
// unless they count. Without the header it returns nil, and a list that is not
// nil with it.
//
// Tags without quotes are understood: digests are often copied from a header
// that has none.
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
