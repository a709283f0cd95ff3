package ocicopy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func mustMirror(t testing.TB, dst ociregistry.Interface, opts *MirrorOptions, sources ...Source) *Mirror {
	t.Helper()
	m, err := NewMirror(dst, sources, opts)
	qt.Assert(t, qt.IsNil(err))
	return m
}

func mustPass(t testing.TB, m *Mirror) Summary {
	t.Helper()
	summary, err := m.Pass(t.Context())
	qt.Assert(t, qt.IsNil(err))
	return summary
}

func hub(r ociregistry.Interface, rules ...Rule) Source {
	return Source{Name: "hub", Registry: r, Rules: rules}
}

// tagsOf returns the tags of a repository, joined by spaces.
func tagsOf(t testing.TB, r ociregistry.Interface, repo string) string {
	t.Helper()
	tags, err := ociregistry.All(r.Tags(t.Context(), repo, ""))
	if !absent(err) {
		qt.Assert(t, qt.IsNil(err))
	}
	return strings.Join(tags, " ")
}

func image(seed uint64) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{100, 20}})
}

func TestMirror_CopiesWhatRulesChoose(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		for _, repo := range []string{"fold/app", "fold/app/deep", "fold/tool", "other", "exact"} {
			for i, tag := range []string{"v1.0.0", "v1.1.0", "v1.2.0", "latest"} {
				mustPush(t, src, repo, image(uint64(i)), tag)
			}
		}
		m := mustMirror(t, dst, nil, hub(src,
			Rule{Repositories: "fold/tool", Tags: TagRule{Match: "^latest$"}, Destination: "tools", Strip: true},
			Rule{Repositories: "fold/**", Tags: TagRule{SemVer: true, Newest: 2}},
			Rule{Repositories: "exact"},
		))
		summary := mustPass(t, m)
		qt.Check(t, qt.DeepEquals(summary, Summary{Updated: 9}))
		repos, err := ociregistry.All(dst.Repositories(t.Context(), ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(repos, []string{"exact", "fold/app", "fold/app/deep", "tools"}))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "tools"), "latest"))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "fold/app"), "v1.1.0 v1.2.0"))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "exact"), "latest v1.0.0 v1.1.0 v1.2.0"))
		mustHave(t, dst, "fold/app/deep", image(2))
	})
}

// A pass applies rules in the form in which other tools write them.
func TestMirror_StripsPrefixes(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		for _, repo := range []string{"fold/app", "fold/deep/tool", "other"} {
			for i, tag := range []string{"v1", "1.0", "1.0.1", "v2.0.0-rc.1", "latest", "edge"} {
				mustPush(t, src, repo, image(uint64(i)), tag)
			}
		}
		m := mustMirror(t, dst, nil, hub(src,
			Rule{Repositories: "/fold/app", Destination: "/", Tags: TagRule{SemVer: true}},
			Rule{Repositories: "/fold/**", Destination: "/mirror", Strip: true, Tags: TagRule{SemVer: true, Match: "^v"}},
		))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 6}))
		repos, err := ociregistry.All(dst.Repositories(t.Context(), ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(repos, []string{"fold/app", "mirror/deep/tool"}))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "fold/app"), "1.0 1.0.1 v1 v2.0.0-rc.1"))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "mirror/deep/tool"), "v1 v2.0.0-rc.1"))
		mustHave(t, dst, "mirror/deep/tool", image(0))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 6}))
	})
}

func TestMirror_ListsNoRepositoriesForExactNames(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	mustPush(t, src, "a", image(1), "v1")
	src.before = func(_ context.Context, method, _, _ string) error {
		if method == "Repositories" {
			return ociregistry.ErrDenied
		}
		return nil
	}
	qt.Check(t, qt.Equals(mustPass(t, mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a"}))).Updated, 1))

	// With a wildcard in another rule, repositories that are named exactly are mirrored
	// all the same.
	dst = newMem(t)
	summary := mustPass(t, mustMirror(t, dst, nil, hub(src, Rule{Repositories: "b/*"}, Rule{Repositories: "a"})))
	qt.Check(t, qt.Equals(summary.Updated, 1))
	qt.Assert(t, qt.HasLen(summary.Failures, 1))
	qt.Check(t, qt.ErrorIs(summary.Failures[0].Err, ociregistry.ErrDenied))
}

func TestMirror_OriginsInvertTheRules(t *testing.T) {
	t.Parallel()
	one, two := newMem(t), newMem(t)
	m := mustMirror(t, newMem(t), nil,
		Source{Name: "one", Registry: one, Rules: []Rule{{Repositories: "fold/app"}, {Repositories: "fold/**", Destination: "x", Strip: true}}},
		Source{Name: "two", Registry: two, Rules: []Rule{{Repositories: "**", Destination: "x", Tags: TagRule{Match: "^v"}}}},
	)
	tests := map[string]string{
		"fold/app": "one fold/app",
		"x/app":    "two app", // fold/app of one is mirrored elsewhere
		"x/tool/b": "one fold/tool/b, two tool/b",
		"x":        "",
		"y":        "",
	}
	for repo, want := range tests {
		var got []string
		for _, o := range m.Origins(repo) {
			got = append(got, o.Source+" "+o.Repository)
		}
		qt.Check(t, qt.Equals(strings.Join(got, ", "), want), qt.Commentf("%s", repo))
	}
	origin := m.Origins("x/app")[0]
	qt.Check(t, qt.IsTrue(origin.Registry == two))
	qt.Check(t, qt.IsTrue(origin.ChoosesTag("v1")))
	qt.Check(t, qt.IsFalse(origin.ChoosesTag("latest")))
}

func TestMirror_CopiesOnlySignedImages(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		mustPush(t, src, "a", image(1), "unsigned")
		mustPush(t, src, "a", image(2), "cosign")
		mustPush(t, src, "a", newCosign(12), rules.CosignTag(image(2).Descriptor.Digest)+".sig")
		mustPush(t, src, "a", image(3), "notation")
		mustPush(t, src, "a", newReferrer(13, typeNotation, image(3)))
		mustPush(t, src, "a", image(4), "sbom")
		mustPush(t, src, "a", newReferrer(14, "application/sbom", image(4)))
		tests := []struct {
			types []string
			want  []string
		}{
			{nil, []string{"cosign", "notation"}},
			{[]string{typeNotation}, []string{"notation"}},
			{[]string{TypeCosignSignature, "application/sbom"}, []string{"cosign", "sbom"}},
		}
		for i, test := range tests {
			repo := string(rune('p' + i))
			rule := Rule{Repositories: "a", Destination: repo, Strip: true, OnlySigned: true, SignatureTypes: test.types}
			m := mustMirror(t, dst, nil, hub(src, rule))
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: len(test.want), Unsigned: 4 - len(test.want)}))
			origin := m.Origins(repo)[0]
			for seed, tag := range []string{"unsigned", "cosign", "notation", "sbom"} {
				signed := slices.Contains(test.want, tag)
				qt.Check(t, qt.Equals(tagged(t, dst, repo, tag) != "", signed), qt.Commentf("%s", tag))

				place := Place{src, "a", string(image(uint64(seed + 1)).Descriptor.Digest)}
				ok, err := Signed(t.Context(), place, test.types)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(ok, signed), qt.Commentf("%s", tag))

				// The same on demand.
				err = origin.Admit(t.Context(), tag, image(uint64(seed+1)).Descriptor)
				qt.Check(t, qt.Equals(err == nil, signed), qt.Commentf("%s: %v", tag, err))
				if err != nil {
					qt.Check(t, qt.ErrorIs(err, ErrUnsigned))
					qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
				}
			}
		}
	})
}

func TestMirror_CopiesOnlyImagesThatValidateAccepts(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		mustPush(t, src, "a", image(1), "good")
		mustPush(t, src, "a", image(2), "bad")
		reason := errors.New("too old")
		var events []Event
		var mu sync.Mutex
		asked := 0
		opts := &MirrorOptions{
			Validate: func(ctx context.Context, i Image) error {
				mu.Lock()
				defer mu.Unlock()
				asked++
				qt.Check(t, qt.Equals(i.Place.Ref, string(i.Descriptor.Digest)))
				if i.Tag == "bad" {
					return reason
				}
				return nil
			},
			Report: func(e Event) { events = append(events, e) },
		}
		m := mustMirror(t, dst, opts, hub(src, Rule{Repositories: "a"}))
		src.take()
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1, Refused: 1}))
		qt.Check(t, qt.Equals(src.take(), "GetBlob 3, GetManifest 1, Referrers 1, ResolveTag 2, Tags 1"))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "good"))
		i := slices.IndexFunc(events, func(e Event) bool { return e.Outcome == Refused })
		qt.Check(t, qt.Equals(events[i].Tag, "bad"))
		qt.Check(t, qt.ErrorIs(events[i].Err, reason))
		qt.Check(t, qt.ErrorIs(events[i].Err, ErrRefused))

		// Validate is not called for images that the destination has.
		mustPass(t, m)
		qt.Check(t, qt.Equals(asked, 3))
		qt.Check(t, qt.ErrorIs(m.Origins("a")[0].Admit(t.Context(), "bad", image(2).Descriptor), reason))
	})
}

func TestMirror_FailuresDoNotSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dead, dst := newSpy(ocimem.New()), newSpy(ocimem.New()), ocimem.New()
		for _, repo := range []string{"a", "b", "c"} {
			mustPush(t, src, repo, image(1), "v1")
			mustPush(t, src, repo, image(2), "v2")
		}
		broken := errors.New("broken")
		src.before = func(_ context.Context, method, repo, ref string) error {
			if repo == "a" && ref == "v1" || repo == "b" && method == "Tags" {
				return broken
			}
			return nil
		}
		dead.before = func(context.Context, string, string, string) error { return broken }
		var retried []time.Duration
		start := time.Now()
		var log bytes.Buffer
		m := mustMirror(t, dst, &MirrorOptions{
			Attempts: 3,
			Backoff:  10 * time.Second,
			Logger:   slog.New(slog.NewTextHandler(&log, nil)),
			Report: func(e Event) {
				if e.Repository == "a" && e.Tag == "v1" {
					retried = append(retried, time.Since(start))
				}
			},
		}, Source{Name: "dead", Registry: dead, Rules: []Rule{{Repositories: "**"}}}, hub(src, Rule{Repositories: "**"}))
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(summary.Updated, 3))
		var failed []string
		for _, e := range summary.Failures {
			failed = append(failed, e.Source+" "+e.Repository+" "+e.Tag)
			qt.Check(t, qt.ErrorIs(e.Err, broken))
			qt.Check(t, qt.Equals(e.Attempt, 3))
		}
		slices.Sort(failed)
		qt.Check(t, qt.DeepEquals(failed, []string{"dead  ", "hub a v1", "hub b "}))
		qt.Check(t, qt.DeepEquals(retried, []time.Duration{0, 10 * time.Second, 30 * time.Second}))
		qt.Check(t, qt.StringContains(log.String(), `outcome=failed source=hub repository=a tag=v1 destination=a error=broken`))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "v2"))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "c"), "v1 v2"))
	})
}

func TestMirror_RetriesAfterEverythingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), ocimem.New()
		mustPush(t, src, "a", image(1), "v1")
		failures := map[string]int{"Repositories": 1, "Tags": 1, "ResolveTag": 1}
		src.before = func(_ context.Context, method, _, _ string) error {
			if failures[method] > 0 {
				failures[method]--
				return ociregistry.ErrTooManyRequests
			}
			return nil
		}
		summary := mustPass(t, mustMirror(t, dst, nil, hub(src, Rule{Repositories: "*"})))
		qt.Check(t, qt.DeepEquals(summary, Summary{Updated: 1}))

		// A permanent error is left to the next pass.
		src.before = func(_ context.Context, method, _, _ string) error { return ociregistry.ErrUnauthorized }
		src.take()
		start := time.Now()
		summary = mustPass(t, mustMirror(t, dst, nil, hub(src, Rule{Repositories: "*"})))
		qt.Check(t, qt.HasLen(summary.Failures, 1))
		qt.Check(t, qt.Equals(src.take(), "Repositories 1"))
		qt.Check(t, qt.Equals(time.Since(start), 0))
	})
}

func TestMirror_CopiesOnlyThePlatformsOfTheRule(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	index := newPlatforms(1, amd64, arm64)
	mustPush(t, src, "a", index, "v1")
	m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a", Platforms: []string{"linux/arm64"}}))
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
	qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), index.Children[1].Descriptor.Digest))
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1}))
}

func TestMirror_BoundsItsWork(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	for i := range 20 {
		mustPush(t, src, "a", image(uint64(i)), string(rune('A'+i)))
	}
	var mu sync.Mutex
	running, most := 0, 0
	opts := &MirrorOptions{ImageConcurrency: 3, Validate: func(context.Context, Image) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		return nil
	}}
	summary := mustPass(t, mustMirror(t, dst, opts, hub(src, Rule{Repositories: "a"})))
	qt.Check(t, qt.Equals(summary.Updated+len(summary.Failures), 20))
	qt.Check(t, qt.HasLen(summary.Failures, 0))
	qt.Check(t, qt.IsTrue(most <= 3))
}
