package ocifs_test

import (
	"maps"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// invalid adds a call with an argument that is not valid, if the call has such an
// argument. The others are.
func (g *modelGen) invalid() {
	repo, dgst, tag, id := g.repo(), g.u.content("none").digest, g.tag(), "0"
	pick(g,
		func() { repo = pick(g, badRepos...) },
		func() { dgst = pick(g, badDigests...) },
		func() { tag = pick(g, badTags...) },
		func() { id = pick(g, badUploads...) },
	)()
	name := pick(g, slices.Sorted(maps.Keys(modelCalls))...)
	g.call(func(r ociregistry.Interface) modelResult {
		return modelCalls[name](r, repo, dgst, tag, id)
	}, "%s(%.20q, %.40q, %.20q, %.20q)", name, repo, dgst, tag, id)
}

// modelCalls has the calls for which arguments matter, with the arguments that
// can be invalid.
var modelCalls = map[string]func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, tag, id string) modelResult{
	"GetBlob": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		return readResult(r.GetBlobRange(modelCtx, repo, dgst, 0, -1))
	},
	"GetManifest": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		return readResult(r.GetManifest(modelCtx, repo, dgst))
	},
	"GetTag": func(r ociregistry.Interface, repo string, _ ociregistry.Digest, tag, _ string) modelResult {
		return readResult(r.GetTag(modelCtx, repo, tag))
	},
	"PushBlob": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		return descResult(r.PushBlob(modelCtx, repo, ociregistry.Descriptor{Digest: dgst, Size: 1}, iotest.ErrReader(errFromReader)))
	},
	"PushBlobChunked": func(r ociregistry.Interface, repo string, _ ociregistry.Digest, _, _ string) modelResult {
		w, err := r.PushBlobChunked(modelCtx, repo, 0)
		if err == nil {
			err = w.Cancel()
		}
		return modelResult{err: err}
	},
	"PushBlobChunkedResume": func(r ociregistry.Interface, repo string, _ ociregistry.Digest, _, id string) modelResult {
		if id == "0" {
			return modelResult{} // the map has that one
		}
		_, err := r.PushBlobChunkedResume(modelCtx, repo, id, -1, 0)
		return modelResult{err: err}
	},
	"MountBlob": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		_, err := r.MountBlob(modelCtx, "b", repo, dgst)
		return modelResult{err: err}
	},
	"MountBlob from": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		_, err := r.MountBlob(modelCtx, repo, "b", dgst)
		return modelResult{err: err}
	},
	"PushManifest": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, tag, _ string) modelResult {
		none := theModelUniverse().content("none")
		return descResult(r.PushManifest(modelCtx, repo, string(dgst), none.data, none.mediaType, "valid", tag))
	},
	"PushManifest by tag": func(r ociregistry.Interface, repo string, _ ociregistry.Digest, tag, _ string) modelResult {
		none := theModelUniverse().content("none")
		return descResult(r.PushManifest(modelCtx, repo, tag, none.data, none.mediaType))
	},
	"DeleteBlob": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		return modelResult{err: r.DeleteBlob(modelCtx, repo, dgst)}
	},
	"DeleteManifest": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		return modelResult{err: r.DeleteManifest(modelCtx, repo, dgst)}
	},
	"DeleteTag": func(r ociregistry.Interface, repo string, _ ociregistry.Digest, tag, _ string) modelResult {
		return modelResult{err: r.DeleteTag(modelCtx, repo, tag)}
	},
	"Tags": func(r ociregistry.Interface, repo string, _ ociregistry.Digest, _, _ string) modelResult {
		return listResult(r.Tags(modelCtx, repo, ""), -1, strings.Clone)
	},
	"Referrers": func(r ociregistry.Interface, repo string, dgst ociregistry.Digest, _, _ string) modelResult {
		return listResult(r.Referrers(modelCtx, repo, dgst, ""), -1, showDesc)
	},
}
