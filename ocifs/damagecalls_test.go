//go:build unix

package ocifs_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// t0 is for what is not of one test.
var t0 = context.Background()

// bedCall is a call on a bed's registry. It returns what it was told, which is to be
// what want says.
type bedCall struct {
	name string
	call func(b *bed, r *ocifs.Registry) (string, error)
	want func(b *bed) string
}

// bedCalls are those that change nothing, and then those that do. The latter leave
// app as it is but for what they pushed.
var bedCalls = func() []bedCall {
	text := func(s string) func(*bed) string { return func(*bed) string { return s } }
	blob := func(b *bed, i int) ociregistry.Descriptor { return b.image.Blobs[i].Descriptor }
	bytesOf := func(i int) func(*bed) string { return func(b *bed) string { return string(b.image.Blobs[i].Bytes()) } }
	var calls []bedCall
	for name, i := range map[string]int{"config": 0, "layer": 2} {
		calls = append(calls,
			bedCall{"GetBlob " + name, func(b *bed, r *ocifs.Registry) (string, error) {
				return read(r.GetBlob(t0, bedRepo, blob(b, i).Digest))
			}, bytesOf(i)},
			bedCall{"GetBlobRange " + name, func(b *bed, r *ocifs.Registry) (string, error) {
				return read(r.GetBlobRange(t0, bedRepo, blob(b, i).Digest, 1, -1))
			}, func(b *bed) string { return bytesOf(i)(b)[1:] }},
			bedCall{"ResolveBlob " + name, func(b *bed, r *ocifs.Registry) (string, error) {
				desc, err := r.ResolveBlob(t0, bedRepo, blob(b, i).Digest)
				return fmt.Sprint(desc.Size), err
			}, func(b *bed) string { return fmt.Sprint(blob(b, i).Size) }})
	}
	for _, name := range []string{"image", "index", "signature"} {
		calls = append(calls,
			bedCall{"GetManifest " + name, func(b *bed, r *ocifs.Registry) (string, error) {
				return read(r.GetManifest(t0, bedRepo, b.artifact(name).Descriptor.Digest))
			}, func(b *bed) string { return string(b.artifact(name).Manifest) }},
			bedCall{"ResolveManifest " + name, func(b *bed, r *ocifs.Registry) (string, error) {
				desc, err := r.ResolveManifest(t0, bedRepo, b.artifact(name).Descriptor.Digest)
				return desc.MediaType, err
			}, func(b *bed) string { return b.artifact(name).Descriptor.MediaType }})
	}
	for tag, name := range map[string]string{"v1": "image", "latest": "index"} {
		calls = append(calls,
			bedCall{"GetTag " + tag, func(b *bed, r *ocifs.Registry) (string, error) {
				return read(r.GetTag(t0, bedRepo, tag))
			}, func(b *bed) string { return string(b.artifact(name).Manifest) }},
			bedCall{"ResolveTag " + tag, func(b *bed, r *ocifs.Registry) (string, error) {
				desc, err := r.ResolveTag(t0, bedRepo, tag)
				return string(desc.Digest), err
			}, func(b *bed) string { return string(b.artifact(name).Descriptor.Digest) }})
	}
	added, small, large := data(20, 10), data(21, 20), data(22, 30_000)
	return append(calls, []bedCall{
		{"Tags", func(b *bed, r *ocifs.Registry) (string, error) {
			tags, err := ociregistry.All(r.Tags(t0, bedRepo, ""))
			return strings.Join(tags, " "), err
		}, text("latest v1")},
		{"Referrers", func(b *bed, r *ocifs.Registry) (string, error) {
			list, err := ociregistry.All(r.Referrers(t0, bedRepo, b.image.Descriptor.Digest, ""))
			return fmt.Sprint(len(list)), err
		}, text("1")},
		{"Repositories", func(b *bed, r *ocifs.Registry) (string, error) {
			names, err := ociregistry.All(r.Repositories(t0, ""))
			return strings.Join(names, " "), err
		}, text("app other")},
		{"GetTag other", func(b *bed, r *ocifs.Registry) (string, error) {
			return read(r.GetTag(t0, "other", "shared"))
		}, func(b *bed) string { return string(sharing.Manifest) }},
		{"GetBlob other", func(b *bed, r *ocifs.Registry) (string, error) {
			return read(r.GetBlob(t0, "other", blob(b, 2).Digest))
		}, bytesOf(2)},

		// What follows changes something.
		{"PushBlob", func(b *bed, r *ocifs.Registry) (string, error) {
			return "", errors.Join(pushBlob(t0, r, bedRepo, added), pushBlob(t0, r, bedRepo, small), pushBlob(t0, r, bedRepo, large))
		}, text("")},
		{"PushBlobChunked", func(b *bed, r *ocifs.Registry) (string, error) {
			return "", upload(t0, r, bedRepo, data(23, 40_000))
		}, text("")},
		{"resume", func(b *bed, r *ocifs.Registry) (string, error) {
			w, err := r.PushBlobChunkedResume(t0, bedRepo, b.upload, -1, 0)
			if err != nil {
				return "", nil // it is gone
			}
			defer w.Close()
			if w.Size() == 0 {
				return "", w.Cancel() // it begins anew
			}
			_, err = w.Commit(digest.FromBytes(data(8, 20_000)))
			return "", err
		}, text("")},
		{"MountBlob", func(b *bed, r *ocifs.Registry) (string, error) {
			_, err := r.MountBlob(t0, "other", bedRepo, image(2).Blobs[2].Descriptor.Digest)
			return "", err
		}, text("")},
		{"PushManifest", func(b *bed, r *ocifs.Registry) (string, error) {
			_, err := r.PushManifest(t0, bedRepo, "new", []byte("manifest"), "text/plain")
			return "", err
		}, text("")},
		{"DeleteTag", func(b *bed, r *ocifs.Registry) (string, error) { return "", r.DeleteTag(t0, bedRepo, "new") }, text("")},
		{"DeleteManifest", func(b *bed, r *ocifs.Registry) (string, error) {
			return "", r.DeleteManifest(t0, bedRepo, digest.FromString("manifest"))
		}, text("")},
		{"DeleteBlob", func(b *bed, r *ocifs.Registry) (string, error) {
			return "", r.DeleteBlob(t0, bedRepo, describe(added).Digest)
		}, text("")},
	}...)
}()

func (b *bed) artifact(name string) *ocitest.Artifact {
	return map[string]*ocitest.Artifact{"image": b.image, "index": b.index, "signature": b.signature}[name]
}

// testCalls makes all calls, and checks what becomes of them, of what is whole, and of
// the damage itself.
func (b *bed) testCalls(t *testing.T, damaged func() (*fixture, string), want outcomes) {
	f, _ := damaged()
	before := tree(t, f.dir)
	f.open()
	defer func() { f.Registry.Close() }()
	for range 2 {
		for _, c := range bedCalls {
			if c.name == "PushBlob" {
				break
			}
			b.check(t, f.Registry, c, want[c.name])
		}
		for _, err := range f.Verify(t0) {
			qt.Check(t, qt.IsNil(err))
		}
		f.Registry.Close()
		wantKept(t, before, tree(t, f.dir))
		f.open()
	}
	for _, c := range bedCalls {
		b.check(t, f.Registry, c, want[c.name])
	}
	for _, c := range bedCalls { // nothing has become worse
		if c.name == "PushBlob" {
			break
		}
		b.check(t, f.Registry, c, want[c.name])
	}
	f.Registry.Close() // it may not be able to write what is damaged
	wantKept(t, before, tree(t, f.dir))
}

func (b *bed) check(t *testing.T, r *ocifs.Registry, c bedCall, want outcome) {
	t.Helper()
	got, err := c.call(b, r)
	what := qt.Commentf("%s: %v", c.name, err)
	isUnknown := errors.Is(err, ociregistry.ErrBlobUnknown) || errors.Is(err, ociregistry.ErrManifestUnknown)
	switch want {
	case fine:
		qt.Check(t, qt.IsNil(err), what)
		qt.Check(t, qt.Equals(got, c.want(b)), what)
	case unknown:
		qt.Check(t, qt.IsTrue(isUnknown), what)
	case failure:
		qt.Check(t, qt.IsTrue(err != nil && !isUnknown && !errors.Is(err, ociregistry.ErrNameUnknown) || c.name == "resume" && err == nil), what)
	case inUse:
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)), what)
	case left:
		qt.Check(t, qt.IsNil(err), what)
		qt.Check(t, qt.IsTrue(got == "0" || len(got) < len(c.want(b))), what)
	case changed:
		qt.Check(t, qt.IsNil(err), what)
		qt.Check(t, qt.Equals(len(got), len(c.want(b))), what)
	case either:
		qt.Check(t, qt.IsTrue(err != nil || c.name != "Repositories" || strings.HasSuffix(got, "other")), what)
	}
}

// wantKept checks that all files of layouts are as they were, but index.json.
func wantKept(t *testing.T, before, after map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if strings.HasPrefix(name, ".ocifs") || strings.HasSuffix(name, "/journal") || strings.HasSuffix(name, "oci-layout") {
			continue
		}
		if strings.HasSuffix(name, "index.json") && strings.Contains(after[name], "schemaVersion") && strings.Contains(before[name], "schemaVersion") {
			continue // it was folded into
		}
		qt.Check(t, qt.Equals(after[name], before[name]), qt.Commentf("%s", name))
	}
}

// testRepair repairs, pushes again, and expects all to be well, unless something is in
// the way that may not be read.
func (b *bed) testRepair(t *testing.T, damaged func() (*fixture, string), locked bool) {
	f, _ := damaged()
	f.open()
	defer func() { f.Registry.Close() }()
	found := 0
	for p, err := range f.Verify(t0) {
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(!p.Repaired && p.Moved == ""))
		found++
	}
	repaired := 0
	for p, err := range f.Repair(t0) {
		qt.Assert(t, qt.IsNil(err))
		if p.Repaired {
			repaired++
		}
		found--
	}
	qt.Check(t, qt.IsTrue(found <= 0)) // what was moved away is missing now
	if locked {
		return
	}
	f.reopen()
	qt.Assert(t, qt.IsNil(b.push(f)))
	for range 2 {
		qt.Check(t, qt.HasLen(problems(t, f), 0))
		for _, c := range bedCalls {
			if c.name == "PushBlob" {
				break
			}
			b.check(t, f.Registry, c, fine)
		}
		f.reopen()
	}
}

// inTime ends all tests if f hangs.
func inTime(t *testing.T, f func()) {
	timer := time.AfterFunc(5*time.Minute, func() { panic(t.Name() + " hangs") })
	defer timer.Stop()
	f()
}
