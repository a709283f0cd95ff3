package ocitest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A registry checks a PushCondition in the same atomic step in which it stores the
// manifest.

var conditionClauses = []clause{
	{name: "IfMatch", needs: Conditions | MoveTags, run: conditionIfMatch},
	{name: "IfMatchAny", needs: Conditions | MoveTags, run: conditionIfMatchAny},
	{name: "IfNoneMatch", needs: Conditions | MoveTags, run: conditionIfNoneMatch},
	{name: "IfNoneMatchAny", needs: Conditions, run: conditionIfNoneMatchAny},
	{name: "OfADigest", needs: Conditions, run: conditionDigest},
	{name: "AllTagsOrNone", needs: Conditions | MoveTags, run: conditionTags},
	{name: "LosesNoUpdate", needs: Conditions | MoveTags, run: conditionCounter},
	{name: "OneCreator", needs: Conditions, run: conditionOneCreator},
}

type digests = []ociregistry.Digest

// pushIf pushes a manifest under a condition.
func (t *test) pushIf(c ociregistry.PushCondition, ref string, contents []byte, tags ...string) error {
	ctx := ociregistry.WithPushCondition(t.Context(), c)
	_, err := t.reg.PushManifest(ctx, "foo", ref, contents, ocispec.MediaTypeImageIndex, tags...)
	return err
}

// numbered returns a manifest for each n.
func numbered(n int) *Artifact {
	return NewIndex(Spec{Annotations: map[string]string{"n": strconv.Itoa(n)}})
}

var failed = is(ociregistry.ErrPreconditionFailed)

func conditionIfMatch(t *test) {
	one, two, three := numbered(1), numbered(2), numbered(3)
	ifMatch := func(ds ...ociregistry.Digest) ociregistry.PushCondition {
		return ociregistry.PushCondition{IfMatch: ds}
	}
	t.wantErr(t.pushIf(ifMatch(one.Descriptor.Digest), "v1", two.Manifest), failed, "PushManifest if a tag that does not exist matches")
	t.wantNoRepository("foo", "after a push whose condition did not hold")

	t.mustPush("foo", one, "v1")
	t.must(t.pushIf(ifMatch(one.Descriptor.Digest), "v1", two.Manifest), "PushManifest if the tag matches what it is")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v1")

	t.wantErr(t.pushIf(ifMatch(one.Descriptor.Digest), "v1", three.Manifest), failed, "PushManifest if the tag matches what it was")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v1")
	t.wantNoManifest("foo", three.Descriptor.Digest, "after a push whose condition did not hold")

	t.must(t.pushIf(ifMatch(one.Descriptor.Digest, two.Descriptor.Digest), "v1", three.Manifest), "PushManifest if the tag matches one of two")
	t.wantManifest("foo", three.Manifest, three.Descriptor, "v1")
}

func conditionIfMatchAny(t *test) {
	one, two := numbered(1), numbered(2)
	exists := ociregistry.PushCondition{IfMatch: digests{ociregistry.AnyManifest}}
	t.mustPushBlob("foo", []byte("x"))
	t.wantErr(t.pushIf(exists, "v1", one.Manifest), failed, "PushManifest if the tag exists, which it does not")
	t.wantNoTag("foo", "v1", "after a push whose condition did not hold")
	t.mustPush("foo", one, "v1")
	t.must(t.pushIf(exists, "v1", two.Manifest), "PushManifest if the tag exists, which it does")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v1")
}

func conditionIfNoneMatch(t *test) {
	one, two, three := numbered(1), numbered(2), numbered(3)
	t.mustPush("foo", one, "v1")
	notOne := ociregistry.PushCondition{IfNoneMatch: digests{one.Descriptor.Digest}}
	t.wantErr(t.pushIf(notOne, "v1", two.Manifest), failed, "PushManifest if the tag does not match what it is")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1")
	t.mustPush("foo", two, "v1")
	t.must(t.pushIf(notOne, "v1", three.Manifest), "PushManifest if the tag does not match what it was")
	t.wantManifest("foo", three.Manifest, three.Descriptor, "v1")
}

func conditionIfNoneMatchAny(t *test) {
	one, two := numbered(1), numbered(2)
	isNew := ociregistry.PushCondition{IfNoneMatch: digests{ociregistry.AnyManifest}}
	t.must(t.pushIf(isNew, "v1", one.Manifest), "PushManifest if the tag is new, which it is")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1")
	for _, contents := range [][]byte{one.Manifest, two.Manifest} {
		t.wantErr(t.pushIf(isNew, "v1", contents), failed, "PushManifest if the tag is new, which it is not")
	}
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1")
	t.wantNoManifest("foo", two.Descriptor.Digest, "after a push whose condition did not hold")
	t.must(t.pushIf(isNew, "v2", two.Manifest), "PushManifest if another tag is new, which it is")
}

func conditionDigest(t *test) {
	one := numbered(1)
	ref := string(one.Descriptor.Digest)
	isNew := ociregistry.PushCondition{IfNoneMatch: digests{ociregistry.AnyManifest}}
	exists := ociregistry.PushCondition{IfMatch: digests{ociregistry.AnyManifest}}
	t.wantErr(t.pushIf(exists, ref, one.Manifest), failed, "PushManifest if the manifest exists, which it does not")
	t.must(t.pushIf(isNew, ref, one.Manifest), "PushManifest if the manifest is new, which it is")
	t.wantErr(t.pushIf(isNew, ref, one.Manifest, "v1"), failed, "PushManifest if the manifest is new, which it is not")
	t.wantNoTag("foo", "v1", "after a push whose condition did not hold")
	t.must(t.pushIf(exists, ref, one.Manifest, "v1"), "PushManifest if the manifest exists, which it does")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1")
}

// The condition is about ref, but it applies to the tags too.
func conditionTags(t *test) {
	one, two := numbered(1), numbered(2)
	t.mustPush("foo", one, "v1", "v2")
	stale := ociregistry.PushCondition{IfMatch: digests{digest.FromString("stale")}}
	t.wantErr(t.pushIf(stale, "v1", two.Manifest, "v2", "v3"), failed, "PushManifest to three tags under a condition that does not hold")
	t.wantManifest("foo", one.Manifest, one.Descriptor, "v1", "v2")
	t.wantTags("foo", "v1", "v2")

	isNew := ociregistry.PushCondition{IfNoneMatch: digests{ociregistry.AnyManifest}}
	t.must(t.pushIf(isNew, "v3", two.Manifest, "v1", "v2"), "PushManifest to three tags if the first is new")
	t.wantManifest("foo", two.Manifest, two.Descriptor, "v1", "v2", "v3")
}

// Several goroutines increment a counter in an annotation by compare and swap.
func conditionCounter(t *test) {
	goroutines, increments := 4, t.scale(16)
	t.mustPush("foo", numbered(0), "v1")
	ctx := t.Context()
	t.together(goroutines, func(int) error {
		for n := 0; n < increments; {
			contents, desc, err := read(t.reg.GetTag(ctx, "foo", "v1"))
			if err != nil {
				return fmt.Errorf("GetTag: %w", err)
			}
			next := numbered(numberOf(contents) + 1)
			jitter()
			err = t.pushIf(ociregistry.PushCondition{IfMatch: digests{desc.Digest}}, "v1", next.Manifest)
			switch {
			case err == nil:
				n++
			case !errors.Is(err, ociregistry.ErrPreconditionFailed):
				return fmt.Errorf("PushManifest: %w", err)
			}
		}
		return nil
	})
	contents, _, err := read(t.reg.GetTag(ctx, "foo", "v1"))
	t.must(err, "GetTag")
	if got, want := numberOf(contents), goroutines*increments; got != want {
		t.Errorf("after %d acknowledged increments by compare and swap, the counter is %d", want, got)
	}
}

// numberOf returns the number of a manifest of numbered, or -1.
func numberOf(contents []byte) int {
	var index ocispec.Index
	if err := json.Unmarshal(contents, &index); err != nil {
		return -1
	}
	n, err := strconv.Atoi(index.Annotations["n"])
	if err != nil {
		return -1
	}
	return n
}

// If several goroutines create one tag, exactly one succeeds.
func conditionOneCreator(t *test) {
	ctx := ociregistry.WithPushCondition(t.Context(), ociregistry.PushCondition{IfNoneMatch: digests{ociregistry.AnyManifest}})
	const n = 8
	for round := range t.scale(8) {
		tag := fmt.Sprint("v", round)
		var created [n]bool
		t.together(n, func(i int) error {
			return t.create(ctx, tag, numbered(i), &created[i])
		})
		winner := -1
		for i, ok := range created {
			if ok && winner >= 0 {
				t.Fatalf("PushManifest if %s is new: succeeded for two at once", tag)
			}
			if ok {
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("PushManifest if %s is new: succeeded for nobody", tag)
		}
		a := numbered(winner)
		t.wantManifest("foo", a.Manifest, a.Descriptor, tag)
	}
}

func (t *test) create(ctx context.Context, tag string, a *Artifact, created *bool) error {
	_, err := t.reg.PushManifest(ctx, "foo", tag, a.Manifest, a.Descriptor.MediaType)
	if err != nil && !errors.Is(err, ociregistry.ErrPreconditionFailed) {
		return fmt.Errorf("PushManifest: %w", err)
	}
	*created = err == nil
	return nil
}
