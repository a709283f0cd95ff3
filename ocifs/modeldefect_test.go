package ocifs_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Registries with one defect each.

type dropsLastTag struct{ ociregistry.Interface }

func (r dropsLastTag) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return r.Interface.PushManifest(ctx, repo, ref, contents, mediaType, tags[:max(0, len(tags)-1)]...)
}

type listsInclusively struct{ ociregistry.Interface }

func (r listsInclusively) Tags(ctx context.Context, repo, startAfter string) iter.Seq2[string, error] {
	if _, err := r.ResolveTag(ctx, repo, startAfter); err == nil {
		startAfter = startAfter[:len(startAfter)-1]
	}
	return r.Interface.Tags(ctx, repo, startAfter)
}

type ignoresOffsets struct{ ociregistry.Interface }

func (r ignoresOffsets) PushBlobChunkedResume(ctx context.Context, repo, id string, _ int64, chunkSize int) (ociregistry.BlobWriter, error) {
	return r.Interface.PushBlobChunkedResume(ctx, repo, id, -1, chunkSize)
}

type mixesErrors struct{ ociregistry.Interface }

func (r mixesErrors) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	err := r.Interface.DeleteManifest(ctx, repo, digest)
	if errors.Is(err, ociregistry.ErrInUse) {
		return ociregistry.ErrDenied
	}
	return err
}

type losesReferrers struct{ ociregistry.Interface }

func (r losesReferrers) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if _, err := r.ResolveManifest(ctx, repo, digest); err != nil {
		return ociregistry.SliceSeq[ociregistry.Descriptor](nil)
	}
	return r.Interface.Referrers(ctx, repo, digest, artifactType)
}

// TestModelFindsDefects checks that the model test finds defects, and that a
// program it prints has little in it that is not needed.
func TestModelFindsDefects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		defect func(ociregistry.Interface) ociregistry.Interface
		report string
	}{
		{"DropsLastTag", func(r ociregistry.Interface) ociregistry.Interface { return dropsLastTag{r} }, "PushManifest"},
		{"ListsInclusively", func(r ociregistry.Interface) ociregistry.Interface { return listsInclusively{r} }, "Tags"},
		{"IgnoresOffsets", func(r ociregistry.Interface) ociregistry.Interface { return ignoresOffsets{r} }, "want ErrRangeInvalid"},
		{"MixesErrors", func(r ociregistry.Interface) ociregistry.Interface { return mixesErrors{r} }, "want ErrInUse"},
		{"LosesReferrers", func(r ociregistry.Interface) ociregistry.Interface { return losesReferrers{r} }, "text/"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := modelBackend{open: func(testing.TB, mapConfig) *modelDriver { return newModelDriver(test.defect(ocimem.New())) }}
			report := ""
			for seed := uint64(1); seed <= 100 && report == ""; seed++ {
				report = modelFailure(t, b, modelProgram(seed, 120))
			}
			qt.Assert(t, qt.StringContains(report, test.report))
			operations := strings.Count(report, "\n\t") + 1 - strings.Count(report, "\n\t    ")
			qt.Assert(t, qt.IsTrue(operations <= 12), qt.Commentf("%d operations:\n%s", operations, report))
		})
	}
}
