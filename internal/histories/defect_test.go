package histories

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// defect makes a registry, as one server has it, one that is wrong.
type defect func(r ociregistry.Interface) ociregistry.Interface

// startHandlers serves one registry in memory by several servers of this process,
// which all have the defect.
func startHandlers(t *testing.T, n int, d defect) *cluster {
	r := ociregistry.Interface(ocimem.New())
	c := &cluster{servers: make([]*life, n)}
	for i := range n {
		s := httptest.NewServer(ociserver.New(d(r), nil))
		t.Cleanup(s.Close)
		c.servers[i] = &life{name: "memory", host: strings.TrimPrefix(s.URL, "http://")}
	}
	return c
}

func TestSoundRegistryIsLinearizable(t *testing.T) {
	t.Parallel()
	c := startHandlers(t, 2, func(r ociregistry.Interface) ociregistry.Interface { return r })
	for n, decided := 0, 0; decided < 10 && !t.Failed(); n++ {
		p := newPlan(1, n, 2)
		p.faults = nil
		events, err := p.run(t.Context(), c, nil)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(failures(events), 0))
		if report(t, check(events)) {
			decided++
		}
	}
}

// TestDefectsAreFound seeds defects in a sound registry.
func TestDefectsAreFound(t *testing.T) {
	tests := []struct {
		name   string
		defect defect
	}{
		{"loses an acknowledged push of a tag", func(r ociregistry.Interface) ociregistry.Interface { return &losesTags{Interface: r} }},
		{"ignores conditions", func(r ociregistry.Interface) ociregistry.Interface { return ignoresConditions{r} }},
		{"reads a tag from a cache", func(r ociregistry.Interface) ociregistry.Interface { return &cachesTags{Interface: r} }},
		{"sets the tags of a push in two steps", func(r ociregistry.Interface) ociregistry.Interface { return setsTagsSlowly{r} }},
		{"lets a deleted tag come back", func(r ociregistry.Interface) ociregistry.Interface { return &restoresTags{Interface: r} }},
		{"lists all tags but one", func(r ociregistry.Interface) ociregistry.Interface { return &missesTags{Interface: r} }},
		{"lists all repositories but one", func(r ociregistry.Interface) ociregistry.Interface { return &missesRepositories{Interface: r} }},
		{"lists no referrers", func(r ociregistry.Interface) ociregistry.Interface { return missesReferrers{r} }},
		{"accepts two writers at one offset", func(r ociregistry.Interface) ociregistry.Interface { return joinsWriters{r} }},
		{"forgets where an upload is", func(r ociregistry.Interface) ociregistry.Interface { return &forgetsUploads{Interface: r} }},
		{"deletes a blob in use", func(r ociregistry.Interface) ociregistry.Interface { return deletesUsed{r} }},
		{"takes a manifest without its blobs", func(r ociregistry.Interface) ociregistry.Interface { return takesIncomplete{r} }},
		{"mounts nothing", func(r ociregistry.Interface) ociregistry.Interface { return mountsNothing{r} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := startHandlers(t, 2, test.defect)
			const most = 1000 // most are found in the first few, unless requests do not meet
			for n := range most {
				p := newPlan(1, n, 2)
				p.faults, p.pause = nil, 0
				events, err := p.run(t.Context(), c, nil)
				qt.Assert(t, qt.IsNil(err))
				for _, v := range check(events) {
					if v.result == porcupine.Illegal {
						t.Logf("found in round %d", n)
						return
					}
				}
			}
			t.Errorf("it was not found in %d rounds", most)
		})
	}
}

type losesTags struct {
	ociregistry.Interface
	n atomic.Int64
}

func (r *losesTags) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	if r.n.Add(1)%10 == 0 && ociregistry.PushConditionFrom(ctx).IfMatch == nil {
		return r.Interface.PushManifest(ctx, repo, "", contents, mediaType)
	}
	return r.Interface.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

type ignoresConditions struct{ ociregistry.Interface }

func (r ignoresConditions) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	ctx = ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{})
	return r.Interface.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

// cachesTags keeps what a tag points at for a moment.
type cachesTags struct {
	ociregistry.Interface
	mu   sync.Mutex
	kept map[[2]string]keptTag
}

type keptTag struct {
	desc ociregistry.Descriptor
	at   time.Time
}

func (r *cachesTags) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{repo, tag}
	if kept, ok := r.kept[key]; ok && time.Since(kept.at) < 200*time.Millisecond {
		return kept.desc, nil
	}
	desc, err := r.Interface.ResolveTag(ctx, repo, tag)
	if err == nil {
		if r.kept == nil {
			r.kept = make(map[[2]string]keptTag)
		}
		r.kept[key] = keptTag{desc, time.Now()}
	}
	return desc, err
}

func (r *cachesTags) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	desc, err := r.ResolveTag(ctx, repo, tag)
	if err != nil {
		return nil, err
	}
	return r.GetManifest(ctx, repo, desc.Digest)
}

type setsTagsSlowly struct{ ociregistry.Interface }

func (r setsTagsSlowly) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.PushManifest(ctx, repo, ref, contents, mediaType)
	if err != nil || len(tags) == 0 {
		return desc, err
	}
	time.Sleep(2 * time.Millisecond)
	return r.Interface.PushManifest(context.WithoutCancel(ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{})), repo, "", contents, mediaType, tags...)
}

// restoresTags brings a tag back soon after it was deleted, some of the times.
type restoresTags struct {
	ociregistry.Interface
	n atomic.Int64
}

func (r *restoresTags) DeleteTag(ctx context.Context, repo, tag string) error {
	desc, resolveErr := r.ResolveTag(ctx, repo, tag)
	err := r.Interface.DeleteTag(ctx, repo, tag)
	if err != nil || resolveErr != nil || r.n.Add(1)%3 != 0 {
		return err
	}
	go func() {
		time.Sleep(time.Millisecond)
		ctx := context.WithoutCancel(ctx)
		if m, err := r.GetManifest(ctx, repo, desc.Digest); err == nil {
			contents, _ := io.ReadAll(m)
			m.Close()
			r.PushManifest(ctx, repo, tag, contents, desc.MediaType)
		}
	}()
	return nil
}

type missesTags struct {
	ociregistry.Interface
	n atomic.Int64
}

func (r *missesTags) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return allButOne(r.Interface.Tags(ctx, repo, after), &r.n)
}

type missesRepositories struct {
	ociregistry.Interface
	n atomic.Int64
}

func (r *missesRepositories) Repositories(ctx context.Context, after string) iter.Seq2[string, error] {
	return allButOne(r.Interface.Repositories(ctx, after), &r.n)
}

// allButOne leaves out each twentieth element that it is asked for.
func allButOne(list iter.Seq2[string, error], n *atomic.Int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for item, err := range list {
			if err == nil && n.Add(1)%20 == 0 {
				continue
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

type missesReferrers struct{ ociregistry.Interface }

func (r missesReferrers) Referrers(context.Context, string, ociregistry.Digest, string) iter.Seq2[ociregistry.Descriptor, error] {
	return func(func(ociregistry.Descriptor, error) bool) {}
}

// joinsWriters lets a writer write that is not where the session is.
type joinsWriters struct{ ociregistry.Interface }

func (r joinsWriters) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.Interface.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	if errors.Is(err, ociregistry.ErrRangeInvalid) {
		return r.Interface.PushBlobChunkedResume(ctx, repo, id, -1, chunkSize)
	}
	return w, err
}

// forgetsUploads begins some sessions anew that are asked for.
type forgetsUploads struct {
	ociregistry.Interface
	n atomic.Int64
}

func (r *forgetsUploads) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.Interface.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	if err == nil && r.n.Add(1)%10 == 0 {
		w.Close()
		return r.PushBlobChunked(ctx, repo, chunkSize)
	}
	return w, err
}

type deletesUsed struct{ ociregistry.Interface }

func (r deletesUsed) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return r.Interface.DeleteBlob(ociregistry.AllowInUse(ctx), repo, digest)
}

type takesIncomplete struct{ ociregistry.Interface }

func (r takesIncomplete) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return r.Interface.PushManifest(ociregistry.AllowMissing(ctx), repo, ref, contents, mediaType, tags...)
}

type mountsNothing struct{ ociregistry.Interface }

func (r mountsNothing) MountBlob(_ context.Context, _, _ string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return ociregistry.Descriptor{Digest: digest}, nil
}
