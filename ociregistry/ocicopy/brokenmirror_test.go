package ocicopy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A referrer that every registry would refuse is the fault of the source too.
func TestCopy_SkipsAReferrerThatTheDestinationRefuses(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	mustPush(t, src, "a", image(1), "v1")
	content := []byte(`{"config":"none"}`)
	desc := ociregistry.Descriptor{MediaType: image(1).Descriptor.MediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	lists(src, func(d ociregistry.Digest) []ociregistry.Descriptor {
		return []ociregistry.Descriptor{desc}
	})
	f := src.Interface.(*ociregistry.Funcs)
	get := f.GetManifest_
	f.GetManifest_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
		if d == desc.Digest {
			return newBytesReader(content, desc), nil
		}
		return get(ctx, repo, d)
	}
	opts := &Options{Referrers: true, SkipBrokenReferrers: true}
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
	qt.Assert(t, qt.HasLen(result.Missing, 1))
	qt.Check(t, qt.ErrorIs(result.Missing[0].Err, ociregistry.ErrManifestInvalid))

	// Other failures of the destination fail the copy.
	broken := errors.New("broken")
	failing := newSpy(newMem(t))
	failing.before = failOn("PushManifest", string(newReferrer(2, typeNotation, image(1)).Descriptor.Digest), broken)
	src = newSpy(newMem(t))
	mustPush(t, src, "a", image(1), "v1")
	mustPush(t, src, "a", newReferrer(2, typeNotation, image(1)))
	_, err := Copy(t.Context(), Place{failing, "a", ""}, Place{src, "a", "v1"}, opts)
	qt.Check(t, qt.ErrorIs(err, broken))
}

// With SkipBrokenReferrers, one broken signature does not keep an image from being
// mirrored.
func TestMirror_ReportsBrokenReferrers(t *testing.T) {
	t.Parallel()
	for _, test := range breakages {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			src, dst := newSpy(newMem(t)), newMem(t)
			bad := newReferrer(2, typeNotation, image(1))
			mustPush(t, src, "a", image(1), "v1")
			mustPush(t, src, "a", bad)
			mustPush(t, src, "a", newCosign(5), rules.CosignTag(image(1).Descriptor.Digest)+".att")
			test.break_(src, bad)
			rule := Rule{Repositories: "a"}
			opts := &MirrorOptions{Attempts: -1}
			summary := mustPass(t, mustMirror(t, dst, opts, hub(src, rule)))
			qt.Check(t, qt.HasLen(summary.Failures, 1))

			var events []Event
			var log bytes.Buffer
			opts.Report = func(e Event) { events = append(events, e) }
			opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
			rule.SkipBrokenReferrers = true
			m := mustMirror(t, dst, opts, hub(src, rule))
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1, Incomplete: 1}))
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1, Incomplete: 1}))
			qt.Assert(t, qt.HasLen(events, 2))
			qt.Check(t, qt.HasLen(events[1].Result.Missing, 1))
			qt.Check(t, qt.StringContains(log.String(), "level=WARN msg=mirror outcome=same source=hub repository=a tag=v1 destination=a"))
			qt.Check(t, qt.StringContains(log.String(), " missing=1 error="))
			mustHave(t, dst, "a", image(1))
		})
	}
}

// A pass retries a temporary error before it skips a referrer. It skips what is broken for
// good at once.
func TestMirror_RetriesBeforeItSkipsReferrers(t *testing.T) {
	t.Parallel()
	down := errors.New("the origin is down")
	for _, test := range []struct {
		name    string
		method  string
		err     error
		fails   int // times
		want    Summary
		retried int
	}{
		{"a list, once", "Referrers", down, 1, Summary{Updated: 1}, 1},
		{"a list, as often as it is tried", "Referrers", down, 3, Summary{Updated: 1, Incomplete: 1}, 2},
		{"a list that there is not", "Referrers", ociregistry.ErrUnsupported, 9, Summary{Updated: 1, Incomplete: 1}, 0},
		{"a blob, once", "GetBlob", down, 1, Summary{Updated: 1}, 1},
		{"a blob that is lost", "GetBlob", ociregistry.ErrBlobUnknown, 9, Summary{Updated: 1, Incomplete: 1}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src, dst := newSpy(newMem(t)), newMem(t)
				signature := newReferrer(2, typeNotation, image(1))
				mustPush(t, src, "a", image(1), "v1")
				mustPush(t, src, "a", signature)
				ref := map[string]ociregistry.Digest{
					"Referrers": image(1).Descriptor.Digest,
					"GetBlob":   signature.Blobs[len(signature.Blobs)-1].Descriptor.Digest,
				}[test.method]
				fails := test.fails
				src.before = func(_ context.Context, method, _, asked string) error {
					if method != test.method || asked != string(ref) || fails == 0 {
						return nil
					}
					fails--
					return test.err
				}
				retried := 0
				opts := &MirrorOptions{ImageConcurrency: 1, Attempts: 3, Copy: Options{Concurrency: 1}, Report: func(e Event) {
					if e.Outcome == Retried {
						retried++
					}
				}}
				m := mustMirror(t, dst, opts, hub(src, Rule{Repositories: "a", SkipBrokenReferrers: true}))
				qt.Check(t, qt.DeepEquals(mustPass(t, m), test.want))
				qt.Check(t, qt.Equals(retried, test.retried))
				_, err := dst.ResolveManifest(t.Context(), "a", signature.Descriptor.Digest)
				qt.Check(t, qt.Equals(err == nil, test.want.Incomplete == 0))
			})
		})
	}
}

// With OnlySigned, an image whose only signature is broken counts as unsigned. One of two
// signatures is enough. The same holds where DropOthers does not change an index.
func TestMirror_TakesABrokenSignatureForNone(t *testing.T) {
	t.Parallel()
	whole := newPlatforms(10, amd64)
	for _, rule := range []Rule{{}, {Platforms: []string{"linux/amd64"}, DropOthers: true}} {
		rule.Repositories, rule.OnlySigned, rule.SkipBrokenReferrers = "a", true, true
		for _, signed := range []*ocitest.Artifact{image(1), whole} {
			for _, test := range breakages[:6] {
				about := qt.Commentf("%s, DropOthers=%t, %s", test.name, rule.DropOthers, signed.Descriptor.MediaType)
				src, dst := newSpy(newMem(t)), newMem(t)
				bad := newReferrer(2, typeNotation, signed)
				mustPush(t, src, "a", signed, "v1")
				mustPush(t, src, "a", bad)
				mustPush(t, src, "a", newReferrer(3, "application/sbom", signed))
				test.break_(src, bad)
				m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(src, rule))
				qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Unsigned: 1}), about)
				qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), ""), about)

				cosign := rules.CosignTag(signed.Descriptor.Digest) + ".sig"
				mustPush(t, src, "a", newCosign(4), cosign)
				qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1, Incomplete: 1}), about)
				qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), cosign+" v1"), about)
				qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1, Incomplete: 1}), about)
			}
		}
	}
}

// The destination does not have the subject of the signatures of an index that DropOthers
// replaces: it is enough that the source lists one.
func TestMirror_ReplacedIndexNeedsNoWholeSignature(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	index := newPlatforms(10, amd64, arm64)
	bad := newReferrer(2, typeNotation, index)
	mustPush(t, src, "a", index, "v1")
	mustPush(t, src, "a", bad)
	breakages[0].break_(src, bad)
	m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(src, Rule{
		Repositories: "a", Platforms: []string{"linux/amd64"}, DropOthers: true, OnlySigned: true, SkipBrokenReferrers: true,
	}))
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1}))
}
