package ocicopy

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// spy is a registry that counts calls, and can make them fail or wait.
type spy struct {
	ociregistry.Interface
	before func(ctx context.Context, method, repo, ref string) error // may be nil

	mu    sync.Mutex
	calls map[string]int
	log   []string // "Method ref", of pushes alone
}

func newSpy(r ociregistry.Interface) *spy {
	s := &spy{calls: make(map[string]int)}
	s.Interface = &ociregistry.Funcs{
		GetBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			if err := s.enter(ctx, "GetBlob", repo, string(d)); err != nil {
				return nil, err
			}
			return r.GetBlob(ctx, repo, d)
		},
		GetManifest_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			if err := s.enter(ctx, "GetManifest", repo, string(d)); err != nil {
				return nil, err
			}
			return r.GetManifest(ctx, repo, d)
		},
		GetTag_: func(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
			if err := s.enter(ctx, "GetTag", repo, tag); err != nil {
				return nil, err
			}
			return r.GetTag(ctx, repo, tag)
		},
		ResolveBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			if err := s.enter(ctx, "ResolveBlob", repo, string(d)); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.ResolveBlob(ctx, repo, d)
		},
		ResolveManifest_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			if err := s.enter(ctx, "ResolveManifest", repo, string(d)); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.ResolveManifest(ctx, repo, d)
		},
		ResolveTag_: func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
			if err := s.enter(ctx, "ResolveTag", repo, tag); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.ResolveTag(ctx, repo, tag)
		},
		PushBlob_: func(ctx context.Context, repo string, desc ociregistry.Descriptor, body io.Reader) (ociregistry.Descriptor, error) {
			if err := s.enter(ctx, "PushBlob", repo, string(desc.Digest)); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.PushBlob(ctx, repo, desc, body)
		},
		MountBlob_: func(ctx context.Context, from, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			if err := s.enter(ctx, "MountBlob", to, string(d)); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.MountBlob(ctx, from, to, d)
		},
		PushManifest_: func(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
			if err := s.enter(ctx, "PushManifest", repo, ref); err != nil {
				return ociregistry.Descriptor{}, err
			}
			return r.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
		},
		DeleteTag_: func(ctx context.Context, repo, tag string) error {
			if err := s.enter(ctx, "DeleteTag", repo, tag); err != nil {
				return err
			}
			return r.DeleteTag(ctx, repo, tag)
		},
		Repositories_: func(ctx context.Context, after string) iter.Seq2[string, error] {
			if err := s.enter(ctx, "Repositories", "", after); err != nil {
				return ociregistry.ErrorSeq[string](err)
			}
			return r.Repositories(ctx, after)
		},
		Tags_: func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
			if err := s.enter(ctx, "Tags", repo, after); err != nil {
				return ociregistry.ErrorSeq[string](err)
			}
			return r.Tags(ctx, repo, after)
		},
		Referrers_: func(ctx context.Context, repo string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
			if err := s.enter(ctx, "Referrers", repo, string(d)); err != nil {
				return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
			}
			return r.Referrers(ctx, repo, d, artifactType)
		},
	}
	return s
}

func (s *spy) enter(ctx context.Context, method, repo, ref string) error {
	s.mu.Lock()
	s.calls[method]++
	if strings.HasPrefix(method, "Push") {
		s.log = append(s.log, method+" "+ref)
	}
	s.mu.Unlock()
	if s.before != nil {
		return s.before(ctx, method, repo, ref)
	}
	return nil
}

// take returns the calls since the last call of take, as in "GetTag 1, Tags 2".
func (s *spy) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, method := range slices.Sorted(maps.Keys(s.calls)) {
		all = append(all, fmt.Sprintf("%s %d", method, s.calls[method]))
	}
	clear(s.calls)
	s.log = nil
	return strings.Join(all, ", ")
}

func (s *spy) pushes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// pairs are the kinds of registry that a copy is tested between.
var pairs = []struct {
	name     string
	src, dst func(testing.TB) ociregistry.Interface
}{
	{"mem to mem", newMem, newMem},
	{"mem to fs", newMem, newFS},
	{"fs to mem", newFS, newMem},
	{"client to client", newRemote, newRemote},
}

// newRemote returns a client of a server of memory.
func newRemote(t testing.TB) ociregistry.Interface { return serve(t, ocimem.New(), 0) }

func newBytesReader(contents []byte, desc ociregistry.Descriptor) ociregistry.BlobReader {
	return ocimem.NewBytesReader(contents, desc)
}

func newMem(testing.TB) ociregistry.Interface { return ocimem.New() }

func newSparse(testing.TB) ociregistry.Interface {
	return ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
}

func newFS(t testing.TB) ociregistry.Interface {
	r, err := ocifs.New(scratch.Dir(t), &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(r.Close())) })
	return r
}

// overEachPair runs a test with each of pairs.
func overEachPair(t *testing.T, f func(t *testing.T, src, dst *spy)) {
	t.Parallel()
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			f(t, newSpy(p.src(t)), newSpy(p.dst(t)))
		})
	}
}

func mustPush(t testing.TB, r ociregistry.Interface, repo string, a *ocitest.Artifact, tags ...string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(a.Push(t.Context(), r, repo, tags...)))
}

func mustHave(t testing.TB, r ociregistry.Interface, repo string, a *ocitest.Artifact) {
	t.Helper()
	qt.Assert(t, qt.IsNil(a.Verify(t.Context(), r, repo)))
}

func mustCopy(t testing.TB, dst, src Place, opts *Options) Result {
	t.Helper()
	result, err := Copy(t.Context(), dst, src, opts)
	qt.Assert(t, qt.IsNil(err))
	return result
}

// tagged returns the digest that a tag points at, or "".
func tagged(t testing.TB, r ociregistry.Interface, repo, tag string) ociregistry.Digest {
	t.Helper()
	desc, err := r.ResolveTag(t.Context(), repo, tag)
	if !absent(err) {
		qt.Assert(t, qt.IsNil(err))
	}
	return desc.Digest
}

func referrersOf(list func(ociregistry.Digest) []ociregistry.Descriptor) func(context.Context, string, ociregistry.Digest, string) iter.Seq2[ociregistry.Descriptor, error] {
	return func(_ context.Context, _ string, d ociregistry.Digest, _ string) iter.Seq2[ociregistry.Descriptor, error] {
		return ociregistry.SliceSeq(list(d))
	}
}
