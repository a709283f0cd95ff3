package wire

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// ErrNotFound is the error for a path that is not in the API. Its status is 404.
var ErrNotFound error = ociregistry.NewHTTPError(errors.New("page not found"), http.StatusNotFound, nil, nil)

// MethodError is the error for a method that a path of the API does not have. It is an
// [ociregistry.HTTPError] with status 405. A server can answer OPTIONS, which is such a
// method, with Allow.
type MethodError struct {
	Allow string // the methods that the path has, for the header of that name
}

func (e *MethodError) Error() string            { return "method not allowed" }
func (e *MethodError) StatusCode() int          { return http.StatusMethodNotAllowed }
func (e *MethodError) Response() *http.Response { return nil }
func (e *MethodError) ResponseBody() []byte     { return nil }

// BadRequest returns an error with status 400 and no code, for errors that have no code in
// the specification.
func BadRequest(msg string) error {
	return ociregistry.NewHTTPError(errors.New(msg), http.StatusBadRequest, nil, nil)
}

// A route has the methods of the paths of one form, each with the kind of request.
type route []struct {
	method string
	kind   Kind
}

var (
	pingRoute      = route{{http.MethodGet, Ping}, {http.MethodHead, Ping}}
	catalogRoute   = route{{http.MethodGet, Catalog}, {http.MethodHead, Catalog}}
	tagsRoute      = route{{http.MethodGet, TagsList}, {http.MethodHead, TagsList}}
	referrersRoute = route{{http.MethodGet, Referrers}, {http.MethodHead, Referrers}}
	uploadsRoute   = route{{http.MethodPost, UploadStart}}

	blobRoute = route{
		{http.MethodGet, BlobGet},
		{http.MethodHead, BlobHead},
		{http.MethodDelete, BlobDelete},
	}
	uploadRoute = route{
		{http.MethodPatch, UploadChunk},
		{http.MethodPut, UploadFinish},
		{http.MethodGet, UploadStatus},
		{http.MethodHead, UploadStatus},
		{http.MethodDelete, UploadCancel},
	}
	manifestRoute = route{
		{http.MethodGet, ManifestGet},
		{http.MethodHead, ManifestHead},
		{http.MethodPut, ManifestPut},
		{http.MethodDelete, ManifestDelete},
	}
)

func (rt route) kind(method string) (Kind, error) {
	for _, m := range rt {
		if m.method == method {
			return m.kind, nil
		}
	}
	methods := make([]string, 0, len(rt)+1)
	for _, m := range rt {
		methods = append(methods, m.method)
	}
	return 0, &MethodError{Allow: strings.Join(append(methods, http.MethodOptions), ", ")}
}

// ParseRequest returns the request that method and u make.
//
// It treats HEAD as GET where the API does not distinguish them. The elements of the path
// may be percent-encoded, but slashes may not: a path with "%2F" is not found.
//
// A server can return the errors to its client: [ErrNotFound], a [*MethodError], an error
// with status 400 for a malformed query, and those of [Request.Check].
func ParseRequest(method string, u *url.URL) (Request, error) {
	rt, repo, ref := parsePath(u)
	if rt == nil {
		return Request{}, ErrNotFound
	}
	kind, err := rt.kind(method)
	if err != nil {
		return Request{}, err
	}
	r := Request{Kind: kind, Repository: repo, ListN: -1}
	switch kind {
	case Referrers, BlobGet, BlobHead, BlobDelete:
		r.Digest = ociregistry.Digest(ref)
	case ManifestGet, ManifestHead, ManifestPut, ManifestDelete:
		r.SetRef(ref)
	case UploadStatus, UploadChunk, UploadFinish, UploadCancel:
		r.UploadID = DecodeUploadID(ref)
	}
	if u.RawQuery != "" {
		query, err := url.ParseQuery(u.RawQuery)
		if err != nil {
			return Request{}, BadRequest("invalid query parameters")
		}
		if err := r.setQuery(query); err != nil {
			return Request{}, err
		}
	}
	if err := r.Check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// parsePath returns the route of a path, the repository in it, and its last element if
// that is variable. It parses from the right, since names of repositories may have
// elements such as "blobs" and "uploads".
func parsePath(u *url.URL) (rt route, repo, ref string) {
	if strings.Contains(u.RawPath, "%2F") || strings.Contains(u.RawPath, "%2f") {
		return nil, "", ""
	}
	if u.Path == "/v2" {
		return pingRoute, "", ""
	}
	path, ok := strings.CutPrefix(u.Path, "/v2/")
	if !ok {
		return nil, "", ""
	}
	switch path {
	case "":
		return pingRoute, "", ""
	case "_catalog":
		return catalogRoute, "", ""
	}
	if repo, ok := strings.CutSuffix(strings.TrimSuffix(path, "/"), "/blobs/uploads"); ok {
		return uploadsRoute, repo, ""
	}
	repo, ref, ok = cutLast(path)
	if !ok || ref == "" {
		return nil, "", ""
	}
	repo, collection, ok := cutLast(repo)
	if !ok {
		return nil, "", ""
	}
	switch collection {
	case "blobs":
		return blobRoute, repo, ref
	case "manifests":
		return manifestRoute, repo, ref
	case "referrers":
		return referrersRoute, repo, ref
	case "tags":
		if ref == "list" {
			return tagsRoute, repo, ""
		}
	case "uploads":
		if repo, ok := strings.CutSuffix(repo, "/blobs"); ok {
			return uploadRoute, repo, ref
		}
	}
	return nil, "", ""
}

func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return path, "", false
	}
	return path[:i], path[i+1:], true
}

// setQuery sets the fields that a request of r's kind has in its query.
func (r *Request) setQuery(q url.Values) error {
	switch r.Kind {
	case Catalog, TagsList:
		r.ListLast = q.Get("last")
		if q.Has("n") {
			n, err := strconv.ParseUint(q.Get("n"), 10, 31)
			if err != nil {
				return BadRequest("query parameter n is not a valid integer")
			}
			r.ListN = int(n)
		}
	case Referrers:
		r.ArtifactType = q.Get("artifactType")
		r.ListLast = q.Get("last")
	case UploadStart:
		r.setUploadStart(q)
	case UploadFinish:
		r.Digest = ociregistry.Digest(q.Get("digest"))
	case ManifestPut:
		r.Tags = q["tag"]
	}
	switch r.Kind {
	case TagsList, Referrers, BlobGet, BlobHead, ManifestGet, ManifestHead:
		r.Namespace = q.Get("ns")
	}
	return nil
}

// setUploadStart distinguishes the kinds of POST to uploads.
func (r *Request) setUploadStart(q url.Values) {
	if mount := q.Get("mount"); mount != "" {
		r.Kind = BlobMount
		r.Digest = ociregistry.Digest(mount)
		r.FromRepository = q.Get("from")
		return
	}
	r.Algorithm = digest.Algorithm(q.Get("digest-algorithm"))
	if d := q.Get("digest"); d != "" {
		r.Kind = BlobPost
		r.Digest = ociregistry.Digest(d)
	}
}

// uploadIDEncoding is strict, so that each id has one spelling.
var uploadIDEncoding = base64.RawURLEncoding.Strict()

// EncodeUploadID returns id in the form that paths have: base64url without padding
// (RFC 4648, section 5).
func EncodeUploadID(id string) string {
	return uploadIDEncoding.EncodeToString([]byte(id))
}

// DecodeUploadID returns the id that EncodeUploadID encodes as elem, or "".
func DecodeUploadID(elem string) string {
	if len(elem) > uploadIDEncoding.EncodedLen(maxUploadID) || strings.ContainsAny(elem, "\r\n") {
		return "" // the decoder would skip line ends
	}
	id, err := uploadIDEncoding.DecodeString(elem)
	if err != nil {
		return ""
	}
	return string(id)
}
