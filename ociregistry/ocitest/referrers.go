package ocitest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

var referrersClauses = []clause{
	{name: "NoneAtFirst", needs: ListReferrers, run: referrersNone},
	{name: "Image", needs: ListReferrers, run: referrersImage},
	{name: "ConfigMediaTypeIsArtifactType", needs: ListReferrers, run: referrersConfig},
	{name: "Index", needs: ListReferrers, run: referrersIndex},
	{name: "ORASArtifact", needs: ListReferrers, run: referrersORAS},
	{name: "Annotations", needs: ListReferrers, run: referrersAnnotations},
	{name: "Filter", needs: ListReferrers, run: referrersFilter},
	{name: "InByteOrder", needs: ListReferrers, run: referrersOrder},
	{name: "AfterADigest", needs: ListReferrers, run: referrersAfter},
	{name: "SubjectPushedLater", needs: ListReferrers, run: referrersBeforeSubject},
	{name: "SHA512Subject", needs: ListReferrers, run: referrersSHA512},
	{name: "OfReferrers", needs: ListReferrers, run: referrersOfReferrers},
	{name: "OnceEach", needs: ListReferrers, run: referrersOnce},
	{name: "OneRepositoryOnly", needs: ListReferrers, run: referrersElsewhere},
	{name: "DeletedReferrer", needs: ListReferrers | DeleteManifests | MoveTags, run: referrersDeleted},
	{name: "DeletedSubject", needs: ListReferrers | DeleteManifests | MoveTags, run: referrersSubjectDeleted},
	{name: "StopsEarlyAndAsksAgain", needs: ListReferrers, run: referrersStop},
	{name: "LoopsMayCallBack", needs: ListReferrers | DeleteManifests, run: referrersCallBack},
}

// wantReferrers checks the referrers of d in any order. The order is checked by
// referrersOrder.
func (t *test) wantReferrers(repo string, d ociregistry.Digest, artifactType string, want ...ociregistry.Descriptor) {
	t.Helper()
	got, err := ociregistry.All(t.reg.Referrers(t.Context(), repo, d, artifactType))
	if err != nil {
		t.Errorf("Referrers in %s: unexpected error: %v", repo, err)
		return
	}
	show := func(descs []ociregistry.Descriptor) []string {
		var all []string
		for _, d := range descs {
			s := fmt.Sprintf("%s %s of %d bytes with artifact type %q", d.MediaType, d.Digest, d.Size, d.ArtifactType)
			for _, k := range slices.Sorted(maps.Keys(d.Annotations)) {
				s += fmt.Sprintf(" and annotation %q=%q", k, d.Annotations[k])
			}
			all = append(all, s)
		}
		slices.Sort(all)
		return all
	}
	if got, want := show(got), show(want); !slices.Equal(got, want) {
		t.Errorf("Referrers in %s with filter %q:\ngot  %s\nwant %s", repo, artifactType, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// referrerTo returns an artifact and its descriptor in a list of referrers.
func referrerTo(subject ociregistry.Descriptor, artifactType string, annotations map[string]string) (*Artifact, ociregistry.Descriptor) {
	a := NewImage(Spec{ArtifactType: artifactType, Subject: &subject, Annotations: annotations})
	desc := a.Descriptor
	desc.Annotations = annotations
	return a, desc
}

func referrersNone(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	t.wantReferrers("foo", image.Descriptor.Digest, "")
	t.wantReferrers("foo", other, "")
	t.wantReferrers("foo", image.Blobs[0].Descriptor.Digest, "")
	t.wantReferrers("unknown", other, "")
	t.wantReferrers("unknown", other, "text/plain")
	t.wantRepositories("after Referrers in an unknown one", "foo")
}

func referrersImage(t *test) {
	image := t.mustPushImage("foo", 1)
	a, desc := referrerTo(image.Descriptor, "text/plain", nil)
	t.mustPush("foo", a)
	t.wantReferrers("foo", image.Descriptor.Digest, "", desc)
	t.wantReferrers("foo", a.Descriptor.Digest, "")
}

// The artifact type of an image without one is the media type of its config.
func referrersConfig(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	config := t.mustPushBlob("foo", []byte("{}"))
	config.MediaType = "application/vnd.example.config+json"
	image := jsonObject{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{}, "subject": subject}
	implicit := t.mustPushManifest("foo", image, ocispec.MediaTypeImageManifest)
	implicit.ArtifactType = config.MediaType
	image["artifactType"] = "application/vnd.example.explicit"
	explicit := t.mustPushManifest("foo", image, ocispec.MediaTypeImageManifest)
	explicit.ArtifactType = "application/vnd.example.explicit"

	t.wantReferrers("foo", subject.Digest, "", implicit, explicit)
	t.wantReferrers("foo", subject.Digest, implicit.ArtifactType, implicit)
	t.wantReferrers("foo", subject.Digest, explicit.ArtifactType, explicit)
}

// An index has no config. Its artifact type is the one in the index, or empty.
func referrersIndex(t *test) {
	subject := t.mustPushImage("foo", 1)
	plain := NewIndex(Spec{Subject: &subject.Descriptor}, subject)
	typed := NewIndex(Spec{Subject: &subject.Descriptor, ArtifactType: "text/plain"}, subject)
	t.mustPush("foo", plain)
	t.mustPush("foo", typed)
	t.wantReferrers("foo", subject.Descriptor.Digest, "", plain.Descriptor, typed.Descriptor)
	t.wantReferrers("foo", subject.Descriptor.Digest, "text/plain", typed.Descriptor)
}

func referrersORAS(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	blob := t.mustPushBlob("foo", []byte("signature"))
	var want []ociregistry.Descriptor
	for _, mediaType := range []string{mediaTypeORASArtifact, mediaTypeOCIArtifact} {
		desc := t.mustPushManifest("foo", jsonObject{
			"mediaType": mediaType, "artifactType": "text/plain", "blobs": []any{blob}, "subject": subject,
			"annotations": jsonObject{"a": "b"},
		}, mediaType)
		desc.ArtifactType = "text/plain"
		desc.Annotations = map[string]string{"a": "b"}
		want = append(want, desc)
	}
	t.wantReferrers("foo", subject.Digest, "", want...)
	t.wantReferrers("foo", subject.Digest, "text/plain", want...)
}

func referrersAnnotations(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	a, desc := referrerTo(subject, "text/plain", map[string]string{"org.example.a": "1", "org.example.b": "<ü>"})
	t.mustPush("foo", a)
	t.wantReferrers("foo", subject.Digest, "", desc)

	// The caller may modify the descriptors.
	for d, err := range t.reg.Referrers(t.Context(), "foo", subject.Digest, "") {
		t.must(err, "Referrers")
		clear(d.Annotations)
	}
	t.wantReferrers("foo", subject.Digest, "", desc)
}

func referrersFilter(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	byType := make(map[string][]ociregistry.Descriptor)
	for i := range 12 {
		artifactType := fmt.Sprint("application/vnd.example.", i%3)
		a, desc := referrerTo(subject, artifactType, map[string]string{"i": fmt.Sprint(i)})
		t.mustPush("foo", a)
		byType[artifactType] = append(byType[artifactType], desc)
		byType[""] = append(byType[""], desc)
	}
	for artifactType, want := range byType {
		t.wantReferrers("foo", subject.Digest, artifactType, want...)
	}
	for _, artifactType := range []string{"application/vnd.example", "application/vnd.example.3", "a&artifactType=b", "*"} {
		t.wantReferrers("foo", subject.Digest, artifactType)
	}
}

func referrersOrder(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	var want, got []string
	for i := range 40 {
		a, _ := referrerTo(subject, "text/plain", map[string]string{"i": fmt.Sprint(i)})
		t.mustPush("foo", a)
		want = append(want, string(a.Descriptor.Digest))
	}
	slices.Sort(want)
	for d, err := range t.reg.Referrers(t.Context(), "foo", subject.Digest, "") {
		t.must(err, "Referrers")
		got = append(got, string(d.Digest))
	}
	t.wantList(got, nil, want, "Referrers")
}

// All referrers that are greater than the digest in the context are listed; the others may
// be. The hint applies to one call.
func referrersAfter(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	var all []string
	for i := range 20 {
		a, _ := referrerTo(subject, "text/plain", map[string]string{"i": fmt.Sprint(i)})
		t.mustPush("foo", a)
		all = append(all, string(a.Descriptor.Digest))
	}
	slices.Sort(all)
	for _, after := range []string{all[0], all[9], all[9][:20], all[19], "sha256:", "~", ""} {
		ctx := ociregistry.WithReferrersAfter(t.Context(), ociregistry.Digest(after))
		var got, want []string
		for d, err := range t.reg.Referrers(ctx, "foo", subject.Digest, "text/plain") {
			t.must(err, "Referrers")
			if string(d.Digest) > after {
				got = append(got, string(d.Digest))
			}
		}
		for _, d := range all {
			if d > after {
				want = append(want, d)
			}
		}
		t.wantList(got, nil, want, fmt.Sprintf("Referrers after %q", after))
	}
	n := 0
	for _, err := range t.reg.Referrers(t.Context(), "foo", subject.Digest, "") {
		t.must(err, "Referrers")
		n++
	}
	if n != len(all) {
		t.Errorf("Referrers, asked for all after it was asked for the end: got %d, want %d", n, len(all))
	}
}

func referrersBeforeSubject(t *test) {
	image := NewImage(Spec{Layers: []int64{100}})
	a, desc := referrerTo(image.Descriptor, "text/plain", nil)
	t.mustPush("foo", a)
	t.wantReferrers("foo", image.Descriptor.Digest, "", desc)
	t.mustPush("foo", image, "v1")
	t.wantReferrers("foo", image.Descriptor.Digest, "", desc)
}

func referrersSHA512(t *test) {
	image := t.mustPushImage("foo", 1)
	subject := image.Descriptor
	subject.Digest = digest.SHA512.FromBytes(image.Manifest)
	a, desc := referrerTo(subject, "text/plain", nil)
	t.mustPush("foo", a)
	t.wantReferrers("foo", subject.Digest, "", desc)
	t.wantReferrers("foo", image.Descriptor.Digest, "")
}

// A referrer can be a subject and can have tags.
func referrersOfReferrers(t *test) {
	image := t.mustPushImage("foo", 1)
	first, firstDesc := referrerTo(image.Descriptor, "text/plain", nil)
	second, secondDesc := referrerTo(first.Descriptor, "text/plain", nil)
	t.mustPush("foo", second, "second")
	t.mustPush("foo", first, "first")
	t.wantReferrers("foo", image.Descriptor.Digest, "", firstDesc)
	t.wantReferrers("foo", first.Descriptor.Digest, "", secondDesc)
	t.wantReferrers("foo", second.Descriptor.Digest, "")
}

func referrersOnce(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	a, desc := referrerTo(subject, "text/plain", nil)
	for _, tags := range [][]string{nil, {"a"}, {"b", "c"}, nil} {
		t.mustPush("foo", a, tags...)
	}
	t.wantReferrers("foo", subject.Digest, "", desc)
	if t.has(DeleteTags) {
		t.must(t.reg.DeleteTag(t.Context(), "foo", "a"), "DeleteTag")
		t.wantReferrers("foo", subject.Digest, "", desc)
	}
}

func referrersElsewhere(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	t.mustPushImage("bar", 1)
	a, desc := referrerTo(subject, "text/plain", nil)
	t.mustPush("foo", a)
	t.wantReferrers("bar", subject.Digest, "")
	t.wantReferrers("foo", subject.Digest, "", desc)
}

func referrersDeleted(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	gone, desc := referrerTo(subject, "text/plain", nil)
	kept, keptDesc := referrerTo(subject, "text/html", nil)
	t.mustPush("foo", kept)
	for range 2 {
		t.mustPush("foo", gone, "v1")
		t.wantReferrers("foo", subject.Digest, "", desc, keptDesc)
		t.must(t.reg.DeleteManifest(t.Context(), "foo", gone.Descriptor.Digest), "DeleteManifest of a referrer")
		t.wantReferrers("foo", subject.Digest, "", keptDesc)
	}
}

func referrersSubjectDeleted(t *test) {
	subject := t.mustPushImage("foo", 1, "v1").Descriptor
	a, desc := referrerTo(subject, "text/plain", nil)
	t.mustPush("foo", a)
	t.must(t.reg.DeleteManifest(t.Context(), "foo", subject.Digest), "DeleteManifest of a subject")
	t.wantReferrers("foo", subject.Digest, "", desc)
}

func referrersStop(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	seq := t.reg.Referrers(t.Context(), "foo", subject.Digest, "")
	for i := range 10 {
		a, _ := referrerTo(subject, "text/plain", map[string]string{"i": fmt.Sprint(i)})
		t.mustPush("foo", a)
		for d, err := range seq {
			if err != nil || d.Digest == "" {
				t.Errorf("Referrers: got %v and error %v", d, err)
			}
			break
		}
		all, err := ociregistry.All(seq)
		if err != nil || len(all) != i+1 {
			t.Errorf("Referrers: got %d and error %v, want %d", len(all), err, i+1)
		}
	}
}

// The body of a loop can delete the referrers that it gets.
func referrersCallBack(t *test) {
	subject := t.mustPushImage("foo", 1).Descriptor
	for i := range 40 {
		a, _ := referrerTo(subject, "text/plain", map[string]string{"i": fmt.Sprint(i)})
		t.mustPush("foo", a)
	}
	err := t.promptly("Referrers with a loop body that deletes", func() error {
		for d, err := range t.reg.Referrers(t.Context(), "foo", subject.Digest, "") {
			if err != nil {
				return err
			}
			if err := t.reg.DeleteManifest(t.Context(), "foo", d.Digest); err != nil {
				return err
			}
		}
		return nil
	})
	t.must(err, "Referrers with a loop body that deletes")
	t.wantReferrers("foo", subject.Digest, "")
}
