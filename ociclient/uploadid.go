package ociclient

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The id of a session is its location, which is all that another client of the registry
// needs: the last element and the query, if the location has the form that the
// specification shows, or else the whole path. The id may start with the minimum size of
// a chunk, because the registry sends that size only when it opens the session, with a
// "+" if nothing was sent yet, and with a "#", which no location contains. Ids come back
// from callers, and from clients of a proxy, who must not be able to direct requests with it.

// id returns the session's id.
func (u *upload) id() string {
	loc := u.location.EscapedPath()
	if u.location.RawQuery != "" {
		loc += "?" + u.location.RawQuery
	}
	if !wire.SameOrigin(u.location, &u.c.base) {
		return wire.EncodeUploadID(u.location.Scheme + "://" + u.location.Host + loc) // cannot be resumed
	}
	loc = strings.TrimPrefix(loc, uploadsOf(u.repo)[0])
	head := ""
	if u.minChunk > 0 {
		head = strconv.FormatInt(u.minChunk, 10)
	}
	if u.unused {
		head += "+"
	}
	if head != "" {
		loc = head + "#" + loc
	}
	return wire.EncodeUploadID(loc)
}

// uploadsOf returns the paths below which the sessions of a repository can be: that of the
// specification, and another one that registries use.
func uploadsOf(repo string) [2]string {
	return [2]string{"/v2/" + repo + "/blobs/uploads/", "/v2/" + repo + "/blobs/upload/"}
}

// uploadByID returns the session with an id. Its location must be one element below the
// paths of the repository's sessions, where nothing else can be, in the spelling of the
// method id, so that parsing and formatting never make an id longer.
func (c *client) uploadByID(repo, id string) (*upload, error) {
	head, loc, ok := strings.Cut(wire.DecodeUploadID(id), "#")
	if !ok {
		head, loc = "", head
	}
	least, unused := strings.CutSuffix(head, "+")
	if !strings.HasPrefix(loc, "/") {
		loc = uploadsOf(repo)[0] + loc
	}
	escaped, query, _ := strings.Cut(loc, "?")
	path, err := url.PathUnescape(escaped)
	u := c.base
	u.Path, u.RawPath, u.RawQuery = path, escaped, query
	if err != nil || u.EscapedPath() != escaped || !isUploadPath(path, repo) || strings.ContainsFunc(query, notInQuery) {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	minChunk, _ := strconv.ParseInt(least, 10, 64) // zero if there is none
	return &upload{c: c, repo: repo, location: &u, minChunk: minChunk, unused: unused}, nil
}

func isUploadPath(path, repo string) bool {
	for _, prefix := range uploadsOf(repo) {
		if elem, ok := strings.CutPrefix(path, prefix); ok {
			return elem != "" && elem != "." && elem != ".." && !strings.ContainsAny(elem, `/\`)
		}
	}
	return false
}

// notInQuery reports whether r cannot stand in a query (RFC 3986, section 3.4).
func notInQuery(r rune) bool { return r <= ' ' || r > '~' || r == '#' }
