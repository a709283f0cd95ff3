package ocibucket

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/countstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// A bench is a registry whose requests are counted.
type bench struct {
	testing.TB
	ctx   context.Context
	store *countstore.Store
	*Registry
	seed uint64
}

func newBench(t testing.TB) *bench {
	store := countstore.New(memstore.New(&memstore.Options{URL: "http://store.invalid"}))
	b := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil)}
	b.image("app", "v0", 100) // the repository is known
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	qt.Assert(b, qt.IsNil(err))
}

func (b *bench) blob(size int64) ocitest.Blob {
	b.seed++
	return ocitest.NewBlob(b.seed, size)
}

func (b *bench) push(repo string, size int64) ocitest.Blob {
	blob := b.blob(size)
	_, err := b.PushBlob(b.ctx, repo, blob.Descriptor, blob.NewReader())
	b.must(err)
	return blob
}

// image pushes an image with a layer and a tag.
func (b *bench) image(repo, tag string, size int64) *ocitest.Artifact {
	b.seed++
	a := ocitest.NewImage(ocitest.Spec{Seed: b.seed, Layers: []int64{size}})
	b.must(a.Push(b.ctx, b, repo, tag))
	return a
}

// session pushes a blob by calls as those of POST, PATCH and PUT.
func (b *bench) session(repo string, blob ocitest.Blob) {
	w, err := b.PushBlobChunked(b.ctx, repo, 0)
	b.must(err)
	b.must(w.Close())
	w, err = b.PushBlobChunkedResume(b.ctx, repo, w.ID(), 0, 0)
	b.must(err)
	_, err = io.Copy(struct{ io.Writer }{w}, blob.NewReader())
	b.must(err)
	b.must(w.Close())
	w, err = b.PushBlobChunkedResume(b.ctx, repo, w.ID(), blob.Descriptor.Size, 0)
	b.must(err)
	_, err = w.Commit(blob.Descriptor.Digest)
	b.must(err)
}

// sessionOverHTTP pushes a blob by POST, PATCH and PUT, by a client that sends no offsets.
func (b *bench) sessionOverHTTP(repo string, blob ocitest.Blob) {
	h := ociserver.New(b.Registry, nil)
	ask := func(method, target string, body io.Reader) string {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(b.ctx, method, target, body))
		qt.Assert(b, qt.IsTrue(rec.Code < 300), qt.Commentf("%s: %d %s", method, rec.Code, rec.Body))
		return rec.Header().Get("Location")
	}
	location := ask("POST", "/v2/"+repo+"/blobs/uploads/", nil)
	location = ask("PATCH", location, blob.NewReader())
	ask("PUT", location+"?digest="+string(blob.Descriptor.Digest), nil)
}

func (b *bench) read(r ociregistry.BlobReader, err error) {
	b.Helper()
	b.must(err)
	_, err = io.Copy(io.Discard, r)
	b.must(err)
	b.must(r.Close())
}

// These tests count requests by a clock that is not real: what a process does now and then, such as every ten seconds,
// is not among them, however long they take.

func TestRequests_AreNotMoreThanTheTableSays(t *testing.T) {
	t.Parallel()
	const small, large = 4 << 10, 1 << 20
	known := func(b *bench) (blob ocitest.Blob) { return b.push("other", large) }
	tests := []struct {
		name string
		most int
		// prepare returns the call that is counted.
		prepare func(b *bench) func()
	}{
		{"POST, PATCH and PUT of 4 KiB", 7, func(b *bench) func() {
			blob := b.blob(small)
			return func() { b.session("app", blob) }
		}},
		{"the same over HTTP, without offsets", 7, func(b *bench) func() {
			blob := b.blob(small)
			return func() { b.sessionOverHTTP("app", blob) }
		}},
		{"POST, PATCH and PUT of a MiB", 8, func(b *bench) func() {
			blob := b.blob(large)
			return func() { b.session("app", blob) }
		}},
		{"POST, PATCH and PUT of 5 parts", 5 + 10, func(b *bench) func() {
			blob := b.blob(5 * DefaultPartSize)
			return func() { b.session("app", blob) }
		}},
		{"PushBlob of 4 KiB", 2, func(b *bench) func() {
			blob := b.blob(small)
			return func() { _, err := b.PushBlob(b.ctx, "app", blob.Descriptor, blob.NewReader()); b.must(err) }
		}},
		{"PushBlob of a known digest", 4, func(b *bench) func() {
			blob := known(b)
			return func() { _, err := b.PushBlob(b.ctx, "app", blob.Descriptor, blob.NewReader()); b.must(err) }
		}},
		{"PushBlob of a MiB", 5, func(b *bench) func() {
			blob := b.blob(large)
			return func() { _, err := b.PushBlob(b.ctx, "app", blob.Descriptor, blob.NewReader()); b.must(err) }
		}},
		{"PushBlob of 3 parts", 3 + 10, func(b *bench) func() {
			blob := b.blob(3 * DefaultPartSize)
			return func() { _, err := b.PushBlob(b.ctx, "app", blob.Descriptor, blob.NewReader()); b.must(err) }
		}},
		{"HEAD of a blob", 1, func(b *bench) func() {
			blob := b.push("app", large)
			return func() { _, err := b.ResolveBlob(b.ctx, "app", blob.Descriptor.Digest); b.must(err) }
		}},
		{"GET of a small blob", 1, func(b *bench) func() {
			blob := b.push("app", small)
			return func() { b.read(b.GetBlob(b.ctx, "app", blob.Descriptor.Digest)) }
		}},
		{"GET of a large blob", 2, func(b *bench) func() {
			blob := b.push("app", large)
			return func() { b.read(b.GetBlob(b.ctx, "app", blob.Descriptor.Digest)) }
		}},
		{"mount from a repository", 4, func(b *bench) func() {
			blob := known(b)
			return func() { _, err := b.MountBlob(b.ctx, "other", "app", blob.Descriptor.Digest); b.must(err) }
		}},
		{"mount from any repository", 5, func(b *bench) func() {
			blob := known(b)
			return func() { _, err := b.MountBlob(b.ctx, "", "app", blob.Descriptor.Digest); b.must(err) }
		}},
		{"PUT of a manifest whose blobs are known", 1, func(b *bench) func() {
			a := b.image("app", "v1", large)
			return func() {
				_, err := b.PushManifest(b.ctx, "app", "v2", a.Manifest, a.Descriptor.MediaType, "v3", "v4", "v5")
				b.must(err)
			}
		}},
		{"PUT of a manifest with a config and 2 layers", 4, func(b *bench) func() {
			a := ocitest.NewImage(ocitest.Spec{Seed: 1000, Layers: []int64{small, large}})
			for _, blob := range a.Blobs {
				_, err := b.PushBlob(b.ctx, "app", blob.Descriptor, blob.NewReader())
				b.must(err)
			}
			return func() {
				_, err := b.PushManifest(b.ctx, "app", "v2", a.Manifest, a.Descriptor.MediaType, "v3")
				b.must(err)
			}
		}},
		{"GET of a manifest by tag", 1, func(b *bench) func() {
			return func() { b.read(b.GetTag(b.ctx, "app", "v0")) }
		}},
		{"GET of a manifest by digest", 1, func(b *bench) func() {
			a := b.image("app", "v1", small)
			return func() { b.read(b.GetManifest(b.ctx, "app", a.Descriptor.Digest)) }
		}},
		{"list of 1,000 tags", 1, func(b *bench) func() {
			b.tag("app", 1000)
			return func() {
				tags, err := ociregistry.All(b.Tags(b.ctx, "app", ""))
				b.must(err)
				qt.Check(b, qt.HasLen(tags, 1001))
			}
		}},
		{"DELETE of a manifest beside 1,000 tags", 2, func(b *bench) func() {
			b.tag("app", 1000)
			a := b.image("app", "v1", small)
			return func() { b.must(b.DeleteManifest(b.ctx, "app", a.Descriptor.Digest)) }
		}},
		{"DELETE of a manifest with 1,000 tags", 2, func(b *bench) func() {
			d := b.tag("app", 1000)
			return func() { b.must(b.DeleteManifest(b.ctx, "app", d)) }
		}},
		{"DELETE of a tag", 2, func(b *bench) func() {
			return func() { b.must(b.DeleteTag(b.ctx, "app", "v0")) }
		}},
		{"push of a config and 10 layers, all of it new, by POST, PATCH and PUT", 98, func(b *bench) func() {
			a := ocitest.NewImage(tenLayers)
			return func() {
				for _, blob := range a.Blobs {
					b.session("app", blob)
				}
				_, err := b.PushManifest(b.ctx, "app", "v1", a.Manifest, a.Descriptor.MediaType)
				b.must(err)
			}
		}},
		{"pull of a config and 10 layers, with redirects", 13, func(b *bench) func() {
			a := ocitest.NewImage(tenLayers)
			b.must(a.Push(b.ctx, b, "app", "v1"))
			return func() {
				b.read(b.GetTag(b.ctx, "app", "v1"))
				for _, blob := range a.Blobs {
					url, err := b.BlobURL(b.ctx, "app", blob.Descriptor.Digest, time.Hour)
					b.must(err)
					if url == "" {
						b.read(b.GetBlob(b.ctx, "app", blob.Descriptor.Digest))
					}
				}
			}
		}},
		{"usage, as it was known less than 10 seconds ago", 0, func(b *bench) func() {
			b.usageOf("")
			b.push("app", large)
			return func() { b.usageOf("") }
		}},
		{"usage beside 50 repositories and 500 blobs that nobody has changed", 1, func(b *bench) func() {
			for i := range 50 {
				for range 10 {
					b.push(fmt.Sprint("other", i), small)
				}
			}
			b.usageOf("")
			return func() { b.catchUp(); b.usageOf("") }
		}},
		{"usage when others have pushed a manifest, a config and 2 layers", 7, func(b *bench) func() {
			b.usageOf("app")
			other := &bench{TB: b, ctx: b.ctx, store: b.store, Registry: mustOpen(b, b.store, nil), seed: 1000}
			b.must(ocitest.NewImage(ocitest.Spec{Seed: 1000, Layers: []int64{small, large}}).Push(b.ctx, other, "app", "v1"))
			other.push("elsewhere", large)
			other.quiet()
			return func() { b.catchUp(); b.usageOf("app") }
		}},
		{"what was changed in 10 seconds, if somebody asks for the usage", 2, func(b *bench) func() {
			b.usageOf("")
			b.push("app", large)
			b.image("other", "v1", large)
			return b.news.Write
		}},
		{"DELETE of a blob", 5, func(b *bench) func() {
			blob := b.push("app", large)
			return func() { b.must(b.DeleteBlob(b.ctx, "app", blob.Descriptor.Digest)) }
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				call := test.prepare(b)
				b.quiet()
				b.store.Reset()
				call()
				b.repos.Wait()
				counts := b.store.Reset()
				t.Logf("%v", counts)
				qt.Check(t, qt.IsTrue(counts.Total() <= test.most), qt.Commentf("%v: not more than %d", counts, test.most))
			})
		})
	}
}

func (b *bench) usageOf(prefix string) {
	b.Helper()
	_, err := b.Usage(b.ctx, prefix)
	b.must(err)
}

// catchUp makes as much time pass as it takes until other processes are asked again.
func (b *bench) catchUp() { b.must(b.usage.CatchUp(b.ctx)) }

var tenLayers = ocitest.Spec{Seed: 1000, Layers: slices.Repeat([]int64{1 << 20}, 10)}

// quiet waits until nothing is done in the background, and for ten seconds nothing will be.
func (b *bench) quiet() {
	b.repos.Wait()
	b.news.Write()
}

// tag points n tags at a manifest.
func (b *bench) tag(repo string, n int) ociregistry.Digest {
	var tags []string
	for i := range n {
		tags = append(tags, fmt.Sprintf("t%d", i))
	}
	text := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	_, err := b.PushManifest(b.ctx, repo, "", text, "application/vnd.oci.image.index.v1+json", tags...)
	b.must(err)
	return digest.FromBytes(text)
}

func TestRequests_OfAProcessThatKnowsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 20 {
			a := b.image("app", fmt.Sprintf("i%d", i), 100)
			var tags []string
			for k := range 5000 {
				tags = append(tags, fmt.Sprintf("t%d-%d", i, k))
			}
			_, err := b.PushManifest(b.ctx, "app", "", a.Manifest, a.Descriptor.MediaType, tags...)
			b.must(err)
			b.quiet()
		}
		images := 21
		count := func(most int, when string) {
			t.Helper()
			for _, test := range []struct {
				name string
				most int
				call func(r *Registry)
			}{
				{"GET of a manifest by tag", most, func(r *Registry) { b.read(r.GetTag(b.ctx, "app", "t1-7")) }},
				{"list of 100,000 tags", most - 1, func(r *Registry) {
					tags, err := ociregistry.All(r.Tags(b.ctx, "app", ""))
					b.must(err)
					qt.Check(t, qt.HasLen(tags, 100_000+images))
				}},
				{"usage", most + 4, func(r *Registry) {
					_, err := r.Usage(b.ctx, "app")
					b.must(err)
				}},
			} {
				r := mustOpen(t, b.store, nil)
				b.store.Reset()
				test.call(r)
				counts := b.store.Reset()
				t.Logf("%s, %s: %v", test.name, when, counts)
				qt.Check(t, qt.IsTrue(counts.Total() <= test.most), qt.Commentf("%s, %s: %v", test.name, when, counts))
			}
		}
		count(4, "after large pushes")

		// The log goes on after the last snapshot, by records that the newest one carries.
		before := b.newest(keys.Snapshots("app"))
		for b.newest(keys.Records("app")) < before+40 {
			images++
			b.image("app", fmt.Sprintf("i%d", images), 100)
			b.quiet()
		}
		qt.Assert(t, qt.Equals(b.newest(keys.Snapshots("app")), before))
		count(4, "40 pushes after a snapshot")

		// When they are too many, some carry the others, until there is another snapshot.
		for b.newest(keys.Snapshots("app")) == before {
			images++
			b.image("app", fmt.Sprintf("i%d", images), 100)
			b.quiet()
		}
		count(4, "at the next snapshot")
	})
}

// However long the log since a snapshot is, two records have it: the newest one, and one that carries all before it.
func TestRequests_OfAProcessThatKnowsNothingOfALongLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := countstore.New(memstore.New(nil))
		r, err := open(t.Context(), store, nil, settings{grace: defaultGrace, minTail: 1 << 20, maxCarried: 4 << 10})
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		b := &bench{TB: t, ctx: t.Context(), store: store, Registry: r}
		a := b.image("app", "v0", 100)
		for i := range 1000 {
			tag := fmt.Sprint("t", i)
			_, err := b.PushManifest(b.ctx, "app", tag, a.Manifest, a.Descriptor.MediaType)
			b.must(err)
			if i%50 != 49 {
				continue
			}
			other := mustOpen(t, store, nil)
			store.Reset()
			desc, err := other.ResolveTag(b.ctx, "app", tag)
			b.must(err)
			qt.Check(t, qt.Equals(desc.Digest, a.Descriptor.Digest))
			counts := store.Reset()
			qt.Check(t, qt.IsTrue(counts.Total() <= 3), qt.Commentf("%v after %d pushes", counts, i+1))
		}
		qt.Check(t, qt.Equals(b.newest(keys.Snapshots("app")), 0))
	})
}

// What a collection costs grows with blobs alone: here with a config, which is small, and a layer for each tag.
func TestRequests_OfACollection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		store := countstore.New(memstore.New(&memstore.Options{Now: func() time.Time { return now }}))
		b := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil)}
		before := 0
		for i := range 4 {
			for k := range 50 {
				b.image("app", fmt.Sprintf("v%d-%d", i, k), 1<<20)
			}
			b.quiet()
			now = now.Add(100 * time.Hour)
			b.store.Reset()
			_, err := b.GC(b.ctx, nil)
			b.must(err)
			counts := b.store.Reset()
			cost := counts.Total() - counts["Delete"] // of what is left over, once
			if i > 0 {
				more := cost - before
				qt.Check(t, qt.IsTrue(more <= 50*(1+3+1)+20), qt.Commentf("%d more for 50 images: %v", more, counts))
			}
			before = cost
		}
	})
}

// The mark of a new name goes when content has come: nobody has to look at it.
func TestRequests_OfAListOfNewRepositories(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 100 {
			b.image(fmt.Sprintf("image%d", i), "v1", 100)
			b.push(fmt.Sprintf("blob%d", i), 100)
			_, err := b.PushManifest(b.ctx, fmt.Sprintf("manifest%d", i), "v1", []byte("text"), "text/plain")
			b.must(err)
		}
		b.quiet()
		for name, r := range map[string]*Registry{"who has pushed them": b.Registry, "another process": mustOpen(t, b.store, nil)} {
			b.store.Reset()
			names, err := ociregistry.All(r.Repositories(b.ctx, ""))
			b.must(err)
			qt.Check(t, qt.HasLen(names, 301))
			qt.Check(t, qt.Equals(b.store.Reset().String(), "List:2"), qt.Commentf(name))
		}
	})
}

// newest returns the number of the newest record or snapshot, those of which have a prefix.
func (b *bench) newest(prefix string) uint64 {
	for _, key := range b.store.Store.(*memstore.Store).Keys() {
		if strings.HasPrefix(key, prefix) {
			k, _ := keys.Parse(key)
			return k.Number
		}
	}
	return 0
}
