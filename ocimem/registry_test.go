package ocimem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

var ctx = context.Background()

func randomBytes(seed uint64, n int) []byte {
	data := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	src.Read(data)
	return data
}

func descriptor(data []byte) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func pushBlob(t testing.TB, r ociregistry.Interface, repo string, data []byte) ociregistry.Descriptor {
	t.Helper()
	desc, err := r.PushBlob(ctx, repo, descriptor(data), bytes.NewReader(data))
	qt.Assert(t, qt.IsNil(err))
	return desc
}

func readAll(t testing.TB, r io.ReadCloser) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.Close()))
	return data
}

func TestBlobsOfAnySizeReadBackByEveryWay(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, minChunk - 1, minChunk, minChunk + 1, 3 * minChunk, maxChunk - 1, maxChunk, maxChunk + 1, 5*maxChunk + 7} {
		data := randomBytes(uint64(size), size)
		pushes := map[string]func(r *Registry) error{
			"PushBlob": func(r *Registry) error {
				_, err := r.PushBlob(ctx, "a", descriptor(data), iotest.HalfReader(bytes.NewReader(data)))
				return err
			},
			"ReadFrom": func(r *Registry) error {
				return chunked(r, func(w ociregistry.BlobWriter) error {
					_, err := w.(io.ReaderFrom).ReadFrom(iotest.DataErrReader(bytes.NewReader(data)))
					return err
				}, digest.FromBytes(data))
			},
			"Write": func(r *Registry) error {
				return chunked(r, func(w ociregistry.BlobWriter) error {
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 1000)
						if _, err := w.Write(rest[:n]); err != nil {
							return err
						}
						rest = rest[n:]
					}
					return nil
				}, digest.FromBytes(data))
			},
		}
		for name, push := range pushes {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				t.Parallel()
				r := New()
				qt.Assert(t, qt.IsNil(push(r)))
				b, err := r.GetBlob(ctx, "a", digest.FromBytes(data))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(iotest.TestReader(b, data)))
				b, err = r.GetBlobRange(ctx, "a", digest.FromBytes(data), int64(size/3), int64(size-size/3))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(iotest.TestReader(b, data[size/3:size-size/3])))
				var buf bytes.Buffer
				b, _ = r.GetBlob(ctx, "a", digest.FromBytes(data))
				n, err := b.(io.WriterTo).WriteTo(&buf)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(n, int64(size)))
				qt.Assert(t, qt.IsTrue(bytes.Equal(buf.Bytes(), data)))
			})
		}
	}
}

func chunked(r *Registry, write func(ociregistry.BlobWriter) error, dgst ociregistry.Digest) error {
	w, err := r.PushBlobChunked(ctx, "a", 0)
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		return err
	}
	_, err = w.Commit(dgst)
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestImmutableTags_StayWhereTheyAre(t *testing.T) {
	t.Parallel()
	r := NewWithConfig(&Config{ImmutableTags: true})
	push := func(ref, contents, mediaType string, tags ...string) error {
		_, err := r.PushManifest(ctx, "a", ref, []byte(contents), mediaType, tags...)
		return err
	}
	one := digest.FromString("one")
	qt.Assert(t, qt.IsNil(push("v1", "one", "text/plain")))
	qt.Assert(t, qt.IsNil(push("v1", "one", "text/plain", "v1.0")))
	qt.Assert(t, qt.ErrorIs(push("v1", "two", "text/plain"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(push("v2", "two", "text/plain", "v3", "v1"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(push("", "one", "text/html"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(r.DeleteTag(ctx, "a", "v1"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(r.DeleteManifest(ctx, "a", one), ociregistry.ErrDenied))
	tags, err := ociregistry.All(r.Tags(ctx, "a", ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(tags, []string{"v1", "v1.0"}))

	qt.Assert(t, qt.IsNil(push("", "two", "text/plain")))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromString("two"))))
}

func TestProtectShared_RefusesToDeleteWhatSeveralTagsPointAt(t *testing.T) {
	t.Parallel()
	for _, protect := range []bool{false, true} {
		r := NewWithConfig(&Config{ProtectShared: protect})
		desc, err := r.PushManifest(ctx, "a", "v1", []byte("one"), "text/plain", "v2")
		qt.Assert(t, qt.IsNil(err))
		if !protect {
			qt.Check(t, qt.IsNil(r.DeleteManifest(ctx, "a", desc.Digest)))
			continue
		}
		for _, ctx := range []context.Context{ctx, ociregistry.AllowInUse(ctx)} {
			qt.Check(t, qt.ErrorIs(r.DeleteManifest(ctx, "a", desc.Digest), ociregistry.ErrDenied))
		}
		tags, err := ociregistry.All(r.Tags(ctx, "a", ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tags, []string{"v1", "v2"}))
		qt.Check(t, qt.IsNil(r.DeleteTag(ctx, "a", "v1")))
		qt.Check(t, qt.IsNil(r.DeleteManifest(ctx, "a", desc.Digest)))
	}
}

func TestLaxAndSparse_AcceptManifestsWhoseContentIsMissing(t *testing.T) {
	t.Parallel()
	image := []byte(`{"config":{"mediaType":"a/b","size":1,"digest":"` + string(digest.FromString("x")) + `"}}`)
	index := []byte(`{"manifests":[{"mediaType":"a/b","size":` + strconv.Itoa(len(image)) + `,"digest":"` + string(digest.FromBytes(image)) + `"}]}`)
	tests := []struct {
		name       string
		cfg        Config
		push, drop error
	}{
		{"Strict", Config{}, ociregistry.ErrManifestBlobUnknown, ociregistry.ErrInUse},
		{"Lax", Config{LaxChildReferences: true}, nil, ociregistry.ErrInUse},
		{"Sparse", Config{Sparse: true}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := NewWithConfig(&test.cfg)
			_, err := r.PushManifest(ctx, "a", "i", image, ocispec.MediaTypeImageManifest)
			checkError(t, err, test.push)
			pushBlob(t, r, "a", []byte("x"))
			_, err = r.PushManifest(ctx, "a", "i", image, ocispec.MediaTypeImageManifest)
			qt.Assert(t, qt.IsNil(err))
			_, err = r.PushManifest(ctx, "a", "x", index, ocispec.MediaTypeImageIndex)
			qt.Assert(t, qt.IsNil(err))
			checkError(t, r.DeleteBlob(ctx, "a", digest.FromString("x")), test.drop)
			checkError(t, r.DeleteManifest(ctx, "a", digest.FromBytes(image)), test.drop)
		})
	}
}

// TestOtherDigestAlgorithms_CanBeNamedWhereContentMayBeMissing pushes manifests
// that name content by a digest with an unsupported algorithm, which the repository
// cannot have.
func TestOtherDigestAlgorithms_CanBeNamedWhereContentMayBeMissing(t *testing.T) {
	t.Parallel()
	const foreign = `{"mediaType":"a/b","size":1,"digest":"blake3:abc"`
	config := `"config":{"size":0,"digest":"` + string(digest.FromString("")) + `"}`
	tests := []struct {
		name, contents string
		want           error
	}{
		{"Layer", `{` + config + `,"layers":[` + foreign + `}]}`, ociregistry.ErrManifestBlobUnknown},
		{"LayerElsewhere", `{` + config + `,"layers":[` + foreign + `,"urls":["https://example.com"]}]}`, nil},
		{"Subject", `{` + config + `,"subject":` + foreign + `}}`, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, cfg := range []Config{{}, {Sparse: true}} {
				r := NewWithConfig(&cfg)
				pushBlob(t, r, "a", nil)
				_, err := r.PushManifest(ctx, "a", "v1", []byte(test.contents), ocispec.MediaTypeImageManifest)
				if test.want != nil && !cfg.Sparse {
					qt.Check(t, qt.ErrorIs(err, test.want))
					continue
				}
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromString(test.contents))))
				qt.Check(t, qt.HasLen(r.repos["a"].referrers, 0))
			}
		})
	}
}

func checkError(t *testing.T, got, want error) {
	t.Helper()
	qt.Assert(t, qt.IsTrue(errors.Is(got, want)), qt.Commentf("got %v, want %v", got, want))
}

// TestMediaTypeIsReplaced pushes the same bytes as an index and as an unknown type.
func TestMediaTypeIsReplaced(t *testing.T) {
	t.Parallel()
	r := New()
	child := []byte(`{"manifests":[]}`)
	index := []byte(`{"manifests":[{"size":16,"digest":"` + string(digest.FromBytes(child)) + `"}]}`)
	_, err := r.PushManifest(ctx, "a", "i", index, "text/plain")
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushManifest(ctx, "a", "", child, ocispec.MediaTypeImageIndex)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushManifest(ctx, "a", "", index, ocispec.MediaTypeImageIndex)
	qt.Assert(t, qt.IsNil(err))
	desc, err := r.ResolveTag(ctx, "a", "i")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(desc.MediaType, ocispec.MediaTypeImageIndex))
	qt.Assert(t, qt.ErrorIs(r.DeleteManifest(ctx, "a", digest.FromBytes(child)), ociregistry.ErrInUse))
	_, err = r.PushManifest(ctx, "a", "", index, "text/plain")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromBytes(child))))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromBytes(index))))
	_, err = r.ResolveTag(ctx, "a", "i")
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

// TestRepositories_ComeAndGoWithoutLosingAPush races the creation and removal of
// one repository.
func TestRepositories_ComeAndGoWithoutLosingAPush(t *testing.T) {
	t.Parallel()
	r := New()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			data := []byte{byte(i)}
			for range 300 {
				pushBlob(t, r, "a", data)
				if _, err := r.ResolveBlob(ctx, "a", digest.FromBytes(data)); err != nil {
					t.Errorf("pushed and not there: %v", err)
				}
				if err := r.DeleteBlob(ctx, "a", digest.FromBytes(data)); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	qt.Assert(t, qt.HasLen(r.repos, 0))
	qt.Assert(t, qt.Equals(r.names.Len(), 0))
	qt.Assert(t, qt.Equals(r.used.Load(), 0))
}

// TestReferrersAreNotCutShort ends the context in the middle of a list. The list is complete
// nevertheless, or ends with an error.
func TestReferrersAreNotCutShort(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, ordered.BatchSize, ordered.BatchSize + 1} {
		r := NewWithConfig(&Config{Sparse: true})
		subject := digest.FromString("subject")
		for i := range n {
			m := fmt.Sprintf(`{"manifests":[],"subject":{"digest":%q},"annotations":{"i":"%d"}}`, subject, i)
			_, err := r.PushManifest(ctx, "a", "", []byte(m), ocispec.MediaTypeImageIndex)
			qt.Assert(t, qt.IsNil(err))
		}
		ctx, cancel := context.WithCancel(ctx)
		got := 0
		var err error
		for _, err = range r.Referrers(ctx, "a", subject, "") {
			if err == nil {
				got++
			}
			cancel()
		}
		cancel()
		if err == nil {
			qt.Check(t, qt.Equals(got, n))
		} else {
			qt.Check(t, qt.ErrorIs(err, context.Canceled))
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestWriteTo_KeepsWhatAShortWriterLeft(t *testing.T) {
	t.Parallel()
	r := New()
	desc := pushBlob(t, r, "a", []byte("hello"))
	b, err := r.GetBlob(ctx, "a", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	n, err := b.(io.WriterTo).WriteTo(writerFunc(func(p []byte) (int, error) { return min(len(p), 2), nil }))
	qt.Check(t, qt.Equals(n, 2))
	qt.Check(t, qt.Equals(err, io.ErrShortWrite))
	qt.Check(t, qt.Equals(string(readAll(t, b)), "llo"))
}
