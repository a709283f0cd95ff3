package ociauth

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// requiredScope returns the scope that a request needs: the one in its context, or else
// the one for its method and path (distribution specification, section "Endpoints").
// It is empty for other paths.
func requiredScope(req *http.Request) Scope {
	if s := RequestInfoFromContext(req.Context()).RequiredScope; s.Len() > 0 {
		return s
	}
	repo, rest := splitPath(req.URL.Path)
	if repo == "" {
		if req.URL.Path == "/v2/_catalog" {
			return NewScope(CatalogScope)
		}
		return Scope{}
	}
	on := func(repo, action string) ResourceScope { return ResourceScope{TypeRepository, repo, action} }
	upload := strings.HasPrefix(rest, "blobs/uploads")
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

// mountFrom returns the source repository of a mount, or "".
func mountFrom(u *url.URL) string {
	q := u.Query()
	if from := q.Get("from"); q.Has("mount") && ociref.IsValidRepository(from) {
		return from
	}
	return ""
}

// targetRepository returns the repository that a request is about, or "": the one in
// its path, or else one that it pushes to, or else one that it pulls from.
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

// splitPath splits a path of the API into the repository and the rest. It accepts upload
// locations of any form below "blobs/uploads". Both results are empty for another path.
func splitPath(path string) (repo, rest string) {
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
