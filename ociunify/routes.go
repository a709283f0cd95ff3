package ociunify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/internal/byrepo"
	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Route leads repositories to a registry.
type Route struct {
	// Prefix is the beginning of the names of the repositories: whole elements, without a
	// slash at the end. The prefix "team" is that of team and team/app, and not of teams.
	// The empty prefix is that of all repositories.
	Prefix string

	// Registry has the repositories, under their whole names. For one that has them
	// without the prefix, see Under of package ocifilter.
	Registry ociregistry.Interface
}

// Routes returns a registry whose repositories are in several others. The route with the
// longest prefix leads to the registry of a repository. Where there is none, calls fail with
// [ociregistry.ErrNameUnknown]. What a registry has of repositories that other routes lead to is
// not seen.
//
// Repositories lists the names of all routes in byte order. It reads of each registry what
// is about its own prefix. A registry that has no list, and says so by
// [ociregistry.ErrUnsupported], is left out; any other error is one of the list.
//
// MountBlob between repositories of two routes copies the blob. Without a source it
// fails with [ociregistry.ErrUnsupported], and callers upload the blob instead: no registry knows
// what the others have, and that of the target may know the blob from a repository that is not
// seen here.
//
// An upload session belongs to the registry of its repository, so its id leads back there.
//
// The error says that a prefix is no repository name, or is given twice.
func Routes(list []Route) (ociregistry.Interface, error) {
	r := &routes{list: slices.Clone(list)}
	seen := make(map[string]bool)
	for _, route := range r.list {
		switch {
		case route.Prefix != "" && !ociref.IsValidRepository(route.Prefix):
			return nil, fmt.Errorf("prefix %.300q: %w", route.Prefix, ociregistry.ErrNameInvalid)
		case seen[route.Prefix]:
			return nil, fmt.Errorf("prefix %q is given twice", route.Prefix)
		}
		seen[route.Prefix] = true
	}
	r.Reads, r.Writes, r.Deletes = r.to, r.to, r.to
	return r, nil
}

type routes struct {
	byrepo.Base
	byrepo.Reads
	byrepo.Writes
	byrepo.Deletes
	list []Route
}

// RouteOf returns the index of the route that leads to a repository, which is the one with the
// longest prefix, or -1 if there is none.
func RouteOf(list []Route, repo string) int {
	best := -1
	for i, route := range list {
		if route.leads(repo) && (best < 0 || len(route.Prefix) > len(list[best].Prefix)) {
			best = i
		}
	}
	return best
}

// leads reports whether the repository is one of those that have the prefix.
func (r Route) leads(repo string) bool {
	rest, ok := strings.CutPrefix(repo, r.Prefix)
	return ok && (r.Prefix == "" || rest == "" || rest[0] == '/')
}

// noRoute is the registry of repositories without a route.
var noRoute = &ociregistry.Funcs{NewError: func(_ context.Context, method, repo string) error {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = fmt.Errorf("%w: no route leads to it", ociregistry.ErrNameUnknown)
	}
	return call.New(method, repo, "").Wrap(err)
}}

// to returns the registry of a repository.
func (r *routes) to(repo string) ociregistry.Interface {
	if i := RouteOf(r.list, repo); i >= 0 {
		return r.list[i].Registry
	}
	return noRoute
}

// MountBlob lets the registry mount if it has both repositories, and copies otherwise.
func (r *routes) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("MountBlob", toRepo, string(digest))
	if fromRepo != "" {
		if err := call.New("MountBlob", fromRepo, string(digest)).CheckRepository(); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if fromRepo == "" {
		return ociregistry.Descriptor{}, at.Wrap(errMountFromAny)
	}
	if RouteOf(r.list, fromRepo) == RouteOf(r.list, toRepo) {
		return r.to(toRepo).MountBlob(ctx, fromRepo, toRepo, digest)
	}
	rd, err := r.to(fromRepo).GetBlob(ctx, fromRepo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	defer rd.Close()
	desc := rd.Descriptor()
	desc.Digest = digest
	if desc.Size < 0 {
		return ociregistry.Descriptor{}, at.Wrap(fmt.Errorf("%w: the size of the blob is unknown", ociregistry.ErrUnsupported))
	}
	return r.to(toRepo).PushBlob(ctx, toRepo, desc, rd)
}

var errMountFromAny = fmt.Errorf("%w: a mount needs a source repository", ociregistry.ErrUnsupported)

// Repositories lists the names of all routes.
func (r *routes) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	merged := iter.Seq2[string, error](func(func(string, error) bool) {})
	for i := range r.list {
		merged = merge(merged, r.names(ctx, i, startAfter), strings.Compare)
	}
	return merged
}

// names lists the repositories that a route leads to.
func (r *routes) names(ctx context.Context, route int, startAfter string) iter.Seq2[string, error] {
	prefix := r.list[route].Prefix
	return func(yield func(string, error) bool) {
		for name, err := range r.list[route].Registry.Repositories(ctx, max(startAfter, before(prefix))) {
			switch {
			case errors.Is(err, ociregistry.ErrUnsupported):
				return
			case err != nil:
				yield("", err)
				return
			case name > prefix && !strings.HasPrefix(name, prefix):
				return
			case RouteOf(r.list, name) == route && !yield(name, nil):
				return
			}
		}
	}
}

// before returns a text that comes before a name, and after all names that come before it.
func before(name string) string {
	if name == "" {
		return ""
	}
	last := len(name) - 1
	return name[:last] + string(name[last]-1) + "~" // no name has a tilde, or anything after it
}
