package ocigc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// pushImage pushes an image whose configuration says when it was created, and returns its
// descriptor.
func pushImage(t testing.TB, reg ociregistry.Interface, repo, created string, annotations map[string]string, tags ...string) ociregistry.Descriptor {
	t.Helper()
	r := ocitest.NewRegistry(t, reg)
	config := r.MustPushBlob(repo, fmt.Appendf(nil, `{"created":%q}`, created))
	config.MediaType = ocispec.MediaTypeImageConfig
	_, desc := r.MustPushManifest(repo, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ociregistry.Descriptor{}, Annotations: annotations,
	}, "")
	setTags(t, reg, repo, desc, tags...)
	return desc
}

func setTags(t testing.TB, reg ociregistry.Interface, repo string, desc ociregistry.Descriptor, tags ...string) {
	t.Helper()
	rd, err := reg.GetManifest(t.Context(), repo, desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	data := make([]byte, desc.Size)
	_, err = rd.Read(data)
	qt.Assert(t, qt.IsNil(errors.Join(err, rd.Close())))
	_, err = reg.PushManifest(t.Context(), repo, "", data, desc.MediaType, tags...)
	qt.Assert(t, qt.IsNil(err))
}

func created(ago time.Duration) string { return now.Add(-ago).Format(time.RFC3339) }

// remote returns a registry and a client of it over HTTP.
func remote(t testing.TB) (reg, client ociregistry.Interface) {
	reg = ocimem.New()
	server := httptest.NewServer(ociserver.New(reg, nil))
	t.Cleanup(server.Close)
	client, err := ociclient.New(strings.TrimPrefix(server.URL, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	return reg, client
}

func tagsOf(t testing.TB, reg ociregistry.Interface, repo string) string {
	t.Helper()
	tags, err := ociregistry.All(reg.Tags(t.Context(), repo, ""))
	qt.Assert(t, qt.IsNil(err))
	return strings.Join(tags, " ")
}

func fixedNow() time.Time { return now }

func TestRetain_GoesByTheTimesOfImagesInARemoteRegistry(t *testing.T) {
	t.Parallel()
	reg, client := remote(t)
	old := pushImage(t, reg, "app", created(40*day), nil, "old")
	recent := pushImage(t, reg, "app", created(day), nil, "recent")
	pushImage(t, reg, "app", "1970-01-01T00:00:00Z", nil, "reproducible")
	pushImage(t, reg, "app", "", nil, "timeless")
	pushImage(t, reg, "app", "", map[string]string{ocispec.AnnotationCreated: created(50 * day)}, "annotated")
	r := ocitest.NewRegistry(t, reg)
	r.MustPushManifest("app", ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ociregistry.Descriptor{old, recent}}, "mixed")
	r.MustPushManifest("app", ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ociregistry.Descriptor{old}}, "outdated")
	pushImage(t, reg, "other", created(40*day), nil, "old")

	opts := &ocigc.Options{
		Now:      fixedNow,
		DryRun:   true,
		Policies: []ocigc.Policy{{Repositories: []string{"app"}, Keep: []ocigc.TagRule{{PushedWithin: 30 * day}}}},
	}
	dry, err := ocigc.Retain(t.Context(), client, opts)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "app"), "annotated mixed old outdated recent reproducible timeless"))

	opts.DryRun = false
	report, err := ocigc.Retain(t.Context(), client, opts)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "app"), "mixed recent reproducible timeless"))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "other"), "old"))
	qt.Check(t, qt.HasLen(report.Problems, 0))
	qt.Check(t, qt.Equals(report.Summary, ocigc.Summary{Repositories: 1, Tags: 3}))
	qt.Check(t, qt.Equals(dry.Summary, report.Summary))
	var found []string
	for _, f := range report.Findings {
		found = append(found, f.String())
	}
	slices.Sort(found)
	qt.Check(t, qt.DeepEquals(found, []string{
		"app:annotated: tag: no rule keeps the tag, since 2025-11-13 03:04:05",
		"app:old: tag: no rule keeps the tag, since 2025-11-23 03:04:05",
		"app:outdated: tag: no rule keeps the tag, since 2025-11-23 03:04:05",
	}))
	_, err = reg.ResolveManifest(t.Context(), "app", old.Digest)
	qt.Check(t, qt.IsNil(err)) // the registry collects it in its own way
}

func TestRetain_LastPushedGoesByTime(t *testing.T) {
	t.Parallel()
	reg := ocimem.New()
	for i, tag := range []string{"c", "a", "d", "b"} {
		pushImage(t, reg, "app", created(time.Duration(10-i)*day), nil, tag)
	}
	_, err := ocigc.Retain(t.Context(), reg, &ocigc.Options{
		Now:      fixedNow,
		Policies: []ocigc.Policy{{Keep: []ocigc.TagRule{{LastPushed: 2}}}},
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "app"), "b d"))
}

// racy moves the tag old to another image after it was looked at.
type racy struct {
	ociregistry.Interface
	move func()
}

func (r racy) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetTag(ctx, repo, tag)
	if tag == "old" {
		r.move()
	}
	return rd, err
}

func TestRetain_KeepsATagThatHasMovedSinceItsTimeWasRead(t *testing.T) {
	t.Parallel()
	reg := ocimem.New()
	pushImage(t, reg, "app", created(40*day), nil, "old", "older")
	move := func() { pushImage(t, reg, "app", created(0), nil, "old") }
	report, err := ocigc.Retain(t.Context(), racy{reg, move}, &ocigc.Options{
		Now:      fixedNow,
		Policies: []ocigc.Policy{{Keep: []ocigc.TagRule{{PushedWithin: day}}}},
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(report.Problems, 0))
	qt.Check(t, qt.Equals(report.Tags, 1))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "app"), "old"))
}

func TestRetain_SaysWhatItCannotDo(t *testing.T) {
	t.Parallel()
	_, err := ocigc.Retain(t.Context(), ocimem.New(), &ocigc.Options{Policies: []ocigc.Policy{{}, {Keep: []ocigc.TagRule{{}, {PulledWithin: day}}}}})
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
	qt.Check(t, qt.ErrorMatches(err, `.*policies\[1\]\.keep\[1\].*`))
	_, err = ocigc.Retain(t.Context(), ocimem.New(), &ocigc.Options{Policies: []ocigc.Policy{{Repositories: []string{"A"}}}})
	qt.Check(t, qt.ErrorMatches(err, `policies\[0\]\.repositories\[0\]: .*`))

	reg := ocimem.New()
	pushImage(t, reg, "a", "", nil, "v1", "v2")
	pushImage(t, reg, "b", "", nil, "v1")
	drop := []ocigc.TagRule{{Match: "2"}}
	report, err := ocigc.Retain(t.Context(), ocifilter.ReadOnly(reg), &ocigc.Options{Policies: []ocigc.Policy{{Keep: drop}}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(report.Tags, 0))
	qt.Assert(t, qt.HasLen(report.Problems, 2))
	qt.Check(t, qt.ErrorIs(report.Problems[0], ociregistry.ErrUnsupported))
	qt.Check(t, qt.ErrorMatches(report.Problems[0], "a: tag v1: .*"))
	text, err := json.Marshal(report.Problems[1])
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Matches(string(text), `\{"error":"tag v1: .*","repository":"b"\}`))

	// A repository that fails, also one that does not exist, does not stop the others.
	report, err = ocigc.Retain(t.Context(), reg, &ocigc.Options{Policies: []ocigc.Policy{{Repositories: []string{"0", "a"}, Keep: drop}}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(report.Problems, 1))
	qt.Check(t, qt.ErrorIs(report.Problems[0], ociregistry.ErrNameUnknown))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "a"), "v2"))
}

// unlisted is a registry that cannot list its repositories.
type unlisted struct{ ociregistry.Interface }

func (unlisted) Repositories(context.Context, string) iter.Seq2[string, error] {
	return ociregistry.ErrorSeq[string](ociregistry.ErrUnsupported)
}

func TestRetain_NeedsNoListOfRepositoriesThatAreNamed(t *testing.T) {
	t.Parallel()
	reg := ocimem.New()
	pushImage(t, reg, "a", "", nil, "v1")
	blind := unlisted{reg}
	keep := []ocigc.TagRule{{Match: "^$"}}
	_, err := ocigc.Retain(t.Context(), blind, &ocigc.Options{Policies: []ocigc.Policy{{Repositories: []string{"**"}, Keep: keep}}})
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "a"), "v1"))
	var progress []ocigc.Progress
	var findings []ocigc.Finding
	report, err := ocigc.Retain(t.Context(), blind, &ocigc.Options{
		Policies: []ocigc.Policy{{Repositories: []string{"a"}, Keep: keep}, {Repositories: []string{"**"}}},
		Progress: func(p ocigc.Progress) { progress = append(progress, p) },
		Finding:  func(f ocigc.Finding) { findings = append(findings, f) },
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "a"), ""))
	qt.Check(t, qt.DeepEquals(progress, []ocigc.Progress{{Summary: ocigc.Summary{Repositories: 1, Tags: 1}, Repository: "a"}}))
	qt.Check(t, qt.HasLen(findings, 1))
	qt.Check(t, qt.HasLen(report.Findings, 0))
}

func TestRetain_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	reg := ocimem.New()
	pushImage(t, reg, "a", "", nil, "v1")
	pushImage(t, reg, "b", "", nil, "v1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	report, err := ocigc.Retain(ctx, reg, &ocigc.Options{
		Policies: []ocigc.Policy{{Keep: []ocigc.TagRule{{Match: "^$"}}}},
		Progress: func(ocigc.Progress) { cancel() },
	})
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	qt.Check(t, qt.Equals(report.Tags, 1))
	qt.Check(t, qt.Equals(tagsOf(t, reg, "b"), "v1"))
}
