package ocifs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A coldRepo is a repository of many images, as another program writes it. Each image has a
// tag, a config and a layer of its own, and two layers that it shares. Every tenth has a
// signature, without a tag.
type coldRepo struct {
	root      string
	images    []ociregistry.Digest
	blob      ociregistry.Digest // the only one that is there
	manifests map[string]bool    // the names of files
}

const coldName = "app"

func newColdRepo(t testing.TB, images int) *coldRepo {
	t.Helper()
	c := &coldRepo{root: scratch.Kept(t), blob: digest.FromString("config0"), manifests: make(map[string]bool)}
	blobs := filepath.Join(c.root, coldName, "blobs", "sha256")
	qt.Assert(t, qt.IsNil(os.MkdirAll(blobs, 0o777)))
	write := func(d ociregistry.Digest, text string) {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(blobs, d.Encoded()), []byte(text), 0o666)))
	}
	var index strings.Builder
	index.WriteString(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`)
	put := func(text, tag string) ociregistry.Digest {
		d := digest.FromString(text)
		write(d, text)
		c.manifests[d.Encoded()] = true
		if len(c.manifests) > 1 {
			index.WriteByte(',')
		}
		fmt.Fprintf(&index, `{"mediaType":%q,"digest":%q,"size":%d`, ocispec.MediaTypeImageManifest, d, len(text))
		if tag != "" {
			fmt.Fprintf(&index, `,"annotations":{%q:%q}`, ocispec.AnnotationRefName, tag)
		}
		index.WriteByte('}')
		return d
	}
	write(c.blob, "config0")
	for i := range images {
		text := coldManifest("", fmt.Sprint("config", i), fmt.Sprint("layer", i), fmt.Sprint("base", i/100), fmt.Sprint("base", i/50))
		c.images = append(c.images, put(text, coldTag(i)))
		if i%10 == 0 {
			subject := fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageManifest, c.images[i], len(text))
			put(coldManifest(subject, "empty", fmt.Sprint("signature", i)), "")
		}
	}
	index.WriteString("]}\n")
	c.write(t, "oci-layout", layout.FileText)
	c.write(t, "index.json", index.String())
	return c
}

func (c *coldRepo) path(name string) string {
	return filepath.Join(c.root, coldName, filepath.FromSlash(name))
}

func (c *coldRepo) write(t testing.TB, name, text string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(os.WriteFile(c.path(name), []byte(text), 0o666)))
}

func coldTag(i int) string { return fmt.Sprintf("tag-%06d", i) }

func coldManifest(more, config string, layers ...string) string {
	desc := func(mediaType, text string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest.FromString(text), len(text))
	}
	for i := range layers {
		layers[i] = desc(ocispec.MediaTypeImageLayerGzip, layers[i])
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`,
		ocispec.MediaTypeImageManifest, desc(ocispec.MediaTypeImageConfig, config), strings.Join(layers, ","), more)
}

// coldCalls are the calls that are to cost as much after New as later.
var coldCalls = []struct {
	name      string
	manifests int // the most manifests that it may open
	do        func(t testing.TB, c *coldRepo, r *Registry)
}{
	{"ResolveBlob", 0, func(t testing.TB, c *coldRepo, r *Registry) {
		desc, err := r.ResolveBlob(t.Context(), coldName, c.blob)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Size, int64(len("config0"))))
	}},
	{"ResolveTag", 0, func(t testing.TB, c *coldRepo, r *Registry) {
		desc, err := r.ResolveTag(t.Context(), coldName, coldTag(len(c.images)/2))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Digest, c.images[len(c.images)/2]))
	}},
	{"GetManifest", 1, func(t testing.TB, c *coldRepo, r *Registry) {
		br, err := r.GetManifest(t.Context(), coldName, c.images[len(c.images)/3])
		qt.Assert(t, qt.IsNil(err))
		br.Close()
	}},
	{"Tags", 0, func(t testing.TB, c *coldRepo, r *Registry) {
		var tags []string
		for tag, err := range r.Tags(t.Context(), coldName, coldTag(9)) {
			qt.Assert(t, qt.IsNil(err))
			if tags = append(tags, tag); len(tags) == 100 {
				break
			}
		}
		qt.Check(t, qt.IsTrue(len(tags) == 100 && tags[0] == coldTag(10) && tags[99] == coldTag(109)))
	}},
	{"Referrers", 1, func(t testing.TB, c *coldRepo, r *Registry) { // its annotations are in its text alone
		referrers, err := ociregistry.All(r.Referrers(t.Context(), coldName, c.images[10], ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(referrers, 1))
	}},
	{"Referrers/none", 0, func(t testing.TB, c *coldRepo, r *Registry) {
		referrers, err := ociregistry.All(r.Referrers(t.Context(), coldName, c.images[11], ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(referrers, 0))
	}},
}

// opens returns which files of the repository a call opens in a new registry.
func (c *coldRepo) opens(t testing.TB, call func(r *Registry)) (manifests int, others []string) {
	t.Helper()
	fsys := new(disktest.Hooks)
	r, err := open(fsys, c.root, "", &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	var mu sync.Mutex
	fsys.Set(func(op, name string) error {
		name, isBelow := strings.CutPrefix(name, c.path("")+string(filepath.Separator))
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op != "OpenFile" || !isBelow:
		case c.manifests[filepath.Base(name)]:
			manifests++
		default:
			others = append(others, filepath.ToSlash(name))
		}
		return nil
	})
	call(r)
	qt.Assert(t, qt.IsNil(r.Close()))
	slices.Sort(others)
	return manifests, slices.Compact(others)
}

// What another program has written is read once. After that, the first call of a process
// opens what tells the state, and what it returns.
func TestColdRegistry_OpensNoManifests(t *testing.T) {
	t.Parallel()
	const images = 300
	c := newColdRepo(t, images)
	resolve := func(r *Registry) { coldCalls[0].do(t, c, r) }
	manifests, _ := c.opens(t, resolve)
	qt.Check(t, qt.Equals(manifests, len(c.manifests)))
	for _, call := range coldCalls {
		manifests, others := c.opens(t, func(r *Registry) { call.do(t, c, r) })
		qt.Check(t, qt.Equals(manifests, call.manifests), qt.Commentf("%s", call.name))
		qt.Check(t, qt.DeepEquals(others, []string{".ocifs/journal", ".ocifs/snapshot", "index.json"}), qt.Commentf("%s", call.name))
	}

	// The other program writes again: the tag of one image is gone.
	text, err := os.ReadFile(c.path("index.json"))
	qt.Assert(t, qt.IsNil(err))
	c.write(t, "index.json", strings.Replace(string(text), coldTag(7), coldTag(8), 1))
	manifests, _ = c.opens(t, resolve)
	qt.Check(t, qt.Equals(manifests, len(c.manifests)))
	manifests, _ = c.opens(t, func(r *Registry) {
		resolve(r)
		_, err := r.ResolveTag(t.Context(), coldName, coldTag(7))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
	})
	qt.Check(t, qt.Equals(manifests, 0))
}

// A fold leaves a snapshot, too, with which a copy of the tree is as warm as the original.
func TestColdRegistry_ReadsWhatFoldsHaveWritten(t *testing.T) {
	t.Parallel()
	c := newColdRepo(t, 40)
	r, err := New(c.root, &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	coldCalls[0].do(t, c, r)
	pushed, err := r.PushManifest(t.Context(), coldName, "pushed", []byte(`{"a":1}`), "application/vnd.example.thing")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.DeleteTag(t.Context(), coldName, coldTag(3))))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), coldName, c.images[4])))
	qt.Assert(t, qt.IsNil(r.Close()))

	c.root = copyOf(t, c.root)
	manifests, _ := c.opens(t, func(r *Registry) {
		coldCalls[0].do(t, c, r)
		desc, err := r.ResolveTag(t.Context(), coldName, "pushed")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(desc, pushed))
		for _, tag := range []string{coldTag(3), coldTag(4)} {
			_, err = r.ResolveTag(t.Context(), coldName, tag)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
		}
		desc, err = r.ResolveManifest(t.Context(), coldName, c.images[3])
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Digest, c.images[3]))
		err = r.DeleteBlob(t.Context(), coldName, c.blob)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)))
	})
	qt.Check(t, qt.Equals(manifests, 0))
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(scratch.Kept(t), "copy")
	qt.Assert(t, qt.IsNil(os.CopyFS(to, os.DirFS(dir))))
	return to
}

// A registry that must not write leaves no snapshot.
func TestColdRegistry_ReadOnlyWritesNothing(t *testing.T) {
	t.Parallel()
	c := newColdRepo(t, 20)
	r, err := New(c.root, &Options{ReadOnly: true})
	qt.Assert(t, qt.IsNil(err))
	coldCalls[0].do(t, c, r)
	qt.Assert(t, qt.IsNil(r.Close()))
	_, err = os.Lstat(c.path(layout.PrivateDir))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}

// A manifest that cannot be read is tried again by the next process, and nothing else is.
func TestColdRegistry_TriesUnreadableManifestsAgain(t *testing.T) {
	t.Parallel()
	c := newColdRepo(t, 20)
	file := c.path("blobs/sha256/" + c.images[5].Encoded())
	text, err := os.ReadFile(file)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte("damaged"), 0o666)))
	resolve := func(r *Registry) { coldCalls[0].do(t, c, r) }
	c.opens(t, resolve)
	manifests, _ := c.opens(t, resolve)
	qt.Check(t, qt.Equals(manifests, 1))
	qt.Assert(t, qt.IsNil(os.WriteFile(file, text, 0o666)))
	manifests, _ = c.opens(t, resolve)
	qt.Check(t, qt.Equals(manifests, 1))
	manifests, _ = c.opens(t, resolve)
	qt.Check(t, qt.Equals(manifests, 0))
}

// A child of an index that another program adds is a manifest from then on, although
// index.json is as it was.
func TestColdRegistry_FindsChildrenThatCameLater(t *testing.T) {
	t.Parallel()
	child := coldManifest("", "config")
	parent := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, digest.FromString(child), len(child))
	c := &coldRepo{root: scratch.Kept(t), manifests: map[string]bool{digest.FromString(parent).Encoded(): true}, blob: digest.FromString("config0")}
	var entries []string
	for i := range 10 {
		entries = append(entries, entryOf(parent, coldTag(i)))
	}
	writeLayout(t, c.path(""), entries, parent, "config0")
	manifests, _ := c.opens(t, func(r *Registry) { coldCalls[0].do(t, c, r) })
	qt.Check(t, qt.Equals(manifests, 1))
	look := func(r *Registry) error {
		_, err := r.ResolveManifest(t.Context(), coldName, digest.FromString(child))
		return err
	}
	manifests, _ = c.opens(t, func(r *Registry) {
		qt.Check(t, qt.ErrorIs(look(r), error(ociregistry.ErrManifestUnknown)))
	})
	qt.Check(t, qt.Equals(manifests, 0))
	c.write(t, "blobs/sha256/"+digest.FromString(child).Encoded(), child)
	for range 2 {
		c.opens(t, func(r *Registry) { qt.Check(t, qt.IsNil(look(r))) })
		c.opens(t, func(r *Registry) {
			_, err := r.ResolveBlob(t.Context(), coldName, digest.FromString(child))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
			err = r.DeleteManifest(t.Context(), coldName, digest.FromString(child))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)))
		})
	}
}

// BenchmarkCold times the first call after New in a repository of 100,000 images, and
// compares it with a bare read of index.json: "reads" is how many times as long it takes.
func BenchmarkCold(b *testing.B) {
	images := 100_000
	if testing.Short() {
		images /= 50
	}
	c := newColdRepo(b, images)
	c.opens(b, func(r *Registry) { coldCalls[0].do(b, c, r) })
	for _, name := range []string{"index.json", ".ocifs/snapshot"} {
		info, err := os.Stat(c.path(name))
		qt.Assert(b, qt.IsNil(err))
		b.Logf("%s has %d bytes, %d for each of %d images", name, info.Size(), info.Size()/int64(images), images)
	}
	for _, call := range coldCalls {
		b.Run(call.name, func(b *testing.B) {
			var reads, calls time.Duration
			for b.Loop() {
				b.StopTimer()
				r, err := New(c.root, &Options{NoSync: true})
				qt.Assert(b, qt.IsNil(err))
				runtime.GC()
				start := time.Now()
				text, err := os.ReadFile(c.path("index.json"))
				reads += time.Since(start)
				qt.Assert(b, qt.IsTrue(err == nil && len(text) > 0))
				text = nil
				runtime.GC()
				b.StartTimer()
				start = time.Now()
				call.do(b, c, r)
				calls += time.Since(start)
				b.StopTimer()
				r.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(calls)/float64(reads), "reads")
		})
	}
	for _, snapshot := range []bool{true, false} {
		b.Run(fmt.Sprintf("Memory/snapshot=%t", snapshot), func(b *testing.B) {
			for b.Loop() {
				if !snapshot {
					os.Remove(c.path(".ocifs/snapshot"))
				}
				before := liveBytes()
				r, err := New(c.root, &Options{ReadOnly: true})
				qt.Assert(b, qt.IsNil(err))
				coldCalls[0].do(b, c, r)
				b.ReportMetric(float64(liveBytes()-before)/float64(images), "bytes/image")
				runtime.KeepAlive(r)
				r.Close()
			}
		})
	}
}

func liveBytes() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkFold pushes a manifest to a repository of 100,000 images and folds that.
func BenchmarkFold(b *testing.B) {
	images := 100_000
	if testing.Short() {
		images /= 50
	}
	c := newColdRepo(b, images)
	fsys := new(disktest.Hooks)
	r, err := open(fsys, c.root, "", &Options{NoSync: true})
	qt.Assert(b, qt.IsNil(err))
	defer r.Close()
	push := func(i int) {
		_, err := r.PushManifest(b.Context(), coldName, fmt.Sprint("fold-", i), []byte(fmt.Sprintf(`{"i":%d}`, i)), "application/vnd.example.thing")
		qt.Assert(b, qt.IsNil(err))
		repo, err := r.repos.Open(coldName)
		qt.Assert(b, qt.IsNil(err))
		defer repo.Release()
		qt.Assert(b, qt.IsNil(repo.Fold(b.Context())))
	}
	coldCalls[0].do(b, c, r)
	push(-1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		push(i)
	}
}
