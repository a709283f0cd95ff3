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

// commitsEnded has writers that commit a session with bytes which another has ended.
type commitsEnded struct{ ociregistry.Interface }

func (r commitsEnded) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.Interface.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	if err != nil {
		return nil, err
	}
	return &endedWriter{BlobWriter: w}, nil
}

func (r commitsEnded) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.Interface.PushBlobChunked(ctx, repo, chunkSize)
	if err != nil {
		return nil, err
	}
	return &endedWriter{BlobWriter: w}, nil
}

type endedWriter struct {
	ociregistry.BlobWriter
	done bool
}

func (w *endedWriter) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := w.BlobWriter.Commit(d)
	if errors.Is(err, ociregistry.ErrBlobUploadUnknown) && w.Size() > 0 && !w.done {
		return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: w.Size()}, nil
	}
	w.done = true
	return desc, err
}

func (w *endedWriter) Cancel() error {
	w.done = true
	return w.BlobWriter.Cancel()
}

// TestModelFindsDefects checks that the model test finds defects, and that the
// programs that it prints are close to minimal.
func TestModelFindsDefects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		defect func(ociregistry.Interface) ociregistry.Interface
		report string
		second bool   // of two registries for one directory, this one has it
		seed   uint64 // of the first program that is tried
	}{
		{"DropsLastTag", func(r ociregistry.Interface) ociregistry.Interface { return dropsLastTag{r} }, "PushManifest", false, 1},
		{"ListsInclusively", func(r ociregistry.Interface) ociregistry.Interface { return listsInclusively{r} }, "Tags", false, 1},
		{"IgnoresOffsets", func(r ociregistry.Interface) ociregistry.Interface { return ignoresOffsets{r} }, "want ErrRangeInvalid", false, 1},
		{"MixesErrors", func(r ociregistry.Interface) ociregistry.Interface { return mixesErrors{r} }, "want ErrInUse", false, 1},
		{"LosesReferrers", func(r ociregistry.Interface) ociregistry.Interface { return losesReferrers{r} }, "text/", false, 1},
		{"CommitsEnded", func(r ociregistry.Interface) ociregistry.Interface { return commitsEnded{r} }, "want size 10240 ErrBlobUploadUnknown", true, 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := modelBackend{open: func(testing.TB, mapConfig) *modelDriver { return newModelDriver(test.defect(ocimem.New())) }}
			if test.second {
				b = modelBackend{cfg: mapConfig{keeping: true}, open: func(t testing.TB, cfg mapConfig) *modelDriver {
					return withDefect(openDirectoryTwice(t, cfg), test.defect)
				}}
			}
			report := ""
			for seed := test.seed; seed < test.seed+100 && report == ""; seed++ {
				report = modelFailure(t, b, modelProgram(seed, 120))
			}
			qt.Assert(t, qt.StringContains(report, test.report))
			operations := strings.Count(report, "\n\t") + 1 - strings.Count(report, "\n\t    ")
			qt.Assert(t, qt.IsTrue(operations <= 12), qt.Commentf("%d operations:\n%s", operations, report))
		})
	}
}

// withDefect gives the second registry a defect, whenever it is opened.
func withDefect(d *modelDriver, defect func(ociregistry.Interface) ociregistry.Interface) *modelDriver {
	reopen := d.reopen
	d.reopen = func(i int, closes bool) error {
		err := reopen(i, closes)
		if err == nil && i == 1 {
			d.regs[i] = defect(d.regs[i])
		}
		return err
	}
	d.regs[1] = defect(d.regs[1])
	return d
}
