package ociserver

import (
	"net/http"
	"slices"
)

// Values of the headers that let web pages of other origins use the registry (Fetch
// standard, section "CORS protocol").
var (
	corsExposed = []string{"Accept-Ranges, Content-Length, Content-Range, Docker-Content-Digest, Docker-Distribution-Api-Version, " +
		"Docker-Upload-Uuid, Error-Reference, ETag, Link, Location, OCI-Chunk-Min-Length, OCI-Filters-Applied, OCI-Namespace, " +
		"OCI-Subject, OCI-Tag, Range, Retry-After, WWW-Authenticate"}
	corsHeaders = []string{"Accept, Authorization, Cache-Control, Content-Range, Content-Type, If-Match, If-None-Match, If-Range, Range"}
	corsMaxAge  = []string{"3600"} // seconds
	corsTrue    = []string{"true"}
	corsAny     = []string{"*"}
)

// setCORS lets the web page that made the request see the answer, if its origin is
// allowed. A browser adds its cookies and passwords only for an origin that is listed
// by name.
func (x *exchange) setCORS() {
	allowed := x.opts.AllowedOrigins
	if len(allowed) == 0 {
		return
	}
	h := x.header()
	h.Add("Vary", "Origin")
	origin := x.req.Header.Get("Origin")
	switch {
	case origin == "":
		return
	case origin != "null" && origin != "*" && slices.Contains(allowed, origin):
		h["Access-Control-Allow-Origin"] = []string{origin}
		h["Access-Control-Allow-Credentials"] = corsTrue
	case slices.Contains(allowed, "*"):
		h["Access-Control-Allow-Origin"] = corsAny
	default:
		return
	}
	h["Access-Control-Expose-Headers"] = corsExposed
}

// answerOptions answers a request for the methods of a path. It needs no authorization:
// browsers send it without credentials, before every request that is more than a link.
func (x *exchange) answerOptions(allow string) {
	h := x.header()
	h["Allow"] = []string{allow}
	if h["Access-Control-Allow-Origin"] != nil && x.req.Header["Access-Control-Request-Method"] != nil {
		h["Access-Control-Allow-Methods"] = h["Allow"]
		h["Access-Control-Allow-Headers"] = corsHeaders
		h["Access-Control-Max-Age"] = corsMaxAge
	}
	x.writeHeader(http.StatusNoContent)
}
