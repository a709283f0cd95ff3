package ocitest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// GCOptions says what [RunGC] cannot do or know through the interface of a registry.
type GCOptions struct {
	// Rounds is how many collections it takes until a blob is gone that nothing names, each when the
	// delay has passed since the one before. Zero means one. A registry may need two, which notes in
	// the first one from when a blob was unused, and lets it stay if it is asked for meanwhile.
	// Manifests, tags and upload sessions go in the first one anyway. With more than one, RunGC expects at the
	// end of each clause that blobs have gone, and the repositories that have no other content.
	Rounds int

	// Damage makes a manifest of a repository unreadable. If it is nil, nothing can.
	Damage func(t testing.TB, r ociregistry.Interface, repo string, digest ociregistry.Digest)
}

// RunGC checks that registries collect garbage as package ocigc says. Each clause is a
// subtest, for which RunGC calls newRegistry. The registry that newRegistry returns must be
// empty, and take the times of what happens to it from now.
func RunGC(t *testing.T, newRegistry func(t testing.TB, now func() time.Time) ocigc.Collector, opts *GCOptions) {
	if opts == nil {
		opts = &GCOptions{}
	}
	for _, c := range gcClauses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := &gcTest{TB: t, opts: *opts}
			g.seconds.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix())
			g.reg = newRegistry(t, g.now)
			c.run(g)
			g.settle()
		})
	}
}

type gcClause struct {
	name string
	run  func(*gcTest)
}

var gcClauses = []gcClause{
	{"DelayKeepsWhatIsYoung", gcYoung},
	{"DelayKeepsWhatWasJustOrphaned", gcJustOrphaned},
	{"OrphanBlobs", gcOrphanBlobs},
	{"UntaggedManifestsIfAsked", gcUntagged},
	{"Uploads", gcUploads},
	{"IndexesOfAnyDepth", gcIndexes},
	{"ReferrersOfWhatLives", gcReferrers},
	{"ReferrersWithoutSubject", gcDangling},
	{"ReferrersGoWithTheirSubject", gcSubjectDeleted},
	{"ChainCutInItsMiddle", gcChain},
	{"ReferrersInAnIndex", gcReferrerInIndex},
	{"SignatureTags", gcSignatures},
	{"TwoTags", gcTwoTags},
	{"SharedContent", gcShared},
	{"OldHereNewThere", gcOldHereNewThere},
	{"ReportedPresent", gcReportedPresent},
	{"LastOfARepository", gcLast},
	{"UnreadableManifest", gcUnreadable},
	{"ReadersGoOn", gcReaders},
	{"DryRun", gcDryRun},
	{"Report", gcReport},
	{"EndsWithItsContext", gcContext},
	{"WrongOptions", gcWrongOptions},
	{"KeepRules", gcKeepRules},
	{"PushedWithin", gcPushedWithin},
	{"PulledWithin", gcPulledWithin},
	{"PoliciesByRepository", gcPolicies},
	{"DroppedThenCollected", gcDropped},
}

// gcTest runs a clause of RunGC.
type gcTest struct {
	testing.TB
	opts    GCOptions
	reg     ocigc.Collector
	seconds atomic.Int64 // the clock
	seed    uint64       // of the last artifact

	// What collections did, and what the last one was told.
	last  ocigc.Options
	blobs []ocigc.Finding
	later []func() // checks for the time when blobs are gone
}

func (t *gcTest) now() time.Time { return time.Unix(t.seconds.Load(), 0) }

// wait lets time pass.
func (t *gcTest) wait(d time.Duration) { t.seconds.Add(int64(d / time.Second)) }

func (t *gcTest) must(err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: unexpected error: %v", what, err)
	}
}

// allGarbage are options that collect all that can be garbage, after the default delay.
var allGarbage = ocigc.Options{Untagged: true, Dangling: true}

// collect collects garbage, and checks that there were no problems, and that a dry run before
// finds the same.
func (t *gcTest) collect(opts ocigc.Options) *ocigc.Report {
	t.Helper()
	opts.Now = t.now
	dry := opts
	dry.DryRun, dry.Finding, dry.Progress = true, nil, nil
	foreseen, err := t.reg.GC(t.Context(), &dry)
	t.must(err, "GC in a dry run")
	report, err := t.reg.GC(t.Context(), &opts)
	t.must(err, "GC")
	for _, problem := range report.Problems {
		t.Errorf("GC: problem: %v", problem)
	}
	if opts.DryRun {
		return report
	}
	if foreseen.Summary != report.Summary {
		t.Errorf("GC: removed %+v, but a dry run before found %+v", report.Summary, foreseen.Summary)
	}
	t.last = opts
	for _, f := range foreseen.Findings {
		if f.Kind == ocigc.KindBlob {
			t.blobs = append(t.blobs, f)
		}
	}
	return report
}

// onceGone calls check, which is about blobs that are garbage, when they have to be gone.
func (t *gcTest) onceGone(check func()) {
	if t.opts.Rounds <= 1 {
		check()
		return
	}
	t.later = append(t.later, check)
}

// settle collects until blobs have to be gone that nothing names.
func (t *gcTest) settle() {
	if len(t.later) == 0 {
		return
	}
	t.last.Finding, t.last.Progress = nil, nil
	for range t.opts.Rounds - 1 {
		t.wait(ocigc.DefaultDelay)
		t.collect(t.last)
	}
	t.opts.Rounds = 1
	for _, check := range t.later {
		check()
	}
}

// newImage builds an image unlike all others.
func (t *gcTest) newImage() *Artifact {
	t.seed++
	return NewImage(Spec{Seed: t.seed, Layers: []int64{100, 200}})
}

// newReferrer builds an artifact that has a subject.
func (t *gcTest) newReferrer(subject *Artifact) *Artifact {
	t.seed++
	return NewImage(Spec{Seed: t.seed, Layers: []int64{50}, ArtifactType: "application/x-test", Subject: &subject.Descriptor})
}

// newORAS builds an ORAS artifact that has a subject.
func (t *gcTest) newORAS(subject *Artifact) *Artifact {
	t.seed++
	a := &Artifact{Blobs: []Blob{NewBlob(t.seed, 60)}}
	a.setManifest(map[string]any{
		"mediaType":    mediaTypeORASArtifact,
		"artifactType": "application/x-test",
		"blobs":        descriptors(a.Blobs),
		"subject":      subject.Descriptor,
	}, mediaTypeORASArtifact, Spec{})
	return a
}

func (t *gcTest) push(repo string, a *Artifact, tags ...string) *Artifact {
	t.Helper()
	t.must(a.Push(t.Context(), t.reg, repo, tags...), "push of an artifact")
	return a
}

func (t *gcTest) pushBlob(repo string, size int64) Blob {
	t.Helper()
	t.seed++
	b := NewBlob(t.seed, size)
	_, err := t.reg.PushBlob(t.Context(), repo, b.Descriptor, b.NewReader())
	t.must(err, "PushBlob")
	return b
}

func (t *gcTest) deleteTag(repo, tag string) {
	t.Helper()
	t.must(t.reg.DeleteTag(t.Context(), repo, tag), "DeleteTag")
}

func (t *gcTest) deleteManifest(repo string, a *Artifact) {
	t.Helper()
	t.must(t.reg.DeleteManifest(t.Context(), repo, a.Descriptor.Digest), "DeleteManifest")
}

// What is looked at must not be made young, so the Resolve methods are not called.

// wantKept checks that all of some artifacts is there.
func (t *gcTest) wantKept(repo string, artifacts ...*Artifact) {
	t.Helper()
	for i, a := range artifacts {
		if err := a.Verify(t.Context(), t.reg, repo); err != nil {
			t.Errorf("artifact %d of %d in %s: %v", i+1, len(artifacts), repo, err)
		}
	}
}

// wantGone checks that nothing of some artifacts is there, but what all artifacts have.
func (t *gcTest) wantGone(repo string, artifacts ...*Artifact) {
	t.Helper()
	for i, a := range artifacts {
		r, err := t.reg.GetManifest(t.Context(), repo, a.Descriptor.Digest)
		t.wantUnknown(r, err, fmt.Sprintf("manifest of artifact %d of %d in %s", i+1, len(artifacts), repo))
		t.wantGone(repo, a.Children...)
		for _, b := range a.Blobs {
			if b.Descriptor.Digest != digest.FromString("{}") {
				t.wantNoBlob(repo, b)
			}
		}
	}
}

func (t *gcTest) wantBlob(repo string, b Blob) {
	t.Helper()
	r, err := t.reg.GetBlob(t.Context(), repo, b.Descriptor.Digest)
	if err != nil {
		t.Errorf("blob in %s: %v", repo, err)
		return
	}
	if err := verify(r, b.NewReader(), b.Descriptor); err != nil {
		t.Errorf("blob in %s: %v", repo, err)
	}
}

func (t *gcTest) wantNoBlob(repo string, b Blob) {
	t.Helper()
	t.onceGone(func() {
		t.Helper()
		r, err := t.reg.GetBlob(t.Context(), repo, b.Descriptor.Digest)
		t.wantUnknown(r, err, fmt.Sprintf("blob of %d bytes in %s", b.Descriptor.Size, repo))
	})
}

// wantRemovedBlobs checks how many blobs were collected, and their size.
func (t *gcTest) wantRemovedBlobs(n int, size int64) {
	t.Helper()
	t.onceGone(func() {
		t.Helper()
		got := int64(0)
		for _, f := range t.blobs {
			got += f.Size
		}
		if len(t.blobs) != n || got != size {
			t.Errorf("%d blobs of %d bytes were collected, want %d of %d", len(t.blobs), got, n, size)
		}
	})
}

func (t *gcTest) wantUnknown(r ociregistry.BlobReader, err error, what string) {
	t.Helper()
	if err == nil {
		r.Close()
		t.Errorf("%s: is there, want it collected", what)
		return
	}
	for _, unknown := range is(ociregistry.ErrBlobUnknown, ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown) {
		if errors.Is(err, unknown) {
			return
		}
	}
	t.Errorf("%s: unexpected error: %v", what, err)
}

// wantTags checks the tags of a repository, in byte order.
func (t *gcTest) wantTags(repo string, want ...string) {
	t.Helper()
	got, err := ociregistry.All(t.reg.Tags(t.Context(), repo, ""))
	t.must(err, "Tags")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("tags of %s: got %q, want %q", repo, got, want)
	}
}

// wantRepositories checks which repositories exist, in byte order. Nothing is pushed into others afterwards.
func (t *gcTest) wantRepositories(want ...string) {
	t.Helper()
	list := func() []string {
		t.Helper()
		got, err := ociregistry.All(t.reg.Repositories(t.Context(), ""))
		t.must(err, "Repositories")
		return got
	}
	got := list()
	if !slices.IsSorted(got) {
		t.Errorf("repositories are not in byte order: %q", got)
	}
	for _, repo := range want {
		if !slices.Contains(got, repo) {
			t.Errorf("repositories: got %q, want %q", got, want)
		}
	}
	t.onceGone(func() {
		t.Helper()
		for _, repo := range list() {
			if !slices.Contains(want, repo) {
				t.Errorf("repository %q: is there, want it gone", repo)
			}
		}
	})
}

// wantNothing checks that a collection finds nothing to remove.
func (t *gcTest) wantNothing(report *ocigc.Report) {
	t.Helper()
	for _, f := range report.Findings {
		t.Errorf("unexpected finding: %v", f)
	}
}

// canceled returns a context that has ended.
func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
