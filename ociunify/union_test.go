package ociunify_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// The results of reading a tag and a blob for each pair of answers.
func TestUnion_ReadsByPolicy(t *testing.T) {
	t.Parallel()
	const has, hasNot = "has", "has not"
	answers := map[string]error{has: nil, hasNot: nil, "fails": errBroken}
	type policy struct {
		read     ociunify.ReadPolicy
		failover bool
	}
	sequential, concurrent := policy{ociunify.ReadSequential, false}, policy{ociunify.ReadConcurrent, false}
	failover, both := policy{ociunify.ReadSequential, true}, policy{ociunify.ReadConcurrent, true}
	all := []policy{sequential, concurrent, failover, both}
	tests := []struct {
		r0, r1         string
		policies       []policy
		wantTag, wantB error
	}{
		{has, has, all, nil, nil},
		{has, hasNot, all, nil, nil},
		{has, "fails", all, nil, nil},
		{hasNot, has, all, nil, nil},
		{hasNot, hasNot, all, ociregistry.ErrManifestUnknown, ociregistry.ErrBlobUnknown},
		{hasNot, "fails", all, errBroken, errBroken},
		{"fails", has, []policy{sequential}, errBroken, errBroken},
		{"fails", has, []policy{concurrent}, errBroken, nil},
		{"fails", has, []policy{failover, both}, nil, nil},
		{"fails", hasNot, all, errBroken, errBroken},
		{"fails", "fails", all, errBroken, errBroken},
	}
	for _, test := range tests {
		for _, p := range test.policies {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				var regs [2]*counted
				image := ocitest.NewImage(ocitest.Spec{Layers: []int64{100_000}})
				for i, answer := range []string{test.r0, test.r1} {
					mem := ocimem.New()
					pushed(t, mem, "foo", 9, "other")
					if answer == has {
						ocitest.NewRegistry(t, mem).MustPush("foo", image, "v1")
					}
					regs[i] = count(mem)
					regs[i].set("", answers[answer])
				}
				u := ociunify.New(regs[0], regs[1], &ociunify.Options{ReadPolicy: p.read, Failover: p.failover})
				comment := qt.Commentf("r0 %s, r1 %s, policy %v", test.r0, test.r1, p)
				check := func(got []byte, err, want error, content []byte) {
					t.Helper()
					qt.Check(t, qt.ErrorIs(err, want), comment)
					qt.Check(t, qt.IsTrue(err != nil || bytes.Equal(got, content)), comment)
				}
				got, err := readAll(u.GetTag(ctx, "foo", "v1"))
				check(got, err, test.wantTag, image.Manifest)
				_, err = u.ResolveTag(ctx, "foo", "v1")
				qt.Check(t, qt.ErrorIs(err, test.wantTag), comment)
				blob := image.Blobs[1]
				got, err = readBlob(ctx, u, "foo", blob.Descriptor.Digest)
				check(got, err, test.wantB, blob.Bytes())
				_, err = u.ResolveBlob(ctx, "foo", blob.Descriptor.Digest)
				qt.Check(t, qt.ErrorIs(err, test.wantB), comment)
			})
		}
	}
}

// closeCounter counts readers that are open.
type closeCounter struct {
	ociregistry.BlobReader
	open *int
}

func (r closeCounter) Close() error {
	*r.open--
	return r.BlobReader.Close()
}

// The request to the slower registry is cancelled, and its reader closed.
func TestUnion_CancelsTheSlowerRegistry(t *testing.T) {
	t.Parallel()
	for loser := range 2 {
		synctest.Test(t, func(t *testing.T) {
			open := 0
			var regs [2]*counted
			var blob ocitest.Blob
			for i := range regs {
				mem := ocimem.New()
				blob = pushed(t, mem, "foo", 1, "v1").Blobs[2]
				regs[i] = count(mem)
				regs[i].setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
					open++
					return closeCounter{rd, &open}
				})
			}
			u := ociunify.New(regs[0], regs[1], &ociunify.Options{ReadPolicy: ociunify.ReadConcurrent})
			cancelled := regs[loser].hold("GetBlob") // nobody opens it: only a context ends the call
			rd, err := u.GetBlob(t.Context(), "foo", blob.Descriptor.Digest)
			got, err := readAll(rd, err)
			wantBytes(t, got, err, blob.Bytes())
			synctest.Wait()
			qt.Check(t, qt.Equals(open, 0))

			// A registry that ignores its context, and answers too late.
			late := ociregistry.Funcs{GetBlob_: func(_ context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
				<-cancelled
				open++
				rd, err := regs[1-loser].Funcs.GetBlob(context.Background(), repo, d)
				open--
				return rd, err
			}}
			pair := [2]ociregistry.Interface{regs[0], regs[1]}
			pair[loser] = &late
			u = ociunify.New(pair[0], pair[1], &ociunify.Options{ReadPolicy: ociunify.ReadConcurrent})
			got, err = readBlob(t.Context(), u, "foo", blob.Descriptor.Digest)
			wantBytes(t, got, err, blob.Bytes())
			close(cancelled)
			synctest.Wait()
			qt.Check(t, qt.Equals(open, 0))
		})
	}
}

func TestUnion_TagsOfTheFirstRegistryWin(t *testing.T) {
	t.Parallel()
	for _, read := range []ociunify.ReadPolicy{ociunify.ReadSequential, ociunify.ReadConcurrent} {
		r0, r1 := ocimem.New(), ocimem.New()
		one, two := pushed(t, r0, "foo", 1, "a", "c"), pushed(t, r1, "foo", 2, "b", "c", "d")
		pushed(t, r1, "only", 3, "x")
		u := ociunify.New(r0, r1, &ociunify.Options{ReadPolicy: read})
		for range 20 {
			wantTag(t, u, "foo", "c", one)
		}
		wantTag(t, u, "foo", "d", two)
		qt.Check(t, qt.IsNil(two.Verify(t.Context(), u, "foo")))
		for start, want := range map[string][]string{"": {"a", "b", "c", "d"}, "b": {"c", "d"}, "c": {"d"}, "d": nil} {
			tags, err := ociregistry.All(u.Tags(t.Context(), "foo", start))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(tags, want))
		}
		tags, err := ociregistry.All(u.Tags(t.Context(), "only", ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tags, []string{"x"}))
		repos, err := ociregistry.All(u.Repositories(t.Context(), ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(repos, []string{"foo", "only"}))
	}
}

// A list is complete or ends with an error, even if one registry fails late.
func TestUnion_ListsAreWholeOrFail(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	pushed(t, mem, "foo", 1, "a", "b", "c")
	failing := &ociregistry.Funcs{Tags_: func(context.Context, string, string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			_ = yield("b", nil) && yield("", errBroken)
		}
	}}
	for _, u := range []ociregistry.Interface{ociunify.New(mem, failing, nil), ociunify.New(failing, mem, &ociunify.Options{Failover: true})} {
		tags, err := ociregistry.All(u.Tags(t.Context(), "foo", ""))
		qt.Check(t, qt.ErrorIs(err, errBroken))
		qt.Check(t, qt.DeepEquals(tags, []string{"a", "b"}))
		for range u.Tags(t.Context(), "foo", "") {
			break
		}
	}
}

// refuseAfter returns a registry that reads n bytes of a push, and fails.
func refuseAfter(n int64) ociregistry.Interface {
	return &ociregistry.Funcs{
		PushBlob_: func(_ context.Context, _ string, _ ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
			io.CopyN(io.Discard, r, n)
			return ociregistry.Descriptor{}, errBroken
		},
	}
}

func TestUnion_PushNamesTheRegistryThatFailed(t *testing.T) {
	t.Parallel()
	blob := ocitest.NewBlob(1, 1<<20)
	for _, after := range []int64{0, 1, 100_000, 1 << 20} {
		for side := range 2 {
			synctest.Test(t, func(t *testing.T) {
				mem := ocimem.New()
				pair := [2]ociregistry.Interface{mem, mem}
				pair[side] = refuseAfter(after)
				u := ociunify.New(pair[0], pair[1], nil)
				_, err := u.PushBlob(t.Context(), "foo", blob.Descriptor, blob.NewReader())
				qt.Check(t, qt.ErrorIs(err, errBroken))
				qt.Check(t, qt.ErrorMatches(err, ".*registry r"+string(rune('0'+side))+": .*"))
			})
		}
	}
	errRead := errors.New("the disk is gone")
	u := ociunify.New(ocimem.New(), ocimem.New(), nil)
	_, err := u.PushBlob(t.Context(), "foo", blob.Descriptor, io.MultiReader(io.LimitReader(blob.NewReader(), 1000), iotest.ErrReader(errRead)))
	qt.Check(t, qt.ErrorIs(err, errRead))
	_, err = u.PushBlob(t.Context(), "foo", blob.Descriptor, strings.NewReader("other"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrSizeInvalid))
}

// A registry that has the blob need not read it from the caller.
func TestUnion_PushNeedsNoReadByARegistryThatHasTheBlob(t *testing.T) {
	t.Parallel()
	blob := ocitest.NewBlob(1, 1<<20)
	has := &ociregistry.Funcs{PushBlob_: func(_ context.Context, _ string, desc ociregistry.Descriptor, _ io.Reader) (ociregistry.Descriptor, error) {
		return desc, nil
	}}
	for side := range 2 {
		mem := ocimem.New()
		pair := [2]ociregistry.Interface{has, has}
		pair[side] = mem
		_, err := ociunify.New(pair[0], pair[1], nil).PushBlob(t.Context(), "foo", blob.Descriptor, blob.NewReader())
		qt.Check(t, qt.IsNil(err))
		got, err := readBlob(t.Context(), mem, "foo", blob.Descriptor.Digest)
		wantBytes(t, got, err, blob.Bytes())
	}
	_, err := ociunify.New(has, has, nil).PushBlob(t.Context(), "foo", blob.Descriptor, blob.NewReader())
	qt.Check(t, qt.IsNil(err))
}

// If r0 refuses a change, r1 is not asked. If r1 refuses it, the error names r1.
func TestUnion_ChangesTheFirstRegistryFirst(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	calls := map[string]func(ociregistry.Interface, *ocitest.Artifact) error{
		"PushManifest": func(r ociregistry.Interface, a *ocitest.Artifact) error {
			_, err := r.PushManifest(ctx, "foo", "v2", a.Manifest, a.Descriptor.MediaType)
			return err
		},
		"DeleteTag": func(r ociregistry.Interface, _ *ocitest.Artifact) error { return r.DeleteTag(ctx, "foo", "v1") },
		"DeleteManifest": func(r ociregistry.Interface, a *ocitest.Artifact) error {
			return r.DeleteManifest(ctx, "foo", a.Descriptor.Digest)
		},
		"DeleteBlob": func(r ociregistry.Interface, a *ocitest.Artifact) error {
			return r.DeleteBlob(ctx, "foo", digest.FromString("spare"))
		},
		"MountBlob": func(r ociregistry.Interface, a *ocitest.Artifact) error {
			_, err := r.MountBlob(ctx, "foo", "bar", a.Blobs[0].Descriptor.Digest)
			return err
		},
	}
	for method, call := range calls {
		for side := range 2 {
			var regs [2]*counted
			var image *ocitest.Artifact
			for i := range regs {
				mem := ocimem.New()
				image = pushed(t, mem, "foo", 1, "v1")
				ocitest.NewRegistry(t, mem).MustPushBlob("foo", []byte("spare"))
				regs[i] = count(mem)
			}
			regs[side].set(method, ociregistry.ErrDenied)
			err := call(ociunify.New(regs[0], regs[1], nil), image)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
			qt.Check(t, qt.Equals(regs[1].number(method), side), qt.Commentf("calls of %s in r1 when r%d fails", method, side))
			if side == 1 {
				qt.Check(t, qt.ErrorMatches(err, ".*registry r1: .*"))
			}
		}
	}
}

// Content that only one registry has can be deleted and mounted.
func TestUnion_DeletesAndMountsWhatOnlyOneRegistryHas(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for side := range 2 {
		mems := [2]*ocimem.Registry{ocimem.New(), ocimem.New()}
		image := pushed(t, mems[side], "foo", 1, "v1")
		u := ociunify.New(mems[0], mems[1], nil)
		d := image.Blobs[2].Descriptor.Digest
		desc, err := u.MountBlob(ctx, "foo", "bar", d)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Digest, d))
		for _, mem := range mems {
			got, err := readBlob(ctx, mem, "bar", d)
			wantBytes(t, got, err, image.Blobs[2].Bytes())
		}
		push := func(c ociregistry.PushCondition) error {
			_, err := u.PushManifest(ociregistry.WithPushCondition(ctx, c), "foo", "v1", []byte("x"), "text/plain")
			return err
		}
		qt.Check(t, qt.ErrorIs(push(ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}}), ociregistry.ErrPreconditionFailed))
		qt.Check(t, qt.IsNil(push(ociregistry.PushCondition{IfMatch: []ociregistry.Digest{image.Descriptor.Digest}})))
		qt.Check(t, qt.IsNil(u.DeleteManifest(ctx, "foo", image.Descriptor.Digest)))
		qt.Check(t, qt.IsNil(u.DeleteBlob(ctx, "foo", d)))
		qt.Check(t, qt.ErrorIs(u.DeleteBlob(ctx, "foo", d), ociregistry.ErrBlobUnknown))
	}
}

// failingWriter fails the given number of times.
type failingWriter struct {
	ociregistry.BlobWriter
	failures *int
}

func (w failingWriter) Write(p []byte) (int, error) {
	if *w.failures > 0 {
		*w.failures--
		return 0, errBroken
	}
	return w.BlobWriter.Write(p)
}

// An upload resumes at the offset of the registry with fewer bytes, also through another
// union.
func TestUnion_ResumesAnUploadWhereTheSlowerRegistryIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	blob := ocitest.NewBlob(1, 10_000)
	data := blob.Bytes()
	for side := range 2 {
		failures := 0
		mems := [2]*ocimem.Registry{ocimem.New(), ocimem.New()}
		pair := [2]ociregistry.Interface{mems[0], mems[1]}
		flaky := func(w ociregistry.BlobWriter, err error) (ociregistry.BlobWriter, error) {
			return failingWriter{w, &failures}, err
		}
		pair[side] = &ociregistry.Funcs{
			PushBlobChunked_: func(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
				return flaky(mems[side].PushBlobChunked(ctx, repo, chunkSize))
			},
			PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
				return flaky(mems[side].PushBlobChunkedResume(ctx, repo, id, offset, chunkSize))
			},
		}
		w, err := ociunify.New(pair[0], pair[1], nil).PushBlobChunked(ctx, "foo", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(data[:1000])
		qt.Assert(t, qt.IsNil(err))
		failures = 1
		_, err = w.Write(data[1000:3000])
		qt.Check(t, qt.ErrorIs(err, errBroken))
		qt.Check(t, qt.Equals(w.Size(), 1000))
		qt.Assert(t, qt.IsNil(w.Close()))

		u := ociunify.New(pair[0], pair[1], nil)
		_, err = u.PushBlobChunkedResume(ctx, "foo", w.ID(), 3000, 0)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
		w, err = u.PushBlobChunkedResume(ctx, "foo", w.ID(), -1, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(w.Size(), 1000))
		for offset := 1000; offset < len(data); offset += 500 {
			_, err = w.Write(data[offset : offset+500])
			qt.Assert(t, qt.IsNil(err))
		}
		_, err = w.Commit(blob.Descriptor.Digest)
		qt.Assert(t, qt.IsNil(err))
		for _, mem := range mems {
			got, err := readBlob(ctx, mem, "foo", blob.Descriptor.Digest)
			wantBytes(t, got, err, data)
		}
	}
	_, err := ociunify.New(ocimem.New(), ocimem.New(), nil).PushBlobChunkedResume(ctx, "foo", "not an id", -1, 0)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
}
