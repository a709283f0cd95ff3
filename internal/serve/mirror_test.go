package serve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// client returns a client of the registry with the base URL d.base.
func (d docker) client(t *testing.T) ociregistry.Interface {
	c, err := ociclient.New(strings.TrimPrefix(d.base, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	return c
}

func platformIndex(platforms ...string) *ocitest.Artifact {
	var images []*ocitest.Artifact
	for i, architecture := range platforms {
		images = append(images, ocitest.NewImage(ocitest.Spec{
			Seed:     uint64(i),
			Platform: &ocispec.Platform{OS: "linux", Architecture: architecture},
			Layers:   []int64{1000},
		}))
	}
	return ocitest.NewIndex(ocitest.Spec{}, images...)
}

// awaitLog waits until the log has a text.
func awaitLog(t *testing.T, log *locked.Buffer, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), text); time.Sleep(time.Millisecond) {
		qt.Assert(t, qt.IsTrue(time.Now().Before(deadline)), qt.Commentf("log: %s", log))
	}
}

func writeRules(t *testing.T, format string, args ...any) (file string) {
	file = filepath.Join(t.TempDir(), "rules.json")
	qt.Assert(t, qt.IsNil(os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o666)))
	return file
}

// TestMirrorDropsOtherPlatforms checks that passes and pulls agree about the index
// that is made, whichever comes first, and that it is there without the source.
func TestMirrorDropsOtherPlatforms(t *testing.T) {
	t.Parallel()
	url, _, stopSource := start(t)
	source := docker{strings.TrimSuffix(url, "/v2")}
	index := platformIndex("amd64", "arm64", "s390x")
	qt.Assert(t, qt.IsNil(index.Push(t.Context(), source.client(t), "app", "v1")))

	rules := `{"sources": [{"stall": "30s", "onDemand": %v, "rules": [
		{"repositories": "/app", "platforms": ["linux/arm64"], "dropOthers": true, "skipBrokenReferrers": true}
	]}]}`
	var digests []ociregistry.Digest
	for _, onDemand := range []bool{true, false} {
		url, log, stop := start(t, "-cache", source.base, "-dir", t.TempDir(), "-mirror", writeRules(t, rules, onDemand))
		cache := docker{strings.TrimSuffix(url, "/v2")}.client(t)
		if !onDemand {
			awaitLog(t, log, "outcome=updated")
			qt.Check(t, qt.StringContains(log.String(), "madeOf="+string(index.Descriptor.Digest)))
			qt.Assert(t, qt.Equals(stopSource(), 0))
		}
		rd, err := cache.GetTag(t.Context(), "app", "v1")
		qt.Assert(t, qt.IsNil(err))
		rd.Close()
		digests = append(digests, rd.Descriptor().Digest)
		qt.Check(t, qt.IsNil(index.Children[1].Verify(t.Context(), cache, "app")))
		qt.Assert(t, qt.Equals(stop(), 0))
	}
	qt.Check(t, qt.Equals(digests[0], digests[1]))
	qt.Check(t, qt.Not(qt.Equals(digests[0], index.Descriptor.Digest)))
}

// TestMirrorCompletesWhatWasPulledInPart has a pull of a manifest and no more before
// the first pass.
func TestMirrorCompletesWhatWasPulledInPart(t *testing.T) {
	t.Parallel()
	url, _, stopSource := start(t)
	source := docker{strings.TrimSuffix(url, "/v2")}
	index := platformIndex("amd64", "arm64")
	qt.Assert(t, qt.IsNil(index.Push(t.Context(), source.client(t), "app", "v1")))
	dir := t.TempDir()

	url, _, stop := start(t, "-cache", source.base, "-dir", dir)
	rd, err := docker{strings.TrimSuffix(url, "/v2")}.client(t).GetTag(t.Context(), "app", "v1")
	qt.Assert(t, qt.IsNil(err))
	rd.Close()
	qt.Assert(t, qt.Equals(stop(), 0))

	url, log, _ := start(t, "-cache", source.base, "-dir", dir, "-mirror", writeRules(t, `{"sources": [{"rules": [{"repositories": "app"}]}]}`))
	awaitLog(t, log, "outcome=updated")
	qt.Assert(t, qt.Equals(stopSource(), 0))
	qt.Check(t, qt.IsNil(index.Verify(t.Context(), docker{strings.TrimSuffix(url, "/v2")}.client(t), "app")))
}

// TestMirrorIntoTheRegistryOfACache has both write to one registry, which is not
// sparse.
func TestMirrorIntoTheRegistryOfACache(t *testing.T) {
	t.Parallel()
	directory, err := ocifs.New(t.TempDir(), &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	defer directory.Close()
	for name, kept := range map[string]ociregistry.Interface{"memory": ocimem.New(), "directory": directory} {
		t.Run(name, func(t *testing.T) {
			origin := ocimem.New()
			index := platformIndex("amd64", "arm64")
			qt.Assert(t, qt.IsNil(index.Push(t.Context(), origin, "app", "v1")))
			cache := ociunify.NewCache(kept, origin, nil)
			rd, err := cache.GetTag(t.Context(), "app", "v1")
			qt.Assert(t, qt.IsNil(err))
			rd.Close()
			qt.Assert(t, qt.IsNil(cache.Close())) // all that it keeps is kept

			mirror, err := ocicopy.NewMirror(kept, []ocicopy.Source{{Name: "hub", Registry: origin, Rules: []ocicopy.Rule{{Repositories: "app"}}}}, nil)
			qt.Assert(t, qt.IsNil(err))
			for _, want := range []ocicopy.Summary{{Updated: 1}, {Same: 1}} {
				summary, err := mirror.Pass(t.Context())
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(summary, want))
				qt.Check(t, qt.IsNil(index.Verify(t.Context(), kept, "app")))
				desc, err := kept.ResolveTag(t.Context(), "app", "v1")
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(desc.MediaType, index.Descriptor.MediaType))
			}
		})
	}
}

// TestMirrorWithAStalledSource has a source that accepts connections and never
// answers.
func TestMirrorWithAStalledSource(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	defer silent.Close()
	url, _, _ := start(t)
	good := docker{strings.TrimSuffix(url, "/v2")}
	index := platformIndex("amd64")
	qt.Assert(t, qt.IsNil(index.Push(t.Context(), good.client(t), "app", "v1")))

	url, log, stop := start(t, "-cache", good.base, "-mirror", writeRules(t, `{"sources": [
		{"registry": "http://%s", "stall": "1s", "rules": [{"repositories": "stalled/"}]},
		{"registry": %q, "rules": [{"repositories": "app"}]}
	]}`, silent.Addr(), good.base))
	awaitLog(t, log, "outcome=updated")
	qt.Check(t, qt.IsNil(index.Verify(t.Context(), docker{strings.TrimSuffix(url, "/v2")}.client(t), "app")))
	awaitLog(t, log, "outcome=retried")
	qt.Check(t, qt.StringContains(log.String(), "the source stalled: nothing came for 1s"))
	qt.Check(t, qt.Equals(stop(), 0))
}
