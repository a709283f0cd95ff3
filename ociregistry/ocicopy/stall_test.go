package ocicopy

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// never waits for what does not come.
func never(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// stallAt makes s stall in a method, or in the middle of a list or a blob, until the
// returned function is called.
func stallAt(s *spy, at string) (recover func()) {
	var over atomic.Bool
	stall := func(ctx context.Context, method string) error {
		if !over.Load() && method == at {
			return never(ctx)
		}
		return nil
	}
	s.before = func(ctx context.Context, method, _, _ string) error { return stall(ctx, method) }
	f := s.Interface.(*ociregistry.Funcs)
	getBlob, getManifest, tags := f.GetBlob_, f.GetManifest_, f.Tags_
	f.GetBlob_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
		r, err := getBlob(ctx, repo, d)
		return &stallingReader{BlobReader: r, stall: func() error { return stall(ctx, "middle of a blob") }}, err
	}
	f.GetManifest_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
		r, err := getManifest(ctx, repo, d)
		return &stallingReader{BlobReader: r, stall: func() error { return stall(ctx, "middle of a manifest") }}, err
	}
	f.Tags_ = func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for tag, err := range tags(ctx, repo, after) {
				if !yield(tag, err) {
					return
				}
				if stall(ctx, "middle of a list") != nil {
					return // without an error
				}
			}
		}
	}
	return func() { over.Store(true) }
}

type stallingReader struct {
	ociregistry.BlobReader
	stall func() error
	read  bool
}

func (r *stallingReader) Read(p []byte) (int, error) {
	if r.read {
		if err := r.stall(); err != nil {
			return 0, err
		}
	}
	r.read = true
	return r.BlobReader.Read(p[:min(len(p), 10)])
}

var stalls = []string{
	"Repositories", "Tags", "ResolveTag", "GetManifest", "GetBlob", "Referrers",
	"middle of a list", "middle of a manifest", "middle of a blob",
}

// A source that stalls is given up after its own Stall, retried with backoff, and does not
// delay other sources, not even in later passes. When it works again, it is mirrored.
func TestMirror_StalledSourceDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, where := range stalls {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, two, dst := newSpy(ocimem.New()), newSpy(ocimem.New()), ocimem.New()
				for i := range 3 {
					tag := string(rune('a' + i))
					mustPush(t, one, "app", based(i), tag)
					mustPush(t, two, "app", based(i), tag) // with the same blobs
				}
				two.before = func(_ context.Context, method, _, _ string) error {
					if method == "Repositories" {
						time.Sleep(time.Second) // so that the other source copies the blobs first
					}
					return nil
				}
				goOn := stallAt(one, where)
				start := time.Now()
				type at struct {
					source  string
					outcome Outcome
					after   time.Duration
				}
				var events []at
				opts := &MirrorOptions{
					Interval:         time.Minute,
					Attempts:         2,
					Backoff:          10 * time.Second,
					ImageConcurrency: 1,
					Report: func(e Event) {
						qt.Check(t, qt.Equals(errors.Is(e.Err, ErrStalled), e.Outcome == Retried || e.Outcome == Failed))
						events = append(events, at{e.Source, e.Outcome, time.Since(start)})
					},
				}
				m := mustMirror(t, dst, opts,
					Source{Name: "one", Registry: one, Rules: []Rule{{Repositories: "*", Destination: "one"}}, Stall: 20 * time.Second},
					Source{Name: "two", Registry: two, Rules: []Rule{{Repositories: "*", Destination: "two"}}, Stall: time.Hour},
				)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+2*time.Second)
				defer cancel()
				time.AfterFunc(5*time.Minute, goOn)
				qt.Check(t, qt.ErrorIs(m.Run(ctx), context.DeadlineExceeded))
				for pass := range 11 {
					outcome := Same
					if pass == 0 {
						outcome = Updated
					}
					want := at{"two", outcome, time.Duration(pass)*time.Minute + time.Second}
					n := 0
					for _, e := range events {
						if e == want {
							n++
						}
					}
					qt.Check(t, qt.Equals(n, 3), qt.Commentf("%+v", want))
				}
				first := slices.IndexFunc(events, func(e at) bool { return e.source == "one" && e.outcome == Retried })
				qt.Assert(t, qt.IsTrue(first >= 0))
				qt.Check(t, qt.Equals(events[first].after, 20*time.Second))
				failed := slices.ContainsFunc(events, func(e at) bool { return e.outcome == Failed })
				// In the second pass the blobs exist: they came from the other source.
				qt.Check(t, qt.Equals(failed, where != "GetBlob" && where != "middle of a blob"))
				for i := range 3 {
					qt.Check(t, qt.Equals(tagged(t, dst, "one/app", string(rune('a'+i))), based(i).Descriptor.Digest))
				}
			})
		})
	}
}

// It is not known what a stalled source has: no tag is deleted that it may have, and the
// deletions for other sources delay no copy.
func TestMirror_StalledSourceDelaysNoCopyByDeletions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two, dst := newSpy(ocimem.New()), newSpy(ocimem.New()), ocimem.New()
		for _, repo := range []string{"a", "b", "c"} {
			mustPush(t, one, repo, image(1), "new-"+repo)
			for _, tag := range []string{"old1", "old2", "old3", "old4", "old5"} {
				mustPush(t, dst, "x", image(2), tag)
			}
		}
		two.before = func(ctx context.Context, _, _, _ string) error { return never(ctx) }
		start := time.Now()
		copied := 0
		opts := &MirrorOptions{Attempts: -1, ImageConcurrency: 2, Report: func(e Event) {
			if e.Outcome == Updated {
				copied++
				qt.Check(t, qt.Equals(time.Since(start), 0))
			}
		}}
		var rules []Rule
		for _, repo := range []string{"a", "b", "c"} {
			rules = append(rules, Rule{Repositories: repo, Destination: "x", Strip: true, Delete: true})
		}
		m := mustMirror(t, dst, opts,
			Source{Name: "one", Registry: one, Rules: rules},
			Source{Name: "two", Registry: two, Rules: []Rule{{Repositories: "y", Destination: "x", Strip: true}}},
		)
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(copied, 3))
		qt.Check(t, qt.Equals(summary.Deleted, 0))
		qt.Check(t, qt.HasLen(summary.Failures, 16))
		for _, e := range summary.Failures {
			qt.Check(t, qt.ErrorIs(e.Err, ErrStalled))
		}
		qt.Check(t, qt.Equals(tagsOf(t, dst, "x"), "new-a new-b new-c old1 old2 old3 old4 old5"))
		// The mirror waits for the source until its own Stall, not for each tag.
		qt.Check(t, qt.Equals(time.Since(start), DefaultStall))
	})
}

// Time in which nobody waits for a source does not count.
func TestMirror_SlowDestinationIsNoStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), newSpy(ocimem.New())
		mustPush(t, src, "a", image(1), "v1")
		dst.before = func(ctx context.Context, method, _, _ string) error {
			time.Sleep(time.Hour)
			return nil
		}
		push := dst.Interface.(*ociregistry.Funcs).PushBlob_
		dst.Interface.(*ociregistry.Funcs).PushBlob_ = func(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
			return push(ctx, repo, desc, slowReader{r})
		}
		opts := &MirrorOptions{Validate: func(context.Context, Image) error {
			time.Sleep(time.Hour)
			return nil
		}}
		m := mustMirror(t, dst, opts, Source{Name: "hub", Registry: src, Rules: []Rule{{Repositories: "*"}}, Stall: time.Second})
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
		qt.Check(t, qt.IsNil(image(1).Verify(t.Context(), dst, "a")))
	})
}

type slowReader struct{ io.Reader }

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(time.Hour)
	return r.Reader.Read(p[:min(len(p), 50)])
}

// A patient registry returns what the underlying one does.
func TestPatient_PassesEverythingOn(t *testing.T) {
	t.Parallel()
	reg := ocimem.New()
	index, _ := signedIndex(t, reg, "a", "v1")
	p := &patient{reg: reg, bound: time.Hour}
	for range 2 {
		rd, err := p.GetTag(t.Context(), "a", "v1")
		qt.Assert(t, qt.IsNil(err))
		ocitest.CheckContent(t, rd, index.Manifest, index.Descriptor.MediaType)
	}
	desc, err := p.ResolveManifest(t.Context(), "a", index.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(desc.Size, index.Descriptor.Size))
	repos, err := ociregistry.All(p.Repositories(t.Context(), ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(repos, []string{"a"}))
	_, err = p.GetBlob(t.Context(), "a", sha512Of(nil))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	_, err = ociregistry.All(p.Tags(t.Context(), "b", ""))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))

	// Blobs are still mounted within one registry, and a push that starts again can seek.
	qt.Check(t, qt.IsTrue(same(reg, p)))
	rd, err := p.GetBlob(t.Context(), "a", index.Children[0].Blobs[1].Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	defer rd.Close()
	first, err := io.ReadAll(rd)
	qt.Assert(t, qt.IsNil(err))
	_, err = rd.(io.Seeker).Seek(0, io.SeekStart)
	qt.Assert(t, qt.IsNil(err))
	again, err := io.ReadAll(rd)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, first))
}

func TestMirror_NegativeStallIsNoLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), ocimem.New()
		mustPush(t, src, "a", image(1), "v1")
		const year = 365 * 24 * time.Hour
		src.before = func(context.Context, string, string, string) error {
			time.Sleep(year)
			return nil
		}
		m := mustMirror(t, dst, nil, Source{Name: "hub", Registry: src, Rules: []Rule{{Repositories: "*"}}, Stall: -1})
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))

		src.before = func(ctx context.Context, _, _, _ string) error { return never(ctx) }
		ctx, cancel := context.WithTimeout(t.Context(), 10*year)
		defer cancel()
		summary, err := m.Pass(ctx)
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.DeepEquals(summary, Summary{}))
	})
}
