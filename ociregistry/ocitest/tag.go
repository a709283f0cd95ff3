package ocitest

import (
	"github.com/seed-40b21970/oci/ociregistry"
)

var tagClauses = []clause{
	{name: "Moves", needs: MoveTags, run: tagMoves},
	{name: "MovesBack", needs: MoveTags, run: tagMovesBack},
	{name: "OfSeveral", needs: MoveTags, run: tagOfSeveral},
	{name: "OneRepositoryOnly", needs: PushManifests, run: tagOneRepository},
	{name: "CaseMatters", needs: PushManifests, run: tagCase},
	{name: "Stays", needs: PushManifests, run: tagStays, when: tagsStay},
	{name: "StaysWithItsManifest", needs: DeleteManifests, run: tagKeepsManifest, when: tagsStay},
}

// When a tag moves, the manifest that it pointed at can still be read by digest.
func tagMoves(t *test) {
	one, two := t.mustPushImage("foo", 1, "v1"), NewImage(Spec{Seed: 2})
	t.mustPush("foo", two)
	t.must(t.pushManifest("foo", "v1", two.Manifest, two.Descriptor.MediaType), "PushManifest of a tag that exists")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v1")
	t.wantManifest("foo", one.Manifest, one.Descriptor)
	t.wantTags("foo", "v1")
}

func tagMovesBack(t *test) {
	one, two := numbered(1), numbered(2)
	for range 3 {
		for _, a := range []*Artifact{one, two} {
			t.must(t.pushManifest("foo", "v1", a.Manifest, a.Descriptor.MediaType), "PushManifest")
			t.wantManifest("foo", a.Manifest, a.Descriptor, "v1")
		}
	}
}

// Moving one of several tags of a manifest does not move the others.
func tagOfSeveral(t *test) {
	one, two := numbered(1), numbered(2)
	t.mustPush("foo", one, "v1", "v2", "v3")
	t.must(t.pushManifest("foo", "v2", two.Manifest, two.Descriptor.MediaType, "v4"), "PushManifest to a tag that exists and a new one")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1", "v3")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v2", "v4")
	t.wantTags("foo", "v1", "v2", "v3", "v4")
}

func tagOneRepository(t *test) {
	one, two := numbered(1), numbered(2)
	t.must(t.pushManifest("foo", "v1", one.Manifest, one.Descriptor.MediaType), "PushManifest to foo")
	t.must(t.pushManifest("foo/bar", "v1", two.Manifest, two.Descriptor.MediaType), "PushManifest to foo/bar")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1")
	t.wantManifest("foo/bar", two.Manifest, two.Descriptor, "v1")
	t.wantNoManifest("foo", two.Descriptor.Digest, "after it was pushed to foo/bar")
}

func tagCase(t *test) {
	one, two := numbered(1), numbered(2)
	t.must(t.pushManifest("foo", "Latest", one.Manifest, one.Descriptor.MediaType), "PushManifest")
	t.wantNoTag("foo", "latest", "after Latest was pushed")
	t.must(t.pushManifest("foo", "latest", two.Manifest, two.Descriptor.MediaType), "PushManifest")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "Latest")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "latest")
	t.wantTags("foo", "Latest", "latest")
}

func tagsStay(o Options) bool { return o.Denied&MoveTags != 0 && o.Denied&PushManifests == 0 }

// If tags must not move, a push that would move one has no effect at all.
func tagStays(t *test) {
	one, two := numbered(1), numbered(2)
	for range 2 { // the second changes nothing
		t.must(t.pushManifest("foo", "v1", one.Manifest, one.Descriptor.MediaType), "PushManifest")
	}
	denied := is(ociregistry.ErrDenied)
	for _, tags := range [][]string{{"v1"}, {"v1", "v2"}, {"v2", "v1"}} {
		t.wantErr(t.pushManifest("foo", "", two.Manifest, two.Descriptor.MediaType, tags...), denied, "PushManifest that moves a tag, with tags %q", tags)
		t.wantErr(t.pushManifest("foo", tags[0], two.Manifest, two.Descriptor.MediaType, tags[1:]...), denied, "PushManifest that moves a tag, with tags %q", tags)
	}
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1")
	t.wantNoManifest("foo", two.Descriptor.Digest, "after pushes that were denied")
	t.wantTags("foo", "v1")
	t.must(t.pushManifest("foo", "v2", two.Manifest, two.Descriptor.MediaType), "PushManifest with a new tag")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v2")
}

func tagKeepsManifest(t *test) {
	a := numbered(1)
	t.mustPush("foo", a, "v1")
	err := t.reg.DeleteManifest(t.Context(), "foo", a.Descriptor.Digest)
	t.wantErr(err, is(ociregistry.ErrDenied), "DeleteManifest of a manifest with a tag that must not move")
	t.wantManifest("foo", a.Manifest, a.Descriptor, "v1")
}
