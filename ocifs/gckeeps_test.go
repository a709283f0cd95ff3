package ocifs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// gcBed is a registry with a clock.
type gcBed struct {
	*folded
	*testing.T
	now atomic.Int64 // in nanoseconds since 1970
}

func newGCBed(t *testing.T) *gcBed {
	b := &gcBed{T: t}
	b.now.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	b.folded = openFolded(t, scratch.Kept(t), b.at)
	return b
}

func (b *gcBed) at() time.Time { return time.Unix(0, b.now.Load()) }

// pass lets time pass.
func (b *gcBed) pass(d time.Duration) { b.now.Add(int64(d)) }

func (b *gcBed) push(seed uint64, tags ...string) *ocitest.Artifact {
	b.Helper()
	image := ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{100}})
	qt.Assert(b, qt.IsNil(image.Push(b.Context(), b.folded, "app", tags...)))
	return image
}

func (b *gcBed) restart() {
	qt.Assert(b, qt.IsNil(b.Close()))
	b.open(b, b.dir)
}

func (b *gcBed) collect(opts *ocigc.Options) *ocigc.Report {
	b.Helper()
	report, err := b.GC(b.Context(), opts)
	qt.Assert(b, qt.IsNil(err))
	qt.Assert(b, qt.HasLen(report.Problems, 0))
	return report
}

// wantTags checks the tags of the repository.
func (b *gcBed) wantTags(want string) {
	b.Helper()
	tags, err := ociregistry.All(b.Tags(b.Context(), "app", ""))
	qt.Assert(b, qt.IsNil(err))
	qt.Check(b, qt.Equals(strings.Join(tags, " "), want))
}

func keepRules(rules ...ocigc.TagRule) *ocigc.Options {
	return &ocigc.Options{Policies: []ocigc.Policy{{Keep: rules}}}
}

// rewriteIndex writes an index.json as another program does that changes nothing.
func (b *gcBed) rewriteIndex() {
	name := filepath.Join(b.dir, "app", "index.json")
	text, err := os.ReadFile(name)
	qt.Assert(b, qt.IsNil(err))
	qt.Assert(b, qt.IsNil(os.WriteFile(name, append(text, '\n'), 0o666)))
}

func TestGC_KnowsWhenTagsWereSet(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(*gcBed){
		"in the same process":                  func(*gcBed) {},
		"after a restart":                      (*gcBed).restart,
		"after an edit":                        (*gcBed).rewriteIndex,
		"after an edit and a restart":          func(b *gcBed) { b.rewriteIndex(); b.restart() },
		"after a restart, another tag and one": func(b *gcBed) { b.restart(); b.push(100, "z"); b.restart() },
	} {
		for _, more := range []int{0, 20} { // so that index.json is short or long
			t.Run(fmt.Sprintf("%s,%d more", name, more), func(t *testing.T) {
				t.Parallel()
				b := newGCBed(t)
				for i := range more {
					b.push(uint64(10+i), fmt.Sprint("y", i))
				}
				image := b.push(1, "old", "moved")
				b.pass(24 * time.Hour)
				qt.Assert(t, qt.IsNil(image.Push(t.Context(), b.folded, "app", "new")))
				b.push(2, "moved")
				after(b)
				b.pass(12 * time.Hour)
				b.collect(keepRules(ocigc.TagRule{PushedWithin: 24 * time.Hour}, ocigc.TagRule{Match: "^z"}))
				want := "moved new"
				if strings.Contains(name, "another") {
					want += " z"
				}
				b.wantTags(want)
			})
		}
	}
}

func TestGC_KnowsPullsOfOtherProcesses(t *testing.T) {
	t.Parallel()
	b := newGCBed(t)
	b.push(1, "pulled")
	b.push(2, "old")
	b.push(3, "never")
	pull := func(tag string) {
		rd, err := b.GetTag(t.Context(), "app", tag)
		qt.Assert(t, qt.IsNil(err))
		rd.Close()
	}
	pull("old")
	b.pass(24 * time.Hour)
	pull("pulled")
	b.restart()
	b.pass(time.Hour)
	b.collect(keepRules(ocigc.TagRule{PulledWithin: 25 * time.Hour}))
	b.wantTags("old pulled")
	b.collect(keepRules(ocigc.TagRule{PulledWithin: 24 * time.Hour}))
	b.wantTags("pulled")

	// What is gone is forgotten.
	qt.Assert(t, qt.IsNil(b.DeleteTag(t.Context(), "app", "pulled")))
	b.pass(2 * time.Hour)
	b.collect(&ocigc.Options{Untagged: true})
	b.collect(nil)
	files, err := filepath.Glob(filepath.Join(b.work.Dir, "pulls", "????*?????"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(files, 0))
}

func TestGC_RemovesWhatProcessesThatDiedHaveLeft(t *testing.T) {
	t.Parallel()
	b := newGCBed(t)
	b.push(1, "v1")
	old, young := []byte("old content of the pool"), []byte("young content of the pool")
	for age, data := range map[time.Duration][]byte{2 * time.Hour: old, 0: young} {
		name := blobs.Path(b.work.Dir, digest.FromBytes(data))
		qt.Assert(t, qt.IsNil(os.WriteFile(name, data, 0o666)))
		qt.Assert(t, qt.IsNil(os.Chtimes(name, time.Time{}, b.at().Add(-age))))
	}
	staged := filepath.Join(b.work.Dir, "staging", "DEAD")
	qt.Assert(t, qt.IsNil(os.Mkdir(staged, 0o777)))
	qt.Assert(t, qt.IsNil(b.layouts.MakeDirs(filepath.Join(b.dir, "empty"))))
	_, err := b.layouts.Make(filepath.Join(b.dir, "empty", "repository"))
	qt.Assert(t, qt.IsNil(err))
	b.collect(&ocigc.Options{DryRun: true})
	_, err = os.Stat(staged)
	qt.Check(t, qt.IsNil(err))
	b.collect(nil)
	for name, want := range map[string]bool{
		staged: false,
		blobs.Path(b.work.Dir, digest.FromBytes(old)):   false,
		blobs.Path(b.work.Dir, digest.FromBytes(young)): true,
		filepath.Join(b.dir, "empty"):                   false,
	} {
		_, err := os.Stat(name)
		qt.Check(t, qt.Equals(err == nil, want), qt.Commentf("%s: %v", name, err))
	}
}

func TestGC_LeavesAloneWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	b := newGCBed(t)
	b.push(1)
	name := filepath.Join(b.dir, "app", "index.json")
	text, err := os.ReadFile(name)
	qt.Assert(t, qt.IsNil(err))
	text = bytes.Replace(text, []byte(`"manifests":[`), []byte(`"manifests":[{"digest":"sha384:unknown","size":1},`), 1)
	qt.Assert(t, qt.IsNil(os.WriteFile(name, text, 0o666)))
	b.pass(2 * time.Hour)
	report, err := b.GC(t.Context(), &ocigc.Options{Untagged: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(report.Problems, 1))
	qt.Check(t, qt.HasLen(report.Findings, 0))
}

// Another program adds a child of an index, without a change of index.json.
func TestGC_KeepsWhatAChildNamesThatCameLater(t *testing.T) {
	t.Parallel()
	b := newGCBed(t)
	child := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
	index := ocitest.NewIndex(ocitest.Spec{}, child)
	_, err := b.PushManifest(ociregistry.AllowMissing(t.Context()), "app", "v1", index.Manifest, index.Descriptor.MediaType)
	qt.Assert(t, qt.IsNil(err))
	write := func(d ociregistry.Digest, data []byte) {
		name := blobs.Path(filepath.Join(b.dir, "app"), d)
		qt.Assert(t, qt.IsNil(os.WriteFile(name, data, 0o666)))
		qt.Assert(t, qt.IsNil(os.Chtimes(name, time.Time{}, b.at())))
	}
	for _, blob := range child.Blobs {
		write(blob.Descriptor.Digest, blob.Bytes())
	}
	write(child.Descriptor.Digest, child.Manifest)
	b.pass(2 * time.Hour)
	report := b.collect(&ocigc.Options{Untagged: true})
	qt.Check(t, qt.HasLen(report.Findings, 0))
	qt.Check(t, qt.IsNil(index.Verify(t.Context(), b.folded, "app")))
}

func TestGC_OfAReadOnlyRegistryIsADryRun(t *testing.T) {
	t.Parallel()
	b := newGCBed(t)
	b.push(1)
	qt.Assert(t, qt.IsNil(b.Close()))
	r, err := openWith(clockFS{now: b.clock}, b.dir, "", &Options{ReadOnly: true}, blobs.Clock{Now: b.clock})
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	b.pass(2 * time.Hour)
	_, err = r.GC(t.Context(), nil)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	report, err := r.GC(t.Context(), &ocigc.Options{DryRun: true, Untagged: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(report.Manifests, 1))
	qt.Check(t, qt.Equals(report.Blobs, 2))
}

// fillGarbage makes repositories with images of ten layers each, of which one in ten has no
// tag. All layers are one file.
func fillGarbage(t testing.TB, dir string, repos, images int) {
	old := time.Now().Add(-24 * time.Hour)
	for r := range repos {
		repo := filepath.Join(dir, fmt.Sprintf("r%d", r/100), fmt.Sprintf("s%d", r%100))
		content := filepath.Join(repo, "blobs", "sha256")
		qt.Assert(t, qt.IsNil(os.MkdirAll(content, 0o777)))
		first := ""
		write := func(name, text string) {
			qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), 0o666)))
			qt.Assert(t, qt.IsNil(os.Chtimes(name, old, old)))
		}
		var entries []string
		for i := range images {
			var layers []string
			for k := range 10 {
				d := digest.FromString(fmt.Sprint(r, i, k))
				if name := filepath.Join(content, d.Encoded()); first == "" {
					first = name
					write(first, "content")
				} else {
					qt.Assert(t, qt.IsNil(os.Link(first, name)))
				}
				layers = append(layers, fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":7}`, d))
			}
			text := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, layers[0], strings.Join(layers[1:], ","))
			d := digest.FromString(text)
			write(filepath.Join(content, d.Encoded()), text)
			entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d`, ocispec.MediaTypeImageManifest, d, len(text))
			if i%10 > 0 {
				entry += fmt.Sprintf(`,"annotations":{%q:"v%d"}`, ocispec.AnnotationRefName, i)
			}
			entries = append(entries, entry+"}")
		}
		write(filepath.Join(repo, "index.json"), `{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`)
		write(filepath.Join(repo, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	}
}

// timedGC collects garbage, and returns how long that takes, and how many manifests it opens.
func timedGC(t testing.TB, fsys *disktest.Hooks, r *Registry) (took time.Duration, opens int, report *ocigc.Report) {
	var opened atomic.Int64
	fsys.Set(func(op, name string) error {
		if op == "OpenFile" && isBlobPath(name) {
			opened.Add(1)
		}
		return nil
	})
	defer fsys.Set(nil)
	start := time.Now()
	report, err := r.GC(t.Context(), &ocigc.Options{Untagged: true, Finding: func(ocigc.Finding) {}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(report.Problems, 0))
	return time.Since(start), int(opened.Load()), report
}

func TestGC_OpensNoManifestOfARepositoryThatIsKnown(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	fillGarbage(t, dir, 3, 40)
	r, fsys := openHooked(t, dir, &Options{NoSync: true})
	_, opens, report := timedGC(t, fsys, r)
	qt.Check(t, qt.Equals(opens, 120))
	qt.Check(t, qt.Equals(report.Manifests, 12))
	qt.Check(t, qt.Equals(report.Blobs, 120))
	_, opens, report = timedGC(t, fsys, r)
	qt.Check(t, qt.Equals(opens, 0))
	qt.Check(t, qt.Equals(report.Manifests+report.Blobs, 0))
	qt.Assert(t, qt.IsNil(r.Close()))
	r, fsys = openHooked(t, dir, &Options{NoSync: true})
	_, opens, _ = timedGC(t, fsys, r)
	qt.Check(t, qt.Equals(opens, 0)) // the snapshot has what they name
}

// BenchmarkGC collects garbage of 20 repositories with 100 images each, and then once more.
func BenchmarkGC(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := scratch.Kept(b)
		fillGarbage(b, dir, 20, 100)
		fsys := new(disktest.Hooks)
		r, err := open(fsys, dir, "", &Options{NoSync: true})
		qt.Assert(b, qt.IsNil(err))
		b.StartTimer()
		first, _, _ := timedGC(b, fsys, r)
		second, opens, _ := timedGC(b, fsys, r)
		b.StopTimer()
		b.ReportMetric(float64(first.Milliseconds()), "ms-first")
		b.ReportMetric(float64(second.Milliseconds()), "ms-second")
		b.ReportMetric(float64(opens), "opens-second")
		qt.Assert(b, qt.IsNil(r.Close()))
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
