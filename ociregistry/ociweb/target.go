package ociweb

import (
	"net/url"
	"strings"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// kind is the first element of the path of a page. The elements after it are a reference as
// people write it. The names of repositories stand behind a fixed element, so that none can be
// taken for another page, or for /v2/.
type kind string

const (
	repositoriesKind kind = ""
	manifestKind     kind = "r"
	compareKind      kind = "compare"
	jsonKind         kind = "json"
)

// target is what a page is about.
type target struct {
	kind      kind
	repo, ref string // ref is a tag, a digest or empty
}

// parseTarget parses a path, and reports whether there can be a page with it.
func parseTarget(path string) (target, bool) {
	if path == "/" {
		return target{}, true
	}
	first, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	t := target{kind: kind(first)}
	if !ok {
		return t, false
	}
	name, digest, hasDigest := strings.Cut(rest, "@")
	name, tag, hasTag := strings.Cut(name, ":")
	t.repo, t.ref = name, tag
	if hasDigest {
		t.ref = digest
	}
	hasRef := hasTag || hasDigest
	if !ociref.IsValidRepository(name) || hasTag && !ociref.IsValidTag(tag) || hasDigest && !ociref.IsValidDigest(digest) {
		return t, false
	}
	switch t.kind {
	case manifestKind:
		return t, true
	case compareKind:
		return t, !hasRef
	case jsonKind:
		return t, hasRef
	}
	return t, false
}

// reference returns how people write the manifest ref of repo. An empty ref is the repository.
func reference(repo, ref string) string {
	switch {
	case ref == "":
		return repo
	case call.IsDigest(ref):
		return repo + "@" + ref
	}
	return repo + ":" + ref
}

// isRef reports whether s is a tag or a digest.
func isRef(s string) bool {
	if call.IsDigest(s) {
		return ociregistry.CheckDigest(ociregistry.Digest(s)) == nil
	}
	return ociref.IsValidTag(s)
}

// root returns the relative URL of the first page. A prefix that was stripped from the path is
// not known, and need not be.
func (x *exchange) root() string {
	depth := strings.Count(x.req.URL.EscapedPath(), "/") - 1
	if depth <= 0 {
		return "./"
	}
	return strings.Repeat("../", depth)
}

// url returns the relative URL of a page, with the names and values in params as its query;
// empty values are left out. Names and digests of the target need no escapes.
func (x *exchange) url(t target, params ...string) string {
	u := x.root()
	if t.kind != repositoriesKind {
		u += string(t.kind) + "/" + reference(t.repo, t.ref)
	}
	query := url.Values{}
	for i := 0; i < len(params); i += 2 {
		if params[i+1] != "" {
			query.Add(params[i], params[i+1])
		}
	}
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}

// manifestURL returns the relative URL of the page of a manifest, or of the tags of repo.
func (x *exchange) manifestURL(ref string) string {
	return x.url(target{manifestKind, x.repo, ref})
}
