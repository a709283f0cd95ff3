package ociunify_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// took returns how long f takes.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// stalling is a cache, the content that it keeps, and calls for that content.
type stalling struct {
	*ociunify.Cache
	origin *counted
	mem    *ocimem.Registry
	image  *ocitest.Artifact
}

func newStalling(t *testing.T, opts *ociunify.CacheOptions) *stalling {
	mem := ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	c := ociunify.NewCache(ocimem.New(), origin, opts)
	t.Cleanup(func() { qt.Check(t, qt.IsNil(c.Close())) })
	wantTag(t, c, "foo", "v1", image)
	_, err := ociregistry.All(c.Referrers(t.Context(), "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	return &stalling{c, origin, mem, image}
}

func (s *stalling) calls(t *testing.T) map[string]func() {
	return map[string]func(){
		"GetTag": func() { wantTag(t, s, "foo", "v1", s.image) },
		"ResolveTag": func() {
			desc, err := s.ResolveTag(t.Context(), "foo", "v1")
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(desc.Digest, s.image.Descriptor.Digest))
		},
		"Tags": func() { qt.Check(t, qt.DeepEquals(tagsOf(t, s, "foo"), []string{"v1"})) },
		"Referrers": func() {
			none, err := ociregistry.All(s.Referrers(t.Context(), "foo", s.image.Descriptor.Digest, ""))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(none, 0))
		},
		"Repositories": func() {
			repos, err := ociregistry.All(s.Repositories(t.Context(), ""))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(repos, []string{"foo"}))
		},
	}
}

// stall makes the origin stall until the returned function is called.
func (s *stalling) stall() (recover func()) {
	var open []chan struct{}
	for _, method := range []string{"ResolveTag", "GetTag", "GetManifest", "GetBlob", "GetBlobRange", "ResolveBlob", "ResolveManifest", "Tags", "Referrers", "Repositories"} {
		open = append(open, s.origin.hold(method))
	}
	return func() {
		s.origin.mu.Lock()
		clear(s.origin.wait)
		s.origin.mu.Unlock()
		for _, c := range open {
			close(c)
		}
	}
}

// The cache serves what it keeps when the origin has not answered within OriginWait, and
// at once for some time after that.
func TestCache_ServesWhatIsKeptWhenOriginStalls(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]time.Duration{0: 10 * time.Second, time.Second: time.Second} {
		for _, method := range []string{"GetTag", "ResolveTag", "Tags", "Referrers", "Repositories"} {
			t.Run(method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStalling(t, &ociunify.CacheOptions{OriginWait: wait})
					call := s.calls(t)[method]
					recover := s.stall()
					qt.Check(t, qt.Equals(took(call), want))
					for range 20 { // without a pause, then for longer than a stall is remembered
						qt.Check(t, qt.Equals(took(call), 0))
					}
					for range 20 {
						time.Sleep(7 * time.Second)
						qt.Check(t, qt.Equals(took(call), 0))
					}
					recover()
					synctest.Wait()
					call()
					synctest.Wait()

					// The origin has answered: no caller gets old content any more.
					if method == "GetTag" || method == "ResolveTag" {
						s.image = pushed(t, s.mem, "foo", 2, "v1")
						call()
					}
				})
			})
		}
	}
}

// One call at a time asks an origin that stalls.
func TestCache_ProbesAStalledOriginByOneCallAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalling(t, nil)
		recover := s.stall()
		calls := s.calls(t)
		calls["GetTag"]()
		s.origin.took()
		for range 100 {
			calls["GetTag"]()
			calls["ResolveTag"]()
			calls["Tags"]()
		}
		synctest.Wait()
		qt.Check(t, qt.Equals(s.origin.took(), "ResolveTag"))
		time.Sleep(10 * time.Second) // the probe ends
		synctest.Wait()
		for range 100 {
			calls["Tags"]()
		}
		synctest.Wait()
		qt.Check(t, qt.Equals(s.origin.took(), "Tags"))
		recover()
		synctest.Wait()
		calls["GetTag"]()
		qt.Check(t, qt.Equals(s.origin.took(), "ResolveTag"))
	})
}

// A stall is forgotten after a while without calls. Calls about other repositories wait
// for a shorter time, and get fresh content if the origin answers.
func TestCache_RemembersStallsForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalling(t, nil)
		other := pushed(t, s.mem, "bar", 3, "v1")
		wantTag(t, s, "bar", "v1", other)
		inner := s.origin.ResolveTag_
		stalled := "foo bar"
		s.origin.ResolveTag_ = func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
			if stalled == "foo bar" || stalled == repo {
				<-ctx.Done()
				return ociregistry.Descriptor{}, ctx.Err()
			}
			return inner(ctx, repo, tag)
		}
		foo := func() { wantTag(t, s, "foo", "v1", s.image) }
		bar := func() { wantTag(t, s, "bar", "v1", other) }
		qt.Check(t, qt.Equals(took(foo), 10*time.Second))
		qt.Check(t, qt.Equals(took(bar), time.Second))
		qt.Check(t, qt.Equals(took(bar), 0))
		time.Sleep(time.Minute)
		qt.Check(t, qt.Equals(took(foo), 10*time.Second))
		stalled = "foo"
		other = pushed(t, s.mem, "bar", 4, "v1")
		qt.Check(t, qt.Equals(took(bar), 0))
		qt.Check(t, qt.Equals(took(foo), 0))
	})
}

// Without a limit, calls wait for the origin.
func TestCache_NegativeOriginWaitIsNoLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalling(t, &ociunify.CacheOptions{OriginWait: -1})
		recover := s.stall()
		for name, call := range s.calls(t) {
			done := make(chan struct{})
			go func() { call(); close(done) }()
			time.Sleep(4 * time.Minute)
			select {
			case <-done:
				t.Errorf("%s did not wait", name)
			default:
			}
			recover()
			<-done
			recover = s.stall()
		}
		recover()
	})
}

// When nothing is kept, the end of the wait is an error.
func TestCache_StallIsAnErrorWhenNothingIsKept(t *testing.T) {
	t.Parallel()
	calls := map[string]func(context.Context, *stalling) error{
		"GetTag":     func(ctx context.Context, s *stalling) error { _, err := s.GetTag(ctx, "foo", "v2"); return err },
		"ResolveTag": func(ctx context.Context, s *stalling) error { _, err := s.ResolveTag(ctx, "foo", "v2"); return err },
		"GetManifest": func(ctx context.Context, s *stalling) error {
			_, err := s.GetManifest(ctx, "foo", s.image.Blobs[1].Descriptor.Digest)
			return err
		},
		"GetBlob": func(ctx context.Context, s *stalling) error {
			_, err := readBlob(ctx, s, "foo", s.image.Blobs[2].Descriptor.Digest)
			return err
		},
		"GetBlobRange": func(ctx context.Context, s *stalling) error {
			_, err := readAll(s.GetBlobRange(ctx, "foo", s.image.Blobs[2].Descriptor.Digest, 1, 2))
			return err
		},
		"ResolveBlob": func(ctx context.Context, s *stalling) error {
			_, err := s.ResolveBlob(ctx, "foo", s.image.Blobs[2].Descriptor.Digest)
			return err
		},
		"Tags": func(ctx context.Context, s *stalling) error {
			_, err := ociregistry.All(s.Tags(ctx, "bar", ""))
			return err
		},
		"Referrers": func(ctx context.Context, s *stalling) error {
			_, err := ociregistry.All(s.Referrers(ctx, "foo", s.image.Blobs[2].Descriptor.Digest, ""))
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStalling(t, nil)
				recover := s.stall()
				var err error
				qt.Check(t, qt.Equals(took(func() { err = call(t.Context(), s) }), 5*time.Minute))
				qt.Check(t, qt.ErrorIs(err, os.ErrDeadlineExceeded))
				qt.Check(t, qt.StringContains(err.Error(), name))
				qt.Check(t, qt.IsFalse(errors.Is(err, context.Canceled)))
				recover()
				synctest.Wait()
			})
		})
	}
}

// A tag that is kept cannot be served if its manifest cannot be read: then the cache waits
// for the origin as if nothing were kept.
func TestCache_WaitsWhenWhatIsKeptCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem, kept := ocimem.New(), count(ocimem.New())
		origin := count(mem)
		c := ociunify.NewCache(kept, origin, nil)
		image := pushed(t, mem, "foo", 1, "v1")
		wantTag(t, c, "foo", "v1", image)
		kept.set("GetManifest", errBroken)
		kept.set("GetTag", errBroken)
		for _, method := range []string{"ResolveTag", "GetTag", "GetManifest"} {
			open := origin.hold(method)
			time.AfterFunc(time.Minute, func() { close(open) })
		}
		qt.Check(t, qt.Equals(took(func() { wantTag(t, c, "foo", "v1", image) }), time.Minute))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// A body that stalls ends the fetch, or the read of a range. Time in which nobody reads
// does not count.
func TestCache_EndsAFetchWhoseBodyStalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalling(t, nil)
		s.origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return newGate(rd, 1000, nil) })
		var err error
		read := func() { _, err = readBlob(t.Context(), s, "foo", s.image.Blobs[2].Descriptor.Digest) }
		qt.Check(t, qt.Equals(took(read), 5*time.Minute))
		qt.Check(t, qt.ErrorIs(err, os.ErrDeadlineExceeded))
		s.origin.setBody(nil)

		rd, err := s.GetBlobRange(t.Context(), "foo", s.image.Blobs[2].Descriptor.Digest, 1000, -1)
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(time.Hour)
		got, err := readAll(rd, nil)
		wantBytes(t, got, err, s.image.Blobs[2].Bytes()[1000:])
	})
}

// A tag whose new manifest does not come in time is served as it is kept.
func TestCache_ServesTheOldManifestWhenTheNewOneStalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalling(t, nil)
		pushed(t, s.mem, "foo", 2, "v1")
		s.origin.hold("GetManifest")
		inner := s.origin.ResolveTag_
		s.origin.ResolveTag_ = func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
			time.Sleep(9 * time.Second)
			return inner(ctx, repo, tag)
		}
		qt.Check(t, qt.Equals(took(s.calls(t)["GetTag"]), 10*time.Second))
	})
}

// An origin that stalls is passed over, and not asked again for a while. There is no limit
// for reading the content of another one.
func TestOrigins_PassOverWhatStalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		one, two := count(ocimem.New()), ocimem.New()
		image := pushed(t, two, "foo", 1, "v1")
		for _, method := range []string{"GetTag", "ResolveTag", "GetManifest", "GetBlob", "GetBlobRange", "ResolveBlob", "ResolveManifest", "Tags", "Referrers", "Repositories"} {
			one.hold(method)
		}
		blob, manifest := image.Blobs[2], image.Descriptor.Digest
		calls := map[string]func(ociregistry.Interface) error{
			"GetTag":     func(r ociregistry.Interface) error { _, err := readAll(r.GetTag(ctx, "foo", "v1")); return err },
			"ResolveTag": func(r ociregistry.Interface) error { _, err := r.ResolveTag(ctx, "foo", "v1"); return err },
			"GetBlob": func(r ociregistry.Interface) error {
				rd, err := r.GetBlob(ctx, "foo", blob.Descriptor.Digest)
				time.Sleep(time.Hour)
				_, err = readAll(rd, err)
				return err
			},
			"ResolveManifest": func(r ociregistry.Interface) error { _, err := r.ResolveManifest(ctx, "foo", manifest); return err },
			"Tags": func(r ociregistry.Interface) error {
				n := 0
				for _, err := range r.Tags(ctx, "foo", "") {
					if n++; err != nil {
						return err
					}
					time.Sleep(time.Hour)
				}
				qt.Check(t, qt.Equals(n, 1))
				return nil
			},
		}
		for name, call := range calls {
			// The first of them is not the last that can be asked.
			r := ociunify.Origins([]ociregistry.Interface{one, two}, nil)
			qt.Check(t, qt.IsNil(call(r)), qt.Commentf("%s", name))
			one.took()
			qt.Check(t, qt.IsNil(call(r)))
			if name != "GetBlob" && name != "Tags" { // which have taken an hour
				qt.Check(t, qt.Equals(one.took(), ""))
			}
		}

		c := ociunify.NewCache(ocimem.New(), ociunify.Origins([]ociregistry.Interface{one, two}, nil), nil)
		qt.Check(t, qt.Equals(took(func() { wantTag(t, c, "foo", "v1", image) }), 5*time.Second))
		qt.Check(t, qt.Equals(took(func() { wantTag(t, c, "foo", "v1", image) }), 0))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// slowTags is a registry that lists tags slowly.
type slowTags struct {
	ociregistry.Interface
	begin, rest time.Duration
}

func (r slowTags) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		wait := r.begin
		for tag, err := range r.Interface.Tags(ctx, repo, after) {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				yield("", ctx.Err())
				return
			}
			if !yield(tag, err) {
				return
			}
			wait = r.rest
		}
	}
}

// A list that begins while the cache looks for a kept one is not broken off. One that
// begins after that decision comes too late.
func TestCache_DoesNotBreakOffAListThatBeginsAtTheLastMoment(t *testing.T) {
	t.Parallel()
	for _, kept := range []time.Duration{time.Second, 200 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			mem, cached := ocimem.New(), ocimem.New()
			pushed(t, mem, "foo", 1, "v1", "v2", "v3")
			pushed(t, cached, "foo", 1, "v1")
			origin := slowTags{mem, 10*time.Second + 500*time.Millisecond, 5 * time.Second}
			c := ociunify.NewCache(slowTags{cached, kept, 0}, origin, nil)
			want := []string{"v1", "v2", "v3"}
			if kept < time.Second/2 {
				want = []string{"v1"}
			}
			qt.Check(t, qt.DeepEquals(tagsOf(t, c, "foo"), want))
			qt.Check(t, qt.IsNil(c.Close()))
		})
	}
}
