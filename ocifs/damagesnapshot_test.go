//go:build unix

package ocifs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// snapshotBed has a repository with a snapshot.
type snapshotBed struct {
	*fixture
	images    []*ocitest.Artifact
	signature *ocitest.Artifact
}

func newSnapshotBed(t *testing.T) *snapshotBed {
	b := &snapshotBed{fixture: newFixture(t, ocifs.Options{})}
	for i := range 8 {
		b.images = append(b.images, image(uint64(i+1)))
		must(t, b).MustPush("app", b.images[i], fmt.Sprintf("v%02d", i))
	}
	b.signature = signatureOf(b.images[0], 100)
	must(t, b).MustPush("app", b.signature)
	must(t, b).MustPushBlob("app", []byte("unused"))
	b.close()
	_, err := os.Stat(b.snapshot())
	qt.Assert(t, qt.IsNil(err))
	return b
}

func (b *snapshotBed) snapshot() string { return b.path("app", ".ocifs", "snapshot") }

// check checks that all is there which was pushed, and that nobody says anything else.
func (b *snapshotBed) check() {
	b.t.Helper()
	var tags []string
	for i, image := range b.images {
		tags = append(tags, fmt.Sprintf("v%02d", i))
		wantArtifact(b.t, b, "app", image, tags[i])
	}
	wantTags(b.t, b, "app", tags...)
	wantReferrers(b.t, b, "app", b.images[0].Descriptor.Digest, b.signature)
	wantReferrers(b.t, b, "app", b.images[1].Descriptor.Digest)
	wantInUse(b.t, b.DeleteBlob(b.t.Context(), "app", b.images[2].Blobs[1].Descriptor.Digest), "a layer")
}

// What becomes of a snapshot concerns nothing else, and the next fold writes a new one.
func TestSnapshot_DamageIsHarmless(t *testing.T) {
	t.Parallel()
	harm := func(name string, harm func(b *snapshotBed, text string) error) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newSnapshotBed(t)
			text, err := os.ReadFile(b.snapshot())
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(os.Remove(b.snapshot())))
			qt.Assert(t, qt.IsNil(harm(b, string(text))))
			for i := range 3 {
				b.open()
				b.check()
				b.images = append(b.images, image(uint64(100+i)))
				must(t, b).MustPush("app", b.images[len(b.images)-1], fmt.Sprintf("v%02d", len(b.images)-1))
				qt.Check(t, qt.IsNil(b.DeleteManifest(t.Context(), "app", b.signature.Descriptor.Digest)))
				must(t, b).MustPush("app", b.signature)
				b.check()
				b.reopen()
				b.check()
				b.close()
			}
			b.open()
			qt.Check(t, qt.IsNil(b.DeleteBlob(t.Context(), "app", digest.FromString("unused"))))
			if whole, err := os.ReadFile(b.snapshot()); name != "directory" {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.IsTrue(len(whole) > len(text)))
			}
		})
	}
	for name, do := range harms {
		harm(name, func(b *snapshotBed, text string) error { return do(b.snapshot(), text) })
	}
	harm("one bit", func(b *snapshotBed, text string) error {
		damaged := []byte(text)
		damaged[len(text)*2/3] ^= 1
		return os.WriteFile(b.snapshot(), damaged, 0o666)
	})
	harm("appended to", func(b *snapshotBed, text string) error { return os.WriteFile(b.snapshot(), []byte(text+"x"), 0o666) })
	harm("an old one", func(b *snapshotBed, text string) error {
		b.open()
		must(b.t, b).MustPush("app", image(1), "v05") // and back again: the index.json is another
		must(b.t, b).MustPush("app", image(50), "v06")
		b.images[5], b.images[6] = image(1), image(50)
		b.close()
		return os.WriteFile(b.snapshot(), []byte(text), 0o666)
	})
	harm("that of another repository", func(b *snapshotBed, text string) error {
		b.open()
		for i := range 8 {
			must(b.t, b).MustPush("else", image(uint64(60+i)), fmt.Sprintf("v%02d", i))
		}
		b.close()
		other, err := os.ReadFile(b.path("else", ".ocifs", "snapshot"))
		return errors.Join(err, os.WriteFile(b.snapshot(), other, 0o666))
	})
}

// A repository that holds nothing any more leaves no snapshot.
func TestSnapshot_GoesWithItsRepository(t *testing.T) {
	t.Parallel()
	b := newSnapshotBed(t)
	b.open()
	blobs := map[digest.Digest]bool{digest.FromString("unused"): true}
	for _, a := range append(b.images, b.signature) {
		qt.Assert(t, qt.IsNil(b.DeleteManifest(t.Context(), "app", a.Descriptor.Digest)))
		for _, blob := range a.Blobs {
			blobs[blob.Descriptor.Digest] = true
		}
	}
	b.reopen()
	for d := range blobs {
		qt.Assert(t, qt.IsNil(b.DeleteBlob(t.Context(), "app", d)))
	}
	wantRepositories(t, b)
	_, err := os.Lstat(b.path("app"))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	b.close()
}

// What a manifest names is known although it is damaged: nothing else waits for its repair.
func TestSnapshot_KnowsWhatDamagedManifestsName(t *testing.T) {
	t.Parallel()
	eachRuin(t, func(t *testing.T, ruin func(t *testing.T, name string)) {
		b := newSnapshotBed(t)
		ruin(t, b.blobPath("app", b.images[3].Descriptor.Digest))
		ruin(t, b.blobPath("app", b.signature.Descriptor.Digest))
		b.open()
		wantInUse(t, b.DeleteBlob(t.Context(), "app", b.images[3].Blobs[1].Descriptor.Digest), "its layer")
		qt.Check(t, qt.IsNil(b.DeleteBlob(t.Context(), "app", digest.FromString("unused"))))
		wantReferrers(t, b, "app", b.images[0].Descriptor.Digest)
		_, err := read(b.GetManifest(t.Context(), "app", b.images[3].Descriptor.Digest))
		qt.Check(t, qt.IsNotNil(err))
		must(t, b).MustPush("app", b.images[3])
		must(t, b).MustPush("app", b.signature)
		b.check()
	})
}
