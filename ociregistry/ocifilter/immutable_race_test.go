package ocifilter_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

// raced is a registry that calls a function just before a push.
type raced struct {
	ociregistry.Interface
	before func()
}

func (r raced) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	r.before()
	return r.Interface.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

// The underlying registry changes between the check of the tag and the push.
func TestImmutable_PushLosesARace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		condition ociregistry.PushCondition
		theirs    string
		want      error
	}{
		{"ToOther", ociregistry.PushCondition{}, "theirs", ociregistry.ErrDenied},
		{"ToSame", ociregistry.PushCondition{}, "ours", nil},
		{"ToSameWithCondition", ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}}, "ours", ociregistry.ErrPreconditionFailed},
	}
	for _, test := range tests {
		for form, do := range map[string]func(context.Context, ociregistry.Interface) error{
			"Ref": func(ctx context.Context, r ociregistry.Interface) error { return push(ctx, r, "v1", "ours") },
			"Tag": func(ctx context.Context, r ociregistry.Interface) error { return push(ctx, r, "", "ours", "v1") },
			"Digest": func(ctx context.Context, r ociregistry.Interface) error {
				return push(ctx, r, string(digest.FromString("ours")), "ours", "v1")
			},
		} {
			if test.want == ociregistry.ErrPreconditionFailed && form != "Ref" {
				continue // the condition is on the manifest
			}
			t.Run(test.name+form, func(t *testing.T) {
				backend := ocimem.New()
				var once sync.Once
				r := ocifilter.Immutable(raced{backend, func() {
					once.Do(func() { qt.Assert(t, qt.IsNil(push(t.Context(), backend, "v1", test.theirs))) })
				}})
				ctx := t.Context()
				if form == "Ref" {
					ctx = ociregistry.WithPushCondition(ctx, test.condition)
				}
				qt.Check(t, qt.ErrorIs(do(ctx, r), test.want))
				qt.Check(t, qt.DeepEquals(tagsOf(t, backend), map[string]ociregistry.Digest{"v1": digest.FromString(test.theirs)}))
			})
		}
	}
}

// A registry whose conditions never hold does not keep a push trying for ever.
func TestImmutable_GivesUpWhenConditionsNeverHold(t *testing.T) {
	t.Parallel()
	pushes := 0
	r := ocifilter.Immutable(&ociregistry.Funcs{
		ResolveManifest_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
			return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
		},
		ResolveTag_: func(context.Context, string, string) (ociregistry.Descriptor, error) {
			return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
		},
		PushManifest_: func(context.Context, string, string, []byte, string, ...string) (ociregistry.Descriptor, error) {
			pushes++
			return ociregistry.Descriptor{}, ociregistry.ErrPreconditionFailed
		},
	})
	qt.Check(t, qt.ErrorIs(push(t.Context(), r, "v1", "new"), ociregistry.ErrPreconditionFailed))
	qt.Check(t, qt.Equals(pushes, 3))
}

// unconditional is a registry that ignores push conditions.
type unconditional struct{ ociregistry.Interface }

func (r unconditional) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	ctx = ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{})
	return r.Interface.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

// Exactly one of several concurrent pushes of a tag succeeds: through one view always,
// and through several views if the underlying registry honours conditions.
func TestImmutable_OneOfConcurrentPushesWins(t *testing.T) {
	t.Parallel()
	for name, views := range map[string]func(ociregistry.Interface) []ociregistry.Interface{
		"OneView": func(r ociregistry.Interface) []ociregistry.Interface {
			return []ociregistry.Interface{ocifilter.Immutable(unconditional{r})}
		},
		"SeveralViews": func(r ociregistry.Interface) []ociregistry.Interface {
			return []ociregistry.Interface{ocifilter.Immutable(r), ocifilter.Immutable(r), ocifilter.Immutable(r)}
		},
	} {
		for form, do := range map[string]func(r ociregistry.Interface, contents string) error{
			"Ref": func(r ociregistry.Interface, contents string) error {
				return push(t.Context(), r, "v1", contents)
			},
			"Tag": func(r ociregistry.Interface, contents string) error {
				return push(t.Context(), r, "", contents, "v1")
			},
		} {
			t.Run(name+form, func(t *testing.T) {
				t.Parallel()
				for range 20 {
					backend := ocimem.New()
					all := views(backend)
					const n = 16
					var won [n]bool
					var wg sync.WaitGroup
					for i := range n {
						wg.Go(func() {
							err := do(all[i%len(all)], fmt.Sprint("manifest ", i))
							if err != nil {
								qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
							}
							won[i] = err == nil
						})
					}
					wg.Wait()
					want := map[string]ociregistry.Digest{}
					for i, won := range won {
						if won {
							qt.Check(t, qt.HasLen(want, 0), qt.Commentf("two pushes won"))
							want["v1"] = digest.FromString(fmt.Sprint("manifest ", i))
						}
					}
					qt.Check(t, qt.HasLen(want, 1), qt.Commentf("no push won"))
					qt.Check(t, qt.DeepEquals(tagsOf(t, backend), want))
				}
			})
		}
	}
}

// Pushes that have several tags in common, in different orders, do not deadlock, and
// set all of their tags or none.
func TestImmutable_ConcurrentPushesOfSeveralTagsEnd(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	r := ocifilter.Immutable(unconditional{backend})
	orders := [][]string{{"a", "b", "c"}, {"c", "b", "a"}, {"b", "c", "a"}, {"b", "a", "c"}}
	var winners atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			tags := orders[i%len(orders)]
			err := push(t.Context(), r, tags[0], fmt.Sprint("manifest ", i), tags[1:]...)
			if err == nil {
				winners.Add(1)
			} else {
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
			}
		})
	}
	wg.Wait()
	qt.Check(t, qt.Equals(winners.Load(), 1))
	tags := tagsOf(t, backend)
	qt.Check(t, qt.HasLen(tags, 3))
	qt.Check(t, qt.Equals(tags["a"], tags["b"]))
	qt.Check(t, qt.Equals(tags["a"], tags["c"]))
}

// A push that waits for another push of the same tag ends with its context.
func TestImmutable_WaitsUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		backend := ocimem.New()
		r := ocifilter.Immutable(raced{backend, func() { <-release }})
		first := make(chan error)
		go func() { first <- push(t.Context(), r, "v1", "one") }()
		synctest.Wait() // now it is in the backend

		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error)
		go func() { second <- push(ctx, r, "v1", "two", "v2", "v3") }()
		synctest.Wait()
		select {
		case err := <-second:
			t.Fatalf("the second push did not wait: %v", err)
		default:
		}
		cancel()
		qt.Check(t, qt.ErrorIs(<-second, context.Canceled))

		close(release)
		qt.Check(t, qt.IsNil(<-first))
		// What the second push had locked is free again.
		qt.Check(t, qt.IsNil(push(t.Context(), r, "v2", "two", "v3")))
	})
}
