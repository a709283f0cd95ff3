package ocitest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// The clauses of RunGC about reports and policies.

// lines returns the findings of a report in one order.
func lines(findings []ocigc.Finding) []string {
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.String())
	}
	slices.Sort(lines)
	return lines
}

func gcDryRun(t *gcTest) {
	kept, image := t.push("app", t.newImage(), "kept"), t.push("app", t.newImage())
	orphan := t.pushBlob("app", 10)
	dangling := t.push("app", t.newReferrer(t.newImage()), "dangling")
	t.push("other", t.newImage(), "v1")
	w, err := t.reg.PushBlobChunked(t.Context(), "app", 0)
	t.must(err, "PushBlobChunked")
	_, err = w.Write([]byte("upload"))
	t.must(err, "Write")
	t.must(w.Close(), "Close")
	t.wait(2 * time.Hour)

	opts := allGarbage
	opts.Policies = []ocigc.Policy{{
		Repositories: []string{"app"}, Untagged: true, Dangling: true,
		Keep: []ocigc.TagRule{{Match: "dangling"}},
	}}
	opts.DryRun = true
	dry := t.collect(opts)
	t.wantKept("app", kept, image, dangling)
	t.wantBlob("app", orphan)
	t.wantTags("app", "dangling", "kept")
	opts.DryRun = false
	wet := t.collect(opts)
	t.wantGone("app", image, dangling)
	t.wantNoBlob("app", orphan)
	t.wantTags("app")
	if got, want := lines(dry.Findings), lines(wet.Findings); !slices.Equal(got, want) || dry.Summary != wet.Summary {
		t.Errorf("dry run found %q, want %q", got, want)
	}
	if !dry.DryRun || wet.DryRun {
		t.Errorf("reports say dry run %v and %v, want true and false", dry.DryRun, wet.DryRun)
	}
}

func gcReport(t *gcTest) {
	start := t.now()
	image := t.push("app", t.newImage())
	referrer := t.push("app", t.newORAS(image), "v1")
	t.wait(2 * time.Hour)
	line := func(ref, what string, reason ocigc.Reason, since time.Time) string {
		return fmt.Sprintf("app%s: %s: %s, since %s", ref, what, reason, since.UTC().Format(time.DateTime))
	}
	manifest := func(a *Artifact, reason ocigc.Reason) string {
		return line("@"+string(a.Descriptor.Digest), fmt.Sprintf("manifest of %d bytes", a.Descriptor.Size), reason, start)
	}
	want := []string{
		line(":v1", "tag", ocigc.SubjectGone, start), manifest(image, ocigc.Untagged), manifest(referrer, ocigc.SubjectGone),
	}
	sum := ocigc.Summary{Repositories: 1, Tags: 1, Manifests: 2, Bytes: image.Descriptor.Size + referrer.Descriptor.Size}
	unused := start
	if t.opts.Rounds > 1 {
		unused = t.now() // which the collection notes
	}
	var blobs []string
	for _, b := range slices.Concat(image.Blobs, referrer.Blobs) {
		blobs = append(blobs, line("@"+string(b.Descriptor.Digest), fmt.Sprintf("blob of %d bytes", b.Descriptor.Size), ocigc.Unnamed, unused))
		if t.opts.Rounds <= 1 {
			sum.Blobs++
			sum.Bytes += b.Descriptor.Size
		}
	}
	slices.Sort(blobs)
	if t.opts.Rounds <= 1 {
		want = append(want, blobs...)
	}
	slices.Sort(want)

	var found []ocigc.Finding
	var progress []ocigc.Progress
	opts := allGarbage
	opts.Finding = func(f ocigc.Finding) {
		// The registry can be used meanwhile.
		t.reg.ResolveTag(t.Context(), "app", "v1")
		found = append(found, f)
	}
	opts.Progress = func(p ocigc.Progress) { progress = append(progress, p) }
	report := t.collect(opts)
	if got := lines(found); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if report.Summary != sum || len(report.Findings) > 0 {
		t.Errorf("report is %+v with %d findings, want %+v with none", report.Summary, len(report.Findings), sum)
	}
	if len(progress) != 1 || progress[0] != (ocigc.Progress{Summary: sum, Repository: "app"}) {
		t.Errorf("progress is %+v, want %+v once", progress, sum)
	}
	t.onceGone(func() {
		if got := lines(t.blobs); !slices.Equal(got, blobs) {
			t.Errorf("found blobs %q, want %q", got, blobs)
		}
	})
}

func gcContext(t *gcTest) {
	for i := range 3 {
		t.push(fmt.Sprint("app", i), t.newImage())
	}
	t.wait(2 * time.Hour)
	opts := allGarbage
	opts.Now = t.now
	_, err := t.reg.GC(canceled(t.Context()), &opts)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("GC with a context that has ended: got error %v", err)
	}
	t.wantRepositories("app0", "app1", "app2")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts.Progress = func(ocigc.Progress) { cancel() }
	report, err := t.reg.GC(ctx, &opts)
	if !errors.Is(err, context.Canceled) || report == nil || report.Manifests != 1 {
		t.Errorf("GC with a context that ends after a repository: got %+v and error %v", report, err)
	}
	t.wantRepositories("app1", "app2")
}

func gcWrongOptions(t *gcTest) {
	t.pushBlob("app", 10)
	for _, p := range []ocigc.Policy{
		{Repositories: []string{"A"}},
		{Keep: []ocigc.TagRule{{Match: "("}}},
		{Keep: []ocigc.TagRule{{Newest: -1}}},
		{Keep: []ocigc.TagRule{{LastPushed: -1}}},
	} {
		if _, err := t.reg.GC(t.Context(), &ocigc.Options{Delay: -1, Policies: []ocigc.Policy{p}}); err == nil {
			t.Errorf("GC with policy %+v: got no error", p)
		}
	}
	t.wantRepositories("app")
}

// keep returns options that keep the tags that rules choose.
func keep(rules ...ocigc.TagRule) ocigc.Options {
	return ocigc.Options{Policies: []ocigc.Policy{{Keep: rules}}}
}

func gcKeepRules(t *gcTest) {
	for _, tag := range []string{"v1.9", "v1.10", "v1.8", "main-1", "main-2", "main-3"} {
		t.push("app", t.newImage(), tag)
		t.wait(time.Minute)
	}
	image := t.push("app", t.newImage(), "latest")
	signature := signatureTag(image, ".sig")
	t.push("app", t.newImage(), signature)
	t.collect(keep(ocigc.TagRule{SemVer: true, Newest: 2}, ocigc.TagRule{Match: "^main", LastPushed: 2}, ocigc.TagRule{Match: "^latest$"}))
	t.wantTags("app", "latest", "main-2", "main-3", signature, "v1.10", "v1.9")
	t.collect(keep(ocigc.TagRule{Match: "v1", LastPushed: 1}))
	t.wantTags("app", signature, "v1.10")
}

func gcPushedWithin(t *gcTest) {
	again := t.push("app", t.newImage(), "again", "once")
	t.push("app", t.newImage(), "moved")
	t.wait(24 * time.Hour)
	t.push("app", again, "again")
	t.push("app", t.newImage(), "moved", "new")
	t.wait(12 * time.Hour)
	t.collect(keep(ocigc.TagRule{PushedWithin: 36 * time.Hour}))
	t.wantTags("app", "again", "moved", "new", "once")
	t.collect(keep(ocigc.TagRule{PushedWithin: 24 * time.Hour}))
	t.wantTags("app", "again", "moved", "new")
}

func gcPulledWithin(t *gcTest) {
	ctx := t.Context()
	byTag, byDigest := t.push("app", t.newImage(), "tag", "same"), t.push("app", t.newImage(), "digest")
	t.push("app", t.newImage(), "never")
	asked := t.push("app", t.newImage(), "asked")
	before := t.push("app", t.newImage(), "before")
	pull := func(r ociregistry.BlobReader, err error) {
		t.Helper()
		_, _, err = read(r, err)
		t.must(err, "pull")
	}
	pull(t.reg.GetTag(ctx, "app", "before"))
	t.wait(48 * time.Hour)
	pull(t.reg.GetTag(ctx, "app", "tag"))
	pull(t.reg.GetManifest(ctx, "app", byDigest.Descriptor.Digest))
	_, err := t.reg.ResolveTag(ctx, "app", "asked")
	t.must(err, "ResolveTag")
	_, err = t.reg.ResolveManifest(ctx, "app", asked.Descriptor.Digest)
	t.must(err, "ResolveManifest")
	pull(t.reg.GetTag(ociregistry.WithInspection(ctx), "app", "asked"))
	pull(t.reg.GetManifest(ociregistry.WithInspection(ctx), "app", asked.Descriptor.Digest))
	t.wait(time.Hour)
	t.collect(keep(ocigc.TagRule{PulledWithin: 49 * time.Hour}))
	t.wantTags("app", "before", "digest", "same", "tag")
	t.collect(keep(ocigc.TagRule{PulledWithin: 2 * time.Hour}))
	t.wantTags("app", "digest", "same", "tag")
	t.wantKept("app", byTag, byDigest, asked, before)
}

func gcPolicies(t *gcTest) {
	repos := []string{"other", "team/a", "team/a/b", "team/c"}
	untagged, dangling := make(map[string]*Artifact), make(map[string]*Artifact)
	for _, repo := range repos {
		untagged[repo] = t.push(repo, t.newImage())
		dangling[repo] = t.push(repo, t.newReferrer(t.newImage()))
		t.push(repo, t.newImage(), "v1")
	}
	opts := ocigc.Options{Policies: []ocigc.Policy{
		{Repositories: []string{"team/c", "nowhere"}, Untagged: true, UntaggedDelay: 3 * time.Hour, Dangling: true, DanglingDelay: 5 * time.Hour},
		{Repositories: []string{"team/**"}, Untagged: true, Keep: []ocigc.TagRule{{Match: "v2"}}},
	}}
	gone := func(after time.Duration, wantUntagged, wantDangling []string) {
		t.Helper()
		t.collect(opts)
		for _, repo := range repos {
			for _, kind := range []struct {
				artifacts map[string]*Artifact
				gone      []string
			}{{untagged, wantUntagged}, {dangling, wantDangling}} {
				if slices.Contains(kind.gone, repo) {
					t.wantGone(repo, kind.artifacts[repo])
				} else {
					t.wantKept(repo, kind.artifacts[repo])
				}
			}
		}
		if t.Failed() {
			t.Fatalf("after %v", after)
		}
	}
	t.wait(2 * time.Hour)
	gone(2*time.Hour, []string{"team/a", "team/a/b"}, nil)
	t.wait(2 * time.Hour)
	gone(4*time.Hour, []string{"team/a", "team/a/b", "team/c"}, nil)
	t.wait(2 * time.Hour)
	gone(6*time.Hour, []string{"team/a", "team/a/b", "team/c"}, []string{"team/c"})
	t.wantTags("team/a")
	t.wantTags("team/c", "v1")
	t.wantTags("other", "v1")
}

// The delay of a manifest counts from when its tag was dropped.
func gcDropped(t *gcTest) {
	image := t.push("app", t.newImage(), "v1")
	t.push("app", t.newImage(), "v2")
	t.wait(48 * time.Hour)
	opts := ocigc.Options{Policies: []ocigc.Policy{{Untagged: true, Keep: []ocigc.TagRule{{Match: "v2"}}}}}
	t.collect(opts)
	t.wantTags("app", "v2")
	t.wantKept("app", image)
	t.wait(time.Hour)
	t.collect(opts)
	t.wantGone("app", image)

	// Without a delay it goes at once.
	image = t.push("app", t.newImage(), "v1")
	opts.Delay = -1
	t.collect(opts)
	t.wantGone("app", image)
	t.wantTags("app", "v2")
}
