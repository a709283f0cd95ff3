package ociauth

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// requiredScope returns what a request needs: what its context says, else what
// its method and path tell (distribution specification, section "Endpoints").
// For a path that tells nothing it is empty.
func requiredScope(req *http.Request) Scope {
	if s := RequestInfoFromContext(req.Context()).RequiredScope; s.Len() > 0 {
		return s
	}
	repo, what := splitPath(req.URL.Path)
	if repo == "" {
		if req.URL.Path == "/v2/_catalog" {
			return NewScope(CatalogScope)
		}
		return Scope{}
	}
	on := func(repo, action string) ResourceScope { return ResourceScope{TypeRepository, repo, action} }
	upload := strings.HasPrefix(what, "blobs/uploads")
	switch {
	case upload && req.Method == http.MethodPost:
		if from := mountFrom(req.URL); from != "" {
			return NewScope(on(from, ActionPull), on(repo, ActionPull), on(repo, ActionPush))
		}
	case upload:
	case req.Method == http.MethodGet, req.Method == http.MethodHead:
		return NewScope(on(repo, ActionPull))
	case req.Method == http.MethodDelete:
		return NewScope(on(repo, ActionDelete))
	}
	return NewScope(on(repo, ActionPull), on(repo, ActionPush))
}

// mountFrom returns the repository that a mount names as its source, or "".
func mountFrom(u *url.URL) string {
	q := u.Query()
	if from := q.Get("from"); q.Has("mount") && ociref.IsValidRepository(from) {
		return from
	}
	return ""
}

// targetRepository returns the repository that a request is about, or "": the
// one in its path, else one that it pushes to, else one that it pulls from.
func targetRepository(req *http.Request, required Scope) string {
	if repo, _ := splitPath(req.URL.Path); repo != "" {
		return repo
	}
	found := ""
	for r := range required.Iter() {
		if r.ResourceType == TypeRepository && (found == "" || r.Action == ActionPush) {
			found = r.Resource
		}
	}
	return found
}

// splitPath returns the repository in a path of the API, and what is asked of
// it. It takes upload locations of any form below "blobs/uploads". Both are
// empty for another path.
func splitPath(path string) (repo, what string) {
	path, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", ""
	}
	i := -1
	if before, _, ok := strings.Cut(path, "/blobs/uploads/"); ok {
		i = len(before)
	} else {
		i = max(
			strings.LastIndex(path, "/blobs/"),
			strings.LastIndex(path, "/manifests/"),
			strings.LastIndex(path, "/referrers/"),
			strings.LastIndex(path, "/tags/"),
		)
	}
	if i < 0 || !ociref.IsValidRepository(path[:i]) {
		return "", ""
	}
	return path[:i], path[i+1:]
}
