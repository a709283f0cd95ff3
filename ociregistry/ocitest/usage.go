package ocitest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// RunUsage checks that registries tell how much their repositories hold, as
// [ociregistry.UsageReporter] says. Each clause is a subtest, for which RunUsage calls
// newRegistry. The registry that newRegistry returns must be empty.
//
// A registry that is an [ocigc.Collector] must also tell what collections remove.
func RunUsage(t *testing.T, newRegistry func(t testing.TB) ociregistry.UsageReporter) {
	for _, c := range []struct {
		name string
		run  func(*usageTest)
	}{
		{"Prefixes", usagePrefixes},
		{"WrongPrefix", usageWrongPrefix},
		{"Uploads", usageUploads},
		{"Collections", usageCollections},
		{"AnyCalls", usageAnyCalls},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&usageTest{TB: t, reg: newRegistry(t), has: make(map[string]map[ociregistry.Digest]int64)})
		})
	}
}

// usageTest runs a clause of RunUsage.
type usageTest struct {
	testing.TB
	reg ociregistry.UsageReporter
	has map[string]map[ociregistry.Digest]int64 // the blobs and, with " manifest" in the digest, the manifests of repositories
}

const asManifest = " manifest"

func (u *usageTest) must(err error) {
	u.Helper()
	if err != nil {
		u.Fatal(err)
	}
}

func (u *usageTest) put(repo string, digest ociregistry.Digest, size int) {
	if u.has[repo] == nil {
		u.has[repo] = make(map[ociregistry.Digest]int64)
	}
	u.has[repo][digest] = int64(size)
}

func (u *usageTest) pushBlob(repo string, data []byte) ociregistry.Digest {
	u.Helper()
	desc := describe(data)
	_, err := u.reg.PushBlob(u.Context(), repo, desc, bytes.NewReader(data))
	u.must(err)
	u.put(repo, desc.Digest, len(data))
	return desc.Digest
}

func (u *usageTest) pushManifest(repo string, data []byte, tags ...string) ociregistry.Digest {
	u.Helper()
	desc, err := u.reg.PushManifest(u.Context(), repo, "", data, "text/plain", tags...)
	u.must(err)
	u.put(repo, desc.Digest+asManifest, len(data))
	return desc.Digest
}

func (u *usageTest) mount(from, to string, digest ociregistry.Digest) {
	u.Helper()
	desc, err := u.reg.MountBlob(u.Context(), from, to, digest)
	u.must(err)
	u.put(to, digest, int(desc.Size))
}

// deleteBlob deletes a blob, unless that is in use.
func (u *usageTest) deleteBlob(repo string, digest ociregistry.Digest) {
	u.Helper()
	err := u.reg.DeleteBlob(u.Context(), repo, digest)
	if errors.Is(err, ociregistry.ErrInUse) {
		return
	}
	u.must(err)
	delete(u.has[repo], digest)
}

func (u *usageTest) deleteManifest(repo string, digest ociregistry.Digest) {
	u.Helper()
	u.must(u.reg.DeleteManifest(u.Context(), repo, digest))
	delete(u.has[repo], digest+asManifest)
}

func (u *usageTest) wantUsage(prefix string, want int64) {
	u.Helper()
	got, err := u.reg.Usage(u.Context(), prefix)
	u.must(err)
	if got != want {
		u.Errorf("Usage(%q) = %d, want %d", prefix, got, want)
	}
}

// check compares the usage with what the repositories have.
func (u *usageTest) check() {
	u.Helper()
	for _, prefix := range []string{"", "a", "a/b", "a/b/c", "ab", "c", "c/d", "e"} {
		want := int64(0)
		for repo, has := range u.has {
			if prefix == "" || repo == prefix || strings.HasPrefix(repo, prefix+"/") {
				for _, size := range has {
					want += size
				}
			}
		}
		u.wantUsage(prefix, want)
	}
}

func usagePrefixes(u *usageTest) {
	u.check()
	one := u.pushBlob("a", []byte("1"))
	u.pushBlob("a", []byte("1")) // again
	u.pushBlob("a/b", []byte("22"))
	u.pushBlob("a/b/c", []byte("333"))
	u.pushBlob("ab", []byte("4444"))
	u.check()
	u.mount("a", "c/d", one)
	manifest := u.pushManifest("a/b", []byte("55555"), "v1", "v2")
	_, err := u.reg.PushManifest(u.Context(), "a/b", "v1", []byte("55555"), "text/html")
	u.must(err)
	for prefix, want := range map[string]int64{"": 16, "a": 11, "a/b": 10, "a/b/c": 3, "ab": 4, "c": 1, "c/d": 1, "c/d/e": 0} {
		u.wantUsage(prefix, want)
	}
	u.deleteBlob("a", one)
	u.deleteManifest("a/b", manifest)
	u.check()
}

func usageWrongPrefix(u *usageTest) {
	for _, prefix := range []string{"A", "a/", strings.Repeat("a", 1000)} {
		if _, err := u.reg.Usage(u.Context(), prefix); !errors.Is(err, ociregistry.ErrNameInvalid) {
			u.Errorf("Usage(%q): got error %v, want %v", prefix, err, ociregistry.ErrNameInvalid)
		}
	}
}

func usageUploads(u *usageTest) {
	for _, size := range []int{100, 100_000} {
		data := bytes.Repeat([]byte("x"), size)
		w, err := u.reg.PushBlobChunked(u.Context(), "a", 0)
		u.must(err)
		_, err = w.Write(data)
		u.must(errors.Join(err, w.Close()))
		u.check()
		w, err = u.reg.PushBlobChunkedResume(u.Context(), "a", w.ID(), -1, 0)
		u.must(err)
		_, err = w.Commit(describe(data).Digest)
		u.must(err)
		u.must(w.Close())
		u.put("a", describe(data).Digest, size)
		u.check()
	}
}

func usageCollections(u *usageTest) {
	collector, ok := u.reg.(ocigc.Collector)
	if !ok {
		return
	}
	kept := u.pushManifest("a", []byte("kept"), "v1")
	u.pushManifest("a", []byte("untagged"))
	u.pushBlob("a", bytes.Repeat([]byte("x"), 100_000))
	u.pushBlob("a", []byte("small"))
	u.pushBlob("a/b", []byte("small"))
	u.check()
	_, err := collector.GC(u.Context(), &ocigc.Options{Delay: -1, Untagged: true})
	u.must(err)
	u.has = map[string]map[ociregistry.Digest]int64{"a": {kept + asManifest: 4}}
	u.check()
}

// usageAnyCalls makes calls at random, with contents some of which are blobs and manifests.
func usageAnyCalls(u *usageTest) {
	rnd := rand.New(rand.NewPCG(1, 2))
	repos := []string{"a", "a/b", "a/b/c", "ab", "c/d"}
	contents := make([][]byte, 8)
	for i := range contents {
		contents[i] = bytes.Repeat([]byte{byte('0' + i)}, []int{10, 20_000}[i%2]+i)
	}
	// Of the digests of a repository, any is one that is, or is not, a manifest's.
	anyOf := func(repo string, manifest bool) (digest.Digest, bool) {
		var found []ociregistry.Digest
		for _, d := range slices.Sorted(maps.Keys(u.has[repo])) {
			if plain, is := strings.CutSuffix(string(d), asManifest); is == manifest {
				found = append(found, ociregistry.Digest(plain))
			}
		}
		if len(found) == 0 {
			return "", false
		}
		return found[rnd.IntN(len(found))], true
	}
	for range 150 {
		repo, other, data := repos[rnd.IntN(len(repos))], repos[rnd.IntN(len(repos))], contents[rnd.IntN(len(contents))]
		switch rnd.IntN(6) {
		case 0, 1:
			u.pushBlob(repo, data)
		case 2:
			u.pushManifest(repo, data, fmt.Sprint("v", rnd.IntN(3)))
		case 3:
			if d, ok := anyOf(other, false); ok {
				u.mount(other, repo, d)
			}
		case 4:
			if d, ok := anyOf(repo, false); ok {
				u.deleteBlob(repo, d)
			}
		case 5:
			if d, ok := anyOf(repo, true); ok {
				u.deleteManifest(repo, d)
			}
		}
		u.check()
		if u.Failed() {
			return
		}
	}
}
