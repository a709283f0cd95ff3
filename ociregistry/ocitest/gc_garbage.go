package ocitest

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The clauses of RunGC about what is garbage.

func gcYoung(t *gcTest) {
	orphan := t.pushBlob("app", 10)
	untagged := t.push("app", t.newImage())
	dangling := t.push("app", t.newReferrer(t.newImage()), "tagged")
	t.wait(59 * time.Minute)
	t.wantNothing(t.collect(allGarbage))
	t.wantKept("app", untagged, dangling)
	t.wantBlob("app", orphan)
	t.wait(time.Minute)
	t.collect(allGarbage)
	t.wantRepositories()
}

func gcJustOrphaned(t *gcTest) {
	moved := t.push("app", t.newImage(), "moved")
	deleted := t.push("app", t.newImage(), "deleted")
	child := t.newImage()
	index := t.push("app", NewIndex(Spec{}, child), "index")
	subject := t.push("app", t.newImage(), "subject")
	referrer := t.push("app", t.newReferrer(subject))
	t.wait(2 * time.Hour)
	kept := t.push("app", t.newImage(), "moved")
	t.deleteTag("app", "deleted")
	t.deleteManifest("app", index)
	t.deleteManifest("app", subject)
	t.collect(allGarbage)
	t.wantKept("app", moved, deleted, child, referrer, kept)
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantGone("app", moved, deleted, child, referrer)
	t.wantKept("app", kept)
}

func gcOrphanBlobs(t *gcTest) {
	image := t.push("app", t.newImage(), "v1")
	orphan := t.pushBlob("app", 10)
	elsewhere := t.pushBlob("other", 20)
	t.wait(2 * time.Hour)
	young := t.pushBlob("app", 30)
	t.collect(allGarbage)
	t.wantNoBlob("app", orphan)
	t.wantNoBlob("other", elsewhere)
	t.wantBlob("app", young)
	t.wantKept("app", image)
	t.wantRemovedBlobs(2, 30)
}

func gcUntagged(t *gcTest) {
	image := t.push("app", t.newImage())
	t.wait(2 * time.Hour)
	opts := allGarbage
	opts.Untagged = false
	t.wantNothing(t.collect(opts))
	t.wantKept("app", image)
	t.collect(allGarbage)
	t.wantGone("app", image)
}

func gcUploads(t *gcTest) {
	begin := func(text string) string {
		w, err := t.reg.PushBlobChunked(t.Context(), "app", 0)
		t.must(err, "PushBlobChunked")
		_, err = w.Write([]byte(text))
		t.must(err, "Write")
		t.must(w.Close(), "Close")
		return w.ID()
	}
	abandoned, continued := begin("abandoned"), begin("continued")
	t.wait(50 * time.Minute)
	w, err := t.reg.PushBlobChunkedResume(t.Context(), "app", continued, -1, 0)
	t.must(err, "PushBlobChunkedResume")
	_, err = w.Write([]byte(", later"))
	t.must(err, "Write")
	t.must(w.Close(), "Close")
	t.wait(20 * time.Minute)
	report := t.collect(allGarbage)
	if report.Uploads != 1 || report.Bytes != int64(len("abandoned")) {
		t.Errorf("report has %d uploads and %d bytes, want 1 and %d", report.Uploads, report.Bytes, len("abandoned"))
	}
	if w, err := t.reg.PushBlobChunkedResume(t.Context(), "app", abandoned, -1, 0); err == nil {
		t.Errorf("an abandoned upload can be continued")
		w.Cancel()
	}
	w, err = t.reg.PushBlobChunkedResume(t.Context(), "app", continued, -1, 0)
	t.must(err, "PushBlobChunkedResume after GC")
	_, err = w.Commit(digest.FromString("continued, later"))
	t.must(err, "Commit after GC")
}

func gcIndexes(t *gcTest) {
	inner := NewIndex(Spec{}, t.newImage(), t.newImage())
	outer := NewIndex(Spec{}, NewIndex(Spec{}, inner, t.newImage()), t.newImage())
	t.push("app", outer, "v1")
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.wantKept("app", outer)
	t.deleteManifest("app", outer)
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantGone("app", outer)
	t.wantRepositories()
}

func gcReferrers(t *gcTest) {
	child := t.newImage()
	index := t.push("app", NewIndex(Spec{}, NewIndex(Spec{}, child)), "v1")
	var referrers []*Artifact
	for _, subject := range []*Artifact{index, index.Children[0], child} {
		oci := t.push("app", t.newReferrer(subject))
		referrers = append(referrers, oci,
			t.push("app", t.newORAS(subject)),
			t.push("app", t.newReferrer(subject), "sbom"),
			t.push("app", t.newORAS(t.push("app", t.newReferrer(oci)))))
	}
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.wantKept("app", index)
	t.wantKept("app", referrers...)
}

func gcDangling(t *gcTest) {
	nowhere := t.newImage()
	artifacts := []*Artifact{
		t.push("app", t.newReferrer(nowhere)),
		t.push("app", t.newORAS(nowhere)),
		t.push("app", t.newReferrer(nowhere), "tagged"),
	}
	artifacts = append(artifacts, t.push("app", t.newReferrer(artifacts[2])))
	t.wait(2 * time.Hour)
	opts := allGarbage
	opts.Dangling = false
	t.wantNothing(t.collect(opts))
	t.wantKept("app", artifacts...)
	// A referrer that is young keeps its own.
	young := t.push("app", t.newReferrer(nowhere))
	old := t.newReferrer(young)
	t.push("app", old)
	t.collect(allGarbage)
	t.wantGone("app", artifacts...)
	t.wantKept("app", young, old)
}

func gcSubjectDeleted(t *gcTest) {
	subject, other := t.push("app", t.newImage(), "v1"), t.push("app", t.newImage(), "v2")
	oci, oras := t.push("app", t.newReferrer(subject)), t.push("app", t.newORAS(subject))
	tagged := t.push("app", t.newReferrer(subject), "tagged")
	deep := t.push("app", t.newORAS(t.push("app", t.newReferrer(tagged))), "deep")
	of := t.push("app", t.newReferrer(other))
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.deleteManifest("app", subject)
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantGone("app", subject, oci, oras, tagged, deep)
	t.wantKept("app", other, of)
	t.wantTags("app", "v2")

	// The same if the subject goes because it has no tag.
	t.deleteTag("app", "v2")
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantRepositories()
}

func gcChain(t *gcTest) {
	subject := t.push("app", t.newImage(), "v1")
	first := t.push("app", t.newReferrer(subject))
	second := t.push("app", t.newReferrer(first))
	third := t.push("app", t.newORAS(second), "third")
	fourth := t.push("app", t.newReferrer(third))
	other := t.push("app", t.newReferrer(first))
	t.wait(2 * time.Hour)
	t.deleteManifest("app", second)
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantKept("app", subject, first, other)
	t.wantGone("app", second, third, fourth)
}

// What an index names stays, whatever its subject.
func gcReferrerInIndex(t *gcTest) {
	referrer := t.newReferrer(t.newImage())
	index := t.push("app", NewIndex(Spec{}, referrer), "v1")
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.wantKept("app", index, referrer)

	// An index that is a referrer keeps what it names only while it lives.
	subject := t.push("app", t.newImage(), "v2")
	about := NewIndex(Spec{Subject: &subject.Descriptor}, subject, t.newImage())
	t.push("app", about)
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.deleteTag("app", "v2")
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantGone("app", about, subject)
	t.wantKept("app", index)
}

// signatureTag returns the tag under which cosign keeps what is about an artifact.
func signatureTag(a *Artifact, suffix string) string {
	return strings.Replace(string(a.Descriptor.Digest), ":", "-", 1) + suffix
}

func gcSignatures(t *gcTest) {
	image := t.push("app", t.newImage(), "v1")
	signature := t.push("app", t.newImage(), signatureTag(image, ".sig"))
	ofSignature := t.push("app", t.newImage(), signatureTag(signature, ".att"))
	listed := t.newImage()
	list := t.push("app", NewIndex(Spec{}, listed), signatureTag(image, ""))
	alsoTagged := t.push("app", t.newImage(), signatureTag(image, ".sbom"), "sbom")
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.wantKept("app", image, signature, ofSignature, list, alsoTagged)
	t.deleteManifest("app", image)
	t.collect(allGarbage)
	t.wantKept("app", signature)
	t.wait(2 * time.Hour)
	opts := allGarbage
	opts.Dangling = false
	t.collect(opts)
	t.wantKept("app", signature, ofSignature, list)
	t.collect(allGarbage)
	t.wantGone("app", image, signature, ofSignature, list)
	t.wantKept("app", alsoTagged)
	t.wantTags("app", "sbom", signatureTag(image, ".sbom"))
}

func gcTwoTags(t *gcTest) {
	image := t.push("app", t.newImage(), "v1", "v2")
	t.wait(2 * time.Hour)
	t.deleteTag("app", "v1")
	t.wait(2 * time.Hour)
	t.wantNothing(t.collect(allGarbage))
	t.wantKept("app", image)
	t.wantTags("app", "v2")
}

func gcShared(t *gcTest) {
	t.seed++
	a := NewImage(Spec{Seed: t.seed, Layers: []int64{100, 200}})
	b := NewImage(Spec{Seed: t.seed, Layers: []int64{100, 300}})
	c := NewImage(Spec{Seed: t.seed, Layers: []int64{100, 200}, Annotations: map[string]string{"a": "b"}})
	t.push("app", a)
	t.push("app", b, "b")
	t.push("app", c, "c")
	t.wait(2 * time.Hour)
	report := t.collect(allGarbage)
	t.wantKept("app", b, c)
	if report.Manifests != 1 || report.Blobs != 0 {
		t.Errorf("report has %d manifests and %d blobs, want 1 and 0", report.Manifests, report.Blobs)
	}
}

// Whether content is as old in each repository as it is there, or as young everywhere as it is
// in one of them, is up to the registry.
func gcOldHereNewThere(t *gcTest) {
	ctx := t.Context()
	pushed, mounted, found := t.pushBlob("old", 10), t.pushBlob("old", 20), t.pushBlob("old", 30)
	image := t.push("old", t.newImage())
	t.wait(2 * time.Hour)
	_, err := t.reg.PushBlob(ctx, "new", pushed.Descriptor, pushed.NewReader())
	t.must(err, "PushBlob")
	_, err = t.reg.MountBlob(ctx, "old", "new", mounted.Descriptor.Digest)
	t.must(err, "MountBlob")
	_, err = t.reg.MountBlob(ctx, "", "new", found.Descriptor.Digest)
	t.must(err, "MountBlob")
	t.push("new", image, "v1")
	t.push("new", t.newImage(), "v1") // moves on
	t.collect(allGarbage)
	for _, b := range []Blob{pushed, mounted, found} {
		t.wantBlob("new", b)
	}
	t.wantKept("new", image)
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	for _, b := range []Blob{pushed, mounted, found} {
		t.wantNoBlob("new", b)
	}
	t.wantGone("new", image)
	t.wantRepositories("new")
}

// What a client was told to be there, it can name within the delay.
func gcReportedPresent(t *gcTest) {
	ctx := t.Context()
	image, child := t.newImage(), t.newImage()
	for _, b := range image.Blobs {
		_, err := t.reg.PushBlob(ctx, "app", b.Descriptor, b.NewReader())
		t.must(err, "PushBlob")
	}
	t.push("app", child)
	again := t.push("app", t.newImage())
	other := t.pushBlob("app", 10)
	named := t.newImage() // by what is garbage
	old := t.push("app", NewIndex(Spec{}, named))
	referrer := t.push("app", t.newReferrer(old))
	t.wait(2 * time.Hour)
	_, err := t.reg.PushManifest(ctx, "app", "", again.Manifest, again.Descriptor.MediaType)
	t.must(err, "PushManifest again")
	for _, b := range image.Blobs[1:] {
		_, err := t.reg.ResolveBlob(ctx, "app", b.Descriptor.Digest)
		t.must(err, "ResolveBlob")
	}
	_, err = t.reg.MountBlob(ctx, "app", "app", image.Blobs[0].Descriptor.Digest)
	t.must(err, "MountBlob")
	for _, a := range []*Artifact{child, named, referrer} {
		_, err = t.reg.ResolveManifest(ctx, "app", a.Descriptor.Digest)
		t.must(err, "ResolveManifest")
	}
	t.wait(59 * time.Minute)
	t.collect(allGarbage)
	t.wantNoBlob("app", other)
	_, err = t.reg.PushManifest(ctx, "app", "v1", image.Manifest, image.Descriptor.MediaType)
	t.must(err, "PushManifest of what was reported as present")
	index := NewIndex(Spec{}, child, named, referrer)
	_, err = t.reg.PushManifest(ctx, "app", "v2", index.Manifest, index.Descriptor.MediaType)
	t.must(err, "PushManifest of an index of what was reported as present")
	t.wantKept("app", image, index, again)
}

func gcLast(t *gcTest) {
	t.push("a", t.newImage(), "v1")
	t.pushBlob("b", 10)
	t.push("c", t.newImage())
	t.push("c/d", t.newImage())
	t.push("c/d/e", t.newImage(), "v1")
	t.wait(2 * time.Hour)
	report := t.collect(allGarbage)
	if report.Repositories != 5 {
		t.Errorf("report has %d repositories, want 5", report.Repositories)
	}
	t.wantRepositories("a", "c/d/e")
	t.onceGone(func() {
		t.push("c", t.newImage(), "v1")
		t.wantRepositories("a", "c", "c/d/e")
	})
}

func gcUnreadable(t *gcTest) {
	if t.opts.Damage == nil {
		t.Skip("nothing can make a manifest unreadable")
	}
	damaged := t.push("app", t.newImage(), "v1")
	untagged := t.push("app", t.newImage())
	orphan := t.pushBlob("app", 10)
	other := t.push("other", t.newImage())
	t.wait(2 * time.Hour)
	t.opts.Damage(t, t.reg, "app", damaged.Descriptor.Digest)
	for range 2 {
		opts := allGarbage
		opts.Now = t.now
		report, err := t.reg.GC(t.Context(), &opts)
		t.must(err, "GC")
		if len(report.Problems) != 1 || report.Problems[0].Repository != "app" || !strings.Contains(report.Problems[0].Error(), string(damaged.Descriptor.Digest)) {
			t.Errorf("report has problems %v, want one that names the manifest %s of app", report.Problems, damaged.Descriptor.Digest)
		}
		t.wantKept("app", untagged)
		t.wantBlob("app", orphan)
		t.wantGone("other", other)
	}
	t.push("app", damaged)
	t.wantKept("app", damaged)
	t.collect(allGarbage)
	t.wantGone("app", untagged)
	t.wantNoBlob("app", orphan)
	t.wantKept("app", damaged)
}

func gcReaders(t *gcTest) {
	ctx := t.Context()
	image := t.push("app", t.newImage())
	layer := image.Blobs[1]
	blob, err := t.reg.GetBlob(ctx, "app", layer.Descriptor.Digest)
	t.must(err, "GetBlob")
	contents, err := t.reg.GetManifest(ctx, "app", image.Descriptor.Digest)
	t.must(err, "GetManifest")
	t.wait(2 * time.Hour)
	t.collect(allGarbage)
	t.wantRepositories()
	CheckContent(t, blob, layer.Bytes(), "")
	CheckContent(t, contents, image.Manifest, ocispec.MediaTypeImageManifest)
}
